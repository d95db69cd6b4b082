"""What a cache may get wrong, as one program that every library runs: `questions.py PEER QUESTION DIRECTORY`.

Each execution of a remembered function is a line in DIRECTORY/executed. Prints the answer as JSON: what the calls gave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from pydantic import BaseModel
from remembering import REMEMBER, Remember

DIRECTORY = Path(sys.argv[3] if len(sys.argv) > 3 else ".")


def executed() -> None:
    with (DIRECTORY / "executed").open("a") as file:
        file.write("once\n")


class Settings(BaseModel):
    a: int
    b: int = 2


# The functions that are remembered, at module level, since some libraries know no others.


def slow(number: int) -> int:
    executed()
    time.sleep(0.3)
    return number


async def aslow(number: int) -> int:
    executed()
    await asyncio.sleep(0.3)
    return number


def added(a: int, b: int = 2) -> int:
    executed()
    return a + b


def sized(value: object) -> int:
    executed()
    return len(list(value))  # type: ignore[call-overload]


def field(settings: Settings) -> int:
    executed()
    return settings.a


def letters(word: str) -> Iterator[str]:
    executed()
    yield from word


async def aletters(word: str) -> AsyncIterator[str]:
    executed()
    for letter in word:
        yield letter


def listed(number: int) -> list[int]:
    executed()
    return [number]


def failing(number: int) -> int:
    executed()
    raise ValueError(number)


def nothing(number: int) -> None:
    executed()


class Scale:
    def __init__(self, k: int) -> None:
        self.k = k

    def scaled(self, number: int) -> int:
        executed()
        return number * self.k


# The questions


def threads(remember: Remember) -> object:
    call, found, failed = remember(slow), [], []
    begin = threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        try:
            found.append(call(1))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            failed.append(error)

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    if failed:
        raise failed[0]
    return found


def processes(remember: Remember) -> object:
    call = remember(slow)
    (DIRECTORY / f"ready.{os.getpid()}").touch()
    while not (DIRECTORY / "go").exists():
        time.sleep(0.001)
    return call(1)


def tasks(remember: Remember) -> object:
    call = remember(aslow)

    async def ask() -> list[object]:
        return await asyncio.gather(*(call(1) for _ in range(8)))

    return asyncio.run(ask())


def spellings(remember: Remember) -> object:
    call = remember(added)
    return [call(1), call(1, 2), call(1, b=2), call(a=1, b=2)]


def dict_order(remember: Remember) -> object:
    call = remember(sized)
    return [call({"a": 1, "b": 2}), call({"b": 2, "a": 1})]


def aliasing(remember: Remember) -> object:
    call, one = remember(sized), ["x" * 100]
    return [call([one, one]), call([one, ["x" * 100]])]


def a_set(remember: Remember) -> object:
    return remember(sized)({"apple", "fig", "kiwi", "pear", "plum"})


def a_model(remember: Remember) -> object:
    return remember(field)(Settings(a=1, b=3))


def a_default(remember: Remember) -> object:
    call = remember(field)
    return [call(Settings(a=1)), call(Settings(a=1, b=2))]


def closures(remember: Remember) -> object:
    def make(k: int) -> Callable[[int], int]:
        def scaled(number: int) -> int:
            executed()
            return number * k

        return remember(scaled)

    return [make(2)(10), make(3)(10)]


def methods(remember: Remember) -> object:
    return [remember(Scale(2).scaled)(10), remember(Scale(3).scaled)(10)]


def coroutine(remember: Remember) -> object:
    call = remember(aslow)

    async def ask() -> list[object]:
        return [await call(1), await call(1)]

    return asyncio.run(ask())


def generator(remember: Remember) -> object:
    call = remember(letters)
    return ["".join(call("ab")), "".join(call("ab"))]


def async_generator(remember: Remember) -> object:
    call = remember(aletters)

    async def ask() -> str:
        return "".join([letter async for letter in call("ab")])

    return [asyncio.run(ask()), asyncio.run(ask())]


def mutation(remember: Remember) -> object:
    call = remember(listed)
    call(1).append(99)
    call(1).append(98)
    return call(1)


def exception(remember: Remember) -> object:
    call = remember(failing)
    for _ in range(2):
        with contextlib.suppress(ValueError):
            call(1)
    return None


def none(remember: Remember) -> object:
    call = remember(nothing)
    return [call(1), call(1)]


if __name__ == "__main__":
    print("answer:", json.dumps(globals()[sys.argv[2]](REMEMBER[sys.argv[1]](DIRECTORY))))
