"""Runs behind an HTTP service: start one, ask how it stands, follow it, cancel it. No queue and no broker: the store is enough.

    pip install agentflow-workflows starlette uvicorn
    python in_a_service.py 8000

    curl -X POST localhost:8000/runs -d '{"user": "ada", "topic": "cats"}'     # 202 and the run's id
    curl -X POST localhost:8000/runs -d '...' -H 'Idempotency-Key: 17'         # sent twice, it starts one run
    curl localhost:8000/runs/ID                                                # how it stands
    curl -N localhost:8000/runs/ID/events                                      # its events, as they come
    curl -N localhost:8000/runs/ID/events -H 'Last-Event-ID: 17'               # the rest, after a lost connection
    curl -X DELETE localhost:8000/runs/ID                                      # cancel it

Browsers read the events with `new EventSource(...)`, which sends `Last-Event-ID` by itself when it connects again.
Runs are executed by threads of the server; those that it leaves behind when it ends, or is killed, go on when it starts again.
Several server processes may share the store. A real service checks who asks before it answers, and answers nobody with the runs of another.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from hashlib import sha256

import uvicorn
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentflow import Run, cached_step, configure, get_run, list_runs, workflow
from agentflow.events import Event
from agentflow.exceptions import RunConflict, RunNotFound, TooManyAttempts

HEARTBEAT = 15.0  # seconds without an event after which a comment shows proxies that the stream is alive
MOST_DIGITS = 15

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


class Order(BaseModel):
    """What a client asks for."""

    user: str = Field(min_length=1, max_length=100)
    topic: str = Field(min_length=1, max_length=1000)


async def start(request: Request) -> Response:
    """Start a run and answer at once, with where to ask for it."""
    order = Order.model_validate_json(await request.body())
    key = request.headers.get("Idempotency-Key")
    run_id = sha256(json.dumps([order.user, key]).encode()).hexdigest() if key else None
    run = await post.with_options(session_id=order.user, run_id=run_id).astart(order.topic)
    return JSONResponse({"id": run.id}, status_code=202, headers={"Location": f"/runs/{run.id}"})


async def show(request: Request) -> Response:
    """Say how a run stands, and what it has written so far."""
    run = found(request)
    return JSONResponse({"id": run.id, "status": run.status, "output": await run.aoutput(), "error": run.error})


async def follow(request: Request) -> Response:
    """Stream a run's events, after the last one that the client has seen."""
    run, seen = found(request), request.headers.get("Last-Event-ID", "0")
    if not seen.isdecimal() or len(seen) > MOST_DIGITS:
        return JSONResponse({"error": "Last-Event-ID is not the number of an event"}, status_code=400)
    has_ended = run.status in ("completed", "failed", "cancelled")
    if has_ended and await anext(run.aevents(after=int(seen), follow=False), None) is None:
        return Response(status_code=204)  # to this answer a browser does not come back
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told(run.aevents(after=int(seen))), media_type="text/event-stream", headers=headers)


async def told(events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    """Yield events as they come, and a comment when there is none for a while."""
    async with aclosing(events):
        coming = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await asyncio.wait({coming}, timeout=HEARTBEAT)  # which, unlike wait_for, leaves it alone
                if not coming.done():
                    yield ": nothing new\n\n"
                elif (event := coming.result()) is None:
                    return
                else:
                    yield as_server_sent(event)
                    coming = asyncio.ensure_future(anext(events, None))
        finally:  # the client has left, or the server ends
            coming.cancel()
            await asyncio.wait({coming})


def as_server_sent(event: Event) -> str:
    """Return an event as a browser's `EventSource` reads it; the id is what a browser sends back when it connects again."""
    number = f"id: {event.seq}\n" if event.seq else ""
    return f"{number}event: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def cancel(request: Request) -> Response:
    """Cancel a run, wherever it is executed."""
    was_cancelled = await found(request).acancel()
    return JSONResponse({"cancelled": was_cancelled}, status_code=202 if was_cancelled else 409)


def found(request: Request) -> Run:
    """Return the run that a request is about."""
    return get_run(request.path_params["run_id"])


async def refused(_: Request, error: Exception) -> Response:
    """Answer for what a client can mend; what else goes wrong is a 500, whose reason stays with the server."""
    match error:
        case ValidationError():
            details = error.errors(include_url=False, include_context=False, include_input=False)
            return JSONResponse({"error": details}, status_code=422)
        case RunConflict():
            return JSONResponse({"error": "this Idempotency-Key stands for another order"}, status_code=409)
        case _:
            return JSONResponse({"error": "there is no such run"}, status_code=404)


@asynccontextmanager
async def going_on(_: Starlette) -> AsyncIterator[None]:
    """Go on with runs whose server process is gone; of several processes that try, one gets each."""
    for run in list_runs(workflow=post.name, status="interrupted", limit=None):
        with suppress(TooManyAttempts):
            await run.aresume()
    yield


app = Starlette(
    routes=[
        Route("/runs", start, methods=["POST"]),
        Route("/runs/{run_id}", show),
        Route("/runs/{run_id}", cancel, methods=["DELETE"]),
        Route("/runs/{run_id}/events", follow),
    ],
    exception_handlers={ValidationError: refused, RunConflict: refused, RunNotFound: refused},
    lifespan=going_on,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000, log_level="warning", timeout_graceful_shutdown=1)
