"""Everything that one function's behaviour is written in: the pieces of code and the values it reaches.

It knows how to get from a name to what it stands for, and from there on. It does not know when a
version has to be computed again: `_fingerprint` does.

Theory of operation. Each piece (a function, a class, a global, a captured value) has a label and a
digest. Its digest covers its own text and, for each name in it, the *label* of what that stands for,
never the other's digest: so recursion needs no care, and a change shows in the piece that changed.
Labels are qualified names; where several things have one, they are numbered in the order they are
met, which is the same everywhere because names are followed in sorted order. The module is no part of
a label: a script and its import agree, and moving a helper to another file changes nothing.
"""

from __future__ import annotations

__all__ = ["Graph"]

import ast
import sys
from collections import Counter, deque
from functools import cached_property, partial
from types import CellType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import frozen

from agentflow._canonical import digest, node, scalar
from agentflow._code_module import Module, loaded
from agentflow._code_source import plain_qualname
from agentflow._code_text import Code, classes_code, function_code, statements_code
from agentflow._code_values import CAPTURED, STATE, Origin, Place, Values
from agentflow._code_watch import NOTHING, Versioned, Watch, contents
from agentflow._user_code import is_stdlib, package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agentflow._code_names import Reference

_FORMAT: Final = b"code version 1"

_MAX_PIECES: Final = 10_000
"""From here on objects count by their type: one that holds a new one each time it is asked would never end."""

