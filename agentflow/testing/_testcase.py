"""The text of a test that replays a run: a module for pytest, to be read and changed by whoever owns it."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final

from agentflow._conversation import OUTPUT_TOOL
from agentflow._signature import Colour
from agentflow.exceptions import UsageError
from agentflow.messages import TextPart, ToolCall
from agentflow.testing._recordings import Masking
from agentflow.testing._replayable import found_at, replayable
from agentflow.testing._source import Imports, Unwritable, Writer, called, laid_out, listed, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow._runs import Run
    from agentflow._step import Step
    from agentflow.messages import ModelResponse
    from agentflow.stores import Store
    from agentflow.testing._replayable import Given, Replayable, StepReplay
    from agentflow.testing._source import Node

__all__ = ["replaying_test"]

_SHORT: Final = 60  # characters of a value that stands where it is used
_TESTING: Final = "agentflow.testing"


def replaying_test(run: Run, store: Store) -> str:
    """Return the source of a test that replays a completed run.

    Raises:
        UsageError: If the run cannot be replayed.
    """
    return _Module(replayable(run, store)).text()


class _Module:
    """The module while it is written."""

    def __init__(self, case: Replayable) -> None:
        self._case = case
        self._imports = Imports()
        self._writer = Writer(self._imports, Masking.of_environment().text)
        self._constants: list[str] = []
        self._remarks: list[str] = []
        self._names: set[str] = set()

    def text(self) -> str:
        """Return all of it."""
        replaced = [
            line for step in self._case.steps if step.given is not None for line in [self._replaced(step)] if line
        ]
        if self._case.left_state:
            self._remarks.append(self._missing_state())
        body = [*self._scripting(), *self._calling(replaced), "", *self._asserting()]
        fixture = "scripted_model" if self._case.answers else ""
        test = [
            *(f"# {remark}" for remark in self._remarks),
            f"def test_{self._case.workflow.fn.__name__}({fixture}):",
            *(f"    {line}" if line else "" for line in body),
        ]
        return "\n\n".join([self._head(), self._imports.text(), *self._constants, "\n" + "\n".join(test)]) + "\n"

    def _head(self) -> str:
        run = self._case.run
        name = run.workflow.encode("unicode_escape").decode().replace('"', "'")
        return f'"""Run {run.id[:12]} of {name} replayed without a network; made by `agentflow testcase`, and yours to change."""'

    def _missing_state(self) -> str:
        keys = ", ".join(str(self._writer.write(key)) for key in self._case.left_state)
        return (
            "The state begins empty, but earlier runs of the session may have left something in it, which is not recorded: "
            f"if the workflow reads it, set it first ({keys})."
        )

    # What answers

    def _scripting(self) -> Iterator[str]:
        if not self._case.answers:
            return
        self._constant(
            "ANSWERS",
            listed(map(self._answer, self._case.answers)),
            "What the models answered, in the order in which they were asked.",
        )
        if self._case.uses_tools:
            self._remarks.append(
                "The tools that the workflow's own models call are called for real: what they gave is not recorded."
            )
        yield "scripted_model(ANSWERS)"

    def _answer(self, response: ModelResponse) -> Node:
        parts: list[Node] = []
        for part in response.parts:
            if isinstance(part, TextPart) or (isinstance(part, ToolCall) and part.name == OUTPUT_TOOL):
                parts.append(self._writer.write(part.text if isinstance(part, TextPart) else part.arguments))
            elif isinstance(part, ToolCall):
                made = self._imports.add("agentflow.messages", "ToolCall")
                name, arguments = self._writer.write(part.name), self._writer.write(part.arguments)
                parts.append(called(made, name=name, arguments=arguments))
        return parts[0] if len(parts) == 1 else listed(parts)

    def _replaced(self, replay: StepReplay) -> str:
        """Return how a step is replaced; `""` if it cannot be."""
        try:
            how = self._replacement(replay)
        except Unwritable as why:
            self._runs_as_it_is(replay.step, str(why))
            return ""
        return f"{self._imports.add(_TESTING, 'replace_step')}({self._imported(replay.step)}, {how})"

    def _replacement(self, replay: StepReplay) -> str:
        assert replay.given
        step, given = replay.step, replay.given
        shape = step._spec.shape  # noqa: SLF001 - what the decorator read of the function
        returns = shape.colour is Colour.STREAM and any(each.value[1] is not None for each in given)
        values = [self._writer.write(_simple(each.value, is_stream=shape.is_stream, returns=returns)) for each in given]
        taken, found = self._choice(replay, values)
        if not returns:
            return f"lambda {taken}: {found}"
        name = f"replayed_{self._imported(step)}"
        lines = f"items, value = {found}", "yield from items", "return value"
        self._constants.append("\n    ".join([f"\ndef {name}({taken}):", *lines]) + "\n")
        return name

    def _choice(self, replay: StepReplay, values: Sequence[Node]) -> tuple[str, str]:
        """Return the parameters of what stands in for a step, and the expression that gives the value of a call."""
        name, anything = replay.step.fn.__name__, _any(replay.step)
        if len({str(each) for each in values}) == 1:
            is_short = len(str(values[0])) <= _SHORT
            return anything, str(values[0]) if is_short else self._constant(name, values[0], f"What {name} gave.")
        if _parameters(replay.step) and all(each.arguments is not None for each in replay.given or ()):
            pairs = {self._key(each): value for each, value in zip(replay.given or (), values, strict=True)}
            table = self._constant(name, mapped(dict(sorted(pairs.items()))), f"What {name} gave, by its arguments.")
            return _parameters(replay.step), f"{table}[{', '.join(_names(replay.step))}]"
        if not replay.in_turn:
            raise Unwritable("its calls went on at once, and their arguments cannot be told apart here")
        given = self._constant(name, called("iter", listed(values)), f"What {name} gave, call after call.")
        return anything, f"next({given})"

    def _key(self, given: Given) -> str:
        values = list((given.arguments or {}).values())
        return str(self._writer.write(values[0] if len(values) == 1 else tuple(values)))

    def _runs_as_it_is(self, step: Step[..., Any], why: str) -> None:
        self._remarks.append(f"Step {step.fn.__name__} is executed as it is, whatever it needs: {why}.")

    # What is called and expected

    def _calling(self, replaced: list[str]) -> Iterator[str]:
        if self._case.answers:
            yield ""
        if not replaced:
            yield from self._call(0).split("\n")
            return
        if len(replaced) == 1:
            yield f"with {replaced[0]}:"
        else:
            yield from ("with (", *(f"    {line}," for line in replaced), "):")
        yield from self._call(4).split("\n")

    def _call(self, indent: int) -> str:
        workflow, run = self._case.workflow, self._case.run
        name = self._imported(workflow)
        if self._case.session_id is not None:
            name += f".with_options(session_id={self._writer.write(self._case.session_id)})"
        colour = workflow._spec.shape.colour  # noqa: SLF001 - as above
        call = self._arguments
        if colour is Colour.PLAIN:
            return laid_out("result = ", call(name), indent)
        if colour is Colour.STREAM and isinstance(result := run.result(timeout=0), str) and run.output() == result:
            return laid_out("result = ", called('"".join', call(name)), indent)
        self._imports.module("asyncio")
        return laid_out(
            "result = asyncio.run(", call(name if colour is Colour.ASYNC else f"{name}.acall"), indent, after=")"
        )

    def _arguments(self, name: str) -> Node:
        positional: list[Node] = []
        named: dict[str, Node] = {}
        for parameter in self._case.workflow._spec.shape.signature.parameters.values():  # noqa: SLF001 - as above
            value = self._case.arguments[parameter.name]
            if parameter.kind is Parameter.VAR_POSITIONAL:
                positional += map(self._argument, value)
            elif parameter.kind is Parameter.VAR_KEYWORD:
                named |= {each: self._argument(given) for each, given in value.items()}
            elif parameter.kind is Parameter.KEYWORD_ONLY:
                if type(value) is not type(parameter.default) or value != parameter.default:
                    named[parameter.name] = self._argument(value)
            else:
                positional.append(self._argument(value))
        return called(name, *positional, **named)

    def _argument(self, value: Any) -> Node:
        try:
            return self._writer.write(value)
        except Unwritable as why:
            raise UsageError(f"the run was called with a value that cannot stand in a test: {why}") from None

    def _asserting(self) -> Iterator[str]:
        value = self._case.run.result(timeout=0)
        try:
            result = self._writer.write(value)
        except Unwritable as why:
            self._remarks.append(f"Its result is not compared: {why}.")
        else:
            if len(str(result)) > _SHORT:
                result = self._constant("RESULT", result, "What the run gave.")
            yield f"assert result {'is' if value is None else '=='} {result}"
        for replay in self._case.steps:
            if replay.is_counted:
                yield self._counted("assert_ran", replay, replay.ran)
                if replay.hits:
                    yield self._counted("assert_hit", replay, replay.hits)
            if replay.why:
                self._runs_as_it_is(replay.step, replay.why)

    def _counted(self, verb: str, replay: StepReplay, times: int) -> str:
        return f"{self._imports.add(_TESTING, verb)}({self._imported(replay.step)}, times={times})"

    def _imported(self, thing: Any) -> str:
        module, name, _ = found_at(type(thing), thing.name)
        return self._imports.add(module, name)

    def _constant(self, name: str, value: Node, meaning: str) -> str:
        """Add a constant and return its name."""
        name = name.strip("_").upper()
        while name in self._names:
            name += "_"
        self._names.add(name)
        self._constants.append(f'{laid_out(f"{name} = ", value)}\n"""{meaning}"""')
        return name


def _simple(value: Any, *, is_stream: bool, returns: bool) -> Any:
    """Return what a replacement gives: of a stream its items, and what it returned if any did."""
    if not is_stream:
        return value
    items, returned = value
    return (list(items), returned) if returns else list(items)


def _names(step: Step[..., Any]) -> list[str]:
    return list(step._spec.shape.signature.parameters)  # noqa: SLF001 - as above


def _parameters(step: Step[..., Any]) -> str:
    """Return the parameters of a function that takes what a step takes; `""` if they are not each named."""
    kinds = {name: each.kind for name, each in step._spec.shape.signature.parameters.items()}  # noqa: SLF001 - as above
    if {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} & {*kinds.values()}:
        return ""
    plain = [name for name, kind in kinds.items() if kind is not Parameter.KEYWORD_ONLY]
    named = [name for name, kind in kinds.items() if kind is Parameter.KEYWORD_ONLY]
    return ", ".join([*plain, *(["*", *named] if named else [])])


def _any(step: Step[..., Any]) -> str:
    kinds = {each.kind for each in step._spec.shape.signature.parameters.values()}  # noqa: SLF001 - as above
    return "*_, **__" if kinds & {Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD} else "*_"
