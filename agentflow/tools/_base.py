"""A typed function becomes a tool: what the model is told of it, the check of its arguments, and the call.

What a model writes reaches the function only through the check: strict types, no field too many, no evaluation.
A tool knows nothing of conversations and keeps nothing of a call, so it can be shared.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

import attrs

from agentflow.exceptions import UsageError
from agentflow.messages import ToolDefinition
from agentflow.tools._content import content_of
from agentflow.tools._docstrings import read_docstring
from agentflow.tools._limits import Limits, limits
from agentflow.tools._parameters import describe_parameters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import TypeAdapter

    from agentflow.tools._content import Content
    from agentflow.tools._limits import Approval
    from agentflow.types import Duration

__all__ = ["Tool", "make_tool", "tool"]

NO_LIMITS: Final = Limits()

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every provider accepts for the name of a tool."""


@attrs.frozen(eq=False, repr=False)
class Tool(Generic[P, R]):
    """A function that a model may call, made by `tool`; it can still be called as before.

    ```python
    from agentflow.tools import tool

    @tool
    def add(a: int, b: int) -> int:
        '''Add two numbers.'''
        return a + b

    assert add(1, 2) == 3
    assert add.name == "add"
    ```

    Attributes:
        fn: The function.
        definition: The tool as the model sees it: name, description and the JSON schema of its arguments.
    """

    fn: Callable[P, R]
    definition: ToolDefinition
    _adapter: TypeAdapter[dict[str, Any]]
    _signature: inspect.Signature
    _afn: Callable[..., Awaitable[object]] | None
    _source: object
    limits: Limits = NO_LIMITS
    _versions: dict[str, str] = attrs.field(init=False, factory=dict[str, str])

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name}{self._signature}>"

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.fn

    @property
    def name(self) -> str:
        """The name by which the model calls it."""
        return self.definition.name

    @property
    def description(self) -> str:
        """What the model is told that it is for."""
        return self.definition.description

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments."""
        return self.definition.parameters

    @property
    def only_async(self) -> bool:
        """Whether it can only be awaited, so that a sync run cannot call it."""
        return _is_async(self.fn)

    def read_arguments(self, text: str) -> dict[str, Any]:
        """Return the arguments that a model wrote as JSON, checked: types are strict and nothing may be added.

        Raises:
            ValidationError: If they do not fit the function.
        """
        # Some models write nothing at all for a tool without parameters.
        return self._adapter.validate_json(text.strip() or "{}", strict=True)

    def call(self, arguments: Mapping[str, Any], *, approved: bool = False) -> Content:
        """Call the function with arguments that were checked and return its answer as the model is told it.

        Raises:
            ModelRetry: If the function wants to speak to the model, was not approved, or took too long.
            UsageError: If it can only be awaited, or its answer cannot be written as JSON.
        """
        if self.only_async:
            self._refuse_sync()
        if not approved:
            self.limits.approve(self.name, arguments)
        answer = self.limits.run(self.name, lambda: self._invoke(arguments))
        if inspect.isawaitable(answer):
            _discard(answer)
            self._refuse_sync()
        return content_of(self.name, answer)

    async def acall(self, arguments: Mapping[str, Any], *, approved: bool = False) -> Content:
        """Do what `call` does; a sync function runs in a thread, with the context variables of the caller."""
        if not approved:
            await self.limits.aapprove(self.name, arguments)
        if self._afn is not None or self.only_async:
            return content_of(self.name, await self.limits.arun(self.name, lambda: self._awaited(arguments)))
        answer = await self.limits.arun_in_thread(self.name, lambda: self._invoke(arguments))
        return content_of(self.name, await answer if inspect.isawaitable(answer) else answer)

    async def _awaited(self, arguments: Mapping[str, Any]) -> object:
        if self._afn is None:
            answer = self._invoke(arguments)
            return await answer if inspect.isawaitable(answer) else answer
        bound = self._bind(arguments)
        return await self._afn(*bound.args, **bound.kwargs)

    def _invoke(self, arguments: Mapping[str, Any]) -> object:
        # Typed arguments come from the model, so the checker cannot see that they fit.
        function: Callable[..., object] = self.fn
        bound = self._bind(arguments)
        try:
            return function(*bound.args, **bound.kwargs)
        except StopIteration as error:
            # Neither a generator (PEP 479) nor a future can carry one: the latter would wait for ever.
            raise RuntimeError(f"tool {self.name!r} raised StopIteration") from error

    def _bind(self, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in self._signature.parameters.values()):
            arguments = {"arguments": dict(arguments)}  # a tool that a server describes takes what its schema names
        bound = inspect.BoundArguments(self._signature, cast("Any", dict(arguments)))
        # Positional-only parameters behind one that was left out cannot be passed without this.
        bound.apply_defaults()
        return bound

    def _refuse_sync(self) -> NoReturn:
        raise UsageError(
            f"tool {self.name!r} is async and cannot be called in a sync run: use arun() or astream(), "
            f"or give the agent a sync tool"
        )

    def __agentflow_version__(self) -> str:
        """Return a digest of the tool as the model sees it and of the code behind it."""
        source = _version_of(self._source)
        if source not in self._versions:
            self._versions.clear()  # code that has changed does not change back
            described = json.dumps([self.definition.model_dump_json(), source])
            self._versions[source] = hashlib.sha256(described.encode()).hexdigest()
        return self._versions[source]


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: Approval | None = None,
    timeout: Duration | None = None,
    max_concurrency: int | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


@overload
def tool(
    fn: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: Approval | None = None,
    timeout: Duration | None = None,
    max_concurrency: int | None = None,
) -> Tool[P, R]: ...


def tool(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: Approval | None = None,
    timeout: Duration | None = None,
    max_concurrency: int | None = None,
) -> Any:
    """Make a tool of a typed function: any colour but a generator, also a cached step or a bound method.

    The signature gives the schema, the docstring what the model reads: its text up to the first section describes the
    tool, its `Args:` the parameters. What the model writes is checked before the call; an argument that does not fit,
    as a `ModelRetry` raised inside, goes back to the model, which may try again.
    `Agent(tools=[...])` does the same with a bare function; the decorator is for giving a name or a description.

    ```python
    from agentflow.tools import tool

    @tool(name="weather")
    def look_up(city: str, days: int = 1) -> str:
        '''Tell the weather of the next days.'''
        return f"{days} sunny days in {city}"

    assert look_up.name == "weather"
    assert look_up.description == "Tell the weather of the next days."
    assert look_up.parameters["required"] == ["city"]
    ```

    Args:
        fn: The function.
        name: What the model calls it; by default the function's own name.
        description: What the model is told that it is for; by default from the docstring.
        needs_approval: Decides about each call before it is made, by the tool's name and its arguments: True lets it be made;
            False, or a reason, is told to the model. It is asked again when a run goes on.
        timeout: How long one call may take (seconds, or a `timedelta`); then the model is told so. A sync function
            is left alone in its thread.
        max_concurrency: How many calls are made at once in this process; others wait.

    Raises:
        UsageError: If a parameter has no type, cannot be described to a model, or is the context: call
            `current_context()` inside the tool instead. If an option cannot be what it is.
    """
    around = limits(needs_approval=needs_approval, timeout=timeout, max_concurrency=max_concurrency)

    def make(fn: Callable[..., Any]) -> Tool[..., Any]:
        made = make_tool(fn, name=name, description=description)
        return made if around == NO_LIMITS else attrs.evolve(made, limits=around)

    return make if fn is None else make(fn)


def make_tool(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    afn: Callable[..., Awaitable[object]] | None = None,
    source: object = None,
) -> Tool[..., Any]:
    """Make a tool of a function, or return it if it is one already.

    Args:
        fn: The function.
        name: Its name for the model.
        description: Its description for the model.
        afn: The same function as a coroutine, where there are both.
        source: What its version is counted by, if not the function.

    Raises:
        UsageError: If it cannot be one.
    """
    if isinstance(fn, Tool):
        return _renamed(cast("Tool[..., Any]", fn), name, description)
    bare = _bare(fn)
    name = _checked_name(name or bare.__name__)
    if inspect.isgeneratorfunction(bare) or inspect.isasyncgenfunction(bare):
        raise UsageError(f"tool {name!r} is a generator, and a model takes one whole answer: return the text instead")
    text, described = read_docstring(inspect.cleandoc(bare.__doc__ or ""))
    signature = inspect.signature(fn)
    adapter, schema = describe_parameters(name, signature, bare, described)
    definition = ToolDefinition(name=name, description=text if description is None else description, parameters=schema)
    return Tool(fn, definition, adapter, signature, afn, fn if source is None else source)


def _renamed(known: Tool[..., Any], name: str | None, description: str | None) -> Tool[..., Any]:
    """Return a tool under another name or description."""
    changes = {"name": name and _checked_name(name), "description": description}
    changes = {field: value for field, value in changes.items() if value is not None}
    return attrs.evolve(known, definition=known.definition.model_copy(update=changes)) if changes else known


def _checked_name(name: str) -> str:
    """Return a name that providers accept."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a tool: models accept up to 64 letters, digits, '_' and '-'. "
            f"Give one with tool(name=...)"
        )
    return name


def _bare(fn: Any) -> Any:
    """Return the plain function under a step, a partial, a bound method or an object with `__call__`."""
    while not inspect.isroutine(fn) or inspect.ismethod(fn):
        if not callable(fn) or isinstance(fn, type):
            raise UsageError(
                f"{fn!r} cannot be a tool: it is no function. Write one; an agent becomes one by .as_tool()"
            )
        if isinstance(fn, functools.partial):
            fn = cast("Any", fn).func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        else:
            fn = getattr(fn, "__wrapped__", None) or getattr(fn, "fn", None) or type(fn).__call__
    return fn


def _is_async(fn: Any) -> bool:
    """Whether calling it gives a coroutine, as far as one can see."""
    # An object's colour is that of its __call__, which inspect does not look at.
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def _discard(answer: object) -> None:
    """Close a coroutine that nobody will await, which else warns when it is collected."""
    if inspect.iscoroutine(answer):
        answer.close()


def _version_of(source: Any) -> str:
    """Return what stands for the code of a tool."""
    if version := getattr(source, "__agentflow_version__", None):
        return str(version())
    # Only here, because fingerprints read source code and most programs never ask for a version.
    from agentflow._fingerprint import function_digest  # noqa: PLC0415

    return function_digest(source)
