"""The library's log: silent, safe, and in the application's form once there is one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import textwrap
import threading

import pytest
import structlog

from agentflow._logging import bind, enabled, logger


@pytest.fixture(autouse=True)
def unconfigured():
    """Each test starts as a program that has configured nothing."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def captured():
    """An application's structlog configuration whose last processor keeps the events."""
    capture = structlog.testing.LogCapture()
    structlog.configure(processors=[capture])
    return capture.entries


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )


def test_a_program_that_configured_nothing_sees_no_line_of_ours():
    """Even a critical line prints nothing until the application asks for logs."""
    done = run("""
        from agentflow._logging import logger
        logger().critical("run.failed", run_id="r1")
    """)

    assert (done.stdout, done.stderr) == ("", "")


def test_logging_basic_config_is_enough_to_see_events_with_their_values():
    """A plain handler shows the event's name and its values on one line."""
    done = run("""
        import logging
        logging.basicConfig(level=logging.INFO)
        from agentflow._logging import logger
        logger().info("step.completed", step="read", cached=True)
    """)

    assert done.stderr == "INFO:agentflow:step.completed step='read' cached=True\n"


def test_a_record_carries_the_values_and_the_callers_place(caplog):
    """A JSON formatter finds the values on the record, and its file and line are those of the call."""
    caplog.set_level(logging.INFO, "agentflow")

    logger(run_id="r1").info("step.completed", step="read")

    (record,) = caplog.records
    assert (record.name, record.levelname, record.run_id, record.step) == ("agentflow", "INFO", "r1", "read")
    assert (record.filename, record.funcName) == (
        "test_logging.py",
        "test_a_record_carries_the_values_and_the_callers_place",
    )


def test_the_callers_place_survives_the_detour_of_exception(caplog):
    """`exception()` names the caller's function too and hands the traceback to the handlers."""
    try:
        raise ValueError("no such page")
    except ValueError:
        logger().exception("step.failed")

    (record,) = caplog.records
    assert record.funcName == "test_the_callers_place_survives_the_detour_of_exception"
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


async def test_the_async_methods_log_too(caplog):
    """`ainfo` and its kin, which structlog runs in a thread, give the same record."""
    caplog.set_level(logging.INFO, "agentflow")

    await logger().ainfo("step.completed", step="read")

    assert [record.getMessage() for record in caplog.records] == ["step.completed step='read'"]


def test_a_configured_structlog_gets_our_events(captured):
    """An application's own processors see the event, its values and its level."""
    logger(run_id="r1").warning("step.slow", seconds=4)

    assert captured == [{"event": "step.slow", "run_id": "r1", "seconds": 4, "log_level": "warning"}]


def test_a_configured_structlog_names_the_stdlib_logger_agentflow(caplog):
    """With structlog over the standard library, levels can be set for the logger "agentflow"."""
    structlog.configure(
        logger_factory=structlog.stdlib.LoggerFactory(), processors=[structlog.stdlib.render_to_log_kwargs]
    )

    logger().warning("step.slow")

    assert [(record.name, record.getMessage()) for record in caplog.records] == [("agentflow", "step.slow")]


def test_nothing_of_the_process_is_configured():
    """A line of ours leaves structlog, the root logger and its handlers as they were."""
    done = run("""
        import logging, structlog
        from agentflow._logging import logger
        logger().warning("step.slow")
        root = logging.getLogger()
        print(structlog.is_configured(), root.handlers, root.level, logging.getLoggerClass() is logging.Logger)
    """)

    assert done.stdout == "False [] 30 True\n"


def test_importing_the_module_does_not_import_structlog():
    """structlog is loaded by the first logger, not by `import agentflow`, and not by asking whether one would show."""
    done = run("""
        import sys
        from agentflow import _logging
        asked = [_logging.enabled(), _logging.enabled(30)]
        before = "structlog" in sys.modules
        _logging.logger()
        print(asked, before, "structlog" in sys.modules)
    """)

    assert done.stdout == "[False, True] False True\n"


def test_bind_gives_its_values_to_the_loggers_made_inside(captured):
    """Blocks nest; what was bound inside is gone after the block, also after an exception."""
    with pytest.raises(ValueError, match="stop"), bind(run_id="r1"):
        with bind(step="read"):
            logger().info("inner")
        logger().info("outer")
        raise ValueError("stop")
    logger().info("after")

    values = [{name: value for name, value in entry.items() if name != "log_level"} for entry in captured]
    assert values == [
        {"event": "inner", "run_id": "r1", "step": "read"},
        {"event": "outer", "run_id": "r1"},
        {"event": "after"},
    ]


