"""What a remembered step does, as a plain and as an async function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from agentflow import Context, NoKey, RetryPolicy, Step, cached_step, current_context, workflow
from agentflow.exceptions import (
    NameConflict,
    NoActiveRun,
    StepTimeout,
    UnkeyableArgument,
    UnserializableValue,
    UsageError,
)
from agentflow.stores import MemoryStore

pytestmark = pytest.mark.usefixtures("store")


class Article(BaseModel):
    title: str


def test_a_call_is_executed_once_however_it_is_spelled():
    """Positional, keyword and default arguments give one key."""
    calls = []

    @cached_step
    def add(a: int, b: int = 2) -> int:
        calls.append((a, b))
        return a + b

    results = [add(1), add(1, 2), add(a=1), add(b=2, a=1)]

    assert results == [3, 3, 3, 3]
    assert calls == [(1, 2)]


def test_other_arguments_are_another_call():
    """1, True and 1.0 are three arguments."""
    calls = []

    @cached_step
    def show(value: object) -> str:
        calls.append(value)
        return repr(value)

    assert [show(1), show(True), show(1.0)] == ["1", "True", "1.0"]


@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_falsy_results_are_results(value):
    """What is falsy is remembered like anything else."""
    calls = []

    @cached_step
    def give() -> object:
        calls.append(1)
        return value

    assert (give(), give()) == (value, value)
    assert calls == [1]


def test_types_survive_a_hit():
    """A hit returns the same type as the miss did."""

    @cached_step
    def find() -> list[Article]:
        return [Article(title="cats")]

    miss, hit = find(), find()

    assert miss == hit == [Article(title="cats")]
    assert type(hit[0]) is Article


def test_results_are_private_copies():
    """Changing a result changes neither the store nor what others got."""
    source = [1]

    @cached_step
    def give() -> list[int]:
        return source

    give().append(2)
    give().append(3)

    assert give() == [1]
    assert source == [1]


def test_exceptions_are_never_remembered():
    """A call that raised is executed again."""
    calls = []

    @cached_step
    def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fail()

    assert calls == [1, 1]


def test_the_users_exception_passes_through_with_a_note():
    """The exception is the user's own object, with a note that names step, session and attempt."""
    error = KeyError("user's own")

    @cached_step(name="scrape")
    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        fail()

    assert caught.value is error
    assert error.__notes__ == ["agentflow: in step 'scrape' (session 'default', attempt 1)"]


def test_cache_if_refuses_a_result():
    """What cache_if refuses is returned and not remembered."""
    answers = iter([[], ["found"], ["never asked"]])

    @cached_step(cache_if=lambda found: bool(found))
    def search() -> list[str]:
        return next(answers)

    assert [search(), search(), search()] == [[], ["found"], ["found"]]


def test_ttl_counts_from_completion(monkeypatch):
    """A result older than its ttl is made anew."""
    calls = []
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])

    @cached_step(ttl=10)
    def give() -> int:
        calls.append(1)
        return len(calls)

    first = give()
    now[0] += 9.9
    second = give()
    now[0] += 0.2
    third = give()

    assert (first, second, third) == (1, 1, 2)


def test_retry_counts_all_attempts():
    """retry=3 makes three attempts, and a success on the last one is a success."""
    calls = []

    @cached_step(retry=RetryPolicy(attempts=3, wait=0))
    def flaky() -> str:
        calls.append(current_context().attempt)
        if len(calls) < 3:
            raise ConnectionError("again")
        return "done"

    assert flaky() == "done"
    assert calls == [1, 2, 3]


def test_retry_leaves_usage_errors_alone():
    """A mistake of the program is not tried again."""
    calls = []

    @cached_step(retry=RetryPolicy(attempts=3, wait=0))
    def wrong() -> None:
        calls.append(1)
        raise UsageError("mistake")

    with pytest.raises(UsageError):
        wrong()

    assert calls == [1]


