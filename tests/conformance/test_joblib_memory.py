"""What joblib promises of its `Memory`, asked of `@cached_step`.

Each test names the test of joblib 1.6.0 (`joblib/test/test_memory.py`, `test_memory_async.py`) whose behaviour it restates in our terms;
where we differ on purpose it pins what we do and says why. Those with processes are in `test_joblib_processes.py`. Left out, and why:

* `mmap_mode`, `compress`, and all that memory-maps arrays (`test_memory_numpy_check_mmap_mode[_async]`,
  `test_memorized_result_forwards_mmap_mode`): a stored value is a private copy of plain data, arrays are no values.
* `call_and_shelve`, `MemorizedResult` (`test_call_and_shelve*`, `test_memorized_pickling`, `test_memorized_repr`,
  `test_memorized_result_pickle`): there are no references to results; a call is its own reference, and cheap when it is a hit.
* `test_memory_pickle_dump_load`: a store is named by its directory, not sent between processes.
* `test_memory_reduce_size_bytes_limit`, `..._items_limit`: nothing that was paid for is dropped to make room; age is the one limit
  (`test_forgetting_by_age`).
* `test_func_dir`, `test__get_items*`, `test_memory_default_store_backend`, `test_register_invalid_store_backends*`,
  `test_dummy_store_backend`, `test_memory_objects_repr`, `test_filesystem_store_backend_repr`: joblib's directory layout and its registry of
  backends; the contract of our stores is tested in `tests/stores/test_contract.py`.
* `test_info_log`: what is logged is tested in `tests/test_logging.py`.
* `test_clear_memory_with_none_location`: there is no store that is none.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import pickle
import sqlite3
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

import agentflow
from agentflow import cached_step, workflow
from agentflow._settings import using_store
from agentflow.exceptions import NameConflict, StoreCorrupt, UnserializableValue, UsageError
from agentflow.stores import DiskStore, MemoryStore

pytestmark = pytest.mark.usefixtures("store")


@cached_step
def plus(x: int, y: int = 1) -> int:
    return x**2 + y


# Once for each argument


def test_a_step_is_executed_once_for_each_argument():
    """joblib, `test_memory_integration`: evaluated lazily, once an argument."""
    calls = []

    @cached_step
    def same(arg: int) -> int:
        calls.append(arg)
        return arg

    results = [same(n) for n in range(3) for _ in range(2)]

    assert results == [0, 0, 1, 1, 2, 2]
    assert calls == [0, 1, 2]


async def test_an_async_step_is_executed_once_for_each_argument():
    """joblib, `test_memory_integration_async`."""
    calls = []

    @cached_step
    async def same(arg: int) -> int:
        await asyncio.sleep(0)
        calls.append(arg)
        return arg

    results = [await same(n) for n in range(3) for _ in range(2)]

    assert results == [0, 0, 1, 1, 2, 2]
    assert calls == [0, 1, 2]


def test_forgetting_all_of_a_step_executes_it_again():
    """joblib, `test_memory_integration` (clearing): after `clear` the function runs again, once."""
    calls = []

    @cached_step
    def same(arg: int) -> int:
        calls.append(arg)
        return arg

    @workflow
    def flow(arg: int) -> int:
        return same(arg)

    flow(1)
    forgotten = flow.session("default").forget(same)
    results = [flow(1), flow(1)]

    assert forgotten == 1
    assert results == [1, 1]
    assert calls == [1, 1]


def test_a_function_and_an_inner_one_of_its_name_are_two():
    """joblib, `test_memory_integration` (its remark): a function inside another is not the module's of the same name."""
    outer = plus

    def make():
        @cached_step
        def plus(x: int, y: int = 1) -> int:
            return -1

        return plus

    assert [outer(2), make()(2), outer(2)] == [5, -1, 5]


