"""`@cached_step`: reads a function and its options, and makes the step of the function's colour."""

# mypy: disable-error-code="overload-overlap"
# An async generator function is also a function that returns something: the overloads overlap on purpose, from narrow to wide.

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast, overload

from agentflow._fingerprint import CodeVersion
from agentflow._keys import not_keyed
from agentflow._options import function, several, yes_or_no
from agentflow._registry import claim_name
from agentflow._retry import RetryPolicy, retry_policy, seconds
from agentflow._signature import Colour, Shape
from agentflow._step import AsyncStep, AsyncStreamStep, PlainStep, Step, StreamStep
from agentflow._step_options import StepOptions, limiter_of
from agentflow._step_spec import StepSpec
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence

    from agentflow._context import Context
    from agentflow.types import Duration, Scope

__all__ = ["cached_step", "check_options", "ignored", "names"]

P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")

_CLASSES: Final[dict[Colour, type[Step[Any, Any]]]] = {
    Colour.PLAIN: PlainStep,
    Colour.ASYNC: AsyncStep,
    Colour.STREAM: StreamStep,
    Colour.ASYNC_STREAM: AsyncStreamStep,
}


class _CachedStep(Protocol):
    """The type of `cached_step`, bare or with options: gives each colour its class, and takes the context off the signature."""

    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], AsyncIterator[Y]], /) -> AsyncStreamStep[P, Y]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Generator[Y, Any, T]], /) -> StreamStep[P, Y, T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Iterator[Y]], /) -> StreamStep[P, Y, Any]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, T]], /) -> AsyncStep[P, T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], T], /) -> PlainStep[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, AsyncIterator[Y]], /) -> AsyncStreamStep[P, Y]: ...
    @overload
    def __call__(self, fn: Callable[P, Generator[Y, Any, T]], /) -> StreamStep[P, Y, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Iterator[Y]], /) -> StreamStep[P, Y, Any]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncStep[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> PlainStep[P, T]: ...
    @overload
    def __call__(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        scope: Scope = "session",
        version: str = "auto",
        key: Callable[..., object] | None = None,
        ignore: str | Sequence[str] = (),
        reads: str | Sequence[str] = (),
        ttl: Duration | None = None,
        cache_if: Callable[[Any], bool] | None = None,
        retry: int | RetryPolicy | None = None,
        timeout: Duration | None = None,
        max_concurrency: int | None = None,
        ctx: bool | None = None,
        tags: str | Sequence[str] = (),
    ) -> _CachedStep: ...


def _cached_step(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Remember the results of a function: a call that was answered before is answered from the store.

    A call is recognised by its session, the step, the code that it runs and its arguments, never by when or in which order it is made.
    Its result is on disk before the call returns. `None`, `0` and `""` are results; exceptions are never remembered.
    A generator's items and its `return` value are both remembered, once it is exhausted.
    The same call made at once by threads, tasks or processes is executed once.

    A step without arguments is remembered for ever in its session: give a nightly job the date, or a `ttl`.
    What a step does outside the store may happen again if its process dies at the wrong moment: hand `ctx.idempotency_key` on.

    ```python
    from agentflow import cached_step

    calls = []

    @cached_step
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert double(21) == double(number=21) == 42
    assert calls == [21]
    ```

    Args:
        fn: The function, when the decorator is used bare.
        **options: `name`: what it is known by; module and qualified name if not given.
            `scope`: `"session"` of the calling workflow, `"run"` (once per run, whatever happens to the code), or `"global"` (everybody).
            `version`: `"auto"`, a fingerprint of the code and of what it uses; or a text of your own, which pins it.
            `key`: a function of the arguments that gives the key itself.
            `ignore`: parameters that are not part of the key, such as clients; `Annotated[T, NoKey]` says the same.
            `reads`: keys of `ctx.state` whose values are part of the key.
            `ttl`: for how long a result is good, from its completion.
            `cache_if`: called with the result; it is remembered only if that gives true. For a stream: with what it returns, else its items.
            `retry`: attempts in all, or a `RetryPolicy`.
            `timeout`: limit of a whole call, waiting and retries included.
            `max_concurrency`: so many executions at once in this process; hits do not queue.
            `ctx`: False if the first parameter is not the context although it looks like it.
            `tags`: names to find its results by.

    Raises:
        UsageError: If the function or an option cannot be what it is.
        NameConflict: If another function has the name.
    """
    check_options("cached_step", _maker, options)
    step = _maker(**options)
    return step if fn is None else step(fn)


cached_step: Final = cast("_CachedStep", _cached_step)


def _maker(  # noqa: PLR0913 - one parameter for each option of the decorator
    *,
    name: str | None = None,
    scope: Scope = "session",
    version: str = "auto",
    key: Callable[..., object] | None = None,
    ignore: str | Sequence[str] = (),
    reads: str | Sequence[str] = (),
    ttl: Duration | None = None,
    cache_if: Callable[[Any], bool] | None = None,
    retry: int | RetryPolicy | None = None,
    timeout: Duration | None = None,
    max_concurrency: int | None = None,
    ctx: bool | None = None,
    tags: str | Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Step[Any, Any]]:
    _check_choices(scope, version, ctx)
    _check_functions(key=key, cache_if=cache_if)
    told = functools.partial(
        StepSpec,
        scope=scope,
        key=key,
        reads=names(reads, "reads"),
        ttl=None if ttl is None else seconds(ttl, what="ttl"),
        cache_if=cache_if,
        retry=retry_policy(retry),
        timeout=None if timeout is None else seconds(timeout, what="timeout"),
        tags=tuple(sorted(names(tags, "tags"))),
    )

    def decorate(fn: Callable[..., Any]) -> Step[Any, Any]:
        shape = _shape_of(fn, scope, ctx)
        spec = told(
            shape=shape,
            version=_version(version, scope, shape),
            ignore=ignored(shape, ignore, "cached_step"),
            limiter=limiter_of(max_concurrency),
            name=claim_name("cached_step", name, shape),  # last: what is refused claims none
        )
        return _CLASSES[shape.colour](spec, StepOptions())

    return decorate


def _check_choices(scope: object, version: object, ctx: object) -> None:
    if scope not in ("run", "session", "global"):
        raise UsageError(f'scope={scope!r}: write "run", "session" or "global"')
    if not isinstance(version, str):
        raise UsageError(f'version={version!r}: write "auto", or a text of your own such as "2"')
    if ctx is not None:
        yes_or_no(ctx, "ctx")


def _check_functions(**given: object) -> None:
    for option, value in given.items():
        if value is not None:
            function(value, option)


def _shape_of(fn: Callable[..., Any], scope: Scope, ctx: bool | None) -> Shape:  # noqa: FBT001 - an option, None to tell by the name
    shape = Shape.of(fn, what="cached_step", ctx=ctx)
    if scope == "global" and shape.takes_ctx:
        raise UsageError(
            f"step {shape.fn.__qualname__!r} has scope 'global', so its results are everybody's, and takes the context "
            "of one session: drop the context, or the scope"
        )
    return shape


def check_options(decorator: str, maker: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options that a decorator does not have.

    Raises:
        UsageError: If there is one.
    """
    known = inspect.signature(maker).parameters
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"@{decorator} has no option {', '.join(unknown)}; it has: {', '.join(known)}")


def _version(version: str, scope: Scope, shape: Shape) -> CodeVersion | str | None:
    if version != "auto":
        return version
    return None if scope == "run" else CodeVersion(shape.fn)


def names(given: str | Sequence[str], option: str) -> frozenset[str]:
    """Return the names that an option gives: one, or several.

    Raises:
        UsageError: If it gives something else.
    """
    found = frozenset([given] if isinstance(given, str) else several(given, option, "a name or several names"))
    if not all(isinstance(name, str) for name in found):
        raise UsageError(f"{option}={given!r}: write a name or several names")
    return found


def ignored(shape: Shape, ignore: str | Sequence[str], what: str) -> frozenset[str]:
    """Return the parameters that are not part of a key.

    Raises:
        UsageError: If there is no parameter of that name.
    """
    listed = names(ignore, "ignore")
    parameters = shape.signature.parameters
    if unknown := listed - set(parameters):
        raise UsageError(
            f"@{what}(ignore={sorted(unknown)}) on {shape.fn.__qualname__}, whose parameters are: {', '.join(parameters) or 'none'}"
        )
    return listed | _marked(shape)


def _marked(shape: Shape) -> frozenset[str]:
    parameters = shape.signature.parameters.items()
    return frozenset(name for name, parameter in parameters if _is_marked(parameter.annotation))


def _is_marked(annotation: object) -> bool:
    # A text is not resolved: it may name what is defined further down, or what only a type checker imports.
    if isinstance(annotation, str):
        return re.search(r"\bNoKey\b", annotation) is not None
    return annotation is not inspect.Parameter.empty and not_keyed(annotation)
