"""What every decorated function is: an object that inspection takes for the function it was made of."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Coroutine
    from types import CodeType, CoroutineType

    from agentflow._signature import Shape

__all__ = ["Decorated"]

T = TypeVar("T")


class Decorated:
    """A function with more verbs.

    It carries `__code__`, `__defaults__` and `__kwdefaults__`, by which `inspect.iscoroutinefunction` and its siblings
    tell a function's colour, and a `__signature__` without the context.

    Args:
        name: What it is known by.
        shape: The function.
    """

    _decorator: ClassVar[str]

    __name__: str
    __qualname__: str
    __code__: CodeType
    __signature__: inspect.Signature

    def __init__(self, name: str, shape: Shape) -> None:
        fn = cast("Any", shape.fn)
        functools.update_wrapper(cast("Any", self), fn)
        self.__code__, self.__defaults__, self.__kwdefaults__ = fn.__code__, fn.__defaults__, fn.__kwdefaults__
        self.__signature__ = shape.signature
        self.fn: Callable[..., Any] = fn
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _named(self, coroutine: Coroutine[Any, Any, T]) -> CoroutineType[Any, Any, T]:
        """Let a coroutine say whose it is, since Python tells its name to who forgets to await it."""
        named = cast("CoroutineType[Any, Any, T]", coroutine)
        named.__name__, named.__qualname__ = self.__name__, self.__qualname__
        return named

    def __reduce__(self) -> str:
        # By name, as functions are: a process pool finds it again in its module, with whatever code stands there.
        return self.__qualname__

    def __set_name__(self, owner: type, name: str) -> None:
        raise UsageError(
            f"@{self._decorator} on the method {owner.__name__}.{name}: it decorates plain functions, "
            "so take it out of the class and pass what it needs of the object as arguments"
        )