async def test_an_async_step_is_awaited_and_remembered():
    """The async colour behaves as the plain one."""
    calls = []

    @cached_step
    async def double(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(0)
        return 2 * n

    assert [await double(1), await double(n=1), await double(2)] == [2, 2, 4]
    assert calls == [1, 2]


def test_a_slow_plain_step_times_out_and_commits_nothing():
    """The caller gets StepTimeout, and the thread left behind can commit nothing and reach no boundary."""
    left = threading.Event()
    seen = []

    @cached_step(timeout=0.05)
    def slow(ctx: Context) -> str:
        time.sleep(0.2)
        try:
            ctx.check()
        except StepTimeout as error:
            seen.append(error)
        left.set()
        return "late"

    with pytest.raises(StepTimeout, match=r"longer than 0\.05 s") as caught:
        slow()
    assert left.wait(5)

    assert isinstance(caught.value, TimeoutError)
    assert len(seen) == 1
    assert not slow.is_cached()


async def test_a_slow_async_step_is_cancelled():
    """At the timeout the task is cancelled and the caller gets StepTimeout."""
    cancelled = []

    @cached_step(timeout=0.02)
    async def slow() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return "late"

    with pytest.raises(StepTimeout):
        await slow()

    assert cancelled == [1]


async def test_a_timeout_of_the_users_own_is_not_ours():
    """A TimeoutError raised inside a step with a timeout passes through unchanged."""

    @cached_step(timeout=10)
    async def ask() -> str:
        raise TimeoutError("the provider's")

    with pytest.raises(TimeoutError, match="the provider's") as caught:
        await ask()

    assert not isinstance(caught.value, StepTimeout)


def test_ignored_parameters_are_not_part_of_the_key():
    """ignore= and Annotated[..., NoKey] leave a parameter out."""
    calls = []

    @cached_step(ignore="client")
    def one(url: str, client: object) -> str:
        calls.append("one")
        return url

    @cached_step
    def two(url: str, client: Annotated[object, NoKey] = None) -> str:
        calls.append("two")
        return url

    one("u", object()), one("u", object())
    two("u", object()), two("u")

    assert calls == ["one", "two"]


def test_key_function_gives_the_key_itself():
    """With key= only its value tells calls apart."""
    calls = []

    @cached_step(key=lambda url, client: url.lower())
    def read(url: str, client: object) -> str:
        calls.append(url)
        return url

    read("A", object())
    read("a", object())

    assert calls == ["A"]


def test_an_unkeyable_argument_is_refused_before_the_body_runs():
    """The message names step, parameter, type and the ways out; the error carries them."""
    calls = []

    @cached_step(name="scrape pages")
    def scrape(url: str, session: object) -> None:
        calls.append(url)

    with pytest.raises(UnkeyableArgument) as caught:
        scrape("u", threading.Lock())

    assert calls == []
    assert (caught.value.step, caught.value.parameter) == ("scrape pages", "session")
    assert "ignore" in str(caught.value)


def test_an_unserializable_result_is_in_the_error():
    """The work is done once and its result is not lost; the error says where and what to do."""
    calls = []
    lock = threading.Lock()

    @cached_step(name="connect", retry=RetryPolicy(attempts=3, wait=0))
    def connect() -> dict[str, object]:
        calls.append(1)
        return {"lock": lock}

    with pytest.raises(UnserializableValue) as caught:
        connect()

    assert calls == [1]
    assert caught.value.result == {"lock": lock}
    assert "connect" in str(caught.value)
    assert "lock" in caught.value.path


def test_a_bad_call_is_a_type_error():
    """Arguments that do not fit raise what Python raises, naming the function."""

    @cached_step
    def read(url: str) -> str:
        return url

    with pytest.raises(TypeError, match="read"):
        read()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nope"):
        read("u", nope=1)  # type: ignore[call-arg]


def test_passing_the_context_is_refused():
    """The context is injected; passing it says so."""

    @cached_step
    def where(ctx: Context, n: int) -> str:
        return ctx.session_id

    @cached_step
    def outer(ctx: Context) -> str:
        return where(ctx, 1)  # type: ignore[arg-type, call-arg]

    with pytest.raises(UsageError, match="without ctx"):
        outer()
    with pytest.raises(UsageError, match="without ctx"):
        where(ctx=None, n=1)  # type: ignore[call-arg]


def test_the_context_of_a_step_that_takes_none_is_refused():
    """Passed by hand it is no argument, whatever it lands on; the message says who takes it and how."""

    @cached_step
    def double(n: Any) -> int:
        return 2 * n

    @workflow
    def flow(ctx: Context, *more: int, **named: Any) -> int:
        return double(ctx, *more, **named)

    with pytest.raises(UsageError, match=r"double\(\) takes no context: call it without"):
        flow(1)
    with pytest.raises(UsageError, match=r"double\(\) takes no context: call it without"):
        flow(ctx_too=1)
    with pytest.raises(UnkeyableArgument, match=r"Call it without: a first parameter that is named ctx") as refused:
        flow()
    assert "register_key" not in str(refused.value)


def test_a_parameter_named_ctx_can_be_an_argument():
    """ctx=False says that the first parameter is not the context."""

    @cached_step(ctx=False)
    def tone(ctx: str) -> str:
        return ctx.upper()

    assert tone("soft") == "SOFT"


def test_the_decorated_object_tells_the_truth_about_itself():
    """Name, doc, signature and colour are the function's, less the context."""

    @cached_step
    async def read(ctx: Context, url: str, *, fast: bool = False) -> str:
        """Read a page."""
        return url

    @cached_step
    def stream(n: int) -> Iterator[int]:
        yield n

    assert (read.__name__, read.__doc__) == ("read", "Read a page.")
    assert str(inspect.signature(read)) == "(url: 'str', *, fast: 'bool' = False) -> 'str'"
    assert inspect.iscoroutinefunction(read)
    assert not inspect.isgeneratorfunction(read)
    assert inspect.isgeneratorfunction(stream)
    assert isinstance(read, Step)


@pytest.mark.parametrize("wrong", [len, functools.partial(print), object(), print])
def test_only_plain_functions_are_decorated(wrong):
    """Builtins, partials and other callables are refused at decoration."""
    with pytest.raises(UsageError, match="plain functions"):
        cached_step(wrong)


def test_methods_and_lambdas_are_refused():
    """A method would hide its object from the key, and a lambda has no name."""
    with pytest.raises((UsageError, RuntimeError)) as caught:

        class Service:
            @cached_step
            def read(self, url: str) -> str:
                return url

    error = caught.value if isinstance(caught.value, UsageError) else caught.value.__cause__
    assert "Service.read" in str(error)
    with pytest.raises(UsageError, match="name"):
        cached_step(lambda n: n)


def test_a_name_taken_elsewhere_is_a_conflict():
    """Two functions at different places cannot share one name; the same place may."""

    @cached_step(name="taken once")
    def one() -> int:
        return 1

    with pytest.raises(NameConflict, match="taken once"):

        @cached_step(name="taken once")
        def two() -> int:
            return 2

    for _ in range(2):

        @cached_step
        def again() -> int:
            return 1


def test_a_global_step_takes_no_context():
    """What is everybody's must not look into one session."""
    with pytest.raises(UsageError, match="global"):

        @cached_step(scope="global")
        def peek(ctx: Context) -> str:
            return ctx.session_id


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "everywhere"},
        {"retry": 0},
        {"ttl": -1},
        {"timeout": "soon"},
        {"max_concurrency": 0},
        {"ignore": "nothing"},
        {"version": 2},
        {"reads": [1]},
    ],
    ids=str,
)
def test_wrong_options_are_refused_at_decoration(options):
    """A wrong option is refused where it is written."""
    with pytest.raises(UsageError):

        @cached_step(**options)
        def step(n: int) -> int:
            return n


