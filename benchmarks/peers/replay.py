"""The programs that go on after a stop, for libraries that do: `replay.py PEER PROGRAM DIRECTORY stop|go`.

`stop` runs to the middle and stops there, by an interrupt or by death; `go` is another process that goes on. Prints the answer as JSON.

* `set`: fetches the addresses of a set one by one, each page being its address; the two processes iterate the set in different orders.
* `edit`: the code of the second process asks for `load("B")` where the first asked for `load("A")`.
* `id`: a finished workflow is called again under its id with another argument.
"""

from __future__ import annotations

import json
import os
import sys
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


def agentflow() -> object:
    from agentflow import cached_step, configure, workflow
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

        config = {"configurable": {"thread_id": "conversation"}}
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
