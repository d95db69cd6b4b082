"""The command that makes a test of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentflow._cli._app import command
from agentflow._cli._places import import_modules, run_at

if TYPE_CHECKING:
    from agentflow._cli._screen import Screen
    from agentflow.stores import Store

__all__ = ["testcase"]


@command
@click.argument("run")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import this module first, which defines the workflow and its steps.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there, where no file is yet.",
)
def testcase(store: Store, screen: Screen, *, run: str, modules: tuple[str, ...], output: Path | None) -> None:
    """Make a test of a completed run: a module for pytest that replays it without a network, and expects its steps and its result.

    Models answer what they answered; steps that asked none, and those whose models called tools, give what they gave. The module that defines the workflow is
    imported by --import, as for resume. What looks like a key is masked; read what is written before it is committed.
    """
    from agentflow.testing._testcase import replaying_test  # noqa: PLC0415 - with the agents, which no other command needs

    import_modules(modules)
    source = replaying_test(run_at(store, run), store)
    if output is None:
        if screen.is_json:
            screen.document({"source": source})
        else:
            click.echo(source, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(source)
    except FileExistsError:
        raise click.UsageError(
            f"{output} is there already, and a test is its owner's: name another file, or remove it"
        ) from None
    if screen.is_json:
        screen.document({"path": str(output)})
    else:
        screen.say(f"wrote {output}")
