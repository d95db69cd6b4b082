"""Every Python block of the documents and of the docstrings runs as it stands: fresh directory, memory store, no network.

The blocks of one document, or of one docstring, are one program. It is a file of its own beside the working directory,
with the lines where the document has them, since steps read their own source and tracebacks should name the line.
What a reader need not see, such as a scripted model, can stand in a comment: `<!-- invisible-code: python`, lines, `-->`.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from agentflow import _registry, _settings, exceptions

ROOT = Path(__file__).parent.parent

# What would look like a program to a reader and to no parser of ours, so nobody would notice that it does not run.
NOT_RUN = re.compile(r"^[ \t]*(?:>>> |[`~]{3,}[ \t]*(?:\{?py(?!thon$)|python3|pycon).*$)", re.MULTILINE)


@attrs.frozen
class Text:
    """A document or a docstring, and where it begins."""

    name: str
    text: str
    first_line: int = 1


def documents() -> Iterator[Text]:
    for path in [*ROOT.glob("README.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        yield Text(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def docstrings() -> Iterator[Text]:
    for path in sorted((ROOT / "agentflow").rglob("*.py")):
        yield from docstrings_of(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix())


def docstrings_of(node: ast.AST, name: str) -> Iterator[Text]:
    """Yield the docstrings of a module and of the classes and functions inside it."""
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and ast.get_docstring(node):
        yield Text(name, node.body[0].value.value, node.body[0].lineno)
    for child in ast.iter_child_nodes(node):
        yield from docstrings_of(child, f"{name}:{child.name}" if hasattr(child, "name") else name)


def each_text() -> list[object]:
    texts = [text for text in [*documents(), *docstrings()] if "```" in text.text or NOT_RUN.search(text.text)]
    return [pytest.param(text, id=text.name) for text in texts]


@attrs.frozen
class Program:
    """Runs the blocks of a text, one after another, in one module."""

    module: ModuleType
    first_line: int

    def run_block(self, example: Example) -> None:
        """Run a block, its first line being the one after the fence."""
        source = "\n" * (self.first_line - 1 + example.line) + example.parsed
        path = Path(self.module.__file__)
        # The file grows block by block: what runs now is then found at its line.
        lines_before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.write_text("\n".join([*lines_before, *source.splitlines()[len(lines_before) :]]) + "\n", encoding="utf-8")
        exec(compile(source, path, "exec", dont_inherit=True), vars(self.module))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a text in a fresh directory with a store in memory; the models that it calls are its own affair."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("AGENTFLOW_STORE", "memory:")
    # A program has a process of its own: no name is taken in it, and what it configures ends with it.
    monkeypatch.setattr(_registry, "_places", {})
    monkeypatch.setattr(_settings, "_settings", _settings._Settings())
    monkeypatch.setattr(_settings, "_stores", {})

    def run_text(text: Text) -> None:
        module = ModuleType(re.sub(r"\W", "_", text.name))
        module.__file__ = str(tmp_path / f"{module.__name__}.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        document = Document(text.text, text.name)
        for region in CodeBlockParser("python", Program(module, text.first_line).run_block)(document):
            document.add(region)
        for example in document.examples():
            example.evaluate()

    return run_text


@pytest.mark.parametrize("text", each_text())
def test_the_examples_of_a_text_run(text, run):
    """What a reader copies works, and no block is spelled so that nobody runs it."""
    assert NOT_RUN.findall(text.text) == [], "write examples as fenced blocks of the language python"

    run(text)


def test_a_broken_example_is_noticed(run):
    """A failing line raises, at the line that it has in the document."""
    broken = Text(
        "broken.md", "Before.\n\n```python\nx = 1\n```\n\nBetween.\n\n```python\n\nassert x == 2\n```\n", first_line=5
    )

    with pytest.raises(AssertionError) as caught:
        run(broken)

    assert (caught.traceback[-1].path.name, caught.traceback[-1].lineno + 1) == ("broken_md.py", 15)
    assert str(caught.traceback[-1].statement) == "assert x == 2"


@pytest.mark.parametrize(
    "text", [">>> 1 + 1\n3\n", "```python no-run\n1 / 0\n```\n", "```py\n1 / 0\n```\n", "~~~ python3\n1 / 0\n~~~\n"]
)
def test_a_block_that_would_not_run_is_noticed(text):
    """Only one spelling of an example is legal, the one that runs."""
    assert NOT_RUN.search(text)
    assert not NOT_RUN.search("```python\n1 + 1\n```\n```console\n$ python\n```\n")


def test_a_block_in_a_comment_belongs_to_the_program(run):
    """A document can prepare what its readers need not see."""
    run(Text("prepared.md", "<!-- invisible-code: python\nx = 1\n-->\n\n```python\nassert x == 1\n```\n"))

    with pytest.raises(NameError):
        run(Text("unprepared.md", "```python\nassert x == 1\n```\n"))


FIRST_OF_ITS_PROCESS = """
```python
import agentflow

@agentflow.cached_step(name="count")
def count() -> int:
    return 1

@agentflow.workflow
def total() -> int:
    return count()

assert not count.is_cached()
assert count() == total() == 1
agentflow.configure(require_session=True)
```
"""


@pytest.mark.parametrize("name", ["first.md", "second.md"])
def test_no_text_knows_of_another(name, run):
    """Names are free, nothing is remembered and nothing configured, whatever ran before in this process."""
    run(Text(name, FIRST_OF_ITS_PROCESS))


NAMESPACES = ("exceptions", "executors", "messages", "models", "stores", "testing", "tools", "types")


def public_errors() -> list[str]:
    """Name every exception class that users can import from a public namespace."""
    modules = [importlib.import_module(f"agentflow.{name}") for name in NAMESPACES]
    found = {name: getattr(module, name) for module in modules for name in module.__all__}
    return [name for name, value in found.items() if isinstance(value, type) and issubclass(value, BaseException)]


def test_every_error_is_on_its_page():
    """Whoever meets an error finds it in `docs/errors.md`."""
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")

    assert len(public_errors()) > 40
    assert [name for name in [*public_errors(), "RecordingMissing"] if not re.search(rf"\b{name}\b", page)] == []


def test_the_tree_of_errors_is_the_one_that_there_is():
    """On the page as in the module's docstring, each class under its base."""
    (tree,) = re.findall(r"^```text\n(.*?)^```", exceptions.__doc__, re.MULTILINE | re.DOTALL)
    above: list[str] = []
    drawn: dict[str, str | None] = {}
    for indent, name in re.findall(r"^([│├└─ ]*)([A-Z]\w+)", tree, re.MULTILINE):
        depth = len(indent) // 4
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else None

    assert tree in (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert set(drawn) == set(exceptions.__all__) - {"ModelRetry"}
    assert {name: base for name, base in drawn.items() if base} == {
        name: getattr(exceptions, name).__mro__[1].__name__ for name in drawn if name != "AgentflowError"
    }
