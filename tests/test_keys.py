"""Argument keys: what they promise beside the table of pairs."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import types
import typing
import weakref
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import attr
import pytest
from pydantic import BaseModel, SecretStr

from agentflow._canonical import MAX_DEPTH, digest, fold, module_name, node, qualified_name, scalar
from agentflow._keys import FileArg, NoKey, arguments_digest, encode, entry_key, not_keyed, register_key
from agentflow.exceptions import UnkeyableArgument, UsageError

ROOT = Path(__file__).parent.parent
SAMPLES = Path(__file__).with_name("data") / "key_samples.py"
FIXTURE = json.loads(SAMPLES.with_name("key_digests.json").read_text(encoding="utf-8"))


class Colour(Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    MIXED = [1, 2]


@dataclasses.dataclass
class Record:
    client: Any = None


class Database:
    def __init__(self, url):
        self.url = url


class Replica(Database):
    pass


class Cache(Database):
    pass


class LocalCache(Cache):
    def __agentflow_key__(self):
        return ("local", self.url)


class Connection:
    pass


class Number(int):
    pass


@dataclasses.dataclass(eq=False)
class Hostile:
    """Fails whoever compares, hashes, prints or asks it for an attribute that it does not have."""

    x: int

    def fail(self, *args):
        raise AssertionError("a key looked at it in a way that runs its code")

    __eq__ = __hash__ = __repr__ = __str__ = __len__ = __iter__ = __bool__ = __getattr__ = __reduce_ex__ = fail


class Account(BaseModel):
    token: SecretStr


def key(value):
    return arguments_digest("step", {"value": value})


def refusal(value, **arguments):
    with pytest.raises(UnkeyableArgument) as caught:
        arguments_digest("fetch", {"value": value, **arguments})
    return caught.value


def sub(*command, **environment):
    """Run a program to its end and return what it printed."""
    done = subprocess.run(
        [*map(str, command)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the encoding ---


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"t", b"ab", b"c"), (b"t", b"a", b"bc")),
        ((b"t", b"ab"), (b"t", b"ab", b"")),
        ((b"t", b""), (b"t",)),
        ((b"ta", b"b"), (b"t", b"ab")),
        ((b"t", node(b"t", b"a")), (b"t", b"t", b"a")),
        ((b"t", *[b""] * 16), (b"t", *[b""] * 17)),
        ((b"t", *[b"a"] * 20), (b"t", *[b"a"] * 19, b"b")),
    ],
)
def test_no_two_lists_of_parts_make_one_node(one, other):
    """A node's parts cannot run into each other."""
    assert node(*one) != node(*other)


@pytest.mark.parametrize("value", [None, True, 1, -1, 1.5, 1j, "a", b"a", (1, ("a",)), frozenset({1}), Colour.RED, ()])
def test_scalars_have_canonical_bytes(value):
    """Scalars, their tuples and enum members are encoded, and no two of them alike."""
    others = [None, True, 1, -1, 1.5, 1j, "a", b"a", (1, ("a",)), frozenset({1}), Colour.RED, ()]

    encoded = [scalar(other) for other in others]

    assert scalar(value) in encoded
    assert len(set(encoded)) == len(others)


@pytest.mark.parametrize("value", [[1], {}, {1}, ([1],), Number(1), object(), Record(), range(3), int, len])
def test_what_is_no_scalar_has_no_scalar_bytes(value):
    """Everything else is None to `scalar`, also inside a tuple, and a subclass of a scalar is no scalar."""
    assert scalar(value) is None
    assert scalar((1, value)) is None


def test_an_enum_member_counts_by_name_and_value():
    """An alias is its member; a member whose value is no scalar counts by name."""
    assert scalar(Colour.RED) == scalar(Colour.CRIMSON)
    assert scalar(Colour.MIXED) is not None


def test_a_member_of_a_local_enum_is_no_scalar():
    """A class in a function has no name of its own, so its members have none."""

    class Local(Enum):
        A = 1

    assert scalar(Local.A) is None


def test_a_tuple_that_is_too_deep_is_no_scalar():
    """`scalar` gives up where keys refuse, instead of running into the recursion limit."""
    deep = ()
    for _ in range(100_000):
        deep = (deep,)

    assert scalar(deep) is None


def test_a_long_encoding_is_represented_by_its_digest():
    """Nothing large is carried through the levels above it."""
    assert len(fold(b"x" * 1_000_000)) < 100
    assert fold(b"x" * 1000) == b"x" * 1000
    assert len(encode(["x" * 1_000_000] * 3, owner="step", parameter="p")) < 1000


