"""Runs behind an HTTP service: start one, ask how it stands, follow it, cancel it. No queue and no broker: the store is enough.

    pip install agentflow-workflows starlette uvicorn
    python in_a_service.py 8000

    curl -X POST localhost:8000/runs -d '{"user": "ada", "topic": "cats"}'     # 202 and the run's id
    curl localhost:8000/runs/ID                                                # how it stands
    curl -N localhost:8000/runs/ID/events                                      # its events, as they come
    curl -N localhost:8000/runs/ID/events -H 'Last-Event-ID: 17'               # the rest, after a lost connection
    curl -X DELETE localhost:8000/runs/ID                                      # cancel it

Browsers read the events with `new EventSource(...)`, which sends `Last-Event-ID` by itself when it connects again.
A real service checks who asks before it answers, and answers nobody with the runs of another.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentflow import Run, cached_step, configure, get_run, workflow
from agentflow.exceptions import RunNotFound

configure(require_session=True)  # "default" would be everybody's


@cached_step
async def write(topic: str) -> AsyncIterator[str]:
    """Stand for a model that takes its time."""
    for number in range(1, 41):
        await asyncio.sleep(0.02)
        yield f"{number} words about {topic}. "


@workflow
async def post(topic: str) -> AsyncIterator[str]:
    """Write a post."""
    async for chunk in write(topic):
        yield chunk


async def start(request: Request) -> Response:
    """Start a run and answer at once, with where to ask for it."""
    asked = await request.json()
    run = await post.with_options(session_id=asked["user"]).astart(asked["topic"])
    return JSONResponse({"id": run.id}, status_code=202, headers={"Location": f"/runs/{run.id}"})


async def show(request: Request) -> Response:
    """Say how a run stands, and what it has written so far."""
    run = found(request)
    return JSONResponse({"id": run.id, "status": run.status, "output": await run.aoutput(), "error": run.error})


async def follow(request: Request) -> Response:
    """Stream a run's events, after the last one that the client has seen."""
    after = int(request.headers.get("Last-Event-ID", "0"))
    return StreamingResponse(as_server_sent(found(request), after), media_type="text/event-stream")


async def as_server_sent(run: Run, after: int) -> AsyncIterator[str]:
    """Yield events as a browser's `EventSource` reads them; the id is what it sends back when it connects again."""
    async for event in run.aevents(after=after):
        number = f"id: {event.seq}\n" if event.seq else ""
        yield f"{number}event: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def cancel(request: Request) -> Response:
    """Cancel a run, wherever it is executed."""
    was_cancelled = await found(request).acancel()
    return JSONResponse({"cancelled": was_cancelled}, status_code=202 if was_cancelled else 409)


def found(request: Request) -> Run:
    """Return the run that a request is about."""
    return get_run(request.path_params["run_id"])


async def not_found(_: Request, error: Exception) -> Response:
    """Answer for a run that is not there."""
    return JSONResponse({"error": str(error)}, status_code=404)


app = Starlette(
    routes=[
        Route("/runs", start, methods=["POST"]),
        Route("/runs/{run_id}", show),
        Route("/runs/{run_id}", cancel, methods=["DELETE"]),
        Route("/runs/{run_id}/events", follow),
    ],
    exception_handlers={RunNotFound: not_found},
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000, log_level="warning", timeout_graceful_shutdown=1)
