"""Agents: a model with instructions, tools and an output type, as an immutable value.

What to do next in a run is decided in `_conversation` and done in `_agent_driver`; here is what a run goes by.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import attrs

from agentflow import models
from agentflow._agent_driver import AnyDriver, Driver, Memory
from agentflow._conversation import OUTPUT_TOOL, AgentResult, Conversation, Terms
from agentflow._history import SUMMARIZE, History
from agentflow._instructions import form_for, points, system_prompt
from agentflow._model_overrides import model_in_force, overridden, replaced_everywhere
from agentflow._options import several, text, whole, yes_or_no
from agentflow._output import Output
from agentflow._text_streams import AsyncTextStream, TextStream
from agentflow.exceptions import UsageError
from agentflow.messages import ModelSettings, UserMessage
from agentflow.tools._base import Tool, make_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from typing_extensions import Unpack

    from agentflow._agent_options import AgentChanges, AgentOptions
    from agentflow.models import Model
    from agentflow.types import Scope

__all__ = [
    "Agent",
    "AgentResult",
    "AsyncTextStream",
    "History",
    "TextStream",
    "check_agent",
    "overridden",
    "replaced_everywhere",
]

T = TypeVar("T")
U = TypeVar("U")

_MOST_VERSIONS: Final = 64
"""So many versions of one agent are remembered: it has another one with each model that tests put in force."""


def _read_output_type(agent: Agent[T]) -> Output[T]:
    """Return the output type of a new agent as it is used."""
    return Output[T].of(agent.output_type)


@attrs.frozen(init=False, eq=False, repr=False)
class Agent(Generic[T]):
    """A model with instructions, tools and an output type: an immutable value, safe to share.

    Nothing of a run is kept on it, so one agent serves any number of threads and tasks at once.
    Inside a run of a workflow, every model request is remembered and not paid twice (see `cache`). Tools are not: when
    a run goes on, they are called again, and an answer that differs makes another request. A tool that is a cached step
    gives the same answer without being run.

    ```python
    from pydantic import BaseModel

    from agentflow import Agent
    from agentflow.testing import ScriptedModel

    class City(BaseModel):
        name: str
        country: str

    agent = Agent(ScriptedModel(['{"name": "Paris", "country": "France"}']), output_type=City)
    assert agent.run("Where is the Eiffel tower?").output == City(name="Paris", country="France")
    ```

    Args:
        model: A model, or its name such as `"openai:gpt-4o-mini"`, which is resolved at the first use.
        name: How messages, and other agents that use it as a tool, call it.
        description: Who the model is; comes before the instructions.
        instructions: What to do: a text, or a list of points.
        expected_output: What a good answer looks like.
        markdown: Whether text is asked for as Markdown; without effect on other output types.
        tools: Typed functions that the model may call; see `agentflow.tools.tool`.
        output_type: What `AgentResult.output` is: any type that pydantic can describe. `str` takes the answer as it is.
        output_retries: How often an answer that does not fit the output type goes back to the model.
        max_turns: How many answers the model may give in one run, corrections and calls of tools included.
        history: Whether it remembers its conversation in the session: True, or `History` for how much of it. It needs a `name`;
            a turn is added once in a run, when it is complete. Two turns of one agent in one session do not go on at once.
        settings: Options of every request.
        cache: How far answers are shared inside runs: `"run"` replays them when a run goes on after a crash, `"session"`
            and `"global"` also in other runs, None not at all.

    Raises:
        UsageError: If an option cannot work; the message says which and what to write.
    """

    model: str | Model
    name: str | None
    description: str | None
    instructions: str | tuple[str, ...] | None
    expected_output: str | None
    markdown: bool
    tools: tuple[Tool[..., Any], ...]
    output_type: Any
    output_retries: int
    max_turns: int
    history: History | None
    settings: ModelSettings | None
    cache: Scope | None
    _output: Output[T] = attrs.field(init=False, default=attrs.Factory(_read_output_type, takes_self=True))
    _resolved: dict[str, Model] = attrs.field(init=False, factory=dict[str, models.Model])
    _versions: dict[tuple[str, ...], str] = attrs.field(init=False, factory=dict[tuple[str, ...], str])

    @overload
    def __init__(self: Agent[str], model: str | Model, **options: Unpack[AgentOptions]) -> None: ...
    @overload
    def __init__(
        self: Agent[U], model: str | Model, *, output_type: type[U], **options: Unpack[AgentOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[Any], model: str | Model, *, output_type: Any, **options: Unpack[AgentOptions]
    ) -> None: ...
    def __init__(  # noqa: PLR0913 - the options of an agent, each with one meaning
        self,
        model: str | Model,
        *,
        name: str | None = None,
        description: str | None = None,
        instructions: str | Sequence[str] | None = None,
        expected_output: str | None = None,
        markdown: bool = False,
        tools: Sequence[Callable[..., Any]] = (),
        output_type: Any = str,
        output_retries: int = 1,
        max_turns: int = 20,
        history: bool | History | None = False,
        settings: ModelSettings | None = None,
        cache: Scope | None = "run",
    ) -> None:
        # attrs makes this method where a class writes its own __init__; only mypy knows.
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            model=model,
            name=name,
            description=description,
            instructions=points(instructions),
            expected_output=expected_output,
            markdown=markdown,
            tools=tuple(make_tool(each) for each in several(tools, "tools", "a list of functions")),
            output_type=output_type,
            output_retries=output_retries,
            max_turns=max_turns,
            history=History() if history is True else history or None,
            settings=settings,
            cache=cache,
        )
        check_agent(self)

    def __repr__(self) -> str:
        model = self.model if isinstance(self.model, str) else self.model.name
        return f"Agent({model!r})" if self.name is None else f"Agent({model!r}, name={self.name!r})"

    def run(self, prompt: str | UserMessage) -> AgentResult[T]:
        """Answer a prompt: ask the model, call tools as it wants, until it is done.

        An exception of a tool passes through unchanged, with a note that names the tool.

        ```python
        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        assert Agent(ScriptedModel(["Hello!"])).run("Say hello").output == "Hello!"
        ```

        Args:
            prompt: What to answer; `UserMessage.of("What is this?", ImagePart.from_path("cat.png"))` where it is more than text.

        Raises:
            UsageError: If a tool is async.
            ModelError: If the model fails, or answers with something that cannot be used.
        """
        driver = self.driver(prompt, sync=True)
        stream = TextStream(driver.talk, driver.converse(whole=True))
        for _ in stream:
            pass
        return stream.result

    async def arun(self, prompt: str | UserMessage) -> AgentResult[T]:
        """Do what `run` does without blocking: calls of one turn run at once, sync tools in threads.

        ```python
        import asyncio

        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        assert asyncio.run(Agent(ScriptedModel(["Hello!"])).arun("Say hello")).output == "Hello!"
        ```

        Raises:
            ModelError: If the model fails, or answers with something that cannot be used.
        """
        driver = self.driver(prompt, sync=False)
        async with AsyncTextStream(driver.talk, driver.aconverse(whole=True)) as stream:
            async for _ in stream:
                pass
        return stream.result

    def stream(self, prompt: str | UserMessage) -> TextStream[T]:
        """Do what `run` does and yield the model's text as it comes, also what it says beside calls of tools.

        Inside a generator, `(yield from agent.stream(prompt)).output` passes the text on and gives the result.

        ```python
        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        stream = Agent(ScriptedModel(["Hello!"])).stream("Say hello")
        assert "".join(stream) == "Hello!"
        assert stream.result.output == "Hello!"
        ```

        Raises:
            UsageError: If a tool is async.
        """
        driver = self.driver(prompt, sync=True)
        return TextStream(driver.talk, driver.converse(whole=False))

    def astream(self, prompt: str | UserMessage) -> AsyncTextStream[T]:
        """Do what `stream` does, with `async for`; use `async with` where you may stop early.

        ```python
        import asyncio

        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        async def main() -> str:
            async with Agent(ScriptedModel(["Hello!"])).astream("Say hello") as stream:
                return "".join([chunk async for chunk in stream])

        assert asyncio.run(main()) == "Hello!"
        ```
        """
        driver = self.driver(prompt, sync=False)
        return AsyncTextStream(driver.talk, driver.aconverse(whole=False))

    def as_tool(self, name: str | None = None, description: str | None = None) -> Tool[[str], T]:
        """Return a tool that gives a prompt to this agent and returns its output.

        ```python
        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        poet = Agent(ScriptedModel(["Roses are red"]), name="poet", description="Writes poems.")
        assert poet.as_tool()("a rose") == "Roses are red"
        ```

        Args:
            name: Its name for the other model; by default the agent's.
            description: Its description for the other model; by default the agent's.

        Raises:
            UsageError: If neither has a name.
        """
        if not (name or self.name):
            raise UsageError(f"{self!r} has no name, which a tool needs: give Agent(name=...) or as_tool(name=...)")

        def ask(prompt: str) -> T:
            return self.run(prompt).output

        async def aask(prompt: str) -> T:
            return (await self.arun(prompt)).output

        called = name or re.sub(r"[^a-zA-Z0-9_-]+", "_", self.name or "")[:64]
        told = description or self.description or f"Ask {self.name or name}."
        return make_tool(ask, name=called, description=told, afn=aask, source=self)

    @overload
    def replace(self, *, output_type: type[U], **changes: Unpack[AgentChanges]) -> Agent[U]: ...
    @overload
    def replace(self, **changes: Unpack[AgentChanges]) -> Agent[T]: ...
    @overload
    def replace(self, *, output_type: Any, **changes: Unpack[AgentChanges]) -> Agent[Any]: ...
    def replace(self, **changes: Any) -> Agent[Any]:
        """Return a changed copy, which is another agent: `override` of this one does not reach it.

        ```python
        from agentflow import Agent

        writer = Agent("openai:gpt-4o", instructions="Write.")
        assert writer.replace(instructions="Write briefly.").model == "openai:gpt-4o"
        ```

        Args:
            changes: Any option of `Agent`.
        """
        # mypy takes a class with its own __init__ for none of attrs'.
        return attrs.evolve(self, **changes)  # type: ignore[misc]

    @contextmanager
    def override(self, *, model: str | Model) -> Generator[None]:
        """Put another model in force for this agent, in this thread or task and what it starts; for tests.

        ```python
        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        writer = Agent("openai:gpt-4o")
        with writer.override(model=ScriptedModel(["Hello!"])):
            assert writer.run("Say hello").output == "Hello!"
        ```
        """
        _check_model(model)
        with overridden({self: models.resolve(model)}):
            yield

    def __agentflow_version__(self) -> str:
        """Return a digest of everything that an answer depends on, for the versions and keys of steps."""
        # Every hit of a step that uses the agent asks, and only these can be others than they were the last time.
        current = (
            self._model_in_force().__agentflow_version__(),
            *(each.__agentflow_version__() for each in self.tools),
        )
        if current not in self._versions:
            if len(self._versions) >= _MOST_VERSIONS:
                self._versions.clear()
            self._versions[current] = self._version_with(*current)
        return self._versions[current]

    def _version_with(self, model: str, *tools: str) -> str:
        """Return the digest for these versions of the model and of the tools."""
        settings = self.settings.model_dump(exclude={"timeout"}) if self.settings else None
        schema = self._output.schema.model_dump() if self._output.schema else None
        parts = [
            model,
            [self.description, self.instructions, self.expected_output, self.markdown],
            tools,
            [schema, settings, self.max_turns, self.output_retries],
            self.history and [self.history.max_messages, bool(self.history.summarize)],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def __agentflow_key__(self) -> str:
        """Return what an agent counts by as a step's argument."""
        return self.__agentflow_version__()

    def _model_in_force(self) -> Model:
        return model_in_force(self.known_as(), self._own_model)

    def _own_model(self) -> Model:
        if not isinstance(self.model, str):
            return self.model
        if self.model not in self._resolved:
            # Two threads may both resolve; setdefault lets one of them win.
            self._resolved.setdefault(self.model, models.resolve(self.model))
        return self._resolved[self.model]

    def known_as(self) -> tuple[Agent[Any], ...]:
        """Return the agents whose override is one of this agent too, the nearest first."""
        return (self,)

    def driver(self, prompt: object, *, sync: bool) -> AnyDriver[T]:
        """Return what drives one run, with the model now in force."""
        if not isinstance(prompt, str | UserMessage):
            raise UsageError(
                f"{self!r} was given a {type(prompt).__qualname__} as prompt: a prompt is a str, "
                "or, with images and files, a UserMessage.of(...)"
            )
        if sync and (slow := [each.name for each in self.tools if each.only_async]):
            raise UsageError(f"tool {slow[0]!r} of {self!r} is async: use arun() or astream(), or give it a sync tool")
        model = self._model_in_force()
        tools, form = {each.name: each for each in self.tools}, form_for(model)
        if tools and not model.supports_tools:
            raise UsageError(
                f"{self!r} has tools, and {model.name} cannot call any: use another model, or leave them out"
            )
        terms = Terms(
            agent=repr(self),
            model=model.name,
            tools=tools,
            output=self._output,
            form=form,
            settings=self.settings or ModelSettings(),
            max_turns=self.max_turns,
            output_retries=self.output_retries,
            system=system_prompt(
                self.description,
                self.instructions,
                expected=self.expected_output,
                markdown=self.markdown and self.output_type is str,
                form=self._output.request_in_words if form == "words" and self._output.schema else None,
            ),
        )
        return Driver(
            repr(self), model, tools, self.cache, Conversation(terms, prompt), self._memory(), self.name or ""
        )

    def _memory(self) -> Memory | None:
        """Return how it remembers its conversation, if it does."""
        if self.history is None or self.name is None:
            return None
        chosen = self.history.summarize
        if chosen is True:
            chosen = Agent(self._model_in_force(), instructions=SUMMARIZE, settings=self.settings, cache=self.cache)
        return Memory(self.name, self.history, chosen or None)


