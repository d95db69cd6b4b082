"""One call of a step that returns one value, from its arguments to its result: a procedure without colour (see `_drive`).

Look; if it is a hit, replay. Else take part in the flight of the key: wait for whoever executes it, in this process or another,
or execute it, and keep its result. Only then does the caller see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentflow._attempts import Attempts
from agentflow._drive import Ask, Until
from agentflow._flights import FLIGHTS, Failed, Flight, GivenUp, Landed, own_copy
from agentflow._interventions import kept
from agentflow.exceptions import UnserializableValue

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow._calls import StepCall
    from agentflow._flights import Outcome
    from agentflow._frames import Frame
    from agentflow._serialization import Codec

__all__ = ["value_call"]

_COPIED_BY_NOBODY: Final = frozenset((str, int, float, bool, bytes, complex, type(None)))


def value_call(call: StepCall, codec: Codec, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
    """The procedure of a step that returns one value.

    Args:
        call: The call.
        codec: Encodes its result.
        attempt: Executes the function in a frame.
    """
    call.start()
    if not call.is_settled:
        yield from call.settling()
    if not call.key:
        alone = Flight(call.spec.name)
        return (yield from _execute(Attempts(call, alone, (*call.caller.flights, alone)), codec, attempt))[1]
    while True:
        if hit := call.look(codec.loads):
            call.note_hit()
            return hit.value
        flight, mine = FLIGHTS.join(call.flight_name, lambda: Flight(call.spec.name), call.caller.flights)
        if mine:
            return (yield from _fly(call, codec, flight, attempt))
        yield from _landing(call, flight)
        match flight.done.result():
            case Landed(body) if not call.refresh:
                call.note_hit()
                return codec.loads(body)
            case Failed(error) if not call.refresh:
                raise own_copy(error)
            case _:  # given up, or a new result is wanted: look again
                pass


def _landing(call: StepCall, flight: Flight) -> Generator[Ask, None, None]:
    with call.waiting(flight):
        until = Until(flight.done, call.remaining(), call.caller.check)
        yield until
    if not until.reached:
        raise call.too_late()


def _fly(call: StepCall, codec: Codec, flight: Flight, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
    execution = Attempts(call, flight, (*call.caller.flights, flight))
    outcome: Outcome = GivenUp()

    def end() -> None:
        execution.leave()
        call.release()
        FLIGHTS.leave(call.flight_name, flight)
        flight.end(outcome)

    try:
        call.on_revoke(end)
        if hit := (yield from call.claim(codec.loads)):
            call.note_hit()
            outcome = Landed(hit.body)
            return hit.value
        body, value = yield from _execute(execution, codec, attempt)
        outcome = _landed(call, codec, value) if body is None else Landed(body)
        return value  # noqa: TRY300 - the outcome is settled in `finally`
    except Exception as error:  # whatever a step raises is what those get who wait for it
        if not call.is_own_fate(error):
            outcome = Failed(error)
        raise
    finally:
        call.off_revoke(end)
        end()


def _landed(call: StepCall, codec: Codec, value: Any) -> Landed | GivenUp:
    # A value that `cache_if` refused still answers those who asked for it at the same time, if it can be copied for them.
    try:
        return Landed(codec.dumps(value, owner=call.spec.name))
    except UnserializableValue:
        return GivenUp()


def _execute(
    execution: Attempts, codec: Codec, attempt: Callable[[Frame], Any]
) -> Generator[Ask, None, tuple[bytes | None, Any]]:
    yield from execution.enter()
    try:
        value = yield from execution.run(attempt)
    finally:
        execution.leave()
    name = execution.call.spec.name
    try:
        body = yield from execution.keep(value, lambda: codec.dumps(value, owner=f"the result of step {name!r}"))
    except BaseException as error:  # however the result is not kept, by Ctrl-C too, the attempt has failed
        yield from execution.failed(error)
        raise
    if body is not None:
        kept(name)
    if body is None or type(value) in _COPIED_BY_NOBODY:
        return body, value
    return body, codec.loads(body)
