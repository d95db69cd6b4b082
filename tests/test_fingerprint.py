"""Code versions over time: when one holds, when it is computed again, and that it is the same everywhere.

What changes a version and what does not stands in test_fingerprint_closures.py, as a table.
"""

import ast
import contextlib
import importlib
import inspect
import json
import linecache
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from agentflow._canonical import fold
from agentflow._code_digest import normal_form
from agentflow._fingerprint import CodeVersion, function_digest

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
PROGRAM = DATA / "fingerprint_program"
EXPECTED = json.loads((DATA / "fingerprint_digests.json").read_text())

PRINT_VERSION = """
import sys
sys.path.insert(0, {root!r})
from agentflow._fingerprint import CodeVersion
print(CodeVersion({step}).digest)
"""


COUNTED = """
class Counted:
    __wrapped__ = print
    asked = []
    def __agentflow_version__(self):
        self.asked.append(1)
        return "1"
K = Counted()
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write modules into a folder of their own and import the one named main."""
    loaded = []
    # Else a module that is edited within a second, to the same length, would be taken from Python's own cache.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(folder="", **texts):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            sys.modules.pop(name, None)
            (place / f"{name}.py").write_text(textwrap.dedent(text))
            loaded.append(name)
        monkeypatch.syspath_prepend(place)
        importlib.invalidate_caches()
        return importlib.import_module("main")

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def run(*arguments, cwd, **environment):
    """Run Python and return what it printed."""
    command = [sys.executable, "-B", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# A version is looked at again cheaply, and computed again when it must be.


def test_a_version_is_a_hexadecimal_digest_that_stays(load):
    """Asking twice gives the same 64 characters."""
    version = CodeVersion(load(main="def step(): return 1").step)

    first = version.digest

    assert version.digest == first
    assert len(bytes.fromhex(first)) == 32


def test_a_version_that_holds_reads_nothing_again(load):
    """A later use looks at the names only: the file may even be gone."""
    main = load(main="K = [1]\ndef step(): return K")
    version = CodeVersion(main.step)
    first = version.digest

    Path(main.__file__).unlink()

    assert version.digest == first


def test_a_later_use_calls_next_to_nothing(load):
    """A hit costs two Python calls however many names there are: the property, and one look at all of them."""
    names = [f"NAME_{n}" for n in range(50)]
    main = load(
        main="\n".join([*(f"{name} = 1" for name in names), f"def step(): return [{', '.join(names)}, len, str]"])
    )
    version = CodeVersion(main.step)
    first = version.digest
    main.unrelated = 1
    assert version.digest == first
    called = []

    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        second = version.digest
    finally:
        sys.setprofile(None)

    assert second == first
    assert called == ["digest", "holds"]


def test_a_patched_constant_is_seen_and_so_is_its_return(load, monkeypatch):
    """A constant assigned at run time makes another version, and the old value the old one."""
    main = load(main="K = 1\ndef step(): return K")
    version = CodeVersion(main.step)
    first = version.digest

    with monkeypatch.context() as patch:
        patch.setattr(main, "K", 2)
        patched = version.digest

    assert patched != first
    assert version.digest == first


def test_an_equal_object_in_its_place_changes_nothing(load):
    """Identity only says when to look again; the value decides."""
    main = load(main="K = (1, 2)\ndef step(): return K")
    version = CodeVersion(main.step)
    first = version.digest

    main.K = (*[1], 2)

    assert version.digest == first


def test_a_patched_list_that_was_imported_counts_by_its_content(load):
    """Where no statement of the module made what a name holds now, there is only the content to go by."""
    main = load(main="from helpers import K\ndef step(): return K", helpers="K = [1]")
    version = CodeVersion(main.step)
    versions = [version.digest]

    for patch in ([2], [3]):
        main.K = patch
        versions.append(version.digest)

    assert len(set(versions)) == 3


def test_a_patched_helper_is_seen(load):
    """A helper that is replaced at run time makes another version."""
    main = load(main="def helper(): return 1\ndef step(): return helper()")
    version = CodeVersion(main.step)
    first = version.digest

    main.helper = lambda: 2

    assert version.digest != first


def test_a_patched_name_of_another_module_is_seen(load):
    """What a helper in another module names is looked at, too."""
    main = load(main="import helpers\ndef step(): return helpers.a()", helpers="K = 1\ndef a(): return K")
    version = CodeVersion(main.step)
    first = version.digest

    sys.modules["helpers"].K = 2

    assert version.digest != first


def test_a_name_that_is_defined_later_is_seen(load):
    """A name that stood for nothing counts from the moment it stands for something, also one that hides a builtin."""
    main = load(main="def step(): return later(len('a'))")
    version = CodeVersion(main.step)
    versions = [version.digest]

    main.unrelated = 1
    versions.append(version.digest)
    main.later = lambda n: n
    versions.append(version.digest)
    main.len = lambda text: 5
    versions.append(version.digest)

    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_a_global_that_functions_rebind_is_not_looked_at(load):
    """A counter that goes up with every call costs no new computation."""
    main = load(main=COUNTED + "n = 0\ndef up():\n    global n\n    n += 1\ndef step(): return K, n")
    version = CodeVersion(main.step)
    first = version.digest

    main.up()

    assert version.digest == first
    assert main.Counted.asked == [1]


def test_a_name_that_is_deleted_is_seen(load):
    """A name that is gone makes another version, and no error."""
    main = load(main="K = 1\ndef step(): return K")
    version = CodeVersion(main.step)
    first = version.digest

    del main.K

    assert version.digest != first


def test_a_rebound_closure_cell_is_seen(load):
    """A captured variable that its function assigns anew makes another version."""
    main = load(
        main="""
        def make(k):
            def inner(): return k
            def put(value):
                nonlocal k
                k = value
            return inner, put
        step, put = make(1)
    """
    )
    version = CodeVersion(main.step)
    first = version.digest

    main.put(2)

    assert version.digest != first


def test_a_closure_cell_that_is_filled_later_is_seen(load):
    """A variable that has no value yet is no error, and counts once it has one."""
    main = load(
        main="""
        def make():
            def inner(): return k
            first = CodeVersion(inner)
            empty = first.digest
            k = 1
            return empty, first
        from agentflow._fingerprint import CodeVersion
        empty, step = make()
    """
    )

    filled = main.step.digest

    assert filled != main.empty


def test_new_code_in_an_old_function_is_seen(load):
    """Tools that reload modules put the new code into the old function object."""
    main = load(main="def helper(): return 1\ndef other(): return 2\ndef step(): return helper()")
    version, own = CodeVersion(main.step), CodeVersion(main.helper)
    first = version.digest, own.digest

    main.helper.__code__ = main.other.__code__

    assert version.digest != first[0]
    assert own.digest != first[1]


def test_a_reloaded_module_is_seen(load):
    """`importlib.reload` of an edited helper makes another version, of an unchanged one the same."""
    main = load(main="import helpers\ndef step(): return helpers.a()", helpers="K = [1]\ndef a(): return K")
    helpers = sys.modules["helpers"]
    version = CodeVersion(main.step)
    first = version.digest

    importlib.reload(helpers)
    unchanged = version.digest
    Path(helpers.__file__).write_text("K = [1, 2]\ndef a(): return K")
    importlib.reload(helpers)

    assert unchanged == first
    assert version.digest != first


def test_a_file_that_was_edited_after_its_import_is_not_taken_for_what_runs(load):
    """The version is that of the code in memory: otherwise its results would be found under the new code."""
    main = load(main="def step():\n    return 1\n")
    Path(main.__file__).write_text("def step():\n    return 2\n")
    running = CodeVersion(main.step).digest

    fresh = CodeVersion(load(main="def step():\n    return 2\n").step).digest

    assert running != fresh


def test_a_class_in_a_file_that_was_edited_is_not_taken_for_what_runs(load):
    """A method that the file no longer has like this makes the class count by its members."""
    text = "class A:\n    def f(self): return {}\ndef step(): return A().f()\n"
    main = load(main=text.format(1))
    Path(main.__file__).write_text(text.format(2))
    running = CodeVersion(main.step).digest

    fresh = CodeVersion(load(main=text.format(2)).step).digest

    assert running != fresh


def test_threads_that_ask_at_once_get_one_version(load):
    """Eight threads compute it once."""
    main = load(main=f"{COUNTED}\ndef step(): return K\n")
    version, found, start = CodeVersion(main.step), [], threading.Barrier(8)

    def ask():
        start.wait()
        found.append(version.digest)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert main.Counted.asked == [1]


# Explaining, and functions as values.


def test_pieces_show_what_was_changed(load):
    """One edited constant shows as the one piece that differs, by its module and name."""
    helpers = "PROMPT = 'Be kind.'\ndef a(): return PROMPT"
    before = CodeVersion(load(main="import helpers\ndef step(): return helpers.a()", helpers=helpers).step).pieces()

    after = CodeVersion(load("new", main="import helpers\ndef step(): return helpers.a()", helpers=helpers.replace("kind", "brief")).step).pieces()  # fmt: skip

    assert list(before) == list(after) == ["main:step", "helpers:a", "helpers:PROMPT"]
    assert [name for name in before if before[name] != after[name]] == ["helpers:PROMPT"]


def test_a_function_digest_is_its_version(load):
    """`function_digest` sees what `CodeVersion` sees, also later."""
    main = load(main="K = 1\ndef step(): return K")
    first = function_digest(main.step)

    main.K = 2

    assert first != function_digest(main.step) == CodeVersion(main.step).digest


@pytest.mark.parametrize("made", ["A().f", "partial(step, 1)", "A()", "A", "A.f"])
def test_any_callable_has_a_digest(load, made):
    """A method, a partial, an object and a class count by the code behind them."""
    text = "from functools import partial\nclass A:\n    def f(self): return {n}\n    __call__ = f\ndef step(x=0): return {n}\nmade = {made}\n"  # fmt: skip
    first = function_digest(load(main=text.format(n=1, made=made)).made)

    again, edited = (function_digest(load(f"{n}", main=text.format(n=n, made=made)).made) for n in (1, 2))

    assert first == again != edited


# Versions that ask for each other: steps that call steps.

STEPS = """
from agentflow._fingerprint import CodeVersion

class Step:
    def __init__(self, fn):
        self.__wrapped__ = fn
        self.version = CodeVersion(fn)
    def __agentflow_version__(self):
        return self.version.digest

class Pinned:
    def __init__(self, fn):
        self.__wrapped__ = fn
    def __agentflow_version__(self):
        return "2"

class Agent:
    model = "one"
    asked = 0
    def __agentflow_version__(self):
        Agent.asked += 1
        return self.model
"""


def test_a_step_that_calls_itself_has_a_version(load):
    """Recursion through a step is no endless loop, and a change still shows."""
    text = "from steps import Step\n@Step\ndef step(n): return n and step(n - 1)\n"
    first = load(main=text, steps=STEPS).step.version.digest

    again = load("again", main=text, steps=STEPS).step.version.digest
    edited = load("edited", main=text.replace("n - 1", "n - 2"), steps=STEPS).step.version.digest

    assert first == again != edited


CIRCLE = """
from steps import Step
@Step
def a(n): return n and b(n - 1)
@Step
def b(n): return n and c(n) and a(n - 1)
@Step
def c(n): return a(n) + d()
@Step
def d(): return K
K = 1
"""


@pytest.mark.parametrize("order", ["abcd", "dcba", "bacd", "cabd"])
def test_versions_in_a_circle_do_not_depend_on_who_was_asked_first(load, order):
    """Steps that call each other have the same versions in every process, whichever is called first."""
    main = load(main=CIRCLE, steps=STEPS)
    expected = {name: CodeVersion(getattr(load("alone", main=CIRCLE, steps=STEPS), name).__wrapped__).digest for name in "abcd"}  # fmt: skip

    found = {name: getattr(main, name).version.digest for name in order}

    assert found == expected
    assert len(set(found.values())) == 4


DELEGATES = """
from steps import Agent, Step
class Boss(Agent):
    def __agentflow_version__(self):
        return " ".join([super().__agentflow_version__(), *(tool.__agentflow_version__() for tool in self.tools)])
K = 1
boss = Boss()
@Step
def ask(n): return boss, K
@Step
def check(n): return boss, ask
boss.tools = [ask, check]
@Step
def step(): return ask(1), boss
"""


@pytest.mark.parametrize("first", ["ask", "check", "step"])
def test_an_agent_whose_tools_call_it_has_a_version(load, first):
    """Asking it again goes round no endless circle, finds what holds, and sees each change and its return."""
    main = load(main=DELEGATES, steps=STEPS)
    names = sorted(["ask", "check", "step"], key=lambda name: name != first)

    def versions():
        return {name: getattr(main, name).version.digest for name in names}

    before, again = versions(), versions()
    main.boss.model = "two"
    other = versions()
    main.boss.model = "one"
    back = versions()
    main.K = 2
    edited = versions()

    assert before == again == back
    assert all(len({before[name], other[name], edited[name]}) == 3 for name in names)


def test_an_agent_whose_tools_call_it_is_not_computed_again_and_again(load):
    """A version in such a circle holds: looking at it asks the agent a few times, and follows no code."""
    main = load(main=DELEGATES + "from steps import Counted\ncounted = Counted()\n@Step\ndef count(): return counted, boss\nboss.tools += [count]", steps=STEPS + COUNTED)  # fmt: skip
    versions = [getattr(main, name).version.digest for name in ("step", "ask", "check", "count")]
    looked = len(main.Counted.asked)

    again = [getattr(main, name).version.digest for name in ("step", "ask", "check", "count")]

    assert again == versions
    assert len(main.Counted.asked) == looked


def test_a_large_circle_is_computed_in_reasonable_time(load):
    """Seven steps that all call each other are looked at by the sets they are in, not by every path through them."""
    steps = "".join(
        f"@Step\ndef {name}(): return agent, {', '.join(f'{it}()' for it in 'abcdefg')}\n" for name in "abcdefg"
    )
    main = load(main=f"from steps import Agent, Step\nagent = Agent()\n{steps}", steps=STEPS)

    versions = {getattr(main, name).version.digest for name in "abcdefg"}

    assert len(versions) == 7
    assert main.Agent.asked < 20_000  # by paths it would be 95,000


def test_a_change_reaches_every_step_of_a_circle(load):
    """A patched constant makes new versions of all steps that reach it, whether they were asked before or not."""
    main = load(main=CIRCLE, steps=STEPS)
    before = {name: getattr(main, name).version.digest for name in "abcd"}

    main.K = 2

    assert all(getattr(main, name).version.digest != before[name] for name in "abcd")


def test_a_helper_of_a_called_step_is_watched(load):
    """A step is looked at again when a name of a step that it calls was rebound."""
    main = load(
        main="from steps import Step\nK = 1\n@Step\ndef inner(): return K\ndef step(): return inner()", steps=STEPS
    )
    version = CodeVersion(main.step)
    first = version.digest

    main.K = 2

    assert version.digest != first


def test_all_that_a_called_step_sees_is_watched(load):
    """Code, cells and missing names of a called step are looked at for its caller, too."""
    main = load(
        main="""
        from steps import Step
        def make(k):
            def put(value):
                nonlocal k
                k = value
            return Step(lambda: (k, helper, later)), put
        def helper(): return 1
        inner, put = make(1)
        def step(): return inner()
    """,
        steps=STEPS,
    )
    version = CodeVersion(main.step)
    versions = [version.digest]

    main.put(2)
    versions.append(version.digest)
    main.helper.__code__ = (lambda: 2).__code__
    versions.append(version.digest)
    main.later = 3
    versions.append(version.digest)

    assert len(set(versions)) == 4


def test_a_pinned_step_stops_the_spread(load):
    """What counts by a string of its own counts by nothing else."""
    main = load(
        main="from steps import Pinned\nK = 1\n@Pinned\ndef inner(): return K\ndef step(): return inner()", steps=STEPS
    )
    version = CodeVersion(main.step)
    first = version.digest

    main.K = 2

    assert version.digest == first


def test_what_changes_by_itself_is_asked_each_time(load):
    """The model of an agent may be overridden for a while: the version follows, through other steps, and returns."""
    main = load(main="from steps import Agent, Step\nagent = Agent()\n@Step\ndef inner(): return agent\ndef step(): return inner()", steps=STEPS)  # fmt: skip
    version = CodeVersion(main.step)
    first = version.digest

    main.agent.model = "two"
    second = version.digest
    main.agent.model = "one"

    assert second != first
    assert version.digest == first


def test_layers_of_steps_cost_no_more_than_their_number(load):
    """An agent under twelve layers of two steps each is asked once for a version that holds, not 4096 times."""
    layers = "".join(f"@Step\ndef a{n}(): return a{n - 1}() + b{n - 1}()\n@Step\ndef b{n}(): return a{n - 1}() - b{n - 1}()\n" for n in range(1, 13))  # fmt: skip
    main = load(main=f"from steps import Agent, Step\nagent = Agent()\ndef a0(): return agent\nb0 = a0\n{layers}step = a12", steps=STEPS)  # fmt: skip
    assert main.step.version.digest
    main.Agent.asked = 0

    again = main.step.version.digest

    assert again
    assert main.Agent.asked == 1


# Notebooks, the REPL, and code without source.


class Notebook:
    """Cells that run in one namespace, as IPython runs them."""

    def __init__(self, variables):
        self.variables = variables
        variables |= {"_ih": [""], "get_ipython": lambda: None}

    def run(self, cell):
        name = f"<ipython-input-{len(self.variables['_ih'])}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        self.variables["_ih"].append(cell)
        exec(compile(cell, name, "exec"), self.variables)
        return self.variables


@pytest.fixture
def notebook(monkeypatch):
    """A notebook whose namespace is that of `__main__`, as in a kernel."""
    before, main = set(linecache.cache), ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    yield Notebook(vars(main))
    for name in set(linecache.cache) - before:
        del linecache.cache[name]


def test_a_cell_that_is_run_again_changes_nothing(notebook):
    """Running all cells anew gives new objects, and the same version."""
    cells = [
        "TABLE = {'a': 1}\n",
        "class A:\n    x: int\n",
        "def helper() -> A: return TABLE\n",
        "def step(): return helper()\n",
    ]
    for cell in cells:
        notebook.run(cell)
    version = CodeVersion(notebook.variables["step"])
    first = version.digest

    for cell in cells[:3]:
        notebook.run("# again\n" + cell)

    assert version.digest == first


@pytest.mark.parametrize("cell", ["TABLE = {'a': 2}\n", "class A:\n    x: str\n", "def helper() -> A: return 1\n"])
def test_a_cell_that_defines_something_anew_changes_the_version(notebook, cell):
    """A helper, a class or a table that a later cell defines anew is seen."""
    notebook.run("TABLE = {'a': 1}\n")
    notebook.run("class A:\n    x: int\n")
    notebook.run("def helper() -> A: return TABLE\n")
    version = CodeVersion(notebook.run("def step(): return helper()\n")["step"])
    first = version.digest

    notebook.run(cell)

    assert version.digest != first


def test_a_cell_and_a_file_give_the_same_version(notebook, load):
    """Code that moves from a notebook into a module keeps its version."""
    text = "TABLE = {'a': [1]}\nclass A:\n    def f(self) -> 'A': return TABLE\ndef step(): return [A().f() for _ in TABLE]\n"
    in_file = CodeVersion(load(main=text).step).digest

    in_cell = CodeVersion(notebook.run("await_me = 1\n" + text)["step"]).digest

    assert in_cell == in_file


def test_the_lines_of_the_newer_repl_are_sources(load):
    """Since Python 3.13 the REPL leaves its lines in `linecache`."""
    name, text = "<python-input-7>", "TABLE = {'a': 1}\ndef step(): return TABLE\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    variables = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), variables)

    try:
        found = CodeVersion(variables["step"]).digest
    finally:
        del linecache.cache[name]

    assert found == CodeVersion(load(main=text).step).digest


def without_source(text):
    """Run a text that is nowhere, as the REPL before Python 3.13 does."""
    variables = {"__name__": "without_source"}
    exec(compile(textwrap.dedent(text), "<stdin>", "exec"), variables)
    return CodeVersion(variables["step"])


BARE = """
import json
class A:
    '''An A.'''
    x: int = 1
    def f(self): return 2
    @property
    def g(self): return 3
    @staticmethod
    def h(): return 4
TABLE = {'a': 5}
def helper(k=6):
    '''Help.'''
    return lambda: k + 7
f, g = lambda: 8, lambda: 9
def make(k):
    return lambda: k
inner = make(10)
def step():
    return [json.dumps(A().f()), TABLE, helper(), f(), g(), inner(), 11]
"""


@pytest.mark.parametrize("number", range(1, 12))
def test_without_source_code_counts_by_its_bytecode(number):
    """Each of the numbers in a program without source is part of its version."""
    before = without_source(BARE).digest

    after = without_source(re.sub(rf"\b{number}\b", "99", BARE)).digest

    assert before != after


@pytest.mark.parametrize(("old", "new"), [("Help.", "Assist."), ("An A.", "Some A."), ("\ndef step", "\n\n\ndef step")])
def test_without_source_docstrings_and_lines_do_not_count(old, new):
    """Bytecode is compared without its docstrings and line numbers."""
    before = without_source(BARE).digest

    after = without_source(BARE.replace(old, new)).digest

    assert before == after


def test_without_source_names_in_modules_are_followed(load):
    """Bytecode says which function of the user's module it calls."""
    load(main="", helpers="def a(): return 1\ndef b(): return 2")
    text = "import helpers\ndef step(): return helpers.a()"
    first = without_source(text)
    titles = list(first.pieces())

    sys.modules["helpers"].a = lambda: 3

    assert titles == ["without_source:step", "helpers:a"]
    assert first.digest != without_source(text.replace(".a()", ".b()")).digest


# The same everywhere.


def test_the_version_of_the_fixture_program_is_the_recorded_one(monkeypatch):
    """A program that uses most of the language has the version that every supported Python gives it, piece by piece."""
    monkeypatch.syspath_prepend(PROGRAM)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    try:
        version = CodeVersion(importlib.import_module("main").step)
        pieces, found = dict(version.pieces()), version.digest
    finally:
        for name in ("main", "fingerprint_helpers"):
            sys.modules.pop(name, None)

    assert pieces == EXPECTED["pieces"]
    assert found == EXPECTED["digest"]


@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13"])
def test_other_pythons_give_the_recorded_version(python):
    """The fixture program has its version on the other Pythons of this machine, too."""
    interpreter = shutil.which(python)
    works = interpreter and subprocess.run(
        [interpreter, "-c", "import agentflow"], cwd=ROOT, capture_output=True, check=False
    )
    if not works or works.returncode:
        pytest.skip(f"there is no {python} with agentflow's dependencies here")
    code = "import main" + PRINT_VERSION.format(root=str(ROOT), step="main.step")

    done = subprocess.run([interpreter, "-B", "-c", code], cwd=PROGRAM, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == EXPECTED["digest"]


def test_the_version_does_not_depend_on_the_hash_seed(tmp_path):
    """Sets of texts, functions and classes are put in an order that every process has."""
    (tmp_path / "main.py").write_text(
        textwrap.dedent("""
        class A: x = 1
        class B: x = 2
        def a(): return 1
        def b(): return 2
        NAMES = frozenset({"one", "two", "three", a, b, A, B})
        l1, l2, l3, l4, l5, l6 = (lambda: 1), (lambda: 2), (lambda: 3), (lambda: 4), (lambda: 5), (lambda: 6)
        class ByName(type): __hash__ = lambda cls: hash(cls.__name__)
        class C1(metaclass=ByName): x = l6
        class C2(metaclass=ByName): x = l5
        class C3(metaclass=ByName): x = l4
        class C4(metaclass=ByName): x = l3
        class C5(metaclass=ByName): x = l2
        class C6(metaclass=ByName): x = l1
        CLASSES = frozenset({C1, C2, C3, C4, C5, C6})
        def make(k): return lambda: k
        inner = make({"one", "two", a, b, A, B, ("three", a)})
        def step(): return NAMES, CLASSES, inner
    """)
    )
    code = "import main" + PRINT_VERSION.format(root=str(ROOT), step="main.step")

    found = {run("-c", code, cwd=tmp_path, PYTHONHASHSEED=seed) for seed in "123"}

    assert len(found) == 1


def test_a_script_and_its_import_have_one_version(tmp_path):
    """A file that is run, run as a module or imported gives the same version, classes and all."""
    (tmp_path / "helpers.py").write_text("TABLE = ['a']\ndef helper(): return TABLE\n")
    (tmp_path / "report.py").write_text(
        "from enum import Enum\nimport helpers\nclass A(Enum): X = 1\nHERE, NAME = __file__, __name__\nLIST = [A.X]\n"
        "def step(): return helpers.helper(), A.X, LIST, __name__, __file__\n"
        + PRINT_VERSION.format(root=str(ROOT), step="step")
    )

    found = [run(*how.split(" ", 1), cwd=tmp_path) for how in ("report.py", "-m report", "-c import report")]

    assert len(set(found)) == 1
    assert len(found[0]) == 64


# Whose code it is.


@pytest.mark.parametrize(
    ("folder", "counts"), [("src", True), ("lib/site-packages", False), ("lib/dist-packages", False)]
)
def test_installed_packages_count_by_name(tmp_path, monkeypatch, load, folder, counts):
    """The code of a helper counts in the user's folders, and not in those of installed packages."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "helpers.py").write_text("K = 1\ndef a(): return K")
    monkeypatch.syspath_prepend(place)
    main = load("app", main="import helpers\nfrom helpers import a\ndef step(): return a() + helpers.a()")
    version = CodeVersion(main.step)
    first = version.digest

    sys.modules["helpers"].K = 2
    changed = version.digest != first
    del sys.modules["helpers"]

    assert changed is counts


@pytest.mark.parametrize("wrapper", ["lambda: f()", "partial(lambda g: g(), f)", "[f][0]"])
def test_a_function_inside_an_installed_decorator_counts(load, wrapper):
    """A decorator of a package that does not say what it wraps is looked through."""
    load("lib/site-packages", main="", library=f"from functools import partial\ndef decorate(f): return {wrapper}")
    text = "from library import decorate\n@decorate\ndef helper(): return K\nK = 1\ndef step(): return helper()"
    version = CodeVersion(load("app", main=text).step)
    first = version.digest

    sys.modules["main"].K = 2

    assert version.digest != first


def test_an_installed_application_follows_its_own_code(tmp_path, load):
    """An application that is deployed as a wheel is still looked into, from its own steps."""
    main = load("lib/site-packages", main="K = 1\ndef helper(): return K\ndef step(): return helper()")
    version = CodeVersion(main.step)
    first = version.digest

    main.K = 2

    assert version.digest != first


def test_agentflow_itself_counts_as_installed(load):
    """An upgrade of agentflow runs no step again."""
    version = CodeVersion(load(main="from agentflow._canonical import node\nfrom agentflow import _canonical\ndef step(): return node(b''), _canonical.fold(b'')").step)  # fmt: skip

    assert list(version.pieces()) == ["main:step"]
    assert list(CodeVersion(fold).pieces()) == []


def test_the_parts_of_an_f_string_are_joined():
    """Pythons cut the text of an f-string in different places; what counts is the text."""
    pieces = [ast.Constant("a"), ast.Constant("b"), ast.FormattedValue(ast.Name("x", ast.Load()), -1), ast.Constant("")]
    whole = [ast.Constant("ab"), ast.FormattedValue(ast.Name("x", ast.Load()), -1)]

    found, reference = (normal_form(ast.JoinedStr(it), lambda _: False) for it in (pieces, whole))

    assert found == reference


# What must not break it.


@pytest.mark.parametrize(
    "value",
    [
        "Endless()", "Broken()", "Strange()", "itself", "deep", "Mock()", "print", "''.join", "(1).__add__", "dict.fromkeys",
        "sys.stdout", "Lock()", "iter([1])", "(x for x in [1])", "...", "NotImplemented", "object()", "TypeVar('T')",
        "list[int] | None", "Literal['a', 1]", "type('Made', (), {'x': 1, 'f': lambda self: 1})", "memoryview(b'a')", "range(3)",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "where",
    ["K = {value}\ndef step(): return K", "def make(k):\n    def f(): return k\n    return f\nstep = make({value})"],
)
def test_no_value_breaks_a_version(load, value, where):
    """Objects that answer nonsense, hold themselves or refuse every question still leave a version, the same twice."""
    odd = """
        import sys
        from threading import Lock
        from typing import Literal, TypeVar
        from unittest.mock import Mock
        class Endless:
            def __reduce_ex__(self, protocol): return (Endless, (Endless(),))
        class Broken:
            def __getattribute__(self, name): raise RuntimeError(name)
            def __eq__(self, other): raise RuntimeError
            def __hash__(self): raise RuntimeError
            def __bool__(self): raise RuntimeError
        class Strange:
            __qualname__ = 'Odd'
            def __getattr__(self, name): return Strange()
            def __eq__(self, other): return True
        itself = []
        itself.append(([itself] * 50, {'a': itself}))
        deep = []
        for _ in range(5000): deep = [deep]
    """
    text = textwrap.dedent(odd) + where.format(value=value)
    first = CodeVersion(load(main=text).step).digest

    again = CodeVersion(load("again", main=text).step).digest

    assert first == again


def test_a_deep_expression_is_no_problem(load):
    """A sum of two thousand terms is a tree two thousand deep, and still counts by what it says."""
    text = "def step(x: int): return " + " + ".join(["x"] * 2000)
    first = CodeVersion(load(main=text).step).digest

    annotated = CodeVersion(load("annotated", main=text.replace("int", "str")).step).digest
    longer = CodeVersion(load("longer", main=text + " + x").step).digest

    assert len({first, annotated, longer}) == 3


def test_a_version_does_not_depend_on_how_deep_the_stack_was(load):
    """Asked for where little of the stack is left, a version is what it is anywhere else, or there is none: `RecursionError`."""
    text = "def step(x): return " + "[" * 60 + "x" + "]" * 60
    expected = CodeVersion(load(main=text).step).digest
    found = set()

    for left in range(20, 320, 20):
        version = CodeVersion(load(f"deep{left}", main=f"{text}  # {left}").step)
        with contextlib.suppress(RecursionError):
            found.add(with_frames_left(left, lambda version=version: version.digest))

    assert found == {expected}


def with_frames_left(left, work):
    """Call a function where so many frames are left."""

    def down(frames):
        return work() if frames <= 0 else down(frames - 1)

    return down(sys.getrecursionlimit() - len(inspect.stack(0)) - left)


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "a\0b", "(" * 1000], ids=["deep", "zero", "brackets"])
def test_an_annotation_that_is_no_expression_is_a_text(load, text):
    """Whatever the parser has against it, the step has a version that goes by the text."""
    one, other = (
        CodeVersion(load(name, main=f"def step(x: {text + more!r}): return x").step).digest
        for name, more in (("one", ""), ("other", "!"))
    )

    assert one != other


def test_a_module_in_the_body_that_cannot_be_imported_is_left_out(load):
    """Whatever a module raises is for the call to show, not for its version."""
    main = load(
        main="""
        def step():
            import broken
            import no_such_module.inside
            from ...... import far
            return broken.a
        """,
        broken_="",
    )
    Path(main.__file__).with_name("broken.py").write_text("raise SystemError('broken')")

    assert CodeVersion(main.step).digest


def test_an_installed_module_in_the_body_is_not_imported(load):
    """Only the user's own modules are imported for a version: the others count by name and may be large."""
    main = load(main="def step():\n    import this\n    return this.s")
    sys.modules.pop("this", None)

    assert CodeVersion(main.step).digest
    assert "this" not in sys.modules


def test_a_function_of_a_module_that_is_not_loaded_has_a_version():
    """Code that was run by `exec` in a namespace of its own is the user's."""
    module = ModuleType("nowhere")
    exec("class A: x = 1\ndef step(): return A.x", vars(module))
    function = vars(module)["step"]

    assert isinstance(function, FunctionType)
    assert list(CodeVersion(function).pieces()) == ["nowhere:step", "nowhere:A"]
