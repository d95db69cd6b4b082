"""OpenAI's chat completions, which many other servers speak as well: what is sent, and what the answers mean.

`OpenAIModel` is the model; `ChatCompletions` is its codec and does no I/O. What comes back is read in `_completion`.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, assert_never
from urllib.parse import parse_qsl, urlsplit

import attrs

from agentflow.exceptions import UsageError
from agentflow.messages import ModelResponse, SystemMessage, ToolReturn, UserMessage
from agentflow.models._attempts import redacted
from agentflow.models._base import HttpCall, HttpModel, HttpOptions, address
from agentflow.models._completion import CompletionDecoder, error_sentence, read_completion
from agentflow.models._strict import strict_schema

if TYPE_CHECKING:
    from agentflow.messages import Message, ModelRequest, ModelSettings, OutputSchema, ToolDefinition
    from agentflow.models._base import AsyncHttpClient, SyncHttpClient

__all__ = ["ChatCompletions", "OpenAIModel"]

_OPENAI: Final = "https://api.openai.com/v1"
_OWN_HOSTS: Final = (".openai.com", ".openai.azure.com")
_SECRET_LENGTH: Final = 8  # a shorter value of a query is a version or a switch, and a part of too many words


class OpenAIModel(HttpModel):
    """A model behind OpenAI's chat completions API, or behind another server that speaks it.

    The key and the address are looked up at each request, so a model can be made before they are known.
    Connections are shared by all such models of the process, except where a client or transport is passed.
    Failed attempts are repeated: after status 408, 409, 429 and 5xx, a broken connection, and a timeout.

    ```python
    from agentflow.models.openai import OpenAIModel

    model = OpenAIModel("llama3.3", base_url="http://localhost:11434/v1")
    assert model.name == "openai:llama3.3"
    ```

    Args:
        model: The model's name at the provider.
        api_key: The key; without it `OPENAI_API_KEY`. A server of one's own (a `base_url`) may need none.
        base_url: Where the API is, up to and without `/chat/completions`; without it `OPENAI_BASE_URL`, then OpenAI.
            Its query, if it has one, is sent with every request.
        http_client: An `httpx.Client` (or `httpx2.Client`) for blocking requests; it stays the caller's to close.
        async_http_client: An `httpx.AsyncClient` for awaited ones; it belongs to one event loop.
        transport: An httpx transport for clients made here, such as a `MockTransport` in tests.
        max_retries: How often a failed attempt is repeated at most; a stream only before its first piece of text.

    Raises:
        UsageError: If `model` or `base_url` cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: SyncHttpClient | None = None,
        async_http_client: AsyncHttpClient | None = None,
        transport: object = None,
        max_retries: int = 2,
    ) -> None:
        if not model:
            raise UsageError("OpenAIModel needs the model's name at the provider, such as 'gpt-4o-mini'")
        if max_retries < 0:
            raise UsageError(f"OpenAIModel({model!r}): max_retries is {max_retries}; it counts from 0, which is never")
        super().__init__(HttpOptions(http_client, async_http_client, transport, max_retries))
        self._model, self._api_key = model, api_key
        self._base_url = None if base_url is None else _checked_url(base_url, "base_url=")

    @property
    def name(self) -> str:
        """The model as users write it, `"openai:"` and its name at the provider."""
        return f"openai:{self._model}"

    def __repr__(self) -> str:
        where = "" if self._base_url is None else f", base_url={address(self._base_url)!r}"
        return f"OpenAIModel({self._model!r}{where})"

    def __agentflow_version__(self) -> str:
        """Return the model's name and, if it is not OpenAI's own, its address: another server is another model."""
        url = self._address()
        return self.name if url == _OPENAI else f"{self.name} at {address(url)}"

    def codec(self) -> ChatCompletions:
        """Return the codec for the next request.

        Raises:
            UsageError: If no key is known, or it cannot be sent.
        """
        url = self._address()
        return ChatCompletions(self.name, self._model, url, self._key(needed=url == _OPENAI))

    def _address(self) -> str:
        """Return the address in force."""
        if self._base_url is not None:
            return self._base_url
        url = os.environ.get("OPENAI_BASE_URL", "").strip()
        return _checked_url(url, "OPENAI_BASE_URL") if url else _OPENAI

    def _key(self, *, needed: bool) -> str | None:
        """Return the key in force; one that was read from a file often ends in a newline."""
        key = (os.environ.get("OPENAI_API_KEY") or "" if self._api_key is None else self._api_key).strip()
        if not key and needed:
            raise UsageError(
                f"no API key for {self.name}: set OPENAI_API_KEY, or pass api_key= to OpenAIModel. "
                "The examples and your tests run offline, on agentflow.testing.ScriptedModel"
            )
        if not all("!" <= character <= "~" for character in key):
            raise UsageError(
                f"the API key for {self.name} has spaces or characters that no key has: check api_key= and OPENAI_API_KEY"
            )
        return key or None


