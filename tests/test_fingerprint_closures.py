"""What changes a code version and what does not: a table of small programs and one edit to each.

Each program is one text of several files; `step` in main.py is the function whose version is asked for.
An edit replaces one piece of the text. Both programs are imported as real modules.
"""

import importlib
import re
import sys
from pathlib import Path

import pytest
from attrs import frozen

from agentflow._fingerprint import CodeVersion

OWN_DECORATORS = """
# file: marks.py
_made_by_agentflow = {"__name__": "agentflow._step"}
exec('''
def cached_step(fn=None, **options):
    return fn if fn is not None else (lambda fn: fn)
''', _made_by_agentflow)
cached_step = _made_by_agentflow["cached_step"]
"""


@frozen
class Edit:
    """A program and one edit to it."""

    name: str
    program: str
    old: str
    new: str


def changes(name: str, program: str, old: str, new: str) -> object:
    """An edit after which the step is another version."""
    return pytest.param(Edit(name, program, old, new), id=name)


keeps = changes
"""An edit after which the step is the same version."""


def load(folder: Path, program: str) -> CodeVersion:
    """Write a program, import it, and return the version of its step, computed."""
    first, *others = re.split(r"^# file: (.+)\n", program, flags=re.MULTILINE)
    files = {"main.py": first, **dict(zip(others[::2], others[1::2], strict=True))}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        version = CodeVersion(importlib.import_module("main").step)
        assert version.digest  # while its modules are the loaded ones
        return version
    finally:
        sys.path.remove(str(folder))
        ours = [name for name in set(sys.modules) - before if is_ours(name, folder)]
        for name in ours:
            del sys.modules[name]


def is_ours(name: str, folder: Path) -> bool:
    """Say whether a module was loaded from `folder`."""
    spec = getattr(sys.modules[name], "__spec__", None)
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any(place.startswith(str(folder)) for place in places)