async def test_what_one_task_binds_no_other_task_sees(captured):
    """Two tasks that bind at the same time keep their values apart."""
    both_bound = asyncio.Barrier(2)

    async def task(name: str) -> None:
        with bind(run_id=name):
            await both_bound.wait()
            logger().info("line", expected=name)

    await asyncio.gather(task("a"), task("b"))

    assert sorted((entry["run_id"], entry["expected"]) for entry in captured) == [("a", "a"), ("b", "b")]


def test_a_thread_started_in_a_copied_context_keeps_the_values(captured):
    """Bound values travel by context variables, as everything of a run does."""
    with bind(run_id="r1"):
        context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: logger().info("line"),))

    thread.start()
    thread.join()

    assert [entry["run_id"] for entry in captured] == ["r1"]


@pytest.mark.parametrize("control", ["\n", "\r", "\x1b[31m", "\x9b2J", "\u202e", "\u2028", "\ud800"])
def test_an_event_name_stays_one_printable_line(control, captured, caplog):
    """A name with control characters forges no second line and moves no cursor, in either form."""
    logger().warning(f"said: {control}INFO forged")
    structlog.reset_defaults()
    logger().warning(f"said: {control}INFO forged", text=control)

    shown = [captured[0]["event"], caplog.records[-1].getMessage()]
    assert all(text.isprintable() for text in shown)
    assert all("INFO forged" in text for text in shown)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", "canary"),
        ("OPENAI_API_KEY", "canary"),
        ("x-api-key", "canary"),
        ("Authorization", "Basic canary"),
        ("password", "canary"),
        ("headers", {"Authorization": "canary", "accept": "text"}),
        ("calls", [{"arguments": ({"client_secret": "canary"},)}]),
        ("url", "https://example.org/v1?a=b&key=canary&c=d"),
        ("message", "Incorrect API key provided: sk-canary-0123456789abcdef"),
        ("header", "Authorization: Bearer canary"),
    ],
)
def test_what_looks_like_a_secret_is_masked(name, value, captured, caplog):
    """Neither the application's processors nor a record see a key, a password or a token."""
    logger().warning("model.request", **{name: value})
    structlog.reset_defaults()
    logger().warning("model.request", **{name: value})

    everything = repr([captured, [vars(record) for record in caplog.records]])
    assert "canary" not in everything
    assert everything.count("[redacted]") >= 2


def test_a_secret_inside_an_event_name_is_masked(captured):
    """An exception's text used as an event name gives no key away."""
    logger().warning("refused: sk-canary-0123456789abcdef")

    assert captured[0]["event"] == "refused: [redacted]"


@pytest.mark.parametrize("name", ["input_tokens", "idempotency_key", "token_count", "key", "cookies_accepted"])
def test_names_that_only_resemble_a_secret_are_shown(name, captured):
    """Figures and ids stay readable."""
    logger().warning("run.completed", **{name: 17})

    assert captured[0][name] == 17


@pytest.mark.parametrize("name", ["name", "message", "args", "module", "msg", "asctime"])
def test_a_value_may_have_a_name_that_records_use_themselves(name, caplog):
    """A log call never raises because of a value's name."""
    logger().warning("step.slow", **{name: "mine"})

    (record,) = caplog.records
    assert getattr(record, f"{name}_") == "mine"
    assert f"{name}='mine'" in record.getMessage()


def test_positional_arguments_are_filled_in(caplog):
    """The standard library's habit works: `warning("read %s of %s", 1, 2)`; a bare percent sign is text."""
    logger().warning("read %s of %s", 1, 2)
    logger().warning("100% read", share="5%")

    assert [record.getMessage() for record in caplog.records] == ["read 1 of 2", "100% read share='5%'"]


def test_enabled_follows_the_level_of_the_logger(caplog):
    """Nobody sees a debug line until the level of "agentflow" says so."""
    caplog.set_level(logging.INFO, "agentflow")

    assert (enabled(), enabled(logging.INFO)) == (False, True)


def test_an_applications_structlog_decides_about_levels_itself(captured):
    """Once structlog is configured every level may be seen, whatever the standard library's levels are."""
    assert enabled()


def test_a_value_whose_repr_has_line_breaks_stays_on_the_line(caplog):
    """A model's text wrapped in an object of the user's own forges no second line either."""

    class Page:
        def __repr__(self) -> str:
            return "<Page\nINFO forged>"

    logger().warning("page.read", page=Page())

    assert caplog.records[0].getMessage() == "page.read page=<Page\\nINFO forged>"


def test_a_line_below_the_level_is_not_even_rendered(caplog):
    """What nobody sees costs no `repr` of its values."""
    shown = []

    class Page:
        def __repr__(self) -> str:
            shown.append(self)
            return "<Page>"

    caplog.set_level(logging.WARNING, "agentflow")
    logger().info("page.read", page=Page())

    assert shown == []