def test_scopes_share_as_far_as_they_say():
    """Session: each session its own; global: one for all; run: each run its own."""
    calls: list[str] = []

    @cached_step
    def by_session() -> None:
        calls.append("session")

    @cached_step(scope="global")
    def by_all() -> None:
        calls.append("global")

    @cached_step(scope="run")
    def by_run() -> None:
        calls.append("run")

    @workflow
    def flow() -> None:
        for step in (by_session, by_all, by_run) * 2:
            step()

    for session in ("a", "b", "a"):
        flow.with_options(session_id=session)()

    assert calls == ["session", "global", "run", "session", "run", "run"]


def test_a_run_step_outside_a_run_remembers_nothing():
    """There is no run to remember it in."""
    calls = []

    @cached_step(scope="run")
    def mail() -> None:
        calls.append(1)

    mail(), mail()

    assert calls == [1, 1]
    assert mail.key() == ""


def test_refresh_runs_a_hit_again_and_replaces_it():
    """with_options(refresh=True) makes the result anew for everybody."""
    answers = iter([1, 2])

    @cached_step
    def give() -> int:
        return next(answers)

    assert [give(), give.with_options(refresh=True)(), give()] == [1, 2, 2]


def test_options_send_a_call_elsewhere():
    """session_id= and store= choose whose memory is used."""
    calls = []
    other = MemoryStore()

    @cached_step
    def give(ctx: Context) -> str:
        calls.append(ctx.session_id)
        return ctx.session_id

    results = [give(), give.with_options(session_id="s")(), give.with_options(store=other)()]

    assert results == ["default", "s", "default"]
    assert calls == ["default", "s", "default"]
    assert give.with_options(store=other).is_cached()
    with pytest.raises(UsageError, match="session id is a str"):
        give.with_options(session_id=7)  # type: ignore[arg-type]