def test_keyword_arguments_are_arguments():
    """joblib, `test_memory_kwarg`, `test_memory_args_as_kwargs`: a name or a place, the call is the same; a name alone is fine too."""
    calls = []

    @cached_step
    def first(arg1: int | None = None, arg2: int = 1) -> int | None:
        calls.append((arg1, arg2))
        return arg1

    results = [first(30, 2), first(arg1=30, arg2=2), first(arg2=2, arg1=30), first(arg1=31), first(31)]

    assert results == [30, 30, 30, 31, 31]
    assert calls == [(30, 2), (31, 1)]


def test_keyword_only_parameters():
    """joblib, `test_memory_func_with_kwonly_args`: passed by place they are a TypeError, also where the call would be a hit."""

    @cached_step
    def echo(a: int, b: int, *, kw1: object = "kw1", kw2: object = "kw2") -> list[object]:
        return [a, b, kw1, kw2]

    assert echo(1, 2, kw1=3) == [1, 2, 3, "kw2"]
    assert echo(1, 2, kw1=3, kw2=4) == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="too many positional"):
        echo(1, 2, 3, kw2=4)


def test_an_ignored_keyword_only_parameter():
    """joblib, `test_memory_func_with_kwonly_args` (ignore): it reaches the function and not the key."""

    @cached_step(ignore=["kw2"])
    def echo(a: int, b: int, *, kw1: object = "kw1", kw2: object = "kw2") -> list[object]:
        return [a, b, kw1, kw2]

    assert echo(1, 2, kw1=3, kw2=4) == [1, 2, 3, 4]
    assert echo(1, 2, kw1=3, kw2="ignored") == [1, 2, 3, 4]


def test_annotations_do_not_hinder():
    """joblib, `test_memory_func_with_signature`."""

    @cached_step
    def add(a: int, b: float) -> float:
        return a + b

    assert [add(1, 2.0), add(1, 2.0)] == [3.0, 3.0]


def test_ignored_parameters():
    """joblib, `test_memory_ignore`: an ignored argument makes no other call."""
    calls = []

    @cached_step(ignore=["y"])
    def sized(x: int, y: int = 1) -> None:
        calls.append(y)

    for y in (1, 1, 2):
        sized(0, y=y)

    assert calls == [1]


def test_ignored_parameters_of_a_wrapped_function():
    """joblib, `test_memory_ignore_decorated`: a decorator with `functools.wraps` below ours does not hide the parameters."""
    calls = []

    def decorate(fn):
        @functools.wraps(fn)
        def wrapped(*args, **kwargs):
            return fn(*args, **kwargs)

        return wrapped

    @cached_step(ignore=["y"])
    @decorate
    def sized(x: int, y: int = 1) -> None:
        calls.append(y)

    for y in (1, 1, 2):
        sized(0, y=y)

    assert calls == [1]


@pytest.mark.parametrize("options", [{"ignore": ["x"], "ttl": 60}, {"ignore": []}])
def test_options_before_the_function(options):
    """joblib, `test_partial_decoration`: the decorator takes its options first and the function later."""
    decorate = cached_step(**options)

    def same(x: int) -> int:
        return x

    step = decorate(same)

    assert [step(1), step(2)] == ([1, 1] if options["ignore"] else [1, 2])


# Which function it is


def test_a_lambda_needs_a_name():
    """joblib, `test_memory_lambda`, `test_memory_eval`. Ours differ: results are found by name in another process, and a lambda has none."""
    calls = []

    def note(x: int) -> int:
        calls.append(x)
        return x

    with pytest.raises(UsageError, match="lambda"):
        cached_step(lambda x: note(x))
    step = cached_step(name="noted")(lambda x: note(x))
    evaluated = cached_step(name="evaluated")(eval("lambda x: x"))

    assert [step(1), step(1), evaluated(1)] == [1, 1, 1]
    assert calls == [1]


def test_functions_that_share_a_name_share_no_results():
    """joblib, `test_memory_name_collision`: there a warning, since one drops the other's results; here they live side by side."""

    @cached_step
    def twin(x: int) -> int:
        return x

    first = twin

    @cached_step
    def twin(x: int) -> int:
        return -x

    second = twin

    assert first.name == second.name
    assert [first(1), second(1), first(1), second(1)] == [1, -1, 1, -1]
    assert first.is_cached(1)
    assert second.is_cached(1)


