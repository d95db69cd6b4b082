"""What the tests of the stores share: stores to test, and other processes."""

from __future__ import annotations

import os
import tempfile
import textwrap
from pathlib import Path

import pytest

import agentflow.stores
from agentflow.stores import DiskStore, MemoryStore

PACKAGE_ROOT = Path(agentflow.stores.__file__).parents[2]


class Reopened:
    """A disk store that is opened anew for each operation."""

    def __init__(self, path, **options):
        self.path, self.options = path, options

    def __getattr__(self, name):
        def operate(*args, **kwargs):
            store = DiskStore(self.path, **self.options)
            try:
                member = getattr(store, name)
                return member(*args, **kwargs) if callable(member) else member
            finally:
                store.close()

        return operate


@pytest.fixture(params=["memory", "disk", "reopened"])
def make_store(request, tmp_path):
    """Makes the store under test, with options."""
    made = []

    def make(**options):
        kinds = {"memory": MemoryStore, "disk": DiskStore, "reopened": Reopened}
        place = () if request.param == "memory" else (tmp_path / "store",)
        made.append(kinds[request.param](*place, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store):
    """Every kind of store in turn."""
    return make_store()


@pytest.fixture
def disk(tmp_path):
    """A store in a directory that does not exist yet."""
    store = DiskStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def python(spawn):
    """Starts other processes: `python(script, *args)` runs a script in a fresh interpreter."""
    path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))

    def start(script, *args):
        return spawn("-W", "always::ResourceWarning", "-c", textwrap.dedent(script), *args, path=path)

    return start


@pytest.fixture
def outcome(python):
    """Runs a script in a fresh interpreter to its end, and gives what it printed; it must not complain."""

    def run(script, *args):
        process = python(script, *args)
        printed, complaints = process.communicate(timeout=120)
        assert complaints == ""
        assert process.returncode == 0
        return printed.split()

    return run


@pytest.fixture
def open_directory():
    """A directory that other users can look into, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)
