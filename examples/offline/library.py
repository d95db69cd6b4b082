"""A small world wide web in a folder: pages as web sites serve them, and a search engine over their articles.

The pages were written for these examples. They come with menus, banners, advertisements and comments,
so that finding the article in them is the same work as on the real web, by the same code.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

import attrs

from agentflow.tools import Article, NothingFound, PageRefused, SearchHit
from agentflow.tools._article import extract

from .prose import paragraphs, sentences
from .ranking import Index

__all__ = ["SITE", "fetch", "read_article", "search", "urls"]

SITE: Final = "https://offline.example/"
"""Where the pages would be if they were anywhere: a host that no name service knows."""

_PAGES: Final = Path(__file__).parent / "pages"
_NAME: Final = re.compile(r"[a-z0-9-]+")
_RELEVANT: Final = 0.3  # of the best page's score; below, a page only happens to share a word
_TITLE_COUNTS: Final = 2  # times as much as the text


def urls() -> list[str]:
    """Return the address of every page, in alphabetical order."""
    return [SITE + path.stem for path in sorted(_PAGES.glob("*.html"))]


def fetch(url: str) -> bytes:
    """Return a page as its server would send it.

    Raises:
        PageRefused: If there is no such page.
    """
    name = url.removeprefix(SITE)
    if not url.startswith(SITE) or not _NAME.fullmatch(name) or not (_PAGES / f"{name}.html").is_file():
        raise PageRefused.about(url, "it is not among the offline pages")
    return (_PAGES / f"{name}.html").read_bytes()


def read_article(url: str) -> Article:
    """Read the article at a URL and return its text as markdown.

    Args:
        url: The page, as a URL that the search found.

    Raises:
        PageRefused: If there is no such page.
    """
    return extract(fetch(url), url)


def search(query: str, max_results: int = 10) -> list[SearchHit]:
    """Search the web and return the pages found, the best first.

    Args:
        query: The words to look for.
        max_results: The most pages to return.

    Raises:
        NothingFound: If no page fits.
    """
    shelf = _shelf()
    scores = shelf.scores(query)
    ranked = sorted(zip(scores, shelf.articles, strict=True), key=lambda pair: (-pair[0], pair[1].url))
    hits = [
        _hit(article, query, shelf.texts) for score, article in ranked if score and score >= _RELEVANT * max(scores)
    ]
    if not hits:
        raise NothingFound(f"no offline page is about {query!r}; try other words", reason="no page fits")
    return hits[:max_results]


@attrs.frozen
class _Shelf:
    """The articles of all pages, and the indexes over them."""

    articles: tuple[Article, ...]
    titles: Index
    texts: Index

    def scores(self, query: str) -> list[float]:
        """Return how well each article fits a query, by its title and its text."""
        both = zip(self.titles.scores(query), self.texts.scores(query), strict=True)
        return [_TITLE_COUNTS * title + text for title, text in both]


@functools.cache
def _shelf() -> _Shelf:
    """Read all pages once; it takes a moment."""
    articles = tuple(read_article(url) for url in urls())
    return _Shelf(articles, Index.of([one.title for one in articles]), Index.of([one.text for one in articles]))


def _hit(article: Article, query: str, among: Index) -> SearchHit:
    """Show an article by its sentence that fits a query best, as search engines do."""
    said = [sentence for paragraph in paragraphs(article.text) for sentence in sentences(paragraph.text)]
    scores = Index.of(said, among.rarity).scores(query)
    return SearchHit(title=article.title, url=article.url, snippet=said[scores.index(max(scores))])
