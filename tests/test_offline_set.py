import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentflow.exceptions import ModelRetry
from agentflow.messages import (
    ModelRequest,
    ModelResponse,
    OutputSchema,
    ToolDefinition,
    ToolReturn,
    UserMessage,
)
from agentflow.tools._base import tool

EXAMPLES = Path(__file__).parent.parent / "examples"
SLUGS = sorted(path.stem for path in (EXAMPLES / "offline" / "pages").glob("*.html"))

PROMPTS = {  # the suggestions of the blog post generator, and what their pages are called
    "Why Cats Secretly Run the Internet": "cats-",
    "The Science Behind Why Pizza Tastes Better at 2 AM": "pizza-",
    "Time Travelers' Guide to Modern Social Media": "time-travel-",
    "How Rubber Ducks Revolutionized Software Development": "rubber-duck-",
    "The Secret Society of Office Plants: A Survival Guide": "office-plants-",
    "Why Dogs Think We're Bad at Smelling Things": "dogs-",
    "The Underground Economy of Coffee Shop WiFi Passwords": "coffee-shop-wifi-",
    "A Historical Analysis of Dad Jokes Through the Ages": "dad-jokes-",
}
BOILERPLATE = (
    "cookies",
    "one cookie",
    "Accept all",
    "Advertisement",
    "Subscribe",
    "newsletter",
    "Sign up",
    "Share",
    "Most read",
    "Popular posts",
    "Recent notes",
    "More from the shelf",
    "Comments",
    "Discussion",
    "Privacy",
    "Imprint",
    "Reading time",
    "Breaking",
    "dataLayer",
    "function",
)


