"""What the tests share: news of a day, and the workflow over them."""

import datetime as dt

import pytest
from newsroom.flows import Story, search_news

from agentflow.testing import replace_step

TODAY = dt.date(2026, 7, 1)
STORIES = [
    Story(title="Cats sleep more", url="https://news.example/1", text="They sleep fifteen hours."),
    Story(title="Dogs bark less", url="https://news.example/2", text="It is quiet."),
    Story(title="Cats on the moon", url="https://news.example/3", text="They landed on their feet."),
]


@pytest.fixture
def news():
    """The news, without a network."""
    with replace_step(search_news, lambda topic, day: [story for story in STORIES if day == TODAY]):
        yield STORIES
