"""A function whose results are remembered: called as before, in its own colour, with a few verbs more."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

import attrs

from agentflow._active_run import OUTSIDE, Home
from agentflow._body_state import BodyState
from agentflow._calls import StepCall, plain_transaction
from agentflow._context import Context
from agentflow._decorated import Decorated
from agentflow._drive import adrive, drive, in_thread
from agentflow._explain import explained
from agentflow._fingerprint import function_digest
from agentflow._frames import FRAME, Frame, current_frame
from agentflow._generators import AsyncSource, Source
from agentflow._interventions import INSTEAD
from agentflow._mapping import map_over
from agentflow._memo import StreamCodec
from agentflow._registry import learn_types, returns
from agentflow._serialization import codec_for
from agentflow._settings import default_store
from agentflow._shared_stream import decode_stream, stream_result
from agentflow._step_options import StepOptions, changed_spec
from agentflow._streams import aplay, context_of, play
from agentflow._tracebacks import without_our_frames
from agentflow._turns import later_turn
from agentflow._value_calls import value_call
from agentflow.exceptions import UsageError
from agentflow.stores._base import Store, Transaction
from agentflow.types import UNSET, Duration, Unset

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
    from types import CoroutineType

    from agentflow._explanation import Explanation
    from agentflow._retry import RetryPolicy
    from agentflow._step_spec import StepSpec

__all__ = [
    "AsyncStep",
    "AsyncStreamStep",
    "PlainStep",
    "Step",
    "StreamStep",
]

P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")


class Step(Decorated, Generic[P, T]):
    """A function decorated with `@cached_step`.

    It is called as the function is, less the context, and keeps its colour: `inspect.iscoroutinefunction` and
    `inspect.isgeneratorfunction` tell the truth. `.fn` is the bare function.
    """

    _decorator = "cached_step"

    def __init__(self, spec: StepSpec, options: StepOptions) -> None:
        super().__init__(spec.name, spec.shape)
        self._spec = spec
        self._options = options

    def __agentflow_version__(self) -> str:
        """Return what a step that calls this one counts it by."""
        return function_digest(self.fn) if self._spec.version is None else self._spec.version_text

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook shows: how its results are remembered, and the newest of them."""
        from agentflow._cards import bundle  # noqa: PLC0415 - only notebooks need them
        from agentflow._pictures import step_card  # noqa: PLC0415 - as above

        return bundle(step_card(self._spec, self._options.store or default_store()))

    # Verbs

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is remembered here; `""` if it is nowhere.

        Raises:
            UnkeyableArgument: If an argument cannot be part of a key.
        """
        return self._call(args, kwargs).key

    def is_cached(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether this call would be a hit here and now."""
        call = self._call(args, kwargs)
        return bool(call.key) and call.look(self._decode) is not None

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Return whether this call would be a hit here and now, and why: of a miss, what sets it apart from the nearest remembered call.

        Nothing is executed, waited for or changed, whatever the step's colour. It may be asked in any process that can open the store.

        ```python
        from agentflow import cached_step

        @cached_step
        def translate(text: str, language: str = "fr") -> str:
            return f"{text} in {language}"

        translate("hello")
        assert translate.explain("hello").hit

        miss = translate.explain("hello", language="it")
        assert miss.why == "differs"
        assert str(miss.differences[0]) == "argument language: 'it' here, 'fr' there"
        ```

        Raises:
            UnkeyableArgument: If an argument cannot be part of a key.
        """
        return explained(self._call(args, kwargs), self._decode)

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Forget the remembered result of this call; return how many there were, 0 or 1."""
        call = self._call(args, kwargs)
        if not call.key or call.home.store.read(call.key) is None:
            return 0
        call.home.store.commit(Transaction(forget=(call.key,)))
        return 1

    def seed(self, value: T, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Remember a value as the result of this call, as if it had been executed; for a streamed step, the list of its items.

        Raises:
            UsageError: If the call is remembered nowhere: a step of scope `"run"` outside a run.
            UnserializableValue: If the value cannot be stored.
        """
        call = self._call(args, kwargs)
        if not call.key:
            raise UsageError(f"step {self.name!r} remembers nothing outside a run, so there is nothing to seed")
        entry = call.entry(self._encode(value))
        call.home.store.commit(Transaction(entries=(entry,)))

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result, whatever the colour: a sync step runs in a thread, a streamed one is consumed to its end."""
        raise NotImplementedError  # pragma: no cover - the four colours below say

    def map(
        self, *iterables: Iterable[Any], max_concurrency: int | None = None, return_exceptions: bool = False
    ) -> Any:
        """Call the step for each item at once: `ctx.map` with this step."""
        frame = self._caller()[0]
        return map_over(
            frame,
            cast("Callable[..., Any]", self),
            iterables,
            max_concurrency=max_concurrency,
            return_exceptions=return_exceptions,
        )

    async def amap(
        self, *iterables: Iterable[Any], max_concurrency: int | None = None, return_exceptions: bool = False
    ) -> list[T]:
        """Await the step for each item at once, whatever its colour."""
        frame = self._caller()[0]
        found = map_over(
            frame, self.acall, iterables, max_concurrency=max_concurrency, return_exceptions=return_exceptions
        )
        return await cast("Awaitable[list[T]]", found)

    def with_options(  # noqa: PLR0913 - one parameter for each option
        self,
        *,
        session_id: str | None = None,
        workflow: str | None = None,
        refresh: bool | None = None,
        store: str | os.PathLike[str] | Store | None = None,
        ttl: Duration | Unset | None = UNSET,
        retry: int | RetryPolicy | Unset | None = UNSET,
        timeout: Duration | Unset | None = UNSET,
        max_concurrency: int | Unset | None = UNSET,
    ) -> Self:
        """Return the same step with other options; what is not named stays.

        ```python
        from agentflow import cached_step

        @cached_step
        def area(radius: int) -> int:
            return 3 * radius**2

        assert area.with_options(session_id="maths", refresh=True)(2) == 12
        ```

        Args:
            session_id: Whose memory to use, instead of the caller's session.
            workflow: Of which workflow, instead of the caller's.
            refresh: Run again what would have been a hit.
            store: Which store to use.
            ttl: As of `cached_step`.
            retry: As of `cached_step`.
            timeout: As of `cached_step`.
            max_concurrency: As of `cached_step`; counted apart from the step it is made of.

        Raises:
            UsageError: If an option cannot be what it is.
        """
        options = self._options.changed(session_id, workflow, store, refresh)
        spec = changed_spec(self._spec, ttl=ttl, retry=retry, timeout=timeout, max_concurrency=max_concurrency)
        return type(self)(spec, options)

    # Shared by the colours

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepCall:
        try:
            return self._call_bound(self._spec.shape.bind(args, kwargs))
        except UsageError as error:
            raise without_our_frames(error)  # noqa: B904 - the same error, not one that it has caused

    def _call_bound(self, arguments: dict[str, Any]) -> StepCall:
        learn_types()
        caller, home = self._caller()
        return StepCall(self._spec, caller, home, arguments, refresh=self._options.refresh)

    def _caller(self) -> tuple[Frame, Home]:
        options = self._options
        if options.session_id is None and options.workflow is None and options.store is None:
            frame = current_frame(f"step {self.name!r}")
            return (frame, frame.home) if frame else _outside(Home(default_store(), OUTSIDE, "default"))
        return self._elsewhere(options)

    def _elsewhere(self, options: StepOptions) -> tuple[Frame, Home]:
        frame = FRAME.get()
        near = frame.home if frame else Home(options.store or default_store(), OUTSIDE, "default")
        home = Home(
            options.store or near.store,
            near.workflow if options.workflow is None else options.workflow,
            near.session_id if options.session_id is None else options.session_id,
        )
        if frame is None:
            return _outside(home)
        frame.check()
        same_store = home.store.identity == near.store.identity
        if same_store and home == near:
            return frame, home
        state = BodyState(home, plain_transaction, frame.check)
        return attrs.evolve(frame, home=home, state=state, run=frame.run if same_store else None), home

    def _arguments(self, call: StepCall, frame: Frame) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = self._spec.shape.spread(call.arguments)
        return ([Context(frame), *args] if self._spec.shape.takes_ctx else args), kwargs

    @property
    def _function(self) -> Callable[..., Any]:
        return self.fn if not INSTEAD or self.name not in INSTEAD else INSTEAD[self.name].fn

    @functools.cached_property
    def _codec(self) -> Any:
        gives = returns(self._spec.shape)
        value = codec_for(gives.value)
        return StreamCodec(codec_for(gives.item), value) if self._spec.shape.is_stream else value

    def _decode(self, body: bytes) -> Any:
        codec = self._codec
        return decode_stream(codec, body) if isinstance(codec, StreamCodec) else codec.loads(body)

    def _encode(self, value: Any) -> bytes:
        codec, owner = self._codec, f"the result of step {self.name!r}"
        if not isinstance(codec, StreamCodec):
            return cast("bytes", codec.dumps(value, owner=owner))
        if not isinstance(value, list):
            raise UsageError(
                f"step {self.name!r} yields: seed it with the list of its items, not {type(value).__name__}"
            )
        return codec.dumps([codec.items.dumps(item, owner=owner) for item in value], None, owner=owner)


def _outside(home: Home) -> tuple[Frame, Home]:
    return Frame(home, BodyState(home, plain_transaction, _no_boundary), place="outside"), home


def _no_boundary() -> None:
    """Outside a run nothing is ever revoked."""


class PlainStep(Step[P, T]):
    """A step that is a `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result, remembered or new."""
        call = self._call(args, kwargs)
        return cast("T", drive(value_call(call, self._codec, functools.partial(self._attempt, call))))

    def _attempt(self, call: StepCall, frame: Frame) -> Any:
        args, kwargs = self._arguments(call, frame)
        try:
            with frame.entered():
                return self._function(*args, **kwargs)
        finally:
            frame.token.end()

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result; the step runs in a thread."""
        return await in_thread(lambda: self(*args, **kwargs))


class AsyncStep(Step[P, T]):
    """A step that is an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, T]:
        """Await the result, remembered or new."""
        return self._named(self._awaited(args, kwargs))

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        if later := later_turn():
            await later
        call = self._call(args, kwargs)
        return cast("T", await adrive(value_call(call, self._codec, functools.partial(self._attempt, call))))

    async def _attempt(self, call: StepCall, frame: Frame) -> Any:
        args, kwargs = self._arguments(call, frame)
        try:
            with frame.entered():
                return await self._function(*args, **kwargs)
        finally:
            frame.token.end()

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result."""
        return await self(*args, **kwargs)


class StreamStep(Step[P, T], Generic[P, Y, T]):
    """A step that is a generator function: its items are seen as they come, and again on a hit."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Generator[Y, None, T]:
        """Return the stream, remembered or new."""
        call = self._call(args, kwargs)
        return play(call, self._codec, functools.partial(self._open, call))

    def _open(self, call: StepCall, frame: Frame) -> Source:
        args, kwargs = self._arguments(call, frame)
        return Source(self._function(*args, **kwargs), context_of(frame), frame.token.end)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await what the finished stream gives; it is consumed in a thread."""
        return await in_thread(lambda: cast("T", _drained(self(*args, **kwargs))))


class AsyncStreamStep(Step[P, list[Y]], Generic[P, Y]):
    """A step that is an async generator function: its items are seen as they come, and again on a hit."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, None]:
        """Return the stream, remembered or new."""
        call = self._call(args, kwargs)
        return aplay(call, self._codec, functools.partial(self._open, call))

    def _open(self, call: StepCall, frame: Frame) -> AsyncSource:
        args, kwargs = self._arguments(call, frame)
        return AsyncSource(self._function(*args, **kwargs), context_of(frame), frame.token.end)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> list[Y]:
        """Await what the finished stream gives: its items, joined if all are text."""
        return cast("list[Y]", stream_result([item async for item in self(*args, **kwargs)], None))


def _drained(stream: Generator[Any, None, Any]) -> Any:
    items = []
    while True:
        try:
            items.append(next(stream))
        except StopIteration as stop:
            return stream_result(items, stop.value)
