"""Where sessions, runs and results are kept: a directory, or memory; `Store` is the protocol over both."""

from agentflow.stores._base import Store
from agentflow.stores._disk import DiskStore
from agentflow.stores._memory import MemoryStore

__all__ = ["DiskStore", "MemoryStore", "Store"]
