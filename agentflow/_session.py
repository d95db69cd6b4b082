"""A session seen from outside its runs: its state, its runs and what its steps remember."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs

from agentflow._body_state import BodyState
from agentflow._calls import plain_transaction
from agentflow._clock import wall_time
from agentflow._options import text, whole
from agentflow._registry import names_of
from agentflow._retry import seconds
from agentflow._runs import Run
from agentflow._spending import used_in
from agentflow._usage import Usage
from agentflow.exceptions import UsageError
from agentflow.stores._base import EntryFilter, RunFilter, Transaction

if TYPE_CHECKING:
    from agentflow._active_run import Home
    from agentflow._state_values import Values
    from agentflow.types import Duration

__all__ = ["RememberedStep", "Session", "check_step_name"]


@attrs.frozen(kw_only=True)
class RememberedStep:
    """One result that a step of a session remembers.

    Attributes:
        step: The step's name.
        key: The key of the call, as `Step.key()` gives it.
        version: The version of the step's code.
        created_at: When it was completed, in UTC.
        run_id: The run that made it, `""` outside one.
        size: The encoded result's length in bytes.
        tags: The step's tags.
    """

    step: str
    key: str
    version: str
    created_at: datetime
    run_id: str
    size: int
    tags: tuple[str, ...]


class Session:
    """A named memory of one workflow; `workflow.session(id)` returns it, whether it has anything yet or not.

    ```python
    from agentflow import Context, cached_step, workflow

    @cached_step
    def search(topic: str) -> str:
        return f"a page about {topic}"

    @workflow(session="demo")
    def report(ctx: Context, topic: str) -> str:
        ctx.state["topic"] = topic
        return search(topic)

    report("cats")
    session = report.session("demo")
    assert session.state["topic"] == "cats"
    assert [remembered.step for remembered in session.steps()] == [search.name]
    assert session.forget(search) == 1
    ```
    """

    def __init__(self, home: Home, values: Values | None = None) -> None:
        self._home = home
        self._values = values

    def __repr__(self) -> str:
        return f"<Session {self.id!r} of {self.workflow}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook shows: its state, its runs, and how much its steps remember."""
        from agentflow._cards import bundle  # noqa: PLC0415 - only notebooks need them
        from agentflow._pictures import session_card  # noqa: PLC0415 - as above

        return bundle(session_card(self._home.store, self.workflow, self.id, self.usage))

    @property
    def id(self) -> str:
        """The session's id."""
        return self._home.session_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._home.workflow

    @cached_property
    def state(self) -> BodyState:
        """Its state, as a mapping also if the workflow has a model of it: an assignment is durable at once, a change inside a value at `state.save()`."""
        return BodyState(self._home, plain_transaction, _unbounded, values=self._values)

    def runs(self, limit: int | None = None) -> list[Run]:
        """List its runs, newest first; so many at most.

        Raises:
            UsageError: If the limit is no whole number.
        """
        limit = None if limit is None else whole(limit, "limit", least=0)
        which = RunFilter(workflow=self.workflow, session_id=self.id)
        return [Run(record.id, self._home.store) for record in self._home.store.runs(which, limit)]

    @property
    def usage(self) -> Usage:
        """What the model requests of its runs have used, each once; answers that were replayed count nothing."""
        store = self._home.store
        return sum((used_in(store.events(run.id)) for run in self.runs()), Usage())

    def steps(self) -> list[RememberedStep]:
        """List what its steps remember, oldest first."""
        return [
            RememberedStep(
                step=entry.step,
                key=entry.key,
                version=entry.version.removeprefix("="),
                created_at=datetime.fromtimestamp(entry.created_at, UTC),
                run_id=entry.run_id,
                size=entry.size,
                tags=entry.tags,
            )
            for entry in self._home.store.entries(self._which(None, kind="step"))
        ]

    def forget(
        self,
        step: Any | str | None = None,
        *,
        tag: str | None = None,
        older_than: Duration | None = None,
        version: str | None = None,
    ) -> int:
        """Forget remembered results; return how many.

        Args:
            step: Only those of this step, as an object or by name. Results of scope `"global"` belong to no session:
                `step.forget(...)` forgets those.
            tag: Only those with this tag.
            older_than: Only those completed longer ago than this.
            version: Only those of this version, as `steps()` gives it or as the step's decorator pins it.

        Raises:
            UsageError: If there is no such step, in this process or in the store, or if a condition cannot be what it is.
        """
        tag = None if tag is None else text(tag, "tag")
        version = None if version is None else text(version, "version")
        before = None if older_than is None else wall_time() - seconds(older_than, what="older_than")
        which = self._which(step, kind="step", tag=tag, before=before)
        found = self._home.store.entries(which)
        keys = tuple(entry.key for entry in found if version is None or _is_of(entry.version, version))
        if keys:
            self._home.store.commit(Transaction(forget=keys))
        return len(keys)

    def delete(self) -> None:
        """Delete everything it has: state, remembered results, runs and their events."""
        self._home.store.delete_session(self.workflow, self.id)
        self.__dict__.pop("state", None)

    def _which(self, step: Any, **more: Any) -> EntryFilter:
        name = None if step is None else text(getattr(step, "name", step), "step")
        if name is not None:
            check_step_name(self._home, name, "forget")
        return EntryFilter(workflow=self.workflow, session_id=self.id, step=name, **more)


def _is_of(version: str, wanted: str) -> bool:
    # Of a pinned version the store has the text after "=", and after "+" what tells the closures of one factory apart.
    return wanted in (version, version.removeprefix("=")) or version.startswith(f"={wanted}+")


def check_step_name(home: Home, name: str, what: str) -> None:
    """Refuse the name of a step that is known neither to this process nor to the store: it can only be misspelled.

    Args:
        home: Whose store is meant, and whose steps are proposed instead.
        name: The name.
        what: Who was given it, for the message.

    Raises:
        UsageError: If it is known nowhere.
    """
    known = names_of("cached_step")
    if name in known or home.store.recent(EntryFilter(step=name, kind="step"), 1):
        return
    remembered = home.store.recent(EntryFilter(workflow=home.workflow, session_id=home.session_id, kind="step"), 200)
    near = _near(name, {*known, *(entry.step for entry in remembered)})
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "a step's name is its .name"
    raise UsageError(
        f"{what}: there is no step {name!r}, neither in this process nor in the store at {home.store.location}: {hint}"
    )


def _near(name: str, known: set[str]) -> list[str]:
    """Return names that are meant, perhaps: like this one as a whole, or without their modules."""
    from difflib import get_close_matches  # noqa: PLC0415 - only who mistypes a name pays for it

    by_tail = {each.rpartition(":")[2]: each for each in sorted(known)}
    found = [by_tail[tail] for tail in get_close_matches(name.rpartition(":")[2], by_tail)]
    return list(dict.fromkeys([*found, *get_close_matches(name, sorted(known))]))[:3]


def _unbounded() -> None:
    """Outside a run nothing is ever revoked."""
