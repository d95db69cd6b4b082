"""The pytest plugin, in test sessions of its own: real interpreters, without a network, as a user's project has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent

APP = """
from agentflow import Agent, Context, cached_step, workflow

agent = Agent("openai:gpt-4o")
executed = []

@cached_step
def ask(topic: str) -> str:
    executed.append(topic)
    return agent.run(topic).output

@workflow
def flow(ctx: Context, topic: str) -> str:
    ctx.state["runs"] = ctx.state.get("runs", 0) + 1
    return ask(topic)

@cached_step
def double(n: int) -> int:
    executed.append(n)
    return 2 * n
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a module, in which the plugin is loaded as an installed one is."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(pytester.path)]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(app=APP)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(
        "-p", "agentflow._pytest_plugin", "-p", "no:cacheprovider", *arguments, timeout=60
    )


def test_each_test_has_a_store_of_its_own(project):
    """What one test remembers no other test finds, and no directory is left behind."""
    project.makepyfile(
        test_it="""
        import pytest
        from app import double, executed, flow
        from agentflow import list_runs
        from agentflow.stores import MemoryStore

        @pytest.mark.parametrize("time", [1, 2, 3])
        def test_alone(time, agentflow_store):
            executed.clear()
            assert isinstance(agentflow_store, MemoryStore)
            assert [double(2), double(2)] == [4, 4]
            assert executed == [2]
            assert list_runs() == []
        """
    )

    run(project).assert_outcomes(passed=3)
    assert not (project.path / ".agentflow").exists()


def test_names_of_what_a_test_defines_are_its_own(project):
    """Two tests may define workflows and steps of one name; what a module defines keeps its name for all of them."""
    project.makepyfile(
        late="""
        from agentflow import cached_step

        @cached_step(name="late")
        def late() -> int:
            return 1
        """,
        test_it="""
        import pytest
        from agentflow import cached_step, workflow
        from agentflow.exceptions import NameConflict

        def test_one():
            import late

            @workflow(name="flow")
            def one() -> int:
                return 1

            assert one() == 1

        def test_two():
            @workflow(name="flow")
            def two() -> int:
                return 2

            assert two() == 2
            with pytest.raises(NameConflict, match="flow"):
                @workflow(name="flow")
                def three() -> int:
                    return 3
            with pytest.raises(NameConflict, match="late"):
                @cached_step(name="late")
                def later() -> int:
                    return 2
        """,
    )

    run(project).assert_outcomes(passed=2)


def test_a_store_on_disk_is_a_setting(project):
    """Then it is a directory that child processes find, too."""
    project.makeini("[pytest]\nagentflow_store = disk\n")
    project.makepyfile(
        test_it="""
        import os, subprocess, sys
        from app import double
        from agentflow.stores import DiskStore

        def test_child(agentflow_store):
            assert isinstance(agentflow_store, DiskStore)
            double(2)
            program = "from app import double, executed; print(double(2), executed)"
            child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            assert child.stdout.split() == ["4", "[]"]
        """
    )

    run(project).assert_outcomes(passed=1)


def test_real_requests_are_refused_and_the_message_says_what_to_do(project):
    """At once, in the test and in its child processes; the mark permits them."""
    project.makepyfile(
        test_it="""
        import subprocess, sys
        import pytest
        from app import flow
        from agentflow.models._base import real_requests

        def test_refused():
            flow("cats")

        def test_child():
            program = "from app import flow; flow('cats')"
            child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            assert "tests make no real model requests" in child.stderr

        @pytest.mark.agentflow(model_requests=True)
        def test_permitted():
            real_requests.check("openai:gpt-4o")
        """
    )

    result = run(project)

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*a request to openai:gpt-4o was refused: tests make no real model requests*scripted_model*"]
    )


def test_a_scripted_model_answers_for_every_agent(project):
    """In sync and async tests, threads included; what was not asked for fails the test."""
    project.makepyfile(
        test_it="""
        import asyncio, threading
        from app import flow

        def test_sync(scripted_model):
            model = scripted_model(["About cats."])
            assert flow("cats") == "About cats."
            assert model.requests[0].messages[-1].text == "cats"

        def test_thread(scripted_model):
            scripted_model(["About cats."])
            answers = []
            thread = threading.Thread(target=lambda: answers.append(flow("cats")))
            thread.start()
            thread.join()
            assert answers == ["About cats."]

        def test_async(scripted_model):
            async def main():
                scripted_model(["About cats."])
                return await flow.acall("cats")
            assert asyncio.run(main()) == "About cats."

        def test_left_over(scripted_model):
            scripted_model(["one", "two"])
            assert flow("cats") == "one"
        """
    )

    result = run(project)

    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*asked 1 times and has 1 of 2 answers left; the next is 'two'*"])


