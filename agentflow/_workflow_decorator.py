"""`@workflow`: reads a function and its options, and makes the workflow of the function's colour."""

# mypy: disable-error-code="overload-overlap"
# An async generator function is also a function that returns something: the overloads overlap on purpose, from narrow to wide.

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast, overload

from agentflow._budget import checked_budget
from agentflow._cached_step import check_options, ignored
from agentflow._loading import note_workflow
from agentflow._options import function, whole, yes_or_no
from agentflow._registry import claim_name
from agentflow._retry import seconds
from agentflow._run import Continuation
from agentflow._signature import Colour, Shape
from agentflow._state_values import ModelValues
from agentflow._workflow import Workflow, WorkflowOptions
from agentflow._workflow_colours import (
    AsyncStreamWorkflow,
    AsyncWorkflow,
    PlainWorkflow,
    StreamWorkflow,
)
from agentflow._workflow_spec import WorkflowSpec
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence

    from pydantic import BaseModel

    from agentflow._budget import Budget
    from agentflow._context import Context
    from agentflow.types import Duration

__all__ = ["workflow"]

P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")

_CLASSES: Final[dict[Colour, type[Workflow[Any, Any]]]] = {
    Colour.PLAIN: PlainWorkflow,
    Colour.ASYNC: AsyncWorkflow,
    Colour.STREAM: StreamWorkflow,
    Colour.ASYNC_STREAM: AsyncStreamWorkflow,
}
_HALF_A_DAY: Final = timedelta(hours=12)


class _WorkflowDecorator(Protocol):
    """The type of `workflow`, bare or with options: gives each colour its class, and takes the context off the signature."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context[Any], P], AsyncIterator[Y]], /
    ) -> AsyncStreamWorkflow[P, Y]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context[Any], P], Generator[Y, Any, T]], /
    ) -> StreamWorkflow[P, Y, T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Iterator[Y]], /) -> StreamWorkflow[P, Y, Any]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, T]], /
    ) -> AsyncWorkflow[P, T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], T], /) -> PlainWorkflow[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, AsyncIterator[Y]], /) -> AsyncStreamWorkflow[P, Y]: ...
    @overload
    def __call__(self, fn: Callable[P, Generator[Y, Any, T]], /) -> StreamWorkflow[P, Y, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Iterator[Y]], /) -> StreamWorkflow[P, Y, Any]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncWorkflow[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> PlainWorkflow[P, T]: ...
    @overload
    def __call__(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        session: str | Callable[..., str] | None = None,
        state: type[BaseModel] | None = None,
        ignore: str | Sequence[str] = (),
        key: Callable[..., object] | None = None,
        ctx: bool | None = None,
        budget: Budget | None = None,
        resume_within: Duration | None = ...,
        max_attempts: int = 5,
        description: str | None = None,
    ) -> _WorkflowDecorator: ...


def _workflow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function the entry point of a durable program.

    A call is a run in a session. What its steps return, and what it sets in `ctx.state`, is kept as it goes; if it dies, the same call
    continues the run and repeats no finished step. The code outside its steps, the body, runs again: what must happen once belongs in a step.

    ```python
    from agentflow import Context, cached_step, workflow

    @cached_step
    def search(topic: str) -> list[str]:
        return [f"a page about {topic}"]

    @workflow(session=lambda topic: topic.lower())
    def report(ctx: Context, topic: str) -> str:
        pages = search(topic)
        ctx.state["seen"] = len(pages)
        return ", ".join(pages)

    assert report("Cats") == "a page about Cats"
    assert report.session("cats").state["seen"] == 1
    ```

    Args:
        fn: The function, when the decorator is used bare.
        **options: `name`: what it is known by; module and qualified name if not given.
            `session`: the session's id, or a function of those arguments that it names.
            `state`: a pydantic model whose fields are the keys of the state; then `ctx.state` is one, typed by `Context[Model]`.
                Each field needs a default. Derive it from `agentflow.types.StateModel` for increments and transactions.
            `ignore`: parameters that do not tell calls apart, such as clients; `Annotated[T, NoKey]` says the same.
            `key`: a function of the arguments that tells calls apart.
            `ctx`: False if the first parameter is not the context although it looks like it.
            `budget`: what a run may spend, see `Budget`.
            `resume_within`: how old an unfinished run may be that a call continues; None: none is. Twelve hours if not given.
            `max_attempts`: how often one run is tried; the call after that begins a new one.
            `description`: for people; the first paragraph of the docstring if not given.

    Raises:
        UsageError: If the function or an option cannot be what it is.
        NameConflict: If another function has the name.
    """
    check_options("workflow", _maker, options)
    make = _maker(**options)
    return make if fn is None else make(fn)


workflow: Final = cast("_WorkflowDecorator", _workflow)


def _maker(  # noqa: PLR0913 - one parameter for each option of the decorator
    *,
    name: str | None = None,
    session: str | Callable[..., str] | None = None,
    state: type[BaseModel] | None = None,
    ignore: str | Sequence[str] = (),
    key: Callable[..., object] | None = None,
    ctx: bool | None = None,
    budget: Budget | None = None,
    resume_within: Duration | None = _HALF_A_DAY,
    max_attempts: int = 5,
    description: str | None = None,
) -> Callable[[Callable[..., Any]], Workflow[Any, Any]]:
    if not (session is None or isinstance(session, str) or callable(session)):
        raise UsageError(f"session={session!r}: write an id, or a function of the workflow's arguments that gives one")
    whole(max_attempts, "max_attempts")
    if key is not None:
        function(key, "key")
    if ctx is not None:
        yes_or_no(ctx, "ctx")
    values = None if state is None else ModelValues(state)
    checked_budget(budget)
    within = None if resume_within is None else seconds(resume_within, what="resume_within")

    def decorate(fn: Callable[..., Any]) -> Workflow[Any, Any]:
        shape = Shape.of(fn, what="workflow", ctx=ctx)
        spec = WorkflowSpec(
            shape=shape,
            session=session,
            ignore=ignored(shape, ignore, "workflow"),
            key=key,
            continuation=Continuation(within, max_attempts),
            description=_first_paragraph(fn) if description is None else description,
            values=values,
            budget=budget,
            name=claim_name("workflow", name, shape),  # last: what is refused claims none
        )
        made = _CLASSES[shape.colour](spec, WorkflowOptions())
        note_workflow(made.loaded())
        return made

    return decorate


def _first_paragraph(fn: Callable[..., Any]) -> str:
    return " ".join((fn.__doc__ or "").strip().partition("\n\n")[0].split())
