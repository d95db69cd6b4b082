"""What a user can see of the package, and what importing it may cost."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "agentflow"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PUBLIC_SOURCES = [
    source
    for source in SOURCES
    if not any(part.startswith("_") and part != "__init__.py" for part in source.relative_to(PACKAGE).parts)
]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

NAMES = {
    "Agent",
    "AgentResult",
    "Budget",
    "Context",
    "FileArg",
    "History",
    "ModelRetry",
    "NoKey",
    "RetryPolicy",
    "Run",
    "RunStatus",
    "Session",
    "Step",
    "Team",
    "Workflow",
    "cached_step",
    "configure",
    "current_context",
    "get_run",
    "list_runs",
    "print_run",
    "register_key",
    "register_type",
    "tool",
    "workflow",
}
NAMESPACES = {"events", "exceptions", "executors", "messages", "models", "stores", "testing", "tools", "types"}

TYPES = {
    "JSON",
    "UNSET",
    "Difference",
    "Duration",
    "Explanation",
    "RunStatus",
    "Scope",
    "StateBlock",
    "StateModel",
    "Unset",
}

# What a program that never uses it should not pay for.
LAZY = ["ddgs", "httpx", "httpx2", "numpy", "pandas", "rich", "structlog", "tenacity", "trafilatura"]


def module_name(source: Path) -> str:
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def each_module(sources: list[Path]) -> list[object]:
    return [pytest.param(source, id=module_name(source)) for source in sources]


def in_a_new_interpreter(program: str, cwd: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, which is how the linter wants `__all__`."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return rank, name


def test_the_top_level_is_what_it_is_meant_to_be():
    """No name is missing, and none is public by accident: the list above is where a new one is decided."""
    import agentflow

    assert set(agentflow.__all__) == NAMES | NAMESPACES
    assert set(dir(agentflow)) == NAMES | NAMESPACES
    with pytest.raises(AttributeError, match="no attribute 'workflows'"):
        agentflow.workflows  # noqa: B018


def test_the_names_for_annotations_are_what_they_are_meant_to_be():
    """`agentflow.types` has what its list says, as the top level has."""
    import agentflow

    assert set(agentflow.types.__all__) == TYPES


@pytest.mark.parametrize("name", sorted(NAMES | NAMESPACES))
def test_each_name_of_the_top_level_is_there(name):
    """A name in `__all__` can be had, also where it is loaded at its first use."""
    import agentflow

    assert getattr(agentflow, name) is not None


@pytest.mark.parametrize("source", each_module(SOURCES))
def test_all_is_sorted_and_every_name_in_it_exists(source):
    """`__all__` can be read by a person and by a star import."""
    module = importlib.import_module(module_name(source))
    names = list(getattr(module, "__all__", []))

    assert names == sorted(names, key=as_ruff_sorts)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("source", each_module(PUBLIC_SOURCES))
def test_all_of_a_namespace_is_complete(source):
    """A name without an underscore is in `__all__`: what a module defines, and what a package takes from its modules."""
    module = importlib.import_module(module_name(source))
    body = ast.parse(source.read_text(encoding="utf-8")).body
    public = {name for statement in body for name in bound_names(statement, module.__name__)}

    assert sorted(name for name in public if not name.startswith("_") and name not in module.__all__) == []


def bound_names(statement: ast.stmt, module: str) -> list[str]:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        # Not those without an annotation: a type variable is part of the signatures it stands in, no name to import.
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return [name]
        case ast.ImportFrom(module=str(origin), names=names) if origin.startswith(f"{module}."):
            return [alias.asname or alias.name for alias in names]
    return []


@pytest.mark.parametrize("source", each_module(SOURCES))
def test_each_module_says_what_it_is_for(source):
    """A module has a docstring."""
    assert ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))


@pytest.mark.parametrize("source", each_module(PUBLIC_SOURCES))
def test_each_public_name_says_what_it_is_for(source):
    """A public class or function and each method without an underscore has a docstring, its own or its base's."""
    module = importlib.import_module(module_name(source))
    public = {name: getattr(module, name) for name in module.__all__}
    documented = {name: thing for name, thing in public.items() if inspect.isclass(thing) or inspect.isroutine(thing)}
    for name, thing in list(documented.items()):
        if inspect.isclass(thing):
            documented |= {f"{name}.{method}": function for method, function in methods(thing)}

    assert sorted(name for name, thing in documented.items() if not (inspect.getdoc(thing) or "").strip()) == []


