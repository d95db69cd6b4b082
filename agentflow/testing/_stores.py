"""A store of a test's own, and a context for a bare function."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agentflow._active_run import ActiveRun, Home, Refresh
from agentflow._body_state import BodyState
from agentflow._calls import plain_transaction
from agentflow._clock import wall_time
from agentflow._context import Context
from agentflow._frames import Frame
from agentflow._settings import using_store
from agentflow._state_values import ModelValues
from agentflow.stores import MemoryStore
from agentflow.stores._base import RunRecord, Transaction
from agentflow.testing._calls import witnessed_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agentflow.stores import Store

__all__ = ["fresh_store", "make_context"]


@contextmanager
def fresh_store(store: Store | None = None) -> Iterator[Store]:
    """Make an empty store the default of this process for a block, and watch what steps are called in it for `assert_ran` and `assert_hit`.

    ```python
    from agentflow import cached_step
    from agentflow.testing import fresh_store

    @cached_step
    def double(number: int) -> int:
        return 2 * number

    with fresh_store():
        assert not double.is_cached(21)
        double(21)
        assert double.is_cached(21)
    ```

    Args:
        store: The store to use; one in memory if not given.
    """
    with using_store(store or MemoryStore()) as fresh, witnessed_calls():
        yield fresh


def make_context(
    *,
    state: Mapping[str, Any] | BaseModel | None = None,
    session_id: str = "test",
    workflow: str = "test",
    step: str = "",
    store: Store | None = None,
) -> Context[Any]:
    """Return a context to call a bare function with: the `.fn` of a workflow or step, without running either.

    It is of a run of its own in a store of its own, and is good for as long as the test likes. Steps that the function calls are
    executed, but outside that run.

    ```python
    from agentflow import Context, cached_step
    from agentflow.testing import make_context

    @cached_step
    def visit(ctx: Context, page: str) -> int:
        ctx.state[page] = ctx.state.get(page, 0) + 1
        return ctx.state[page]

    ctx = make_context(state={"home": 2})
    assert visit.fn(ctx, "home") == 3
    assert ctx.state["home"] == 3
    ```

    Args:
        state: What the session's state holds; an instance of a model makes `ctx.state` one, as `@workflow(state=...)` does.
        session_id: The session's id.
        workflow: The workflow's name.
        step: The step's name, for a function that asks for what only steps have, such as `ctx.idempotency_key`.
        store: The store; one in memory if not given.
    """
    home = Home(store or MemoryStore(), workflow, session_id)
    run = _run_of_its_own(home)
    values = ModelValues(type(state)) if isinstance(state, BaseModel) else None
    body = BodyState(home, plain_transaction, lambda: None, values=values)
    body.update(state or {})
    key = uuid.uuid4().hex
    return Context(Frame(home, body, run, step=step, identify=lambda: key))


def _run_of_its_own(home: Home) -> ActiveRun:
    record = RunRecord(
        id=uuid.uuid4().hex,
        workflow=home.workflow,
        session_id=home.session_id,
        call="",
        owner=uuid.uuid4().hex,
        started_at=wall_time(),
    )
    home.store.commit(Transaction(run=record))
    return ActiveRun(record, home, Refresh())
