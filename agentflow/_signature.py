"""How a function wants to be called: its colour, whether it takes the context, and what its arguments are.

Knows nothing of runs, keys or stores.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from enum import Enum
from functools import cached_property
from inspect import Parameter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Colour", "Shape", "call_by_name", "colour_of"]


class Colour(Enum):
    """The four kinds of function, which are equals here."""

    PLAIN = "def"
    ASYNC = "async def"
    STREAM = "generator"
    ASYNC_STREAM = "async generator"


def colour_of(fn: Callable[..., Any]) -> Colour:
    """Return the colour of a function."""
    if inspect.isasyncgenfunction(fn):
        return Colour.ASYNC_STREAM
    if inspect.iscoroutinefunction(fn):
        return Colour.ASYNC
    return Colour.STREAM if inspect.isgeneratorfunction(fn) else Colour.PLAIN


def _is_context(parameter: Parameter) -> bool:
    if parameter.name == "ctx":
        return True
    annotation = parameter.annotation
    if isinstance(annotation, str):  # not resolved: it may name what is defined further down
        return annotation.partition("[")[0].rpartition(".")[2] == "Context"
    return hasattr(typing.get_origin(annotation) or annotation, _CONTEXT_MARK)


_CONTEXT_MARK: Final = "_agentflow_context"  # of the class, which is defined some floors above
_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class Shape:
    """A function as its decorator sees it.

    Attributes:
        fn: The function.
        colour: Its kind.
        takes_ctx: Whether its first parameter is the context.
        signature: Its signature as callers see it: without the context.
    """

    fn: Callable[..., Any]
    colour: Colour
    takes_ctx: bool
    signature: inspect.Signature
    _simple: tuple[tuple[str, Any], ...] | None

    @classmethod
    def of(cls, fn: object, *, what: str, ctx: bool | None = None) -> Shape:
        """Read a function's shape.

        Args:
            fn: What was decorated.
            what: The decorator, for messages.
            ctx: False if the first parameter is not the context whatever its name; True if it is; None to tell by name or annotation.

        Raises:
            UsageError: If it is no plain function, or an unnamed lambda.
        """
        if isinstance(fn, staticmethod | classmethod) or not isinstance(fn, FunctionType):
            raise UsageError(
                f"@{what} decorates plain functions, and {fn!r} is a {type(fn).__name__}: "
                f"put @{what} on a function at module level and call it from there"
            )
        holder, _, _ = fn.__qualname__.rpartition(".")
        if holder and not holder.endswith("<locals>"):
            raise UsageError(
                f"@{what} on the method {fn.__qualname__}: it decorates plain functions, "
                "so take it out of the class and pass what it needs of the object as arguments"
            )
        signature = inspect.signature(fn)
        parameters = list(signature.parameters.values())
        first = parameters[0] if parameters and parameters[0].kind in _POSITIONAL else None
        takes_ctx = first is not None and (_is_context(first) if ctx is None else ctx)
        if ctx and first is None:
            raise UsageError(
                f"@{what}(ctx=True) on {fn.__qualname__}, which has no first parameter to take the context"
            )
        if takes_ctx:
            parameters = parameters[1:]
        return cls(
            fn, colour_of(fn), takes_ctx, signature.replace(parameters=parameters), _simple_parameters(parameters)
        )

    @property
    def is_stream(self) -> bool:
        """Whether it yields."""
        return self.colour in (Colour.STREAM, Colour.ASYNC_STREAM)

    @property
    def is_async(self) -> bool:
        """Whether it runs on an event loop."""
        return self.colour in (Colour.ASYNC, Colour.ASYNC_STREAM)

    @cached_property
    def hints(self) -> Mapping[str, Any]:
        """The resolved annotations, with `Annotated` kept.

        An annotation that only a type checker can resolve (imported under `TYPE_CHECKING`) counts as none.
        """
        try:
            return typing.get_type_hints(self.fn, include_extras=True)
        except (NameError, TypeError, AttributeError):
            return dict(self._resolvable())

    def _resolvable(self) -> Iterator[tuple[str, Any]]:
        # One name that only a type checker can see does not take the other annotations with it.
        for name, annotation in self.fn.__annotations__.items():
            holder = type("annotation", (), {"__annotations__": {name: annotation}})
            with contextlib.suppress(NameError, TypeError, AttributeError):
                yield from typing.get_type_hints(holder, self.fn.__globals__, include_extras=True).items()

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by parameter name with defaults filled in.

        Raises:
            TypeError: As a plain call would, if they do not fit.
            UsageError: If the context is passed.
        """
        if self.takes_ctx and args and hasattr(args[0], _CONTEXT_MARK):
            raise UsageError(f"{self.fn.__qualname__}() gets its context from agentflow: call it without ctx")
        # The general way costs 5 us of a 10 us hit, so the common shape is bound by hand;
        # whatever does not fit goes the general way, which knows Python's own messages.
        if self._simple is not None and len(args) <= len(self._simple):
            bound = self._bind_simple(args, kwargs)
            if bound is not None:
                return bound
        if self.takes_ctx and "ctx" in kwargs and "ctx" not in self.signature.parameters:
            raise UsageError(f"{self.fn.__qualname__}() gets its context from agentflow: call it without ctx")
        try:
            bound_arguments = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            if any(hasattr(given, _CONTEXT_MARK) for given in (*args, *kwargs.values())):
                raise UsageError(
                    f"{self.fn.__qualname__}() takes no context: call it without, or make ctx its first parameter, which it is then given"
                ) from None
            raise TypeError(f"{self.fn.__qualname__}() {error}") from None
        bound_arguments.apply_defaults()
        return bound_arguments.arguments

    def _bind_simple(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        arguments: dict[str, Any] = {}
        taken = 0
        for position, (name, default) in enumerate(self._simple or ()):
            if position < len(args):
                if name in kwargs:
                    return None
                arguments[name] = args[position]
            elif name in kwargs:
                arguments[name] = kwargs[name]
                taken += 1
            elif default is Parameter.empty:
                return None
            else:
                arguments[name] = default
        return arguments if taken == len(kwargs) else None

    def spread(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return bound arguments as the positional and keyword arguments of the bare function, less the context."""
        if self._simple is not None:
            return [arguments[name] for name, _ in self._simple], {}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is Parameter.VAR_POSITIONAL:
                args.extend(arguments.get(name, ()))
            elif parameter.kind is Parameter.VAR_KEYWORD:
                kwargs.update(arguments.get(name, {}))
            elif parameter.kind is Parameter.KEYWORD_ONLY:
                kwargs[name] = arguments[name]
            else:
                args.append(arguments[name])
        return args, kwargs


def _simple_parameters(parameters: list[Parameter]) -> tuple[tuple[str, Any], ...] | None:
    if all(parameter.kind is Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters):
        return tuple((parameter.name, parameter.default) for parameter in parameters)
    return None


def call_by_name(fn: Callable[..., Any], arguments: Mapping[str, Any], *, what: str) -> Any:
    """Call a function with those of the arguments that it names.

    Raises:
        UsageError: If it names one that there is not.
    """
    parameters = inspect.signature(fn).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return fn(**arguments)
    chosen: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in arguments:
            chosen[parameter.name] = arguments[parameter.name]
        elif parameter.default is Parameter.empty:
            raise UsageError(f"{what} asks for {parameter.name!r}; the arguments are: {', '.join(arguments) or 'none'}")
    return fn(**chosen)
