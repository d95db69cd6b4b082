"""What a message can hold beside text: images and files, and marks for a provider's prompt cache.

The bytes of an image or a file are written as base64 text, so that a message is JSON wherever it goes.
"""

import base64
import binascii
import mimetypes
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

__all__ = ["CachePoint", "CacheTime", "FilePart", "ImagePart", "Value"]

CacheTime = Literal["5m", "1h"]
"""How long a provider is asked to keep a marked beginning of a prompt: five minutes, or an hour."""

_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
}


class Value(BaseModel):
    """A frozen value; a misspelt field is an error, not a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # built when first used, not at import


def _from_base64(value: object) -> object:
    """Return the bytes of base64 text; other values are left to pydantic."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("data is text that is no base64: pass the bytes themselves") from error


def _to_base64(data: bytes | None) -> str | None:
    """Return the form in which bytes are written."""
    return None if data is None else base64.b64encode(data).decode()


_Bytes = Annotated[bytes | None, BeforeValidator(_from_base64), PlainSerializer(_to_base64, return_type=str | None)]


class _Media(Value):
    """An image or a file: by its bytes, or where the provider can fetch it."""

    data: _Bytes = None
    url: str | None = None
    media_type: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _described(cls, given: Any) -> Any:
        """Add the media type where the bytes or the name in the address tell it."""
        if not isinstance(given, dict) or given.get("media_type"):
            return given
        return {**given, "media_type": _kind_of_bytes(given.get("data")) or _kind_of_name(given.get("url"))}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse what no provider could use."""
        if (self.data is None) == (self.url is None):
            raise ValueError(f"{type(self).__name__} needs either data= (the bytes) or url=")
        if self.data is not None and self.media_type is None:
            raise ValueError(f"{type(self).__name__}: the bytes do not say what they are, so give media_type=")
        return self

    @property
    def base64(self) -> str:
        """The bytes as base64 text; empty where there is only an address."""
        return _to_base64(self.data) or ""

    @property
    def address(self) -> str:
        """The address, or the bytes as a `data:` address."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.base64}"

    def __repr__(self) -> str:
        what = f"url={self.url!r}" if self.data is None else f"data=<{len(self.data)} bytes>"
        return f"{type(self).__name__}({what}, media_type={self.media_type!r})"

    __str__ = __repr__


class ImagePart(_Media):
    """An image, by its bytes or by its address.

    The address is fetched by the provider, not here; Ollama takes bytes only.
    Two images are equal, and have the same key, if their bytes are.

    ```python
    from agentflow.messages import ImagePart

    image = ImagePart(data=bytes.fromhex("89504e470d0a1a0a"))
    assert image.media_type == "image/png"
    assert ImagePart(url="https://example.com/cat.jpeg").media_type == "image/jpeg"
    ```

    Attributes:
        data: The bytes; base64 text is taken as well.
        url: Where the image is, in place of its bytes.
        media_type: Such as `"image/png"`; found out where the bytes or the address tell it.
        detail: How closely the model should look, where the provider has that choice.
    """

    kind: Literal["image"] = "image"
    detail: Literal["auto", "low", "high"] | None = None

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Read an image from a file.

        ```python
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from agentflow.messages import ImagePart

        with TemporaryDirectory() as folder:
            path = Path(folder, "cat.webp")
            path.write_bytes(b"RIFF....WEBP")
            assert ImagePart.from_path(path).media_type == "image/webp"
        ```

        Raises:
            OSError: If the file cannot be read.
        """
        return cls(data=Path(path).read_bytes(), media_type=_kind_of_name(str(path)))


class FilePart(_Media):
    """A document or a recording, by its bytes or by its address.

    Which kinds a model reads is the provider's to say: PDF is common, sound is not.

    ```python
    from agentflow.messages import FilePart

    assert FilePart(data=b"%PDF-1.7 ...", name="report.pdf").media_type == "application/pdf"
    ```

    Attributes:
        data: The bytes; base64 text is taken as well.
        url: Where the file is, in place of its bytes.
        media_type: Such as `"application/pdf"`; found out where the bytes or the address tell it.
        name: The file's name, which some models are shown.
    """

    kind: Literal["file"] = "file"
    name: str | None = None

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Read a file; its name is kept, without the folder.

        ```python
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from agentflow.messages import FilePart

        with TemporaryDirectory() as folder:
            path = Path(folder, "notes.txt")
            path.write_text("Buy milk.")
            assert FilePart.from_path(path).name == "notes.txt"
        ```

        Raises:
            OSError: If the file cannot be read.
        """
        return cls(data=Path(path).read_bytes(), media_type=_kind_of_name(str(path)), name=Path(path).name)


class CachePoint(Value):
    """A mark in a user's message: what comes before it is worth keeping in the provider's prompt cache.

    Providers that need no marks, or know none, are not sent any; `ModelSettings.cache_prompt` marks without this.

    ```python
    from agentflow.messages import CachePoint, UserMessage

    UserMessage.of("A very long book ...", CachePoint(), "Who is the murderer?")
    ```

    Attributes:
        ttl: How long it is kept after its last use.
    """

    kind: Literal["cache_point"] = "cache_point"
    ttl: CacheTime = "5m"


def _kind_of_bytes(data: object) -> str | None:
    """Return the media type that the first bytes tell, None if they are not known."""
    data = _from_base64(data)
    if not isinstance(data, bytes):
        return None
    if data[:4] == b"RIFF" and data[8:12] in {b"WEBP", b"WAVE"}:
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    return next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)


def _kind_of_name(name: object) -> str | None:
    """Return the media type that a file's name or an address tells."""
    kind = mimetypes.guess_type(name.partition("?")[0])[0] if isinstance(name, str) else None
    return "audio/wav" if kind == "audio/x-wav" else kind
