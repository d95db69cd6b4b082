"""What `with_options` of a step may say, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentflow._options import text, whole, yes_or_no
from agentflow._retry import RetryPolicy, retry_policy, seconds
from agentflow._settings import store_at
from agentflow._waiting import Limiter
from agentflow.exceptions import UsageError
from agentflow.types import Duration, Unset

if TYPE_CHECKING:
    import os

    from agentflow._step_spec import StepSpec
    from agentflow.stores._base import Store

__all__ = ["StepOptions", "changed_spec", "checked_session", "limiter_of"]


@attrs.frozen(kw_only=True)
class StepOptions:
    """What `with_options` said of where calls land."""

    session_id: str | None = None
    workflow: str | None = None
    store: Store | None = None
    refresh: bool = False

    def changed(
        self,
        session_id: str | None,
        workflow: str | None,
        store: str | os.PathLike[str] | Store | None,
        refresh: bool | None,  # noqa: FBT001 - an option, None where it stays
    ) -> StepOptions:
        """Return them with others in place of those that are not None.

        Raises:
            UsageError: If one cannot be what it is.
        """
        return StepOptions(
            session_id=self.session_id if session_id is None else checked_session(session_id),
            workflow=self.workflow if workflow is None else text(workflow, "workflow"),
            store=self.store if store is None else store_at(store),
            refresh=self.refresh if refresh is None else yes_or_no(refresh, "refresh"),
        )


def checked_session(session_id: object, what: str = "session_id") -> str:
    """Return a session id, which may be any text.

    Args:
        session_id: The id.
        what: Where it was given, for the message.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(session_id, str):
        return session_id
    raise UsageError(f"{what} gave {session_id!r}: a session id is a str, not {type(session_id).__name__}")


def limiter_of(max_concurrency: int | None) -> Limiter | None:
    """Return what lets so many calls run at once.

    Raises:
        UsageError: If that is none.
    """
    return None if max_concurrency is None else Limiter(whole(max_concurrency, "max_concurrency"))


def changed_spec(
    spec: StepSpec,
    *,
    ttl: Duration | Unset | None,
    retry: int | RetryPolicy | Unset | None,
    timeout: Duration | Unset | None,
    max_concurrency: int | Unset | None,
) -> StepSpec:
    """Return what a step is with others in place of those that are set.

    Raises:
        UsageError: If one cannot be what it is.
    """
    if not isinstance(ttl, Unset):
        spec = attrs.evolve(spec, ttl=None if ttl is None else seconds(ttl, what="ttl"))
    if not isinstance(retry, Unset):
        spec = attrs.evolve(spec, retry=retry_policy(retry))
    if not isinstance(timeout, Unset):
        spec = attrs.evolve(spec, timeout=None if timeout is None else seconds(timeout, what="timeout"))
    if not isinstance(max_concurrency, Unset):
        spec = attrs.evolve(spec, limiter=limiter_of(max_concurrency))
    return spec