@pytest.fixture(scope="module")
def offline():
    """The package as the examples import it: from the folder that they stand in."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("offline")
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in [name for name in sys.modules if name.partition(".")[0] == "offline"]:
            del sys.modules[name]


class NewsArticle(BaseModel):
    title: str
    url: str
    summary: str | None


class SearchResults(BaseModel):
    articles: list[NewsArticle]


class ScrapedArticle(BaseModel):
    title: str
    url: str
    summary: str | None
    content: str | None


def schema(kind):
    return OutputSchema(name=kind.__name__, json_schema=kind.model_json_schema())


def definition(function):
    return tool(function).definition


def converse(model, prompt, *functions, output=None):
    """Ask a model and call the functions it wants, until it answers; returns its answer and the names it called."""
    messages, called = [UserMessage(content=prompt)], []
    tools = {definition(function).name: tool(function) for function in functions}
    while True:
        request = ModelRequest(
            messages=tuple(messages),
            tools=tuple(one.definition for one in tools.values()),
            output=schema(output) if output else None,
        )
        response = model.request(request)
        if not response.tool_calls:
            return response.text, called
        messages += [response, *(_called(tools[call.name], call) for call in response.tool_calls)]
        called += [call.name for call in response.tool_calls]


def _called(one, call):
    try:
        content, failed = one.call(one.read_arguments(call.arguments)), False
    except ModelRetry as retry:
        content, failed = str(retry), True
    return ToolReturn(tool_call_id=call.id, tool_name=call.name, content=content, is_error=failed)


def articles_on(offline, topic):
    return [offline.read_article(hit.url).model_dump(mode="json") for hit in offline.search(topic)]


def write(offline, topic, articles):
    prompt = json.dumps({"topic": topic, "articles": articles}, indent=4)
    return offline.model().request(ModelRequest(messages=(UserMessage(content=prompt),))).text


def sentences_of(text):
    """Sentences without markup and citations, for comparing what is quoted with what it is quoted from."""
    plain = re.sub(r"\[\[\d+\]\]\([^)]*\)|[*`|]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
    return [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.!?])\s+", plain)]


# ---- the pages ---------------------------------------------------------------------------------


def test_there_are_enough_pages():
    """Every suggested topic has two pages or more, cats have three, so that a post has something to cite."""
    counts = {prefix: sum(slug.startswith(prefix) for slug in SLUGS) for prefix in PROMPTS.values()}

    assert len(SLUGS) >= 10
    assert min(counts.values()) >= 2
    assert counts["cats-"] >= 3


@pytest.mark.parametrize("slug", SLUGS)
def test_the_same_extraction_finds_the_article_in_every_page(offline, slug):
    """Title, author, date and 300 to 700 words of text, and nothing of what stands around them."""
    article = offline.read_article(f"https://offline.example/{slug}")

    assert article.url == f"https://offline.example/{slug}"
    assert article.title != article.url
    assert article.author
    assert 2023 <= article.date.year <= 2026
    assert 300 <= len(article.text.split()) <= 700
    assert "## " in article.text
    assert [word for word in BOILERPLATE if word in article.text] == []


@pytest.mark.parametrize("slug", SLUGS)
def test_every_page_is_as_untidy_as_a_real_one(offline, slug):
    """Menus, scripts or styles, banners and footers are there to be removed."""
    html = offline.fetch(f"https://offline.example/{slug}").decode().lower()

    for part in ("<nav", 'role="navigation"', 'class="menu"'):
        if part in html:
            break
    else:
        pytest.fail("no navigation")
    assert "footer" in html
    assert "cookie" in html or "<script" in html or "comments are closed" in html
    assert html.count('<a href="/') + html.count('<a class="card" href="/') >= 5


@pytest.mark.parametrize("slug", SLUGS)
def test_links_between_pages_lead_somewhere(offline, slug):
    """Related articles are pages of the set."""
    html = offline.fetch(f"https://offline.example/{slug}").decode()
    linked = [name for name in re.findall(r'href="/([a-z0-9-]+)"', html) if name.count("-") >= 3]

    assert linked
    assert set(linked) <= set(SLUGS)


@pytest.mark.parametrize(
    "url",
    [
        "https://offline.example/missing",
        "https://offline.example/",
        "https://offline.example/../library",
        "https://offline.example/..%2flibrary",
        "https://offline.example//etc/passwd",
        "https://offline.example/../pages/" + SLUGS[0],
        "https://offline.example/cats\n",
        "https://elsewhere.example/" + SLUGS[0],
        SLUGS[0],
        "",
    ],
)
def test_only_the_pages_can_be_fetched(offline, url):
    """A name is looked up among the pages and is never a path."""
    with pytest.raises(ModelRetry, match="not among the offline pages"):
        offline.fetch(url)


# ---- the search --------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "prefix"), PROMPTS.items())
def test_every_suggestion_finds_its_pages_and_only_those(offline, prompt, prefix):
    """Two pages or more on the topic, none on another."""
    found = [hit.url.removeprefix("https://offline.example/") for hit in offline.search(prompt)]

    assert len(found) >= 2
    assert [slug for slug in found if not slug.startswith(prefix)] == []


def test_hits_look_like_those_of_a_search_engine(offline):
    """Title, address, and a sentence of the page that fits the query."""
    hit = offline.search("why cats secretly run the internet")[0]

    assert hit.title == "The cat on the router: what cats really do to the network"
    assert hit.snippet == "None of this proves that cats secretly run the internet."


def test_no_more_hits_than_asked_for(offline):
    """The best ones are kept."""
    assert offline.search("cats", max_results=2) == offline.search("cats")[:2]


def test_endings_and_spellings_do_not_count(offline):
    """Travelers and travellers, joke and jokes, are the same to the search."""
    assert offline.search("traveler") == offline.search("travellers")
    assert [hit.url for hit in offline.search("joke")] == [hit.url for hit in offline.search("Jokes!")]


@pytest.mark.parametrize("query", ["quarterly earnings", "the of and", "", "\u2028"])
def test_a_search_without_a_hit_says_so(offline, query):
    """As with the real search, nothing found is no empty list."""
    with pytest.raises(ModelRetry, match="try other words"):
        offline.search(query)


# ---- the model as searcher and reader ----------------------------------------------------------


@pytest.mark.parametrize(("prompt", "prefix"), PROMPTS.items())
def test_the_searcher_searches_and_fills_the_form(offline, prompt, prefix):
    """It calls the search once and answers with what was found, in the form that was asked for."""
    text, called = converse(offline.model(), prompt, offline.search, output=SearchResults)

    found = SearchResults.model_validate_json(text)
    assert called == ["search"]
    assert [(one.url, one.title, one.summary) for one in found.articles] == [
        (hit.url, hit.title, hit.snippet) for hit in offline.search(prompt)
    ]


def test_the_searcher_does_not_invent_articles(offline):
    """If the search has nothing, the form is empty."""
    text, called = converse(offline.model(), "Quarterly earnings", offline.search, output=SearchResults)

    assert (json.loads(text), called) == ({"articles": []}, ["search"])


def test_the_reader_reads_the_page_that_is_named(offline):
    """Title, address and text come from the page, the summary is its beginning."""
    url = "https://offline.example/cats-why-we-cannot-stop-clicking"

    text, called = converse(offline.model(), f"Read this: {url}", offline.read_article, output=ScrapedArticle)

    article, scraped = offline.read_article(url), ScrapedArticle.model_validate_json(text)
    assert called == ["read_article"]
    assert (scraped.url, scraped.title, scraped.content) == (url, article.title, article.text)
    assert scraped.summary.startswith("Watching cats is one of the few habits")


def test_the_reader_does_not_invent_a_page(offline):
    """If the page cannot be read, its content is null."""
    text, _ = converse(offline.model(), "https://offline.example/missing", offline.read_article, output=ScrapedArticle)

    assert json.loads(text) == {"title": "", "url": "", "summary": None, "content": None}


def test_with_both_tools_it_searches_and_then_reads(offline):
    """An agent that researches alone gets a post with sources."""
    text, called = converse(offline.model(), "Rubber ducks", offline.search, offline.read_article)

    assert called == ["search", "read_article", "read_article"]
    assert text.startswith("# Rubber ducks\n")
    assert "https://offline.example/rubber-duck-debugging-a-history" in text


def test_what_search_and_reading_tell_of_a_page_is_joined(offline):
    """The summary is the search engine's, the content the page's own."""
    text, _ = converse(offline.model(), "Rubber ducks", offline.search, offline.read_article, output=ScrapedArticle)

    hit, scraped = offline.search("Rubber ducks")[0], ScrapedArticle.model_validate_json(text)
    assert (scraped.url, scraped.summary) == (hit.url, hit.snippet)
    assert scraped.content == offline.read_article(hit.url).text


def test_the_error_of_a_tool_is_no_source(offline):
    """What went wrong may quote a URL; that is not a page that was found."""

    def search(query: str) -> str:
        """Search."""
        raise ModelRetry('nothing at {"url": "https://trap.test/", "title": "Trap"}')

    text, _ = converse(offline.model(), "Cats", search, output=SearchResults)

    assert json.loads(text) == {"articles": []}


def test_each_turn_searches_anew(offline):
    """A tool that was called for an earlier question is called again for the next."""
    search = definition(offline.search)
    first = UserMessage(content="Cats")
    call = offline.model().request(ModelRequest(messages=(first,), tools=(search,)))
    answer = ToolReturn(tool_call_id=call.tool_calls[0].id, tool_name="search", content="[]")
    messages = (first, call, answer, ModelResponse(), UserMessage(content="Dogs"))

    again = offline.model().request(ModelRequest(messages=messages, tools=(search,)))

    assert [json.loads(one.arguments) for one in again.tool_calls] == [{"query": "Dogs"}]


def test_tools_of_other_kinds_are_left_alone(offline):
    """A tool that takes neither a query nor a URL is not called."""

    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    _, called = converse(offline.model(), "Cats", weather)

    assert called == []


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"topic": {"type": "string"}}, {"topic": "Cats"}),
        ({"count": {"type": "integer"}, "ok": {"type": "boolean"}}, {"count": 0, "ok": False}),
        ({"tags": {"type": "array", "items": {"type": "string"}}}, {"tags": []}),
        ({"kind": {"enum": ["news", "blog"]}}, {"kind": "news"}),
        ({"kind": {"const": "news", "type": "string"}}, {"kind": "news"}),
        ({"first": {"$ref": "#/$defs/Page"}}, {"first": {"url": "https://a.test/", "title": "A"}}),
        (
            {"first": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Page"}]}},
            {"first": {"url": "https://a.test/", "title": "A"}},
        ),
        (
            {"pages": {"type": "array", "items": {"$ref": "#/$defs/Page"}}},
            {"pages": [{"url": "https://a.test/", "title": "A"}]},
        ),
    ],
)
def test_forms_of_many_shapes_can_be_filled(offline, properties, expected):
    """References, alternatives, lists and plain values: what is not known is empty, never made up."""
    page = {"type": "object", "properties": {"url": {"type": "string"}, "title": {"type": "string"}}}
    form = {"type": "object", "properties": properties, "required": list(properties), "$defs": {"Page": page}}
    prompt = 'Cats\n{"url": "https://a.test/", "title": "A"}'
    request = ModelRequest(messages=(UserMessage(content=prompt),), output=OutputSchema(name="form", json_schema=form))

    assert json.loads(offline.model().request(request).text) == expected


# ---- the model as writer -----------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "prefix"), PROMPTS.items())
def test_a_post_has_a_headline_sections_and_sources(offline, prompt, prefix):
    """The form of the blog post that the example's writer is asked for."""
    articles = articles_on(offline, prompt)

    post = write(offline, prompt, articles)

    headings = re.findall(r"^#+ .*$", post, flags=re.MULTILINE)
    assert headings[:2] == [f"# {prompt}", "## Introduction"]
    assert headings[-2:] == ["## Key Takeaways", "## Sources"]
    assert len(headings) >= 6
    listed = re.findall(r"^\d+\. \[(.*)\]\((.*)\), (.*), (.*)$", post, flags=re.MULTILINE)
    assert listed == [(one["title"], one["url"], one["author"], one["date"]) for one in articles]
    for number, (_, url, _, _) in enumerate(listed, 1):
        assert f"[[{number}]]({url})" in post


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_sentence_of_a_post_is_quoted(offline, prompt):
    """The writer words nothing itself but headings and the last line."""
    articles = articles_on(offline, prompt)
    known = " ".join(sentence for one in articles for sentence in sentences_of(one["text"]))

    post = write(offline, prompt, articles)

    body = post.partition("## Introduction")[2].partition("## Sources")[0].replace("## Key Takeaways", "")
    lines = [line.removeprefix("- ") for line in body.splitlines() if line and not line.startswith("## ")]
    quoted = [sentence for line in lines for sentence in sentences_of(line) if sentence]
    assert len(quoted) >= 10
    assert [sentence for sentence in quoted if sentence not in known] == []


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_paragraph_is_quoted_twice(offline, prompt):
    """Introduction and sections are different paragraphs."""
    post = write(offline, prompt, articles_on(offline, prompt))

    paragraphs = [line for line in post.partition("## Key Takeaways")[0].splitlines() if "[[" in line]
    assert len(paragraphs) == len(set(paragraphs))


