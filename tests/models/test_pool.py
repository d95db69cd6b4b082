"""The connections that a process shares: reused, bound to their loop, closed in time, and not inherited."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from agentflow.models._pool import Pool
from agentflow.models.openai import OpenAIModel

from ._chat import HELLO, answer, completion, stream, stream_of


class Client:
    """What a pool asks of a client."""

    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True

    async def aclose(self):
        self.is_closed = True


@pytest.fixture
def pool():
    """A pool of its own."""
    return Pool(Client, Client)


@pytest.fixture
def script(server):
    """Run a script in a process of its own in which every warning is an error on stderr; gives stdout."""
    server.always = answer(completion())

    def run(code, *flags):
        preamble = f"""
            import asyncio, gc, os
            from agentflow.messages import ModelRequest, UserMessage
            from agentflow.models.openai import OpenAIModel
            hello = ModelRequest(messages=(UserMessage(content="Hello"),))
            model = OpenAIModel("m", base_url={server.url!r})
        """
        source = textwrap.dedent(preamble) + textwrap.dedent(code)
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONWARNINGS": "always"}
        done = subprocess.run(
            [sys.executable, *flags, "-c", source],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.split()

    return run


def test_models_share_connections(server):
    """Requests of several models, blocking ones among themselves and those of one loop, use one connection each."""
    server.always = answer(completion())

    def model():
        return OpenAIModel("m", base_url=server.url)

    async def awaited():
        for _ in range(3):
            await model().arequest(HELLO)

    for _ in range(3):
        model().request(HELLO)
    asyncio.run(awaited())

    assert server.connections == 2


def test_a_loop_has_its_own_client(pool):
    """The same within a loop, another in another, and another after it."""

    async def two():
        return await pool.async_client(), await pool.async_client()

    first, again = asyncio.run(two())
    second, _ = asyncio.run(two())

    assert first is again
    assert second is not first


def test_a_client_is_closed_with_its_loop(pool):
    """While the loop still runs, so that nothing is left open."""

    async def client():
        made = await pool.async_client()
        assert not made.is_closed
        return made

    assert asyncio.run(client()).is_closed


def test_loops_in_threads_do_not_meet(pool):
    """Each gets a client of its own, also at the same moment."""
    clients, together = [], threading.Barrier(8)

    async def client():
        together.wait(10)
        clients.append(await pool.async_client())

    threads = [threading.Thread(target=asyncio.run, args=(client(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, clients))) == 8
    assert all(client.is_closed for client in clients)


def test_clients_of_closed_loops_are_forgotten(pool):
    """A program that makes a loop for each request keeps one client, not all."""

    async def client():
        await pool.async_client()

    for _ in range(5):
        asyncio.run(client())

    assert len(pool._kept) == 1


def test_a_loop_that_was_closed_by_hand_is_forgotten_too(pool):
    """Its client was not closed, and cannot be any more."""
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(pool.async_client())
    loop.close()

    asyncio.run(pool.async_client())

    assert not client.is_closed
    assert loop not in pool._kept


def test_a_child_begins_anew(pool):
    """It neither uses nor closes what its parent has."""
    client = pool.client()

    pool._abandon()

    assert pool.client() is not client
    assert not client.is_closed


def test_blocking_requests_have_one_client(pool):
    """In all threads; closed with the process."""
    client = pool.client()

    assert pool.client() is client
    pool.close()
    assert client.is_closed


def test_no_warning_from_loops_one_after_another(server):
    """Each is finished before its sockets can warn (every warning is an error here)."""
    server.always = answer(completion())
    model = OpenAIModel("m", base_url=server.url)

    for _ in range(3):
        assert asyncio.run(model.arequest(HELLO)).text == "Hello!"
    gc.collect()

    assert server.connections == 3


def test_no_warning_at_the_end_of_a_process(script):
    """Whatever is still open then."""
    output = script(
        """
        print(model.request(hello).text, asyncio.run(model.arequest(hello)).text)
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(model.arequest(hello)).text)
        """
    )

    assert output == ["Hello!"] * 3


def test_the_connections_are_closed_at_the_end_of_a_process(script):
    """Not left to be collected; functions of `atexit` run in the reverse order of their registration."""
    output = script(
        """
        import atexit, sys
        atexit.register(lambda: print(sys.modules["agentflow.models._http"]._POOL.client().is_closed))
        model.request(hello)
        """
    )

    assert output == ["True"]


def test_no_warning_from_a_loop_that_was_closed_by_hand(script):
    """Without `shutdown_asyncgens` the connections can only be collected, which happens before the next loop's."""
    output = script(
        """
        for _ in range(2):
            loop = asyncio.new_event_loop()
            print(loop.run_until_complete(model.arequest(hello)).text)
            loop.close()
        """
    )

    assert output == ["Hello!"] * 2


def test_a_stream_that_is_dropped_leaves_no_warning(script, server):
    """Neither with its loop nor without."""
    server.always = stream(stream_of("a", "b"))

    output = script(
        """
        async def first():
            async for text in model.astream(hello):
                return text

        print(next(model.stream(hello)), asyncio.run(first()))
        gc.collect()
        """
    )

    assert output == ["a", "a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_has_connections_of_its_own(script, server):
    """Two processes on one connection would read each other's answers."""
    output = script(
        """
        import sys
        print(model.request(hello).text)
        sys.stdout.flush()
        child = os.fork()
        answers = f"{model.request(hello).text} {asyncio.run(model.arequest(hello)).text}"
        os.write(1, f"{answers} ".encode())  # in one piece, since both processes write there
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )

    assert output == ["Hello!"] * 5
    assert server.connections == 4
