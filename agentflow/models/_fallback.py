"""A model that is several: when one cannot be reached, the next is asked."""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from agentflow._logging import logger
from agentflow._recording import RECORDING
from agentflow.exceptions import ModelHTTPError, ModelTimeout, UsageError
from agentflow.models._base import AsyncModelStream, Model
from agentflow.models._named import resolve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from agentflow.messages import ModelRequest, ModelResponse

__all__ = ["FallbackModel"]


class FallbackModel(Model):
    """Asks the first model, and the next one when that fails; each has its own repeated attempts before.

    A stream goes over to the next model only before its first piece of text. `ModelResponse.answered_by` says who
    answered, and so does the event of the answer; each failure is an `agentflow.events.ModelRetried`.
    Output is given by JSON schema only if all of them can. When the last one fails too, its error is raised, with a
    note of each error before.

    ```python
    from agentflow import Agent
    from agentflow.exceptions import ModelHTTPError
    from agentflow.models import FallbackModel
    from agentflow.testing import ScriptedModel

    down = ScriptedModel([ModelHTTPError("down", status=503)], name="down")
    model = FallbackModel(down, ScriptedModel(["Hello!"], name="up"))
    result = Agent(model).run("Say hello")
    assert result.output == "Hello!"
    assert result.messages[-1].answered_by == "up"
    ```

    Args:
        models: The models or their names, the preferred one first.
        on: The exceptions after which the next model is asked.

    Raises:
        UsageError: If there is no model.
    """

    def __init__(
        self,
        *models: str | Model,
        on: type[Exception] | tuple[type[Exception], ...] = (ModelHTTPError, ModelTimeout),
    ) -> None:
        if not models:
            raise UsageError(
                "FallbackModel needs at least one model, such as FallbackModel('openai:gpt-4o', 'ollama:llama3.2')"
            )
        self._models = tuple(map(resolve, models))
        self._on = on
        self.supports_json_schema = all(model.supports_json_schema for model in self._models)

    @property
    def name(self) -> str:
        """The names of all its models."""
        return f"fallback({', '.join(model.name for model in self._models)})"

    def __repr__(self) -> str:
        return f"FallbackModel({', '.join(repr(model.name) for model in self._models)})"

    def __agentflow_version__(self) -> str:
        """Return what stands for all its models."""
        return f"fallback({', '.join(model.__agentflow_version__() for model in self._models)})"

    def request(self, request: ModelRequest) -> ModelResponse:
        """Answer a request by the first model that can."""
        tries = _Tries(self._models)
        while True:
            try:
                return tries.answered(tries.model.request(request))
            except self._on as error:
                tries.failed(error)

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Do what `request` does, without blocking the loop."""
        tries = _Tries(self._models)
        while True:
            try:
                return tries.answered(await tries.model.arequest(request))
            except self._on as error:
                tries.failed(error)

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Yield the text of the first model's answer that begins, and return the whole."""
        tries = _Tries(self._models)
        while True:
            with closing(tries.model.stream(request)) as texts:
                text = ""
                while not text:  # what is without text has told nobody anything yet that cannot be taken back
                    try:
                        text = next(texts)
                    except StopIteration as end:
                        return tries.answered(end.value)
                    except self._on as error:
                        tries.failed(error)
                        break
                    yield text
                else:
                    return tries.answered((yield from texts))

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does, without blocking the loop."""
        return AsyncModelStream(self._arriving(request))

    async def _arriving(self, request: ModelRequest) -> AsyncGenerator[str | ModelResponse, None]:
        """Yield the text of the first model's answer that begins, then the whole."""
        tries = _Tries(self._models)
        while True:
            async with aclosing(tries.model.astream(request)) as texts:
                text = ""
                while not text:
                    try:
                        text = await anext(texts)
                    except StopAsyncIteration:
                        yield tries.answered(texts.response)
                        return
                    except self._on as error:
                        tries.failed(error)
                        break
                    yield text
                else:
                    async for text in texts:
                        yield text
                    yield tries.answered(texts.response)
                    return


class _Tries:
    """One request on its way through the models."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        self.model, *self._left = models
        self._errors: list[str] = []

    def answered(self, response: ModelResponse) -> ModelResponse:
        """Return an answer that says whose it is."""
        return response.model_copy(update={"answered_by": response.answered_by or self.model.name})

    def failed(self, error: Exception) -> None:
        """Go on to the next model, saying so to the run and the log; if there is none, raise."""
        said = f"{type(error).__name__}: {error}"
        if not self._left:
            for earlier in self._errors:
                error.add_note(f"agentflow: before that, {earlier}")
            raise error
        self._errors.append(f"{self.model.name} failed: {said}")
        failed, self.model = self.model, self._left.pop(0)
        if (recording := RECORDING.get()) is not None:
            recording.retried(failed.name, said, next_model=self.model.name)
        logger().warning("model.replaced", model=failed.name, error=type(error).__name__, next_model=self.model.name)
