import datetime as dt
import subprocess
import sys

import pytest
from pydantic import ValidationError

from agentflow import cached_step
from agentflow.exceptions import UsageError
from agentflow.testing import fresh_store
from agentflow.tools._article import Article, article_reader, extract, read_article
from agentflow.tools._base import tool
from agentflow.tools._failures import PageRefused, WebError
from agentflow.tools._search import web_search

URL = "https://news.example/cats"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<title>Why cats sleep | The Daily Example</title>
<meta property="og:title" content="Why cats sleep">
<meta name="author" content="Ada Example">
<meta property="article:published_time" content="2024-03-05T08:00:00Z">
<script>var tracking = "do not read me";</script>
</head>
<body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/sport">Sport</a></li></ul></nav>
<div class="cookie-banner">We use cookies to make everything better. <button>Accept all</button></div>
<article>
<h1>Why cats sleep</h1>
<p>A cat that sleeps for most of the day is not lazy. It is a hunter between two hunts, and hunting is expensive.</p>
<h2>Dawn and dusk</h2>
<p>Cats are most awake when the light is low, as <a href="https://library.example/twilight">the library explains</a>,
because that is when the small animals they live on come out of their holes and can be had for little effort.</p>
<ul><li>Kittens sleep the most of all.</li><li>Old cats sleep nearly as much as kittens do.</li></ul>
<table><tr><th>Animal</th><th>Awake</th></tr><tr><td>Cat</td><td>dusk</td></tr><tr><td>Owl</td><td>night</td></tr></table>
<p>So do not wake a sleeping cat: it has plans for later, and they do not include you, however good your reasons.</p>
</article>
<aside>Related: ten hats for your hamster</aside>
<footer>Copyright and imprint, all rights reserved by nobody</footer>
</body></html>"""

PROSE = "Ein Kätzchen schläft, während der Regen fällt; niemand würde es dafür tadeln. " * 8


def in_html(prose, head=""):
    return f"<html><head><title>Größe</title>{head}</head><body><article><p>{prose}</p></article></body></html>"


def test_the_article_is_found_among_everything_else():
    """Text, headings, links, lists and tables stay as markdown; menus, banners and footers go."""
    article = extract(PAGE, URL)

    assert article.title == "Why cats sleep"
    for kept in (
        "hunter between two hunts",
        "## Dawn and dusk",
        "- Kittens sleep",
        "| Cat | dusk |",
        "plans for later",
    ):
        assert kept in article.text
    assert "[the library explains](https://library.example/twilight)" in article.text
    for dropped in ("Sport", "cookies", "Accept all", "hamster", "imprint", "tracking"):
        assert dropped not in article.text


def test_author_and_date_come_from_the_page():
    """What the page says about itself is kept as values."""
    article = extract(PAGE, URL)

    assert (article.url, article.author, article.date) == (URL, "Ada Example", dt.date(2024, 3, 5))


def test_what_the_page_does_not_say_is_not_invented():
    """Without a title the URL stands in; author and date are None, whatever dates the text speaks of."""
    article = extract(f"<html><body><article><p>On 12 May 2019, {PROSE}</p></article></body></html>", URL)

    assert (article.title, article.author, article.date) == (URL, None, None)


@pytest.mark.parametrize(
    ("encoding", "content_type", "head"),
    [
        ("utf-8", "text/html", ""),
        ("utf-8", "text/html; charset=utf-8", ""),
        ("utf-8-sig", "text/html; charset=iso-8859-1", ""),
        ("utf-16", "text/html", ""),
        ("iso-8859-1", "text/html; charset=iso-8859-1", ""),
        ("iso-8859-1", "text/html", '<meta charset="iso-8859-1">'),
        ("utf-8", "text/html", '<meta http-equiv="Content-Type" content="text/html; charset=UTF-8">'),
        ("windows-1252", "text/html", ""),
        ("utf-8", "text/html; charset=no-such-encoding", ""),
        ("utf-8", "text/html; charset=punycode", ""),
        ("utf-8", "text/html; charset=unicode_escape", ""),
        ("utf-8", "text/html; charset=base64", ""),
    ],
)
def test_pages_are_decoded_as_browsers_do(site, encoding, content_type, head):
    """Byte order mark, server, page, guess: in this order, and only encodings of text."""
    site.page("/", in_html(PROSE, head).encode(encoding), content_type=content_type)

    article = article_reader(allow_private=True)(site.url + "/")

    assert article.title == "Größe"
    assert "Kätzchen schläft, während" in article.text


def test_bytes_are_extracted_like_text():
    """Pages that are at hand need no fetching: bytes are decoded as those from a server without a charset."""
    assert extract(in_html(PROSE).encode(), URL) == extract(in_html(PROSE), URL)


@pytest.mark.parametrize(
    "odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x00", "\ufeff", "\u202e", "\U0001f408", "&#8232;"]
)
def test_odd_characters_are_no_obstacle(odd):
    """Line separators of other alphabets, control characters and emoji may stand in a page."""
    article = extract(in_html(f"Before{odd} after. {PROSE}"), URL)

    assert "Before" in article.text
    assert "after." in article.text


@pytest.mark.parametrize(
    "html",
    ["", " ", "<html></html>", "<", "\x00", "{}", "<html><body><div id=app></div><script>run()</script></body></html>"],
)
def test_a_page_without_an_article_is_refused(html):
    """Nothing is not an empty article: a model is told, and can look elsewhere."""
    with pytest.raises(PageRefused, match="no article was found"):
        extract(html, URL + "?key=s3cret")


def test_a_page_of_nothing_but_markup_is_refused():
    """Extraction cannot be interrupted, so a page that would keep it busy for minutes is not begun."""
    with pytest.raises(PageRefused, match="tags"):
        extract("<html><body>" + "<p>x</p>" * 60_000, URL)


def test_plain_text_is_an_article_as_it_is(site):
    """A text file has no title to find and no markup to lose."""
    site.page("/notes.txt", b"Ein <Wort>\n\nnoch eins", content_type="text/plain; charset=utf-8")

    article = article_reader(allow_private=True)(f"{site.url}/notes.txt")

    assert (article.title, article.text) == (f"{site.url}/notes.txt", "Ein <Wort>\n\nnoch eins")


def test_the_article_says_where_it_was_found(site):
    """After a redirect the URL is that of the page itself."""
    site.redirect("/old", "/new")
    site.page("/new", PAGE.encode())

    assert article_reader(allow_private=True)(f"{site.url}/old").url == f"{site.url}/new"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_read_article_does_not_reach_this_machine(site, host):
    """The tool that models get reads the public internet only, with the system's own name service."""
    site.page("/", PAGE.encode())

    for read in (read_article, article_reader()):
        with pytest.raises(PageRefused):
            read(f"http://{host}:{site.port}/")

    assert site.connections == 0


