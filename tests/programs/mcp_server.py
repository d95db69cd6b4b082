"""A server of tools over standard input and output, for the tests of `MCPServer`."""

from __future__ import annotations

import asyncio
import os

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, TextContent

server = MCPServer("test")


@server.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("the oven is cold")


@server.tool(name="show.cat")
def show() -> list[TextContent | ImageContent]:
    """Show a cat."""
    return [
        TextContent(type="text", text="a cat"),
        ImageContent(type="image", data="iVBORw0KGgo=", mime_type="image/png"),
    ]


@server.tool()
async def slow(seconds: float) -> str:
    """Take its time."""
    await asyncio.sleep(seconds)
    return f"{os.getpid()}"


server.run()