_SYSTEM_NAMES: Final = frozenset(
    {
        "__builtins__",
        "__cached__",
        "__dict__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)
"""What the import system puts into a module: they differ between a script and its import, and between machines."""

_TELLING: Final = frozenset({"__annotations__", "__slots__", "__pydantic_fields__"})
"""The special attributes that say what the fields of a class are."""


@frozen(eq=False)
class _Scope:
    """Where the names of a piece are looked up."""

    module: Module
    label: str
    cells: Mapping[str, CellType]
    changed: frozenset[str] = frozenset()


@frozen
class _At:
    """A name at a place: a global of a module, a cell of a closure. The place lives as long as the graph."""

    place: int
    name: str


class Graph:
    """The pieces that one object reaches.

    Attributes:
        watch: What they are found by.
    """

    def __init__(self, root: object, watch: Watch, ask: Callable[[Versioned], str]) -> None:
        """Begin at `root`, note what is found in `watch`, and `ask` those objects that say their version themselves."""
        self.watch = watch
        self._ask = ask
        self._pieces: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._own_package = _package(root)
        self._values = Values(self)
        self._labels: dict[_At | int, str] = {}
        self._numbers: Counter[str] = Counter()
        self._todo: deque[tuple[str, Callable[[str], bytes]]] = deque()
        self._modules: dict[int, Module] = {}
        self._alive: list[object] = []

    def digest(self, root: object) -> str:
        """Follow `root` to the end and return the digest of everything it reaches."""
        start = self._values.form(root)
        while self._todo:
            label, content = self._todo.popleft()
            self._pieces[label] = digest(content(label))
        reached = (node(b"piece", label.encode(), text.encode()) for label, text in sorted(self._pieces.items()))
        return digest(_FORMAT, start, *reached)

    def titled_pieces(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of each piece with its module and name, in the order in which they were met."""
        for title, label in self._titles.items():
            yield title, self._pieces[label]

    # What `Values` asks for.

    def function(self, function: FunctionType) -> bytes:
        """Follow a Python function."""
        module = self._module(function.__globals__)
        name = plain_qualname(function.__code__.co_qualname)
        if self._is_user(module):
            return self._piece(function, name, module, partial(self._function, function, module))
        name = name.partition(".<locals>")[0]  # what a library calls its inner functions is its own affair
        known = node(b"installed", f"{package_of(module.raw_name)}:{name}".encode())
        if function.__closure__ is None and "__wrapped__" not in vars(function):
            return known
        return node(b"around", known, self._piece(function, name, module, partial(self._around, function)))

    def class_(self, cls: type, place: Place | Origin) -> bytes:
        """Follow a class."""
        module = self._module_of(cls)
        if not self._is_user(module):
            return node(b"installed", f"{package_of(module.raw_name)}:{cls.__qualname__}".encode())
        return self._piece(cls, plain_qualname(cls.__qualname__), module, partial(self._class, cls, module, place))

    def module(self, module: ModuleType) -> bytes:
        """Name a module of an installed package; one of the user's own is only the way to what is in it."""
        user = self._is_user(self._module(vars(module)))
        return node(b"module") if user else node(b"module", module.__name__.encode())

    def source(self, origin: Origin) -> bytes:
        """Follow the statements that make a global."""
        code = statements_code(origin.source, origin.name, origin.statements, origin.module)
        return node(b"code", code.form, *self._edges(code, _Scope(origin.module, "", {})))

    def versioned(self, item: Versioned) -> bytes:
        """Ask an object for its version."""
        return node(b"version", self._ask(item).encode())

    def content(self, value: object) -> bytes:
        """Follow an object by what it holds."""
        cls = type(value)
        if len(self._labels) >= _MAX_PIECES:
            return b""
        name = f"{plain_qualname(cls.__qualname__)} object"
        return self._piece(value, name, self._module_of(cls), lambda _: self._values.reduced(value))

    def owner(self, cls: type) -> str:
        """Return whose a class is."""
        module = self._module_of(cls)
        if self._is_user(module):
            return "user"
        return "stdlib" if is_stdlib(module.raw_name, module.file) else "installed"

    # Pieces.

    def _piece(self, thing: object, name: str, module: Module, content: Callable[[str], bytes]) -> bytes:
        """Return the bytes for a piece; the first time, give it a label and put it on the list.

        Args:
            thing: What the piece is made of; a name in a namespace is an `_At`.
            name: Its qualified name.
            module: Where it is.
            content: Gives its bytes when its turn has come.
        """
        key = thing if type(thing) is _At else id(thing)
        label = self._labels.get(key)
        if label is None:
            self._numbers[name] += 1
            label = name if self._numbers[name] == 1 else f"{name}#{self._numbers[name]}"
            self._labels[key] = label
            self._alive.append(thing)  # so that its id stays its own
            self._titles[f"{module.name}:{label}"] = label
            self._todo.append((label, content))
        return node(b"piece", label.encode())

    def _function(self, function: FunctionType, module: Module, label: str) -> bytes:
        """Encode a function of the user's own."""
        self.watch.code(function)
        code = function_code(function, module)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        edges = self._edges(code, _Scope(module, label, cells, code.changed))
        return node(b"function", code.form, *edges, *self._defaults(function, code), *self._wrapped(function))

    def _defaults(self, function: FunctionType, code: Code) -> list[bytes]:
        """Encode the values of a function's defaults."""
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        values = dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False))
        values |= function.__kwdefaults__ or {}
        return [
            node(b"default", name.encode(), self._values.form(values[name], _default_place(name, code)))
            for name in sorted(values)
        ]

    def _wrapped(self, function: FunctionType) -> list[bytes]:
        """Encode what a wrapper says it wraps, and what a `singledispatch` function chooses from."""
        found: list[bytes] = []
        if "__wrapped__" in vars(function):
            found.append(node(b"wraps", self._values.form(vars(function)["__wrapped__"])))
        choices: object = vars(function).get("registry")
        if isinstance(choices, MappingProxyType):
            found += [node(b"choice", self._values.form(it)) for it in cast("Mapping[Any, Any]", choices).items()]
        return found

    def _around(self, function: FunctionType, _: str) -> bytes:
        """Encode what the function of an installed package holds of the user's code: it is a decorator's wrapper."""
        if said := self._wrapped(function):
            return node(b"around", *said)
        held = [contents(cell) for cell in function.__closure__ or ()]
        return node(b"around", *(self._values.form(it) for it in held if _is_code(it)))

    def _class(self, cls: type, module: Module, place: Place | Origin, label: str) -> bytes:
        """Encode a class of the user's own: by its source, by the statements that make it, or by its members."""
        bases = [self._values.form(base) for base in cls.__bases__]
        if found := module.class_(cls):
            source, trees = found
            code = classes_code(source, trees, module)
            edges = self._edges(code, _Scope(module, label, _class_cells(cls), code.changed))
            # The body of a class inside a function may hold what the function was called with.
            held = self._members(cls, methods=False) if "<locals>" in cls.__qualname__ else []
            return node(b"class", code.form, *bases, *edges, *held)
        if isinstance(place, Origin):
            return node(b"class", *bases, self.source(place))
        return node(b"class", *bases, *self._members(cls, methods=True))

    def _members(self, cls: type, *, methods: bool) -> list[bytes]:
        """Encode the constants and fields of a class, and its methods if there is no source for them."""
        found: list[bytes] = []
        for name, value in sorted(vars(cls).items()):
            parts = _parts(value)
            functions = any(type(part) is FunctionType for part in parts)
            special = name.startswith("__") and name not in _TELLING
            if methods if functions else not special:
                found.append(node(b"member", name.encode(), *map(self._values.form, parts)))
        return found

    # Names.

    def _edges(self, code: Code, scope: _Scope) -> list[bytes]:
        """Encode what each name of a piece stands for."""
        found: list[bytes] = []
        for reference in code.references:
            if target := self._resolve(reference, scope):
                use = scalar((reference.name, reference.path, reference.level)) or b""
                found.append(node(b"name", use, target))
        return found

    def _resolve(self, reference: Reference, scope: _Scope) -> bytes | None:
        """Return what a name stands for; None if it is built in, undefined or state."""
        if reference.imported:
            return self._imported(reference, scope.module)
        if reference.name in scope.cells:
            return self._captured(reference, scope)
        return self._global(scope.module, reference.name, reference.path)

    def _imported(self, reference: Reference, module: Module) -> bytes | None:
        """Follow an import that stands inside the code."""
        name = module.absolute(reference)
        found = loaded(name, self._own_package)
        if found is None:
            return None
        if reference.path and reference.path[0] not in vars(found):
            loaded(f"{name}.{reference.path[0]}", self._own_package)
        return self._along(module, name, found, reference.path)

    def _captured(self, reference: Reference, scope: _Scope) -> bytes | None:
        """Follow a name of an enclosing function."""
        cell, name = scope.cells[reference.name], reference.name
        value = contents(cell)
        state = name in scope.changed
        if not state:
            self.watch.cell(cell, value)
        if value is NOTHING:
            return None
        if issubclass(type(value), ModuleType):
            return self._along(scope.module, name, value, reference.path)
        if issubclass(type(value), FunctionType | type):
            return self._values.form(value)
        place = STATE if state else CAPTURED
        key = _At(id(cell), name)
        return self._piece(key, f"{scope.label}:{name}", scope.module, lambda _: self._values.form(value, place))

    def _global(self, module: Module, name: str, path: tuple[str, ...]) -> bytes | None:
        """Follow a global of a user's module."""
        if name in _SYSTEM_NAMES or module.is_state(name):
            return None
        if name not in module.variables:
            self.watch.absent(module.variables, name)
            return None
        value: object = module.variables[name]
        self.watch.name(module.variables, name, value)
        return self._along(module, name, value, path)

    def _along(self, module: Module, name: str, value: object, path: tuple[str, ...]) -> bytes | None:
        """Go along attributes as long as they lead through the user's modules."""
        if not issubclass(type(value), ModuleType):
            return self._bound(module, name, value)
        inner = self._module(vars(value))
        if path and self._is_user(inner):
            return self._global(inner, path[0], path[1:])
        return self.module(cast("ModuleType", value))

    def _bound(self, module: Module, name: str, value: object) -> bytes | None:
        """Encode the value of a global, at the place where it was made."""
        home = self._home(module, name, value)
        if isinstance(home, str):
            return node(b"installed", home.encode())
        module, name = home
        if module.is_state(name):
            return None
        place = _origin(module, name)
        if issubclass(type(value), FunctionType | type):
            return self._values.form(value, place)
        key = _At(id(module.variables), name)
        return self._piece(key, name, module, lambda _: self._values.form(value, place))

    def _home(self, module: Module, name: str, value: object) -> tuple[Module, str] | str:
        """Follow imports back to where a value was made; if that is an installed package, return its name there."""
        seen: set[tuple[int, str]] = set()
        while (id(module.variables), name) not in seen:
            seen.add((id(module.variables), name))
            for origin, attribute in module.origins(name):
                there = sys.modules.get(origin)
                if there is None or vars(there).get(attribute, NOTHING) is not value:
                    continue
                found = self._module(vars(there))
                if not self._is_user(found):
                    return f"{origin}.{attribute}"
                module, name = found, attribute
                break
        return module, name

    # Modules.

    def _module(self, variables: dict[str, Any]) -> Module:
        """Return the module with these variables."""
        found = self._modules.get(id(variables))
        if found is None:
            found = self._modules[id(variables)] = Module(variables)
        return found

    def _module_of(self, cls: type) -> Module:
        """Return the module of a class; one that is not loaded has only its name."""
        name = str(cls.__module__)
        module = sys.modules.get(name)
        if module is not None:
            return self._module(vars(module))
        return Module({"__name__": name})

    def _is_user(self, module: Module) -> bool:
        """Say whether code is followed there: it is the user's, or of the package that is asked for its version."""
        return package_of(module.raw_name) == self._own_package or not module.installed


def _package(root: object) -> str:
    """Return the package whose own code counts although it may be installed: an application is deployed as a wheel."""
    if not isinstance(root, FunctionType):
        return ""
    package = package_of(str(root.__globals__.get("__name__", "")))
    return "" if package in sys.stdlib_module_names or package == "agentflow" else package


def _origin(module: Module, name: str) -> Place | Origin:
    """Return the statements that make a global; without any, its content has to do."""
    found = module.statements(name)
    if found is None:
        return CAPTURED
    source, statements = found
    made = tuple(it for it in statements if not isinstance(it[-1], ast.Import | ast.ImportFrom))
    return Origin(module, name, source, made) if made else CAPTURED


def _default_place(name: str, code: Code) -> Place:
    """Say how a default counts: what the function changes is its memo, and no constant."""
    return STATE if name in code.changed else CAPTURED


def _is_code(thing: object) -> bool:
    """Say whether an object is code that may be the user's."""
    return issubclass(type(thing), FunctionType | MethodType | partial | type)


def _class_cells(cls: type) -> dict[str, CellType]:
    """Return the names that a class inside a function takes from it, as far as its methods hold them."""
    found: dict[str, CellType] = {}
    for value in vars(cls).values():
        for part in _parts(value):
            if isinstance(part, FunctionType):
                found |= zip(part.__code__.co_freevars, part.__closure__ or (), strict=True)
    return found


def _parts(member: Any) -> list[object]:
    """Return the functions in a property or a class method; any other member is itself."""
    kind: type[Any] = type(member)
    if issubclass(kind, property):
        return [part for part in (member.fget, member.fset, member.fdel) if part is not None]
    if issubclass(kind, staticmethod | classmethod):
        return [member.__func__]
    return [member.func] if issubclass(kind, cached_property) else [member]
