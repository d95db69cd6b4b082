"""What a test must know to replay a run of the store without a network: its call, what its steps gave, what its models answered.

A step runs as it did where that needs nothing but the recorded answers of its models. Others give what they gave: those that asked no model, which may go
over the network themselves, and those whose models called tools, since what a tool gave is not recorded.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._conversation import OUTPUT_TOOL
from agentflow._detail import Detail
from agentflow._fingerprint import CodeVersion
from agentflow._keys import arguments_parts, parts_digest
from agentflow._loading import workflow_of
from agentflow._memo import Remembered
from agentflow._registry import learn_types
from agentflow._remembered_answers import read_answer
from agentflow._serialization import StaleValue
from agentflow._step import Step
from agentflow._stored_call import StoredCall
from agentflow._workflow import Workflow
from agentflow.events import ModelAnswered
from agentflow.exceptions import UsageError
from agentflow.stores._base import EntryFilter, RunFilter
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet

    from agentflow._run_steps import RunStep
    from agentflow._runs import Run
    from agentflow.messages import ModelResponse
    from agentflow.stores import Store
    from agentflow.stores._base import Entry

__all__ = ["Given", "Replayable", "StepReplay", "found_at", "replayable"]

_MOST_ENTRIES: Final = 100_000


@attrs.frozen
class Given:
    """What one call of a step gave.

    Attributes:
        value: The result; of a stream, the items and what it returned.
        arguments: What it was called with, if plain values; None if that is not known.
    """

    value: Any
    arguments: Mapping[str, Any] | None


@attrs.frozen
class StepReplay:
    """A step in the replay.

    Attributes:
        step: The step.
        ran: How many calls execute it.
        hits: How many are answered from memory.
        given: What its calls give in place of being executed, in the order in which they began; None if it runs as it is.
        in_turn: Whether its calls came one after the other.
        why: Why it runs as it is although that may need a network; `""` if it does not.
        is_counted: Whether the replay calls it as often as the run did.
    """

    step: Step[..., Any]
    ran: int
    hits: int
    given: Sequence[Given] | None
    in_turn: bool
    why: str = ""
    is_counted: bool = True


@attrs.frozen
class Replayable:
    """A completed run, as a test replays it.

    Attributes:
        workflow: The workflow.
        run: The run.
        arguments: What it was called with.
        session_id: Its session, where the workflow does not say so itself.
        steps: Its steps, in the order in which they were first called.
        answers: What the models answered to the steps that run as they did, and to the body, in order.
        uses_tools: Whether the body's models called tools, which are called again.
        left_state: The keys of the state that earlier runs of its session, or of its children's, may have set.
    """

    workflow: Workflow[..., Any]
    run: Run
    arguments: Mapping[str, Any]
    session_id: str | None
    steps: Sequence[StepReplay]
    answers: Sequence[ModelResponse]
    uses_tools: bool
    left_state: Sequence[str]


@attrs.frozen
class _Answer:
    step: str
    at: float
    response: ModelResponse

    @property
    def calls_tools(self) -> bool:
        return any(call.name != OUTPUT_TOOL for call in self.response.tool_calls)


def replayable(run: Run, store: Store) -> Replayable:
    """Read a run.

    Raises:
        UsageError: If it cannot be replayed: it did not complete, a step of it failed, its arguments are not stored, or its code is not imported.
    """
    learn_types()
    if run.status is not RunStatus.COMPLETED:
        raise UsageError(
            f"run {run.id} is {run.status.value}: only a completed run has a result that a test can expect"
        )
    record = store.run(run.id)
    assert record
    spec = workflow_of(record).spec
    family = list(_family(run))
    calls = [call for each in family for call in each.steps()]
    answers = sorted((answer for each in family for answer in _answers(each, store)), key=lambda answer: answer.at)
    steps = _Steps(calls, answers, {each.id for each in family}, store)
    replays = [steps.replay(name) for name in steps.names]
    dropped = {each.step.name for each in replays if each.given is not None} | steps.inside
    return Replayable(
        workflow=found_at(Workflow, record.workflow)[2],
        run=run,
        arguments=StoredCall.of(record).bound(spec.shape, spec.ignore, run.id),
        session_id=record.session_id if spec.session is None and record.session_id != "default" else None,
        steps=replays,
        answers=[answer.response for answer in answers if answer.step not in dropped],
        uses_tools=any(answer.calls_tools for answer in answers if not answer.step),
        left_state=_left_state({each.id for each in family}, store),
    )


def _family(run: Run) -> Iterator[Run]:
    yield run
    for child in run.children():
        yield from _family(child)


def _left_state(family: AbstractSet[str], store: Store) -> list[str]:
    """Return the keys of the state of the sessions that had run before: what was in them then is not recorded."""
    records = sorted((record for record in map(store.run, family) if record), key=lambda each: each.started_at)
    began = {(each.workflow, each.session_id): each.started_at for each in records}
    keys = dict[str, None]()
    for (workflow, session_id), at in began.items():
        runs = store.runs(RunFilter(workflow=workflow, session_id=session_id))
        if any(run.started_at <= at and run.id not in family for run in runs):
            keys |= dict.fromkeys(store.state_keys(workflow, session_id))
    return list(keys)


def _answers(run: Run, store: Store) -> Iterator[_Answer]:
    """Yield the recorded answers of a run, each with the step that asked: an event and an entry were written together."""
    said = [event for event in run.events(follow=False) if isinstance(event, ModelAnswered) and not event.replayed]
    for entry in store.entries(EntryFilter(kind="request", run_id=run.id)):
        payload = store.read(entry.key)
        event = next(
            (each for each in reversed(said) if each.at <= entry.created_at and each.model == entry.step), None
        )
        if payload is not None and event is not None:
            said.remove(event)
            yield _Answer(event.step, entry.created_at, read_answer(Remembered.unpack(payload).body))


def found_at(kind: type[Any], name: str) -> tuple[str, str, Any]:
    """Return the module and the name in it under which a workflow or step can be imported, and it itself.

    Raises:
        UsageError: If no module that is imported has it.
    """
    found = [
        (module, attribute, thing)
        for module, loaded in list(sys.modules.items())
        for attribute, thing in list(vars(loaded).items())
        if isinstance(thing, kind) and thing.name == name
    ]
    if not found:
        raise UsageError(
            f"no module that is imported has {name!r} at its top, so a test cannot import it: name its module with --import"
        )
    return min(found, key=lambda each: (each[0] != each[2].fn.__module__, each[0]))


class _Steps:
    """The steps of a run, and which of them run again."""

    def __init__(self, calls: Sequence[RunStep], answers: Sequence[_Answer], family: set[str], store: Store) -> None:
        for call in calls:
            if call.status != "completed" and not any(_later(call, other) for other in calls):
                raise UsageError(
                    f"step {call.step!r} {call.status} in this run and the workflow went on: what it raised is not recorded as it was, so "
                    "the run cannot be replayed. Write the test with agentflow.testing.fail_step"
                )
        self._calls = [call for call in calls if call.status == "completed"]
        self.names = list(dict.fromkeys(call.step for call in self._calls))
        self._steps: dict[str, Step[..., Any]] = {name: found_at(Step, name)[2] for name in self.names}
        self._store = store
        self._family = family
        self._reached = {name: self._reach(step) for name, step in self._steps.items()}
        self._asking = {answer.step for answer in answers}
        self._with_tools = {answer.step for answer in answers if answer.calls_tools}
        self._entries = {name: self._entries_of(name) for name in self.names}
        self.inside = {inner for name in self.names if self._is_given(name) for inner in self._reached[name]}

    def _reach(self, step: Step[..., Any]) -> set[str]:
        version = step._spec.version  # noqa: SLF001 - what the decorator was told
        pieces = (version if isinstance(version, CodeVersion) else CodeVersion(step.fn)).pieces()
        return {
            name
            for name, other in self._steps.items()
            if other is not step and pieces.keys() & {name, f"{other.fn.__module__}:{other.fn.__qualname__}"}
        }

    def _entries_of(self, name: str) -> Mapping[str, Entry]:
        return {entry.key: entry for entry in self._store.recent(EntryFilter(step=name, kind="step"), _MOST_ENTRIES)}

    def _is_given(self, name: str) -> bool:
        """Whether it gives what it gave in place of being executed."""
        if name in self._with_tools or self._is_remembered_before(name):
            return True
        if name in self._asking:
            return not self._in_turn(name, self._asking)
        return not self._reached[name]

    def _is_remembered_before(self, name: str) -> bool:
        found = (self._remembered(call.key) for call in self._of(name))
        return any(each.run_id not in self._family for each in found if each)

    def _in_turn(self, name: str, beside: Iterable[str]) -> bool:
        """Whether no call of it was under way while another call of it, or of others that do not call it, was."""
        own = [_span(call) for call in self._of(name) if not call.hit]
        others = [
            _span(call)
            for other in beside
            if other and other != name and name not in self._reached.get(other, ())
            for call in self._of(other)
            if not call.hit
        ]
        apart = all(one[1] <= other[0] or other[1] <= one[0] for one in own for other in others)
        return apart and all(one[1] <= other[0] for one, other in zip(sorted(own), sorted(own)[1:], strict=False))

    def _of(self, name: str) -> list[RunStep]:
        return [call for call in self._calls if call.step == name]

    def _remembered(self, key: str) -> Remembered | None:
        payload = self._store.read(key) if key else None
        return None if payload is None else Remembered.unpack(payload)

    def replay(self, name: str) -> StepReplay:
        """Return how a step is replayed."""
        step, calls = self._steps[name], self._of(name)
        last = [call for call in calls if call.run_attempt == max(each.run_attempt for each in calls)]
        ran = len({call.key for call in last})
        given, why = self._given(step, calls) if self._is_given(name) else (None, "")
        return StepReplay(
            step, ran, len(last) - ran, given, self._in_turn(name, ()), why, is_counted=name not in self.inside
        )

    def _given(self, step: Step[..., Any], calls: Sequence[RunStep]) -> tuple[list[Given] | None, str]:
        given = []
        for key in dict.fromkeys(call.key for call in calls):
            remembered = self._remembered(key)
            if remembered is None:
                return None, "what it gave is not in the store"
            try:
                value = step._decode(remembered.body)  # noqa: SLF001 - as above
            except StaleValue:
                return None, "what it gave does not fit its type any more"
            given.append(Given(value, _arguments(step, self._entries[step.name].get(key))))
        return given, ""


def _later(call: RunStep, other: RunStep) -> bool:
    return call.key == other.key and other.status == "completed" and other.run_attempt >= call.run_attempt


def _span(call: RunStep) -> tuple[float, float]:
    begun = call.started_at.timestamp()
    return begun, begun + (call.seconds or 0.0)


def _arguments(step: Step[..., Any], entry: Entry | None) -> Mapping[str, Any] | None:
    """Return what a call was made with, read from the short picture of it and checked against the digest in its key."""
    if entry is None:
        return None
    parts = Detail.unpack(entry.detail).parts
    order = list(step._spec.shape.signature.parameters)  # noqa: SLF001 - as above
    values: defaultdict[str, Any] = defaultdict()
    for (kind, name), (_, picture) in parts.items():
        try:
            if kind != "argument" or not isinstance(picture, str):
                return None
            values[name] = ast.literal_eval(picture)
        except (ValueError, SyntaxError):
            return None
    if values.keys() != set(order) or parts_digest(arguments_parts(step.name, values)) != entry.arguments:
        return None
    return {name: values[name] for name in order}
