"""Teams: three ways to answer together, in the four ways to ask an agent."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from agentflow import Agent, Team, cached_step, workflow
from agentflow._team import TeamMode
from agentflow.exceptions import OutputInvalid, UsageError
from agentflow.messages import ImagePart, ModelResponse, TextPart, ToolCall, Usage, UserMessage
from agentflow.testing import FunctionModel, ScriptedModel, fresh_store
from tests._ways import Ask


class Poem(BaseModel):
    lines: list[str]


def says(*answers: Any) -> ScriptedModel:
    return ScriptedModel(
        [
            ModelResponse(parts=(each if isinstance(each, ToolCall) else TextPart(text=each),), usage=Usage(cost=1.0))
            for each in answers
        ]
    )


def told(model: ScriptedModel, request: int = 0) -> str:
    return model.requests[request].messages[-1].text


async def test_in_coordination_members_are_tools_of_the_leader(ask: Ask) -> None:
    """It calls whom it likes, with what it likes, beside its own tools, and answers; all of it is counted."""
    poet_says, leader_says = says("Roses are red"), says(ToolCall.of("poet", prompt="Roses!"), "Here: Roses are red")
    poet = Agent(poet_says, name="poet", description="Writes poems.")
    cook = Agent(says(), name="cook")
    leader = Agent(leader_says, name="desk", instructions="Be kind.", tools=[day])

    result = await ask(Team(leader, [poet, cook]), "Something with roses")

    assert result.output == "Here: Roses are red"
    assert told(poet_says) == "Roses!"
    assert [tool.name for tool in leader_says.requests[0].tools] == ["day", "poet", "cook"]
    system = leader_says.requests[0].messages[0]
    assert system.content.startswith("- Be kind.\n- You lead a team.")
    assert result.usage.cost == 3.0


def day() -> str:
    return "Sunday"


async def test_in_routing_the_chosen_member_answers(ask: Ask) -> None:
    """The leader is told who does what, and says nothing itself; the output is of the member's type."""
    leader_says, poet_says = says('{"member": "poet", "task": "Roses!"}'), says('{"lines": ["Roses are red"]}')
    poet = Agent(poet_says, name="poet", description="Writes poems.", output_type=Poem)
    cook = Agent(says(), name="cook", description="Cooks.")
    team = Team(Agent(leader_says, name="desk", instructions="Be kind."), [poet, cook], mode="route")

    result = await ask(team, "Something with roses")

    assert result.output == Poem(lines=["Roses are red"])
    assert told(poet_says) == "Roses!"
    system = leader_says.requests[0].messages[0].content
    assert "- poet: Writes poems.\n- cook: Cooks." in system
    assert result.usage.cost == 2.0
    assert [message.kind for message in result.messages] == ["system", "user", "response", "system", "user", "response"]


async def test_in_routing_a_member_that_is_not_there_is_corrected(ask: Ask) -> None:
    """The leader may correct itself once; then it is its output that is invalid."""
    wrong = '{"member": "dancer", "task": "?"}'
    poet = Agent(says("a poem"), name="poet")

    team = Team(Agent(says(wrong, '{"member": "poet", "task": "?"}')), [poet], mode="route")
    assert (await ask(team, "?")).output == "a poem"

    with pytest.raises(OutputInvalid, match="member"):
        await ask(Team(Agent(says(wrong, wrong)), [poet], mode="route"), "?")


async def test_in_collaboration_all_answer_at_once_and_the_leader_makes_one_of_it(ask: Ask) -> None:
    """The members are asked the prompt itself, at the same time, and the leader reads what each has said."""
    both = threading.Barrier(2, timeout=30)

    def answering(text: str) -> FunctionModel:
        def answer(messages: Any, info: Any) -> str:
            both.wait()
            return text

        return FunctionModel(answer)

    leader_says = says("All in all")
    members = [Agent(answering("yes"), name="ann"), Agent(answering('{"lines": ["no"]}'), name="bob", output_type=Poem)]

    result = await ask(Team(Agent(leader_says), members, mode="collaborate"), "Well?")

    assert result.output == "All in all"
    assert told(leader_says).startswith("Well?\n\n")
    assert told(leader_says).endswith('## ann\nyes\n\n## bob\n{"lines":["no"]}')
    assert result.usage.requests == 3


