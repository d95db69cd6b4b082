"""The command line; its packages are those of the extra `cli`, and nothing imports it but the program `agentflow`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main() -> None:
    """Run the program `agentflow`."""
    try:
        from agentflow._cli._commands import agentflow  # noqa: PLC0415 - only here may the extra be missing

        agentflow(prog_name="agentflow")
    except ModuleNotFoundError as missing:
        if missing.name not in _NEEDED:
            raise
        sys.exit(
            f"the command line needs {missing.name!r}, which the extra 'cli' brings: pip install 'agentflow-workflows[cli]'"
        )
