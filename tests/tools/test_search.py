import sys

import pytest
from ddgs.exceptions import DDGSException
from pydantic import ValidationError

from agentflow.exceptions import AgentflowError, ModelRetry, UsageError
from agentflow.tools._failures import NothingFound, SearchFailed
from agentflow.tools._search import SearchHit, failure, search_with, web_search


def engine(*results):
    """An engine with these results; it writes down what it was asked."""
    asked = []

    def search(query, max_results):
        asked.append((query, max_results))
        return results

    search.asked = asked
    return search


def result(n, **changes):
    return {"title": f"Title {n}", "href": f"https://a.test/{n}", "body": f"Words {n}"} | changes


def test_results_become_hits_in_their_order():
    """Title, address and snippet, as the engine ranked them."""
    cats = engine(result(1), result(2))

    hits = search_with(cats, "cats", 5)

    assert hits == [SearchHit(title=f"Title {n}", url=f"https://a.test/{n}", snippet=f"Words {n}") for n in (1, 2)]
    assert cats.asked == [("cats", 5)]


def test_no_more_hits_than_asked_for():
    """Engines may give more than they were asked for."""
    assert len(search_with(engine(*map(result, range(9))), "cats", 3)) == 3


@pytest.mark.parametrize("href", ["", None, "javascript:alert(1)", "//a.test", "/relative", "ftp://a.test/"])
def test_results_that_are_no_web_pages_are_left_out(href):
    """A hit has an address that can be read."""
    assert [hit.url for hit in search_with(engine(result(1, href=href), result(2)), "cats", 5)] == ["https://a.test/2"]


def test_a_page_found_twice_is_one_hit():
    """The better place is kept."""
    hits = search_with(engine(result(1), result(1, title="Again"), result(2)), "cats", 5)

    assert [hit.title for hit in hits] == ["Title 1", "Title 2"]


def test_missing_and_broken_fields_are_made_one_line():
    """Engines leave fields out and put line breaks into titles."""
    hits = search_with(engine({"href": "https://a.test/", "title": " A\n\u2028 b ", "body": None}), "cats", 5)

    assert hits == [SearchHit(title="A b", url="https://a.test/", snippet="")]


@pytest.mark.parametrize("results", [(), (result(1, href=""),)])
def test_nothing_found_is_never_an_empty_list(results):
    """An empty answer would be remembered; this is an error, of which a model is told."""
    with pytest.raises(NothingFound, match="try other words") as caught:
        search_with(engine(*results), "cats", 5)

    assert isinstance(caught.value, ModelRetry)


def test_a_search_for_no_results_is_a_usage_error():
    """Zero and less are mistakes of the caller."""
    with pytest.raises(UsageError, match="max_results=1"):
        search_with(engine(result(1)), "cats", 0)


def test_a_failed_search_is_an_error_that_may_pass():
    """It says nothing about whether there is something to find, so a model is not told that there is nothing."""
    failed = failure("ConnectError: https://engine.test/?q=s3cret failed")

    assert type(failed) is SearchFailed
    assert not isinstance(failed, ModelRetry)
    assert isinstance(failed, OSError)
    assert isinstance(failed, AgentflowError)
    assert "s3cret" not in str(failed)


def test_what_ddgs_says_when_engines_find_nothing_is_told_apart():
    """ddgs has one exception for both cases; a changed sentence would make this an error that may pass."""
    assert type(failure("No results found.")) is NothingFound


def test_ddgs_without_a_network_is_a_failed_search(monkeypatch):
    """The real library, whose every request goes to a proxy that is not there."""
    monkeypatch.setenv("DDGS_PROXY", "http://127.0.0.1:9")

    with pytest.raises(SearchFailed, match="web search failed") as caught:
        web_search("cats", max_results=1)

    assert type(caught.value) is SearchFailed
    assert isinstance(caught.value.__cause__, DDGSException)


def test_the_real_tool_asks_ddgs(monkeypatch):
    """The query and the number go to ddgs, its results come back as hits."""
    asked = []

    class Engines:
        def __init__(self, *, timeout):
            self.timeout = timeout

        def text(self, query, *, max_results):
            asked.append((query, max_results, self.timeout))
            return [result(1)]

    monkeypatch.setattr("ddgs.DDGS", Engines)

    assert [hit.url for hit in web_search("cats", max_results=4)] == ["https://a.test/1"]
    assert asked == [("cats", 4, 10)]


def test_a_missing_extra_is_named(monkeypatch):
    """The sentence says what to install."""
    monkeypatch.setitem(sys.modules, "ddgs", None)

    with pytest.raises(UsageError, match=r"the extra 'web'.*pip install 'agentflow-workflows\[web\]'"):
        web_search("cats")


def test_a_hit_is_a_frozen_value_that_survives_json():
    """It can be a step's result and a tool's answer."""
    hit = SearchHit(title="Cats", url="https://a.test/", snippet="Meow")

    assert SearchHit.model_validate_json(hit.model_dump_json()) == hit
    with pytest.raises(ValidationError):
        hit.title = "Dogs"
