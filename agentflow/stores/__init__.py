"""Where sessions, runs and results are kept: a directory, or memory; `Store` is the protocol over both."""

from agentflow.stores._base import Store
from agentflow.stores._disk import DiskStore
from agentflow.stores._memory import MemoryStore
from agentflow.stores._reports import Finding, Pruned, SizeOfKind, StoreSize

__all__ = ["DiskStore", "Finding", "MemoryStore", "Pruned", "SizeOfKind", "Store", "StoreSize"]
