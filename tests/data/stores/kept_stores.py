"""What is in the stores beside this file: a program whose every call must be answered from them for ever.

    python tests/data/stores/kept_stores.py

writes the store of today's schema (`<schema>/cache.db`) and what it must answer (`<schema>/expected.json`). A released schema is
written once and never again: change the tables by a migration, and write the store of the new version.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[2]))

from pydantic import BaseModel  # noqa: E402

from agentflow import Context, cached_step, workflow  # noqa: E402
from agentflow._settings import using_store  # noqa: E402
from agentflow.stores import DiskStore  # noqa: E402
from agentflow.stores._schema import SCHEMA_VERSION  # noqa: E402
from agentflow.types import StateModel  # noqa: E402

executed: list[str] = []


class Article(BaseModel):
    title: str
    words: int = 0


@dataclass
class Page:
    url: str
    read_at: datetime


class Kept(StateModel):
    articles: dict[str, Article] = {}
    runs: int = 0


@cached_step(name="fixture.search", version="1", tags=("web",))
def search(topic: str, limit: int = 2) -> list[Article]:
    executed.append("search")
    return [Article(title=f"{topic} {n}", words=n) for n in range(limit)]


@cached_step(name="fixture.read", version="1")
def read(ctx: Context, url: str) -> Page:
    executed.append("read")
    ctx.state["last url"] = url
    return Page(url, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


@cached_step(name="fixture.price", version="1", scope="global")
def price(words: int) -> dict[str, Decimal]:
    executed.append("price")
    return {"price": Decimal(words) / 100}


@cached_step(name="fixture.write", version="1")
def write(topic: str) -> Iterator[str]:
    executed.append("write")
    yield "All about "
    yield topic


@workflow(name="fixture.blog", session=lambda topic: topic)
def blog(ctx: Context, topic: str) -> Iterator[str]:
    articles = search(topic)
    page = read(f"https://example.com/{topic}?é=\ud800")
    ctx.state.setdefault("posts", {})[topic] = [len(articles), page.url]
    yield from write(topic)
    yield f", {price(1234)['price']}"


@workflow(name="fixture.typed", session="typed", state=Kept)
def typed(ctx: Context[Kept], topic: str) -> int | float:
    ctx.state.articles[topic] = Article(title=topic)
    return ctx.state.increment("runs")


@workflow(name="fixture.failing", session="failing", max_attempts=1)
def failing(topic: str) -> str:
    search(topic)
    raise OSError(f"no {topic}")


def shown(value: object) -> str:
    return ascii(value)


def answers() -> dict[str, str]:
    """What the store answers: results, state and runs, as text."""
    return {
        "search": shown(search.with_options(workflow="fixture.blog", session_id="cats")("cats")),
        "price": shown(price(1234)),
        "posts": shown(dict(blog.session("cats").state)),
        "typed": shown(dict(typed.session("typed").state)),
        "sessions": shown([session.id for session in blog.sessions()]),
        "steps": shown([(each.step, each.size, each.tags) for each in blog.session("cats").steps()]),
        "runs": shown([(run.status.value, run.attempt) for run in blog.session("cats").runs()]),
        "failed": shown([(run.status.value, bool(run.error)) for run in failing.session("failing").runs()]),
    }


def refused(call: Callable[[], object]) -> None:
    try:
        call()
    except OSError:
        return
    raise AssertionError


def forget_where(file: Path) -> None:
    """Take the directory of this checkout out of the traceback that a failed run keeps: it is nobody's business."""
    con = sqlite3.connect(file, isolation_level=None)
    con.execute("UPDATE af_runs SET error = replace(error, ?, '')", (f"{HERE.parents[2]}/",))
    con.execute("VACUUM")
    con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    con.close()
    assert str(HERE.parents[2]).encode() not in file.read_bytes()


def main() -> None:
    target = HERE / str(SCHEMA_VERSION)
    with tempfile.TemporaryDirectory() as directory:
        store = DiskStore(Path(directory) / "store")
        with using_store(store):
            said = "".join(blog("cats"))
            list(blog("dogs \u00e9"))
            typed("cats")
            refused(lambda: failing("cats"))
            expected = {"said": said, **answers()}
        assert store.doctor() == ()
        store.close()
        forget_where(store.path / "cache.db")
        target.mkdir(exist_ok=True)
        shutil.copyfile(store.path / "cache.db", target / "cache.db")
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
