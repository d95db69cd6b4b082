"""The commands that look after a store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agentflow._cli._ages import AGE
from agentflow._cli._app import REFUSED, command
from agentflow.stores import DiskStore

if TYPE_CHECKING:
    from datetime import timedelta

    from agentflow._cli._screen import Screen
    from agentflow.stores import Store

__all__ = ["doctor", "prune"]


def _on_disk(store: Store) -> DiskStore:
    if not isinstance(store, DiskStore):
        raise click.UsageError(f"{store.location} is no directory: only a store on disk is looked after")
    return store


@command
def doctor(store: Store, screen: Screen) -> None:
    """Examine a store: say what is wrong with it, and what to do. It changes nothing, and exits with 1 if there is a problem."""
    on_disk = _on_disk(store)
    findings = on_disk.doctor()
    has_problem = any(finding.severity == "problem" for finding in findings)
    size = None if has_problem else on_disk.size()  # a damaged store cannot be measured
    if screen.is_json:
        screen.document({"findings": _plain(findings), "size": size and _plain(size)})
    else:
        for finding in findings:
            screen.say(f"{finding.severity}: {finding.what}\n    {finding.do}")
        room = f"; {size.file_bytes:,} bytes, {size.free_bytes:,} of them free" if size else ""
        screen.say(f"{store.location}: {len(findings)} findings{room}")
    if has_problem:
        sys.exit(REFUSED)


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value.model_dump(mode="json")


@command
@click.option("--older-than", type=AGE, metavar="AGE", help="Only what was completed longer ago, such as 12h or 30d.")
@click.option(
    "--version", "versions", multiple=True, metavar="VERSION", help="Only results of this version; may be repeated."
)
@click.option("--old-versions", is_flag=True, help="Only results that newer code of their step has replaced.")
@click.option("--workflow", metavar="NAME", help="Only what belongs to this workflow.")
@click.option("--yes", is_flag=True, help="Remove it; without this it is only counted.")
def prune(
    store: Store,
    screen: Screen,
    *,
    older_than: timedelta | None,
    versions: tuple[str, ...],
    old_versions: bool,
    workflow: str | None,
    yes: bool,
) -> None:
    """Count what is old, and with --yes remove it: results, and with an age alone ended runs with their events. State stays."""
    if older_than is None and not versions and not old_versions:
        raise click.UsageError("prune removes what is old: say --older-than AGE, --old-versions or --version VERSION")
    if versions and old_versions:
        raise click.UsageError("--old-versions and --version are two choices: say one of them")
    pruned = _on_disk(store).prune(
        older_than=older_than,
        versions="old" if old_versions else versions or None,
        workflow=workflow,
        dry_run=not yes,
    )
    facts = _plain(pruned)
    if screen.is_json:
        screen.document(facts)
        return
    screen.say("removed:" if yes else "would be removed (with --yes):")
    screen.pairs({name: value for name, value in facts.items() if name != "dry_run"})
