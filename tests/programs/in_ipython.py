"""Runs cells as a notebook does: `in_ipython.py shell|kernel DIRECTORY`, with IPython's own shell, or with the compiler of its kernel. Prints JSON."""

from __future__ import annotations

import json
import sys

from IPython.core.interactiveshell import InteractiveShell

FIRST = [
    "from agentflow import cached_step, configure",
    "PROMPT = 'Be kind.'",
    "def polite(text):\n    return PROMPT + text",
]
STEP = "@cached_step(name='ask')\ndef ask(text: str) -> str:\n    executed.append(text)\n    return polite(text)"

# What is run before asking again, and whether that is to execute the step.
EDITS = [
    ("nothing", [], 0),
    ("every cell once more", [*FIRST, STEP], 0),
    ("comments and blank lines", ["# so\n\n" + FIRST[2].replace("text):", "text):  # here"), STEP + "\n\n"], 0),
    ("a magic beside it", ["%colors NoColor\n" + FIRST[2]], 0),
    ("another prompt", ["PROMPT = 'Be brief.'"], 1),
    ("the first prompt", ["PROMPT = 'Be kind.'"], 0),
    ("another helper", ["def polite(text):\n    return text + PROMPT"], 1),
    ("the first helper", [FIRST[2]], 0),
    ("another step", [STEP.replace("return polite", "return 'Q: ' + polite")], 1),
]


def compiler_of(kind: str) -> type:
    """Return what compiles cells: in a kernel it names them by files that there are none of."""
    if kind == "kernel":
        from ipykernel.compiler import XCachingCompiler

        return XCachingCompiler
    return InteractiveShell.compiler_class.default_value


def main() -> None:
    """Run the cells and edits; print how often the step was executed after each, and its version at last."""
    kind, directory = sys.argv[1:]
    shell = InteractiveShell.instance(compiler_class=compiler_of(kind), history_length=0)
    executed: list[str] = []
    shell.user_ns |= {"executed": executed}

    def run(cell: str) -> object:
        done = shell.run_cell(cell, store_history=True, silent=False)
        done.raise_error()
        return done.result

    for cell in [*FIRST, f"configure(store={directory!r})", STEP, "ask('why?');"]:
        run(cell)
    told = {"at first": len(executed)}
    for name, cells, _ in EDITS:
        executed.clear()
        for cell in cells:
            run(cell)
        run("ask('why?');")
        told[name] = len(executed)
    file = shell.user_ns["ask"].fn.__code__.co_filename
    run("configure(store=None)")
    print(json.dumps({"executed": told, "expected": {"at first": 1} | {name: n for name, _, n in EDITS}, "file": file}))


if __name__ == "__main__":
    main()
