"""Where sessions, runs and results are kept: a directory, or memory; `Store` is the protocol over both."""

from typing import TYPE_CHECKING

from agentflow.stores._base import Store
from agentflow.stores._disk import DiskStore
from agentflow.stores._memory import MemoryStore

if TYPE_CHECKING:
    from agentflow.stores._reports import Finding, Pruned, SizeOfKind, StoreSize

__all__ = ["DiskStore", "Finding", "MemoryStore", "Pruned", "SizeOfKind", "Store", "StoreSize"]


def __getattr__(name: str) -> object:
    # What looking after a store finds out is pydantic's, and most programs never ask for it.
    if name in __all__:
        from agentflow.stores import _reports  # noqa: PLC0415

        return getattr(_reports, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
