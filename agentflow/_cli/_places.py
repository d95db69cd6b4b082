"""What a command works on: a store that is there, a run by the beginning of its id, modules to import."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from agentflow import get_run, list_runs
from agentflow._active_run import Home
from agentflow._session import Session
from agentflow._settings import default_store, store_at
from agentflow.exceptions import AgentflowError, RunNotFound, StoreGone
from agentflow.stores import DiskStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow import Run
    from agentflow.stores import Store

__all__ = ["import_modules", "run_at", "run_ids", "session_at", "store_in"]

_LOOKED_AT: Final = 1000  # runs whose workflows are named
_NAMED: Final = 5
_OFFERED: Final = 100  # runs, newest first, that a shell is told of


def store_in(place: str | None) -> Store:
    """Return the store that is meant.

    Raises:
        StoreGone: If there is none: looking makes none.
    """
    store = default_store() if place is None else store_at(place)
    if isinstance(store, DiskStore) and not store.path.is_dir():
        raise StoreGone(
            f"there is no store at {store.location}: name one with --store or AGENTFLOW_STORE, or go where the program runs",
            path=store.location,
            hint="name a store with --store",
        )
    return store


def run_at(store: Store, beginning: str) -> Run:
    """Return the run whose id is this, or begins so.

    Raises:
        RunNotFound: If there is none.
        click.UsageError: If there are several.
    """
    try:
        return get_run(beginning, store=store)
    except RunNotFound:
        found = [run for run in list_runs(store=store, limit=None) if beginning and run.id.startswith(beginning)]
        if len(found) > 1:
            raise click.UsageError(f"{len(found)} runs begin with {beginning!r}: write more of the id") from None
        if not found:
            raise
        return found[0]


def run_ids(context: click.Context, _: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Return the ids that a shell may offer for what was typed, with what each is of."""
    try:
        found = list_runs(store=store_in(context.params.get("place")), limit=_OFFERED)
        return [
            CompletionItem(run.id, help=f"{run.workflow} {run.status}") for run in found if run.id.startswith(beginning)
        ]
    except AgentflowError:  # no store, or one that cannot be read: there is nothing to offer
        return []


def session_at(store: Store, workflow: str, session: str) -> Session:
    """Return a session.

    Raises:
        click.UsageError: If the store has nothing of it: a name was misspelt, and an empty answer would look like one.
    """
    sessions = store.sessions(workflow)
    if session not in sessions:
        if sessions:
            has = f"workflow {workflow!r} has no session {session!r}"
            near = difflib.get_close_matches(session, sessions) or sessions
        else:
            has = f"this store has nothing of a workflow {workflow!r}"
            known = sorted({run.workflow for run in list_runs(store=store, limit=_LOOKED_AT)})
            near = difflib.get_close_matches(workflow, known) or known
        raise click.UsageError(f"{has}; there are: {', '.join(near[:_NAMED]) or 'none'}")
    return Session(Home(store, workflow, session))


def import_modules(names: Sequence[str]) -> None:
    """Import the modules that define what a command needs; their code runs."""
    if names:
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name not in (name, name.partition(".")[0]):
                raise
            raise click.UsageError(
                f"--import {name}: there is no module {missing.name!r} here or on PYTHONPATH"
            ) from None