def test_the_last_line_says_how_it_was_written(offline):
    """Nobody should take it for the work of a language model."""
    for text in (write(offline, "Cats", articles_on(offline, "cats")), write(offline, "Earnings", [])):
        assert text.splitlines()[-1].startswith("*Written offline by extraction")
        assert "no language model was asked" in text.splitlines()[-1]


def test_without_articles_there_is_no_post(offline):
    """Nothing to quote, nothing said."""
    text, _ = converse(offline.model(), "Quarterly earnings", offline.search)

    assert "no articles on this topic" in text


def test_articles_are_found_in_the_middle_of_a_prompt(offline):
    """The topic is the first line, the articles are JSON anywhere below."""
    articles = articles_on(offline, "cats")
    prompt = f"Topic: Cats {{and}} [more]\n\nWrite a post from these articles:\n\n{json.dumps(articles)}\n\nBe brief."

    text = offline.model().request(ModelRequest(messages=(UserMessage(content=prompt),))).text

    assert text.startswith("# Cats")
    assert all(one["url"] in text for one in articles)


def test_articles_in_the_seeds_own_form_are_understood(offline):
    """`content` instead of `text`, and fields that are null."""
    content = "## One\n\nCats sleep. They do so all day long, and nobody minds.\n\nDogs do not. They bark at night."
    scraped = [{"title": "Sleep", "url": "https://a.test/", "summary": None, "content": content}]

    post = write(offline, "Cats", scraped)

    assert post.count("Cats sleep. They do so all day long, and nobody minds. [[1]](https://a.test/)") == 1
    assert "1. [Sleep](https://a.test/)\n" in post