def _checked_url(url: str, source: str) -> str:
    """Return a usable address; one that is not is never shown, since a key may stand where it does not belong."""
    wrong = f"{source} is no address that can be asked: write it like 'https://example.com/v1'"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise UsageError(wrong)
    return url


# ---- what is sent --------------------------------------------------------------------------------


@attrs.frozen
class ChatCompletions:
    """The codec of one model.

    Attributes:
        name: The model's name for errors.
        model: Its name at the provider.
        base_url: Where the API is.
        api_key: The key, or None for a server without.
    """

    name: str
    model: str
    base_url: str = attrs.field(default=_OPENAI, repr=address)
    api_key: str | None = attrs.field(default=None, repr=False)

    def encode(self, request: ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If `settings.extra` holds something JSON cannot say.
        """
        parts = urlsplit(self.base_url)
        url = parts._replace(path=f"{parts.path.rstrip('/')}/chat/completions", fragment="").geturl()
        headers = {"content-type": "application/json", "accept": "text/event-stream" if stream else "application/json"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        return HttpCall(url, headers, self._body(request, stream=stream), request.settings.timeout)

    def _body(self, request: ModelRequest, *, stream: bool) -> bytes:
        """Return the request as JSON."""
        body: dict[str, Any] = {"model": self.model, "messages": [_message(message) for message in request.messages]}
        body |= _tools(request) | _output(request.output) | self._settings(request.settings)
        if stream:
            body |= {"stream": True, "stream_options": body.get("stream_options", {"include_usage": True})}
        try:
            return json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the request to {self.name} cannot be said in JSON ({error}): check settings.extra"
            ) from None

    def _settings(self, settings: ModelSettings) -> dict[str, Any]:
        """Return the options that were chosen."""
        host = f".{urlsplit(self.base_url).hostname}"
        # OpenAI's newer models refuse `max_tokens`; most other servers know nothing else.
        limit = "max_completion_tokens" if host.endswith(_OWN_HOSTS) else "max_tokens"
        chosen = {
            "temperature": settings.temperature,
            limit: settings.max_tokens,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "stop": settings.stop and list(settings.stop),
        }
        return {key: value for key, value in chosen.items() if value is not None} | settings.extra

    def decode(self, body: bytes) -> ModelResponse:
        """Read a complete answer.

        Raises:
            ModelHTTPError: If the body is no chat completion.
            UnexpectedModelBehavior: If the model refused.
        """
        return read_completion(self, body)

    def decoder(self) -> CompletionDecoder:
        """Return a reader for one streamed answer."""
        return CompletionDecoder(self)

    def error_text(self, body: bytes) -> str:
        """Return what an error answer says: the provider's sentence if it is where it should be, else all of it."""
        return self.redact(error_sentence(body))

    def redact(self, text: str) -> str:
        """Return a text without the key, and without what stands in the address to prove who is asking."""
        parts = urlsplit(self.base_url)
        values = [value or name for name, value in parse_qsl(parts.query, keep_blank_values=True)]
        others = [text for text in (parts.username, *values) if text and len(text) >= _SECRET_LENGTH]
        return redacted(text, (self.api_key or "", parts.password or "", parts.query, *others))


def _message(message: Message) -> dict[str, Any]:
    """Return a message in the provider's form."""
    match message:
        case SystemMessage():
            return {"role": "system", "content": message.content}
        case UserMessage():
            return {"role": "user", "content": message.text}
        case ToolReturn():
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}
        case ModelResponse():
            return _assistant(message)
        case _:
            assert_never(message)


def _assistant(response: ModelResponse) -> dict[str, Any]:
    """Return what the model said before; text may be missing only beside tool calls."""
    if not response.tool_calls:
        return {"role": "assistant", "content": response.text}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in response.tool_calls
    ]
    return {"role": "assistant", "content": response.text or None, "tool_calls": calls}


def _tools(request: ModelRequest) -> dict[str, Any]:
    """Return the tools; a choice without tools is refused by the provider, and `auto` is its default."""
    if not request.tools:
        return {}
    tools = {"tools": [{"type": "function", "function": _tool(tool)} for tool in request.tools]}
    return tools if request.tool_choice == "auto" else {**tools, "tool_choice": request.tool_choice}


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    """Return a tool in the provider's form."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": parameters}


def _output(output: OutputSchema | None) -> dict[str, Any]:
    """Return the form of the answer: enforced where the schema has a strict form, else as a hint."""
    if output is None:
        return {}
    strict = strict_schema(output.json_schema) if output.strict else None
    schema = {
        "name": re.sub(r"[^a-zA-Z0-9_-]", "_", output.name)[:64] or "output",
        "schema": output.json_schema if strict is None else strict,
        "strict": strict is not None,
    }
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