def test_isolation_can_be_left_out(project):
    """By mark for a test, by setting for a project; then the configured store is in force."""
    project.makepyfile(
        conftest="import agentflow\nfrom agentflow.stores import MemoryStore\nagentflow.configure(store=MemoryStore())\n",
        test_it="""
        import pytest
        from app import double, executed

        @pytest.mark.agentflow(isolate=False)
        @pytest.mark.parametrize("time", [1, 2])
        def test_shared(time, agentflow_store):
            double(2)
            assert executed == [2]
        """,
        test_isolated="""
        from app import double

        def test_isolated():
            assert not double.is_cached(2)
        """,
    )
    run(project, "test_it.py", "test_isolated.py").assert_outcomes(passed=3)

    project.makeini("[pytest]\nagentflow_isolate = false\n")
    result = run(project, "test_it.py", "test_isolated.py")

    result.assert_outcomes(passed=2, failed=1)


def test_stores_made_explicitly_are_not_replaced(project):
    """Only the default is another one."""
    project.makepyfile(
        test_it="""
        from app import double
        from agentflow.stores import MemoryStore

        mine = MemoryStore()

        def test_one():
            double.with_options(store=mine)(2)

        def test_two():
            assert double.with_options(store=mine).is_cached(2)
            assert not double.is_cached(2)
        """
    )

    run(project).assert_outcomes(passed=2)


ENDLESS = """
import time
from agentflow import Context, workflow

ended = []

@workflow
def endless(ctx: Context) -> None:
    try:
        while True:
            ctx.check()
            time.sleep(0.01)
    finally:
        ended.append(True)
"""


def test_background_runs_end_with_their_test(project):
    """They are cancelled and waited for, so that none writes into the next test's store."""
    project.makepyfile(
        flows=ENDLESS,
        test_it="""
        import time
        from flows import ended, endless

        def test_start():
            run = endless.start()
            while run.status != "running":
                time.sleep(0.01)

        def test_next():
            assert ended == [True]
        """,
    )

    run(project).assert_outcomes(passed=2)


def test_a_project_without_agentflow_loads_nothing_of_it(project):
    """Installed beside it, the plugin costs nothing; a test that loads it late is isolated as well."""
    project.makepyfile(
        test_it="""
        import os, sys

        def test_nothing():
            loaded = {name for name in sys.modules if name.startswith("agentflow")}
            assert loaded == {"agentflow", "agentflow._pytest_plugin"}
            assert {"attr", "diskcache", "pydantic"} & sys.modules.keys() == set()

        def test_late():
            from app import double
            assert double(2) == 4
            assert not os.path.exists(".agentflow")

        def test_later():
            from app import double
            assert not double.is_cached(2)
        """
    )

    run(project).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("ini", "mark", "said"),
    [
        ("agentflow_store = redis", "", '*agentflow_store = redis: write "memory" or "disk"*'),
        (
            "",
            "@pytest.mark.agentflow(isolated=True)",
            "*agentflow(isolate=True, model_requests=False) was given*isolated*",
        ),
        ("", "@pytest.mark.agentflow(False)", "*agentflow(isolate=True, model_requests=False) was given*False*"),
    ],
)
def test_mistakes_are_told(project, ini, mark, said):
    """A setting or mark that is none says what there is."""
    project.makeini(f"[pytest]\n{ini}\n")
    project.makepyfile(test_it=f"import pytest\n{mark}\ndef test_one(): pass\n")

    result = run(project)

    assert result.ret != 0
    assert any(
        line for line in [*result.stdout.lines, *result.stderr.lines] if __import__("fnmatch").fnmatch(line, said)
    )


def test_doctests_are_isolated(project):
    """As tests are."""
    project.makepyfile(
        documented='''
        def example():
            """
            >>> from app import double, executed
            >>> double(2), executed
            (4, [2])
            """
        '''
    )

    run(project, "--doctest-modules", "documented.py").assert_outcomes(passed=1)
    assert not (project.path / ".agentflow").exists()


ASKING = """
from app import agent

def test_asks():
    assert agent.run("What about cats?").output == "About {topic}."
    assert list(agent.stream("And then?")) == ["That ", "was all."]
"""

