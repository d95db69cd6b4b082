"""Whose code a module is: the user's own, or an installed package's.

It knows where Python installs things, and that is all it knows: a folder with an editable install
is the user's, a wheel in site-packages is not.
"""

from __future__ import annotations

__all__ = ["is_installed", "is_stdlib", "package_of"]

import os
import sys
import sysconfig
from functools import cache
from pathlib import PurePath
from typing import Final

_INSTALLED_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
"""Found anywhere in a path: covers a venv's base, Debian's layout and `--user` at once."""


def package_of(module: str) -> str:
    """Return the top-level package of a module's name."""
    return module.partition(".")[0]


def is_stdlib(module: str, file: str | None) -> bool:
    """Say whether a module is part of the standard library."""
    return package_of(module) in sys.stdlib_module_names and is_installed(module, file)


@cache
def is_installed(module: str, file: str | None) -> bool:
    """Say whether a module is installed, built in or agentflow's own, so that only its name counts.

    Args:
        module: Its `__name__`.
        file: Its `__file__`; None for what is built in, and for the REPL, notebooks and namespace packages.
    """
    if package_of(module) == "agentflow":
        return True
    if file is None:
        return package_of(module) in sys.stdlib_module_names
    path = os.path.abspath(file)  # noqa: PTH100 - no symbolic links followed: an editable install may be one
    return not _INSTALLED_FOLDERS.isdisjoint(PurePath(path).parts) or path.startswith(_roots())


@cache
def _roots() -> tuple[str, ...]:
    """Return the folders of this Python's own library and packages."""
    paths = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple(spelling + os.sep for path in paths for spelling in {path, os.path.realpath(path)})
