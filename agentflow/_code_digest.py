"""One piece of code as bytes that only a change of meaning changes.

It knows the syntax tree of a function, class or statement, and bytecode where there is no source.
It does not know what the names in it stand for: `_code_names` lists them, `_code_graph` follows them.

Theory of operation. The tree is walked in our own way, because `ast.dump` and bytecode both differ
between Python versions. Positions, comments, quotes, strings that stand alone (docstrings) and the
decorators of agentflow itself leave no trace. An annotation in quotes is the annotation. A field
that is absent is not written at all, so one that a later Python adds changes nothing until it is
used. What remains is written as a prefix code: the name of each node, the number of its fields, then
the fields, so the stream can be read in one way only. No recursion: a sum of a thousand terms is a
tree a thousand deep.
"""

from __future__ import annotations

__all__ = ["OwnDecorator", "bytecode_form", "fields", "normal_form", "with_room"]

import ast
import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from threading import Thread
from types import CodeType
from typing import Final, TypeAlias, TypeVar, cast

from agentflow._canonical import node, scalar

T = TypeVar("T")

OwnDecorator: TypeAlias = Callable[[ast.expr], bool]
"""Says whether a decorator is agentflow's own, whose options change no result."""

_NOISE: Final = frozenset({"ctx", "type_comment", "type_ignores", "kind"})
_ANNOTATIONS: Final = frozenset({"annotation", "returns"})
_HAS_DOCSTRING: Final = 0x4000000
"""The flag of a code object whose first constant is its docstring; since 3.14, before that it always is."""


def normal_form(tree: ast.AST, own: OwnDecorator) -> bytes:
    """Return a digest of what the code of `tree` says.

    Args:
        tree: A function, class, statement or expression.
        own: Which decorators to leave out.
    """
    stream = sha256()
    todo: list[object] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.AST):
            present = fields(item, own)
            stream.update(node(b"node", type(item).__name__.encode(), len(present).to_bytes(4)))
            todo.extend(part for name, value in reversed(present) for part in (value, name))
        elif isinstance(item, list):
            items = cast("list[object]", item)
            stream.update(node(b"list", len(items).to_bytes(8)))
            todo.extend(reversed(items))
        else:
            stream.update(_constant(item))
    return stream.digest()


def _constant(value: object) -> bytes:
    """Encode what is no node: a literal, an identifier, a number of the syntax. Ellipsis is the one non-scalar."""
    return scalar(value) or node(b"ellipsis")


def fields(tree: ast.AST, own: OwnDecorator) -> list[tuple[str, object]]:
    """Return the fields of a node that say something, in the order of the grammar."""
    literal = isinstance(tree, ast.Constant | ast.MatchSingleton)
    present: list[tuple[str, object]] = []
    for name in tree._fields:
        if name in _NOISE:
            continue
        value = _field(tree, name, own)
        if value is not None or literal:
            present.append((name, value))
    return present


def _field(tree: ast.AST, name: str, own: OwnDecorator) -> object:
    """Return one field without what has no meaning; None if nothing is left."""
    value: object = getattr(tree, name, None)
    if name in _ANNOTATIONS and isinstance(value, ast.expr):
        return _unquoted(value)
    if not isinstance(value, list):
        return value
    items = cast("list[ast.AST | None]", value)
    if name == "decorator_list":
        return [item for item in items if isinstance(item, ast.expr) and not own(item)] or None
    if isinstance(tree, ast.JoinedStr):
        return _joined(items)
    return _without_comments(items) or None


def _without_comments(items: list[ast.AST | None]) -> list[ast.AST | None]:
    """Drop the strings that stand alone from a block; a block of nothing else is `pass`."""
    kept = [item for item in items if not _stands_alone(item)]
    return kept if kept or not items else [ast.Pass()]


def _stands_alone(item: ast.AST | None) -> bool:
    """Say whether a statement is only a string: a docstring, or a comment in quotes."""
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)


