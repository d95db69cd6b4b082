"""The program: its options, what a command gets, and what its exit codes mean."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from click.shell_completion import get_completion_class

from agentflow._cli._places import import_modules, store_in
from agentflow._cli._screen import Screen, saying
from agentflow._shown import shown
from agentflow.exceptions import AgentflowError, RunNotFound, StoreError
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENDINGS", "REFUSED", "agentflow", "command", "completion"]


REFUSED: Final = 1
NOT_FOUND: Final = 3
STORE: Final = 4
STOPPED: Final = 130  # as shells have it: 128 and the number of SIGINT
ENDINGS: Final = {
    RunStatus.COMPLETED: 0,
    RunStatus.FAILED: 10,
    RunStatus.CANCELLED: 11,
    RunStatus.INTERRUPTED: 12,
}
"""The exit code of a command that waits for a run, by how that ended."""


class _Command(click.Command):
    """A command whose help may be written to where nothing can be written."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; `--help` and `--version` are answered here."""
        with saying():
            return super().make_context(*args, **extra)


class _Program(_Command, click.Group):
    """The program; its commands are of the same kind."""

    command_class = _Command


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="agentflow-workflows", message="%(version)s")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE", help="Import this module first, whatever the command."
)
def agentflow(modules: tuple[str, ...]) -> None:
    """Look at workflow runs, and act on them.

    Runs, sessions and events are read from a store, which is a directory: the one that --store names, else AGENTFLOW_STORE, else
    .agentflow here. RUN is a run's id, or as much of its beginning as is unique.

    Exit codes: 0 done; 1 refused, with the reason; 2 the command line is wrong; 3 there is no such run; 4 the store cannot be used;
    and where a command waits for a run: 10 it failed, 11 it was cancelled, 12 it was interrupted; 130 Ctrl-C.
    """
    import_modules(modules)


def command(function: Callable[..., object]) -> Any:
    """Make a command of a function that takes a store and a screen first."""

    @agentflow.command(name=function.__name__.rstrip("_"), help=function.__doc__)
    @click.option("--store", "place", metavar="DIRECTORY", help="The store.")
    @click.option("--json", "is_json", is_flag=True, help="Say it as JSON.")
    @functools.wraps(function)
    def run(place: str | None, *, is_json: bool, **options: Any) -> None:
        try:
            function(store_in(place), Screen(is_json), **options)
        except AgentflowError as error:
            _refuse(error)
        except KeyboardInterrupt:
            sys.exit(STOPPED)

    return run


def _refuse(error: AgentflowError) -> NoReturn:
    click.echo(f"agentflow: {shown(error)}", err=True)
    sys.exit(NOT_FOUND if isinstance(error, RunNotFound) else STORE if isinstance(error, StoreError) else REFUSED)


@agentflow.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands: put eval "$(agentflow completion bash)" into its start-up file."""
    kind = get_completion_class(shell)
    assert kind
    with saying():
        click.echo(kind(agentflow, {}, "agentflow", "_AGENTFLOW_COMPLETE").source())
