"""The programs that go on after a stop, for libraries that do: `replay.py PEER PROGRAM DIRECTORY stop|go`.

`stop` runs to the middle and stops there, by an interrupt or by death; `go` is another process that goes on. Prints the answer as JSON.

* `set`: fetches the addresses of a set one by one, each page being its address; the two processes iterate the set in different orders.
* `edit`: the code of the second process asks for `load("B")` where the first asked for `load("A")`.
* `id`: a finished workflow is called again under its id with another argument.
* `state`: nothing stops; eight runs of one session at once each add one to what the session keeps.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PEER, PROGRAM, DIRECTORY, PHASE = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]
STOPS = PHASE == "stop"
URLS = {"apple", "fig", "kiwi", "pear"}


def note(what: object) -> None:
    with (DIRECTORY / "executed").open("a") as file:
        file.write(f"{what}\n")


def page(url: str) -> str:
    note(url)
    return f"page:{url}"


def eight_at_once(run: Callable[[int], object]) -> None:
    if not STOPS:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))


def agentflow() -> object:
    from agentflow import Context, cached_step, configure, workflow
    from agentflow.stores import DiskStore

    configure(store=DiskStore(DIRECTORY / "store"))
    fetch = cached_step(page)

    @workflow(session="conversation")
    def flow(what: str) -> object:
        found = {url: fetch(url) for url in URLS} if PROGRAM == "set" else fetch("A" if STOPS else "B")
        if STOPS:
            os._exit(9)
        return found

    @workflow(session="conversation")
    def by_id(what: str) -> object:
        return fetch(what)

    @workflow(session="conversation")
    def count(ctx: Context, number: int) -> None:
        note(number)
        time.sleep(0.1)
        ctx.state.increment("count")

    if PROGRAM == "state":
        eight_at_once(count)
        return count.session("conversation").state.get("count")
    return by_id("A" if STOPS else "B") if PROGRAM == "id" else flow("go")


def langgraph() -> object:
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.func import entrypoint, task
    from langgraph.types import Command, interrupt

    fetch = task(page)
    with SqliteSaver.from_conn_string(str(DIRECTORY / "store.db")) as saver:

        @entrypoint(checkpointer=saver)
        def flow(what: str) -> object:
            if PROGRAM == "set":
                found: object = {url: fetch(url).result() for url in URLS}
            else:
                found = fetch("A" if STOPS else "B").result()
            interrupt("shall I go on?")
            return found

        @entrypoint(checkpointer=saver)
        def count(number: int, *, previous: int | None = None) -> int | None:
            if number < 0:
                return previous
            note(number)
            time.sleep(0.1)
            return (previous or 0) + 1

        config = {"configurable": {"thread_id": "conversation"}}
        if PROGRAM == "state":
            eight_at_once(lambda number: count.invoke(number, config))
            return count.invoke(-1, config)
        found = flow.invoke("go" if STOPS else Command(resume=True), config)
        return None if STOPS else found


def dbos() -> object:
    from dbos import DBOS, SetWorkflowID

    DBOS(
        config={
            "name": "replay",
            "system_database_url": f"sqlite:///{DIRECTORY / 'store.sqlite'}",
            "application_version": "1",  # a changed function would otherwise not be recovered at all
            "log_level": "CRITICAL",
            "run_admin_server": False,
        }
    )
    fetch = DBOS.step(name="fetch")(page)

    @DBOS.workflow(name="flow")
    def flow(what: str) -> object:
        found = {url: fetch(url) for url in URLS} if PROGRAM == "set" else fetch("A" if STOPS else "B")
        if STOPS:
            os._exit(9)
        return found

    @DBOS.workflow(name="by_id")
    def by_id(what: str) -> object:
        return fetch(what)

    DBOS.launch()
    try:
        if PROGRAM == "id" or STOPS:
            with SetWorkflowID("conversation"):
                return by_id("A" if STOPS else "B") if PROGRAM == "id" else flow("go")
        return DBOS.retrieve_workflow("conversation").get_result()
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    print("answer:", json.dumps({"agentflow": agentflow, "langgraph": langgraph, "dbos": dbos}[PEER](), sort_keys=True))
    sys.stdout.flush()
    os._exit(0)
