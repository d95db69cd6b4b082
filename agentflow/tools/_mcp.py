"""The tools of a server that speaks the Model Context Protocol, through the official `mcp` package (extra `mcp`).

The package is asynchronous and its connections belong to one loop. A connection therefore has a thread with a loop of its own, and its
tools can be called from any thread and any loop, in both colours.
"""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, TypeAdapter

from agentflow.exceptions import ModelRetry, UsageError
from agentflow.messages import FilePart, ImagePart, TextPart, ToolDefinition
from agentflow.tools._base import Tool

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agentflow.messages import ToolPart

__all__ = ["MCPServer"]

_ANYTHING: Final = Signature([Parameter("arguments", Parameter.VAR_KEYWORD)])


class MCPServer:
    """A server of tools, connected while a `with` block runs.

    What a model writes is checked against the server's schema before the call; what the server calls an error is told to the model.

    ```python
    from agentflow.tools import MCPServer

    server = MCPServer(["python", "weather_server.py"], prefix="weather_")
    assert repr(server) == "<MCPServer python>"
    # with server: Agent("openai:gpt-4o-mini", tools=server.tools).run("How cold is it in Oslo?")
    ```

    Args:
        server: A command with its arguments, which is started and spoken to over its standard input and output; the address of a
            server (`"https://..."`); or whatever else `mcp.Client` takes.
        env: Variables for the command, beside the few harmless ones that it gets anyway.
        prefix: Comes before the names of its tools, so that two servers can have tools of one name.
        timeout: How many seconds the server may take to answer, also at the beginning.

    Raises:
        UsageError: If the extra is not installed, once it is connected.
        ConnectionError: If the server cannot be reached, once it is connected.
    """

    def __init__(
        self,
        server: str | Sequence[str] | object,
        *,
        env: Mapping[str, str] | None = None,
        prefix: str = "",
        timeout: float = 30,
    ) -> None:
        self._server, self._env, self._prefix, self._timeout = server, env, prefix, timeout
        self._connection: _Connection | None = None

    def __repr__(self) -> str:
        return f"<MCPServer {self._place}>"

    @property
    def _place(self) -> str:
        """What it is, without what may be a secret: arguments, user and query."""
        if isinstance(self._server, str):
            return urlsplit(self._server).netloc.rpartition("@")[2] or "command"
        return str(self._server[0]) if isinstance(self._server, Sequence) else type(self._server).__name__

    def __enter__(self) -> Self:
        self._connection = _Connection(self._target(), self._timeout, repr(self))
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    @property
    def tools(self) -> tuple[Tool[..., Any], ...]:
        """Its tools, for `Agent(tools=...)`.

        Raises:
            UsageError: If it is not connected.
        """
        if self._connection is None:
            raise UsageError(f"{self!r} is not connected: make and run the agent inside 'with server:'")
        return tuple(self._tool(self._connection, each) for each in self._connection.found)

    def _target(self) -> Any:
        """Return what `mcp.Client` takes."""
        try:
            from mcp import StdioServerParameters  # noqa: PLC0415 - slow to import, and an extra
        except ImportError as error:
            raise UsageError("MCPServer needs the extra mcp: pip install 'agentflow-workflows[mcp]'") from error
        if isinstance(self._server, str) or not isinstance(self._server, Sequence):
            return self._server
        command, *arguments = self._server
        return StdioServerParameters(
            command=command, args=arguments, env=None if self._env is None else dict(self._env)
        )

    def _tool(self, connection: _Connection, found: Any) -> Tool[..., Any]:
        name = re.sub(r"[^a-zA-Z0-9_-]+", "_", f"{self._prefix}{found.name}")[:64]
        schema: dict[str, Any] = found.input_schema
        definition = ToolDefinition(name=name, description=found.description or "", parameters=schema)

        def call(**arguments: Any) -> object:
            return connection.call(found.name, arguments).result()

        async def acall(**arguments: Any) -> object:
            return await asyncio.wrap_future(connection.call(found.name, arguments))

        checked = TypeAdapter[dict[str, Any]](Annotated[dict[str, Any], AfterValidator(_checker(schema))])
        return Tool(call, definition, checked, _ANYTHING, acall, _Source(f"mcp {self._place} {found.name}"))