DIFFERENT = [
    # The function itself.
    changes("a literal", "def step(x): return x + 1", "1", "2"),
    changes("the type of a literal", "def step(x): return x + 1", "1", "1.0"),
    changes("true is not one", "def step(x): return x == 1", "1", "True"),
    changes("an operator", "def step(x): return x + 1", "+", "-"),
    changes("a statement", "def step(x):\n    x += 1\n    return x", "x += 1", "x += 1; x += 1"),
    changes("the order of statements", "def step(x):\n    a(); b()\n", "a(); b()", "b(); a()"),
    changes("a parameter's name", "def step(x, y): return 1", "y", "z"),
    changes("a parameter's kind", "def step(x, y): return 1", "x, y", "x, *, y"),
    changes("a default", "def step(x=1): return x", "x=1", "x=2"),
    changes("a keyword default", "def step(*, x=1): return x", "x=1", "x=2"),
    changes("an annotation", "def step(x: int): return x", "int", "str"),
    changes("a return annotation", "def step() -> int: return 1", "int", "float"),
    changes("async", "def step(): return 1", "def", "async def"),
    changes("a generator", "def step(): return 1", "return", "yield"),
    changes("the text of an f-string", "def step(x): return f'a {x}'", "a ", "b "),
    changes("the format of an f-string", "def step(x): return f'{x:>3}'", ">3", "<3"),
    changes("the conversion of an f-string", "def step(x): return f'{x!r}'", "!r", "!s"),
    changes("a case of match", "def step(x):\n    match x:\n        case [1, *rest]: return rest", "[1,", "[2,"),
    changes("a singleton of match", "def step(x):\n    match x:\n        case None: return 1", "None", "True"),
    changes("a guard of match", "def step(x):\n    match x:\n        case y if y: return 1", "if y", "if not y"),
    changes("a walrus", "def step(x): return (y := x) + y", "y := x) + y", "z := x) + z"),
    changes("a star in a call", "def step(x): return print(*x)", "*x", "**x"),
    changes("except and except*", "def step():\n    try: a()\n    except ValueError: b()", "except V", "except* V"),
    changes("an unpacked dict", "def step(x): return {**x, 'a': 1}", "**x, 'a': 1", "'a': 1, **x"),
    changes("await", "async def step(x): return await x", "await x", "x"),
    changes("an inner function", "def step(x):\n    def inner(): return 1\n    return inner()", "return 1", "return 2"),
    changes("an inner class", "def step(x):\n    class Inner: a = 1\n    return Inner", "a = 1", "a = 2"),
    changes("an inner lambda", "def step(x): return (lambda: 1)()", "1", "2"),
    changes("a comprehension", "def step(x): return [a for a in x if a]", "if a", "if not a"),
    changes("a string that is data", "def step():\n    text = 'a'\n    return text", "'a'", "'b'"),
    # What it names.
    changes("a constant", "K = 1\ndef step(): return K", "K = 1", "K = 2"),
    changes("a prompt", "PROMPT = 'Be kind.'\ndef step(): return PROMPT", "kind", "brief"),
    changes("a constant made by a call", "K = max(1, 2)\ndef step(): return K", "2)", "3)"),
    changes("a constant that is declared global only to be read", "K = 1\ndef step():\n    global K\n    return K", "K = 1", "K = 2"),
    changes("a tuple", "K = (1, ('a', None))\ndef step(): return K", "None", "0"),
    changes("a frozenset", "K = frozenset({1, 2})\ndef step(): return K", "2", "3"),
    changes("a list", "K = [1]\ndef step(): return K", "[1]", "[2]"),
    changes("a dict", "K = {'a': 1}\ndef step(): return K['a']", "1", "2"),
    changes("a set", "K = {1}\ndef step(): return K", "{1}", "{2}"),
    changes("what a list names", "A = 1\nK = [A]\ndef step(): return K", "A = 1", "A = 2"),
    changes("a list of functions", "def f(): return 1\nK = [f]\ndef step(): return K[0]()", "return 1", "return 2"),
    changes("a tuple of functions", "def f(): return 1\nK = (f,)\ndef step(): return K[0]()", "return 1", "return 2"),
    changes("a dict filled below", "K = {}\nK['a'] = 1\ndef step(): return K", "1", "2"),
    changes("a list extended below", "K = []\nK.append(1)\ndef step(): return K", "1", "2"),
    changes("a list added to", "K = [0]\nK += [1]\ndef step(): return K", "[1]", "[2]"),
    changes("a list made in a branch", "A = 1\nif A:\n    K = [1]\nelse:\n    K = [2]\ndef step(): return K", "A = 1", "A = 0"),
    changes("a list made in a loop", "K = []\nfor i in (1, 2):\n    K.append(i)\ndef step(): return K", "2)", "3)"),
    changes("a list from a with", "import io\nwith io.StringIO('a') as K: pass\ndef step(): return K", "'a'", "'b'"),
    changes("a pattern", "import re\nK = re.compile('a')\ndef step(x): return K.match(x)", "'a'", "'b'"),
    changes("a decimal", "from decimal import Decimal\nK = Decimal('1')\ndef step(): return K", "'1'", "'2'"),
    changes("a deque", "from collections import deque\nK = deque([1])\ndef step(): return K", "[1]", "[2]"),
    changes("an item getter", "from operator import itemgetter\nK = itemgetter('a')\ndef step(x): return K(x)", "'a'", "'b'"),
    changes("a template", "from string import Template\nK = Template('a')\ndef step(): return K", "'a'", "'b'"),
    changes("a helper", "def helper(): return 1\ndef step(): return helper()", "return 1", "return 2"),
    changes("a helper's helper", "def a(): return 1\ndef b(): return a()\ndef step(): return b()", "return 1", "return 2"),
    changes("a helper's constant", "K = 1\ndef a(): return K\ndef step(): return a()", "K = 1", "K = 2"),
    changes("a helper's default", "def a(x=1): return x\ndef step(): return a()", "x=1", "x=2"),
    changes("a helper defined below", "def step(): return helper()\ndef helper(): return 1", "return 1", "return 2"),
    changes("a lambda", "f = lambda: 1\ndef step(): return f()", "1", "2"),
    changes("the second lambda of a line", "f, g = lambda: 1, lambda: 2\ndef step(): return g()", "2", "3"),
    changes("a lambda in a default", "def step(f=lambda: 1): return f()", "1", "2"),
    changes("a helper in a comprehension", "def a(): return 1\ndef step(x): return [a() for _ in x]", "return 1", "return 2"),
    changes("a helper in an f-string", "def a(): return 1\ndef step(): return f'{a()}'", "return 1", "return 2"),
    changes("a constant in an inner function", "K = 1\ndef step():\n    def f(): return K\n    return f()", "K = 1", "K = 2"),
    changes("a constant in a nested class", "K = 1\ndef step():\n    class A: x = K\n    return A.x", "K = 1", "K = 2"),
    changes("a constant of the name of a class attribute", "x = 1\nclass A: x = x\ndef step(): return A.x", "x = 1", "x = 2"),
    changes("a name of the first iterable", "x = (1,)\ndef step(): return [x for x in x]", "(1,)", "(2,)"),
    changes("recursion", "def step(n): return n and step(n - 1)", "n - 1", "n - 2"),
    changes("mutual recursion", "def a(n): return n and step(n - 1)\ndef step(n): return a(n) + 1", "n - 1", "n - 2"),
    changes("a star import", "from helpers import *\ndef step(): return K\n# file: helpers.py\nK = [1]\n", "[1]", "[2]"),
    changes("an imported helper", "from helpers import a\ndef step(): return a()\n# file: helpers.py\ndef a(): return 1\n", "1", "2"),
    changes("an imported constant", "from helpers import K\ndef step(): return K\n# file: helpers.py\nK = 1\n", "= 1", "= 2"),
    changes("an imported list", "from helpers import K\ndef step(): return K\n# file: helpers.py\nK = [1]\n", "[1]", "[2]"),
    changes("an imported name with an alias", "from helpers import K as k\ndef step(): return k\n# file: helpers.py\nK = [1]\n", "[1]", "[2]"),
    changes("a function of an imported module", "import helpers\ndef step(): return helpers.a()\n# file: helpers.py\ndef a(): return 1\n", "1", "2"),
    changes("a constant of a module with an alias", "import helpers as h\ndef step(): return h.K\n# file: helpers.py\nK = 1\n", "= 1", "= 2"),
    changes("a list of an imported module", "import helpers\ndef step(): return helpers.K\n# file: helpers.py\nK = [1]\n", "[1]", "[2]"),
    changes(
        "a function of a submodule",
        "import tools.text\ndef step(): return tools.text.a()\n# file: tools/__init__.py\n\n# file: tools/text.py\ndef a(): return 1\n",
        "return 1", "return 2",
    ),
    changes(
        "a list that a package passes on",
        "from tools import K\ndef step(): return K\n# file: tools/__init__.py\nfrom .text import K\n# file: tools/text.py\nK = [1]\n",
        "[1]", "[2]",
    ),
    changes(
        "a helper's constant in another module",
        "from helpers import a\ndef step(): return a()\n# file: helpers.py\nK = 1\ndef a(): return K\n",
        "K = 1", "K = 2",
    ),
    changes(
        "a module imported in the body",
        "def step():\n    import helpers\n    return helpers.a()\n# file: helpers.py\ndef a(): return 1\n",
        "return 1", "return 2",
    ),
    changes(
        "a name imported in the body",
        "def step():\n    from helpers import a as f\n    return f()\n# file: helpers.py\ndef a(): return 1\n",
        "return 1", "return 2",
    ),
    changes(
        "a submodule imported in the body",
        "def step():\n    from tools import text\n    return text.a()\n# file: tools/__init__.py\n\n# file: tools/text.py\ndef a(): return 1\n",
        "return 1", "return 2",
    ),
    changes(
        "a relative import in the body",
        "from tools import step\n# file: tools/__init__.py\ndef step():\n    from . import text\n    return text.a()\n# file: tools/text.py\ndef a(): return 1\n",
        "return 1", "return 2",
    ),
    changes("another function of a library", "from math import sin as f\ndef step(x): return f(x)", "sin", "cos"),
    changes("another library", "import json as j\ndef step(x): return j.loads(x)", "json", "marshal"),
    # Classes.
    changes("a method", "class A:\n    def f(self): return 1\ndef step(): return A().f()", "return 1", "return 2"),
    changes("a method of a base class", "class B:\n    def f(self): return 1\nclass A(B): pass\ndef step(): return A().f()", "return 1", "return 2"),
    changes("a property", "class A:\n    @property\n    def f(self): return 1\ndef step(): return A().f", "return 1", "return 2"),
    changes("a class method", "class A:\n    @classmethod\n    def f(cls): return 1\ndef step(): return A.f()", "return 1", "return 2"),
    changes("a cached property", "import functools\nclass A:\n    @functools.cached_property\n    def f(self): return 1\ndef step(): return A().f", "return 1", "return 2"),
    changes("a class attribute", "class A: x = 1\ndef step(): return A.x", "x = 1", "x = 2"),
    changes("a helper of a method", "def h(): return 1\nclass A:\n    def f(self): return h()\ndef step(): return A().f()", "return 1", "return 2"),
    changes("a constant of a class body", "K = 1\nclass A: x = K\ndef step(): return A.x", "K = 1", "K = 2"),
    changes("a class in the branch that runs", "if True:\n    class A: x = 1\nelse:\n    class A: x = 3\ndef step(): return A.x", "x = 1", "x = 2"),
    changes("a number captured by a method", "def make(k):\n    class A:\n        def f(self): return k\n    return A\nA = make(1)\ndef step(): return A().f()", "make(1)", "make(2)"),
    changes("a number captured by a class body", "def make(k):\n    class A: x = k\n    return A\nA = make(1)\ndef step(): return A.x", "make(1)", "make(2)"),
    changes("a type captured by a field", "from dataclasses import dataclass\ndef make(T):\n    @dataclass\n    class A: x: T\n    return A\nA = make(int)\ndef step(): return A", "make(int)", "make(str)"),
    changes("a default captured by a model", "from pydantic import BaseModel\ndef make(k):\n    class A(BaseModel): x: int = k\n    return A\nA = make(1)\ndef step(): return A", "make(1)", "make(2)"),
    changes("a metaclass", "class M(type): x = 1\nclass A(metaclass=M): pass\ndef step(): return A.x", "x = 1", "x = 2"),
    changes("a class decorator", "def d(c): c.x = 1; return c\n@d\nclass A: pass\ndef step(): return A.x", "c.x = 1", "c.x = 2"),
    changes("a dataclass field", "from dataclasses import dataclass\n@dataclass\nclass A: x: int = 1\ndef step(a: A): return a.x", "int = 1", "int = 2"),
    changes("an attrs field", "import attrs\n@attrs.define\nclass A: x: int\ndef step(a: A): return a.x", "int", "str"),
    changes("a method of an attrs class", "import attrs\n@attrs.define\nclass A:\n    def f(self): return 1\ndef step(a: A): return a.f()", "return 1", "return 2"),
    changes("a pydantic field", "from pydantic import BaseModel\nclass A(BaseModel): x: int\ndef step() -> A: ...", "int", "str"),
    changes("a field of a model in a field", "from pydantic import BaseModel\nclass B(BaseModel): y: int\nclass A(BaseModel): b: B\ndef step() -> list[A]: ...", "int", "str"),
    changes("a field of a model made by a call", "from pydantic import create_model\nA = create_model('A', x=(int, 1))\ndef step() -> A: ...", "int", "str"),
    changes("a field of a named tuple", "from collections import namedtuple\nA = namedtuple('A', 'x y')\ndef step(): return A(1, 2)", "x y", "x z"),
    changes("a class in a quoted annotation", "def step(a: 'list[A]'): ...\nclass A: x: int", "x: int", "x: str"),
    changes("a class in a half quoted annotation", "def step(a: list['A | None']): ...\nclass A: x: int", "x: int", "x: str"),
    changes("a class in a future annotation", "from __future__ import annotations\ndef step(a: A): ...\nclass A: x: int", "x: int", "x: str"),
    changes("the text of a Literal", "from typing import Literal\ndef step(a: Literal['x']): ...", "'x'", "'y'"),
    changes("the data of Annotated", "from typing import Annotated\ndef step(a: Annotated[str, 'x']): ...", "'x'", "'y'"),
    changes("a type alias", "A = dict[str, int]\ndef step(a: A): ...", "int", "str"),
    changes("an enum member's value", "from enum import Enum\nclass E(Enum): A = 'x'\nK = E.A\ndef step(): return K.value", "'x'", "'y'"),
    changes("the chosen enum member", "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\nK = E.A\ndef step(): return K", "K = E.A", "K = E.B"),
    changes("an enum member read from its class", "from enum import Enum\nclass E(Enum): A = 'x'\ndef step(): return E.A.value", "'x'", "'y'"),
    changes("an enum's method", "from enum import Enum\nclass E(Enum):\n    A = 1\n    def f(self): return 1\nK = (E.A,)\ndef step(): return K", "return 1", "return 2"),
    changes("how an object is made", "class A:\n    def __init__(self, x): self.x = x\nK = A('a')\ndef step(): return K.x", "'a'", "'b'"),
    changes("the class of an object", "class A:\n    def f(self): return 1\nK = A()\ndef step(): return K.f()", "return 1", "return 2"),
    changes("a bound method", "class A:\n    def f(self): return 1\nf = A().f\ndef step(): return f()", "return 1", "return 2"),
    changes("the object of a bound method", "class A:\n    def __init__(self, x): self.x = x\n    def f(self): return self.x\nf = A(1).f\ndef step(): return f()", "A(1)", "A(2)"),
    changes("the type of a client", "from agents import One as Client\nK = Client()\ndef step(): return K\n# file: agents.py\nimport threading, queue\nOne = threading.Lock\n", "threading.Lock", "queue.Queue"),
    # Closures, partials, decorators.
    changes("a captured number", "def make(k):\n    def inner(): return k\n    return inner\nstep = make(1)", "make(1)", "make(2)"),
    changes("a captured list", "def make(k):\n    def inner(): return k\n    return inner\nstep = make([1])", "[1]", "[2]"),
    changes("a captured dict", "def make(k):\n    def inner(): return k\n    return inner\nstep = make({'a': {1}})", "{1}", "{2}"),
    changes("a captured function", "def make(k):\n    def inner(): return k()\n    return inner\nstep = make(lambda: 1)", "lambda: 1", "lambda: 2"),
    changes("a captured object", "class A:\n    def __init__(self, x): self.x = x\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(A(1))", "A(1)", "A(2)"),
    changes("a captured model", "from pydantic import BaseModel\nclass A(BaseModel): x: int\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(A(x=1))", "x=1", "x=2"),
    changes("a captured pattern", "import re\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(re.compile('a'))", "'a'", "'b'"),
    changes("a captured item getter", "from operator import itemgetter\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(itemgetter('a'))", "'a'", "'b'"),
    changes("a captured template", "from string import Template\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(Template('a'))", "'a'", "'b'"),
    changes("a captured date", "import datetime\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(datetime.date(2024, 1, 1))", "2024", "2025"),
    changes("a captured type", "def make(k):\n    def inner(): return k\n    return inner\nstep = make(list[int])", "int", "str"),
    changes("a captured module", "import json, marshal\ndef make(k):\n    def inner(): return k.loads\n    return inner\nstep = make(json)", "make(json)", "make(marshal)"),
    changes("a captured module's function", "import helpers\ndef make(k):\n    def inner(): return k.a()\n    return inner\nstep = make(helpers)\n# file: helpers.py\ndef a(): return 1\n", "return 1", "return 2"),
    changes("a helper's captured number", "def make(k):\n    return lambda x: x * k\nf = make(2)\ndef step(): return f(1)", "make(2)", "make(3)"),
    changes("two closures that change places", "def make(k):\n    return lambda x: x * k\nf = make(2)\ng = make(3)\ndef step(): return f(1) - g(1)", "f = make(2)\ng = make(3)", "f = make(3)\ng = make(2)"),
    changes("a default made by a closure", "def make(k):\n    def inner(x=k): return x\n    return inner\nstep = make(1)", "make(1)", "make(2)"),
    changes("a list as a default", "def make(k):\n    def inner(x=k): return x\n    return inner\nstep = make([1])", "[1]", "[2]"),
    changes("a function as a default", "def a(): return 1\ndef step(f=a): return f()", "return 1", "return 2"),
    changes("a partial's function", "from functools import partial\ndef a(x): return 1\nf = partial(a, 1)\ndef step(): return f()", "return 1", "return 2"),
    changes("a partial's argument", "from functools import partial\ndef a(x): return x\nf = partial(a, 1)\ndef step(): return f()", "a, 1", "a, 2"),
    changes("a partial's keyword", "from functools import partial\ndef a(x): return x\nf = partial(a, x=1)\ndef step(): return f()", "x=1", "x=2"),
    changes("a function under lru_cache", "from functools import lru_cache\n@lru_cache\ndef a(): return 1\ndef step(): return a()", "return 1", "return 2"),
    changes("a wrapped function", "from functools import wraps\ndef d(f):\n    @wraps(f)\n    def w(): return f()\n    return w\n@d\ndef a(): return 1\ndef step(): return a()", "return 1", "return 2"),
    changes("a wrapper", "from functools import wraps\ndef d(f):\n    @wraps(f)\n    def w(): return f() + 1\n    return w\n@d\ndef a(): return 1\ndef step(): return a()", "f() + 1", "f() + 2"),
    changes("a wrapper without wraps", "def d(f):\n    def w(): return f()\n    return w\n@d\ndef a(): return 1\ndef step(): return a()", "return 1", "return 2"),
    changes("an argument of a decorator", "def d(n):\n    return lambda f: f\n@d(1)\ndef a(): return 1\ndef step(): return a()", "d(1)", "d(2)"),
    changes("a decorator", "def d(f): f.x = 1; return f\n@d\ndef step(): return 1", "f.x = 1", "f.x = 2"),
    changes("a decorator from a registry", "def d(f): f.x = 1; return f\nR = {'d': d}\n@R['d']\ndef step(): return 1", "f.x = 1", "f.x = 2"),
    changes("a function under a class", "class memo:\n    def __init__(self, f): self.f = f\n    def __call__(self): return self.f()\n@memo\ndef a(): return 1\ndef step(): return a()", "return 1", "return 2"),
    changes("what a user's wrapper object holds", "from functools import update_wrapper\nclass Wrapper:\n    def __init__(self, f, text): update_wrapper(self, f).text = text\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(Wrapper(print, 'a'))", "'a'", "'b'"),
    changes("a function under contextmanager", "from contextlib import contextmanager\n@contextmanager\ndef a(): yield 1\ndef step(): return a()", "yield 1", "yield 2"),
    changes("a choice of singledispatch", "from functools import singledispatch\n@singledispatch\ndef a(x): return 1\n@a.register\ndef _(x: int): return 2\ndef step(): return a(1)", "return 2", "return 3"),
    changes("an option of a user's decorator above ours", OWN_DECORATORS.join(["from marks import cached_step\ndef d(n): return lambda f: f\n@cached_step\n@d(1)\ndef step(): return 1\n", ""]), "@d(1)", "@d(2)"),
    # Objects that say their version.
    changes("a version of its own", "class A:\n    def __agentflow_version__(self): return '1'\nK = A()\ndef step(): return K", "'1'", "'2'"),
    changes("a version in a tuple", "class A:\n    def __agentflow_version__(self): return '1'\nK = (A(),)\ndef step(): return K", "'1'", "'2'"),
    changes("a captured version", "class A:\n    def __agentflow_version__(self): return '1'\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(A())", "'1'", "'2'"),
]  # fmt: skip

