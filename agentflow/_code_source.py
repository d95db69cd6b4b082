"""What a source text defines, and where in it a running function or class was defined.

It knows one parsed text: a file, or a cell of a notebook. It reads no files: `_code_module` does.

A file may have been edited since it was imported. Then its text is not what runs, and a version made
from it would put old results under the new code. So a function's source counts only if it compiles
to the function's own bytecode, which also picks the right one of several functions of one name.
"""

from __future__ import annotations

__all__ = ["Definition", "Source", "Statement", "plain_qualname", "read_source"]

import __future__

import ast
import re
from collections import defaultdict
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from attrs import field, frozen

from agentflow._code_digest import bytecode_form, with_room
from agentflow._code_names import Reference, bindings, changed_names, rebound_globals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Statement: TypeAlias = tuple[ast.AST, ...]
"""A statement of a module's own level, behind the headers (`if ...`, `for ...`) that it stands under."""

_FUTURE_FLAGS: Final = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})
_COMPREHENSION: Final = re.compile(r"<(list|set|dict)comp>\.")
_FAR_BELOW: Final = 10_000_000
"""Lambdas that share a line are told apart by lines of their own from here on; no text is that long."""


def plain_qualname(qualname: str) -> str:
    """Return a qualified name as Python 3.12 has it, where most comprehensions are no scopes."""
    return _COMPREHENSION.sub("", qualname)


@frozen(eq=False)
class Definition:
    """A function or class in a source.

    Attributes:
        node: Its tree.
        line: Its first line, which is that of its first decorator.
    """

    node: _Function | ast.ClassDef
    line: int


@frozen(eq=False)
class Source:
    """One parsed text.

    Attributes:
        text: Itself.
        tree: Its tree.
        functions: Functions and lambdas by plain qualified name, in the order of the text.
        classes: Classes likewise.
        statements: The statements that bind or change a global, by its name.
        imports: What a global may be that an import binds.
        stars: The modules of `from module import *`.
        rebound: The globals that functions rebind.
        memo: What others made of the trees of this source, so that it is made once.
    """

    text: str
    tree: ast.Module
    functions: Mapping[str, list[Definition]]
    classes: Mapping[str, list[Definition]]
    statements: Mapping[str, list[Statement]]
    imports: Mapping[str, list[Reference]]
    stars: list[Reference]
    rebound: frozenset[str]
    memo: dict[object, Any] = field(factory=dict[object, Any])

    def function(self, code: CodeType) -> _Function | None:
        """Return the definition that compiles to `code`, the nearest if there are several; None if none does."""
        name, wanted = plain_qualname(code.co_qualname), bytecode_form(code)
        for found in sorted(self.functions.get(name, []), key=lambda it: abs(it.line - code.co_firstlineno)):
            if self._compiled(code.co_flags & _FUTURE_FLAGS).get((name, found.line)) == wanted:
                return cast("_Function", found.node)
        return None

    def class_(self, cls: type) -> list[ast.ClassDef]:
        """Return the definitions of a class: all of that name, since several may be told apart only by running them.

        There is none if the methods that they would have are not those that run.
        """
        found = self.classes.get(plain_qualname(cls.__qualname__), [])
        if not all(self._has(code) for code in _methods(cls)):
            return []
        return [cast("ast.ClassDef", it.node) for it in found]

    def _has(self, code: CodeType) -> bool:
        """Say whether a method is what this text says; one that it does not have at all was made by a decorator."""
        return plain_qualname(code.co_qualname) not in self.functions or self.function(code) is not None

    def _compiled(self, flags: int) -> dict[tuple[str, int], bytes]:
        """Return the bytecode of all functions of this text, by qualified name and first line.

        The whole text is compiled: whether a name is imported at its top changes the bytecode of those who use it.
        """
        known: dict[tuple[str, int], bytes] | None = self.memo.get(("compiled", flags))
        if known is None:
            known = {
                (plain_qualname(it.co_qualname), it.co_firstlineno): bytecode_form(it) for it in self._codes(flags)
            }
            self.memo["compiled", flags] = known
        return known

    def _codes(self, flags: int) -> Iterable[CodeType]:
        """Compile this text; a cell of a notebook may await at its top."""
        flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        # The tree only where it says more than the text: its compiler gives up on deep expressions much earlier.
        moved = any(it.line >= _FAR_BELOW for found in self.functions.values() for it in found)
        code = with_room(
            lambda: compile(self.tree if moved else self.text, "<agentflow>", "exec", flags, dont_inherit=True)
        )
        return () if code is None else _inside(code)  # parsing alone lets a `return` outside a function pass