SERVER = """
import agentflow.models
from agentflow.models import Model
from agentflow.messages import ModelResponse, TextPart
import app

class Far(Model):
    name = "far:away"
    def request(self, request):
        print("ASKED", request.messages[-1].text)
        return ModelResponse(parts=(TextPart(text="About cats."),), finish_reason="stop")
    def stream(self, request):
        print("ASKED", request.messages[-1].text)
        yield "That "
        yield "was all."
        return ModelResponse(parts=(TextPart(text="That was all."),), finish_reason="stop")

object.__setattr__(app.agent, "model", Far())
"""


def test_requests_are_recorded_once_and_replayed_ever_after(project):
    """The recording is a readable file beside the test, in which no key stands; replayed, nobody is asked."""
    project.makepyfile(
        conftest=SERVER,
        test_it=ASKING.replace("{topic}", "cats").replace("And then?", "And then? sk-abcdefghijklmnopqrstuvwx"),
    )

    recorded = run(project, "--agentflow=record", "-s")
    replayed = run(project, "--agentflow=replay", "-s", "-W", "error")

    recorded.assert_outcomes(passed=1)
    replayed.assert_outcomes(passed=1)
    assert sum("ASKED" in line for line in recorded.outlines) == 2
    assert not any("ASKED" in line for line in replayed.outlines)
    text = (project.path / "recordings" / "test_it" / "test_asks.json").read_text()
    assert '"What about cats?"' in text
    assert "sk-abc" not in text
    assert "[redacted]" in text


def test_a_request_that_was_not_recorded_fails_with_the_difference(project):
    """Against the nearest recording, and says how to record it."""
    project.makepyfile(conftest=SERVER, test_it=ASKING.replace("{topic}", "cats"))
    run(project, "--agentflow=record").assert_outcomes(passed=1)
    project.makepyfile(test_it=ASKING.replace("{topic}", "cats").replace("What about", "Which are"))

    result = run(project, "--agentflow=replay")

    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*is not in the recording test_asks.json; *pytest --agentflow=record*"])
    result.stdout.fnmatch_lines(['*-* "content": "What about cats?"*', '*+* "content": "Which are cats?"*'])


def test_recordings_that_nobody_asks_for_are_told(project):
    """As a warning of the test; and without a recording every request is missing."""
    project.makepyfile(conftest=SERVER, test_it=ASKING.replace("{topic}", "cats"))
    run(project, "--agentflow=record").assert_outcomes(passed=1)
    project.makepyfile(test_it="def test_asks():\n    import app\n")

    result = run(project, "--agentflow=replay")

    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*2 of the recorded model requests in test_asks.json were not asked*"])
    project.makepyfile(test_it="def test_other():\n    import app\n    app.agent.run('cats')\n")
    run(project, "--agentflow=replay").stdout.fnmatch_lines(
        ["*recording test_other.json, which is empty or not there*"]
    )


def test_a_recording_that_is_none_is_refused(project):
    """With its name; nothing is asked instead."""
    project.makepyfile(conftest=SERVER, test_it=ASKING.replace("{topic}", "cats"))
    directory = project.path / "recordings" / "test_it"
    directory.mkdir(parents=True)
    (directory / "test_asks.json").write_text('{"format": 1}')

    run(project, "--agentflow=replay").stdout.fnmatch_lines(["*test_asks.json is no recording of model requests*"])


def test_equal_requests_get_their_answers_in_order(project):
    """One more than was recorded is missing."""
    project.makepyfile(
        conftest=SERVER,
        test_it="""
        from app import agent

        def test_asks(request):
            for _ in range(2 if request.config.getoption("--agentflow") == "record" else 3):
                agent.run("Again?")
        """,
    )
    run(project, "--agentflow=record").assert_outcomes(passed=1)

    run(project, "--agentflow=replay").stdout.fnmatch_lines(
        ["*as often as it was asked: every answer of an equal request is used*"]
    )


def test_events_and_calls_of_a_test_can_be_looked_at(project):
    """The fixture has the events of its runs; what ran is known without asking for it, and to each test only of itself."""
    project.makepyfile(
        test_it="""
        import pytest
        from app import double, flow
        from agentflow.testing import assert_hit, assert_ran

        @pytest.mark.parametrize("time", [1, 2])
        def test_alone(time, agentflow_events, scripted_model):
            scripted_model(["About cats."])
            flow("cats")
            double(1)
            assert [event.type for event in agentflow_events][0] == "run_started"
            assert len([event for event in agentflow_events if event.type == "run_started"]) == 1
            assert_ran(double, 1, times=1)
            assert_hit(double, times=0)

        def test_wrong():
            double(1)
            assert_ran(double, 2)
        """
    )

    result = run(project)

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *step 'app:double' never ran with n=2; expected: at least once. What was called:"])
    assert not any("_assert_called" in line for line in result.outlines)  # the traceback ends in the test


