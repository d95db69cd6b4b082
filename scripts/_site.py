"""Build the documentation site: `scripts/docs` makes the environment for this and runs it.

The pages of `docs/` are put together with the pages that stand elsewhere (the changelog, ...), an API reference of every public name,
and `llms.txt` and `llms-full.txt` for programs that read (https://llmstxt.org). Zensical makes a site of them.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import attrs

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "zensical.toml"

# Pages that stand at the root of the repository, where people look for them.
GUESTS = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}

# Beside the guides, what `llms-full.txt` has.
IN_FULL = {"keys.md", "stores.md", "errors.md", "troubleshooting.md", "api/agentflow.md", "api/testing.md"}

FOR_PROGRAMS = """\
# agentflow

> {description}

Put `@workflow` on the function that is the program and `@cached_step` on the functions that cost time or money. There is no graph, no step class and no server.

To write a workflow:

- Call steps and workflows like functions. A first parameter `ctx: Context` is injected and never passed.
- The code outside steps runs again in every attempt, finished steps do not: what must happen once belongs in a step.
- A step is found again by its arguments and its code. Arguments are plain data, models or dataclasses; leave clients out with `ignore=`. Annotate what a step returns.
- `@cached_step(retry=, timeout=, ttl=, cache_if=, scope="run" | "session" | "global")`. Do not write caches or retries by hand.
- Make an `Agent("openai:gpt-4o", instructions=..., tools=[...], output_type=Model)` once, at module level, and ask it inside a step: `agent.run(prompt).output`.
- Stream with a generator: `result = yield from agent.stream(prompt)`, then `result.output`.
- Many at once: `ctx.map(step, items, max_concurrency=5)`, or `asyncio.gather` in async code.
- What a user keeps is `ctx.state[...]`; whose it is says `@workflow(session=...)` or `with_options(session_id=...)`.
- In the background: `run = workflow.start(...)`, later `get_run(run.id).result(timeout=60)`.
- To see it: `print_run(workflow(...))`.
- In tests: `agentflow.testing.ScriptedModel([...])` with `override_models(...)`, `replace_step`, `crash_after`; with pytest the fixture `scripted_model`.

