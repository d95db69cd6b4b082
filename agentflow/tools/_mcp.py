"""The tools of a server that speaks the Model Context Protocol, through the official `mcp` package (extra `mcp`).

The package is asynchronous and its connections belong to one loop. A connection therefore has a thread with a loop of its own, and its
tools can be called from any thread and any loop, in both colours.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import Parameter, Signature
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, TypeAdapter

from agentflow._retry import seconds
from agentflow.exceptions import ModelRetry, UsageError
from agentflow.messages import ToolDefinition
from agentflow.tools._base import Tool
from agentflow.tools._failures import ServerUnreachable
from agentflow.tools._mcp_answers import LARGEST, answer_of, checker_of
from agentflow.tools._mcp_log import discreet, discreetly

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from agentflow.types import Duration

__all__ = ["MCPServer"]

_ANYTHING: Final = Signature([Parameter("arguments", Parameter.VAR_KEYWORD)])
_LONGEST_REASON: Final = 500  # characters of what somebody else says that stand in an error
_LARGEST_EVENT: Final = 4 * LARGEST  # bytes; what is larger is not even read
_PATIENCE: Final = 300.0  # seconds without a byte after which a connection counts as dead, as the package has it


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
            server that speaks streamable HTTP (`"https://..."`); or whatever else `mcp.Client` takes.
        env: Variables for the command, beside the few harmless ones that it gets anyway.
        headers: Sent with every request to the address, such as `{"Authorization": "Bearer ..."}`.
        auth: What signs every request to the address: an `httpx2.Auth`, such as the OAuth providers of `mcp.client.auth`.
        prefix: Comes before the names of its tools, so that two servers can have tools of one name.
        timeout: How many seconds the server may take to answer a call; then the model is told so.
        connect_timeout: How many seconds it may take until it has told its tools: some commands install themselves first.

    Raises:
        UsageError: If `server` can be none, or a time is no duration; if the extra is not installed, once it is connected.
        ServerUnreachable: If the server cannot be reached, once it is connected; from a call of a tool, if it is gone.
    """

    def __init__(
        self,
        server: str | Sequence[str] | object,
        *,
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: object = None,
        prefix: str = "",
        timeout: Duration = 30,
        connect_timeout: Duration = 60,
    ) -> None:
        _check_server(server)
        if (headers or auth) and not isinstance(server, str):
            raise UsageError("headers= and auth= go with an address; a command is told its secrets by env=")
        self._server, self._env, self._prefix, self._headers, self._auth = server, env, prefix, headers, auth
        self._timeout = seconds(timeout, what="timeout")
        self._connect_timeout = seconds(connect_timeout, what="connect_timeout")
        self._connection: _Connection | None = None

    def __repr__(self) -> str:
        return f"<MCPServer {self._place}>"

    @property
    def _place(self) -> str:
        """What it is, without what may be a secret: arguments, user and query."""
        if isinstance(self._server, str):
            return urlsplit(self._server).netloc.rpartition("@")[2]
        return str(self._server[0]) if isinstance(self._server, Sequence) else type(self._server).__name__

    def __enter__(self) -> Self:
        if self._connection is not None:
            raise UsageError(f"{self!r} is connected already: use its tools, or make another MCPServer")
        self._connection = _Connection(self._target(), self._timeout, self._connect_timeout, repr(self))
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
        if isinstance(self._server, str):
            return _over_http(self._server, self._headers, self._auth, self._timeout)
        if not isinstance(self._server, Sequence):
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
            answer = connection.call(found.name, arguments)
            try:
                return answer.result()
            except BaseException:  # Ctrl-C too: the server is told that nobody waits for it
                answer.cancel()
                raise

        async def acall(**arguments: Any) -> object:
            return await asyncio.wrap_future(connection.call(found.name, arguments))

        checked = TypeAdapter[dict[str, Any]](Annotated[dict[str, Any], AfterValidator(checker_of(schema))])
        return Tool(call, definition, checked, _ANYTHING, acall, _Source(f"mcp {self._place} {found.name}"))