def test_a_long_paragraph_is_quoted_by_its_beginning(offline):
    """Three sentences, so that what a pronoun stands for comes before it."""
    content = "# Title\n\nOne is here. Two is here. Three is here. Four is not.\n\n## Cats\n\nFive. Six. Seven. Eight."

    post = write(offline, "Cats", [{"title": "T", "url": "https://a.test/", "text": content}])

    assert "One is here. Two is here. Three is here. [[1]]" in post
    assert "## Cats\n\nFive. Six. Seven. [[1]]" in post
    assert "Title" not in post


def test_a_takeaway_is_new_and_stands_on_its_own(offline):
    """Not the introduction again, and no sentence that points at the one before it."""
    content = (
        "Cats and only cats are what cats think of. They are right about it.\n\n## More\n\n"
        "Something else is said here before it comes. This is what cats and cats alone have always been thinking. "
        "In the evening the cats are awake and look around."
    )

    post = write(offline, "Cats", [{"title": "T", "url": "https://a.test/", "text": content}])

    takeaways = post.partition("## Key Takeaways")[2].partition("## Sources")[0].strip()
    assert takeaways == "- In the evening the cats are awake and look around. [[1]](https://a.test/)"


def test_the_title_in_a_text_is_no_section(offline):
    """Many pages repeat their title above the article; what stands under it alone is the introduction."""
    content = "# The Title\n\nOne is here. Two is here.\n\nThree is here. Four is here.\n\n## Part\n\nFive. Six."

    post = write(offline, "Cats", [{"title": "T", "url": "https://a.test/", "text": content}])

    assert "## The Title" not in post


