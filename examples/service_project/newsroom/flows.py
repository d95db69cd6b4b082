"""How a briefing is written: the news are read, what matters is picked, and the text is streamed."""

import datetime as dt
from collections.abc import AsyncIterator

import httpx
from pydantic import BaseModel, Field

from agentflow import Agent, Budget, Context, RetryPolicy, cached_step, workflow

NEWS = "https://news.example/search"


class Story(BaseModel):
    """A story, as the news have it."""

    title: str
    url: str
    text: str


class Picked(BaseModel):
    """Which stories matter."""

    numbers: list[int] = Field(description="The numbers of the stories that matter, the most important first.")


editor = Agent("openai:gpt-4o-mini", output_type=Picked, instructions="Pick the stories that matter to the topic.")
writer = Agent("openai:gpt-4o", instructions="Write a briefing of three sentences from the stories.")


@cached_step(scope="global", ttl=dt.timedelta(hours=1), retry=RetryPolicy(attempts=3, wait=2, on=httpx.TransportError))
async def search_news(topic: str, day: dt.date) -> list[Story]:
    """Ask the news; what they said is good for everybody, for an hour."""
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(NEWS, params={"q": topic, "day": day.isoformat()})
    return [Story.model_validate(each) for each in answer.raise_for_status().json()]


@cached_step
async def pick(topic: str, stories: list[Story]) -> list[Story]:
    """Have the editor choose."""
    listed = "\n".join(f"{number}. {story.title}" for number, story in enumerate(stories))
    chosen = (await editor.arun(f"Topic: {topic}\n{listed}")).output
    return [stories[number] for number in chosen.numbers if number < len(stories)]


@cached_step
async def write(ctx: Context, topic: str, stories: list[Story]) -> AsyncIterator[str]:
    """Have the writer write, live."""
    texts = "\n\n".join(f"{story.title}\n{story.text}" for story in stories)
    async for chunk in writer.astream(f"Topic: {topic}\n\n{texts}"):
        yield chunk
    ctx.state.increment("briefings")


@workflow(budget=Budget(requests=10), resume_within=dt.timedelta(hours=1))
async def briefing(topic: str, day: dt.date) -> AsyncIterator[str]:
    """Write a briefing about a topic from the news of a day."""
    stories = await pick(topic, await search_news(topic, day))
    if not stories:
        yield f"There is nothing new about {topic}."
        return
    async for chunk in write(topic, stories):
        yield chunk