def test_verbs_key_is_cached_forget_and_seed():
    """The verbs take the step's own parameters."""
    calls = []

    @cached_step
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    assert double.key(1) == double.key(n=1) != double.key(2)
    assert not double.is_cached(1)
    double.seed(99, 1)
    assert double.is_cached(1)
    assert double(1) == 99
    assert double.forget(1) == 1
    assert double.forget(1) == 0
    assert double(1) == 2
    assert calls == [1]


def test_map_keeps_the_order_and_the_finished():
    """Results are in order; the error of the lowest index is raised; what finished stays remembered."""
    barrier = threading.Barrier(3, timeout=5)
    calls = []

    @cached_step
    def read(n: int) -> int:
        barrier.wait()
        calls.append(n)
        if n != 1:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError) as caught:
        read.map([0, 1, 2])

    assert caught.value.args == (0,)
    assert [read.is_cached(n) for n in range(3)] == [False, True, False]


def test_map_collects_exceptions_when_asked():
    """return_exceptions puts them in their places."""

    @cached_step
    def invert(n: int) -> float:
        return 1 / n

    good, bad = invert.map([2, 0], return_exceptions=True)

    assert good == 0.5
    assert isinstance(bad, ZeroDivisionError)


async def test_map_of_an_async_step_is_awaited():
    """An async step runs in tasks, so many at once as allowed."""
    now, most = [0], [0]

    @cached_step
    async def read(n: int) -> int:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.01)
        now[0] -= 1
        return n

    assert await read.map(range(6), max_concurrency=2) == list(range(6))
    assert most == [2]
    assert await read.amap([1, 2]) == [1, 2]


def test_map_refuses_generators_and_nothing():
    """What yields is iterated, not mapped."""

    @cached_step
    def stream(n: int) -> Iterator[int]:
        yield n

    with pytest.raises(UsageError, match="yields"):
        stream.map([1])
    with pytest.raises(UsageError, match="nothing"):
        stream.map()


def test_map_refuses_what_cannot_be_called_or_gone_over():
    """The message says what it was given; an error inside an iterable is its own."""

    @cached_step
    def double(n: int) -> int:
        return 2 * n

    @workflow
    def flow(ctx: Context, fn: Any, *over: Any) -> Any:
        return ctx.map(fn, *over)

    broken = (len(n) for n in [3])

    with pytest.raises(UsageError, match=r"iterable=3: write a list.*not a int"):
        flow(double, 3)
    with pytest.raises(UsageError, match=r"fn=3: write a function"):
        flow(3, [1])
    with pytest.raises(TypeError, match="has no len"):
        double.map(broken)