def methods(cls: type) -> list[tuple[str, object]]:
    """Return what the classes of ours that a class is made of define without an underscore."""
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "agentflow"]
    names = {name for base in ours for name in vars(base) if not name.startswith("_")}
    kinds = (inspect.isroutine, inspect.isdatadescriptor)
    found = [(name, inspect.getattr_static(cls, name)) for name in sorted(names) if hasattr(cls, name)]
    return [
        (name, getattr(cls, name))
        for name, static in found
        # The fields of attrs classes with slots are descriptors too: the class's docstring is where they are explained.
        if any(kind(static) for kind in kinds) and not inspect.ismemberdescriptor(static)
    ]


def test_what_is_not_used_is_not_loaded(tmp_path):
    """The package alone loads none of its modules, and a program that only caches no module of the agents."""
    loaded = "import json, sys; print(json.dumps([name for name in sys.modules if name.startswith('agentflow.')]))"
    agents = contract("The flow tower does not know the agent tower")["forbidden_modules"]

    assert in_a_new_interpreter(f"import agentflow; {loaded}", tmp_path) == []
    caching = in_a_new_interpreter(f"from agentflow import cached_step, workflow; {loaded}", tmp_path)
    assert {*caching} & {*agents, "agentflow.messages", "agentflow.testing"} == set()
    assert "agentflow._cached_step" in caching


def test_importing_everything_loads_nothing_heavy(tmp_path):
    """Not even all names together load what only some calls need."""
    program = f"from agentflow import *; import json, sys; print(json.dumps([n for n in {LAZY} if n in sys.modules]))"

    assert in_a_new_interpreter(program, tmp_path) == []


def test_calling_steps_builds_no_pydantic_model(tmp_path):
    """A process whose steps take and give plain values is spared pydantic's first model, which loads some thirty modules."""
    flows = """
from agentflow import cached_step, configure, workflow
from agentflow.stores import MemoryStore

configure(store=MemoryStore())

@cached_step
def double(n: int) -> int:
    return 2 * n

@workflow
def flow(n: int) -> int:
    return double(n) + double(n)
"""
    (tmp_path / "flows.py").write_text(flows)
    program = "import flows, json, sys; print(json.dumps([flows.flow(1), 'pydantic.plugin._loader' in sys.modules]))"

    assert in_a_new_interpreter(program, tmp_path) == [4, False]


def test_importing_the_package_does_nothing(tmp_path):
    """Importing all of it starts no thread, opens no database or connection and writes no file."""
    program = """
import json, os, sys, threading
seen = []
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append([event, str(path)])
    elif event in ("sqlite3.connect", "socket.connect", "os.mkdir", "os.remove", "subprocess.Popen", "_thread.start_new_thread"):
        seen.append([event, repr(arguments)])
sys.addaudithook(hook)
from agentflow import *
print(json.dumps({"seen": seen, "threads": threading.active_count()}))
"""

    assert in_a_new_interpreter(program, tmp_path) == {"seen": [], "threads": 1}
    assert list(tmp_path.iterdir()) == []


def test_the_import_contracts_hold():
    """Modules import only from the floors below, the towers do not meet, dependencies enter by one door each."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
            "--no-logo",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def contract(name: str) -> dict[str, list[str]]:
    return next(each for each in CONFIG["tool"]["importlinter"]["contracts"] if each["name"] == name)


def test_each_module_of_the_towers_is_known_to_the_contracts_that_keep_them_apart():
    """A module that stands among those of a tower in "Floors" belongs to one of the two, so that no contract forgets it."""
    layers = [re.findall(r"\w+", layer) for layer in contract("Floors")["layers"]]
    flow = {
        name.partition(".")[2] for name in contract("The flow tower does not know the agent tower")["source_modules"]
    }
    agents = {
        name.partition(".")[2] for name in contract("The agent tower does not know the flow tower")["source_modules"]
    }
    floors = [index for index, layer in enumerate(layers) if {*layer} & (flow | agents)]
    between = {name for layer in layers[min(floors) : max(floors) + 1] for name in layer}

    assert between == flow | agents
    assert not flow & agents


def test_the_contracts_between_the_towers_are_mirrored():
    """What may not import the other tower is what the other tower may not import."""
    up = contract("The flow tower does not know the agent tower")
    down = contract("The agent tower does not know the flow tower")

    assert (up["source_modules"], up["forbidden_modules"]) == (down["forbidden_modules"], down["source_modules"])


def test_the_wheel_ships_every_module_and_the_types(tmp_path):
    """What is built from the checkout holds all of the package, `py.typed` and the licence, and nothing else."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()

    expected = {source.relative_to(ROOT).as_posix() for source in SOURCES} | {"agentflow/py.typed"}
    assert {name for name in names if not name.partition("/")[0].endswith(".dist-info")} == expected
    assert any(name.endswith("/licenses/LICENSE") for name in names)
