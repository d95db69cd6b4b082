"""How each library remembers a function's results: `remember(fn)` of every peer and of agentflow, in one shape.

Nothing is imported before it is asked for, since each peer is alone in its environment.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Remember = Callable[[Callable[..., Any]], Callable[..., Any]]


def agentflow(directory: Path) -> Remember:
    from agentflow import cached_step, configure
    from agentflow.stores import DiskStore

    configure(store=DiskStore(directory / "store"))
    return cached_step


def diskcache(directory: Path) -> Remember:
    from diskcache import Cache

    return Cache(str(directory / "store")).memoize()


def joblib(directory: Path) -> Remember:
    from joblib import Memory

    return Memory(directory / "store", verbose=0).cache


def langgraph(directory: Path) -> Remember:
    from langgraph.cache.sqlite import SqliteCache
    from langgraph.func import entrypoint, task
    from langgraph.types import CachePolicy

    cache = SqliteCache(path=str(directory / "store.db"))

    def remember(fn: Callable[..., Any]) -> Callable[..., Any]:
        remembered = task(fn, cache_policy=CachePolicy())

        # A task runs only inside an entrypoint.
        def call(*args: Any, **kwargs: Any) -> Any:
            @entrypoint(cache=cache)
            def run(_: object) -> Any:
                return remembered(*args, **kwargs).result()

            return run.invoke({})

        async def acall(*args: Any, **kwargs: Any) -> Any:
            @entrypoint(cache=cache)
            async def run(_: object) -> Any:
                return await remembered(*args, **kwargs)

            return await run.ainvoke({})

        return acall if inspect.iscoroutinefunction(fn) else call

    return remember


def prepare_prefect(directory: Path) -> None:
    """Say where Prefect keeps its things, which it asks when it is imported."""
    os.environ |= {
        "PREFECT_HOME": str(directory / "home"),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def prefect(directory: Path) -> Remember:
    prepare_prefect(directory)
    from prefect import task
    from prefect.cache_policies import INPUTS

    # Its server starts at the first call, which is none of those that are counted.
    task(lambda: None, name="first")()
    return task(cache_policy=INPUTS, persist_result=True)


REMEMBER = {made.__name__: made for made in (agentflow, diskcache, joblib, langgraph, prefect)}