@pytest.mark.parametrize("read", [read_article, article_reader(allow_private=True)])
def test_a_model_can_supply_the_url_and_nothing_else(read):
    """A tool's schema is its signature, so what a reader may do is not in it."""
    offered = tool(read)

    assert offered.definition.name == "read_article"
    assert list(offered.definition.parameters["properties"]) == ["url"]
    with pytest.raises(ValidationError):
        offered.read_arguments('{"url": "http://127.0.0.1/", "allow_private": true}')


@pytest.mark.parametrize("function", [read_article, article_reader(), web_search])
def test_a_model_reads_one_sentence_about_a_tool(function):
    """Notes and examples in the docstring are for programmers; parameters are described one by one."""
    definition = tool(function).definition

    assert len(definition.description.splitlines()) == 1
    assert all(one["description"] for one in definition.parameters["properties"].values())


@pytest.mark.parametrize(
    ("status", "body"), [(503, b"later"), (404, b"not here"), (200, b"<html><body></body></html>")]
)
def test_a_failure_is_never_remembered_as_an_article(site, status, body):
    """A step that could not read a page reads it at the next call; once it was read, it is remembered."""
    read = article_reader(allow_private=True)
    site.page("/page", body, status=status)
    page = f"{site.url}/page"

    @cached_step
    def look(url: str) -> Article:
        return read(url)

    with fresh_store():
        for _ in range(2):
            with pytest.raises(WebError):
                look(page)
        site.page("/page", PAGE.encode())
        found = look(page)
        site.page("/page", b"gone", status=404)
        assert look(page) == found

    assert len(site.requests) == 3


def test_limits_of_a_reader_hold(site):
    """`max_bytes` and `timeout` reach the fetching."""
    site.page("/", PAGE.encode())

    with pytest.raises(PageRefused, match="larger than 100 bytes"):
        article_reader(allow_private=True, max_bytes=100)(site.url + "/")
    with pytest.raises(TimeoutError):
        article_reader(allow_private=True, timeout=0)(site.url + "/")


def test_a_missing_extra_is_named_before_anything_is_fetched(site, monkeypatch):
    """The sentence says what to install."""
    monkeypatch.setitem(sys.modules, "trafilatura", None)

    with pytest.raises(UsageError, match=r"the extra 'web'.*pip install 'agentflow-workflows\[web\]'"):
        article_reader(allow_private=True)(site.url)

    assert site.connections == 0


def test_an_article_is_a_frozen_value_that_survives_json():
    """It can be a step's result and a tool's answer."""
    article = extract(PAGE, URL)

    assert Article.model_validate_json(article.model_dump_json()) == article
    with pytest.raises(ValidationError):
        article.title = "Dogs"


@pytest.mark.parametrize("module", ["_article", "_search"])
def test_importing_a_tool_loads_nothing_heavy(module):
    """httpx, ddgs and trafilatura are loaded when a page or a search is asked for."""
    heavy = "{'httpx', 'httpcore', 'trafilatura', 'lxml', 'ddgs', 'primp'}"
    program = f"import sys, agentflow.tools.{module}; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
