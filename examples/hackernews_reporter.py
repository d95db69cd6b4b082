"""An async workflow: several agents at once with `asyncio.gather`, then a report streamed from what they found.

python examples/hackernews_reporter.py cats dogs pizza
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator

import services
from pydantic import BaseModel, Field

from agentflow import Agent, cached_step, workflow

SERVICES = services.choose()


class Story(BaseModel):
    """What a reporter brings back."""

    title: str
    url: str
    content: str = Field(description="What it says, in a few sentences.")


class Stories(BaseModel):
    """What a reporter found on one beat."""

    articles: list[Story]


reporter = Agent(
    SERVICES.small,
    name="reporter",
    instructions=[
        "Search Hacker News for the subject and read the best 3 stories.",
        "Give what each of them says in a few sentences.",
    ],
    tools=[SERVICES.search, SERVICES.read],
    output_type=Stories,
)

editor = Agent(
    SERVICES.large,
    name="editor",
    instructions=[
        "Write a short report in markdown from the stories, with a headline.",
        "Cite every story with its link.",
    ],
    markdown=True,
)


@cached_step(retry=3, ttl=3600)
async def report_on(subject: str) -> list[Story]:
    """Let a reporter look for stories; what was found is news for an hour."""
    return (await reporter.arun(subject)).output.articles


@cached_step(ttl=3600)
async def edit(subjects: list[str], stories: list[Story]) -> AsyncGenerator[str, None]:
    """Write the report, streamed."""
    brief = {"topic": ", ".join(subjects), "articles": [story.model_dump() for story in stories]}
    async for chunk in editor.astream(json.dumps(brief, indent=2)):
        yield chunk


@workflow
async def news(subjects: list[str]) -> AsyncGenerator[str, None]:
    """Report on several subjects at once."""
    found = await asyncio.gather(*(report_on(subject) for subject in subjects))
    async for chunk in edit(subjects, [story for stories in found for story in stories]):
        yield chunk


async def main() -> None:
    """Print the report as it comes."""
    if SERVICES.note:
        print(SERVICES.note)
    async for chunk in news(sys.argv[1:] or ["cats", "rubber duck debugging", "pizza"]):
        print(chunk, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
