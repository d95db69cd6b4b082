"""An instance of the user's model whose fields are the keys of a session's state: each is loaded when it is read."""

from __future__ import annotations

import copy
import functools
import types
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import pydantic

__all__ = ["bound"]

M = TypeVar("M", bound="pydantic.BaseModel")

_STATE = "_agentflow_state"


class _Rows(Protocol):
    """What a state does for its model."""

    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def increment(self, key: str, by: float = 1) -> int | float: ...


def bound(model: type[M], state: _Rows) -> M:
    """Return an instance of a model whose fields are the keys of a state."""
    cls = cast("type[M]", _bound_class(model))
    instance = object.__new__(cls)
    # Past pydantic's own __setattr__: none of these is a field.
    object.__setattr__(instance, _STATE, state)
    object.__setattr__(instance, "__pydantic_fields_set__", set(model.model_fields))
    object.__setattr__(instance, "__pydantic_extra__", None)
    object.__setattr__(instance, "__pydantic_private__", None)
    return instance


@functools.lru_cache(maxsize=256)
def _bound_class(model: type[Any]) -> type[Any]:
    from agentflow.types import StateModel  # noqa: PLC0415 - loaded with it: only who has a typed state pays for it

    bases = (_BoundMethods, _Bound, model) if issubclass(model, StateModel) else (_Bound, model)
    names = {"__module__": model.__module__, "__qualname__": model.__qualname__, "__doc__": model.__doc__}
    # pydantic reads an instance by its `__dict__`: to print, compare, dump and copy it.
    return types.new_class(model.__name__, bases, exec_body=lambda body: body.update(names, __dict__=property(_fields)))


def _model_of(instance: object) -> Any:
    return type(instance).__bases__[-1]


def _fields(instance: Any) -> dict[str, Any]:
    state: _Rows = object.__getattribute__(instance, _STATE)
    return {name: state[name] for name in state}


class _Bound:
    """What is different in an instance that is bound to a state."""

    if not TYPE_CHECKING:  # a checker sees the user's model

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                return object.__getattribute__(self, _STATE)[name]
            return super().__getattr__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            object.__getattribute__(self, _STATE)[name] = value

        def __delattr__(self, name: str) -> None:
            del object.__getattribute__(self, _STATE)[name]

    def __eq__(self, other: object) -> bool:
        # Not pydantic's, for which instances of two classes are never equal: this one's class is not known outside.
        return isinstance(other, _model_of(self)) and _fields(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __agentflow_key__(self) -> object:
        """Return a plain instance, which is what it counts as in a step's arguments."""
        return self.__copy__()

    def __copy__(self) -> Any:
        """Return a plain instance with the same values."""
        return _model_of(self).model_construct(**_fields(self))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        """Return a plain instance with copies of the values."""
        return copy.deepcopy(self.__copy__(), memo)


class _BoundMethods:
    """What a `StateModel` declares, done by its state."""

    def increment(self, field: str, by: float = 1) -> int | float:
        """Add to a field that is a number."""
        state: _Rows = object.__getattribute__(self, _STATE)
        return state.increment(field, by)

    def save(self) -> None:
        """Keep what was changed inside values."""
        object.__getattribute__(self, _STATE).save()

    def transaction(self) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Read and change the state with nobody in between."""
        return object.__getattribute__(self, _STATE).typed_transaction()  # type: ignore[no-any-return]
