"""What the commands say, as JSON values: the same facts for a document and for a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pydantic_core

from agentflow._serialization import plain_json, unseal
from agentflow.exceptions import AgentflowError

if TYPE_CHECKING:
    from datetime import datetime

    from agentflow import Run, Session
    from agentflow._session import RememberedStep
    from agentflow.stores import Store

__all__ = ["of_call", "of_remembered", "of_run", "of_state", "result_of", "row_of_call", "whole_run"]


def of_run(run: Run) -> dict[str, Any]:
    """Return what a list says of a run."""
    finished = run.finished_at
    return {
        "id": run.id,
        "workflow": run.workflow,
        "session_id": run.session_id,
        "status": run.status.value,
        "attempt": run.attempt,
        "started_at": run.started_at.isoformat(),
        "finished_at": finished.isoformat() if finished else None,
        "seconds": _seconds(run.started_at, finished),
        "error": run.error,
    }


def whole_run(run: Run) -> dict[str, Any]:
    """Return all that is known of a run, less its events."""
    return {
        **of_run(run),
        "usage": run.usage.model_dump(mode="json"),
        "steps": [of_call(step) for step in run.steps()],
        "children": [of_run(child) for child in run.children()],
        "output": run.output(),
        "result": result_of(run),
    }


def of_call(step: Any) -> dict[str, Any]:
    """Return what is known of one step call of a run."""
    facts: dict[str, Any] = pydantic_core.to_jsonable_python(attrs.asdict(step))
    return facts


def row_of_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return the same for a table: rounded, and what the step's own model requests have used as two figures."""
    usage, seconds = call["usage"], call["seconds"]
    return {
        **call,
        "seconds": None if seconds is None else round(seconds, 3),
        "tokens": usage["input_tokens"] + usage["output_tokens"],
        "cost": None if usage["cost"] is None else round(usage["cost"], 6),
    }


def of_remembered(remembered: RememberedStep) -> dict[str, Any]:
    """Return what is known of one remembered result."""
    facts: dict[str, Any] = pydantic_core.to_jsonable_python(attrs.asdict(remembered))
    return facts


def of_state(store: Store, session: Session) -> dict[str, Any]:
    """Return a session's state as ordinary JSON: no class needs to be imported for it."""
    rows = {
        key: store.state_row(session.workflow, session.id, key)
        for key in store.state_keys(session.workflow, session.id)
    }
    return {
        key: pydantic_core.from_json(plain_json(unseal(row.value)))
        for key, row in rows.items()
        if row.value is not None
    }


def result_of(run: Run) -> Any:
    """Return a run's result as ordinary JSON, None if it has none."""
    try:
        return pydantic_core.from_json(run.result_json(timeout=0))
    except AgentflowError:  # it goes on, it failed, or its result could not be stored: its status says which
        return None


def _seconds(began: datetime, ended: datetime | None) -> float | None:
    return None if ended is None else round((ended - began).total_seconds(), 3)