@pytest.mark.parametrize("make", [lambda text: text, lambda text: text.encode()])
def test_a_long_leaf_is_folded_as_any_long_node(make):
    """Hashing a large text without copying it gives what folding its node would give."""
    leaf = make("x" * 70_000)
    tag = type(leaf).__name__.encode()

    assert scalar(leaf) == fold(node(tag, b"x" * 70_000))


def test_digests_separate_their_parts():
    """("ab", "c") and ("a", "bc") have two digests."""
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert entry_key("ab", "c") != entry_key("a", "bc")
    assert entry_key("a") != entry_key("a", "")
    assert len(entry_key("\ud800")) == 64


def test_a_module_of_the_standard_library_keeps_its_public_name():
    """A class that moves into a private module in a later Python keeps its key; a user's private module is his own."""
    assert module_name("pathlib._local") == "pathlib"
    assert module_name("collections.abc") == "collections.abc"
    assert module_name("shop._models") == "shop._models"


# --- arguments ---


def test_the_order_of_arguments_does_not_count():
    """Arguments are found by name."""
    assert arguments_digest("step", {"a": 1, "b": 2}) == arguments_digest("step", {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({}, {"a": None}),
        ({"a": "b"}, {"b": "a"}),
        ({"ab": "c"}, {"a": "bc"}),
        ({"args": (1, 2)}, {"args": ((1, 2),)}),
        ({"kwargs": {"a": 1}}, {"a": 1}),
    ],
)
def test_other_arguments_have_another_digest(one, other):
    """Names and values both count, each apart from the other."""
    assert arguments_digest("step", one) != arguments_digest("step", other)


def test_the_owner_is_for_the_message_only():
    """The step is another part of the entry's key, so the digest of arguments can be compared between steps."""
    assert arguments_digest("one", {"a": 1}) == arguments_digest("other", {"a": 1})


def test_changing_an_argument_afterwards_does_not_change_its_digest():
    """A digest is text, computed once before the call."""
    value = {"a": [1]}
    before = key(value)

    value["a"].append(2)

    assert before == key({"a": [1]})
    assert before != key(value)


def test_an_object_is_never_asked_to_compare_hash_or_print_itself():
    """Only the fields are read: everything else is the user's code, which may lie, fail or change."""
    assert key(Hostile(1)) == key(Hostile(1)) != key(Hostile(2))
    assert key([Hostile(1)]) != key([Hostile(2)])


def test_what_stands_in_front_of_an_object_is_not_taken_for_it():
    """A proxy that claims another class is judged by its own."""

    class Proxy:
        __class__ = dict

    assert refusal(Proxy()).type_name.endswith("Proxy")


def test_a_value_that_is_shared_a_hundred_times_over_is_encoded_once():
    """`x = [x, x]`, repeated, has 2 ** 150 parts and takes no longer than its 150 lists."""
    value: list[Any] = [1]
    for _ in range(150):
        value = [value, value]

    assert key(value) == key(value)


@pytest.mark.parametrize("shallow_first", [True, False])
def test_depth_counts_where_a_shared_value_is_deepest(shallow_first):
    """A value that is too deep in one place is refused, whether or not it was met higher up before."""
    deep: list[Any] = ["x" * 300]
    for _ in range(150):
        deep = [deep]
    deeper = deep
    for _ in range(60):
        deeper = [deeper]

    error = refusal([deep, deeper] if shallow_first else [deeper, deep])

    assert str(MAX_DEPTH) in str(error)


def test_a_key_needs_little_of_the_stack():
    """A value at the limit of depth can be keyed from far down in a program; with no stack left it is refused cleanly."""
    value: Any = None
    for _ in range(MAX_DEPTH):
        value = [value]

    def descend(levels):
        return key(value) if levels == 0 else descend(levels - 1)

    assert descend(400) == key(value)
    with pytest.raises(UnkeyableArgument, match="stack"):
        descend(sys.getrecursionlimit() - len(inspect.stack(0)) - 60)


def test_classes_are_not_kept_for_ever():
    """A program that makes classes all day does not grow by them."""

    def give(self):
        return 1

    made = [type("Made", (), {"__agentflow_key__": give}) for _ in range(2000)]
    for cls in made:
        key(cls())
    first = weakref.ref(made[0])

    del made, cls
    gc.collect()

    assert first() is None


# --- what the user is told ---


def test_a_refusal_says_what_where_and_what_to_do():
    """The message names step, parameter, place and type, and the three ways out; the same stands in attributes."""
    error = refusal([Record(), {"record": Record(threading.Lock())}])

    assert (error.step, error.parameter, error.path) == ("fetch", "value", "[1]['record'].client")
    assert error.type_name == "_thread.lock"
    for said in ("'fetch'", "'value'", "[1]['record'].client", "_thread.lock", 'ignore=("value",)', "key=", "NoKey"):
        assert said in str(error)
    assert "__agentflow_key__" in str(error)


