"""What one piece of code says: its digest, the names it uses, and what it changes.

It knows definitions, statements and bytecode. It does not know what their names stand for.
"""

from __future__ import annotations

__all__ = ["Code", "classes_code", "function_code", "statements_code"]

import ast
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from attrs import frozen

from agentflow._canonical import node
from agentflow._code_digest import bytecode_form, normal_form
from agentflow._code_names import Reference, bytecode_references, changed_names, references
from agentflow._user_code import package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow._code_module import Module
    from agentflow._code_source import Source, Statement


@frozen(eq=False)
class Code:
    """What a piece of code says.

    Attributes:
        form: Its digest, or its bytecode where there is no source.
        references: The names it uses.
        changed: The names whose values it changes.
    """

    form: bytes
    references: tuple[Reference, ...]
    changed: frozenset[str] = frozenset()


def function_code(function: FunctionType, module: Module) -> Code:
    """Return what a function says, by its source or, without one, by its bytecode."""
    found = module.function(function.__code__)
    if found is None:
        return Code(bytecode_form(function.__code__), bytecode_references(function.__code__))
    source, tree = found
    return _definition_code(source, tree, module)


def classes_code(source: Source, trees: Sequence[ast.AST], module: Module) -> Code:
    """Return what the definitions of a class say together."""
    codes = [_definition_code(source, tree, module) for tree in trees]
    form = node(b"definitions", *(code.form for code in codes))
    names = sorted({name for code in codes for name in code.references})
    return Code(form, tuple(names), frozenset().union(*(code.changed for code in codes)))


def _definition_code(source: Source, tree: ast.AST, module: Module) -> Code:
    """Return what a definition says."""
    key = ("code", tree)
    known: Code | None = source.memo.get(key)
    if known is None:
        own = _own_decorators(module)
        known = Code(normal_form(tree, own), references([tree], own), changed_names(tree))
        source.memo[key] = known
    return known


def statements_code(source: Source, name: str, statements: Sequence[Statement], module: Module) -> Code:
    """Return what the statements that make a global say; its own name among theirs is no news."""
    key = ("statements", name)
    known: Code | None = source.memo.get(key)
    if known is None:
        own = _own_decorators(module)
        trees = [tree for statement in statements for tree in statement]
        names = tuple(it for it in references(trees, own) if it.name != name)
        known = Code(node(b"statements", *(normal_form(tree, own) for tree in trees)), names)
        source.memo[key] = known
    return known


def _own_decorators(module: Module) -> Callable[[ast.expr], bool]:
    """Return what says whether a decorator in `module` is agentflow's own."""

    def is_own(decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        path = list[str]()
        while isinstance(called, ast.Attribute):
            path.append(called.attr)
            called = called.value
        thing = module.variables.get(called.id) if isinstance(called, ast.Name) else None
        while path and isinstance(thing, ModuleType):
            thing = vars(thing).get(path.pop())
        return _is_own(thing)

    return is_own


def _is_own(thing: object) -> bool:
    """Say whether an object was made by agentflow: a module, a function or class of it, or an instance."""
    if isinstance(thing, ModuleType):
        return package_of(thing.__name__) == "agentflow"
    if isinstance(thing, FunctionType):
        return package_of(str(thing.__globals__.get("__name__"))) == "agentflow"
    return package_of(str(getattr(thing, "__module__", None))) == "agentflow"
