"""What `step.explain(...)` answers, as values that can be read, compared and printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = ["Difference", "Explanation", "Why"]

Why: TypeAlias = Literal[
    "remembered", "new", "differs", "expired", "refresh", "refused", "stale", "damaged", "not_remembered"
]
"""The reason of a verdict; `Explanation.why` says what each means."""


@attrs.frozen(kw_only=True)
class Difference:
    """One thing in which a call differs from a remembered one; texts are shortened, and secrets hidden.

    Attributes:
        kind: `"argument"`, `"key"` (what the step's `key=` gave), `"state"` (a key of `reads=`), `"code"` (a piece of code or a
            constant that the version is made of), `"version"`, `"session"`, `"workflow"`, `"run"`, `"scope"`.
        name: The parameter, the state key, or the piece of code as `module:name`; `""` where the kind says it all.
        path: Where inside the argument, such as `".filters['since']"`.
        here: What it is in this call.
        there: What it was in the remembered one.
    """

    kind: Literal["argument", "key", "state", "code", "version", "session", "workflow", "run", "scope"]
    name: str = ""
    path: str = ""
    here: str = ""
    there: str = ""

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.kind, self.name + self.path)))
        if self.kind == "code":
            return f"{what} {self.here}"
        return f"{what}: {self.here} here, {self.there} there"


@attrs.frozen(kw_only=True)
class Explanation:
    """Whether a call would be a hit, and why; printed, a few lines for people.

    Attributes:
        step: The step's name.
        hit: Whether the call would be answered from the store.
        why: `"remembered"`: a hit.
            `"new"`: no call of the step is remembered here.
            `"differs"`: others are; `differences` tells what sets the nearest apart.
            `"expired"`: it is remembered, and older than the step's `ttl`.
            `"refresh"`: it is remembered, and a new result was asked for.
            `"refused"`: it was executed in one of the last runs, and `cache_if` refused its result.
            `"stale"`: it is remembered, and the types of its values have changed since.
            `"damaged"`: it is remembered, and what is stored is not what was written.
            `"not_remembered"`: such a call is remembered nowhere: its scope is a run, and there is none.
        key: The key of the call, `""` if it has none.
        workflow: The workflow in whose memory it would land, `""` outside one.
        session_id: The session.
        made_at: When the remembered result (of this call, else of the nearest) was completed, in UTC; None if there is none.
        age: How long ago that was.
        run_id: The run that made it, `""` outside one.
        differences: What sets this call apart from the nearest remembered one.
        compared: How many remembered calls were looked at.
        detail: What else there is to say.
    """

    step: str
    hit: bool
    why: Why
    key: str = ""
    workflow: str = ""
    session_id: str = ""
    made_at: datetime | None = None
    age: timedelta | None = None
    run_id: str = ""
    differences: tuple[Difference, ...] = ()
    compared: int = 0
    detail: str = ""

    def __str__(self) -> str:
        where = f"session {self.session_id!r}" + (f" of {self.workflow}" if self.workflow else "")
        head = f"{'hit' if self.hit else 'miss'}: step {self.step!r} in {where}"
        lines = [head, f"  {_SENTENCES[self.why]}{self._made()}"]
        lines += [f"  {difference}" for difference in self.differences]
        if self.detail:
            lines.append(f"  {self.detail}")
        return "\n".join(lines)

    def _made(self) -> str:
        if self.age is None:
            return ""
        by = f" by run {self.run_id}" if self.run_id else ""
        return f" (made {_ago(self.age.total_seconds())} ago{by})"


_SENTENCES: Final[dict[Why, str]] = {
    "remembered": "it is remembered",
    "new": "no call of this step is remembered here",
    "differs": "this call is not remembered; the nearest one that is differs",
    "expired": "it is remembered, but older than its ttl allows",
    "refresh": "it is remembered, but a new result was asked for",
    "refused": "it has run, but cache_if refused its result",
    "stale": "it is remembered, but the types of its values have changed since",
    "damaged": "it is remembered, but what is stored is damaged",
    "not_remembered": 'its scope is "run", so outside a run it is remembered nowhere',
}


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