def test_the_place_is_empty_for_the_argument_itself():
    """A value that is refused as a whole has no place inside."""
    assert refusal(threading.Lock()).path == ""


def test_a_long_place_is_cut():
    """The place of something deep down stays readable."""
    deep: Any = threading.Lock()
    for _ in range(50):
        deep = [deep]

    assert refusal(deep).path == "[0][0][0][0][0][0]..."


def test_a_refusal_shows_no_values():
    """Values can be secret: neither they nor text that is a key are in the message."""
    secret = "sk-4711 very secret"
    error = refusal([{secret: [secret, threading.Lock()]}], other=secret)

    assert error.path == "[0][...][1]"
    assert "4711" not in str(error)


def test_a_secret_is_not_in_any_encoding():
    """A secret counts by a digest, so what is made of an encoding cannot show it."""
    assert b"hunter2" not in encode(SecretStr("hunter2"), owner="step", parameter="p")
    assert b"hunter2" not in encode([Account(token="hunter2")], owner="step", parameter="p")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda: 0, "def"),
        (Record().__init__, "pass the object"),
        (iter([]), "used up"),
        (ValueError(), "exception"),
        (sys, "module"),
        ({}.keys(), "copy"),
        (object(), "consists of"),
    ],
)
def test_a_refusal_says_why(value, said):
    """The reason fits the kind of value."""
    assert said in str(refusal(value))


def test_a_file_is_refused_with_the_way_to_key_its_content():
    """An open file is a place in a file; `FileArg` is the file."""
    with open(os.devnull) as file:
        assert "FileArg" in str(refusal(file))


def test_an_instance_of_a_replaced_class_is_refused():
    """After a class was defined anew, a value of the old one would be found under the name of the new one."""
    stale = Record()
    original = globals()["Record"]
    globals()["Record"] = dataclasses.make_dataclass("Record", ["client"])
    try:
        error = refusal(stale)
    finally:
        globals()["Record"] = original

    assert "replaced" in str(error)
    assert key(stale) == key(Record())


# --- NoKey ---


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, NoKey],
        Annotated[int, "note", NoKey],
        Annotated[int, NoKey()],
        Annotated[int, NoKey] | None,
        typing.Optional[Annotated[int, NoKey]],  # noqa: UP045
        Annotated[Annotated[int, NoKey] | None, "note"],
    ],
)
def test_a_marked_annotation_is_not_keyed(annotation):
    """`NoKey` is found in all places where an annotation can carry it."""
    assert not_keyed(annotation)


@pytest.mark.parametrize("annotation", [int, "NoKey", None, Annotated[int, "NoKey"], list[int], int | None, NoKey])
def test_another_annotation_is_keyed(annotation):
    """Only the marker marks."""
    assert not not_keyed(annotation)


def test_equality_that_always_agrees_marks_nothing():
    """A note that is equal to everything is not the marker."""

    class Agreeable:
        __hash__ = object.__hash__

        def __eq__(self, other):
            return True

    assert not not_keyed(Annotated[int, Agreeable()])


# --- FileArg ---