def test_steps_nest_a_hundred_deep_and_say_so_where_they_cannot():
    """The stack is Python's own; whoever runs out of it is told how much a step takes, once."""

    @cached_step
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(100) == 100
    with pytest.raises(RecursionError) as caught:
        down(1000)
    assert sum("sys.setrecursionlimit()" in note for note in caught.value.__notes__) == 1


def test_a_bare_thread_finds_no_run():
    """While a run is active, a thread that lost its context is refused instead of landing in another memory."""
    errors = []

    @cached_step
    def read() -> int:
        return 1

    @workflow
    def flow() -> None:
        def bare() -> None:
            try:
                read()
            except NoActiveRun as error:
                errors.append(str(error))

        thread = threading.Thread(target=bare)
        thread.start()
        thread.join()

    flow()

    assert "ctx.map" in errors[0]
    assert read() == 1


def test_max_concurrency_lets_hits_pass():
    """Executions queue for places; hits do not."""
    free = threading.Event()
    entered = threading.Event()

    @cached_step(max_concurrency=1)
    def read(n: int) -> int:
        if n:
            entered.set()
            free.wait(5)
        return n

    read(0)
    thread = threading.Thread(target=read, args=(1,))
    thread.start()
    entered.wait(5)

    assert read(0) == 0
    free.set()
    thread.join()


def test_idempotency_key_is_stable_and_only_in_steps():
    """Each attempt of one call sees one key; a body has none."""
    keys = []

    @cached_step(retry=RetryPolicy(attempts=2, wait=0))
    def pay(ctx: Context) -> None:
        keys.append(ctx.idempotency_key)
        if len(keys) == 1:
            raise ConnectionError

    @workflow
    def flow(ctx: Context) -> None:
        pay()
        with pytest.raises(NoActiveRun):
            ctx.idempotency_key  # noqa: B018

    flow()

    assert keys[0] == keys[1]


def test_a_context_is_dead_after_its_call():
    """A context kept after its step ended raises on use."""
    kept = []

    @cached_step
    def keep(ctx: Context) -> None:
        kept.append(ctx)

    keep()

    with pytest.raises(NoActiveRun, match="has ended"):
        kept[0].state


@pytest.mark.parametrize("options", [{"scope": "run"}, {"version": "1"}], ids=str)
def test_closures_of_one_factory_are_different_steps(options):
    """Also where their code does not count, what they have captured does."""

    def times(factor: int):
        @cached_step(**options)
        def multiply(n: int) -> int:
            return n * factor

        return multiply

    @workflow
    def flow() -> list[int]:
        return [times(2)(3), times(5)(3), times(2)(3)]

    assert flow() == [6, 15, 6]


def test_what_a_step_counts_itself_is_no_part_of_its_version():
    """A variable that the function sets does not make it another step."""
    count = 0

    @cached_step(version="1")
    def step() -> int:
        nonlocal count
        count += 1
        return count

    assert [step(), step()] == [1, 1]


def test_the_idempotency_key_outlives_an_edit():
    """A payment step that was edited after it died is still the same payment; with a ttl, each run's is its own."""
    keys = []

    def pay(version: str, ttl: float | None):
        @cached_step(version=version, ttl=ttl)
        def step(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        return step

    @workflow
    def flow(version: str, ttl: float | None) -> None:
        pay(version, ttl)()

    flow("1", None), flow("2", None), flow("3", 0.0), flow("4", 0.0)

    assert keys[0] == keys[1]
    assert len(set(keys[1:])) == 3


def test_what_is_not_awaited_is_named_by_python():
    """Who forgets `await` reads the name of the step, the workflow or the mapped function, not one of ours."""

    @cached_step
    async def read(url: str) -> str:
        return url

    @workflow
    async def digest(url: str) -> str:
        return url

    @workflow
    def gather(ctx: Context) -> None:
        ctx.map(read, ["a"])

    for forgetful, name in ((lambda: read("a"), read.__qualname__), (lambda: digest("a"), digest.__qualname__)):
        with pytest.warns(RuntimeWarning, match=rf"coroutine '{re.escape(name)}' was never awaited"):
            forgetful()
    with pytest.warns(RuntimeWarning, match=re.escape(f"coroutine 'map({read.__qualname__})' was never awaited")):
        gather()