SAME = [
    # What says nothing.
    keeps("a comment", "def step(x):\n    return x", "    return x", "    # so\n    return x  # there"),
    keeps("a blank line", "def step(x):\n    y = x\n    return y", "y = x\n", "y = x\n\n\n"),
    keeps("lines above", "K = 1\ndef step(): return K", "def", "\n\n\ndef"),
    keeps("a docstring", "def step(x):\n    'Old.'\n    return x", "Old", "New"),
    keeps("a docstring more", "def step(x):\n    return x", "    return", "    'New.'\n    return"),
    keeps("only a docstring", "def step(x):\n    'Old.'", "'Old.'", "pass"),
    keeps("a string that stands alone", "def step(x):\n    x += 1\n    return x", "    return", "    'so'\n    return"),
    keeps("a helper's docstring", "def a():\n    'Old.'\n    return 1\ndef step(): return a()", "Old", "New"),
    keeps("a class's docstring", "class A:\n    'Old.'\n    x = 1\ndef step(): return A", "Old", "New"),
    keeps("the docstring of a method", "class A:\n    def f(self):\n        'Old.'\ndef step(): return A", "Old", "New"),
    keeps("a module's docstring", "'Old.'\ndef step(): return 1", "Old", "New"),
    keeps("quotes", "def step(): return 'a'", "'a'", '"a"'),
    keeps("a prefix", "def step(): return 'a'", "'a'", "u'a'"),
    keeps("parentheses", "def step(x): return x + 1", "x + 1", "((x) + (1))"),
    keeps("a line break", "def step(x): return x + 1", "x + 1", "(\n    x\n    + 1\n)"),
    keeps("a trailing comma", "def step(x): return f(x)", "f(x)", "f(\n    x,\n)"),
    keeps("a text in two parts", "def step(): return 'ab'", "'ab'", "'a' 'b'"),
    keeps("an f-string in two parts", "def step(x): return f'a{x}b'", "f'a{x}b'", "f'a' f'{x}' 'b'"),
    keeps("underscores in a number", "def step(): return 1000", "1000", "1_000"),
    keeps("a semicolon", "def step(x):\n    x += 1\n    return x", "x += 1\n    return", "x += 1; return"),
    keeps("a quoted annotation", "def step(a: list[int]): ...", "list[int]", "'list[int]'"),
    keeps("a half quoted annotation", "class A: ...\ndef step(a: list[A]): ...", "list[A]", "list['A']"),
    keeps("a future import", "def step(a: int) -> str: ...", "def", "from __future__ import annotations\ndef"),
    keeps("a type comment", "def step(x):\n    y = x\n    return y", "y = x", "y = x  # type: int"),
    # What is not named.
    keeps("another function", "def other(): return 1\ndef step(): return 1", "other(): return 1", "other(): return 2"),
    keeps("another constant", "K = 1\ndef step(): return 1", "K = 1", "K = 2"),
    keeps("a helper's caller", "def a(): return 1\ndef b(): return a() + 1\nstep = a", "+ 1", "+ 2"),
    keeps("a constant of a local's name", "K = 1\ndef step():\n    K = 5\n    return K", "K = 1", "K = 2"),
    keeps("a constant of a parameter's name", "K = 1\ndef step(K): return K", "K = 1", "K = 2"),
    keeps("a constant of an inner local's name", "K = 1\ndef step():\n    def f(K): return K\n    return f(3)", "K = 1", "K = 2"),
    keeps("a constant of a loop's name", "K = 1\ndef step(x):\n    for K in x: print(K)", "K = 1", "K = 2"),
    keeps("a constant of a comprehension's name", "K = 1\ndef step(x): return [K for K in x]", "K = 1", "K = 2"),
    keeps("a constant of an exception's name", "K = 1\ndef step():\n    try: a()\n    except E as K: return K", "K = 1", "K = 2"),
    keeps("a constant of a captured pattern's name", "K = 1\ndef step(x):\n    match x:\n        case [*K]: return K", "K = 1", "K = 2"),
    keeps("a constant of a walrus's name", "K = 1\ndef step(x): return [y for y in x if (K := y)] and K", "K = 1", "K = 2"),
    keeps("a constant of an attribute's name", "K = 1\ndef step(x): return x.K", "K = 1", "K = 2"),
    keeps("another function of the module", "import helpers\ndef step(): return helpers.a()\n# file: helpers.py\ndef a(): return 1\ndef b(): return 2\n", "return 2", "return 3"),
    keeps("another line of an imported list's module", "from helpers import K\ndef step(): return K\n# file: helpers.py\nK = [1]\nL = [2]\n", "[2]", "[3]"),
    keeps("the order of definitions", "def a(): return 1\ndef b(): return 2\ndef step(): return a() + b()", "def a(): return 1\ndef b(): return 2", "def b(): return 2\ndef a(): return 1"),
    keeps("how an import is written", "import json\ndef step(x): return json.loads(x)", "import json", "import json, os"),
    # Where it is.
    keeps("a helper that moves", "from helpers import a\ndef step(): return a()\n# file: helpers.py\ndef a(): return 1\n", "from helpers import a\n", "def a(): return 1\n"),
    keeps("a constant that moves", "from helpers import K\ndef step(): return K\n# file: helpers.py\nK = 'a'\n", "from helpers import K\n", "K = 'a'\n"),
    keeps("a module's new name", "from helpers import a\ndef step(): return a()\n# file: helpers.py\ndef a(): return 1\n", "helpers", "utilities"),
    # State.
    keeps("a global that a function rebinds", "K = 1\ndef set_it():\n    global K\n    K = 5\ndef step(): return K", "K = 1", "K = 2"),
    keeps("a rebound global of a module", "import helpers\ndef step(): return helpers.K\n# file: helpers.py\nK = 1\ndef set_it():\n    global K\n    K = 5\n", "K = 1", "K = 2"),
    keeps("a rebound global that is imported", "from helpers import K\ndef step(): return K\n# file: helpers.py\nK = 1\ndef set_it():\n    global K\n    K += 5\n", "K = 1", "K = 2"),
    keeps("a memo in a default", "def make(k):\n    def inner(x, memo=k): memo[x] = 1\n    return inner\nstep = make({})", "{}", "{1: 2}"),
    keeps("a memo in a closure", "def make(k):\n    def inner(x): return k.setdefault(x, 1)\n    return inner\nstep = make({})", "{}", "{1: 2}"),
    keeps("a counter in a closure", "def make(n):\n    def inner():\n        nonlocal n\n        n += 1\n    return inner\nstep = make(0)", "make(0)", "make(5)"),
    keeps("a counter that an inner function counts up", "def make(n):\n    def inner():\n        def up():\n            nonlocal n\n            n += 1\n        return up, n\n    return inner\nstep = make(0)", "make(0)", "make(5)"),
    keeps("what a star-imported list is filled with", "from helpers import *\nfor _ in range(1): put()\ndef step(): return K\n# file: helpers.py\nK = [0]\ndef put(): K.append(1)\n", "range(1)", "range(2)"),
    keeps("a field that the code counts up", "class A:\n    def __init__(self, n): self.n = n\ndef make(a):\n    def inner(): a.n += 1\n    return inner\nstep = make(A(0))", "A(0)", "A(5)"),
    # What counts by its type, or by its name.
    keeps("how a client is made", "import httpx\nclient = httpx.Client(timeout=5)\nclient.close()\ndef step(): return client", "timeout=5", "timeout=9"),
    keeps("how a captured client is made", "import threading\ndef make(k):\n    def inner(): return k\n    return inner\nstep = make(threading.Semaphore(1))", "(1)", "(2)"),
    keeps("a constant of a library", "from string import digits as K\nimport string\ndef step(): return K", "import string\n", "import string\nL = string.digits\n"),
    keeps("what says its own version", "class A:\n    x = 1\n    def __agentflow_version__(self): return 'v'\nK = A()\ndef step(): return K", "x = 1", "x = 2"),
    keeps("a dict's item order in a closure", "def make(k):\n    def inner(): return k\n    return inner\nstep = make({'a': 1, 'b': 2})", "'a': 1, 'b': 2", "'b': 2, 'a': 1"),
    # agentflow's own decorators.
    keeps("an option of our decorator", OWN_DECORATORS.join(["from marks import cached_step\n@cached_step(ttl=1)\ndef step(): return 1\n", ""]), "ttl=1", "retry=2"),
    keeps("our decorator", OWN_DECORATORS.join(["from marks import cached_step\n@cached_step\ndef step(): return 1\n", ""]), "@cached_step\n", ""),
    keeps("our decorator through its module", OWN_DECORATORS.join(["import marks\n@marks.cached_step(ttl=1)\ndef step(): return 1\n", ""]), "ttl=1", "ttl=2"),
    keeps("our decorator with options kept in a name", OWN_DECORATORS.join(["from marks import cached_step\nours = cached_step(ttl=1)\n@ours\ndef step(): return 1\n", ""]), "@ours\n", ""),
]  # fmt: skip


