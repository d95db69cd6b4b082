"""Ollama's own chat API: what is sent, and what the answers mean.

`OllamaModel` is the model; `Chat` is its codec and does no I/O. What comes back is read in `_ollama`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never

import attrs

from agentflow.exceptions import UsageError
from agentflow.messages import (
    CachePoint,
    FilePart,
    ImagePart,
    ModelResponse,
    SystemMessage,
    TextPart,
    ToolReturn,
    UserMessage,
)
from agentflow.models._base import address
from agentflow.models._ollama import OllamaDecoder, read_chat
from agentflow.models._provider import ProviderModel, WireCodec, checked_url
from agentflow.models._sse import LineParser
from agentflow.models._wording import arguments_object, file_text, offered_tools, parameters_of, prompted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow.messages import Message, ModelRequest, ModelSettings, UserPart
    from agentflow.models._base import HttpCall

__all__ = ["Chat", "OllamaModel"]

_LOCAL: Final = "http://localhost:11434"


@attrs.frozen
class Chat(WireCodec):
    """The codec of one model."""

    nested: ClassVar[tuple[str, ...]] = ("options",)

    base_url: str = attrs.field(default=_LOCAL, repr=address)
    api_key: str | None = attrs.field(default=None, repr=False)

    def encode(self, request: ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If the request holds something that cannot be said.
        """
        tools = offered_tools(request)
        body: dict[str, Any] = {"model": self.model, "messages": list(self._messages(request)), "stream": stream}
        if tools:
            described = [(tool.name, tool.description, parameters_of(tool)) for tool in tools]
            names = ("name", "description", "parameters")
            body["tools"] = [
                {"type": "function", "function": dict(zip(names, each, strict=True))} for each in described
            ]
        if request.output is not None and not tools:
            body["format"] = request.output.json_schema
        if request.settings.reasoning is not None:
            body["think"] = self._thinking(request.settings.reasoning)
        if options := _options(request.settings):
            body["options"] = options
        return self.post("api/chat", body, request, stream=stream)

    def _thinking(self, effort: str) -> bool | str:
        """Return how hard the model should think; only one family of models has more than yes and no."""
        return effort if "gpt-oss" in self.model and effort != "off" else effort != "off"

    def _messages(self, request: ModelRequest) -> Iterator[dict[str, Any]]:
        """Yield the conversation; a model that is held to a form could call no tools, so beside tools it is told."""
        if request.output is not None and offered_tools(request):
            yield {"role": "system", "content": prompted(request.output)}
        for message in request.messages:
            yield self._message(message)

    def _message(self, message: Message) -> dict[str, Any]:
        """Return a message in the provider's form."""
        match message:
            case SystemMessage():
                return {"role": "system", "content": message.content}
            case UserMessage():
                return {"role": "user", **self._content(message.parts)}
            case ToolReturn():
                return {"role": "tool", "tool_name": message.tool_name, **self._content(message.parts)}
            case ModelResponse():
                return _said(message)
            case _:
                assert_never(message)

    def _content(self, parts: Sequence[UserPart]) -> dict[str, Any]:
        """Return what a user says, or a tool answers: texts as one, and images beside it."""
        texts, images = list[str](), list[str]()
        for part in parts:
            match part:
                case TextPart():
                    texts.append(part.text)
                case ImagePart() if part.data is not None:
                    images.append(part.base64)
                case FilePart() if (text := file_text(part)) is not None:
                    texts.append(text)
                case ImagePart() | FilePart():
                    raise UsageError(f"{self.name} takes images as data= and files of text, and nothing else: {part!r}")
                case CachePoint():
                    pass
                case _:
                    assert_never(part)
        return {"content": "\n\n".join(texts), **({"images": images} if images else {})}

    def decode(self, body: bytes) -> ModelResponse:
        """Read a complete answer.

        Raises:
            ModelHTTPError: If the body is no answer.
        """
        return read_chat(self, body)

    def decoder(self) -> OllamaDecoder:
        """Return a reader for one streamed answer."""
        return OllamaDecoder(self)

    def events(self) -> LineParser:
        """Return what makes events of the bytes of one streamed answer: each line is one."""
        return LineParser()


class OllamaModel(ProviderModel):
    """A model that Ollama serves, over Ollama's own API.

    The arguments are those of every provider: `base_url` (else `OLLAMA_HOST`, then this machine), `api_key` (else
    `OLLAMA_API_KEY`; a server of one's own needs none) and the others of `ProviderModel`.

    ```python
    from agentflow.models import resolve

    assert resolve("ollama:llama3.2").name == "ollama:llama3.2"
    ```
    """

    provider: ClassVar = "ollama"
    own_url: ClassVar = _LOCAL
    url_variable: ClassVar = "OLLAMA_HOST"
    key_variables: ClassVar = ("OLLAMA_API_KEY",)
    example: ClassVar = "llama3.2"
    codec_type: ClassVar = Chat

    def needs_key(self, url: str) -> bool:
        """Tell whether nobody is served at an address without a key: only Ollama's own service does."""
        return url.startswith("https://ollama.com")

    @classmethod
    def checked_variable(cls, url: str) -> str:
        """Return the address in `OLLAMA_HOST`, which is often written without its beginning."""
        return checked_url(url if "://" in url else f"http://{url}", cls.url_variable)


# ---- what is sent --------------------------------------------------------------------------------


def _said(response: ModelResponse) -> dict[str, Any]:
    """Return what the model said before, and what it thought when it called tools."""
    calls = [{"function": {"name": call.name, "arguments": arguments_object(call)}} for call in response.tool_calls]
    said: dict[str, Any] = {"role": "assistant", "content": response.text}
    if not calls:
        return said
    return {**said, "tool_calls": calls, **({"thinking": response.reasoning} if response.reasoning else {})}


def _options(settings: ModelSettings) -> dict[str, Any]:
    """Return the options that were chosen."""
    chosen = {
        "temperature": settings.temperature,
        "num_predict": settings.max_tokens,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "stop": settings.stop and list(settings.stop),
    }
    return {key: value for key, value in chosen.items() if value is not None}
