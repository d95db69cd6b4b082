"""The settings of this process: which store where nothing else says so, and what services ask for.

In order: the call (`with_options`), the decorator, `configure(...)`, the environment. Nothing else is global.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._options import whole, yes_or_no
from agentflow._tracebacks import keep_our_frames
from agentflow.exceptions import UsageError
from agentflow.stores import DiskStore, MemoryStore, Store
from agentflow.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow._jobs import Executor

__all__ = [
    "checked_executor",
    "configure",
    "debug",
    "default_executor",
    "default_store",
    "max_runs",
    "require_session",
    "store_at",
    "using_store",
]

DEFAULT_DIRECTORY: Final = ".agentflow"
EXECUTORS: Final = ("thread", "process")
_MAX_RUNS: Final = 32
_TRUE: Final = ("1", "true", "yes", "on")


@attrs.define
class _Settings:
    store: Store | None = None
    require_session: bool | None = None
    executor: str | Executor | None = None
    max_runs: int | None = None
    debug: bool | None = None


_settings: Final = _Settings()
_stores: Final[dict[str, Store]] = {}
_mutex: Final = threading.Lock()


def configure(
    *,
    store: str | os.PathLike[str] | Store | Unset | None = UNSET,
    require_session: bool | Unset | None = UNSET,
    executor: str | Executor | Unset | None = UNSET,
    max_runs: int | Unset | None = UNSET,
    debug: bool | Unset | None = UNSET,
) -> None:
    """Set this process's defaults; what is not named stays as it is.

    ```python
    import agentflow
    from agentflow.stores import MemoryStore

    agentflow.configure(store=MemoryStore(), require_session=False)
    ```

    Args:
        store: A store, a directory, or `"memory:"`. None: what the environment variable `AGENTFLOW_STORE` says,
            else the directory `.agentflow`. A relative directory is fixed at its first use.
        require_session: Whether a workflow call without a session is a `UsageError` instead of the session `"default"`.
            Services set it, since `"default"` would be everybody's. None: what `AGENTFLOW_REQUIRE_SESSION` says, else False.
        executor: Where `Workflow.start` has runs executed: `"thread"` (this process), `"process"` (a process of their own, which
            outlives this one), or an `agentflow.executors.Executor`. None: `"thread"`.
        max_runs: How many runs the executor `"thread"` executes at once; more wait as `pending`. None: 32.
        debug: Whether every miss of a step logs why it was none, as `step.explain()` tells it. It is a line of level DEBUG of the logger
            `agentflow`, so logging must be set up to show it. Tracebacks then keep agentflow's own frames, too.
            None: what `AGENTFLOW_DEBUG` says, else False.

    Raises:
        UsageError: If a setting cannot be what it is.
    """
    if not isinstance(store, Unset):
        _settings.store = None if store is None else store_at(store)
    if not isinstance(require_session, Unset):
        _settings.require_session = None if require_session is None else yes_or_no(require_session, "require_session")
    if not isinstance(debug, Unset):
        _settings.debug = None if debug is None else yes_or_no(debug, "debug")
    if not isinstance(executor, Unset):
        _settings.executor = None if executor is None else checked_executor(executor)
    if not isinstance(max_runs, Unset):
        _settings.max_runs = None if max_runs is None else whole(max_runs, "max_runs")


def checked_executor(executor: str | Executor) -> str | Executor:
    """Return an executor or the name of one.

    Raises:
        UsageError: If it is none.
    """
    if executor in EXECUTORS or (not isinstance(executor, str) and callable(getattr(executor, "submit", None))):
        return executor
    raise UsageError(f'executor={executor!r}: write "thread", "process", or an object of agentflow.executors')


def default_executor() -> str | Executor:
    """Return the executor in force where a workflow names none."""
    return _settings.executor or EXECUTORS[0]


def max_runs() -> int:
    """Return how many background runs this process executes at once."""
    return _settings.max_runs or _MAX_RUNS


def default_store() -> Store:
    """Return the store in force where a call and a run name none."""
    return _settings.store or store_at(os.environ.get("AGENTFLOW_STORE") or DEFAULT_DIRECTORY)


def require_session() -> bool:
    """Whether a workflow call must name its session."""
    return _is_on(_settings.require_session, "AGENTFLOW_REQUIRE_SESSION")


def debug() -> bool:
    """Whether every miss tells why, where a run does not say; and whether tracebacks keep agentflow's own frames."""
    return _is_on(_settings.debug, "AGENTFLOW_DEBUG")


keep_our_frames(debug)


def _is_on(setting: bool | None, variable: str) -> bool:  # noqa: FBT001 - a setting, None where there is none
    return os.environ.get(variable, "").lower() in _TRUE if setting is None else setting


def store_at(place: str | os.PathLike[str] | Store) -> Store:
    """Return the store at a place; the same place gives the same object.

    Raises:
        UsageError: If the place is none that a store can be kept at.
    """
    if not isinstance(place, str | os.PathLike):
        if callable(getattr(place, "commit", None)):
            return place
        raise UsageError(f"store={place!r} is no store: pass a directory, 'memory:', or an object of agentflow.stores")
    name = os.fspath(place)
    if "://" in name:
        raise UsageError(f"store={name!r}: databases are not supported yet; pass a directory or 'memory:'")
    with _mutex:
        if name not in _stores:
            _stores[name] = MemoryStore() if name == "memory:" else DiskStore(name)
        return _stores[name]


@contextmanager
def using_store(store: Store) -> Iterator[Store]:
    """Make a store the default of this process for a block."""
    before = _settings.store
    _settings.store = store
    try:
        yield store
    finally:
        _settings.store = before