def test_secrets_of_the_environment_are_not_recorded(project, monkeypatch):
    """Whatever they look like, in what was asked and in what was answered; a recording without one replays as well."""
    monkeypatch.setenv("SEARCH_API_KEY", "cats-and-dogs")
    asking = ASKING.replace("What about cats?", "The key is cats-and-dogs.").replace("{topic}", "cats")
    project.makepyfile(conftest=SERVER, test_it=asking)

    run(project, "--agentflow=record").assert_outcomes(passed=1)
    run(project, "--agentflow=replay").assert_outcomes(passed=1)

    text = (project.path / "recordings" / "test_it" / "test_asks.json").read_text()
    assert "The key is [redacted]." in text
    assert "cats-and-dogs" not in text


WITH_NOTHING = ASKING.replace("{topic}", "cats") + "\n\ndef test_nothing(): pass\n"


def test_recordings_whose_test_is_gone_are_named(project):
    """At the end, where all tests of the module were collected; what was only deselected is not gone."""
    project.makepyfile(conftest=SERVER, test_it=WITH_NOTHING)
    run(project, "--agentflow=record").assert_outcomes(passed=2)

    kept = run(project, "--agentflow=replay", "-k", "nothing")
    project.makepyfile(test_it=WITH_NOTHING.replace("test_asks", "test_answers"))
    gone = run(project, "--agentflow=replay", "-k", "nothing")
    in_part = run(project, "--agentflow=replay", "test_it.py::test_nothing")

    assert not any("belong to no test" in line for line in [*kept.outlines, *in_part.outlines])
    gone.stdout.fnmatch_lines(
        ["*recordings of model requests that belong to no test*", "recordings/test_it/test_asks.json"]
    )


def test_workers_of_xdist_tell_of_recordings_whose_test_is_gone(project):
    """The controller, which collects nothing, names each once."""
    project.makepyfile(conftest=SERVER, test_it="def test_nothing(): pass\n\ndef test_more(): pass\n")
    directory = project.path / "recordings" / "test_it"
    directory.mkdir(parents=True)
    (directory / "test_gone.json").write_text('{"format": 1, "exchanges": []}')

    gone = run(project, "--agentflow=replay", "-p", "xdist.plugin", "-n", "2")

    assert [line for line in gone.outlines if "test_gone" in line] == ["recordings/test_it/test_gone.json"]


def test_a_run_that_does_not_end_is_told(project):
    """It was cancelled, and does not come to where it would see that."""
    project.makepyfile(
        conftest="import agentflow._pytest_plugin as plugin\nplugin._PATIENCE = 0.2\n",
        test_it="""
        import threading
        from agentflow import workflow

        begun, go_on = threading.Event(), threading.Event()

        @workflow
        def deaf() -> None:
            begun.set()
            go_on.wait(30)

        def test_start():
            deaf.start()
            assert begun.wait(10)

        def test_end():
            go_on.set()
        """,
    )

    result = run(project)

    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*the background run * of test_it:deaf goes on after its test: it was cancelled*"])


def test_background_runs_of_a_test_that_loads_agentflow_late_end_with_it(project):
    """Nothing was loaded when the test began, and nothing goes on when it has ended."""
    project.makepyfile(
        flows=ENDLESS,
        test_it="""
        def test_start():
            import flows
            flows.endless.start()

        def test_next():
            import flows
            assert flows.ended == [True]
        """,
    )

    run(project).assert_outcomes(passed=2)


ASYNC_APP = """

@workflow
async def aflow(topic: str) -> str:
    return await ask.acall(topic)
"""


