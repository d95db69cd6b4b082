"""What is said to a model and by it, as frozen values that can be stored and compared.

Nothing here knows a provider: codecs translate these values into a provider's own format and back.
"""

import json
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field

from agentflow._media import CachePoint, CacheTime, FilePart, ImagePart, Value
from agentflow._usage import Usage

__all__ = [
    "CachePoint",
    "FilePart",
    "FinishReason",
    "ImagePart",
    "Message",
    "ModelRequest",
    "ModelResponse",
    "ModelSettings",
    "OutputSchema",
    "ReasoningEffort",
    "ReasoningPart",
    "ResponsePart",
    "SystemMessage",
    "TextPart",
    "ToolCall",
    "ToolChoice",
    "ToolDefinition",
    "ToolPart",
    "ToolReturn",
    "Usage",
    "UserMessage",
    "UserPart",
]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why a model stopped: it was done, reached `max_tokens`, wants tools to be called, or was stopped by a filter."""

ToolChoice: TypeAlias = Literal["auto", "required", "none"]
"""Whether the model may call a tool, must call one, or may not."""

ReasoningEffort: TypeAlias = Literal["off", "low", "medium", "high"]
"""How hard a model should think before it answers."""


class TextPart(Value):
    """A piece of text, in a model's answer or in a message with other parts.

    ```python
    from agentflow.messages import TextPart

    assert TextPart(text="Hello").kind == "text"
    ```

    Attributes:
        text: The text.
        signature: What a provider wants back with it unchanged; None in text of your own.
    """

    kind: Literal["text"] = "text"
    text: str
    signature: str | None = None


class ReasoningPart(Value):
    """What a model thought before it answered, as far as its provider shows it.

    It goes back to the provider that wrote it in the next request of the conversation, unchanged: some refuse the
    result of a tool without it. Other providers are not sent it.

    ```python
    from agentflow.messages import ModelResponse, ReasoningPart, TextPart

    response = ModelResponse(parts=(ReasoningPart(text="6 x 7 ..."), TextPart(text="42")))
    assert response.reasoning == "6 x 7 ..."
    assert response.text == "42"
    ```

    Attributes:
        text: What can be read of it, often a summary or nothing.
        signature: The provider's proof of it, or the thought itself, encrypted.
        id: The provider's name for it.
        provider: Whose it is, such as `"anthropic"`.
    """

    kind: Literal["reasoning"] = "reasoning"
    text: str = ""
    signature: str | None = None
    id: str | None = None
    provider: str | None = None


class ToolCall(Value):
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
        signature: What the provider wants back with the call, unchanged.
    """

    kind: Literal["tool_call"] = "tool_call"
    id: str = ""
    name: str
    arguments: str = "{}"
    signature: str | None = None

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


ResponsePart: TypeAlias = Annotated[TextPart | ToolCall | ReasoningPart, Field(discriminator="kind")]
"""One part of a model's answer."""

UserPart: TypeAlias = Annotated[TextPart | ImagePart | FilePart | CachePoint, Field(discriminator="kind")]
"""One part of what a user says."""

ToolPart: TypeAlias = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="kind")]
"""One part of what a tool answers."""


class SystemMessage(Value):
    """Instructions to the model, above what the user says.

    ```python
    from agentflow.messages import SystemMessage

    assert SystemMessage(content="Be brief.").kind == "system"
    ```
    """

    kind: Literal["system"] = "system"
    content: str


class UserMessage(Value):
    """What the user, or the program in the user's place, says to the model.

    ```python
    from agentflow.messages import ImagePart, UserMessage

    assert UserMessage(content="Hello").text == "Hello"
    asked = UserMessage.of("What is this?", ImagePart(url="https://example.com/cat.png"))
    assert [part.kind for part in asked.parts] == ["text", "image"]
    ```

    Attributes:
        content: A text, or text, images, files and cache marks in their order.
    """

    kind: Literal["user"] = "user"
    content: str | tuple[UserPart, ...]

    @classmethod
    def of(cls, *content: str | UserPart) -> Self:
        """Make a message of texts, images, files and cache marks; a single text is a plain message.

        ```python
        from agentflow.messages import UserMessage

        assert UserMessage.of("Hello") == UserMessage(content="Hello")
        ```
        """
        if len(content) == 1 and isinstance(content[0], str):
            return cls(content=content[0])
        return cls(content=tuple(TextPart(text=part) if isinstance(part, str) else part for part in content))

    @property
    def parts(self) -> tuple[UserPart, ...]:
        """The content as parts, also where it is one text."""
        return (TextPart(text=self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """All text of it, joined."""
        return _text_of(self.parts)


class ToolReturn(Value):
    """The answer of a tool to a `ToolCall`: text for the model (of a JSON value its JSON), or text, images and files.

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
    content: str | tuple[ToolPart, ...]
    is_error: bool = False

    @property
    def parts(self) -> tuple[ToolPart, ...]:
        """The content as parts, also where it is one text."""
        return (TextPart(text=self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """All text of it, joined."""
        return _text_of(self.parts)


class ModelResponse(Value):
    """One complete answer of a model.

    ```python
    from agentflow.messages import ModelResponse, TextPart, ToolCall

    response = ModelResponse(parts=(TextPart(text="Let me see."), ToolCall.of("today")))
    assert response.text == "Let me see."
    assert response.tool_calls[0].name == "today"
    ```

    Attributes:
        parts: Text, tool calls and reasoning, in the model's order.
        usage: What this answer used.
        model: The model that answered, as the provider names it.
        answered_by: The name of the `Model` that answered where it is not the one that was asked (`FallbackModel`).
        finish_reason: Why the model stopped; None where the provider's reason is none of ours.
    """

    kind: Literal["response"] = "response"
    parts: tuple[ResponsePart, ...] = ()
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: FinishReason | None = None
    answered_by: str | None = None

    @property
    def text(self) -> str:
        """All text of the answer, joined."""
        return _text_of(self.parts)

    @property
    def reasoning(self) -> str:
        """All that can be read of what the model thought, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the answer, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


def _text_of(parts: tuple[UserPart | ResponsePart, ...]) -> str:
    """Return the text of a message, joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


Message: TypeAlias = Annotated[SystemMessage | UserMessage | ModelResponse | ToolReturn, Field(discriminator="kind")]
"""One entry of a conversation; told apart by its `kind` when read back."""


class ToolDefinition(Value):
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


class OutputSchema(Value):
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


class ModelSettings(Value):
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
        parallel_tool_calls: Whether the model may call several tools in one answer, where the provider has that choice.
        reasoning: How hard a model that can think should think, where the provider has that choice.
        cache_prompt: Asks the provider to keep the beginning of the prompt (tools, instructions, the conversation so far)
            for the next request, where it does not do so by itself.
        timeout: Seconds without any sign of the provider after which the request fails.
        extra: Further fields of the provider's own request body; they win over everything else.
    """

    temperature: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningEffort | None = None
    cache_prompt: CacheTime | None = None
    timeout: float | None = Field(default=None, gt=0)
    extra: dict[str, Any] = Field(default_factory=dict)


class ModelRequest(Value):
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
