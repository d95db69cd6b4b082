"""What there is to see of a run while its events come: what is said for good, and what is under way. Pure.

`View.take` is given each event and returns what can be shown once and stays: lines, and the words that the workflow yields.
What may still change (steps that run, maps, totals) is asked for whenever somebody draws. Times are those of the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import pydantic_core

from agentflow import events
from agentflow._usage import Usage, spent
from agentflow._words import amount, duration, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow.events import Event

__all__ = ["Doing", "Line", "Mark", "Said", "View", "Words"]

Mark: TypeAlias = Literal["begun", "done", "hit", "model", "told", "retried", "stopped", "failed"]

_LONGEST_VALUE: Final = 200  # characters of a value that `ctx.emit` was given
_SHORT_ID: Final = 12


@attrs.frozen
class Line:
    """Something that has happened, and will not change.

    Attributes:
        mark: What kind of thing.
        name: To what: a workflow, step, map or model.
        said: What there is to say of it.
        depth: How many runs and steps it is inside of.
        seconds: How long it took, if that is known.
        more: Lines that belong to it, such as where an error was raised.
    """

    mark: Mark
    name: str
    said: str = ""
    depth: int = 0
    seconds: float | None = None
    more: tuple[str, ...] = ()


@attrs.frozen
class Words:
    """A piece of what the workflow yields.

    Attributes:
        text: It.
        opening: The line that opened the block of code in which it begins, if it was begun in an earlier piece.
    """

    text: str
    opening: str = ""


Said: TypeAlias = Line | Words


@attrs.frozen
class Doing:
    """Something under way.

    Attributes:
        name: A step, or what a map calls.
        since: When it began, in seconds since the epoch.
        said: What there is to say of it.
        depth: How many runs and steps it is inside of.
        done: Of a map, how many items are finished.
        total: Of a map, how many there are; else None.
    """

    name: str
    since: float
    said: str = ""
    depth: int = 0
    done: int = 0
    total: int | None = None


@attrs.define(eq=False)
class _Run:
    """A run as far as it was heard of, and how its steps were answered."""

    name: str
    depth: int
    since: float
    parent: _Run | None = None
    maps: dict[str, _Map] = attrs.field(factory=dict)
    stopped: dict[str, _Map] = attrs.field(factory=dict)
    hits: int = 0

    @property
    def folding(self) -> _Map | None:
        """Return the map that says in one line what goes on inside it, if there is one."""
        if self.maps:
            return next(reversed(self.maps.values()))
        return self.parent.folding if self.parent else None


@attrs.define(eq=False)
class _Map:
    """A map, and how many of the calls in it were hits."""

    doing: Doing
    hits: int = 0


_Call: TypeAlias = tuple[str, int, str, str]


class View:
    """What there is to see of a run, and of the runs that it calls.

    Attributes:
        name: The workflow.
        run_id: The run.
        usage: What model requests have used.
        ending: How the run has ended, to be said last.
        since: When the first event happened, 0 before that.
    """

    def __init__(self) -> None:
        self.name = ""
        self.run_id = ""
        self.usage = Usage()
        self.ending: Line | None = None
        self.since = 0.0
        self._runs: dict[str, _Run] = {}
        self._calls: dict[_Call, list[Doing]] = {}

    def take(self, event: Event) -> list[Said]:
        """Take in an event, and return what can be shown of it for good."""
        self.since = self.since or event.at
        run = self._runs.get(event.run_id) or self._begun(event)
        match event:
            case events.RunYielded():
                return self._yielded(run, event)
            case events.RunStarted():
                return self._start(run, event)
            case (
                events.StepStarted()
                | events.StepYielded()
                | events.StepCompleted()
                | events.StepHit()
                | events.StepRetried()
                | events.StepFailed()
            ):
                return self._step(run, event)
            case events.ModelAnswered() | events.ModelRetried() | events.MapProgressed() | events.Emitted():
                return self._beside(run, event)
            case _:
                return self._ended(run, event)

    @property
    def doing(self) -> list[Doing]:
        """What is under way, in the order in which it began; what a map does is said by the map."""
        return sorted(self._all_doing(), key=lambda each: each.since)

    def _all_doing(self) -> Iterator[Doing]:
        for run in self._runs.values():
            yield from (each.doing for each in run.maps.values())
        for (run_id, *_), calls in self._calls.items():
            if self._runs[run_id].folding is None:
                yield from calls

    def totals(self) -> str:
        """Return what it cost until now, in words; empty if no model was asked."""
        return spent(self.usage)

    # Runs

    def _begun(self, event: Event) -> _Run:
        parent = self._runs.get(event.parent_id) if isinstance(event, events.RunStarted) else None
        run = _Run("run", parent.depth + 1 if parent else 0, event.at, parent)
        self._runs[event.run_id] = run
        return run

    def _start(self, run: _Run, event: events.RunStarted) -> list[Said]:
        run.name, run.since, run.maps, run.hits = short(event.workflow) or run.name, event.at, {}, 0
        self._forget_calls(event.run_id)
        words = [f"run {event.run_id[:_SHORT_ID]}", f"session {event.session_id}", f"attempt {event.attempt}"]
        line = Line("begun", run.name, ", ".join(words if event.attempt > 1 else words[:2]), run.depth)
        if run.parent is not None:
            return self._filtered(run.parent, [line])
        self.name, self.run_id = run.name, event.run_id
        earlier, self.ending = self.ending, None
        return [*([earlier] if earlier else []), line]

    def _ended(self, run: _Run, event: Event) -> list[Said]:
        self._forget_calls(event.run_id)
        run.maps = {}
        mark, word = _ending(event)
        hits = amount(run.hits, "hit") if run.hits else ""
        words = [word] if run.parent else filter(None, [word, hits, self.totals()])
        more = (event.error,) if isinstance(event, events.RunFailed) else ()
        line = Line(mark, run.name, ", ".join(words), run.depth, event.at - run.since, more)
        if run.parent is not None:
            return self._filtered(run.parent, [line])
        self.ending = line
        return []

    def _yielded(self, run: _Run, event: events.RunYielded) -> list[Said]:
        if run.parent is not None:  # what a workflow called inside yields is its caller's to show
            return []
        return [Words("".join(item if isinstance(item, str) else f"{_json(item)}\n" for item in event.items))]

    # Steps

    def _step(self, run: _Run, event: Any) -> list[Said]:
        call = (event.run_id, event.attempt, event.step, event.key)
        calls = self._calls.setdefault(call, []) if isinstance(event, events.StepStarted) else self._calls.get(call, [])
        line = Line("done", short(event.step), depth=run.depth + 1)
        match event:
            case events.StepStarted():
                calls.append(Doing(line.name, event.at, depth=line.depth))
                return []
            case events.StepYielded(items=items):
                calls[:1] = [_grown(each, items) for each in calls[:1]]
                return []
            case events.StepRetried(error=error, pause=pause):
                calls[:1] = [attrs.evolve(each, said=f"again after {_brief(error)}") for each in calls[:1]]
                return [attrs.evolve(line, mark="retried", said=f"{error}; again in {duration(pause)}")]
            case events.StepHit():
                return self._hit(run, line)
            case _:
                began = calls.pop(0).since if calls else event.at
                if not calls:
                    self._calls.pop(call, None)
                return self._step_over(run, event, line, began)

    def _step_over(self, run: _Run, event: Any, line: Line, began: float) -> list[Said]:
        tries = f"after {event.attempts} attempts" if event.attempts > 1 else ""
        if isinstance(event, events.StepFailed):
            # An error ends a map, which then says no more; one that collects errors goes on, and says so.
            run.stopped, run.maps = {**run.stopped, **run.maps}, {}
            words = ", ".join(filter(None, [tries, event.error]))
            return [attrs.evolve(line, mark="failed", said=words, seconds=event.at - began)]
        words = ", ".join(filter(None, [tries, "" if event.remembered else "not remembered"]))
        return self._filtered(run, [attrs.evolve(line, said=words, seconds=event.seconds)])

    def _hit(self, run: _Run, line: Line) -> list[Said]:
        root = run
        while root.parent:
            root = root.parent
        root.hits += 1
        if run.folding:
            run.folding.hits += 1
        return self._filtered(run, [attrs.evolve(line, mark="hit", said="hit")])

    def _filtered(self, run: _Run | None, lines: list[Line]) -> list[Said]:
        """Return lines, less those of the many calls of a map, which says how far it is."""
        return [] if run is not None and run.folding else list(lines)

    def forget_doing(self) -> None:
        """Take nothing for under way any more: whoever listened has stopped."""
        self._calls.clear()
        for run in self._runs.values():
            run.maps = {}

    def _forget_calls(self, run_id: str) -> None:
        for call in [call for call in self._calls if call[0] == run_id]:
            del self._calls[call]

    # Models and maps

    def _beside(
        self, run: _Run, event: events.ModelAnswered | events.ModelRetried | events.MapProgressed | events.Emitted
    ) -> list[Said]:
        depth = run.depth + 1
        match event:
            case events.ModelAnswered():
                return self._answered(run, event)
            case events.ModelRetried(model=model, error=error):
                then = event.next_model or f"again in {duration(event.pause)}"
                return [Line("retried", model, f"{error}; {then}", depth)]
            case events.MapProgressed():
                return self._mapped(run, event)
            case events.Emitted(value=value):
                return [Line("told", "emitted", _value(value), depth)]

    def _answered(self, run: _Run, event: events.ModelAnswered) -> list[Said]:
        depth = run.depth + 1
        self.usage += event.usage
        who = f"{event.agent} ({event.model})" if event.agent else event.model
        return self._filtered(run, [Line("model", who, _answer(event), depth + bool(event.step))])

    def _mapped(self, run: _Run, event: events.MapProgressed) -> list[Said]:
        name = short(event.name)
        new = _Map(Doing(name, event.at, depth=run.depth + 1, total=event.total))
        stopped = run.stopped.pop(name, new)
        found = run.maps.setdefault(name, stopped if event.done else new)
        found.doing = attrs.evolve(found.doing, done=event.done, total=event.total)
        if event.done < event.total:
            return []
        del run.maps[name]
        words = f"{event.done} of {event.total}" + (f", {amount(found.hits, 'hit')}" if found.hits else "")
        line = Line("done", f"map {name}", words, run.depth + 1, event.at - found.doing.since)
        return self._filtered(run, [line])


def _ending(event: Event) -> tuple[Mark, str]:
    match event:
        case events.RunCompleted():
            return "done", "completed"
        case events.RunFailed():
            return "failed", "failed"
        case events.RunCancelled():
            return "stopped", "cancelled"
        case _:
            return "stopped", "interrupted"


def _answer(event: events.ModelAnswered) -> str:
    if event.replayed:
        return "replayed"
    calls = [f"calls {', '.join(event.calls)}"] if event.calls else ["answered"]
    return ", ".join(filter(None, [*calls, spent(event.usage, requests=False)]))


def _grown(doing: Doing, items: tuple[Any, ...]) -> Doing:
    """Return a streamed step with what it has yielded counted; `done` holds the number."""
    text = all(isinstance(item, str) for item in items)
    count = doing.done + (sum(map(len, items)) if text else len(items))
    return attrs.evolve(doing, done=count, said=amount(count, "character" if text else "item"))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _json(value: Any) -> str:
    return pydantic_core.to_json(value, inf_nan_mode="strings").decode()


def _brief(error: str) -> str:
    return error.partition(":")[0]
