"""The commands that stop runs and let them go on."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from agentflow._cli import _facts
from agentflow._cli._app import ENDINGS, REFUSED, command
from agentflow._cli._places import import_modules, run_at, run_ids
from agentflow.exceptions import AgentflowError

if TYPE_CHECKING:
    from agentflow._cli._screen import Screen
    from agentflow.stores import Store

__all__ = ["cancel", "resume"]


@command
@click.argument("run", nargs=-1, required=True, shell_complete=run_ids)
def cancel(store: Store, screen: Screen, *, run: tuple[str, ...]) -> None:
    """Cancel runs, wherever they are executed; finished steps are kept."""
    cancelled = [{"id": each.id, "cancelled": each.cancel()} for each in [run_at(store, name) for name in run]]
    if screen.is_json:
        screen.document(cancelled)
        return
    for each in cancelled:
        screen.say(f"run {each['id']}: {'cancelled' if each['cancelled'] else 'had ended already'}")


@command
@click.argument("run", shell_complete=run_ids)
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE", help="Import this module first, which defines the workflow."
)
def resume(store: Store, screen: Screen, *, run: str, modules: tuple[str, ...]) -> None:
    """Let a run go on here that failed, was cancelled or lost its process, and wait for its end.

    The module that defines the workflow is imported by --import: a name that stands in a store is never imported by itself.
    """
    import_modules(modules)
    resumed = run_at(store, run).resume()
    with contextlib.suppress(AgentflowError):  # how it ended is said by its status
        resumed.result_json()
    if screen.is_json:
        screen.document(_facts.whole_run(resumed))
    else:
        screen.say(f"run {resumed.id}: {resumed.status.value}" + (f", {resumed.error}" if resumed.error else ""))
    sys.exit(ENDINGS.get(resumed.status, REFUSED))
