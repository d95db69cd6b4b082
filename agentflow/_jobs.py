"""A run that waits to be executed, as executors get it; and which runs of this process somebody can wait for."""

from __future__ import annotations

import contextvars
import os
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import attrs

from agentflow._at_once import LOT
from agentflow._claims import handover_lock, run_lock
from agentflow._frames import FRAME
from agentflow._listening import LISTENER
from agentflow._logging import enabled, logger
from agentflow._recording import RECORDING
from agentflow._stored_call import StoredCall
from agentflow._usage import AROUND
from agentflow.exceptions import RunConflict, RunInterrupted
from agentflow.stores._base import QUEUED, Fence, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentflow._execution import Execution
    from agentflow.stores._base import RunRecord, Store

__all__ = ["EXECUTING", "Executor", "Job", "present"]

EXECUTING: Final[ContextVar[threading.Thread | None]] = ContextVar("agentflow_executing_thread", default=None)
"""The thread that executes the background run around: also where its code runs in threads that it has begun."""

_present: Final[dict[tuple[str, str], Future[None]]] = {}


def present(store: Store, run_id: str) -> Future[None] | None:
    """Return what is done when a background run of this process has ended, None if it is not one."""
    return _present.get((store.identity, run_id))


@attrs.frozen(eq=False)
class Job:
    """A run that waits to be executed, and whose lock this process holds.

    Attributes:
        run_id: The run.
        workflow: The workflow's name.
        store: Where the run is kept.
        function: The workflow's bare function.
    """

    run_id: str
    workflow: str
    store: Store
    function: Callable[..., object]
    _record: RunRecord
    _execution: Execution
    _perform: Callable[[Execution], None]
    _context: contextvars.Context = attrs.field(factory=contextvars.copy_context)
    _done: Future[None] = attrs.field(
        factory=Future
    )  # of this attempt: the next one may be here before this one has left

    @classmethod
    def of(cls, record: RunRecord, execution: Execution, perform: Callable[[Execution], None]) -> Job:
        """Make the job of a run that waits."""
        store, function = execution.home.store, execution.spec.shape.fn
        return cls(record.id, record.workflow, store, function, record, execution, perform)

    def check_stored(self) -> None:
        """Make sure that the run can be executed where its caller is not.

        Raises:
            UsageError: If an argument is not stored and has no default.
        """
        spec = self._execution.spec
        StoredCall.of(self._record).bound(spec.shape, spec.ignore, self.run_id)

    def run(self) -> None:
        """Execute the run here, in this thread, to its end.

        What it raises is recorded with the run and told to whoever asks for the result, and never raised here.
        """
        self.expect()
        try:
            self._context.copy().run(self._perform_apart)
        except BaseException as error:  # noqa: BLE001 - this is a thread of ours: nobody else could take it
            if enabled():
                logger(run_id=self.run_id, workflow=self.workflow).debug("run.raised", error=type(error).__qualname__)
        finally:
            self._leave()

    def _perform_apart(self) -> None:
        FRAME.set(None)  # it may have been started inside another run, whose part it is not
        RECORDING.set(None)
        LOT.set(None)
        LISTENER.set(None)
        AROUND.set(())
        EXECUTING.set(threading.current_thread())
        self._perform(self._execution)

    def expect(self) -> None:
        """Say that this process will execute it, so that whoever waits for it here is told at once."""
        _present[self.store.identity, self.run_id] = self._done

    def _leave(self) -> None:
        place = self.store.identity, self.run_id
        if _present.get(place) is self._done:
            del _present[place]
        self._done.set_result(None)

    def drop(self) -> None:
        """Let go of a run that will not be executed here."""
        self.store.unlock(run_lock(self.run_id))
        self._leave()

    def stop(self, *, is_told: bool = False) -> None:
        """Ask the execution to leave the run `interrupted`: tasks at once, other code at its next boundary.

        Args:
            is_told: Whether the code learns it in another way.
        """
        self._execution.token.is_told = is_told
        self._execution.token.revoke(
            RunInterrupted(
                f"run {self.run_id} is interrupted, since its process ends: call the workflow again, or Run.resume(), to go on",
                run_id=self.run_id,
            )
        )

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Let another process take the run within a block; until its end the run does not look abandoned."""
        handover = handover_lock(self.run_id)
        self.store.try_lock(handover)
        try:
            self.store.unlock(run_lock(self.run_id))
            yield
        finally:
            self.store.unlock(handover)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Let a queue have the run, which is put into it within a block.

        From then on the run is `pending` for whoever looks, without any process that holds it, until a worker executes it or it is cancelled.
        What is raised in the block takes it back.

        Raises:
            UsageError: If an argument is not stored and has no default.
            RunConflict: If the run was cancelled meanwhile.
        """
        self.check_stored()
        queued = attrs.evolve(self._record, owner=f"{QUEUED}{os.urandom(16).hex()}")
        self._replace(self._record, queued)
        self.store.unlock(run_lock(self.run_id))
        try:
            yield
        except BaseException:
            if self.store.try_lock(run_lock(self.run_id)):
                try:
                    self._replace(queued, self._record)
                except RunConflict:  # a worker was faster, and has died: the run is nobody's
                    self.store.unlock(run_lock(self.run_id))
            raise

    def _replace(self, before: RunRecord, after: RunRecord) -> None:
        self.store.commit(Transaction(run=after, fence=Fence(self.run_id, before.owner)))


@runtime_checkable
class Executor(Protocol):
    """Where background runs are executed.

    `submit` gets a run that is recorded as `pending` and sees to it that it is executed, in one of three ways:

    * here, by `job.run()` in some thread of this process;
    * elsewhere and at once, by letting go of it (`job.handed_over()`) while another process calls `agentflow.executors.execute(run_id, store=...)`;
    * elsewhere and some time, by putting its id into a queue (`job.queued()`), whose workers call that.

    A worker has imported the workflow. What it gets twice it executes once: the second time `execute` raises `RunConflict`.
    Of a worker that dies the run is `interrupted`, as any other, and `Run.resume()` submits it again.
    """

    @property
    def name(self) -> str:
        """What runs remember it by, so that `Run.resume()` finds it again."""
        ...

    def submit(self, job: Job) -> None:
        """Have a run executed.

        Raises:
            UsageError: If such a run cannot be executed there; the run is then recorded as failed with this error.
        """
        ...
