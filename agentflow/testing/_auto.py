"""A model that needs no script: it calls every tool once, then gives the simplest answer that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from agentflow._conversation import OUTPUT_TOOL
from agentflow.messages import ModelResponse, TextPart, ToolCall, Usage
from agentflow.models import Model
from agentflow.testing._samples import sample

if TYPE_CHECKING:
    from agentflow.messages import ModelRequest, ToolDefinition

__all__ = ["TestModel"]


class TestModel(Model):
    """A model that gives valid output for any agent, from its schema alone, and calls each of its tools once first.

    What it says has no meaning, and is the same in every run: it shows that a program holds together.

    ```python
    from pydantic import BaseModel, Field

    from agentflow import Agent
    from agentflow.testing import TestModel

    class Film(BaseModel):
        title: str
        year: int = Field(ge=1888)

    assert Agent(TestModel(), output_type=Film).run("Name a film").output == Film(title="a", year=1888)
    ```

    Args:
        text: What it says where free text is asked for.
        call_tools: Whether it calls the tools, all of them at once in its first answer.
        name: The model's name, which is part of the version of a step that uses it.

    Raises:
        UsageError: When it is asked for a form of which no value can be worked out, such as a pattern with a look-behind.
    """

    __test__: Final = False  # pytest takes a class whose name begins so for tests

    def __init__(self, text: str = "This is a test.", *, call_tools: bool = True, name: str = "test") -> None:
        self._text = text
        self._call_tools = call_tools
        self._name = name

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    def request(self, request: ModelRequest) -> ModelResponse:
        """Call the tools that were not called yet, else answer.

        Raises:
            UsageError: If no value of the form can be worked out.
        """
        called = {
            call.name
            for message in request.messages
            if isinstance(message, ModelResponse)
            for call in message.tool_calls
        }
        waiting = (
            [each for each in request.tools if each.name not in called | {OUTPUT_TOOL}] if self._call_tools else []
        )
        final = [each for each in request.tools if each.name == OUTPUT_TOOL]
        parts: tuple[TextPart | ToolCall, ...]
        if waiting or final:
            parts = tuple(self._call(each, len(request.messages)) for each in waiting or final)
        elif request.output is not None:
            parts = (TextPart(text=_json(sample(request.output.json_schema, owner=request.output.name))),)
        else:
            parts = (TextPart(text=self._text),)
        return ModelResponse(
            parts=parts,
            model=self._name,
            usage=Usage(requests=1),
            finish_reason="tool_calls" if waiting or final else "stop",
        )

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Do what `request` does; needs no thread."""
        return self.request(request)

    def _call(self, tool: ToolDefinition, place: int) -> ToolCall:
        arguments = sample(dict(tool.parameters), owner=f"tool {tool.name!r}")
        return ToolCall(id=f"call_{place}_{tool.name}", name=tool.name, arguments=_json(arguments))


def _json(value: Any) -> str:
    return pydantic_core.to_json(value).decode()