def _joined(items: Iterable[ast.AST | None]) -> list[ast.AST | None]:
    """Join the constants of an f-string that stand side by side; Python 3.12 also writes empty ones."""
    joined: list[ast.AST | None] = []
    for item in items:
        before = joined[-1] if joined else None
        if not isinstance(item, ast.Constant):
            joined.append(item)
        elif isinstance(before, ast.Constant):
            joined[-1] = ast.Constant(f"{before.value!s}{item.value!s}")
        elif item.value:
            joined.append(item)
    return joined


def _unquoted(annotation: ast.expr) -> ast.expr:
    """Return an annotation as it would read without quotes."""
    if not any(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in ast.walk(annotation)):
        return annotation
    return _unquote(annotation)


def _unquote(expression: ast.expr) -> ast.expr:
    """Take the quotes off the names in an annotation, but not off the values of `Literal` or the data of `Annotated`."""
    match expression:
        case ast.Constant(value=str() as text):
            return _parsed(text) or expression
        case ast.Subscript(value=generic, slice=inner):
            return ast.Subscript(generic, _unquote_arguments(_last_name(generic), inner), ast.Load())
        case ast.BinOp(left=left, op=ast.BitOr() as either, right=right):
            return ast.BinOp(_unquote(left), either, _unquote(right))
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return type(expression)([_unquote(item) for item in items], ast.Load())
        case _:
            return expression


def _unquote_arguments(generic: str, inner: ast.expr) -> ast.expr:
    """Take the quotes off what stands between the brackets of `generic[...]`."""
    if generic == "Literal":
        return inner
    if generic == "Annotated" and isinstance(inner, ast.Tuple) and inner.elts:
        return ast.Tuple([_unquote(inner.elts[0]), *inner.elts[1:]], ast.Load())
    return _unquote(inner)


def _last_name(expression: ast.expr) -> str:
    """Return `Literal` for both `Literal` and `typing.Literal`."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _parsed(text: str) -> ast.expr | None:
    """Parse an annotation in quotes; None if it is only a text."""
    tree = with_room(lambda: ast.parse(text.strip(), mode="eval"))
    return None if tree is None else _unquote(tree.body)


def with_room(read: Callable[[], T]) -> T | None:
    """Parse or compile a text; None if it is no Python, or too deep for this one.

    Python's parser gives up where the stack of its caller ends (with a `SystemError`, where it miscounts). Code would then have
    another version for who first asked from deep down, so it gets a stack of its own.

    Raises:
        RecursionError: If there is not even room to ask for one.
    """
    try:
        return read()
    except _NO_PYTHON:
        return None
    except (RecursionError, SystemError):
        found: list[T] = []

        def again() -> None:
            with suppress(RecursionError, SystemError, *_NO_PYTHON):
                found.append(read())

        thread = Thread(target=again)
        thread.start()
        thread.join()
        return found[0] if found else None


_NO_PYTHON: Final = (SyntaxError, ValueError, MemoryError)  # the last for more brackets than the parser holds


def bytecode_form(code: CodeType) -> bytes:
    """Return what a code object does as bytes; they hold for one Python version, and ignore lines and docstrings."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_HAS_DOCSTRING)
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return node(
        b"bytecode",
        code.co_code,
        code.co_exceptiontable,
        scalar(counts) or b"",
        scalar(names) or b"",
        *(_literal(constant) for constant in _constants(code)),
    )


def _constants(code: CodeType) -> tuple[object, ...]:
    """Return the constants of a code object without its docstring."""
    constants: tuple[object, ...] = code.co_consts
    documented = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
    if sys.version_info >= (3, 14):
        documented = documented and code.co_flags & _HAS_DOCSTRING
    if documented and constants and isinstance(constants[0], str):
        return (None, *constants[1:])
    return constants


def _literal(constant: object) -> bytes:
    """Encode a constant of a code object, which may hold another one, or a tuple with an ellipsis."""
    if isinstance(constant, CodeType):
        return bytecode_form(constant)
    if isinstance(constant, tuple):
        return node(b"tuple", *map(_literal, cast("tuple[object, ...]", constant)))
    return _constant(constant)