@pytest.mark.parametrize("mode", ["coordinate", "route", "collaborate"])
async def test_images_are_seen_by_whoever_answers(ask: Ask, mode: Any) -> None:
    """What is asked with an image has it for the leader, and where members are asked by a team, for them."""
    image = ImagePart(data=bytes.fromhex("89504e470d0a1a0a"))
    leader_says, poet_says = says('{"member": "poet", "task": "Write."}' if mode == "route" else "All"), says("a poem")
    team = Team(Agent(leader_says), [Agent(poet_says, name="poet")], mode=mode)

    await ask(team, UserMessage.of("What is this?", image))

    asked = [model.requests[0].messages[-1] for model in (leader_says, poet_says) if model.requests]
    assert len(asked) == (1 if mode == "coordinate" else 2)
    assert all(image in message.parts for message in asked)
    assert [message.text.partition("\n")[0] for message in asked][-1] == (
        "Write." if mode == "route" else "What is this?"
    )


@pytest.mark.parametrize("mode", ["coordinate", "route", "collaborate"])
async def test_the_answer_is_streamed(mode: Any) -> None:
    """The text of whoever answers comes piece by piece, and so do partial outputs; nothing of the others is in it."""
    pieces = ['{"lines": ["Roses ', 'are red"', ', "Violets"]}']

    def team() -> Team[Any]:
        route = ['{"member": "poet", "task": "?"}'] if mode == "route" else []
        poet_says = [pieces] if mode == "route" else ["said before"]
        leader_says = route or ([ToolCall.of("poet", prompt="?"), pieces] if mode == "coordinate" else [pieces])
        poet = Agent(ScriptedModel(poet_says), name="poet", output_type=Poem if mode == "route" else str)
        return Team(Agent(ScriptedModel(leader_says), output_type=Poem), [poet], mode=mode)

    assert list(team().stream("?")) == pieces
    async with team().astream("?") as text:
        assert [piece async for piece in text] == pieces
    stream, astream = team().stream("?"), team().astream("?")
    partials = list(stream.partials())
    assert partials == [partial async for partial in astream.partials()]
    assert partials[0] == Poem(lines=["Roses "])
    assert partials[-1] == stream.result.output == Poem(lines=["Roses are red", "Violets"])


async def test_teams_are_members_of_teams(ask: Ask) -> None:
    """A team is an agent: routed to, called as a tool, and heard."""
    poet_says = says("Roses are red")
    poets = Team(
        Agent(says('{"member": "poet", "task": "Roses!"}'), name="poets"), [Agent(poet_says, name="poet")], mode="route"
    )
    heard = Team(Agent(says("Hear: Roses are red"), name="heard"), [poets], mode="collaborate")
    desk = Team(Agent(says(ToolCall.of("heard", prompt="A poem"), "Done."), name="desk"), [heard])

    result = await ask(desk, "?")

    assert result.output == "Done."
    assert told(poet_says) == "Roses!"
    assert result.usage.cost == 5.0


MODES: list[TeamMode] = ["coordinate", "route", "collaborate"]


@pytest.mark.parametrize("outer", MODES)
@pytest.mark.parametrize("inner", MODES)
async def test_teams_of_every_mode_are_members_of_teams_of_every_mode(
    ask: Ask, outer: TeamMode, inner: TeamMode
) -> None:
    """The member at the bottom is heard, each is asked once, and a run that goes on asks nobody again."""
    asked: list[str] = []

    def leader(name: str, member: str, mode: TeamMode) -> Agent[str]:
        def lead(messages: Any, info: Any) -> Any:
            asked.append(name)
            if mode == "route":
                return f'{{"member": "{member}", "task": "?"}}'
            heard = messages[-1].text.rpartition("\n")[2]
            return heard if heard != "?" else [ToolCall.of(member, prompt="?")]

        return Agent(FunctionModel(lead, name=name), name=name)

    def sing(messages: Any, info: Any) -> str:
        asked.append("poet")
        return f"la la {len(asked)}"

    poet = Agent(FunctionModel(sing, name="poet"), name="poet")
    poets = Team(leader("poets", "poet", inner), [poet], mode=inner)
    desk = Team(leader("desk", "poets", outer), [poets], mode=outer)
    fails = [True]

    @workflow
    async def flow() -> str:
        result = await ask(desk, "?")
        if fails and fails.pop():
            raise RuntimeError
        return result.output

    with fresh_store():
        with pytest.raises(RuntimeError):
            await flow()
        before = list(asked)
        said = await flow()

    assert said == f"la la {asked.index('poet') + 1}"
    assert asked == before
    assert asked.count("poet") == 1


