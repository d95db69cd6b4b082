"""The pytest plugin: each test has a store of its own and asks no real model.

It is there as soon as agentflow is installed, also for projects that do not use it: so it loads nothing of agentflow until the tests have,
and until then says what it wants through the environment, which child processes inherit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agentflow.events import Event
    from agentflow.models._scripted import Answer
    from agentflow.stores import Store
    from agentflow.testing import ScriptedModel, VirtualClock

__all__: list[str] = []

_REFUSAL: Final = (
    "tests make no real model requests. Give the agent a model of agentflow.testing, use the fixture scripted_model, "
    "or mark the test with @pytest.mark.agentflow(model_requests=True)"
)
_MARK: Final = (
    "agentflow(isolate=True, model_requests=False): a store of its own for the test, and no real model requests."
)
_LONGEST_NAME: Final = 100
_PLACES: Final = ("memory", "disk")
_LEFT_OVER: Final = pytest.StashKey[set[str]]()
_PATIENCE: Final = 5.0  # seconds for the background runs of a test to end once they are cancelled


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of `pyproject.toml` or `pytest.ini`, and an option."""
    parser.getgroup("agentflow").addoption(
        "--agentflow",
        choices=("off", "record", "replay"),
        default="off",
        help="record: ask real models and keep what they answer in recordings/ beside the test; replay: answer from there",
    )
    parser.addini(
        "agentflow_isolate", "Give each test a store of its own and refuse real model requests.", "bool", True
    )
    parser.addini(
        "agentflow_store",
        'Where each test\'s store is: "memory", or "disk" for a temporary directory.',
        default="memory",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the mark, and refuse a setting that is none."""
    config.addinivalue_line("markers", _MARK)
    if (place := config.getini("agentflow_store")) not in _PLACES:
        raise pytest.UsageError(f'agentflow_store = {place}: write "memory" or "disk"')


# Recordings whose test is gone: known only where all tests of a module are collected, which pytest-xdist does in its workers.


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Look for recordings of tests that are no more, before some of the tests are deselected."""
    in_part = any("::" in argument for argument in config.args) or config.getoption("lf", default=False)
    if config.getoption("--agentflow") != "off" and not in_part:
        config.stash[_LEFT_OVER] = _left_over({_recording_of(item) for item in items})


def _left_over(used: set[Path]) -> set[str]:
    found = {each for directory in {path.parent for path in used} for each in directory.glob("*.json")}
    return {str(each) for each in found - used}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller of pytest-xdist what a worker has found."""
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["agentflow_left_over"] = sorted(session.config.stash.get(_LEFT_OVER, ()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker of pytest-xdist has found."""
    node.config.stash.setdefault(_LEFT_OVER, set()).update(
        getattr(node, "workeroutput", {}).get("agentflow_left_over", ())
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the recordings that no test goes by."""
    if left_over := sorted(config.stash.get(_LEFT_OVER, ())):
        terminalreporter.section("recordings of model requests that belong to no test")
        for path in left_over:
            terminalreporter.line(os.path.relpath(path, config.rootpath))
        terminalreporter.line("Remove them; if a test was renamed, rename its recording too.")


class _Wish(NamedTuple):
    """What a test wants of this plugin."""

    isolate: bool
    model_requests: bool = False

    @classmethod
    def of(cls, request: pytest.FixtureRequest) -> _Wish:
        wish = cls(bool(request.config.getini("agentflow_isolate")))
        for mark in reversed(list(request.node.iter_markers("agentflow"))):
            unknown = mark.kwargs.keys() - {"isolate", "model_requests"}
            if mark.args or unknown:
                raise pytest.UsageError(
                    f"@pytest.mark.{_MARK.partition(':')[0]} was given {sorted(unknown) or list(mark.args)}"
                )
            wish = wish._replace(**mark.kwargs)
        return wish


class _Isolation:
    """One test's store and refusal, in force from when agentflow is loaded.

    Args:
        make_store: Makes the store.
        refuse: Whether real model requests are refused.
        tape: The recording to make or to go by, if any, and which of both.
    """

    def __init__(self, make_store: Callable[[], Store], *, refuse: bool, tape: _Tape | None) -> None:
        self._make_store = make_store
        self._refuse = refuse
        self._tape = tape
        self._resources = contextlib.ExitStack()
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The test's store; in force from now on, if it was not yet."""
        if self._store is None:
            from agentflow._registry import names_given_back  # noqa: PLC0415 - not before the tests have loaded it
            from agentflow.testing import fresh_store, no_model_requests  # noqa: PLC0415 - as above

            self._resources.enter_context(names_given_back())
            self._store = self._resources.enter_context(fresh_store(self._make_store()))
            if self._refuse:
                self._resources.enter_context(no_model_requests(_REFUSAL))
            if self._tape is not None:
                self._resources.enter_context(self._tape.inserted())
        return self._store

    def end(self) -> None:
        """Cancel the background runs of the test, wait for them, and put everything back."""
        try:
            if (
                "agentflow._settings" in sys.modules
            ):  # by now, if it was not when the test began: then by way of the environment
                from agentflow._settings import default_store  # noqa: PLC0415 - as above

                _end_runs(self._store or default_store())
            if self._store is not None:
                self._store.close()
        finally:
            self._resources.close()


class _Tape:
    """The recording of one test, being made or gone by.

    Args:
        path: Its file.
        record: Whether it is made.
    """

    def __init__(self, path: Path, *, record: bool) -> None:
        self._path = path
        self._record = record

    @contextlib.contextmanager
    def inserted(self) -> Iterator[None]:
        """Have every agent go by it for a block; then write it, or warn of what nobody asked for."""
        from agentflow._agent import replaced_everywhere  # noqa: PLC0415 - as above
        from agentflow.testing._recordings import Recording, Replaying, Taping  # noqa: PLC0415 - as above

        recording = Recording(self._path) if self._record else Recording.read(self._path)
        taped = Taping if self._record else Replaying
        with replaced_everywhere(lambda own: taped.of(own, recording)):
            yield
        if self._record:
            recording.write()
        elif unused := recording.unused:
            message = f"{len(unused)} of the recorded model requests in {self._path.name} were not asked: record it anew with --agentflow=record"
            warnings.warn(pytest.PytestWarning(message), stacklevel=2)


def _recording_of(node: pytest.Item) -> Path:
    """Return the file of a test's recording: beside it, in a directory named after its module."""
    name = re.sub(r"[^\w.-]+", "-", node.nodeid.partition("::")[2] or node.name).strip("-")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return node.path.parent / "recordings" / node.path.stem / f"{name}.json"


def _end_runs(store: Store) -> None:
    from agentflow._runs import list_runs  # noqa: PLC0415 - as above
    from agentflow.exceptions import RunTimeout, StoreError  # noqa: PLC0415 - as above

    with contextlib.suppress(StoreError):  # the test has closed or removed its store: nobody can write to it any more
        runs = list_runs(status=("pending", "running"), limit=None, store=store)
        for run in runs:
            run.cancel()
        deadline = time.monotonic() + _PATIENCE
        for run in runs:
            try:
                run.result(timeout=max(0.0, deadline - time.monotonic()))
            except RunTimeout:
                message = f"the background run {run.id} of {run.workflow} goes on after its test: it was cancelled, and has not come to a step, ctx.check() or another boundary since"
                warnings.warn(pytest.PytestWarning(message), stacklevel=2)
            except Exception:  # noqa: BLE001, S110 - however it ended: the test is over, and only that it has ended counts
                pass


@pytest.fixture(autouse=True)
def _agentflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Isolation | None]:
    """Isolate the test, unless it says otherwise."""
    wish = _Wish.of(request)
    if not wish.isolate:
        yield None
        return
    mode = request.config.getoption("--agentflow")
    on_disk = request.config.getini("agentflow_store") == "disk"
    place = str(request.getfixturevalue("tmp_path_factory").mktemp("agentflow") / "store") if on_disk else "memory:"
    # For what agentflow cannot be told yet, and for child processes: they have no other way to know.
    monkeypatch.setenv("AGENTFLOW_STORE", place)
    refuse = not wish.model_requests and mode != "record"
    if refuse:
        monkeypatch.setenv("AGENTFLOW_REFUSE_MODEL_REQUESTS", _REFUSAL)

    def make_store() -> Store:
        from agentflow.stores import DiskStore, MemoryStore  # noqa: PLC0415 - as above

        return DiskStore(place) if on_disk else MemoryStore()

    tape = None if mode == "off" or wish.model_requests else _Tape(_recording_of(request.node), record=mode == "record")
    isolation = _Isolation(make_store, refuse=refuse, tape=tape)
    if "agentflow._settings" in sys.modules:
        _ = isolation.store
    yield isolation
    isolation.end()


@pytest.fixture
def agentflow_store(_agentflow: _Isolation | None) -> Store:
    """The store in force in the test: its own, or the one that is configured if it is not isolated."""
    if _agentflow is not None:
        return _agentflow.store
    from agentflow._settings import default_store  # noqa: PLC0415 - as above

    return default_store()


@pytest.fixture
def agentflow_clock(_agentflow: _Isolation | None) -> Iterator[VirtualClock]:
    """A clock of the test's own, in force until its end: it stands still unless the test advances it."""
    from agentflow.testing import VirtualClock  # noqa: PLC0415 - as above

    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def agentflow_events(_agentflow: _Isolation | None) -> Iterator[list[Event]]:
    """The events of every run that begins in the test, as they happen."""
    from agentflow.testing import capture_events  # noqa: PLC0415 - as above

    with capture_events() as events:
        yield events


@pytest.fixture
def scripted_model(_agentflow: _Isolation | None) -> Iterator[Callable[[Iterable[Answer]], ScriptedModel]]:
    """Give what makes a `ScriptedModel` of a list of answers and puts it in force for every agent.

    At the end of the test every answer must have been asked for.
    """
    from agentflow._agent import replaced_everywhere  # noqa: PLC0415 - as above
    from agentflow.testing import ScriptedModel  # noqa: PLC0415 - as above

    made: list[ScriptedModel] = []
    with contextlib.ExitStack() as overrides:

        def make(answers: Iterable[Answer], **options: Any) -> ScriptedModel:
            model = ScriptedModel(answers, **options)
            overrides.enter_context(replaced_everywhere(lambda _own: model))
            made.append(model)
            return model

        yield make
    for model in made:
        model.assert_complete()