Every Python block of these pages is executed by the project's tests.
"""


@attrs.frozen
class Page:
    """A page of the site, where the navigation has it."""

    section: str
    title: str
    path: str


def navigation() -> list[Page]:
    """Return the pages in the order in which the site has them."""
    project = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]
    return list(_pages(project["nav"], section=""))


def _pages(entries: list[dict[str, object]], section: str) -> Iterator[Page]:
    for title, place in (item for entry in entries for item in entry.items()):
        if isinstance(place, str):
            yield Page(section, title, place)
        else:
            yield from _pages(place, section=title)


def stage(target: Path) -> None:
    """Put together in `target` what Zensical makes a site of.

    Args:
        target: An empty directory.
    """
    pages = target / "docs"
    shutil.copytree(ROOT / "docs", pages)
    for source, name in GUESTS.items():
        shutil.copy(ROOT / source, pages / name)
    for page in pages.glob("*.md"):
        page.write_text(_at_home(page.read_text(encoding="utf-8")), encoding="utf-8")
    _write_examples(pages)
    _write_reference(pages / "api")
    _write_for_programs(pages)
    shutil.copy(CONFIG, target)
    for name in ("agentflow", "scripts"):  # what the reference is made from, and by
        (target / name).symlink_to(ROOT / name)


def _at_home(text: str) -> str:
    """Return a page with its links as they are where all pages lie together; a file that is no page is only named."""
    listed = {page.path for page in navigation()}

    def relinked(link: re.Match[str]) -> str:
        words, path, anchor = link[1], re.sub(r"^(\.\./|docs/)", "", link[2]), link[3] or ""
        path = GUESTS.get(path, re.sub(r"^(examples/.*)\.py$", r"\1.md", path))
        there = path in listed or (ROOT / "docs" / path).is_file()
        return f"[{words}]({path}{anchor})" if there else words

    return re.sub(r"\[([^]]+)\]\(((?:\.\./|docs/)[\w./-]+|[\w-]+\.md)(#[\w-]+)?\)", relinked, text)


def _write_examples(pages: Path) -> None:
    """Make a page of each example that the navigation has."""
    (pages / "examples").mkdir()
    for page in [page for page in navigation() if page.path.startswith("examples/")]:
        source = (ROOT / page.path).with_suffix(".py").read_text(encoding="utf-8")
        purpose = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
        text = f"# {page.title}\n\n{purpose}\n\n`{page.path[:-3]}.py`:\n\n```python\n{source}```\n"
        (pages / page.path).write_text(text, encoding="utf-8")


def reference() -> dict[str, list[str]]:
    """Return the names that each page of the API reference explains, in full."""
    top = importlib.import_module("agentflow")
    spaces = [name for name in top.__all__ if isinstance(getattr(top, name), ModuleType)]
    pages = {"agentflow": [f"agentflow.{name}" for name in top.__all__ if name not in spaces]}
    return pages | {name: list(_names(importlib.import_module(f"agentflow.{name}"))) for name in spaces}


def _names(module: ModuleType) -> Iterator[str]:
    yield from (f"{module.__name__}.{name}" for name in module.__all__)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not found.name.startswith("_"):
            yield from _names(importlib.import_module(f"{module.__name__}.{found.name}"))


def _write_reference(folder: Path) -> None:
    folder.mkdir()
    for page, names in reference().items():
        module = importlib.import_module("agentflow" if page == "agentflow" else f"agentflow.{page}")
        purpose = (module.__doc__ or "").partition("\n\n")[0]
        blocks = [f"# {module.__name__}", purpose, *(f"::: {name}" for name in names)]
        (folder / f"{page}.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _write_for_programs(folder: Path) -> None:
    """Write `llms.txt`, which says what there is to read, and `llms-full.txt`, which is what one needs to write workflows."""
    description = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["site_description"]
    index = [FOR_PROGRAMS.format(description=description)]
    full = [index[0]]
    for section, members in itertools.groupby(navigation(), key=lambda page: page.section):
        index.append(f"\n## {section or 'Start here'}\n\n")
        for page in members:
            text = (folder / page.path).read_text(encoding="utf-8")
            index.append(f"- [{page.title}]({page.path}): {summary(text)}\n")
            full += (
                [f"\n{plain(text).strip()}\n"] if section in {"", "Guides", "Examples"} or page.path in IN_FULL else []
            )
    (folder / "llms.txt").write_text("".join(index), encoding="utf-8")
    (folder / "llms-full.txt").write_text("".join(full), encoding="utf-8")


def summary(text: str) -> str:
    """Return the first sentence of a page, which says what it is about."""
    paragraphs = (part for part in _visible(text).split("\n\n") if re.match(r"\w|`(?!``)", part))
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(next(paragraphs, "").split()))
    return re.split(r"(?<=\.)\s(?=[A-Z`])", words)[0].removesuffix(":")


def plain(text: str) -> str:
    """Return a page as programs read it: without comments, and with signature and docstring of what the reference names."""
    return re.sub(r"^::: (\S+)$", lambda name: _explained(name[1]), _visible(text), flags=re.MULTILINE)


def _visible(text: str) -> str:
    return re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL)


def _explained(name: str) -> str:
    module, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(module), last)
    documented = inspect.isclass(thing) or inspect.isroutine(thing)
    parts = [_signature(last, thing), inspect.getdoc(thing) or ""] if documented else []
    return "\n\n".join([f"## {name}", *filter(None, parts)])


def _signature(name: str, thing: Callable[..., object]) -> str:
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):  # such as an enum's
        return ""
    # Annotations that are not evaluated are shown as the text that they are.
    plainly = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
    return f"`{name}{plainly}`"


def build(site: Path) -> None:
    """Make the site, with its Markdown beside it.

    Args:
        site: The directory that the site becomes.

    Raises:
        subprocess.CalledProcessError: If Zensical has an error or a warning.
    """
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        stage(staged)
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=staged, check=True)
        for page in staged.joinpath("docs").rglob("*.md"):
            beside = staged / "site" / page.relative_to(staged / "docs")
            beside.write_text(plain(page.read_text(encoding="utf-8")), encoding="utf-8")
        if site.exists():
            shutil.rmtree(site)
        shutil.copytree(staged / "site", site)


def external_links() -> list[str]:
    """Return the links of all pages to other sites."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / name for name in GUESTS)]
    return sorted({link for page in pages for link in re.findall(r"\]\((\w+:[^)\s]+)\)", _prose(page))})


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def no_answer(link: str) -> str:
    """Ask for a page of another site; return why it cannot be had, or nothing."""
    asking = urllib.request.Request(link, headers={"User-Agent": "agentflow-documentation-links"})
    try:
        with urllib.request.urlopen(asking, timeout=20):
            return ""
    except OSError as error:  # among them the answers of 400 and more
        return str(error)


def main() -> None:
    """Build the site where the command line says."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "site", help="where it shall be (build/site)")
    parser.add_argument("--online", action="store_true", help="also ask every link to another site whether it answers")
    asked = parser.parse_args()
    site = asked.to.absolute()
    if site.exists() and any(site.iterdir()) and not (site / "llms.txt").exists():
        sys.exit(f"{site} has something else in it: say --to a directory that is empty or not there yet")
    try:
        build(site)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    print(f"The site is {site / 'index.html'}")
    silent = [f"{link}: {why}" for link in external_links() if (why := no_answer(link))] if asked.online else []
    if silent:
        sys.exit("\n".join(["These links do not answer:", *silent]))


if __name__ == "__main__":
    main()