async def test_overrides_reach_a_team(ask: Ask) -> None:
    """One of its leader is one of the team; the nearest is in force; members have their own."""
    poet = Agent("openai:none", name="poet")
    leader = Agent("openai:none", name="desk")
    choice = '{"member": "poet", "task": "?"}'
    for mode, answers in (("coordinate", ["fine"]), ("route", [choice]), ("collaborate", ["fine"])):
        team = Team(leader, [poet], mode=mode)
        with poet.override(model=says("fine")), leader.override(model=says(*answers)):
            assert (await ask(team, "?")).output == "fine"
        with poet.override(model=says("fine")), leader.override(model=says()), team.override(model=says(*answers)):
            assert (await ask(team, "?")).output == "fine"


@pytest.mark.parametrize("mode", ["route", "collaborate"])
async def test_in_a_run_a_team_replays(ask: Ask, mode: Any) -> None:
    """When the run goes on nothing is asked again, also where members with equal requests have answered at once."""
    choice = '{"member": "ann", "task": "?"}'
    counts: list[int] = []

    def answer(messages: Any, info: Any) -> str:
        counts.append(len(counts))
        return f"answer {len(counts)}"

    model = FunctionModel(answer, name="equal")
    members = [Agent(model, name="ann"), Agent(model, name="bob")]
    heard: list[str] = []

    def lead(messages: Any, info: Any) -> str:
        heard.append(messages[-1].text)
        return choice if mode == "route" else "all in all"

    team, fails = Team(Agent(FunctionModel(lead)), members, mode=mode), [True]

    @workflow
    async def flow() -> str:
        result = await ask(team, "Well?")
        if fails:
            fails.clear()
            raise RuntimeError
        return result.output

    with fresh_store():
        with pytest.raises(RuntimeError):
            await flow()
        asked = (len(counts), len(heard))
        await flow()

    assert (len(counts), len(heard)) == asked


def test_a_team_is_a_part_of_a_steps_version() -> None:
    """A member, the mode and the leader count: changed, they are another version."""
    leader, poet = Agent("openai:a", name="desk"), Agent("openai:a", name="poet")
    team = Team(leader, [poet])
    others = [
        Team(leader, [poet], mode="route"),
        Team(leader, [poet.replace(instructions="Rhyme.")]),
        Team(leader.replace(instructions="Lead."), [poet]),
        team.replace(max_turns=3),
    ]

    versions = {each.__agentflow_version__() for each in [team, Team(leader, [poet]), *others]}

    assert len(versions) == 5
    assert cached_step(lambda topic: team.run(topic).output, name="team").name == "team"


def test_a_changed_copy_keeps_the_rest() -> None:
    """`replace` takes what a team is made of, and options of its leader."""
    poet, cook = Agent("openai:a", name="poet"), Agent("openai:a", name="cook")
    team = Team(Agent("openai:a", name="desk"), [poet], mode="collaborate", max_turns=3)

    changed = team.replace(members=[poet, cook], name="office")

    assert (changed.name, changed.max_turns, changed.mode, changed.members) == (
        "office",
        3,
        "collaborate",
        (poet, cook),
    )
    assert team.as_tool().name == "desk"


@pytest.mark.parametrize(
    ("leader", "members", "options", "message"),
    [
        ({}, [], {}, "at least one member"),
        ({}, [{}], {}, "need names"),
        ({}, [{"name": "a"}, {"name": "a"}], {}, "each its own"),
        ({}, [{"name": "a"}], {"mode": "vote"}, "mode='vote'"),
        ({"name": "l", "history": True}, [{"name": "a"}], {"mode": "route"}, "nothing to remember"),
        ({"tools": [day]}, [{"name": "day"}], {}, "several tools named 'day'"),
    ],
)
def test_a_team_that_could_not_work_is_refused(leader: Any, members: Any, options: Any, message: str) -> None:
    """Where it is made, with what is wrong."""
    made = [Agent("openai:a", **each) for each in members]
    with pytest.raises(UsageError, match=message):
        Team(Agent("openai:a", **leader), made, **options)


def test_a_team_does_not_lead() -> None:
    """The leader is one agent."""
    poet = Agent("openai:a", name="poet")
    with pytest.raises(UsageError, match="an Agent as its leader"):
        Team(Team(poet, [poet]), [poet])


def test_a_single_member_is_a_list_too() -> None:
    """An agent in place of a list is told so."""
    poet = Agent("openai:a", name="poet")
    with pytest.raises(UsageError, match="write a list of agents"):
        Team(poet, poet)  # type: ignore[arg-type]
