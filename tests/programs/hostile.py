"""Texts that try to move a terminal, a page or its reader."""

from __future__ import annotations

HOSTILE = [
    "\x1b[31mred",
    "\x1b]8;;https://evil.example\x1b\\https://bank.example\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31m",
    "a\rb",
    "back\x08space",
    "\u202eeknod",
    "\u2066isolated\u2069",
    "[/]",
    "[bold red]markup[/bold red]",
    "[link=https://evil.example]x[/link]",
    "\x00nul",
    "\u2028line",
    "\x7fdel",
    "&#27;[31mentity",
    "&#x202e;reordered",
    "<b>html</b>",
    "<https://auto.example>",
]