def check_agent(agent: Agent[Any]) -> None:
    """Refuse what cannot work where it is written, not at the first run."""
    _check_kinds(agent)
    if agent.history is not None and not agent.name:
        raise UsageError(f"{agent!r} has a history, which is kept under its name: give it one with name=")
    if agent.cache not in (None, "run", "session", "global"):
        raise UsageError(f"cache={agent.cache!r} is none: use 'run', 'session', 'global' or None")
    names = [each.name for each in agent.tools]
    if taken := [name for name in names if names.count(name) > 1 or name == OUTPUT_TOOL]:
        raise UsageError(f"{agent!r} has several tools named {taken[0]!r}: give each its own name by tool(name=...)")
    try:
        json.dumps(agent.settings.extra if agent.settings else None)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"settings.extra of {agent!r} goes into the request as JSON, which cannot say it: {error}"
        ) from error


def _check_kinds(agent: Agent[Any]) -> None:
    """Refuse options that are not of the kind that they have."""
    _check_model(agent.model)
    for option in ("name", "description", "expected_output"):
        if getattr(agent, option) is not None:
            text(getattr(agent, option), option)
    yes_or_no(agent.markdown, "markdown")
    whole(agent.max_turns, "max_turns")
    whole(agent.output_retries, "output_retries", least=0)
    if not isinstance(agent.settings, ModelSettings | None):
        raise UsageError(f"settings={agent.settings!r}: write ModelSettings(...), such as ModelSettings(temperature=0)")


def _check_model(model: object) -> None:
    if not _is_model(model):
        raise UsageError(f"model={model!r} is no model: give a name such as 'openai:gpt-4o-mini', or a Model")


def _is_model(value: object) -> bool:
    return isinstance(value, str | models.Model)