def test_a_name_given_to_two_functions_is_refused():
    """joblib, `test_memory_name_collision`: what cannot be told apart by place is an error at decoration, before anything can mix."""
    cached_step(name="taken by joblib's test")(lambda x: x)

    def other(x: int) -> int:
        return x

    with pytest.raises(NameConflict, match="taken by"):
        cached_step(name="taken by joblib's test")(other)


def test_lambdas_of_one_line_do_not_mix():
    """joblib, `test_memory_warning_lambda_collisions`: there four warnings and a cleared cache, here their code tells them apart."""
    same, more = (
        cached_step(name="same")(lambda x: x),
        cached_step(name="more")(lambda x: x + 1),
    )

    assert [same(0), more(1), same(1), more(0)] == [0, 2, 1, 1]


def test_functions_without_source_do_not_mix():
    """joblib, `test_memory_warning_collision_detection`: there a warning that they cannot be told apart; here their bytecode does."""
    same = cached_step(name="of eval")(eval("lambda x: x"))
    more = cached_step(name="of eval")(eval("lambda x: x+1"))

    assert [same(1), more(1), same(0), same(1), more(1)] == [1, 2, 0, 1, 2]


def test_a_partial_is_refused():
    """joblib, `test_memory_partial`. Ours differ: what a partial fixes would be no part of any key; a closure's values are, so that one works."""
    calls = []

    def second(x: int, y: int) -> int:
        calls.append(y)
        return y

    with pytest.raises(UsageError, match="plain function"):
        cached_step(functools.partial(second, 1))

    @cached_step
    def fixed(y: int) -> int:
        return second(1, y)

    assert [fixed(2), fixed(2)] == [2, 2]
    assert calls == [2]


def test_a_changed_default_is_another_call():
    """joblib, `test_argument_change`: a mutable default that the call has changed is another argument the next time."""

    @cached_step
    def counted(x: list[None] = []) -> int:
        length = len(x)
        x.append(None)
        return length

    assert [counted(), counted()] == [0, 1]


def test_an_argument_counts_as_it_was_before_the_call():
    """joblib, `test_argument_change`: what a step does to its argument does not change the key of this call."""
    calls = []

    @cached_step
    def emptied(items: list[int]) -> int:
        calls.append(1)
        taken = sum(items)
        items.clear()
        return taken

    assert [emptied([1, 2]), emptied([1, 2]), emptied([])] == [3, 3, 0]
    assert len(calls) == 2


def test_new_code_in_an_old_function_is_a_new_version():
    """joblib, `test_memory_in_memory_function_code_change`: tools that reload modules put new code into old functions."""

    def put(a: int, b: int) -> int:
        raise NotImplementedError

    put.__code__ = (lambda a, b: a + b).__code__
    step = cached_step(put)
    before = [step(1, 2), step(1, 2)]
    put.__code__ = (lambda a, b: a * b).__code__

    assert before == [3, 3]
    assert [step(1, 2), step(1, 2)] == [2, 2]


