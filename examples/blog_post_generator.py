"""Search the web, read what was found, write a blog post; nothing that is done is ever done twice.

python examples/blog_post_generator.py "Why Cats Secretly Run the Internet"

Run it again: the post is there at once. Kill it half way and run it again: it goes on where it was.
`--refresh search`, `--refresh articles` and `--refresh post` do one part anew.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Generator
from textwrap import dedent

import services
from pydantic import BaseModel, Field

from agentflow import Agent, Context, cached_step, workflow

SERVICES = services.choose()
AT_ONCE = 5
"""How many articles are read at once."""


class NewsArticle(BaseModel):
    """An article as the search found it."""

    title: str = Field(description="Title of the article.")
    url: str = Field(description="Link to the article.")
    summary: str | None = Field(description="Summary of the article if available.")


class SearchResults(BaseModel):
    """What the searcher found."""

    articles: list[NewsArticle]


class ScrapedArticle(NewsArticle):
    """An article with its text."""

    content: str | None = Field(description="Full article content in markdown. None if content is unavailable.")


searcher = Agent(
    SERVICES.small,
    name="searcher",
    description="You research sources for blog posts.",
    instructions=[
        "Search for the topic and choose the 5 to 7 best sources.",
        "Prefer recent and authoritative sources, and different points of view.",
    ],
    tools=[SERVICES.search],
    output_type=SearchResults,
)

article_reader = Agent(
    SERVICES.small,
    name="article_reader",
    description="You extract articles for a blog writer.",
    instructions=["Read the article at the link.", "Give its content in clean markdown, with quotes and figures kept."],
    tools=[SERVICES.read],
    output_type=ScrapedArticle,
)

writer = Agent(
    SERVICES.large,
    name="writer",
    description="You write blog posts that are a pleasure to read and true to their sources.",
    instructions=["Begin with a headline.", "Use only what the articles say.", "Cite every source with its link."],
    expected_output=dedent("""\
        # Headline

        ## Introduction

        ## Sections with what the sources say

        ## Sources
        - [title](link)"""),
    markdown=True,
)


@cached_step(retry=3, cache_if=lambda found: bool(found.articles))
def find_articles(topic: str) -> SearchResults:
    """Search the web; finding nothing is not remembered."""
    return searcher.run(topic).output


@cached_step(retry=3)
def read_article(url: str) -> ScrapedArticle:
    """Read one article; each is remembered by itself."""
    return article_reader.run(url).output


@cached_step
def write_post(topic: str, articles: list[ScrapedArticle]) -> Generator[str, None, str]:
    """Write the post; it is streamed as it comes, and replayed when it is there."""
    brief = {"topic": topic, "articles": [article.model_dump() for article in articles]}
    return (yield from writer.stream(json.dumps(brief, indent=2))).output


def slug(topic: str) -> str:
    """Return a topic as a session id."""
    return "-".join(re.findall(r"\w+", topic.lower()))


@workflow(session=slug)
def blog_post(ctx: Context, topic: str) -> Generator[str, None, None]:
    """Write a blog post on a topic, from what the web says about it."""
    found = find_articles(topic)
    if not found.articles:
        yield f"Sorry, could not find any articles on the topic: {topic}"
        return
    articles = ctx.map(read_article, [article.url for article in found.articles], max_concurrency=AT_ONCE)
    post = yield from write_post(topic, articles)
    ctx.state.setdefault("posts", {})[topic] = post


PARTS = {"search": [find_articles], "articles": [read_article], "post": [write_post], "all": True}

TOPICS = [
    "Why Cats Secretly Run the Internet",
    "The Science Behind Why Pizza Tastes Better at 2 AM",
    "Time Travelers' Guide to Modern Social Media",
    "How Rubber Ducks Revolutionized Software Development",
    "The Secret Society of Office Plants: A Survival Guide",
    "Why Dogs Think We're Bad at Smelling Things",
    "The Underground Economy of Coffee Shop WiFi Passwords",
    "A Historical Analysis of Dad Jokes Through the Ages",
]


def main() -> None:
    """Write a post and say how long it took."""
    parser = argparse.ArgumentParser(description="Write a blog post from what the web says about a topic.")
    parser.add_argument("topic", nargs="*", help="what to write about; a random topic if not given")
    parser.add_argument("--session", help="whose memory to use; one for each topic if not given")
    parser.add_argument("--refresh", choices=PARTS, help="do this part anew although it is remembered")
    asked = parser.parse_args()
    topic = " ".join(asked.topic) or random.choice(TOPICS)  # noqa: S311 - a suggestion
    if SERVICES.note:
        print(SERVICES.note)
    began = time.perf_counter()
    write = blog_post.with_options(session_id=asked.session, refresh=PARTS.get(asked.refresh))
    for chunk in write(topic):
        print(chunk, end="", flush=True)
    print(f"\n\n  [{time.perf_counter() - began:.2f} s]")


if __name__ == "__main__":
    main()
