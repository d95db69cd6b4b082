"""The call that a run executes, as its row keeps it, so that the run can go on where the caller is gone."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._active_run import Refresh
from agentflow._budget import Budget
from agentflow._serialization import StaleValue, codec_for, seal, unseal
from agentflow.exceptions import UnserializableValue, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Set as AbstractSet

    from agentflow._signature import Shape
    from agentflow.stores._base import RunRecord

__all__ = ["StoredCall"]

_CODEC: Final = codec_for(Any)


@attrs.frozen
class StoredCall:
    """What a workflow was called with.

    Attributes:
        arguments: Its arguments by name, less those that it ignores.
        refresh: What the call asks to run again.
        executor: The executor that it was started in, `""` for a direct call.
        budget: The budget that it brought with it, if any.
    """

    arguments: Mapping[str, Any]
    refresh: Refresh
    executor: str = ""
    budget: Budget | None = None

    def pack(self, workflow: str) -> bytes | None:
        """Return it sealed, or None if an argument cannot be stored: then only the same call continues the run."""
        told = {
            "arguments": dict(self.arguments),
            "everything": self.refresh.everything,
            "steps": sorted(self.refresh.steps),
            "executor": self.executor,
            "budget": self.budget and attrs.asdict(self.budget),
        }
        try:
            return seal(_CODEC.dumps(told, owner=f"the arguments of workflow {workflow!r}"))
        except UnserializableValue:
            return None

    @classmethod
    def of(cls, record: RunRecord) -> StoredCall:
        """Read the call of a run.

        Raises:
            UsageError: If its arguments could not be stored, or no longer fit their classes.
        """
        if record.arguments is None:
            raise UsageError(
                f"run {record.id} of workflow {record.workflow!r} was called with arguments that cannot be stored, so only "
                "the same call continues it: call the workflow again with them, or name them in ignore= and give them defaults"
            )
        try:
            told = _CODEC.loads(unseal(record.arguments))
        except StaleValue as stale:
            raise UsageError(
                f"run {record.id} of workflow {record.workflow!r} was called with arguments that no longer fit their classes "
                f"({stale}): call the workflow again"
            ) from stale
        refresh = Refresh(told["everything"], frozenset(told["steps"]))
        budget = told.get("budget")
        return cls(told["arguments"], refresh, told["executor"], Budget(**budget) if budget else None)

    def bound(self, shape: Shape, ignore: AbstractSet[str], run_id: str) -> dict[str, Any]:
        """Return the arguments of all parameters: those that are ignored take their defaults.

        Raises:
            UsageError: If one that is ignored has no default.
        """
        bound: dict[str, Any] = {}
        for name, parameter in shape.signature.parameters.items():
            if name in self.arguments:
                bound[name] = self.arguments[name]
            elif name in ignore and parameter.default is not Parameter.empty:
                bound[name] = parameter.default
            elif parameter.kind is Parameter.VAR_POSITIONAL:
                bound[name] = ()
            elif parameter.kind is Parameter.VAR_KEYWORD:
                bound[name] = {}
            elif parameter.default is not Parameter.empty:
                bound[name] = parameter.default
            else:
                raise UsageError(
                    f"run {run_id} cannot go on without its caller: the argument {name!r} is not stored and has no default. "
                    f"Call the workflow again, or give {name!r} a default"
                )
        return bound
