"""Ollama's own chat API: what is sent, and what the answers mean.

`OllamaModel` is the model; `Chat` is its codec and does no I/O. What comes back is read in `_ollama`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, assert_never

import attrs

from agentflow import messages as m
from agentflow.exceptions import UsageError
from agentflow.models._ollama import OllamaAnswer
from agentflow.models._provider import ProviderModel, WireCodec, checked_url
from agentflow.models._sse import LineParser
from agentflow.models._wording import arguments_object, chosen, described, file_text, offered_tools, prompted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow.models._base import HttpCall

__all__ = ["Chat", "OllamaModel"]


@attrs.frozen
class Chat(WireCodec):
    """The codec of one model."""

    own_url: ClassVar = "http://localhost:11434"
    answer: ClassVar = OllamaAnswer
    nested: ClassVar[tuple[str, ...]] = ("options",)

    def encode(self, request: m.ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If the request holds something that cannot be said.
        """
        tools = [{"type": "function", "function": described(tool)} for tool in offered_tools(request)]
        body: dict[str, Any] = {"model": self.model, "messages": list(self._messages(request)), "stream": stream}
        if tools:
            body["tools"] = tools
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

    def _messages(self, request: m.ModelRequest) -> Iterator[dict[str, Any]]:
        """Yield the conversation; a model that is held to a form could call no tools, so beside tools it is told."""
        if request.output is not None and offered_tools(request):
            yield {"role": "system", "content": prompted(request.output)}
        for message in request.messages:
            yield self._message(message)

    def _message(self, message: m.Message) -> dict[str, Any]:
        """Return a message in the provider's form."""
        match message:
            case m.SystemMessage():
                return {"role": "system", "content": message.content}
            case m.UserMessage():
                return {"role": "user", **self._content(message.parts)}
            case m.ToolReturn():
                return {"role": "tool", "tool_name": message.tool_name, **self._content(message.parts)}
            case m.ModelResponse():
                return _said(message)
            case _:
                assert_never(message)

    def _content(self, parts: Sequence[m.UserPart]) -> dict[str, Any]:
        """Return what a user says, or a tool answers: texts as one, and images beside it."""
        texts, images = list[str](), list[str]()
        for part in parts:
            match part:
                case m.TextPart():
                    texts.append(part.text)
                case m.ImagePart() if part.data is not None:
                    images.append(part.base64)
                case m.FilePart() if (text := file_text(part)) is not None:
                    texts.append(text)
                case m.ImagePart() | m.FilePart():
                    raise UsageError(f"{self.name} takes images as data= and files of text, and nothing else: {part!r}")
                case m.CachePoint():
                    pass
                case _:
                    assert_never(part)
        return {"content": "\n\n".join(texts), **({"images": images} if images else {})}

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


def _said(response: m.ModelResponse) -> dict[str, Any]:
    """Return what the model said before, and what it thought when it called tools."""
    calls = [{"function": {"name": call.name, "arguments": arguments_object(call)}} for call in response.tool_calls]
    said: dict[str, Any] = {"role": "assistant", "content": response.text}
    if not calls:
        return said
    return {**said, "tool_calls": calls, **({"thinking": response.reasoning} if response.reasoning else {})}


def _options(settings: m.ModelSettings) -> dict[str, Any]:
    """Return the options that were chosen."""
    return chosen(
        {
            "temperature": settings.temperature,
            "num_predict": settings.max_tokens,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "stop": settings.stop,
        }
    )