def _check_server(server: object) -> None:
    """Refuse what can be no server; what else an object is, the package knows."""
    if isinstance(server, str):
        if not server.startswith(("http://", "https://")):
            raise UsageError(
                "MCPServer was given a text that is no address: write a command as a list, ['python', 'server.py']"
            )
        return
    if isinstance(server, Sequence) and not isinstance(server, bytes | bytearray):
        parts = tuple(cast("Sequence[object]", server))
        if parts and parts[0] and all(isinstance(part, str) for part in parts):
            return
        # Not shown: what stands in a command may be a secret.
        raise UsageError("MCPServer was given no command: write a list of texts, ['python', 'server.py']")
    if server is None or isinstance(server, int | float | bytes | bytearray | Mapping | set | PathLike):
        raise UsageError(
            f"MCPServer was given a {type(server).__name__}, which is no server: write a command as a list, "
            "['python', 'server.py'], or an address, 'https://...'"
        )


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

    def __init__(self, target: Any, timeout: float, connect_timeout: float, name: str) -> None:
        self._target, self._timeout, self._connect_timeout, self._name = target, timeout, connect_timeout, name
        self._client: Any = None
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._ready: Future[list[Any]] = Future()
        self._mutex = threading.Lock()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="agentflow-mcp", daemon=True)
        self._thread.start()
        try:
            self.found = self._ready.result()
        except BaseException:  # Ctrl-C, too: the server's process would stay behind
            self.close()
            raise

    def call(self, tool: str, arguments: dict[str, Any]) -> Future[object]:
        """Begin a call of a tool; who gives up waiting for it cancels it.

        Raises:
            ServerUnreachable: If the connection has ended.
        """
        with self._mutex:  # what is begun in here is begun before the loop ends, and so comes to an end itself
            if not self._is_open:
                raise self._gone()
            return asyncio.run_coroutine_threadsafe(self._called(tool, arguments), self._loop)

    def close(self) -> None:
        """End the connection, and the server's process if it is one of ours."""
        with self._mutex:
            if self._is_open:
                self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def _end(self) -> None:
        self._over.set()
        if self._connecting:  # Ctrl-C before there is a connection
            self._connecting.cancel()

    def _run(self) -> None:
        with discreetly(), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._connected())

    async def _connected(self) -> None:
        reason: BaseException = ConnectionError("it ended")
        try:
            await self._serve()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever the package raises is told to whoever waits
            reason = _innermost(error)
        finally:
            with self._mutex:
                self._is_open = False
            await asyncio.sleep(0)  # calls that were just begun become tasks, which the end of the loop cancels
            if not self._ready.done():
                self._ready.set_exception(self._unreachable(reason))

    async def _serve(self) -> None:
        from mcp import Client  # noqa: PLC0415 - slow to import, and an extra

        self._connecting = asyncio.current_task()
        async with AsyncExitStack() as stack:
            # The package has a time limit for each request, and makes several.
            async with asyncio.timeout(self._connect_timeout):
                client = Client(self._target, read_timeout_seconds=self._connect_timeout)
                self._client = await stack.enter_async_context(client)
                found = [each async for each in _listed(client)]
            self._connecting = None
            self._ready.set_result(found)
            await self._over.wait()

    async def _called(self, tool: str, arguments: dict[str, Any]) -> object:
        from mcp.shared.exceptions import MCPError  # noqa: PLC0415 - an extra
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT  # noqa: PLC0415 - an extra

        try:
            result = await self._client.call_tool(tool, arguments, read_timeout_seconds=self._timeout)
            return answer_of(tool, result)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise self._gone(tool) from None
            late = f"took longer than {self._timeout:g} s and was given up." if error.code == REQUEST_TIMEOUT else None
            raise ModelRetry(f"{tool} {late or f'failed: {error.message}'}") from None
        except asyncio.CancelledError:
            if self._is_open:
                raise
            raise self._gone(tool) from None

    def _gone(self, tool: str = "") -> ServerUnreachable:
        during = f" in the middle of a call of {tool!r}, which may have been made" if tool else ""
        return ServerUnreachable(
            f"{self._name} is gone{during}: connect it again with a new 'with' block, and make the agent inside"
        )

    def _unreachable(self, reason: BaseException) -> ServerUnreachable:
        late = f"no answer within {self._connect_timeout:g} s" if isinstance(reason, TimeoutError) else None
        said = discreet(f"{type(reason).__name__}: {late or reason}")[:_LONGEST_REASON]
        return ServerUnreachable(
            f"{self._name} could not be reached: {said}. Check its command or address, and its key"
        )


async def _listed(client: Any) -> AsyncGenerator[Any, None]:
    """Yield a server's tools, page by page."""
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for found in page.tools:
            yield found
        if not (cursor := page.next_cursor):
            return


@asynccontextmanager
async def _over_http(
    address: str, headers: Mapping[str, str] | None, auth: object, patience: float
) -> AsyncGenerator[Any, None]:
    """Connect to an address; what is told to its server goes to no other."""
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - slow to import, and an extra
    from mcp.shared._httpx_utils import create_mcp_http_client  # noqa: PLC0415 - an extra

    made: Any = create_mcp_http_client(None if headers is None else dict(headers), auth=auth)  # type: ignore[arg-type]
    made.timeout = max(patience, _PATIENCE)  # the package has a time limit for each request by itself
    async with (
        made as client,
        streamable_http_client(address, http_client=client, max_sse_event_size=_LARGEST_EVENT) as streams,
    ):
        yield streams


def _innermost(error: BaseException) -> BaseException:
    """Return the first error in a group, as task groups raise it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
