"""A module as its running variables and its source together.

It knows files, notebook cells and the REPL, all through `linecache`, and what a global was imported
from. It does not follow code: `_code_graph` does.
"""

from __future__ import annotations

__all__ = ["Module", "loaded"]

import importlib
import importlib.util
import linecache
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from agentflow._canonical import module_name
from agentflow._code_source import Source, Statement, read_source
from agentflow._user_code import is_installed, package_of

if TYPE_CHECKING:
    import ast
    from types import CodeType, ModuleType

    from agentflow._code_names import Reference

Variables: TypeAlias = dict[str, Any]


class Module:
    """The variables of a module, and what its source says about them."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.raw_name = str(variables.get("__name__", ""))
        self.file: str | None = variables.get("__file__")
        self.name = module_name(self.raw_name)
        self._files: dict[str, Source | None] = {}

    @property
    def installed(self) -> bool:
        """Whether the module belongs to an installed package."""
        return is_installed(self.raw_name, self.file)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The texts that made the module, the newest first: its file, or the cells of a notebook."""
        if self.file is not None:
            found = [self._file(self.file)]
        else:
            found = [read_source(cell) for cell in reversed(_cells(self.variables))]
        return tuple(source for source in found if source is not None)

    def function(self, code: CodeType) -> tuple[Source, ast.AST] | None:
        """Return the definition of a function and the source it is in."""
        source = self._file(code.co_filename)
        found = source and source.function(code)
        return (source, found) if source and found else None

    def _file(self, name: str) -> Source | None:
        """Return the source of a file or cell that made part of this module."""
        if name not in self._files:
            self._files[name] = read_source(_text(name, self.variables))
        return self._files[name]

    def class_(self, cls: type) -> tuple[Source, list[ast.ClassDef]] | None:
        """Return the definitions of a class and the source they are in."""
        for source in self.sources:
            if found := source.class_(cls):
                return source, found
        return None

    def statements(self, name: str) -> tuple[Source, tuple[Statement, ...]] | None:
        """Return the statements that make a global; in a notebook, those of the newest cell that has any."""
        for source in self.sources:
            if name in source.statements:
                return source, tuple(source.statements[name])
        return None

    def is_state(self, name: str) -> bool:
        """Say whether a function of this module rebinds the global."""
        return any(name in source.rebound for source in self.sources)

    def origins(self, name: str) -> list[tuple[str, str]]:
        """Return the (module, name) pairs that a global may be imported from."""
        found: list[tuple[str, str]] = []
        for source in self.sources:
            named = [(self.absolute(it), it.path[0]) for it in source.imports.get(name, ()) if it.path]
            found += named or [(self.absolute(it), name) for it in source.stars]
        return found

    def absolute(self, imported: Reference) -> str:
        """Return the full name of the module that an import in this module names; empty if it leads nowhere."""
        if not imported.level:
            return imported.name
        try:
            return importlib.util.resolve_name("." * imported.level + imported.name, self._package)
        except ImportError:
            return ""

    @property
    def _package(self) -> str:
        """The package that relative imports start from."""
        package: str | None = self.variables.get("__package__")
        return package or (self.raw_name if "__path__" in self.variables else self.raw_name.rpartition(".")[0])


def _text(file: str, variables: Variables) -> str:
    """Return the text of a file or cell as it is now; empty if there is none."""
    linecache.checkcache(file)
    return "".join(linecache.getlines(file, variables))


def _cells(variables: Variables) -> list[str]:
    """Return the cells that were run in a notebook or the REPL, in order."""
    history: object = variables.get("_ih")
    if isinstance(history, list) and "get_ipython" in variables:
        return [cell for cell in history if isinstance(cell, str)]  # pyright: ignore[reportUnknownVariableType]
    if variables.get("__name__") != "__main__":
        return []
    numbered = [name for name in linecache.cache if str(name).startswith("<python-input-")]  # written since Python 3.13
    return [_text(name, variables) for name in sorted(numbered, key=lambda it: (len(it), it))]


def loaded(name: str, package: str) -> ModuleType | None:
    """Return a module that a function imports when it runs, importing it if it is the user's.

    Until then its code cannot be seen, and a version without it would be stale, or depend on whether somebody else
    had imported the module before. The function would import it a moment later in any case.
    """
    if name not in sys.modules and name and (package_of(name) == package or not _is_foreign(name)):
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - a module of the user's may raise anything; the call itself will show it
            return None
    return sys.modules.get(name)


def _is_foreign(name: str) -> bool:
    """Say whether a module that is not loaded is installed, or cannot be found at all."""
    try:
        spec = importlib.util.find_spec(package_of(name))
    except (ImportError, ValueError):
        return True
    if spec is None:
        return True
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return is_installed(name, places[0] if places else None)
