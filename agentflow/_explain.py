"""Why a call would be a hit or a miss: the nearest call that is remembered, and what sets this one apart from it.

It only reads, so it can be asked at any time and by any process. The verdict itself is the one that the call would come to:
`StepCall.examined`. How far it looks is bounded; what differs is told by what was kept beside each result (`_detail`).
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pydantic_core

from agentflow._clock import wall_time
from agentflow._detail import Detail
from agentflow._explanation import Difference, Explanation
from agentflow._memo import Hit
from agentflow.exceptions import StoreError
from agentflow.stores._base import EntryFilter, RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agentflow._calls import StepCall
    from agentflow._explanation import Why
    from agentflow._memo import Miss
    from agentflow.stores._base import Entry

__all__ = ["begin_execution", "explained"]

_MOST_CALLS: Final = 200
"""Remembered calls that are compared, in this session and elsewhere each."""
_MOST_RUNS, _MOST_EVENTS = 5, 1_000
"""Where a result that `cache_if` refused is looked for: in the last events of the last runs."""
_MOST_DIFFERENCES: Final = 12
_MOST_VERSION: Final = 12
_PIECE: Final = {"changed": "has changed", "new": "is new", "gone": "is gone"}


def explained(call: StepCall, decode: Callable[[bytes], Any]) -> Explanation:
    """Return whether a call would be a hit, and why.

    Args:
        call: The call, which is not made.
        decode: Decodes a remembered result.
    """
    if not call.key:
        return _about(call, "not_remembered")
    found = call.examined(decode)
    if not isinstance(found, Hit):
        return _explained_miss(call, found)
    return _about(call, "remembered", found.remembered.created_at, found.remembered.run_id)


def begin_execution(call: StepCall) -> None:
    """Take down what a call that missed was made with, before its body can change that; and log why it missed, if that is asked for."""
    if call.key:
        _ = call.detail
    if call.is_debugged:
        call.log("step.miss", why=_why(call))


def _why(call: StepCall) -> str:
    try:
        found = _explained_miss(call, call.miss) if call.key else _about(call, "not_remembered")
    except StoreError as error:  # what is only told must not fail what is done
        return f"it is not remembered; the store could not say more: {error}"
    return "; ".join(line.strip() for line in str(found).splitlines()[1:])


def _explained_miss(call: StepCall, miss: Miss) -> Explanation:
    """Return why a call is a miss, after what a look at the store found."""
    if miss.why == "new":
        return _refused(call) or _nearest(call)
    made_at, run_id = (miss.remembered.created_at, miss.remembered.run_id) if miss.remembered else (None, "")
    return _about(call, miss.why, made_at, run_id, detail=_detail(call, miss))


def _detail(call: StepCall, miss: Miss) -> str:
    if miss.why == "expired" and miss.remembered and call.spec.ttl is not None:
        late = wall_time() - miss.remembered.created_at - call.spec.ttl
        return f"its ttl is {call.spec.ttl:g} s, over since {max(late, 0):.3g} s"
    if miss.why == "damaged" and call.raises_damaged:
        return f"a call raises StoreCorrupt: {miss.error}. Forget it with step.forget(...)"
    return "" if miss.error is None else str(miss.error)


def _about(
    call: StepCall,
    why: Why,
    made_at: float | None = None,
    run_id: str = "",
    *,
    differences: tuple[Difference, ...] = (),
    compared: int = 0,
    detail: str = "",
) -> Explanation:
    return Explanation(
        step=call.spec.name,
        hit=why == "remembered",
        why=why,
        key=call.key,
        workflow=call.home.workflow,
        session_id=call.home.session_id,
        made_at=None if made_at is None else datetime.fromtimestamp(made_at, UTC),
        age=None if made_at is None else timedelta(seconds=wall_time() - made_at),
        run_id=run_id,
        differences=differences,
        compared=compared,
        detail=detail,
    )


# --- the nearest remembered call ---


def _nearest(call: StepCall) -> Explanation:
    entries = _neighbours(call)
    hint = "the step has a cache_if: a result that it refuses is not remembered" if call.spec.cache_if else ""
    if not entries:
        return _about(call, "new", detail=hint)
    nearest = min(entries, key=lambda entry: _distance(call, entry))
    differences = [
        *_version_differences(call, nearest),
        *call.detail.differences(Detail.unpack(nearest.detail)),
        *_home_differences(call, nearest),
    ]
    return _about(
        call,
        "differs",
        nearest.created_at,
        nearest.run_id,
        differences=tuple(differences[:_MOST_DIFFERENCES]),
        compared=len(entries),
        detail=hint,
    )


def _neighbours(call: StepCall) -> list[Entry]:
    """Return remembered calls of the step: the newest where this call would land, and equal ones wherever they are."""
    store, home = call.home.store, _home(call)
    near = EntryFilter(kind="step", step=call.spec.name, workflow=home["workflow"], session_id=home["session"])
    equal = EntryFilter(kind="step", step=call.spec.name, arguments=call.digest)
    found = [*store.recent(near, _MOST_CALLS), *store.recent(equal, _MOST_CALLS)]
    return list({entry.key: entry for entry in found}.values())


def _home(call: StepCall) -> dict[str, str]:
    """Return what says where the call would land, by the names that differences go by."""
    is_global = call.spec.scope == "global"
    return {
        "scope": call.spec.scope,
        "workflow": "" if is_global else call.home.workflow,
        "session": "" if is_global else call.home.session_id,
        "run": call.run_id if call.spec.scope == "run" else "",
    }


def _home_of(entry: Entry) -> dict[str, str]:
    run_id = entry.run_id if entry.scope == "run" else ""
    return {"scope": entry.scope, "workflow": entry.workflow, "session": entry.session_id, "run": run_id}


def _distance(call: StepCall, entry: Entry) -> tuple[int, int, float]:
    """Return how far a remembered call is: by the number of differences, then those of arguments, then by age."""
    apart = 0
    if entry.arguments != call.digest:
        apart = max(1, call.detail.distance(Detail.unpack(entry.detail)))
    elsewhere = len(list(_home_differences(call, entry)))
    return (entry.version != call.version) + apart + elsewhere, apart, -entry.created_at


def _home_differences(call: StepCall, entry: Entry) -> Iterator[Difference]:
    here, there = _home(call), _home_of(entry)
    for kind in here:
        # A scope says which of the others there are.
        if here[kind] != there[kind] and (kind == "scope" or here["scope"] == there["scope"]):
            yield Difference(kind=cast("Any", kind), here=repr(here[kind]), there=repr(there[kind]))


# --- versions ---


def _version_differences(call: StepCall, entry: Entry) -> Iterator[Difference]:
    if entry.version == call.version:
        return
    here, there = call.pieces, call.home.store.pieces(entry.step, entry.version)
    found = list(_piece_differences(here, there)) if here is not None and there is not None else []
    yield from found or [Difference(kind="version", here=_shown(call.version), there=_shown(entry.version))]


def _piece_differences(here: Mapping[str, str], there: Mapping[str, str]) -> Iterator[Difference]:
    # By the name without the module, which is no part of a version: what was only moved to another file has not changed.
    mine, theirs = ({title.partition(":")[2]: (title, mark) for title, mark in each.items()} for each in (here, there))
    for name, (title, mark) in mine.items():
        if name not in theirs:
            yield Difference(kind="code", name=title, here=_PIECE["new"])
        elif theirs[name][1] != mark:
            yield Difference(kind="code", name=title, here=_PIECE["changed"])
    for name, (title, _) in theirs.items():
        if name not in mine:
            yield Difference(kind="code", name=title, here=_PIECE["gone"])


def _shown(version: str) -> str:
    if version.startswith("="):
        pinned, _, captured = version[1:].partition("+")
        return repr(pinned) + (" with other captured values" if captured else "")
    return f"fingerprint {version[:_MOST_VERSION]}" if version and not version.startswith("+") else "none"


# --- results that were refused ---


def _refused(call: StepCall) -> Explanation | None:
    """Return the explanation of a call whose result `cache_if` has refused in one of the last runs, if there is such a result."""
    if call.spec.cache_if is None:
        return None
    which = RunFilter(workflow=call.home.workflow, session_id=call.home.session_id)
    for run in call.home.store.runs(which, _MOST_RUNS):
        at = _refused_in(call, run.id)
        if at is not None:
            return _about(call, "refused", at, run.id)
    return None


def _refused_in(call: StepCall, run_id: str) -> float | None:
    store, key = call.home.store, call.key.encode()
    last = store.last_event(run_id)
    events = store.events(run_id, max(0, last.seq - _MOST_EVENTS)) if last else ()
    for event in reversed(events):
        if key not in event.data or b"step_completed" not in event.data:
            continue
        said: object = None
        with contextlib.suppress(ValueError):  # a damaged event explains nothing
            said = pydantic_core.from_json(event.data)
        if isinstance(said, dict) and said.get("type") == "step_completed" and said.get("remembered") is False:
            return event.at
    return None