class _Source:
    """What a tool of a server is counted by in the version of a step: where it is, since its code is not here."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __agentflow_version__(self) -> str:
        return self._place


class _Connection:
    """A connection and the thread that its loop runs in.

    Attributes:
        found: The server's tools, as `mcp` describes them.
    """

    def __init__(self, target: Any, timeout: float, name: str) -> None:
        self._target, self._timeout, self._name = target, timeout, name
        self._client: Any = None
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._ready: Future[list[Any]] = Future()
        self._thread = threading.Thread(target=self._run, name="agentflow-mcp", daemon=True)
        self._thread.start()
        try:
            self.found = self._ready.result()
        except BaseException:
            self.close()
            raise

    def call(self, tool: str, arguments: dict[str, Any]) -> Future[object]:
        """Begin a call of a tool; who gives up waiting for it cancels it."""
        return asyncio.run_coroutine_threadsafe(self._called(tool, arguments), self._loop)

    def close(self) -> None:
        """End the connection, and the server's process if it is one of ours."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._connected(self._serve()))

    async def _connected(self, serving: Coroutine[Any, Any, None]) -> None:
        try:
            await serving
        except Exception as error:  # noqa: BLE001 - whatever the package raises: it is told to whoever waits for the connection
            if not self._ready.done():
                reason = _innermost(error)
                self._ready.set_exception(
                    ConnectionError(
                        f"{self._name} could not be reached: {type(reason).__name__}: {reason}. Check its command or address"
                    )
                )

    async def _serve(self) -> None:
        from mcp import Client  # noqa: PLC0415 - slow to import, and an extra

        async with Client(self._target, read_timeout_seconds=self._timeout) as client:
            self._client = client
            found, cursor = [], None
            while True:
                page = await client.list_tools(cursor=cursor)
                found += page.tools
                if not (cursor := page.next_cursor):
                    break
            self._ready.set_result(found)
            await self._over.wait()

    async def _called(self, tool: str, arguments: dict[str, Any]) -> object:
        result = await self._client.call_tool(tool, arguments)
        parts = [_part(each) for each in result.content]
        if result.is_error:
            raise ModelRetry("\n".join(part.text for part in parts if isinstance(part, TextPart)) or f"{tool} failed")
        return "\n".join(part.text for part in parts if isinstance(part, TextPart)) if _is_text(parts) else parts


def _is_text(parts: Sequence[ToolPart]) -> bool:
    return all(isinstance(part, TextPart) for part in parts)


def _part(content: Any) -> ToolPart:
    """Return a part of a server's answer as a model is told it."""
    match content.type:
        case "text":
            return TextPart(text=content.text)
        case "image":
            return ImagePart(data=base64.b64decode(content.data), media_type=content.mime_type)
        case "audio":
            return FilePart(data=base64.b64decode(content.data), media_type=content.mime_type)
        case "resource" if hasattr(content.resource, "blob"):
            media_type = content.resource.mime_type or "application/octet-stream"
            return FilePart(data=base64.b64decode(content.resource.blob), media_type=media_type)
        case "resource":
            return TextPart(text=content.resource.text)
        case _:
            return TextPart(text=content.model_dump_json(exclude_none=True))


def _checker(schema: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what checks arguments against a server's schema; what it does not name is refused unless it is let in."""
    from jsonschema.validators import validator_for  # noqa: PLC0415 - comes with the extra

    closed = {"additionalProperties": False, **schema} if "properties" in schema else schema
    validator = validator_for(closed)(closed)

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        wrong = [
            f"{'.'.join(map(str, each.absolute_path))}: {each.validator} is not met"
            for each in validator.iter_errors(arguments)
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return arguments

    return check


def _innermost(error: BaseException) -> BaseException:
    """Return the first error in a group, as task groups raise it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
