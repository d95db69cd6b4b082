"""The drivers: they do what a conversation decides, in either colour, and give out its text.

Requests are made (or remembered by the run around them), tools are called. Sync and async stand side by side.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import attrs

from agentflow._at_once import in_threads
from agentflow._conversation import AgentResult, AskModel, Conversation, Finish, PlannedCall, RunTools
from agentflow._history import History, Past, Summarizer, recall
from agentflow._recording import RECORDING, Recording, Slot
from agentflow._remembered_answers import read_answer, request_bytes, write_answer
from agentflow._usage import AROUND
from agentflow.exceptions import ModelRetry, UnexpectedModelBehavior
from agentflow.models._prices import aused_by, used_by

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._text_streams import Talk
    from agentflow.messages import ModelRequest, ModelResponse, ToolReturn, Usage
    from agentflow.models import Model
    from agentflow.tools._base import Tool
    from agentflow.types import Scope

__all__ = ["AnyDriver", "Driver", "Memory", "in_place", "together"]

R = TypeVar("R")
T = TypeVar("T")


@attrs.frozen(eq=False)
class _Place:
    """Where a request is remembered."""

    recording: Recording
    slot: Slot

    @property
    def remembered(self) -> ModelResponse | None:
        """The answer, if there is one already."""
        return None if self.slot.answer is None else read_answer(self.slot.answer)

    def answered_by(self, response: ModelResponse) -> Slot:
        """Return the slot with the model that has answered, which may be another than was asked, and the tools that it calls."""
        calls = tuple(call.name for call in response.tool_calls)
        return attrs.evolve(self.slot, model=response.answered_by or self.slot.model, calls=calls)


class AnyDriver(Protocol[T]):
    """What drives one run, of an agent or of a team."""

    @property
    def talk(self) -> Talk[T]:
        """What it says, and comes to."""
        ...

    def converse(self, *, whole: bool) -> Generator[str, None, AgentResult[T]]:
        """Yield the text of every turn and return the result."""
        ...

    def aconverse(self, *, whole: bool) -> AsyncGenerator[str, None]:
        """Yield the text of every turn."""
        ...


@attrs.frozen(eq=False)
class Memory:
    """How an agent remembers its conversation.

    Attributes:
        name: Under which name.
        history: How much of it.
        summarizer: What summarises the rest.
    """

    name: str
    history: History
    summarizer: Summarizer | Callable[[str], str] | None

    def recall(self) -> Past:
        """Return what is remembered in the session in force."""
        return recall(self.history, self.name)

    def shorten(self, past: Past) -> None:
        """Have a summary made of what is left out, if there is anything."""
        if past.transcript is not None and self.summarizer:
            chosen = self.summarizer
            past.summarized(chosen(past.transcript) if callable(chosen) else chosen.run(past.transcript).output)

    async def ashorten(self, past: Past) -> None:
        """Do what `shorten` does; a function runs in a thread."""
        if past.transcript is not None and self.summarizer:
            chosen, text = self.summarizer, past.transcript
            past.summarized(
                await asyncio.to_thread(chosen, text) if callable(chosen) else (await chosen.arun(text)).output
            )


@attrs.frozen(eq=False)
class Driver(Generic[T]):
    """Does in one run what its conversation decides; the sync and the async way side by side."""

    agent: str
    model: Model
    tools: Mapping[str, Tool[..., Any]]
    cache: Scope | None
    talk: Conversation[T]
    memory: Memory | None = None
    name: str = ""
    slots: list[Slot] = attrs.field(factory=list)

    def converse(self, *, whole: bool) -> Generator[str, None, AgentResult[T]]:
        """Yield the text of every turn and return the result."""
        past = self.memory.recall() if self.memory else None
        if self.memory and past:
            with self.counted():
                self.memory.shorten(past)
            self.talk.recall(past.messages, past.summary)
        while True:
            match self.talk.next_action():
                case AskModel(request):
                    yield from self.ask(request, whole=whole)
                case RunTools(calls):
                    self.talk.receive_results(self.call_all(calls))
                case Finish(result):
                    if past:
                        past.keep(self.talk.said)
                    return result

    async def aconverse(self, *, whole: bool) -> AsyncGenerator[str, None]:
        """Yield the text of every turn."""
        past = self.memory.recall() if self.memory else None
        if self.memory and past:
            with self.counted():
                await self.memory.ashorten(past)
            self.talk.recall(past.messages, past.summary)
        while True:
            match self.talk.next_action():
                case AskModel(request):
                    async with aclosing(self.aask(request, whole=whole)) as deltas:
                        async for delta in deltas:
                            yield delta
                case RunTools(calls):
                    self.talk.receive_results(await self.acall_all(calls))
                case Finish():
                    if past:
                        past.keep(self.talk.said)
                    return

    def ask(self, request: ModelRequest, *, whole: bool) -> Generator[str, None, None]:
        """Make one request, or remember its answer, and tell the conversation."""
        place = self.place(request)
        if place is not None and (remembered := place.remembered) is not None:
            yield from filter(None, [remembered.text])
            self.heard(remembered, None)
            return
        response = self.model.request(request) if whole else (yield from self.model.stream(request))
        usage = used_by(response.answered_by or self.model.name, response)
        if place is not None:
            place.recording.save(place.answered_by(response), write_answer(response), usage)
        self.received(response, usage)

    async def aask(self, request: ModelRequest, *, whole: bool) -> AsyncGenerator[str, None]:
        """Do what `ask` does."""
        place = self.place(request)
        if place is not None and (remembered := place.remembered) is not None:
            if remembered.text:
                yield remembered.text
            self.heard(remembered, None)
            return
        if whole:
            response = await self.model.arequest(request)
        else:
            async with aclosing(self.model.astream(request)) as deltas:
                async for delta in deltas:
                    yield delta
            response = deltas.response
        usage = await aused_by(response.answered_by or self.model.name, response)
        if place is not None:
            await place.recording.asave(place.answered_by(response), write_answer(response), usage)
        self.received(response, usage)

    def received(self, response: ModelResponse, usage: Usage) -> None:
        """Tell the conversation of a paid answer, and count it for those around it."""
        for spent in AROUND.get():
            spent.append(usage)
        self.heard(response, usage)

    def heard(self, response: ModelResponse, usage: Usage | None) -> None:
        """Tell the conversation of an answer; if that is one mistake too many, its answers are not to be replayed."""
        try:
            self.talk.receive_response(response, usage)
        except UnexpectedModelBehavior:
            if recording := RECORDING.get():
                recording.spoil(self.slots)
            raise

    def call_all(self, calls: Sequence[PlannedCall]) -> list[ToolReturn]:
        """Call the tools of one turn at once, after all have been approved, one call after the other in this thread."""
        refused = [self.refusal(planned) for planned in calls]
        approved = [planned for planned, refusal in zip(calls, refused, strict=True) if refusal is None]
        answers = iter(in_threads([partial(self.call, planned) for planned in approved], "agentflow-tool"))
        return [refusal or next(answers) for refusal in refused]

    async def acall_all(self, calls: Sequence[PlannedCall]) -> list[ToolReturn]:
        """Do what `call_all` does; who approves is asked in a thread, if that may block."""
        refused = [await self.arefusal(planned) for planned in calls]
        approved = [planned for planned, refusal in zip(calls, refused, strict=True) if refusal is None]
        answers = iter(await together([self.acall(planned) for planned in approved]))
        return [refusal or next(answers) for refusal in refused]

    def refusal(self, planned: PlannedCall) -> ToolReturn | None:
        """Have a call approved, or return why it is not."""
        tool = self.tools[planned.call.name]
        try:
            with self.noted(planned), in_place(planned.place):
                tool.limits.approve(tool.name, planned.arguments)
        except ModelRetry as retry:
            return planned.refused(str(retry))
        return None

    async def arefusal(self, planned: PlannedCall) -> ToolReturn | None:
        """Do what `refusal` does."""
        tool = self.tools[planned.call.name]
        try:
            with self.noted(planned), in_place(planned.place):
                await tool.limits.aapprove(tool.name, planned.arguments)
        except ModelRetry as retry:
            return planned.refused(str(retry))
        return None

    def call(self, planned: PlannedCall) -> ToolReturn:
        """Call one tool that was approved; what it says to the model is an answer too."""
        try:
            with self.noted(planned), in_place(planned.place):
                return planned.answered(self.tools[planned.call.name].call(planned.arguments, approved=True))
        except ModelRetry as retry:
            return planned.refused(str(retry))

    async def acall(self, planned: PlannedCall) -> ToolReturn:
        """Do what `call` does."""
        try:
            with self.noted(planned), in_place(planned.place):
                return planned.answered(await self.tools[planned.call.name].acall(planned.arguments, approved=True))
        except ModelRetry as retry:
            return planned.refused(str(retry))

    def place(self, request: ModelRequest) -> _Place | None:
        """Return where this request is remembered, or only counted; None outside a run."""
        # Read for each request, not for each run: a stream may be made outside the step that consumes it.
        recording = RECORDING.get()
        if recording is None:
            return None
        asked = request_bytes(self.model.__agentflow_version__(), request) if self.cache else b""
        slot = recording.slot(asked, self.cache, self.model.name)
        self.slots.append(slot)
        return _Place(recording, attrs.evolve(slot, agent=self.name))

    @contextmanager
    def noted(self, planned: PlannedCall) -> Generator[None]:
        """Let an exception of a tool pass with a note of where it comes from, and count what agents spend in it."""
        with self.counted():
            try:
                yield
            except ModelRetry:
                raise
            except Exception as error:  # a tool is the user's code, and may raise anything
                error.add_note(f"agentflow: in tool {planned.call.name!r} of {self.agent}")
                raise

    @contextmanager
    def counted(self) -> Generator[None]:
        """Count what other agents spend in a block for this conversation too."""
        token = AROUND.set((*AROUND.get(), self.talk.spent))
        try:
            yield
        finally:
            AROUND.reset(token)


def in_place(place: str) -> AbstractContextManager[None]:
    """Count what is asked in a block in a place of its own in the run, if there is one."""
    recording = RECORDING.get()
    return nullcontext() if recording is None else recording.inside(place)


async def together(calls: Sequence[Coroutine[Any, Any, R]]) -> list[R]:
    """Await calls at once; when one fails the others are cancelled and waited for before its exception goes on."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # Not a TaskGroup: it would wrap the tool's own exception in a group.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