if sys.version_info >= (3, 12):
    DIFFERENT += [
        changes("a type parameter's bound", "K = int\ndef step[T: K](x: T) -> T: return x", "K = int", "K = str"),
        changes("a constant in a generic class", "K = 1\nclass A[T]:\n    def f(self, x: T): return K\ndef step(): return A", "K = 1", "K = 2"),
        changes("a type statement", "type A = dict[str, int]\ndef step(a: A): ...", "int", "str"),
    ]  # fmt: skip
    SAME += [
        keeps("a constant of a type parameter's name", "T = 1\ndef step[T](x: T) -> T: return x", "T = 1", "T = 2"),
    ]


@pytest.mark.parametrize("edit", DIFFERENT)
def test_an_edit_that_matters_changes_the_version(edit, tmp_path):
    """Whatever can change the answer of a step makes another version of it."""
    before = load(tmp_path / "before", edit.program)

    after = load(tmp_path / "after", edited(edit))

    assert before.digest != after.digest


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_that_does_not_matter_keeps_the_version(edit, tmp_path):
    """Comments, formatting, what is not named and what is state leave the version as it is."""
    before = load(tmp_path / "before", edit.program)

    after = load(tmp_path / "after", edited(edit))

    assert before.digest == after.digest


def edited(edit: Edit) -> str:
    """Return the program after the edit."""
    assert edit.old in edit.program
    return edit.program.replace(edit.old, edit.new)
