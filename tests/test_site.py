"""The documents as a site: every page can be reached, every link holds, and programs are told what people are."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site():
    """The program that puts the site together."""
    spec = importlib.util.spec_from_file_location("_site", ROOT / "scripts" / "_site.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["_site"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_site"]


@pytest.fixture(scope="module")
def staged(site, tmp_path_factory):
    """What a site is made of, put together."""
    folder = tmp_path_factory.mktemp("staged")
    site.stage(folder)
    return folder


def prose_of(document: Path) -> str:
    """Return a document without its code, in which brackets mean something else."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as those who show Markdown make them."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_link_of_a_document_holds(document):
    """A link leads to a file of the repository and a heading in it, or is a whole address of another site."""
    broken = []
    for link in LINK.findall(prose_of(document)):
        parts = urlsplit(link)
        target = document.parent / parts.path if parts.path else document
        if parts.scheme:
            holds = parts.scheme == "https" and "." in parts.netloc
        else:
            inside = not parts.path.startswith("/") and target.resolve().is_relative_to(ROOT)
            holds = inside and target.is_file() and (not parts.fragment or parts.fragment in anchors_of(target))
        broken += [] if holds else [link]

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_file_that_a_document_names_is_there(document):
    """Who is sent to a file of the repository finds it; `.environments` is made by the benchmarks."""
    named = re.findall(
        r"`((?:\.ci|agentflow|benchmarks|docs|examples|scripts|tests)/[\w./-]+)", document.read_text("utf-8")
    )

    assert [name for name in named if not (ROOT / name).exists() and ".environments" not in name] == []


def test_the_navigation_has_every_page_once(site, staged):
    """No page can be reached by its address alone, and none is announced that is not there."""
    listed = [page.path for page in site.navigation()]
    there = [page.relative_to(staged / "docs").as_posix() for page in (staged / "docs").rglob("*.md")]

    assert sorted(listed) == sorted(there)


def test_programs_are_told_of_every_page(site, staged):
    """`llms.txt` has the form of llmstxt.org: a title, what it is, and lists of links, which hold, each with a sentence."""
    told = (staged / "docs" / "llms.txt").read_text(encoding="utf-8")

    assert re.match(r"# agentflow\n\n> \S.+\n\n\w", told)
    entries = re.findall(r"^- \[.+\]\((\S+)\): \S.+$", told, re.MULTILINE)
    assert entries == [page.path for page in site.navigation()]
    assert [entry for entry in entries if not (staged / "docs" / entry).is_file()] == []


def test_programs_can_read_all_that_one_needs_to_write_workflows(staged):
    """`llms-full.txt` has the guides with their code, signatures and docstrings, and nothing that stands in comments."""
    full = (staged / "docs" / "llms-full.txt").read_text(encoding="utf-8")

    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert [block for block in re.findall(r"```python\n.*?```", tutorial, re.DOTALL) if block not in full] == []
    assert re.search(
        r"^## agentflow.cached_step\n\n`cached_step\(fn: Callable.*`\n\nRemember the results", full, re.MULTILINE
    )
    assert "<!--" not in full
    assert not re.search(r"^::: ", full, re.MULTILINE)


def test_a_directory_with_other_things_is_left_alone(site, tmp_path, monkeypatch):
    """The site replaces an older one and nothing else."""
    (tmp_path / "thesis.md").touch()
    monkeypatch.setattr(sys, "argv", ["docs", "--to", str(tmp_path)])

    with pytest.raises(SystemExit, match="has something else in it"):
        site.main()

    assert (tmp_path / "thesis.md").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Title\n\nIt says what. Then more.\n", "It says what."),
        ("# Title\n\n<!-- code -->\n\n```python\nx\n```\n\n`a.b` is [one](x.md) thing:\n\n* x\n", "`a.b` is one thing"),
        ("# Title\n", ""),
    ],
)
def test_a_page_is_told_by_its_first_sentence(site, text, said):
    """Headings, code and comments do not count, and links are only their words."""
    assert site.summary(text) == said


@attrs.define
class Html(HTMLParser):
    """What of a page can be linked to, and what it links to and loads."""

    anchors: set[str] = attrs.field(factory=set)
    links: list[str] = attrs.field(factory=list)
    loaded: list[str] = attrs.field(factory=list)
    text: str = ""

    def __attrs_pre_init__(self):
        super().__init__()

    @classmethod
    def of(cls, page: Path) -> Html:
        html = cls()
        html.feed(page.read_text(encoding="utf-8"))
        return html

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in {"img", "script"} or (tag == "link" and given.get("rel") in {"stylesheet", "icon", "preconnect"}):
            self.loaded += [given[name] for name in ("src", "href") if name in given]

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_holds_together(site, tmp_path):
    """Each link, anchor, image and script of every page is there, nothing is loaded from elsewhere, each public name is explained."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "_site.py", "--to", tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr

    pages = {page: Html.of(page) for page in (tmp_path / "site").rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 25
    assert [
        f"{page.name}: {link}" for page, html in pages.items() for link in html.links if breaks(link, page, pages)
    ] == []
    assert [
        f"{page.name}: {file}" for page, html in pages.items() for file in html.loaded if not is_there(page, file)
    ] == []

    reference = {page.stem: html for page, html in pages.items() if page.parent.name == "api"}
    names = [(page, name) for page, names in site.reference().items() for name in names]
    assert [name for page, name in names if name not in reference[page].anchors] == []
    assert [name for page, name in names if words(purpose_of(name)) not in words(reference[page].text)] == []
    # What no docstring says: the fields of an attrs class, and the options of a decorator that is cast to a protocol.
    signatures = "".join(reference["agentflow"].text.split())
    assert "RetryPolicy(*,attempts:int=3,wait:float=1.0," in signatures
    assert "workflow(fn:None=None,/,*,name:str|None=None," in signatures


def purpose_of(name: str) -> str:
    """Return what a docstring begins with; nothing, for what cannot have one."""
    module, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(module), last)
    return (
        (inspect.getdoc(thing) or "").partition("\n\n")[0] if inspect.isclass(thing) or inspect.isroutine(thing) else ""
    )


def words(text: str) -> str:
    """Return a text without what only formats it."""
    return " ".join(re.sub(r"[`*]", "", text).split())


def breaks(link: str, page: Path, pages: dict[Path, Html]) -> bool:
    """Whether a link of a built page leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme not in {"https", "mailto"}
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    return not target.is_file() or bool(
        parts.fragment and unquote(parts.fragment) not in pages[target].anchors | {"__top"}
    )


def is_there(page: Path, file: str) -> bool:
    """Whether what a page loads lies in the site."""
    parts = urlsplit(file)
    return parts.scheme == "data" or (not parts.netloc and (page.parent / unquote(parts.path)).is_file())
