"""Model requests as a file beside the test: asked once, read from there ever after.

A recording is one JSON document that a person can review: what was asked, in the words of `ModelRequest`, and what was answered.
There are no headers, keys or addresses in it; in texts, what looks like a key is masked, and what the environment holds as one.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import threading
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._logging import masked_text
from agentflow.exceptions import UsageError
from agentflow.messages import ModelResponse
from agentflow.models import Model
from agentflow.models._base import AsyncModelStream
from agentflow.models._scripted import FunctionModel, ScriptedModel
from agentflow.testing._auto import TestModel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from agentflow.messages import ModelRequest

__all__ = ["Masking", "Recording", "RecordingMissing", "Replaying", "Taping"]

_FORMAT: Final = 1
_INVENTED: Final = (ScriptedModel, FunctionModel, TestModel)
_LONGEST_DIFF: Final = 60  # lines
_MASK: Final = "[redacted]"
_SECRET_VARIABLE: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
_SHORTEST_SECRET: Final = 8  # characters; a shorter value may stand in any text


class RecordingMissing(UsageError):  # noqa: N818 - as the others of its tree are named
    """A test asked a model something that is not in its recording; no step retries it."""


@attrs.frozen
class Exchange:
    """One request and its answer.

    Attributes:
        model: The model that was asked.
        request: What it was asked, as JSON.
        response: What it answered, as JSON.
        pieces: The pieces in which the answer came, None if it came whole.
    """

    model: str
    request: Any
    response: Any
    pieces: tuple[str, ...] | None = None

    @property
    def question(self) -> str:
        """What was asked, as text to compare."""
        return _text({"model": self.model, "request": self.request})


@attrs.frozen
class Masking:
    """Takes secrets out of what is recorded.

    Attributes:
        secrets: What is one wherever it stands, the longest first.
    """

    secrets: tuple[str, ...] = attrs.field(repr=False)

    @classmethod
    def of_environment(cls) -> Masking:
        """Return what also knows the secrets that the environment holds."""
        found = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)}
        return cls(tuple(sorted((each for each in found if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)))

    def text(self, text: str) -> str:
        """Return a text without them."""
        for secret in self.secrets:
            text = text.replace(secret, _MASK)
        return masked_text(text)

    def message(self, value: ModelRequest | ModelResponse) -> Any:
        """Return a message as JSON without them; what is not given is left out, so that it can be read."""
        return self._plain(value.model_dump(mode="json", exclude_none=True))

    def _plain(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._plain(each) for each in value]
            case dict():
                return {name: self._plain(each) for name, each in value.items()}
            case _:
                return value


class Recording:
    """The exchanges of one test.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._masked = Masking.of_environment()
        self._mutex = threading.Lock()
        self._exchanges: list[Exchange] = []
        self._unused: list[Exchange] = []

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a recording; an empty one if there is no file.

        Raises:
            UsageError: If the file is no recording.
        """
        recording = cls(path)
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                if found["format"] != _FORMAT:
                    raise UsageError(
                        f"the recording {path} has format {found['format']!r}, which this agentflow does not read: record it anew"
                    )
                recording._exchanges = [
                    Exchange(each["model"], each["request"], each["response"], _tuple(each.get("pieces")))
                    for each in found["exchanges"]
                ]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{path} is no recording of model requests ({error!r}): remove it and record it anew"
                ) from error
            recording._unused = list(recording._exchanges)
        return recording

    @property
    def unused(self) -> list[Exchange]:
        """What was recorded and not asked for."""
        with self._mutex:
            return list(self._unused)

    def add(self, model: str, request: ModelRequest, response: ModelResponse, pieces: tuple[str, ...] | None) -> None:
        """Add an exchange."""
        made = Exchange(
            model,
            self._masked.message(request),
            self._masked.message(response),
            pieces and tuple(map(self._masked.text, pieces)),
        )
        with self._mutex:
            self._exchanges.append(made)

    def take(self, model: str, request: ModelRequest) -> Exchange:
        """Return the exchange of a request; equal requests get their answers in the order they were recorded.

        Raises:
            RecordingMissing: If there is none; the message shows what is different from the nearest.
        """
        asked = Exchange(model, self._masked.message(request), None)
        with self._mutex:
            for exchange in self._unused:
                if exchange.question == asked.question:
                    self._unused.remove(exchange)
                    return exchange
            raise self._missing(asked)

    def _missing(self, asked: Exchange) -> RecordingMissing:
        what = f"a request to {asked.model} is not in the recording {self.path.name}"
        repair = "if the change is meant, record it anew with pytest --agentflow=record"
        if any(each.question == asked.question for each in self._exchanges):
            return RecordingMissing(
                f"{what} as often as it was asked: every answer of an equal request is used; {repair}"
            )
        if not self._exchanges:
            return RecordingMissing(f"{what}, which is empty or not there; {repair}")
        nearest = max(
            self._exchanges, key=lambda each: difflib.SequenceMatcher(None, each.question, asked.question).quick_ratio()
        )
        lines = difflib.unified_diff(
            nearest.question.splitlines(), asked.question.splitlines(), "recorded", "asked", lineterm="", n=2
        )
        return RecordingMissing(f"{what}; {repair}. The nearest differs so:\n" + "\n".join([*lines][:_LONGEST_DIFF]))

    def write(self) -> None:
        """Write the file, or remove it if there is nothing to write."""
        if not self._exchanges:
            self.path.unlink(missing_ok=True)
            return
        exchanges = [attrs.asdict(each, filter=lambda _, value: value is not None) for each in self._exchanges]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.part")
        beside.write_text(_text({"format": _FORMAT, "exchanges": exchanges}) + "\n", encoding="utf-8")
        beside.replace(self.path)


def _tuple(pieces: list[str] | None) -> tuple[str, ...] | None:
    return None if pieces is None else tuple(pieces)


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


class _Taped(Model):
    """A model that goes by a recording.

    Args:
        own: The model in whose place it stands.
        recording: The recording.
    """

    def __init__(self, own: Model, recording: Recording) -> None:
        self._own = own
        self._recording = recording
        self.supports_json_schema = own.supports_json_schema

    @classmethod
    def of(cls, own: Model, recording: Recording) -> Model:
        """Return it, or the model itself if it asks nobody outside."""
        return own if isinstance(own, _INVENTED) else cls(own, recording)

    def __getattr__(self, name: str) -> Any:
        # What else a model says of itself, such as what it supports.
        return getattr(self._own, name)

    @property
    def name(self) -> str:
        """The own model's."""
        return self._own.name

    def __agentflow_version__(self) -> str:
        return self._own.__agentflow_version__()


