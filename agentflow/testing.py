"""What tests of workflows need: models that answer from a script or a function, and a store of their own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentflow._settings import using_store
from agentflow.models._scripted import FunctionModel, ScriptedModel
from agentflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow.stores import Store

__all__ = ["FunctionModel", "ScriptedModel", "fresh_store"]


@contextmanager
def fresh_store(store: Store | None = None) -> Iterator[Store]:
    """Make an empty store the default of this process for a block.

    ```python
    from agentflow import cached_step
    from agentflow.testing import fresh_store

    @cached_step
    def double(number: int) -> int:
        return 2 * number

    with fresh_store():
        assert not double.is_cached(21)
        double(21)
        assert double.is_cached(21)
    ```

    Args:
        store: The store to use; one in memory if not given.
    """
    with using_store(store or MemoryStore()) as fresh:
        yield fresh
