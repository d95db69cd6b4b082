"""The names that a piece of code takes from outside itself.

It knows Python's scopes as syntax: what a function, class or comprehension binds, what it only uses,
and what it imports inside itself. It does not know what a name stands for.

Where the exact rule needs more than syntax it errs towards one name too many: a name used in a class
body counts as used from outside although the body binds it too (`prompt = prompt` is legal there).
"""

from __future__ import annotations

__all__ = ["Reference", "bindings", "bytecode_references", "changed_names", "rebound_globals", "references"]

import ast
import dis
from types import CodeType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

from agentflow._code_digest import OwnDecorator, fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

# fmt: off
_CHANGING_METHODS: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault",
    "sort", "subtract", "symmetric_difference_update", "update",
})
# fmt: on
"""Methods of the standard containers that change them in place."""

_LOADS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


@frozen(order=True)
class Reference:
    """A name that code uses, with the attributes read from it: `config.models.fast`.

    Attributes:
        name: The name; for what the code imports itself, the module (empty in `from . import x`).
        path: The attributes, in order.
        level: The number of dots of the import; -1 for a name.
    """

    name: str
    path: tuple[str, ...] = ()
    level: int = -1

    @property
    def imported(self) -> bool:
        """Whether the code imports it itself."""
        return self.level >= 0


def references(trees: Iterable[ast.AST], own: OwnDecorator) -> tuple[Reference, ...]:
    """Return what the code of `trees` takes from outside, sorted."""
    scope = _Scope(own, closed=False)
    scope.read(*trees)
    return tuple(sorted(scope.free()))


