"""The HTTP service: start a briefing, ask how it stands, follow it, cancel it. Whoever asks is told by the header `X-User`."""

import datetime as dt
from collections.abc import AsyncIterator

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentflow import Run, get_run
from agentflow.exceptions import RunNotFound
from newsroom.flows import briefing


class Asked(BaseModel):
    """What a client asks for."""

    topic: str = Field(min_length=1, max_length=200)
    day: dt.date


async def start(request: Request) -> Response:
    """Start a briefing and answer at once, with where to ask for it."""
    try:
        asked = Asked.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, str(error)) from None
    run = await briefing.with_options(session_id=user_of(request)).astart(asked.topic, asked.day)
    return JSONResponse({"id": run.id}, status_code=202, headers={"Location": f"/briefings/{run.id}"})


async def show(request: Request) -> Response:
    """Say how a briefing stands, and what is written so far."""
    run = own_run(request)
    failed = {"error": "the briefing could not be written"} if run.error else {}
    return JSONResponse({"id": run.id, "status": run.status, "text": await run.aoutput(), **failed})


async def follow(request: Request) -> Response:
    """Stream what happens, after the last event that the client has seen."""
    after = int(request.headers.get("Last-Event-ID", "0"))
    return StreamingResponse(as_server_sent(own_run(request), after), media_type="text/event-stream")


async def as_server_sent(run: Run, after: int) -> AsyncIterator[str]:
    """Yield events as a browser's `EventSource` reads them."""
    async for event in run.aevents(after=after):
        yield f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def cancel(request: Request) -> Response:
    """Cancel a briefing, wherever it is written."""
    cancelled = await own_run(request).acancel()
    return JSONResponse({"cancelled": cancelled}, status_code=202 if cancelled else 409)


def user_of(request: Request) -> str:
    """Return who asks; each user has a session."""
    if user := request.headers.get("X-User"):
        return user
    raise HTTPException(401, "say who you are in the header X-User")


def own_run(request: Request) -> Run:
    """Return the run that is asked for, if it is the user's own: that of another is not there."""
    try:
        run = get_run(request.path_params["run_id"])
    except RunNotFound:
        run = None
    if run is None or run.session_id != user_of(request):
        raise HTTPException(404, "there is no such briefing")
    return run


app = Starlette(
    routes=[
        Route("/briefings", start, methods=["POST"]),
        Route("/briefings/{run_id}", show),
        Route("/briefings/{run_id}", cancel, methods=["DELETE"]),
        Route("/briefings/{run_id}/events", follow),
    ]
)