class Taping(_Taped):
    """Asks the model and records what it answers; what fails is not recorded."""

    def request(self, request: ModelRequest) -> ModelResponse:
        """Ask, and record the answer."""
        return self._recorded(request, self._own.request(request))

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Ask, and record the answer."""
        return self._recorded(request, await self._own.arequest(request))

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Pass the answer on as it comes, and record it."""
        pieces: list[str] = []
        source = self._own.stream(request)
        while True:
            try:
                piece = next(source)
            except StopIteration as stop:
                return self._recorded(request, stop.value, tuple(pieces))
            pieces.extend(filter(None, [str(piece)]))
            yield piece

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Pass the answer on as it comes, and record it."""
        return AsyncModelStream(self._arriving(request))

    async def _arriving(self, request: ModelRequest) -> AsyncGenerator[str | ModelResponse, None]:
        pieces: list[str] = []
        source = self._own.astream(request)
        try:
            async for piece in source:
                pieces.extend(filter(None, [str(piece)]))
                yield piece
            yield self._recorded(request, source.response, tuple(pieces))
        finally:
            await source.aclose()

    def _recorded(
        self, request: ModelRequest, response: ModelResponse, pieces: tuple[str, ...] | None = None
    ) -> ModelResponse:
        self._recording.add(self.name, request, response, pieces)
        return response


class Replaying(_Taped):
    """Answers what is recorded, and asks nobody."""

    def request(self, request: ModelRequest) -> ModelResponse:
        """Give the recorded answer.

        Raises:
            RecordingMissing: If there is none.
        """
        return ModelResponse.model_validate(self._recording.take(self.name, request).response)

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Give the recorded answer; needs no thread."""
        return self.request(request)

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Give the recorded answer in the pieces in which it came."""
        exchange = self._recording.take(self.name, request)
        response = ModelResponse.model_validate(exchange.response)
        yield from exchange.pieces if exchange.pieces is not None else filter(None, [response.text])
        return response

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does."""
        return AsyncModelStream(_arriving(self.stream(request)))


async def _arriving(source: Generator[str, None, ModelResponse]) -> AsyncGenerator[str | ModelResponse, None]:
    while True:
        try:
            piece = next(source)
        except StopIteration as stop:
            yield stop.value
            return
        yield piece