@pytest.mark.parametrize(
    ("plugin", "options", "mark"),
    [
        ("pytest_asyncio.plugin", ["-o", "asyncio_mode=auto"], ""),
        ("pytest_asyncio.plugin", ["-o", "asyncio_mode=strict"], "@pytest.mark.asyncio"),
        ("anyio.pytest_plugin", [], "@pytest.mark.anyio"),
    ],
    ids=["asyncio auto", "asyncio strict", "anyio"],
)
def test_async_tests_are_isolated(project, plugin, options, mark):
    """By pytest-asyncio in both of its modes and by anyio, with the fixtures, async ones too; background runs end with them."""
    (project.path / "app.py").write_text(APP + ASYNC_APP)
    fixture = "pytest_asyncio.fixture" if "strict" in str(options) else "pytest.fixture"
    project.makepyfile(
        test_it=f"""
        import pytest
        {"import pytest_asyncio" if "strict" in str(options) else ""}
        from agentflow import list_runs
        from agentflow.exceptions import UsageError
        from app import aflow, executed

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @{fixture}
        async def answered(scripted_model, agentflow_events):
            scripted_model(["About cats."])
            return await aflow("cats")

        {mark}
        @pytest.mark.parametrize("time", [1, 2])
        async def test_alone(time, answered, agentflow_events):
            assert answered == "About cats."
            assert len(list_runs()) == 1
            assert agentflow_events[-1].type == "run_completed"

        {mark}
        async def test_refused():
            with pytest.raises(UsageError, match="was refused"):
                await aflow("cats")

        {mark}
        async def test_background(scripted_model):
            scripted_model(["About dogs."])
            run = await aflow.astart("dogs")
            assert await run.aresult(timeout=10) == "About dogs."
        """
    )

    run(project, "-p", plugin, *options).assert_outcomes(passed=4)


def test_tests_on_trio_are_isolated(project):
    """Where workflows run in its worker threads."""
    pytest.importorskip("trio")
    project.makepyfile(
        test_it="""
        import anyio, pytest
        from agentflow import list_runs
        from app import flow

        @pytest.fixture
        def anyio_backend():
            return "trio"

        @pytest.mark.anyio
        @pytest.mark.parametrize("time", [1, 2])
        async def test_alone(time, scripted_model):
            scripted_model(["About cats."])
            assert await anyio.to_thread.run_sync(flow, "cats") == "About cats."
            assert len(list_runs()) == 1
        """
    )

    run(project, "-p", "anyio.pytest_plugin").assert_outcomes(passed=2)


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_tests_of_xdist_are_isolated(project, store):
    """In its worker processes."""
    project.makeini(f"[pytest]\nagentflow_store = {store}\n")
    project.makepyfile(
        test_it="""
        import pytest
        from app import double, executed, flow
        from agentflow import list_runs

        @pytest.mark.parametrize("time", range(8))
        def test_alone(time, scripted_model):
            scripted_model(["About cats."])
            executed.clear()
            assert (flow("cats"), double(2), double(2)) == ("About cats.", 4, 4)
            assert (executed, len(list_runs())) == (["cats", 2], 1)
        """
    )

    run(project, "-p", "xdist.plugin", "-n", "2").assert_outcomes(passed=8)


def test_test_cases_of_unittest_are_isolated(project):
    """They take no fixtures; `agentflow.testing` does what those would, and the mark works on them."""
    project.makepyfile(
        test_it="""
        import unittest
        import pytest
        from app import agent, double, executed, flow
        from agentflow import list_runs
        from agentflow.exceptions import UsageError
        from agentflow.models._base import real_requests
        from agentflow.testing import ScriptedModel, assert_ran, override_models

        class Posts(unittest.TestCase):
            def setUp(self):
                executed.clear()
                assert double(2) == 4

            def test_one(self):
                with override_models(ScriptedModel(["About cats."])):
                    self.assertEqual(flow("cats"), "About cats.")
                self.assertEqual(len(list_runs()), 1)

            def test_two(self):
                self.assertEqual((list_runs(), executed), ([], [2]))
                assert_ran(double, 2, times=1)
                with self.assertRaises(UsageError):
                    agent.run("cats")

            @pytest.mark.agentflow(model_requests=True)
            def test_three(self):
                real_requests.check("openai:gpt-4o")

        class Async(unittest.IsolatedAsyncioTestCase):
            async def test_one(self):
                self.assertEqual(await double.acall(2), 4)
                assert_ran(double, times=1)
        """
    )

    run(project).assert_outcomes(passed=4)


def test_the_clock_of_a_test_is_a_fixture(project):
    """In force until the end of the test, in sync and async ones, and only there."""
    project.makepyfile(
        test_it="""
        import asyncio, time
        from agentflow import RetryPolicy, cached_step
        from agentflow._clock import in_force
        from agentflow.testing import assert_ran, fail_step

        @cached_step(ttl=3600, retry=RetryPolicy(attempts=2, wait=600))
        async def fetch() -> int:
            return 1

        def test_one(agentflow_clock):
            with fail_step(fetch, ConnectionError("reset")):
                asyncio.run(fetch())
            agentflow_clock.advance(3600)
            asyncio.run(fetch())
            assert_ran(fetch, times=2)
            assert len(agentflow_clock.pauses) == 1

        def test_two():
            assert in_force() is None
        """
    )

    run(project).assert_outcomes(passed=2)
