"""Teams: a leader and members who answer together, as one agent.

In mode `coordinate` a team is nothing but its leader with the members as tools. In the other two modes more than one agent is asked
in a fixed order, so there is a driver for each; both say what they do in the two colours side by side.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

import attrs
import pydantic_core
from pydantic import Field

# pydantic refuses typing's own TypedDict before 3.12; it depends on typing_extensions itself.
from typing_extensions import TypedDict

from agentflow._agent import Agent, check_agent
from agentflow._agent_driver import in_place, together
from agentflow._at_once import in_threads
from agentflow._conversation import AgentResult
from agentflow._options import several
from agentflow.exceptions import UsageError
from agentflow.messages import TextPart, Usage, UserMessage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Sequence

    from agentflow._agent_driver import AnyDriver
    from agentflow._text_streams import Talk

__all__ = ["Team", "TeamMode"]

T = TypeVar("T")

TeamMode: TypeAlias = Literal["coordinate", "route", "collaborate"]
"""How a team answers: its leader calls members as it sees fit, gives the whole task to one, or hears all of them first."""

_COORDINATE = "You lead a team. Its members are tools: give each what it is good at, tell it all that it needs to know, and answer with what they found."
_ROUTE = "You lead a team and answer nothing yourself: choose the member who is to answer. The members are:"


@attrs.frozen(init=False, eq=False, repr=False)
class Team(Agent[T]):
    """A leader and members who answer together; an agent like any other, so that a team can be a member of a team.

    `mode` says how: in `"coordinate"` the leader calls members as tools, as often as it likes, and answers. In `"route"` it chooses
    one member, who answers in its place, in its own output type, and whose text is streamed.
    In `"collaborate"` all members answer the prompt at once, and the leader makes one answer of theirs.

    ```python
    from agentflow import Agent, Team
    from agentflow.testing import ScriptedModel

    poet = Agent(ScriptedModel(["Roses are red."]), name="poet", description="Writes poems.")
    cook = Agent(ScriptedModel([]), name="cook", description="Writes recipes.")
    leader = Agent(ScriptedModel(['{"member": "poet", "task": "A poem about roses"}']), name="desk")

    desk = Team(leader, [poet, cook], mode="route")
    assert desk.run("Something with roses, please").output == "Roses are red."
    ```

    Args:
        leader: The agent that leads; the team has its options, its name too.
        members: Agents or teams, each with a `name`, and a `description` for the leader.
        mode: How they answer.
        options: Options of `Agent` that the team has instead of its leader's.

    Raises:
        UsageError: If it could not work; the message says why.
    """

    leader: Agent[Any] = attrs.field(init=False)
    members: tuple[Agent[Any], ...] = attrs.field(init=False)
    mode: TeamMode = attrs.field(init=False)
    _options: dict[str, Any] = attrs.field(init=False)

    @overload
    def __init__(
        self: Team[Any], leader: Agent[Any], members: Sequence[Agent[Any]], *, mode: Literal["route"], **options: Any
    ) -> None: ...
    @overload
    def __init__(
        self,
        leader: Agent[T],
        members: Sequence[Agent[Any]],
        *,
        mode: Literal["coordinate", "collaborate"] = "coordinate",
        **options: Any,
    ) -> None: ...
    def __init__(
        self, leader: Agent[Any], members: Sequence[Agent[Any]], *, mode: TeamMode = "coordinate", **options: Any
    ) -> None:
        members = _checked(leader, list(several(members, "members", "a list of agents")), mode)
        base = leader.replace(**options) if options else leader
        own = {each.name: getattr(base, each.name) for each in attrs.fields(Agent) if each.init}
        if mode == "coordinate":
            own["tools"] = (*base.tools, *(member.as_tool() for member in members))
            own["instructions"] = (*_listed(base.instructions), _COORDINATE)
        # attrs makes this method where a class writes its own __init__; only mypy knows.
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            **own
        )
        for name, value in {"leader": leader, "members": members, "mode": mode, "_options": options}.items():
            object.__setattr__(self, name, value)  # frozen from here on
        check_agent(self)

    def __repr__(self) -> str:
        return f"Team({self.leader!r}, {list(self.members)!r}, mode={self.mode!r})"

    def replace(self, **changes: Any) -> Team[Any]:
        """Return a changed copy, which is another team.

        ```python
        from agentflow import Agent, Team

        poet = Agent("openai:gpt-4o", name="poet")
        team = Team(Agent("openai:gpt-4o", name="desk"), [poet])
        assert team.replace(mode="collaborate", name="office").mode == "collaborate"
        ```

        Args:
            changes: `leader`, `members`, `mode`, or any option of `Agent`.
        """
        own: dict[str, Any] = {name: changes.pop(name, getattr(self, name)) for name in ("leader", "members", "mode")}
        return Team(**own, **{**self._options, **changes})

    def __agentflow_version__(self) -> str:
        """Return a digest of everything that an answer depends on, the members included."""
        parts = [
            super().__agentflow_version__(),
            self.mode,
            *(member.__agentflow_version__() for member in self.members),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def known_as(self) -> tuple[Agent[Any], ...]:
        """Return the agents whose override is one of this team too."""
        return (self, *self.leader.known_as())

    def driver(self, prompt: object, *, sync: bool) -> AnyDriver[T]:
        """Return what drives one run, with the models now in force."""
        if self.mode == "coordinate" or not isinstance(prompt, str | UserMessage):
            return super().driver(prompt, sync=sync)
        if self.mode == "route":
            return _Route(self, prompt, self._chooser().driver(prompt, sync=sync), sync=sync)
        members = [member.driver(prompt, sync=sync) for member in self.members]
        return _Collaboration(self, prompt, members, sync=sync)

    def answering(self, prompt: str | UserMessage, *, sync: bool) -> AnyDriver[T]:
        """Return what drives the leader's own answer."""
        return super().driver(prompt, sync=sync)

    def _chooser(self) -> Agent[dict[str, str]]:
        """Return the agent that chooses a member."""
        names: Any = Literal[tuple(member.name for member in self.members)]
        task = Annotated[str, Field(description="The task, as the member is to read it; they see nothing else.")]
        # A TypedDict with computed fields is what type checkers cannot follow.
        make: Any = TypedDict
        roster = "\n".join(f"- {member.name}: {member.description or 'no description'}" for member in self.members)
        return Agent(
            self._model_in_force(),
            name=self.name,
            description=self.description,
            instructions=(*_listed(self.instructions), f"{_ROUTE}\n{roster}"),
            output_type=make("Choice", {"member": names, "task": task}),
            output_retries=self.output_retries,
            settings=self.settings,
            cache=self.cache,
        )


