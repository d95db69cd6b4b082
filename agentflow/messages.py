"""What is said to a model and by it, as frozen values that can be stored and compared.

Nothing here knows a provider: codecs translate these values into a provider's own format and back.
"""

import json
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FinishReason",
    "Message",
    "ModelRequest",
    "ModelResponse",
    "ModelSettings",
    "OutputSchema",
    "ResponsePart",
    "SystemMessage",
    "TextPart",
    "ToolCall",
    "ToolChoice",
    "ToolDefinition",
    "ToolReturn",
    "Usage",
    "UserMessage",
]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why a model stopped: it was done, reached `max_tokens`, wants tools to be called, or was stopped by a filter."""

ToolChoice: TypeAlias = Literal["auto", "required", "none"]
"""Whether the model may call a tool, must call one, or may not."""


class _Value(BaseModel):
    """A frozen value; a misspelt field is an error, not a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # built when first used, not at import


class Usage(_Value):
    """What one or more model requests used; usages can be added.

    `input_tokens` includes the cached ones, `output_tokens` the reasoning ones: those two are shares, not extras.

    ```python
    from agentflow.messages import Usage

    usage = Usage(requests=1, input_tokens=10, output_tokens=5) + Usage(requests=1, input_tokens=7)
    assert usage.total_tokens == 22
    ```
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


class TextPart(_Value):
    """A piece of text that the model wrote.

    ```python
    from agentflow.messages import TextPart

    assert TextPart(text="Hello").kind == "text"
    ```
    """

    kind: Literal["text"] = "text"
    text: str


class ToolCall(_Value):
    """The model's wish to call a tool.

    The arguments are the JSON text exactly as the model wrote it: it may not be valid, let alone fit the tool.

    ```python
    from agentflow.messages import ToolCall

    call = ToolCall.of("web_search", query="cats")
    assert call.arguments == '{"query": "cats"}'
    ```

    Attributes:
        id: The provider's name for this call, which its `ToolReturn` repeats; empty in a script that does not care.
        name: The tool.
        arguments: The arguments, as JSON text.
    """

    kind: Literal["tool_call"] = "tool_call"
    id: str = ""
    name: str
    arguments: str = "{}"

    @classmethod
    def of(cls, name: str, /, **arguments: object) -> Self:
        """Make a call with arguments given in Python, for scripts and tests.

        ```python
        from agentflow.messages import ToolCall

        assert ToolCall.of("today") == ToolCall(name="today", arguments="{}")
        ```

        Raises:
            TypeError: If an argument is something JSON cannot say.
        """
        return cls(name=name, arguments=json.dumps(arguments, ensure_ascii=False))


ResponsePart: TypeAlias = Annotated[TextPart | ToolCall, Field(discriminator="kind")]
"""One part of a model's answer."""


class SystemMessage(_Value):
    """Instructions to the model, above what the user says.

    ```python
    from agentflow.messages import SystemMessage

    assert SystemMessage(content="Be brief.").kind == "system"
    ```
    """

    kind: Literal["system"] = "system"
    content: str


class UserMessage(_Value):
    """What the user, or the program in the user's place, says to the model.

    ```python
    from agentflow.messages import UserMessage

    assert UserMessage(content="Hello").kind == "user"
    ```
    """

    kind: Literal["user"] = "user"
    content: str


class ToolReturn(_Value):
    """The answer of a tool to a `ToolCall`, as text for the model.

    ```python
    from agentflow.messages import ToolReturn

    ToolReturn(tool_call_id="call_1", tool_name="today", content="2026-11-22")
    ```

    Attributes:
        tool_call_id: The `id` of the call that is answered.
        tool_name: The tool that was called.
        content: What the tool answered.
        is_error: Whether the content says what went wrong.
    """

    kind: Literal["tool_return"] = "tool_return"
    tool_call_id: str
    tool_name: str
    content: str
    is_error: bool = False


class ModelResponse(_Value):
    """One complete answer of a model.

    ```python
    from agentflow.messages import ModelResponse, TextPart, ToolCall

    response = ModelResponse(parts=(TextPart(text="Let me see."), ToolCall.of("today")))
    assert response.text == "Let me see."
    assert response.tool_calls[0].name == "today"
    ```

    Attributes:
        parts: Text and tool calls, in the model's order.
        usage: What this answer used.
        model: The model that answered, as the provider names it.
        finish_reason: Why the model stopped; None where the provider's reason is none of ours.
    """

    kind: Literal["response"] = "response"
    parts: tuple[ResponsePart, ...] = ()
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """All text of the answer, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the answer, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


Message: TypeAlias = Annotated[SystemMessage | UserMessage | ModelResponse | ToolReturn, Field(discriminator="kind")]
"""One entry of a conversation; told apart by its `kind` when read back."""


class ToolDefinition(_Value):
    """A tool as the model sees it.

    ```python
    from agentflow.messages import ToolDefinition

    ToolDefinition(name="today", description="Return the date.", parameters={"type": "object", "properties": {}})
    ```

    Attributes:
        name: The name that a `ToolCall` uses.
        description: What it is for.
        parameters: The JSON schema of its arguments.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class OutputSchema(_Value):
    """The form that the answer's text must have.

    ```python
    from agentflow.messages import OutputSchema

    OutputSchema(name="answer", json_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    ```

    Attributes:
        name: A name for the form, which some providers show to the model.
        json_schema: The JSON schema.
        strict: Whether the provider should enforce it where the schema allows that.
    """

    name: str
    json_schema: dict[str, Any]
    strict: bool = True


class ModelSettings(_Value):
    """Options of a model request; what is None is left to the provider.

    ```python
    from agentflow.messages import ModelSettings

    ModelSettings(temperature=0.2, max_tokens=500, extra={"service_tier": "flex"})
    ```

    Attributes:
        temperature: How freely the model chooses its words.
        max_tokens: The most tokens it may write.
        top_p: The share of likely words that it chooses from.
        seed: A number that makes answers more repeatable, where the provider has that.
        stop: Texts at which the model stops.
        timeout: Seconds without any sign of the provider after which the request fails.
        extra: Further fields of the provider's own request body; they win over everything else.
    """

    temperature: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    timeout: float | None = Field(default=None, gt=0)
    extra: dict[str, Any] = Field(default_factory=dict)


class ModelRequest(_Value):
    """Everything a model is asked: the conversation so far and what it may answer with.

    ```python
    from agentflow.messages import ModelRequest, UserMessage

    ModelRequest(messages=(UserMessage(content="Hello"),))
    ```

    Attributes:
        messages: The conversation, oldest first.
        tools: The tools it may call.
        tool_choice: Whether it may, must or may not call one.
        output: The form of the answer, or None for free text.
        settings: Options.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = "auto"
    output: OutputSchema | None = None
    settings: ModelSettings = ModelSettings()