def test_a_post_cites_five_sources_at_most_and_none_that_was_not_read(offline):
    """A page without text cannot be quoted."""
    read = [{"title": f"T{n}", "url": f"https://a.test/{n}", "text": f"Cat {n}. It is one."} for n in range(7)]

    post = write(offline, "Cats", [{"title": "Unread", "url": "https://b.test/", "summary": "Cats."}, *read])

    assert re.findall(r"^\d\. \[(.*?)\]", post, flags=re.MULTILINE) == ["T0", "T1", "T2", "T3", "T4"]


def test_initials_and_titles_do_not_end_a_sentence(offline):
    """H. G. Wells is one person."""
    sentences = importlib.import_module("offline.prose").sentences

    assert sentences("H. G. Wells wrote it. Dr. Who did not! 1895 was long ago.") == [
        "H. G. Wells wrote it.",
        "Dr. Who did not!",
        "1895 was long ago.",
    ]


def test_a_delay_is_kept_before_each_word(offline, monkeypatch):
    """So that a stream can be watched; without one nothing waits."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    request = ModelRequest(messages=(UserMessage(content="Tell me a joke."),))

    deltas = list(offline.model(delay=0.25).stream(request))
    list(offline.model().stream(request))

    assert waits == [0.25] * len(deltas)


def test_the_stream_comes_word_by_word(offline):
    """Deltas are words with the space behind them, and together they are the answer."""
    prompt = json.dumps({"topic": "Cats", "articles": articles_on(offline, "cats")})
    request = ModelRequest(messages=(UserMessage(content=prompt),))

    deltas = list(offline.model().stream(request))

    assert "".join(deltas) == offline.model().request(request).text
    assert len(deltas) > 300
    assert max(len(delta.split()) for delta in deltas) == 1


async def test_the_stream_can_be_awaited_and_delayed(offline):
    """With a delay between words, as a network has it, also for async agents."""
    request = ModelRequest(messages=(UserMessage(content="Tell me a joke."),))
    stream = offline.model(delay=0.0001).astream(request)

    text = "".join([delta async for delta in stream])

    assert text == stream.response.text == offline.model().request(request).text


def test_a_question_without_sources_is_looked_up(offline):
    """The smallest example asks for a joke and gets one, with where it is from."""
    text, _ = converse(offline.model(), "Tell me a joke.")

    assert text.startswith("I would tell you a joke about construction, but I am still working on it.\n")
    assert "(https://offline.example/dad-jokes-through-the-ages)" in text
    assert text.splitlines()[-1].startswith("*Written offline by extraction")


def test_a_question_that_the_pages_cannot_answer_is_not_answered(offline):
    """It says so, and does not claim to have quoted anything."""
    text, _ = converse(offline.model(), "Quarterly earnings?")

    assert text.startswith("The offline pages say nothing about this.")
    assert "found nothing to quote" in text


def test_a_follow_up_is_answered_from_its_own_message(offline):
    """What an earlier turn was about does not leak into the next."""
    first = UserMessage(content="Tell me a joke.")
    answer = offline.model().request(ModelRequest(messages=(first,)))
    messages = (first, ModelResponse(parts=answer.parts), UserMessage(content="And about the Pragmatic Programmer?"))

    text = offline.model().request(ModelRequest(messages=messages)).text

    assert "rubber-duck-debugging-a-history" in text


def test_the_model_has_a_name_of_its_own(offline):
    """It shows in logs and in the version of the steps that use it."""
    assert offline.model().name == "offline:extractive"


def test_a_request_that_forbids_tools_calls_none(offline):
    """`tool_choice="none"` is obeyed."""
    search = ToolDefinition(name="search", parameters={"properties": {"query": {"type": "string"}}})
    request = ModelRequest(messages=(UserMessage(content="Cats"),), tools=(search,), tool_choice="none")

    assert offline.model().request(request).tool_calls == ()
