"""The commands that look, and change nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agentflow import list_runs
from agentflow._cli import _facts
from agentflow._cli._app import ENDINGS, command
from agentflow._cli._events import line_of
from agentflow._cli._places import run_at, run_ids, session_at
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from agentflow._cli._screen import Screen
    from agentflow.stores import Store

__all__ = ["events", "runs", "show", "state", "steps"]


@command
@click.option("--workflow", metavar="NAME", help="Only those of this workflow.")
@click.option("--session", "session_id", metavar="ID", help="Only those of this session.")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice([each.value for each in RunStatus]),
    help="Only those of this status; may be repeated.",
)
@click.option("--limit", default=20, show_default=True, help="At most so many.")
def runs(store: Store, screen: Screen, *, status: tuple[str, ...], **which: Any) -> None:
    """List runs, newest first."""
    found = [_facts.of_run(run) for run in list_runs(store=store, status=status or None, **which)]
    if screen.is_json:
        screen.document(found)
        return
    columns = ("workflow", "session_id", "status", "attempt", "started_at", "seconds")
    rows = [{**run, "started_at": screen.moment(run["started_at"])} for run in found]
    screen.table(("id", *columns), [(screen.short(run["id"]), *[run[name] for name in columns]) for run in rows])


@command
@click.argument("run", shell_complete=run_ids)
def show(store: Store, screen: Screen, *, run: str) -> None:
    """Show one run: how it stands, its steps, what it gave."""
    facts = _facts.whole_run(run_at(store, run))
    if screen.is_json:
        screen.document(facts)
        return
    steps, children, output = facts.pop("steps"), facts.pop("children"), facts.pop("output")
    if facts["result"] is None and output:
        facts["output so far"] = output
    facts["usage"] = {name: count for name, count in facts["usage"].items() if count} or None
    screen.pairs(facts)
    if steps:
        screen.say("")
        _calls(screen, steps)
    for child in children:
        screen.say(f"\ncalled {child['workflow']}: run {screen.short(child['id'])}, {child['status']}")


def _calls(screen: Screen, calls: list[dict[str, Any]]) -> None:
    spent = ("tokens", "cost") if any(call["usage"]["requests"] for call in calls) else ()
    columns = ("step", "status", "hit", "attempts", "seconds", *spent, "error")
    rows = [_facts.row_of_call(call) for call in calls]
    screen.table(columns, [[row[name] for name in columns] for row in rows])


@command
@click.argument("run", shell_complete=run_ids)
@click.option("--after", default=0, metavar="NUMBER", help="Only what came after the event of this number.")
@click.option("--follow", is_flag=True, help="Wait for what comes, and exit as the run ends.")
def events(store: Store, screen: Screen, *, run: str, after: int, follow: bool) -> None:
    """Show what happened in a run, one event a line; with --json, one JSON document a line."""
    followed = run_at(store, run)
    for event in followed.events(after=after, follow=follow):
        if screen.is_json:
            screen.line(event.model_dump(mode="json"))
        else:
            screen.say(line_of(event).replace("\n", "\\n"))
    if follow:
        sys.exit(ENDINGS.get(followed.status, 0))


@command
@click.argument("run", shell_complete=run_ids)
def steps(store: Store, screen: Screen, *, run: str) -> None:
    """Show the step calls of a run: hit or executed, how often tried, how long."""
    calls = [_facts.of_call(call) for call in run_at(store, run).steps()]
    if screen.is_json:
        screen.document(calls)
    else:
        _calls(screen, calls)


@command
@click.argument("workflow")
@click.argument("session")
@click.argument("key", required=False)
def state(store: Store, screen: Screen, *, workflow: str, session: str, key: str | None) -> None:
    """Show the state of a session of a workflow, or one key of it."""
    values = _facts.of_state(store, session_at(store, workflow, session))
    if key is not None and key not in values:
        raise click.UsageError(f"session {session!r} of workflow {workflow!r} has no state key {key!r}")
    if screen.is_json:
        screen.document(values if key is None else values[key])
    else:
        screen.pairs(values if key is None else {key: values[key]})
