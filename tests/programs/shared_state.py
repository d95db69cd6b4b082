"""Adds to one session's state many times, in one of three ways; started many times at once."""

from __future__ import annotations

import sys

from agentflow import workflow
from agentflow.exceptions import StateConflict


@workflow(name="shared")
def flow() -> None: ...


def main(way: str, times: int) -> None:
    refused = 0
    for _ in range(times):
        state = flow.session("shared").state
        if way == "increment":
            state.increment("n")
        elif way == "transaction":
            with state.transaction() as s:
                s["n"] = s.get("n", 0) + 1
        else:
            try:
                state["n"] = state.get("n", 0) + 1
            except StateConflict:
                refused += 1
    print(refused)


def die_inside() -> None:
    with flow.session("shared").state.transaction() as s:
        s["n"] = -1
        print("inside", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        die_inside()
    else:
        main(sys.argv[1], int(sys.argv[2]))