class _Scope:
    """The names of one function, class body or comprehension.

    A closed scope hides what it binds from outside; an open one (a class body, a statement) does not.
    """

    def __init__(self, own: OwnDecorator, *, closed: bool) -> None:
        self.own, self.closed = own, closed
        self.used: set[Reference] = set()
        self.bound: set[str] = set()
        self.type_names: set[str] = set()
        self.imports: dict[str, list[Reference]] = {}
        self.shared: set[str] = set()
        self.walrus: set[str] = set()

    def read(self, *trees: object) -> None:
        """Take in code of this scope; scopes inside it give what they use from outside themselves."""
        todo: list[object] = [*trees]
        while todo:
            item = todo.pop()
            if isinstance(item, list):
                todo.extend(cast("list[object]", item))
            elif isinstance(item, ast.AST):
                todo.extend(self._node(item))

    def free(self) -> set[Reference]:
        """Return what is used here and comes from outside."""
        found: set[Reference] = set()
        for use in self.used:
            if use.imported:
                found.add(use)
            elif use.name in self.imports:
                found.update(Reference(it.name, it.path + use.path, it.level) for it in self.imports[use.name])
            elif use.name not in self.type_names and not (self.closed and use.name in self.bound):
                found.add(use)
        return found

    def _node(self, item: ast.AST) -> Iterable[object]:
        """Note what a node uses and binds; return what is left to read of it."""
        match item:
            case ast.Name(id=name, ctx=ast.Load()):
                self.used.add(Reference(name))
            case ast.Name(id=name):
                self.bound.add(name)
            case ast.Attribute():
                return self._attribute(item)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                return self._function(item)
            case ast.ClassDef():
                return self._class(item)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._comprehension(item)
            case _:
                return self._other(item)
        return ()

    def _other(self, item: ast.AST) -> Iterable[object]:
        """Note what the rarer nodes bind."""
        match item:
            case ast.Import(names=names):
                self._import(names)
            case ast.ImportFrom(module=module, names=names, level=level):
                self._import_from(module or "", names, level)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.shared.update(names)
            case ast.NamedExpr(target=ast.Name(id=name)):
                self.walrus.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                self.bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                self.bound.add(name)
            case _:
                pass
        return [value for _, value in fields(item, self.own)]

    def _attribute(self, item: ast.Attribute) -> Iterable[object]:
        """Note `a.b.c` as one reference; an attribute of anything else is read further."""
        path: list[str] = []
        base: ast.expr = item
        while isinstance(base, ast.Attribute):
            path.append(base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            return (base,)
        self.used.add(Reference(base.id, tuple(reversed(path))))
        return ()

    def _function(self, item: _Function) -> Iterable[object]:
        """Read a function: its body is a scope of its own; decorators, defaults and annotations belong here."""
        inner = _Scope(self.own, closed=True)
        header = dict(fields(item, self.own))
        inner.read(header.pop("body"))
        arguments = _arguments(item.args)
        inner.bound.update(argument.arg for argument in arguments)
        self._absorb(inner)
        self._declare(item)
        notes = [value for argument in arguments for name, value in fields(argument, self.own) if name == "annotation"]
        return [*notes, item.args.defaults, item.args.kw_defaults, header.get("decorator_list"), header.get("returns")]

    def _class(self, item: ast.ClassDef) -> Iterable[object]:
        """Read a class: its body is an open scope."""
        inner = _Scope(self.own, closed=False)
        header = dict(fields(item, self.own))
        inner.read(header.pop("body"))
        self._absorb(inner)
        self._declare(item)
        return [header.get(name) for name in ("bases", "keywords", "decorator_list")]

    def _declare(self, item: _Function | ast.ClassDef) -> None:
        """Bind the name of a definition, and the type parameters of Python 3.12 with their bounds."""
        if not isinstance(item, ast.Lambda):
            self.bound.add(item.name)
        parameters: list[ast.AST] = getattr(item, "type_params", [])
        for parameter in parameters:
            self.type_names.add(getattr(parameter, "name", ""))
            self.read(*(value for _, value in fields(parameter, self.own)))

    def _comprehension(self, item: _Comprehension) -> Iterable[object]:
        """Read a comprehension: its first iterable belongs here, and so do the names of its walruses."""
        inner = _Scope(self.own, closed=True)
        first, *others = item.generators
        inner.read(first.target, first.ifs, others)
        inner.read(*(value for name, value in fields(item, self.own) if name != "generators"))
        self.walrus |= inner.walrus
        self._absorb(inner)
        return (first.iter,)

    def _absorb(self, inner: _Scope) -> None:
        """Take over what an inner scope needs from outside."""
        inner.bound |= inner.walrus
        self.used |= inner.free()

    def _import(self, names: list[ast.alias]) -> None:
        """Note `import a.b` (binds a, loads a.b) or `import a.b as c` (binds a.b)."""
        for alias in names:
            bound, target = (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
            self.imports.setdefault(bound, []).append(Reference(target, (), 0))
            self.used.add(Reference(alias.name, (), 0))

    def _import_from(self, module: str, names: list[ast.alias], level: int) -> None:
        """Note `from a import b as c`."""
        for alias in names:
            target = Reference(module, (alias.name,), level)
            self.imports.setdefault(alias.asname or alias.name, []).append(target)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    """Return all parameters of a function."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*named, *(it for it in (arguments.vararg, arguments.kwarg) if it is not None)]


def bindings(trees: Iterable[ast.AST]) -> dict[str, list[Reference]]:
    """Return the names that a statement binds, and for each what it is if an import binds it."""
    scope = _Scope(lambda _: False, closed=False)
    scope.read(*trees)
    plain: dict[str, list[Reference]] = {name: [] for name in scope.bound | scope.walrus}
    return plain | scope.imports


def rebound_globals(tree: ast.AST) -> frozenset[str]:
    """Return the globals that functions of a module rebind: they hold state, and are no constants."""
    if not any(isinstance(item, ast.Global) for item in ast.walk(tree)):
        return frozenset()
    found: set[str] = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            scope = _Scope(lambda _: False, closed=True)
            scope.read(item.body)
            found |= scope.shared & (scope.bound | scope.walrus | scope.imports.keys())
    return frozenset(found)


def changed_names(tree: ast.AST) -> frozenset[str]:
    """Return the names whose values the code changes in place or rebinds with `nonlocal`.

    What a function changes itself is its state (a memo, a counter), not a constant of it.
    """
    found: set[str] = set()
    for item in ast.walk(tree):
        match item:
            case ast.Nonlocal(names=names):
                found.update(names)
            case ast.Subscript(value=base, ctx=ast.Store() | ast.Del()):
                found.add(_root(base))
            case ast.Attribute(value=base, ctx=ast.Store() | ast.Del()):
                found.add(_root(base))
            case ast.Call(func=ast.Attribute(value=base, attr=method)) if method in _CHANGING_METHODS:
                found.add(_root(base))
            case _:
                pass
    return frozenset(found - {""})


def _root(expression: ast.expr) -> str:
    """Return the name at the beginning of `name.a[0].b`; empty if there is none."""
    while isinstance(expression, ast.Attribute | ast.Subscript):
        expression = expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def bytecode_references(code: CodeType) -> tuple[Reference, ...]:
    """Return what a code object without source takes from outside, sorted; not what it imports itself."""
    return tuple(sorted(set(_loads(code))))


def _loads(code: CodeType) -> Iterator[Reference]:
    """Yield each name that is loaded, with the attributes that are loaded from it at once."""
    name, path = "", tuple[str, ...]()
    for instruction in dis.get_instructions(code):
        if instruction.opname in _ATTRIBUTES and name:
            path = (*path, str(instruction.argval))
            continue
        if name:
            yield Reference(name, path)
        name, path = (str(instruction.argval), ()) if instruction.opname in _LOADS else ("", ())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loads(constant)