def _checked(leader: object, members: Sequence[Agent[Any]], mode: str) -> tuple[Agent[Any], ...]:
    """Return the members, or refuse a team that could not work."""
    if mode not in ("coordinate", "route", "collaborate"):
        raise UsageError(f"mode={mode!r} is none: use 'coordinate', 'route' or 'collaborate'")
    if (
        not isinstance(leader, Agent)
        or isinstance(leader, Team)
        or not members
        or not all(isinstance(member, Agent) for member in members)
    ):
        raise UsageError("a Team has an Agent as its leader, and at least one member, each an Agent or a Team")
    names = [member.name for member in members]
    if not all(names) or len({*names}) < len(names):
        raise UsageError(f"the members of a team need names, each its own: they are {names}. Give Agent(name=...)")
    if mode == "route" and leader.history is not None:
        raise UsageError("the leader of a team of mode 'route' has nothing to remember: give its members the history")
    return tuple(members)


def _listed(instructions: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (instructions,) if isinstance(instructions, str) else instructions or ()


class _Relay(Generic[T]):
    """What a team says: what the agent says who is answering."""

    def __init__(self) -> None:
        self.talk: Talk[T] | None = None
        self.result: AgentResult[T] | None = None

    def hear(self, delta: str) -> None:
        if self.talk:
            self.talk.hear(delta)

    def grown(self) -> Iterator[T]:
        if self.talk:
            yield from self.talk.grown()


class _Relayed(Generic[T]):
    """Drives a team whose text is that of one agent, who answers last."""

    def __init__(self, team: Team[T], *, sync: bool) -> None:
        self.team = team
        self.talk = _Relay[T]()
        self._sync = sync

    def _ended(self, last: AgentResult[T] | None, *before: AgentResult[Any]) -> AgentResult[T]:
        """Return the last result, with what came before it."""
        assert last is not None
        messages = [message for each in before for message in each.messages]
        calls = [call for each in before for call in each.tool_calls]
        usage = sum((each.usage for each in before), Usage()) + last.usage
        self.talk.result = AgentResult(last.output, (*messages, *last.messages), usage, (*calls, *last.tool_calls))
        return self.talk.result


class _Route(_Relayed[T]):
    """The leader chooses, the chosen one answers."""

    def __init__(
        self, team: Team[T], prompt: str | UserMessage, chooser: AnyDriver[dict[str, str]], *, sync: bool
    ) -> None:
        super().__init__(team, sync=sync)
        # The leader writes the task anew, in words; images and files go on as they are.
        self._media = (
            [] if isinstance(prompt, str) else [part for part in prompt.parts if not isinstance(part, TextPart)]
        )
        self._chooser = chooser

    def converse(self, *, whole: bool) -> Generator[str, None, AgentResult[T]]:
        choice = _whole(self._chooser)
        answering = self._chosen(choice)
        return self._ended((yield from answering.converse(whole=whole)), choice)

    async def aconverse(self, *, whole: bool) -> AsyncGenerator[str, None]:
        choice = await _awhole(self._chooser)
        answering = self._chosen(choice)
        async with aclosing(answering.aconverse(whole=whole)) as text:
            async for delta in text:
                yield delta
        self._ended(answering.talk.result, choice)

    def _chosen(self, choice: AgentResult[dict[str, str]]) -> AnyDriver[T]:
        member = next(each for each in self.team.members if each.name == choice.output["member"])
        task = UserMessage.of(choice.output["task"], *self._media)
        answering = cast("AnyDriver[T]", member.driver(task, sync=self._sync))
        self.talk.talk = answering.talk
        return answering


class _Collaboration(_Relayed[T]):
    """All members answer at once, the leader makes one answer of theirs."""

    def __init__(
        self, team: Team[T], prompt: str | UserMessage, members: Sequence[AnyDriver[Any]], *, sync: bool
    ) -> None:
        super().__init__(team, sync=sync)
        self._prompt = prompt
        self._members = members

    def converse(self, *, whole: bool) -> Generator[str, None, AgentResult[T]]:
        results = in_threads([partial(self._heard, place) for place in range(len(self._members))], "agentflow-team")
        answering = self._answering(results)
        return self._ended((yield from answering.converse(whole=whole)), *results)

    async def aconverse(self, *, whole: bool) -> AsyncGenerator[str, None]:
        results = await together([self._aheard(place) for place in range(len(self._members))])
        answering = self._answering(results)
        async with aclosing(answering.aconverse(whole=whole)) as text:
            async for delta in text:
                yield delta
        self._ended(answering.talk.result, *results)

    def _heard(self, number: int) -> AgentResult[Any]:
        with in_place(f"member.{number}"):
            return _whole(self._members[number])

    async def _aheard(self, number: int) -> AgentResult[Any]:
        with in_place(f"member.{number}"):
            return await _awhole(self._members[number])

    def _answering(self, results: Sequence[AgentResult[Any]]) -> AnyDriver[T]:
        answers = zip(self.team.members, results, strict=True)
        heard = "\n\n".join(f"## {member.name}\n{_text(result.output)}" for member, result in answers)
        told = f"\n\nThe members of your team were asked this and have answered:\n\n{heard}"
        asked = self._prompt
        prompt = f"{asked}{told}" if isinstance(asked, str) else UserMessage.of(*asked.parts, told)
        answering = self.team.answering(prompt, sync=self._sync)
        self.talk.talk = answering.talk
        return answering


def _whole(driver: AnyDriver[T]) -> AgentResult[T]:
    """Have a conversation to its end."""
    conversation = driver.converse(whole=True)
    while True:
        try:
            next(conversation)
        except StopIteration as end:
            result: AgentResult[T] = end.value
            return result


async def _awhole(driver: AnyDriver[T]) -> AgentResult[T]:
    """Do what `_whole` does."""
    async with aclosing(driver.aconverse(whole=True)) as text:
        async for _ in text:
            pass
    assert driver.talk.result is not None
    return driver.talk.result


def _text(output: object) -> str:
    return output if isinstance(output, str) else pydantic_core.to_json(output).decode()
