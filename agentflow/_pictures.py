"""What runs, sessions and steps show of themselves in a notebook, made of what the store says of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from agentflow._blame import blamed_in
from agentflow._cards import Card, Table
from agentflow._failures import Failure
from agentflow._serialization import plain_json, unseal
from agentflow._usage import spent
from agentflow._words import amount, duration, moment, short
from agentflow.exceptions import StoreError
from agentflow.stores._base import EntryFilter, RunFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._run_steps import RunStep
    from agentflow._step_spec import StepSpec
    from agentflow._usage import Usage
    from agentflow.stores._base import RunRecord, Store
    from agentflow.types import RunStatus

__all__ = ["run_card", "session_card", "step_card"]

_MOST_ROWS: Final = 20
_LONGEST_TEXT: Final = 2000
_LONGEST_CELL: Final = 120


def run_card(
    record: RunRecord,
    status: RunStatus,
    usage: Usage,
    *,
    steps: Sequence[RunStep],
    children: Sequence[tuple[str, str, str]],
    output: Any,
) -> Card:
    """Return what is shown of a run.

    Args:
        record: Its row.
        status: Where it stands.
        usage: What it has used.
        steps: Its step calls.
        children: The id, workflow and status of each run that it has called.
        output: What it gave, or has given until now.
    """
    failure = Failure.from_text(record.error) if record.error else None
    facts = (
        ("run", record.id),
        ("session", record.session_id),
        ("attempt", str(record.attempt) if record.attempt > 1 else ""),
        ("started", moment(record.started_at)),
        ("took", duration(record.finished_at - record.started_at) if record.finished_at else ""),
        ("used", spent(usage)),
    )
    called = [(run_id[:12], short(workflow), state) for run_id, workflow, state in children]
    tables = (
        _table("steps", ("step", "status", "attempts", "took", "error"), _calls(steps)),
        _table("workflows called", ("run", "workflow", "status"), called),
    )
    return Card(
        "Run",
        short(record.workflow),
        status.value,
        facts,
        blamed_in(failure.traceback, str(failure)) if failure else (),
        tuple(table for table in tables if table.rows),
        _cut(_told(output), _LONGEST_TEXT),
    )


def _calls(steps: Sequence[RunStep]) -> list[tuple[str, ...]]:
    """Return a row for each step call; those in a row that went alike, as in a map, share one."""
    rows: list[tuple[str, ...]] = []
    for (name, state, attempts, error), group in itertools.groupby(steps, _course):
        alike = list(group)
        times = [] if state == "hit" else [step.seconds for step in alike if step.seconds is not None]
        took = duration(max(times)) if times else ""
        if len(alike) == 1:
            rows.append((name, state, attempts, took, error))
        else:
            rows.append((f"{name} × {len(alike):,}", state, attempts, took and f"{took} at most", error))
    return rows


def _course(step: RunStep) -> tuple[str, str, str, str]:
    attempts = str(step.attempts) if step.attempts > 1 else ""
    return short(step.step), "hit" if step.hit else step.status, attempts, _cut(step.error or "", _LONGEST_CELL)


def session_card(store: Store, workflow: str, session_id: str, usage: Usage) -> Card:
    """Return what is shown of a session."""
    runs = store.runs(RunFilter(workflow=workflow, session_id=session_id))
    rows = [
        (run.id[:12], run.status.value, moment(run.started_at), _took(run.started_at, run.finished_at)) for run in runs
    ]
    entries = store.entries(EntryFilter(workflow=workflow, session_id=session_id, kind="step"))
    remembered = [
        (short(name), str(sum(each.step == name for each in entries))) for name in {each.step: 0 for each in entries}
    ]
    tables = (
        _table("state", ("key", "value"), _state(store, workflow, session_id)),
        _table("runs", ("run", "status", "started", "took"), rows),
        _table("remembered", ("step", "results"), remembered),
    )
    facts = (("workflow", workflow), ("used", spent(usage)))
    return Card("Session", session_id, facts=facts, tables=tuple(table for table in tables if table.rows))


def _state(store: Store, workflow: str, session_id: str) -> list[tuple[str, str]]:
    """Return its state as JSON, for which no class needs to be imported."""
    rows = {key: store.state_row(workflow, session_id, key).value for key in store.state_keys(workflow, session_id)}
    return [(key, _cut(plain_json(unseal(value)), _LONGEST_CELL)) for key, value in rows.items() if value is not None]


def step_card(spec: StepSpec, store: Store) -> Card:
    """Return what is shown of a step."""
    facts = (
        ("name", spec.name),
        ("remembered", {"run": "inside one run", "session": "in each session", "global": "for all"}[spec.scope]),
        ("version", _version(spec)),
        ("for", "" if spec.ttl is None else duration(spec.ttl)),
        ("tried", "" if spec.retry is None else f"at most {amount(spec.retry.attempts, 'time')}"),
        ("may take", "" if spec.timeout is None else duration(spec.timeout)),
        ("tags", ", ".join(spec.tags)),
    )
    try:
        entries = store.recent(EntryFilter(step=spec.name, kind="step"), _MOST_ROWS)
    except StoreError:  # what the step is can be shown all the same
        entries = []
    rows = [(each.session_id, moment(each.created_at), f"{each.size:,} bytes", each.run_id[:12]) for each in entries]
    newest = _table("newest results", ("session", "made", "size", "by run"), rows)
    return Card("Step", short(spec.name), facts=facts, tables=(newest,) if rows else ())


def _version(spec: StepSpec) -> str:
    if isinstance(spec.version, str):
        return spec.version.removeprefix("=")
    return "none" if spec.version is None else "follows its code"


def _took(began: float, ended: float | None) -> str:
    return "" if ended is None else duration(ended - began)


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """Return a table of so many rows at most, without the columns that have nothing in them."""
    used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    kept = tuple(tuple(row[number] for number in used) for row in rows[:_MOST_ROWS])
    return Table(title, tuple(columns[number] for number in used), kept, max(0, len(rows) - _MOST_ROWS))


def _told(output: Any) -> str:
    if isinstance(output, str):
        return output
    return "" if output in (None, []) else pydantic_core.to_json(output, indent=2, inf_nan_mode="strings").decode()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."