class Edited:
    """A module that is written anew while it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[ModuleType] = []

    @property
    def calls(self) -> list[object]:
        return [call for module in self.loaded for call in module.calls]

    def write(self, body: str) -> None:
        text = f"""
            from agentflow import cached_step

            calls = []

            @cached_step
            def f(x):
                {body}
                return x
        """
        self.path.write_text(textwrap.dedent(text))

    def load(self) -> ModuleType:
        importlib.invalidate_caches()
        sys.modules.pop(self.path.stem, None)
        self.loaded.append(importlib.import_module(self.path.stem))
        return self.loaded[-1]


@pytest.fixture
def edited(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Edited(tmp_path / "edited_by_a_joblib_test.py")
    sys.modules.pop("edited_by_a_joblib_test", None)


def test_an_edited_file_counts_when_it_is_loaded(edited):
    """joblib, `test_memory_file_modification`: lines above change nothing, an edit counts from the reload on and not before."""
    edited.write("calls.append(x)")
    module = edited.load()
    module.f(1), module.f(2), module.f(1)
    edited.path.write_text("\n\n" + edited.path.read_text())
    module.f(1), edited.load().f(1)
    moved = edited.calls
    edited.write("calls.append(('new', x))")
    module.f(1), edited.loaded[-1].f(1)
    not_loaded = edited.calls
    module = edited.load()
    module.f(1), module.f(1)

    assert moved == [1, 2]
    assert not_loaded == [1, 2]
    assert edited.calls == [1, 2, ("new", 1)]


def test_a_file_edited_before_the_first_call(edited):
    """joblib, `test_memory_file_modification`, the harder way round: the version is that of the code that runs, not of what the file says by now."""
    edited.write("calls.append('old')")
    module = edited.load()
    edited.write("calls.append('new')")
    module.f(1)
    edited.load().f(1)

    assert edited.calls == ["old", "new"]


def test_threads_do_not_clear_a_notebooks_memory():
    """joblib, `test_parallel_call_cached_function_defined_in_jupyter`: calls at once keep what was remembered, and so does a cell run again."""
    cell = compile("@cached_step\ndef in_a_cell(x):\n    return x\n", "<ipython-input-3-abcdef>", "exec")
    steps = []
    for _ in range(2):
        space = {"cached_step": cached_step, "__name__": "__main__"}
        exec(cell, space)
        steps.append(space["in_a_cell"])

    steps[0](3)
    threads = [threading.Thread(target=steps[0], args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [steps[1].is_cached(number) for number in (1, 2, 3, 4)] == [True, True, True, False]


# Arrays


def test_arrays_are_keyed_by_their_content():
    """joblib, `test_memory_numpy`: equal arrays are one argument, others are not. Ours differ in the result, which must be plain data."""
    numpy = pytest.importorskip("numpy")
    calls = []

    @cached_step
    def listed(array) -> list[list[float]]:
        calls.append(1)
        return array.tolist()

    @cached_step
    def same(array):
        return array

    random = numpy.random.default_rng(0)
    for number in range(3):
        array = random.random((10, 10))
        assert [listed(array), listed(array.copy())] == [array.tolist()] * 2
        assert len(calls) == number + 1
    with pytest.raises(UnserializableValue, match="tolist") as refused:
        same(array)
    assert refused.value.result is array


# Exceptions and validity


def test_exceptions_are_raised_each_time():
    """joblib, `test_memory_exception`: an exception is never remembered."""
    calls = []

    class MyError(Exception):
        pass

    @cached_step
    def failing(exc: int = 0) -> None:
        calls.append(exc)
        if exc:
            raise MyError

    failing()
    for _ in range(3):
        with pytest.raises(MyError):
            failing(1)

    assert calls == [0, 1, 1, 1]


@pytest.mark.parametrize("valid", [True, False])
def test_asking_whether_a_call_is_cached(valid):
    """joblib, `test_check_call_in_cache`: an answer of type bool that counts what makes a result invalid, and executes nothing."""
    step = plus.with_options(ttl=60 if valid else 0)

    before = step.is_cached(2)
    result = step(2)

    assert before is False
    assert result == 5
    assert step.is_cached(2) is valid


def test_a_validity_that_makes_no_sense_is_refused():
    """joblib, `TestCacheValidationCallback.test_invalid_cache_validation_callback`: at decoration, not at the call."""
    for wrong in (True, "soon", -1):
        with pytest.raises(UsageError, match="ttl"):
            cached_step(ttl=wrong)(plus.fn)


@pytest.mark.parametrize("valid", [True, False])
def test_a_validity_that_is_always_the_same(valid):
    """joblib, `TestCacheValidationCallback.test_constant_cache_validation_callback`: asked of the result (`cache_if`) before it is kept."""
    calls = []

    @cached_step(cache_if=lambda result: valid, ignore="noted")
    def doubled(x: int, noted: list[int]) -> int:
        noted.append(x)
        return x * 2

    assert [doubled(2, calls), doubled(2, calls)] == [4, 4]
    assert calls == ([2] if valid else [2, 2])


def test_a_validity_that_the_result_decides():
    """joblib, `TestCacheValidationCallback.test_memory_only_cache_long_run`. Ours asks the result only: what is kept is no matter of the clock."""
    calls = []

    @cached_step(cache_if=lambda found: found["seconds"] > 0.1)
    def measured(seconds: float) -> dict[str, float]:
        calls.append(seconds)
        return {"seconds": seconds}

    for seconds in (0.0, 0.0, 0.2, 0.2):
        measured(seconds)

    assert calls == [0.0, 0.0, 0.2]


def test_results_expire(monkeypatch):
    """joblib, `TestCacheValidationCallback.test_memory_expires_after`: a hit before its time is over, executed again after."""
    now = time.time()
    calls = []

    @cached_step(ttl=timedelta(seconds=0.3))
    def doubled(x: int) -> int:
        calls.append(x)
        return x * 2

    doubled(2), doubled(2)
    before = len(calls)
    monkeypatch.setattr(time, "time", lambda: now + 10)
    doubled(2)

    assert (before, len(calls)) == (1, 2)


def test_executing_although_it_is_remembered():
    """joblib, `TestMemorizedFunc.test_call_method_memorized`: there `call`, here `refresh=True`; the new result is the remembered one."""
    counter: dict[int, int] = {}

    @cached_step(ignore="counter")
    def counted(x: int, counter: dict[int, int]) -> int:
        counter[x] = counter.get(x, 0) + 1
        return counter[x]

    results = [
        counted(2, counter),
        counted(2, counter),
        counted.with_options(refresh=True)(2, counter),
        counted(2, counter),
    ]

    assert results == [1, 1, 2, 2]


async def test_executing_an_async_step_although_it_is_remembered():
    """joblib, `test_memorized_func_call_async`."""
    counter: dict[int, int] = {}

    @cached_step(ignore="counter")
    async def counted(x: int, counter: dict[int, int]) -> int:
        await asyncio.sleep(0)
        counter[x] = counter.get(x, 0) + 1
        return counter[x]

    refreshed = counted.with_options(refresh=True)

    assert [await counted(2, counter), await counted(2, counter)] == [1, 1]
    assert [await refreshed(2, counter), await counted(2, counter)] == [2, 2]


def test_without_memory():
    """joblib, `test_no_memory`, `TestMemorizedFunc.test_call_method_not_memorized`: `.fn` is the bare function, executed each time."""
    calls = []

    @cached_step
    def noted(arg: int) -> int:
        calls.append(arg)
        return arg

    for _ in range(4):
        assert noted.fn(1) == 1

    assert len(calls) == 4
    assert not noted.is_cached(1)


async def test_without_memory_async():
    """joblib, `test_no_memory_async`: a result that is refused (`cache_if`) is given and not kept."""
    calls = []

    @cached_step(cache_if=lambda result: False)
    async def noted(arg: int) -> int:
        calls.append(arg)
        return arg

    for _ in range(4):
        assert await noted(1) == 1

    assert len(calls) == 4


# The store


def test_a_step_is_sent_to_other_processes_by_name():
    """joblib, `test_persistence`: a pickled step is the step, as a pickled function is the function; no result travels with it."""
    assert pickle.loads(pickle.dumps(plus)) is plus


def damage(store: DiskStore) -> None:
    con = sqlite3.connect(store.path / "cache.db")
    with con:
        con.execute("UPDATE Cache SET value = CAST('garbage' AS BLOB)")
    con.close()


def test_a_damaged_result_is_made_anew_when_asked_for(disk):
    """joblib, `test_memory_recomputes_after_an_error_while_loading_results`: a warning and another execution, where the store says so."""
    calls = []

    @cached_step
    def noted(arg: int) -> int:
        calls.append(arg)
        return arg

    noted(1)
    damage(disk)
    lenient = DiskStore(disk.path, durability="process", on_corrupt="recompute")
    with using_store(lenient):
        with pytest.warns(UserWarning, match="damaged"):
            result = noted(1)
        again = noted(1)
    lenient.close()

    assert [result, again] == [1, 1]
    assert calls == [1, 1]


def test_a_damaged_result_is_an_error_by_default(disk):
    """joblib, the same test. Ours differ: a damaged disk is news, so nothing is paid again before somebody says so."""

    @cached_step
    def noted(arg: int) -> int:
        return arg

    noted(1)
    damage(disk)

    with pytest.raises(StoreCorrupt, match="forget"):
        noted(1)


def test_forgetting_by_age(monkeypatch):
    """joblib, `test_memory_reduce_size_age_limit`: what is older than a limit goes, what is younger stays; a negative one is refused."""

    @cached_step
    def kilobyte(arg: int) -> str:
        return "a" * 1000

    @workflow
    def flow(numbers: list[int]) -> None:
        for number in numbers:
            kilobyte(number)

    flow(list(range(10)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    flow([-1, -2])
    session = flow.session("default")

    assert session.forget(older_than=timedelta(days=1)) == 0
    assert session.forget(older_than=60) == 10
    assert len(session.steps()) == 2
    with pytest.raises(UsageError, match="zero or more"):
        session.forget(older_than=timedelta(seconds=-1))
    assert session.forget() == 2


def test_forgetting_everything():
    """joblib, `test_memory_clear`: nothing is left, and everything is executed again."""
    calls = []

    @cached_step
    def kilobyte(arg: int) -> str:
        calls.append(arg)
        return "a" * 1000

    @workflow
    def flow() -> None:
        for number in range(10):
            kilobyte(number)

    flow()
    flow.session("default").delete()
    left = flow.session("default").steps()
    flow()

    assert left == []
    assert calls == [*range(10), *range(10)]


def test_a_place_that_is_none_is_refused():
    """joblib, `test_warning_on_unknown_location_type`, `test_instanciate_incomplete_store_backend`: with an error, where it is said."""
    for wrong in (3, object(), ["directory"]):
        with pytest.raises(UsageError, match="no store"):
            agentflow.configure(store=wrong)


def test_a_path_object_is_a_place(tmp_path):
    """joblib, `test_instanciate_store_backend_with_pathlib_path`: text or path, the same directory is the same memory."""
    calls = []

    @cached_step
    def noted(arg: int) -> int:
        calls.append(arg)
        return arg

    by_path, by_text = DiskStore(tmp_path / "place"), DiskStore(str(tmp_path / "place"))
    for store in (by_path, by_text):
        noted.with_options(store=store)(1)
        store.close()

    assert calls == [1]


def test_the_directory_ignores_itself_in_git(disk):
    """joblib, `TestAutoGitignore.test_memory_creates_gitignore`."""
    plus(1)

    assert (disk.path / ".gitignore").read_text() == "*\n"


def test_a_gitignore_of_the_users_own_is_kept(tmp_path):
    """joblib, `TestAutoGitignore.test_memory_does_not_overwrite_existing_gitignore`."""
    (tmp_path / "place").mkdir(mode=0o700)
    (tmp_path / "place" / ".gitignore").write_text("# mine\n")
    store = DiskStore(tmp_path / "place")

    plus.with_options(store=store)(1)
    store.close()

    assert (tmp_path / "place" / ".gitignore").read_text() == "# mine\n"


def test_two_stores_do_not_know_of_each_other():
    """joblib, `test_memory_integration` (a `Memory` for each location): what one remembers the other executes."""
    calls = []

    @cached_step
    def noted(arg: int) -> int:
        calls.append(arg)
        return arg

    for place in (MemoryStore(), MemoryStore()):
        noted.with_options(store=place)(1)

    assert calls == [1, 1]
