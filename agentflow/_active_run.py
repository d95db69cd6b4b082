"""A run that this process executes: whose memory it works in, what it was asked, what it says and what it has spent.

It knows nothing of the code that runs in it, which has a frame (`_frames`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from agentflow._drive import Ask, Commit, Until
from agentflow._listening import audience
from agentflow._outbox import MOST, Outbox
from agentflow._spending import Account
from agentflow._tokens import Token
from agentflow.stores._base import Entry, Fence, RunRecord, StateWrite, Store, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from agentflow._listening import Listener, Note
    from agentflow._outbox import Batch
    from agentflow.events import Event

__all__ = ["OUTSIDE", "ActiveRun", "Home", "Refresh"]


@attrs.frozen
class Home:
    """Whose memory a call lands in: a session of a workflow in a store."""

    store: Store = attrs.field(eq=False)
    workflow: str
    session_id: str


OUTSIDE: Final = ""
"""The workflow of step calls that no workflow makes."""


@attrs.frozen
class Refresh:
    """Which steps a call asks to run again.

    Attributes:
        everything: All of them, and model requests too.
        steps: Those of these names.
    """

    everything: bool = False
    steps: frozenset[str] = frozenset()

    def joined(self, other: Refresh) -> Refresh:
        """Return what both ask for together."""
        return Refresh(self.everything or other.everything, self.steps | other.steps)

    def covers(self, step: str) -> bool:
        """Whether it asks for this step."""
        return self.everything or step in self.steps

    def __bool__(self) -> bool:
        return self.everything or bool(self.steps)


class ActiveRun:
    """A run that this process executes: what it says, and what it has counted.

    Attributes:
        record: The run's row as last written.
        home: Whose memory it works in.
        refresh: What it was asked to run again.
        account: What it has spent, and may spend.
        debug: Whether the misses of its steps tell why; None: as the settings say.
        token: Whether it may go on.
        listener: Who hears its events at once, if somebody does.
        outbox: What it has said and not yet committed.
    """

    def __init__(
        self,
        record: RunRecord,
        home: Home,
        refresh: Refresh,
        account: Account | None = None,
        *,
        debug: bool | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.record = record
        self.home = home
        self.refresh = refresh
        self.debug = debug
        self.token = Token()
        self.listener = listener
        self.outbox = Outbox(home.store, self.fence, record.attempt, audience(listener))
        self.account = account or Account()

    @property
    def fence(self) -> Fence:
        """The condition under which this process may write for the run."""
        return Fence(self.record.id, self.record.owner)

    def note(self, event: Event | Note) -> None:
        """Say that something happened; it is written with the next commit, or a moment later."""
        self.outbox.say(event)

    def relieved(self, check: Callable[[], object]) -> Generator[Ask, None, None]:
        """Wait until what was said is written and heard, if it has become much.

        Args:
            check: Asked meanwhile whether the code that has said so much may go on.
        """
        if self.outbox.weight >= MOST:
            with self.transaction() as transaction:
                yield Commit(self.home.store, transaction)
        if self.listener is not None and self.listener.is_full:
            # It may never come: the consumer may stand still.
            yield Until(self.listener.room(), check=check)

    def transaction(
        self,
        *,
        entries: Sequence[Entry] = (),
        forget: Sequence[str] = (),
        state: Sequence[StateWrite] = (),
        record: RunRecord | None = None,
        fence: Fence | None = None,
        saying: Event | Note | None = None,
    ) -> Carried:
        """Make a transaction, for a block, that also carries what was noted so far; noted again if the block raises.

        Args:
            entries: Results to remember.
            forget: Keys of results to forget.
            state: Changes of state.
            record: The run's new row.
            fence: Under which condition it may be written, if not that the run is still ours.
            saying: An event that is true only with this very commit, so that it is not noted again.
        """
        batch = self.outbox.batch(saying)
        transaction = Transaction(
            entries=tuple(entries),
            forget=tuple(forget),
            state=tuple(state),
            events=batch,
            run=record,
            fence=fence or self.fence,
        )
        return Carried(transaction, batch)


class Carried:
    """A transaction for the block that commits it; what it carries of a run's events is noted again if the block raises."""

    __slots__ = ("_batch", "_transaction")

    def __init__(self, transaction: Transaction, batch: Batch) -> None:
        self._transaction = transaction
        self._batch = batch

    def __enter__(self) -> Transaction:
        return self._transaction

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._batch.written()
        elif issubclass(kind, KeyboardInterrupt | SystemExit):
            self._batch.settle()
        else:
            self._batch.put_back()