def test_a_file_is_keyed_by_its_content_at_the_call(tmp_path):
    """The same path after an edit is another argument; another path with the same content is not."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"one")
    other.write_bytes(b"one")
    file = FileArg(path)
    before = key(file)

    path.write_bytes(b"two")

    assert before == key(FileArg(other))
    assert before != key(file)


def test_every_byte_of_a_large_file_counts(tmp_path):
    """A file is read to its end, in pieces."""
    path = tmp_path / "large"
    path.write_bytes(bytes(3_000_001))
    before = key(FileArg(path))

    with path.open("r+b") as file:
        file.seek(2_999_999)
        file.write(b"x")

    assert key(FileArg(path)) != before


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    """A file that is not there is no matter of keys."""
    with pytest.raises(FileNotFoundError):
        key(FileArg(tmp_path / "missing"))


def test_a_file_argument_is_a_path(tmp_path):
    """It can be opened, and takes text as well as a path."""
    (tmp_path / "a").write_text("content")

    file = FileArg(str(tmp_path / "a"))

    assert file.path == tmp_path / "a"
    with open(file, encoding="utf-8") as opened:
        assert opened.read() == "content"


# --- keys of the user's own ---


def test_a_registered_key_speaks_for_a_type_and_its_subclasses():
    """A registered function gives the key; the class still counts; a class that speaks for itself is asked first."""
    register_key(Database, lambda database: database.url)
    register_key(Cache, lambda cache: cache.url.upper())

    assert key(Database("a")) == key(Database("a")) != key(Database("b"))
    assert key(Replica("a")) == key(Replica("a")) != key(Database("a"))
    assert key(Cache("a")) == key(Cache("A"))
    assert key(LocalCache("a")) != key(LocalCache("A"))


def test_registering_comes_into_force_at_once():
    """A type that was refused before can be keyed as soon as it is registered."""
    refusal(Connection())

    register_key(Connection, lambda _: "the connection")

    assert key(Connection()) == key(Connection())


def test_a_scalar_cannot_get_another_key():
    """Equal texts must stay one argument for everybody."""
    with pytest.raises(UsageError, match="str"):
        register_key(str, len)


@pytest.mark.parametrize(("type_", "fn"), [("Database", len), (Connection, "url")])
def test_what_is_no_class_or_no_function_is_not_registered(type_, fn):
    """The mistake is told where it is made, not never, and not at the first call of a step."""
    with pytest.raises(UsageError, match="write a class, and a function"):
        register_key(type_, fn)


def test_a_local_class_may_speak_for_itself():
    """Whoever gives the key vouches for it, also for a class without a name of its own."""

    class Local:
        def __agentflow_key__(self):
            return 1

    assert key(Local()) == key(Local())


def test_an_instance_cannot_speak_for_its_class():
    """As for Python's own special methods, only the class is asked."""
    plain = types.SimpleNamespace(__agentflow_key__=lambda: 1)

    assert refusal(plain).path == ".__agentflow_key__"


def test_a_class_that_speaks_for_its_instances_can_be_an_argument_itself():
    """The method is for instances; the class counts by name."""
    assert key(LocalCache) == key(LocalCache) != key(Cache)


def test_an_error_in_a_key_function_is_the_users_own():
    """What the user's code raises passes through."""

    class Failing:
        def __agentflow_key__(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        key(Failing())


# --- the same everywhere ---


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_digests_do_not_depend_on_the_hash_seed(seed):
    """Every process has the same keys: they are those of the release that the fixture was written by."""
    found = json.loads(sub(sys.executable, SAMPLES, PYTHONHASHSEED=seed))

    assert found == FIXTURE


@pytest.mark.parametrize("name", ["python3.12", "python3.13"])
def test_digests_do_not_depend_on_the_python_version(name, tmp_path):
    """Another Python has the same keys, as far as it can make the values."""
    python = shutil.which(name)
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{name} is not installed")
    for package in ("attr", "attrs"):  # all that keys need beside the standard library
        (tmp_path / package).symlink_to(Path(attr.__file__).parents[1] / package)

    found = json.loads(sub(python, SAMPLES, PYTHONPATH=str(tmp_path), PYTHONHASHSEED="random"))

    assert len(found) > 70
    assert found == {name: FIXTURE[name] for name in found}


def test_a_script_has_the_keys_of_its_import(tmp_path):
    """The same file gives the same keys whether it is run, run as a module, or imported."""
    (tmp_path / "flows.py").write_text(
        textwrap.dedent("""
            from dataclasses import dataclass
            from enum import Enum
            from agentflow._keys import arguments_digest

            @dataclass
            class Topic:
                name: str

            class Kind(Enum):
                NEWS = 1

            def clean(text):
                return text.strip()

            print(arguments_digest("step", {"a": Topic("cats"), "b": Kind.NEWS, "c": Topic, "d": clean}))
        """)
    )
    path = f"{ROOT}{os.pathsep}{tmp_path}"

    ways = [(tmp_path / "flows.py",), ("-m", "flows"), ("-c", "import flows")]

    assert len({sub(sys.executable, *way, PYTHONPATH=path) for way in ways}) == 1


def test_no_library_is_imported_for_its_values():
    """Whoever passes no arrays and no models does not load what knows them."""
    program = f"""
        import sys, types
        package = types.ModuleType("agentflow")
        package.__path__ = [{str(ROOT / "agentflow")!r}]
        sys.modules["agentflow"] = package
        from agentflow._keys import arguments_digest
        from dataclasses import make_dataclass
        arguments_digest("step", {{"a": [1, {{"b": make_dataclass("Made", ["x"])(1)}}]}})
        print([name for name in ("numpy", "pandas", "pydantic", "uuid", "zoneinfo") if name in sys.modules])
    """

    assert sub(sys.executable, "-c", textwrap.dedent(program)) == "[]\n"


def test_a_qualified_name_is_module_and_place():
    """Names have one form everywhere."""
    assert qualified_name(FileArg) == "agentflow._keys:FileArg"
    assert qualified_name(FileArg.__fspath__) == "agentflow._keys:FileArg.__fspath__"
