"""What is remembered of a model request and its answer: the bytes that name the one and those that keep the other."""

from __future__ import annotations

import json
from typing import Final

from agentflow.exceptions import StoreCorrupt
from agentflow.messages import ModelRequest, ModelResponse

__all__ = ["read_answer", "request_bytes", "write_answer"]


def request_bytes(model: str, request: ModelRequest) -> bytes:
    """Return the canonical bytes of a request, by which its answer is remembered.

    Answers in it count by what they say: what they used and who wrote them changes nothing in what is asked.
    Neither does how long we would wait.

    Args:
        model: The version of the model.
        request: The request.
    """
    asked = request.model_dump(exclude={"settings": {"timeout"}})
    for message in asked["messages"]:
        for unasked in _UNASKED if message["kind"] == "response" else ():
            del message[unasked]
    return _write({"model": model, **asked})


_UNASKED: Final = ("usage", "model", "finish_reason", "answered_by")
"""The fields of an answer that say nothing to the model."""


def write_answer(response: ModelResponse) -> bytes:
    """Return the bytes in which an answer is remembered."""
    return _write(response.model_dump())


def read_answer(answer: bytes) -> ModelResponse:
    """Return a remembered answer.

    Raises:
        StoreCorrupt: If it is none.
    """
    try:
        return ModelResponse.model_validate(json.loads(answer))
    except ValueError as error:
        raise StoreCorrupt(
            "a remembered model answer cannot be read. Forget the step that it belongs to, or start a new run",
            hint="forget the step or start a new run",
        ) from error


def _write(value: object) -> bytes:
    # Not pydantic's writer: it refuses lone surrogates, which models do write.
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
