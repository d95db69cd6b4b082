"""Which screen there is here: a notebook's, a terminal's, or plain lines. Nothing is imported to find out."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from agentflow._display._screens import PlainScreen
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from agentflow._display._screens import Screen

__all__ = ["screen_here"]


def screen_here(*, markdown: bool, show_time: bool) -> Screen:
    """Return the screen of this process.

    Raises:
        UsageError: If it is a terminal, and rich is not installed.
    """
    if _is_notebook():
        from agentflow._display._notebook import NotebookScreen  # noqa: PLC0415 - only where there is one

        return NotebookScreen(markdown=markdown, show_time=show_time)
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return PlainScreen(show_time=show_time)
    try:
        from agentflow._display._terminal import TerminalScreen  # noqa: PLC0415 - only here may the extra be missing
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("rich", "markdown_it"):
            raise
        raise UsageError(
            "print_run needs rich at a terminal, which the extra 'cli' brings: pip install 'agentflow-workflows[cli]'; "
            "without it, send the output through a pipe, as in `| cat`"
        ) from None
    return TerminalScreen(markdown=markdown, show_time=show_time)


def _is_notebook() -> bool:
    """Whether this is the process of a notebook; who has not loaded IPython is in none."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
