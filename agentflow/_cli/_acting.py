"""The commands that change something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentflow._cli import _facts
from agentflow._cli._ages import AGE
from agentflow._cli._app import command
from agentflow._cli._places import session_at

if TYPE_CHECKING:
    from agentflow._cli._screen import Screen
    from agentflow.stores import Store

__all__ = ["forget"]


@command
@click.argument("workflow")
@click.argument("session")
@click.option("--step", metavar="NAME", help="Only those of this step.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--version", help="Only those of this version of the step's code.")
@click.option("--older-than", type=AGE, metavar="AGE", help="Only those completed longer ago, such as 12h or 30d.")
@click.option("--list", "only_list", is_flag=True, help="List what is remembered, and forget nothing.")
def forget(store: Store, screen: Screen, *, workflow: str, session: str, only_list: bool, **which: Any) -> None:
    """Forget what the steps of a session remember, so that they run again."""
    found = session_at(store, workflow, session)
    if only_list:
        _remembered(screen, [_facts.of_remembered(each) for each in found.steps() if _is_meant(each, which)])
        return
    count = found.forget(**which)
    if screen.is_json:
        screen.document({"forgotten": count})
    else:
        screen.say(f"forgotten: {count}")


def _is_meant(remembered: Any, which: dict[str, Any]) -> bool:
    if which["older_than"] is not None:
        raise click.UsageError("--list shows when each was completed; --older-than is for forgetting")
    wanted = (
        (which["step"], [remembered.step]),
        (which["version"], [remembered.version]),
        (which["tag"], remembered.tags),
    )
    return all(value is None or value in there for value, there in wanted)


def _remembered(screen: Screen, found: list[dict[str, Any]]) -> None:
    if screen.is_json:
        screen.document(found)
        return
    columns = ("step", "created_at", "size", "run_id", "version")
    screen.table(columns, [[each[name] for name in columns] for each in found])
