"""Which line of the user's own code an exception came from."""

from __future__ import annotations

import os
import re
import traceback as tracebacks
from pathlib import Path
from typing import Final

from agentflow._run import told, typed
from agentflow._user_code import is_installed
from agentflow.exceptions import RunFailed

__all__ = ["blamed", "blamed_in"]

_FRAME: Final = re.compile(
    r'^  File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)\n(?:    (?P<source>.+)\n)?', re.MULTILINE
)
_CELL: Final = re.compile(r"ipykernel_\d+[/\\]\d+\.py$|^<ipython-input")
_OURS: Final = str(Path(__file__).parent) + os.sep


def blamed(error: BaseException) -> tuple[str, ...]:
    """Return what a person wants to read of an exception: the place in their own code, its line, then type and message."""
    if isinstance(error, RunFailed):
        return blamed_in(error.traceback, typed(error.error_type, error.error_message))
    found = tracebacks.extract_tb(error.__traceback__)
    return _blamed([(each.filename, str(each.lineno), each.name, each.line) for each in found], told(error))


def blamed_in(traceback: str, message: str) -> tuple[str, ...]:
    """Return the same of an exception that is known by its traceback as text."""
    found = _FRAME.finditer(traceback)
    return _blamed([(each["file"], each["line"], each["name"], each["source"]) for each in found], message)


def _blamed(frames: list[tuple[str, str, str, str | None]], message: str) -> tuple[str, ...]:
    own = [frame for frame in frames if not is_installed("", frame[0]) and not frame[0].startswith((_OURS, "<frozen"))]
    if not own:
        return (message,)
    file, line, name, source = own[-1]
    return (f"{_place(file)}, line {line}, in {name}", *([f"    {source.strip()}"] if source else []), message)


def _place(file: str) -> str:
    """Return a file as a person knows it: a cell, or a path from where they are."""
    if _CELL.search(file):
        return "cell"
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file
