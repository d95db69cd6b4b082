"""What all providers over HTTP have in common: how users say which one and with which key, and how a call is made of it.

`ProviderModel` is the model as users hold it, `WireCodec` the beginning of its codec; neither knows a format.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

import attrs

from agentflow.exceptions import UsageError
from agentflow.models._attempts import redacted
from agentflow.models._base import Codec, HttpCall, HttpModel, HttpOptions, address
from agentflow.models._sse import EventParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentflow.messages import ModelRequest, ModelResponse
    from agentflow.models._answers import Answer
    from agentflow.models._base import AsyncHttpClient, EventSource, SyncHttpClient

__all__ = ["ProviderModel", "WireCodec", "checked_url", "error_sentence"]

_SECRET_LENGTH: Final = 8  # a shorter value of a query is a version or a switch, and a part of too many words


class ProviderModel(HttpModel):
    """A model of one provider, or of a server that speaks its format; its subclasses say which.

    The key and the address are looked up at each request, so a model can be made before they are known.
    Connections are shared by all models of the process, except where a client or transport is passed.
    Failed attempts are repeated: after status 408, 409, 429 and 5xx, a broken connection, and a timeout.

    Args:
        model: The model's name at the provider.
        api_key: The key; without it that of the environment. A server of one's own (a `base_url`) may need none.
        base_url: Where the API is; without it that of the environment, then the provider's own.
            Its query, if it has one, is sent with every request.
        http_client: An `httpx.Client` (or `httpx2.Client`) for blocking requests; it stays the caller's to close.
        async_http_client: An `httpx.AsyncClient` for awaited ones; it belongs to one event loop.
        transport: An httpx transport for clients made here, such as a `MockTransport` in tests.
        max_retries: How often a failed attempt is repeated at most; a stream only before its first piece of text.
        supports_json_schema: Whether the model can be held to a JSON schema, where that is not known by its name.

    Raises:
        UsageError: If `model` or `base_url` cannot be used.
    """

    provider: ClassVar[str]
    url_variable: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]]
    example: ClassVar[str]
    codec_type: ClassVar[type[WireCodec]]

    def __init__(  # noqa: PLR0913 - the options of a provider, each with one meaning
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: SyncHttpClient | None = None,
        async_http_client: AsyncHttpClient | None = None,
        transport: object = None,
        max_retries: int = 2,
        supports_json_schema: bool | None = None,
    ) -> None:
        me = type(self).__name__
        if not model:
            raise UsageError(f"{me} needs the model's name at the provider, such as {self.example!r}")
        if max_retries < 0:
            raise UsageError(f"{me}({model!r}): max_retries is {max_retries}; it counts from 0, which is never")
        super().__init__(HttpOptions(http_client, async_http_client, transport, max_retries))
        self._model, self._api_key = model, api_key
        self._base_url = None if base_url is None else checked_url(base_url, "base_url=")
        self.supports_json_schema = (
            self.knows_json_schemas(model) if supports_json_schema is None else supports_json_schema
        )

    @staticmethod
    def knows_json_schemas(model: str) -> bool:  # noqa: ARG004 - for those who have to look at it
        """Tell whether a model of this name can be held to a JSON schema."""
        return True

    @property
    def name(self) -> str:
        """The model as users write it: the provider, a colon, and the name there."""
        return f"{self.provider}:{self._model}"

    def __repr__(self) -> str:
        where = "" if self._base_url is None else f", base_url={address(self._base_url)!r}"
        return f"{type(self).__name__}({self._model!r}{where})"

    def __agentflow_version__(self) -> str:
        """Return the model's name and, if it is not the provider's own, its address: another server is another model."""
        url = self.address()
        return self.name if url == self.codec_type.own_url else f"{self.name} at {address(url)}"

    def codec(self) -> Codec:
        """Return the codec for the next request.

        Raises:
            UsageError: If no key is known, or it cannot be sent.
        """
        url = self.address()
        return self.codec_type(self.name, self._model, url, self._key(needed=self.needs_key(url)))

    def needs_key(self, url: str) -> bool:
        """Tell whether nobody is served at an address without a key."""
        return url == self.codec_type.own_url

    def address(self) -> str:
        """Return the address in force."""
        if self._base_url is not None:
            return self._base_url
        url = os.environ.get(self.url_variable, "").strip()
        return self.checked_variable(url) if url else self.codec_type.own_url

    @classmethod
    def checked_variable(cls, url: str) -> str:
        """Return the address that the environment gives, if it can be used."""
        return checked_url(url, cls.url_variable)

    def _key(self, *, needed: bool) -> str | None:
        """Return the key in force; one that was read from a file often ends in a newline."""
        found = (os.environ.get(variable, "").strip() for variable in self.key_variables)
        key = next(filter(None, found), "") if self._api_key is None else self._api_key.strip()
        variables = " or ".join(self.key_variables)
        if not key and needed:
            raise UsageError(
                f"no API key for {self.name}: set {variables}, or pass api_key= to {type(self).__name__}. "
                "The examples and your tests run offline, on agentflow.testing.ScriptedModel"
            )
        if not all("!" <= character <= "~" for character in key):
            raise UsageError(
                f"the API key for {self.name} has spaces or characters that no key has: check api_key= and {variables}"
            )
        return key or None


@attrs.frozen
class WireCodec(ABC):
    """What the codecs of all providers share.

    Attributes:
        name: The model's name for errors.
        model: Its name at the provider.
        base_url: Where the API is.
        api_key: The key, or None for a server without.
    """

    own_url: ClassVar[str]
    """Where the provider's own API is."""

    answer: ClassVar[type[Answer[Any, Any]]]
    """What reads the provider's answers."""

    nested: ClassVar[tuple[str, ...]] = ()
    """The fields of a request in which `settings.extra` changes single options, not the whole."""

    name: str
    model: str
    base_url: str = attrs.field(default=attrs.Factory(lambda self: self.own_url, takes_self=True), repr=address)
    api_key: str | None = attrs.field(default=None, repr=False)

    @abstractmethod
    def encode(self, request: ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If the request holds something that the provider cannot be told.
        """

    def decode(self, body: bytes) -> ModelResponse:
        """Read a complete answer.

        Raises:
            ModelHTTPError: If the body is no answer.
            UnexpectedModelBehavior: If the model refused, or was kept from answering.
        """
        return self.answer(self).read(body)

    def decoder(self) -> Answer[Any, Any]:
        """Return a reader for one streamed answer."""
        return self.answer(self)

    def headers(self) -> dict[str, str]:
        """Return the headers by which the provider knows who asks."""
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}

    def post(self, path: str, body: Mapping[str, Any], request: ModelRequest, *, stream: bool) -> HttpCall:
        """Return a call.

        Args:
            path: Where below the base address, perhaps with a query.
            body: The request as JSON, to which what the user adds is added here.
            request: The request.
            stream: Whether the answer is to come in events.

        Raises:
            UsageError: If `settings.extra` holds something JSON cannot say.
        """
        parts = urlsplit(self.base_url)
        path, _, query = path.partition("?")
        query = "&".join(filter(None, (parts.query, query)))
        url = parts._replace(path=f"{parts.path.rstrip('/')}/{path}", query=query, fragment="").geturl()
        accepted = "text/event-stream" if stream else "application/json"
        headers = {"content-type": "application/json", "accept": accepted, **self.headers()}
        return HttpCall(url, headers, self._written(body, request.settings.extra), request.settings.timeout)

    def _written(self, body: Mapping[str, Any], extra: Mapping[str, Any]) -> bytes:
        """Return a request as JSON; what the user says wins."""
        inner = {name: {**body[name], **extra[name]} for name in self.nested if name in body and name in extra}
        try:
            return json.dumps({**body, **extra, **inner}, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the request to {self.name} cannot be said in JSON ({error}): check settings.extra"
            ) from None

    def events(self) -> EventSource:
        """Return what makes events of the bytes of one streamed answer."""
        return EventParser()

    def asked_wait(self, body: bytes) -> float | None:  # noqa: ARG002 - for those whose bodies say it
        """Return how many seconds to wait an error answer asks for, beside what its headers say."""
        return None

    def error_text(self, body: bytes) -> str:
        """Return what an error answer says: the provider's sentence if it is where it should be, else all of it."""
        return self.redact(error_sentence(body))

    def redact(self, text: str) -> str:
        """Return a text without the key, and without what stands in the address to prove who is asking."""
        parts = urlsplit(self.base_url)
        values = [value or name for name, value in parse_qsl(parts.query, keep_blank_values=True)]
        others = [text for text in (parts.username, *values) if text and len(text) >= _SECRET_LENGTH]
        return redacted(text, (self.api_key or "", parts.password or "", parts.query, *others))


def checked_url(url: str, source: str) -> str:
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


def error_sentence(body: bytes) -> str:
    """Return what an error answer says: the provider's sentence if it is where it should be, else all of it."""
    text = body.decode("utf-8", errors="replace")
    try:
        return _sentence(json.loads(text)) or text
    except (ValueError, RecursionError):  # the second from lists in lists in lists
        return text


def _sentence(said: Any) -> str | None:
    """Return the error sentence in a JSON answer; servers put it in different places."""
    match said:
        case str():
            return said
        case {"error": inner} | {"message": inner} | {"detail": inner} | [inner, *_]:
            return _sentence(inner)
        case _:
            return None