def _inside(code: CodeType) -> Iterator[CodeType]:
    """Yield the code objects within another, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


def _methods(cls: type) -> Iterator[CodeType]:
    """Yield the code of the plain functions that were defined in a class's own body."""
    for value in vars(cls).values():
        inner: object = getattr(value, "__func__", value)
        if isinstance(inner, FunctionType) and inner.__code__.co_qualname == f"{cls.__qualname__}.{inner.__name__}":
            yield inner.__code__


@lru_cache(maxsize=128)
def read_source(text: str) -> Source | None:
    """Parse a text; None if it is no Python (or no text is there)."""
    tree = with_room(lambda: ast.parse(text))
    if tree is None:
        return None
    functions, classes = _definitions(tree)
    statements, imports = _statements(tree)
    return Source(text, tree, functions, classes, statements, imports, imports.pop("*", []), rebound_globals(tree))


def _definitions(tree: ast.Module) -> tuple[dict[str, list[Definition]], dict[str, list[Definition]]]:
    """Find all functions and classes of a text."""
    functions: dict[str, list[Definition]] = defaultdict(list)
    classes: dict[str, list[Definition]] = defaultdict(list)
    for name, item in _scopes(tree):
        kind = classes if isinstance(item, ast.ClassDef) else functions
        kind[name].append(Definition(item, _first_line(item)))
    for name, found in functions.items():
        if name.endswith("<lambda>"):
            functions[name] = _apart(found)
    return functions, classes


def _scopes(tree: ast.Module) -> Iterator[tuple[str, _Function | ast.ClassDef]]:
    """Yield the functions and classes in a tree with their qualified names."""
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        item, prefix = todo.pop()
        if isinstance(item, _Function | ast.ClassDef):
            name = prefix + ("<lambda>" if isinstance(item, ast.Lambda) else item.name)
            yield name, item
            inside = f"{name}." if isinstance(item, ast.ClassDef) else f"{name}.<locals>."
            within = {id(part) for part in _body(item)}
            children = ((it, inside if id(it) in within else prefix) for it in ast.iter_child_nodes(item))
        else:
            inside = f"{prefix}<genexpr>." if isinstance(item, ast.GeneratorExp) else prefix
            children = ((it, inside) for it in ast.iter_child_nodes(item))
        todo.extend(reversed(list(children)))


def _body(item: _Function | ast.ClassDef) -> Iterable[ast.AST]:
    """Return what of a definition is inside its scope; decorators and defaults are not."""
    return [item.body] if isinstance(item, ast.Lambda) else item.body


def _first_line(item: _Function | ast.ClassDef) -> int:
    """Return the line that Python gives as a definition's first."""
    decorators: list[ast.expr] = [] if isinstance(item, ast.Lambda) else item.decorator_list
    return decorators[0].lineno if decorators else item.lineno


def _apart(lambdas: list[Definition]) -> list[Definition]:
    """Give lambdas that share a line and a name lines of their own, so that their compiled code can be told apart."""
    shared: dict[int, list[Definition]] = defaultdict(list)
    for found in lambdas:
        shared[found.line].append(found)
    moved: list[Definition] = []
    for line, group in shared.items():
        moved += group if len(group) == 1 else [_moved(it, _FAR_BELOW + line * 1000 + n) for n, it in enumerate(group)]
    return moved


def _moved(found: Definition, line: int) -> Definition:
    """Return a definition that claims to stand in another line."""
    found.node.lineno = found.node.end_lineno = line
    found.node.col_offset = found.node.end_col_offset = 0
    return Definition(found.node, line)


def _statements(tree: ast.Module) -> tuple[dict[str, list[Statement]], dict[str, list[Reference]]]:
    """Find which statements of a module's own level make which of its globals, and what an import makes them."""
    statements: dict[str, list[Statement]] = defaultdict(list)
    imports: dict[str, list[Reference]] = defaultdict(list)
    for above, own in _flat(tree.body, ()):
        for name, targets in _made(own).items():
            statements[name].append(above + own)
            imports[name] += targets
    return statements, imports


def _flat(block: Iterable[ast.AST], above: Statement) -> Iterator[tuple[Statement, Statement]]:
    """Yield the statements of a module's own level, and the headers of compound ones, with the headers above them."""
    for item in block:
        parts = [] if isinstance(item, _Function | ast.ClassDef) else list(ast.iter_child_nodes(item))
        blocks = [part for part in parts if isinstance(part, ast.stmt | ast.ExceptHandler | ast.match_case)]
        header = tuple(part for part in parts if part not in blocks) if blocks else (item,)
        yield above, header
        yield from _flat(blocks, above + header)


def _made(own: Statement) -> dict[str, list[Reference]]:
    """Return the globals that a statement binds or changes in place, and for each what an import makes it."""
    if own and isinstance(own[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {own[0].name: []}
    changed: dict[str, list[Reference]] = {name: [] for part in own for name in changed_names(part)}
    return changed | bindings(own)
