"""What stored values may name, what becomes of them when their classes change, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import re
import subprocess
import sys
import threading
import typing
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict as BackportedTypedDict

from agentflow._serialization import (
    Codec,
    StaleValue,
    codec_for,
    plain_json,
    register_annotation,
    register_type,
    seal,
    unseal,
)
from agentflow._type_registry import KnownTypes, class_name, describe, reachable, real_module
from agentflow.exceptions import IncompatibleStore, StoreCorrupt, UnserializableValue, UsageError

ROOT = Path(__file__).parents[1]
T = TypeVar("T")


def stored(value: object, annotation: Any = Any) -> bytes:
    """Return the bytes of a value."""
    return codec_for(annotation).dumps(value, owner="a test")


def copy_of(value: object, annotation: Any = Any) -> Any:
    """Return what a value is after a round trip."""
    return codec_for(annotation).loads(stored(value, annotation))


@dataclass
class Leaf:
    size: int


@dataclass
class Branch:
    leaves: list[Leaf] = field(default_factory=list)


class Animal(BaseModel):
    name: str


class Dog(Animal):
    tricks: list[str] = []


class Mood(enum.Enum):
    GOOD = 1


class Sealed(BaseModel):
    left: Leaf


# Which classes are known.


def test_without_an_annotation_a_class_is_refused():
    """Nothing says where the class could be found again, so its instance is refused with the two ways out."""
    with pytest.raises(UnserializableValue, match="return annotation name its class, or register") as caught:
        stored([Leaf(1)])

    assert caught.value.path == "[0]"
    assert caught.value.type_name == f"{__name__}.Leaf"


def test_a_declared_class_is_known_with_the_classes_of_its_fields():
    """An annotation gives the classes it names, and those that their fields name."""
    assert copy_of([Branch([Leaf(1)])], list[Branch] | None) == [Branch([Leaf(1)])]


def test_a_subclass_of_a_declared_class_is_known():
    """A step may return a subclass of what it declares, also inside a container, and it stays one."""
    loaded = copy_of([Dog(name="Rex", tricks=["sit"])], list[Animal])

    assert type(loaded[0]) is Dog
    assert loaded == [Dog(name="Rex", tricks=["sit"])]


def test_a_registered_class_is_known_everywhere():
    """`register_type` is a decorator that makes a class known where no annotation names it."""

    @register_type
    @dataclass
    class Registered:
        x: int

    assert copy_of({"a": Registered(1)}) == {"a": Registered(1)}


def test_a_subclass_of_a_registered_class_is_known():
    """What a step may return, the state may keep."""
    register_annotation(list[Animal])

    assert type(copy_of(Dog(name="Rex"))) is Dog


def test_registering_after_the_first_use_counts():
    """A codec that has refused a class takes it once it is registered."""

    @dataclass
    class Late:
        x: int

    with pytest.raises(UnserializableValue):
        stored(Late(1))
    register_type(Late)

    assert copy_of(Late(1)) == Late(1)


def test_register_annotation_registers_what_it_reaches():
    """Every class in an annotation is registered, in fields of fields too, and what cannot be stored is passed over."""

    @dataclass
    class Inner:
        x: int

    @dataclass
    class Outer:
        inner: Inner  # a local name, which nothing can resolve

    class Unstorable:
        pass

    register_annotation(dict[str, list[Outer]] | Literal[Mood.GOOD] | Unstorable)

    assert copy_of(Mood.GOOD) is Mood.GOOD
    with pytest.raises(UnserializableValue, match=r"\.inner cannot be stored.*Inner"):
        stored(Outer(Inner(1)))


def test_a_plain_class_cannot_be_registered():
    """A class whose fields are not declared is refused at once, with what to make of it."""

    class Client:
        pass

    with pytest.raises(UsageError, match="Client cannot be stored.*dataclasses"):
        register_type(Client)


def test_what_is_no_class_cannot_be_registered():
    """An instance in place of its class is a mistake that the message names."""
    with pytest.raises(UsageError, match=r"register_type\(3\): write a class"):
        register_type(3)


@pytest.mark.parametrize("annotation", [object, Any, int, Exception, typing.Hashable])
def test_everybodys_classes_do_not_make_everything_known(annotation):
    """`object` and its like are the parents of all, and declare nothing."""
    with pytest.raises(UnserializableValue):
        stored(Sealed(left=Leaf(1)), annotation)


def test_a_name_in_the_data_is_never_looked_up_elsewhere():
    """A stored class that is not known is a reason to compute again; nothing is imported to find it."""
    body = stored(Leaf(1), Leaf).replace(class_name(Leaf).encode(), b"antigravity:Leaf")

    with pytest.raises(StaleValue, match="antigravity:Leaf is known here"):
        codec_for(Leaf).loads(body)

    assert "antigravity" not in sys.modules


def test_a_class_of_this_process_that_is_not_declared_is_not_known():
    """That a class exists is not enough: it has to be declared or registered."""
    body = stored(Sealed(left=Leaf(1)), Sealed)

    with pytest.raises(StaleValue) as caught:
        codec_for(Leaf).loads(body)

    assert class_name(Sealed) in caught.value.reason


def local_class() -> type:
    @dataclass
    class Local:
        x: int

    return Local


def test_a_local_class_is_known_when_it_is_declared():
    """A class inside a function is taken from the annotation itself."""
    local = local_class()

    assert copy_of(local(1), local) == local(1)


def test_an_annotation_is_searched_everywhere():
    """Arguments of aliases, bounds of type variables, new types, literals and parameters of callables count."""
    bound = TypeVar("bound", bound=Leaf)

    for annotation in (Callable[[Leaf], None], bound, Alias, dict[str, tuple[Leaf, ...]], Annotated[Leaf | None, Mood]):
        assert Leaf in reachable(annotation)
        assert Mood not in reachable(annotation)
    assert Mood in reachable(Literal[Mood.GOOD])


def test_a_local_subclass_that_is_defined_again_replaces_the_older_one():
    """Each call of a function makes another class of one name; the last one is meant."""

    def subclass() -> type[Animal]:
        class Cat(Animal):
            pass

        return Cat

    first = subclass()
    copy_of(first(name="a"), Animal)
    second = subclass()

    assert type(copy_of(second(name="b"), Animal)) is second
    with pytest.raises(UnserializableValue, match="Another class of that name is known"):
        stored(first(name="c"), Animal)


def test_a_class_of_a_module_that_is_defined_again_replaces_the_older_one(monkeypatch):
    """After a notebook cell with a model ran again, the model declared by an older cell means the new one."""
    older = dataclasses.make_dataclass("Cell", [("x", int)], namespace={"__module__": __name__})
    newer = dataclasses.make_dataclass("Cell", [("x", int)], namespace={"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Cell", older, raising=False)
    codec = Codec(list[older])
    body = codec.dumps([older(1)], owner="a test")
    monkeypatch.setattr(sys.modules[__name__], "Cell", newer)

    assert type(codec.loads(body)[0]) is newer
    assert type(codec.loads(codec.dumps([newer(1)], owner="a test"))[0]) is newer
    with pytest.raises(UnserializableValue, match="defined again"):
        codec.dumps([older(1)], owner="a test")


def test_generic_models_of_classes_with_one_name_are_told_apart():
    """`Box[Item]` is named with the module of its Item."""

    class Box(BaseModel, Generic[T]):
        item: T

    one = named("Item", "shop", pydantic_model(x=int))
    other = named("Item", "library", pydantic_model(x=int))

    loaded = copy_of([Box[one](item=one(x=1)), Box[other](item=other(x=1))], tuple[Box[one], Box[other]])

    assert [type(box) for box in loaded] == [Box[one], Box[other]]


def test_unhashable_annotations_have_codecs_too():
    """An `Annotated` that cannot be hashed works like any other."""
    assert copy_of(Leaf(1), Annotated[Leaf, {"unit": "cm"}]) == Leaf(1)


def test_a_codec_is_kept():
    """What a codec has learned about its classes is learned once."""
    assert codec_for(list[Leaf]) is codec_for(list[Leaf])


def test_no_declaration_is_one_thing_however_it_is_said():
    """A missing annotation, `Any` and None declare no class."""
    for annotation in (Any, None, int, "Leaf"):
        assert not [cls for cls in reachable(annotation) if dataclasses.is_dataclass(cls)]


SCRIPT = """
import sys
from dataclasses import dataclass
from agentflow._serialization import codec_for

@dataclass
class Page:
    url: str

if __name__ == "__main__":
    sys.stdout.buffer.write(codec_for(Page).dumps(Page("u"), owner="a test"))
"""


@pytest.mark.parametrize("arguments", [["pages.py"], ["-m", "pages"]], ids=["file", "module"])
def test_a_script_and_its_import_share_their_values(tmp_path, arguments):
    """A class of a script that is run has the name that it has when the script is imported."""
    (tmp_path / "pages.py").write_text(SCRIPT, encoding="utf-8")
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    read = "import sys, pages; print(pages.codec_for(pages.Page).loads(sys.stdin.buffer.read()))"

    body = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, check=True
    ).stdout
    printed = subprocess.run(
        [sys.executable, "-c", read], env=environment, input=body, capture_output=True, check=True
    ).stdout

    assert printed.strip() == b"Page(url='u')"


def test_real_module_of_what_has_none():
    """What does not say where it is from belongs to Python."""
    assert real_module(len) == "builtins"
    assert real_module(type("Made", (), {"__module__": None})) == "builtins"


# Descriptions of annotations, on which digests rely.


class Movie(TypedDict):
    title: str
    sequels: list[Movie]
    year: NotRequired[int]


Alias = typing.NewType("Alias", Leaf)

DESCRIPTIONS = [
    (int, "builtins:int"),
    (int | None, "(builtins:int|builtins:NoneType)"),
    (typing.Optional[int], "(builtins:int|builtins:NoneType)"),  # noqa: UP045
    (list[Leaf], "builtins:list[{leaf}]"),
    (Callable[[int], str], "collections.abc:Callable[(builtins:int),builtins:str]"),
    (Literal["a", 1], "typing.Literal['a', 1]"),
    (Annotated[int, "x"], "builtins:int('x',)"),
    ("Leaf", "Leaf"),
    (typing.ForwardRef("Leaf"), "Leaf"),
    (Movie, "{movie}{{sequels:builtins:list[{movie}],title:builtins:str,year:typing.NotRequired[builtins:int]}}"),
]


@pytest.mark.parametrize(("annotation", "text"), DESCRIPTIONS)
def test_an_annotation_is_described_alike_in_every_process(annotation, text):
    """The description has names and no addresses."""
    assert describe(annotation) == text.format(leaf=class_name(Leaf), movie=class_name(Movie))


def test_a_description_has_no_addresses():
    """The `repr` of a function has an address, which is another one in every process."""
    assert "0x" not in describe(Annotated[int, lambda: 1])


# A class that has changed since.


def named(name: str, module: str, cls: type) -> type:
    """Return a class as if it had been defined as `name` in a module."""
    cls.__name__ = cls.__qualname__ = name
    cls.__module__ = module
    return cls


def pydantic_model(**fields: Any) -> type[BaseModel]:
    """Return a model with fields of these types; a tuple is a type and a default."""
    types = {name: kind[0] if isinstance(kind, tuple) else kind for name, kind in fields.items()}
    defaults = {name: kind[1] for name, kind in fields.items() if isinstance(kind, tuple)}
    return type(BaseModel)("Made", (BaseModel,), {"__annotations__": types, "__module__": "shop", **defaults})


def data_class(**fields: Any) -> type:
    """Return a dataclass with such fields."""
    made = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items()]
    return dataclasses.make_dataclass("Made", made)


def attrs_class(**fields: Any) -> type:
    """Return an attrs class with such fields."""
    made = {
        name: attrs.field(type=kind[0], default=kind[1]) if isinstance(kind, tuple) else attrs.field(type=kind)
        for name, kind in fields.items()
    }
    return attrs.make_class("Made", made, slots=True)


def named_tuple(**fields: Any) -> type:
    """Return a named tuple with such fields."""
    types = {name: kind[0] if isinstance(kind, tuple) else kind for name, kind in fields.items()}
    defaults = {name: kind[1] for name, kind in fields.items() if isinstance(kind, tuple)}
    return type(NamedTuple("Base", []))("Made", (), {}) if not fields else _named_tuple(types, defaults)


def _named_tuple(types: dict[str, Any], defaults: dict[str, Any]) -> type:
    made = namedtuple("Made", types, defaults=defaults.values())  # noqa: PYI024
    made.__annotations__ = types
    return made


def transferred(value: Any, new: type) -> Any:
    """Store an instance, and read it where its class is defined as `new`."""
    old = type(value)
    body = Codec(old).dumps(value, owner="a test")
    return Codec(new).loads(body)


MAKERS = [pydantic_model, data_class, attrs_class, named_tuple]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request):
    """Makes classes of one kind, which all have one name."""
    return lambda **fields: named("Item", "shop", request.param(**fields))


def test_a_field_with_a_default_was_added(make):
    """The old value takes the default."""
    new = make(title=str, pages=(int, 3))

    loaded = transferred(make(title=str)(title="t"), new)

    assert loaded == new(title="t", pages=3)
    assert type(loaded) is new


def test_a_field_without_a_default_was_added(make):
    """The old value cannot be completed, so it is stale."""
    with pytest.raises(StaleValue, match="pages"):
        transferred(make(title=str)(title="t"), make(title=str, pages=int))


def test_a_field_was_removed(make):
    """The old value would lose something, so it is stale."""
    with pytest.raises(StaleValue, match="pages"):
        transferred(make(title=str, pages=int)(title="t", pages=1), make(title=str))


def test_a_field_was_renamed(make):
    """A renamed field is one that is gone and one that is missing."""
    with pytest.raises(StaleValue, match="title"):
        transferred(make(title=str)(title="t"), make(headline=(str, "")))


def test_fields_changed_places(make):
    """Fields are found by name."""
    new = make(pages=int, title=str)

    assert transferred(make(title=str, pages=int)(title="t", pages=1), new) == new(title="t", pages=1)


def test_a_type_became_wider(make):
    """A type that takes the old value as it is keeps it."""
    new = make(title=str | int | None)

    assert transferred(make(title=str)(title="t"), new) == new(title="t")


@pytest.mark.parametrize("kind", [int, bytes, Literal["a"], Annotated[str, Field(max_length=0)]])
def test_a_type_does_not_take_the_old_value(make, kind):
    """Not even where it could be converted: the result would be another value than was remembered."""
    with pytest.raises(StaleValue, match="title"):
        transferred(make(title=str)(title="7"), make(title=kind))


def test_a_type_would_change_the_old_value(make):
    """1 is no 1.0."""
    with pytest.raises(StaleValue, match="size"):
        transferred(make(size=int)(size=1), make(size=float))


def test_an_inner_class_has_changed(make):
    """Each class is held against its own digest, however deep its instances are."""
    new = make(title=str, pages=(int, 3))
    old = make(title=str)
    body = Codec(old).dumps({"found": [old(title="t")]}, owner="a test")

    assert Codec(dict[str, list[new]]).loads(body) == {"found": [new(title="t", pages=3)]}


def test_a_class_has_become_one_of_another_kind():
    """A dataclass that is a model now is stale: what was stored is not what a model consists of."""
    with pytest.raises(StaleValue, match="another kind of class now: model, and was object"):
        transferred(named("Item", "shop", data_class(x=int))(1), named("Item", "shop", pydantic_model(x=int)))


def test_a_type_that_cannot_be_checked_is_stale():
    """A declared type that pydantic cannot validate does not vouch for the old value."""
    with pytest.raises(StaleValue, match="title"):
        transferred(
            named("Item", "shop", data_class(title=str))("t"), named("Item", "shop", data_class(title="Nowhere"))
        )


def test_a_type_that_makes_something_else_of_the_old_value():
    """A value that its type turns into what cannot even be stored is stale."""
    odd = Annotated[str, AfterValidator(lambda title: object())]

    with pytest.raises(StaleValue, match="title"):
        transferred(named("Item", "shop", data_class(title=str))("t"), named("Item", "shop", data_class(title=odd)))


def test_a_class_without_fields_has_nothing_to_outgrow():
    """Members of enums are found by name, whatever else the row of their class says."""
    node = document(Mood.GOOD, Mood)
    node[1][0][1] = "a digest"

    assert codec_for(Mood).loads(to_json(node)) is Mood.GOOD


def test_a_member_of_an_enum_is_gone():
    """A member is found by name, and one that is not there is stale."""
    old, new = (named("Mood", "shop", enum.Enum("Mood", names)) for names in ("GOOD BAD", "BAD FINE"))

    assert transferred(old.BAD, new) is new.BAD
    with pytest.raises(StaleValue, match="GOOD"):
        transferred(old.GOOD, new)


def test_a_combination_of_flags_is_gone():
    """A combination is found by its value, and one with a bit that is gone is stale."""
    old = named("Right", "shop", enum.Flag("Right", "READ WRITE RUN"))
    new = named("Right", "shop", enum.Flag("Right", "READ WRITE"))

    assert transferred(old.READ | old.WRITE, new) is new.READ | new.WRITE
    with pytest.raises(StaleValue, match="has no member 5"):
        transferred(old.READ | old.RUN, new)


def test_members_of_a_set_that_have_become_equal_are_stale():
    """A set that would come back smaller has lost something."""
    old = named("Key", "shop", dataclasses.make_dataclass("Key", [("x", int), ("y", int)], frozen=True))
    y_ignored = ("y", int, field(compare=False))
    new = named("Key", "shop", dataclasses.make_dataclass("Key", [("x", int), y_ignored], frozen=True))
    unhashable = named("Key", "shop", dataclasses.make_dataclass("Key", [("x", int), ("y", int)]))

    for value in ({old(1, 1), old(1, 2)}, {old(1, 1): "a", old(1, 2): "b"}):
        body = stored(value, old)
        with pytest.raises(StaleValue, match="equal now"):
            Codec(new).loads(body)
        with pytest.raises(StaleValue, match="hashed"):
            Codec(unhashable).loads(body)


# What pydantic models keep, and what their changes mean.


def item(new: Callable[[], type[BaseModel]]) -> type[BaseModel]:
    """Return a model as if it had been defined as `shop.Item`."""
    return named("Item", "shop", new())


def test_a_model_whose_validator_was_added_validates_the_old_value():
    """The new validator has its say, and a value it changes is stale."""

    def upper() -> type[BaseModel]:
        class New(BaseModel):
            title: str

            @field_validator("title")
            @classmethod
            def upper(cls, title: str) -> str:
                return title.upper()

        return New

    old, new = item(lambda: pydantic_model(title=str)), item(upper)

    assert transferred(old(title="T"), new).title == "T"
    with pytest.raises(StaleValue, match="title does not keep the stored value"):
        transferred(old(title="t"), new)


def test_a_validator_that_breaks_makes_a_value_stale():
    """Whatever a validator of the new class raises, the answer is to compute again."""

    def broken() -> type[BaseModel]:
        class New(BaseModel):
            title: str

            @model_validator(mode="after")
            def check(self) -> New:
                raise RuntimeError(self.title)

        return New

    with pytest.raises(StaleValue, match="RuntimeError"):
        transferred(item(lambda: pydantic_model(title=str))(title="t"), item(broken))


def test_a_reason_shows_no_values():
    """Reasons are logged, and values may be secrets."""
    old, new = (item(lambda kind=kind: pydantic_model(map=kind)) for kind in (dict[str, str], dict[str, int]))

    with pytest.raises(StaleValue) as caught:
        transferred(old(map={"sesame": "hunter2"}), new)

    assert "hunter2" not in caught.value.reason
    assert "sesame" not in caught.value.reason
    assert "map (int_type)" in caught.value.reason


def test_aliases_do_not_matter_when_a_model_has_changed():
    """Stored fields are found by name, however validation calls them."""

    def aliased() -> type[BaseModel]:
        class New(BaseModel):
            model_config = ConfigDict(frozen=True)

            title: str = Field(alias="theTitle")
            pages: int = Field(validation_alias=AliasChoices(AliasPath("a", 0), "numPages"))
            added: int = 1

        return New

    loaded = transferred(item(lambda: pydantic_model(title=str, pages=int))(title="t", pages=2), item(aliased))

    assert (loaded.title, loaded.pages, loaded.added) == ("t", 2, 1)
    assert loaded.model_fields_set == {"title", "pages"}


def test_a_model_that_validates_by_name_only_is_given_names():
    """A model may have its aliases switched off."""

    def by_name() -> type[BaseModel]:
        class New(BaseModel):
            model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)

            title: str = Field(alias="theTitle")
            added: int = 1

        return New

    assert transferred(item(lambda: pydantic_model(title=str))(title="t"), item(by_name)).title == "t"


def test_a_field_that_is_read_from_a_path_makes_a_changed_model_stale():
    """There is no name by which validation would take the stored value."""

    def path() -> type[BaseModel]:
        class New(BaseModel):
            title: str = Field(validation_alias=AliasPath("a", 0))
            added: int = 1

        return New

    with pytest.raises(StaleValue, match="read from a path"):
        transferred(item(lambda: pydantic_model(title=str))(title="t"), item(path))


def with_extra(policy: str) -> type[BaseModel]:
    class Made(BaseModel):
        model_config = ConfigDict(extra=policy)

        title: str
        added: int = 1

    return Made


def test_extra_values_need_a_model_that_takes_them():
    """Extra values are kept by a model that still allows them, and make the value stale for any other."""
    old = item(lambda: type(BaseModel)("Made", (with_extra("allow"),), {"__module__": "shop"}))
    value = old(title="t", more=[1])

    again = transferred(value, item(lambda: with_extra("allow")))

    assert again.model_extra == {"more": [1]}
    with pytest.raises(StaleValue, match="more"):
        transferred(value, item(lambda: with_extra("ignore")))


def with_private(**private: Any) -> type[BaseModel]:
    namespace = {name: PrivateAttr(default=default) for name, default in private.items()}
    types = {"title": str, **dict.fromkeys(private, Any)}
    return type(BaseModel)("Made", (BaseModel,), {"__annotations__": types, "__module__": "shop", **namespace})


def test_private_attributes_of_a_changed_model():
    """Stored ones are kept, new ones take their default, and one that is gone makes the value stale."""
    value = item(lambda: with_private(_seen=0))(title="t")
    value._seen = 5

    loaded = transferred(value, item(lambda: with_private(_seen=0, _more="m")))

    assert (loaded._seen, loaded._more) == (5, "m")
    with pytest.raises(StaleValue, match="_seen"):
        transferred(value, item(lambda: with_private(_other=0)))


def test_fields_that_were_set_stay_those():
    """Which fields were set survives, also where the class has changed."""
    old, new = (
        item(lambda: pydantic_model(a=(int, 1), b=(int, 2))),
        item(lambda: pydantic_model(a=(int, 1), b=(int, 2), c=(int, 3))),
    )

    assert copy_of(old(b=2), old).model_fields_set == {"b"}
    assert transferred(old(b=2), new).model_fields_set == {"b"}


def test_a_typed_dict_inside_a_model_is_held_against_its_keys():
    """Instances of a TypedDict carry no class, so the model that has them notices a new key."""
    old, new = (BackportedTypedDict("Film", keys) for keys in ({"title": str}, {"title": str, "year": int}))
    for film in (old, new):
        film.__module__ = "shop"
    value = item(lambda: pydantic_model(film=old))(film={"title": "t"})

    assert transferred(value, item(lambda: pydantic_model(film=old))) is not None
    with pytest.raises(StaleValue, match="film"):
        transferred(value, item(lambda: pydantic_model(film=new)))


# Defaults of attrs classes.


def attrs_item(**fields: Any) -> type:
    return named("Item", "shop", attrs.make_class("Made", fields))


def test_a_new_attribute_takes_a_converted_default():
    """A default goes through the converter, as it does in a call."""
    new = attrs_item(a=attrs.field(type=int), b=attrs.field(default="7", converter=int), c=attrs.field(factory=list))

    loaded = transferred(attrs_item(a=attrs.field(type=int))(1), new)

    assert (loaded.a, loaded.b, loaded.c) == (1, 7, [])


def test_a_default_that_needs_the_instance_makes_a_value_stale():
    """There is no instance yet that such a default could be made of."""
    default = attrs.Factory(lambda self: self.a, takes_self=True)

    with pytest.raises(StaleValue, match=r"Item\.b has no default"):
        transferred(
            attrs_item(a=attrs.field(type=int))(1), attrs_item(a=attrs.field(type=int), b=attrs.field(default=default))
        )


def test_a_changed_attrs_class_validates_the_old_value():
    """The validators of attrs have their say too."""
    old = attrs_item(a=attrs.field(type=int))
    new = attrs_item(a=attrs.field(type=int, validator=attrs.validators.ge(5)))

    assert transferred(old(5), new).a == 5
    with pytest.raises(StaleValue, match="ValueError"):
        transferred(old(4), new)


def pydantic_item(**fields: Any) -> type:
    """Return a pydantic dataclass; a field is a type and what stands where its default should."""
    plain = {"__annotations__": {name: kind for name, (kind, _) in fields.items()}}
    defaults = {name: default for name, (_, default) in fields.items() if default is not ...}
    return named("Item", "shop", pydantic_dataclass(type("Made", (), {**plain, **defaults})))


def test_a_new_field_of_a_pydantic_dataclass_takes_its_default():
    """The default is what pydantic gives, not what stands in its place."""
    new = pydantic_item(x=(int, ...), y=(int, Field(3)), z=(list[int], Field(default_factory=list)))

    loaded = transferred(pydantic_item(x=(int, ...))(x=1), new)

    assert (loaded.x, loaded.y, loaded.z) == (1, 3, [])
    assert loaded == new(x=1)


def test_a_constraint_of_a_pydantic_dataclass_counts():
    """A field that has been narrowed does not take a value that it would not have taken."""
    old, new = pydantic_item(x=(int, ...)), pydantic_item(x=(int, Field(gt=5)))

    assert transferred(old(x=6), new).x == 6
    with pytest.raises(StaleValue, match=r"Item\.x"):
        transferred(old(x=5), new)
    with pytest.raises(StaleValue, match=r"Item\.y has no default"):
        transferred(old(x=5), pydantic_item(x=(int, ...), y=(int, ...)))


def test_a_default_that_cannot_be_made_makes_a_value_stale():
    """Whatever a default factory raises, the answer is to compute again."""

    def broken() -> int:
        raise KeyError

    with pytest.raises(StaleValue, match="KeyError"):
        transferred(
            attrs_item(a=attrs.field(type=int))(1), attrs_item(a=attrs.field(type=int), b=attrs.field(factory=broken))
        )


# No code of the user's runs for a class that is what it was.

RAN: list[str] = []


class Noisy(BaseModel):
    title: str

    @field_validator("title")
    @classmethod
    def check(cls, title: str) -> str:
        RAN.append("validator")
        return title

    def model_post_init(self, context: object, /) -> None:
        RAN.append("post init")

    def __setattr__(self, name: str, value: object) -> None:
        RAN.append("setattr")
        super().__setattr__(name, value)


@dataclass
class NoisyData:
    title: str

    def __post_init__(self) -> None:
        RAN.append("post init")

    def __setattr__(self, name: str, value: object) -> None:
        RAN.append("setattr")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        RAN.append("eq")
        return type(other) is NoisyData

    __hash__ = None


@attrs.define
class NoisyAttrs:
    title: str = attrs.field(converter=lambda title: RAN.append("converter") or title)

    def __attrs_post_init__(self) -> None:
        RAN.append("post init")


class NoisyText(str):
    __slots__ = ()

    def __new__(cls, *parts: str) -> NoisyText:
        RAN.append("new")
        return super().__new__(cls, *parts)


@pytest.mark.parametrize("cls", [Noisy, NoisyData, NoisyAttrs, NoisyText])
def test_reading_runs_no_code_of_an_unchanged_class(cls):
    """Validators, converters, `__init__`, `__new__` and `__setattr__` had their say when the value was made."""
    value = cls(title="t") if cls is not NoisyText else cls("t")
    codec = codec_for(cls)
    RAN.clear()

    loaded = codec.loads(codec.dumps([value], owner="a test"))

    assert RAN == []
    assert type(loaded[0]) is cls


# Copies, sharing, threads.


def test_what_is_loaded_is_a_copy():
    """Changing a loaded value changes neither the original nor what is loaded next."""
    value = {"a": [Leaf(1)]}
    codec = codec_for(dict[str, list[Leaf]])
    body = codec.dumps(value, owner="a test")

    codec.loads(body)["a"][0].size = 2

    assert value == codec.loads(body) == {"a": [Leaf(1)]}


def test_loaded_models_share_nothing():
    """Two models of one value, or of two loads, each have a set of their own of the fields that were set."""
    codec = codec_for(list[Dog])
    body = codec.dumps([Dog(name="a", tricks=[])] * 2, owner="a test")

    one, other = codec.loads(body)
    one.__pydantic_fields_set__.clear()

    assert other.model_fields_set == {"name", "tricks"}
    assert codec.loads(body)[0].model_fields_set == {"name", "tricks"}


def test_a_codec_is_shared_between_threads():
    """One codec reads and writes in many threads at once."""
    codec = Codec(list[Animal])
    value = [Dog(name="Rex"), Animal(name="Tom")]
    results: list[Any] = []

    def work() -> None:
        results.extend(codec.loads(codec.dumps(value, owner="a test")) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [value] * 400


def test_equal_sets_are_written_alike():
    """The order that hashes give to a set is no part of it."""
    one, other = {f"k{i}" for i in range(100)}, {f"k{i}" for i in reversed(range(100))}

    assert stored(one) == stored(other)


# Limits.


def nested(depth: int, wrap: Callable[[Any], Any], core: Any = 1) -> Any:
    value = core
    for _ in range(depth):
        value = wrap(value)
    return value


class Node(BaseModel):
    child: Node | None = None


@dataclass
class Link:
    next: Any = None


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"k": value},
    "dict with other keys": lambda value: {1: value},
    "frozenset": lambda value: frozenset({value}),
    "model": lambda value: Node.model_construct(child=value),
    "dataclass": Link,
}
ANY_NODE = tuple[Node, Link]


@pytest.mark.parametrize("wrap", WRAPS)
def test_values_may_be_nested_deeply(wrap):
    """A hundred and fifty levels of anything come back."""
    value = nested(150, WRAPS[wrap], None)

    assert copy_of(value, ANY_NODE) == value


@pytest.mark.parametrize("wrap", ["list", "dict", "dict with other keys", "dataclass"])
def test_the_deepest_value_is_read_again(wrap):
    """What may be written may be read: the parser has room for the deepest value with the deepest scalar in it."""
    core = dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "x"))
    read = 0

    for depth in range(170, 190):
        with contextlib.suppress(UnserializableValue):
            body = stored(nested(depth, WRAPS[wrap], core), ANY_NODE)
            assert codec_for(ANY_NODE).loads(body) == nested(depth, WRAPS[wrap], core)
            read = depth

    assert 175 < read < 181


@pytest.mark.parametrize("wrap", ["list", "tuple", "dict", "dict with other keys", "dataclass"])
def test_too_deep_values_are_refused(wrap):
    """A hundred thousand levels are a sentence, not a crash."""
    value = nested(100_000, WRAPS[wrap])

    with pytest.raises(UnserializableValue, match="nested deeper than 180 levels") as caught:
        stored(value, ANY_NODE)

    assert len(caught.value.path) <= 200
    unwound(value)


def unwound(value: Any) -> None:
    """Take a deep chain of dataclasses apart, which Python itself would do recursively."""
    while isinstance(value, Link):
        following, value.next = value.next, None
        value = following


def test_a_value_that_contains_itself_is_refused():
    """A cycle is named as one, with the way to where it closes."""
    value: dict[str, Any] = {"a": [1]}
    value["a"].append({"back": value})

    with pytest.raises(UnserializableValue, match="contains itself") as caught:
        stored(value)

    assert caught.value.path == "['a'][1]['back']"


def test_a_stack_without_room_is_a_refusal():
    """Where the caller is so deep that there is no room for the value, that is said."""

    def dive(levels: int) -> bytes:
        return dive(levels - 1) if levels else stored(nested(170, lambda value: [value]))

    room = sys.getrecursionlimit() - _frames()

    with pytest.raises(UnserializableValue, match="stack has no room"):
        dive(room - 200)


def _frames() -> int:
    frame, count = sys._getframe(), 0
    while frame:
        frame, count = frame.f_back, count + 1
    return count


@pytest.mark.parametrize("depth", [250, 100_000])
@pytest.mark.parametrize("opening", [b'["list",', b'{"k":', b"["])
def test_hostile_depth_is_a_typed_error(depth, opening):
    """Data that is nested without end is refused by the parser, not by the stack."""
    closing = b"}" if opening.startswith(b"{") else b"]"

    with pytest.raises(StoreCorrupt):
        codec_for(Any).loads(opening * depth + b"1" + closing * depth)


def test_a_repeated_part_is_no_cycle():
    """One object in two places is two objects when it comes back."""
    leaf = Leaf(1)

    loaded = copy_of([leaf, leaf], Leaf)

    assert loaded == [leaf, leaf]
    assert loaded[0] is not loaded[1]


# Damage.

HOSTILE = [
    b"",
    b"[]",
    b"{",
    b"[1]",
    b'["nope"]',
    b'[["list"]]',
    b'["list", [null]]',
    b"NaN",
    b"\xff",
    b"S\xff",
    b'"\\ud800"',
    b'["int", 5]',
    b'["int", "zz"]',
    b'["float", "00"]',
    b'["bytes", "*"]',
    b'["bytes", "YQ"]',
    b'["datetime", "2024-13-01", 0, null]',
    b'["datetime", "2024-01-01T00:00:00", 7, null]',
    b'["timedelta", 1e400, 0, 0]',
    b'["timedelta", 999999999999, 0, 0]',
    b'["decimal", "1E+99999999999999999999999"]',
    b'["fraction", 1, 0]',
    b'["uuid", "x", null]',
    b'["ipv4address", "999.1.1.1"]',
    b'["pattern", "(", 0]',
    b'["pattern", "' + b"(" * 5000 + b'", 0]',
    b'["zoneinfo", "../../etc/passwd"]',
    b'["zoneinfo", "/etc/passwd"]',
    b'["zoneinfo", "a.b"]',
    b'["url", "os.system", "http://a"]',
    b'["url", "HttpUrl", "nope"]',
    b'["defaultdict", "eval"]',
    b'["defaultdict", "__import__"]',
    b'["dict", 1]',
    b'["deque", -5]',
    b'["range", "a", 1, 1]',
    b'["classes"]',
    b'["classes", [], ["model", 0]]',
    b'["classes", [["x"]], 1]',
    b'["classes", [["x", "", [], ["a"]]], ["slice", ["model", 0, 1], null, null]]',
    b'["classes", [[1, 2, 3, 4]], 1]',
    b'["model", 0, 1]',
    b'["str", "zz"]',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_bytes_that_nobody_wrote_are_a_typed_error(body):
    """What is not in the format is `StoreCorrupt` or `StaleValue`, and never an error of Python's own."""
    with pytest.raises((StoreCorrupt, StaleValue)):
        codec_for(Any).loads(body)


def document(value: Any, annotation: Any) -> Any:
    return from_json(stored(value, annotation))


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node[1][0].__setitem__(3, ["__class__"]),  # a field that the class does not have
        lambda node: node[2].append(2),  # more values than names
        lambda node: node[2].pop(),
        lambda node: node[2].__setitem__(1, 7),  # a row that is not there
        lambda node: node[2].__setitem__(1, "a"),
        lambda node: node[1][0].__setitem__(2, [5]),  # a place that is not there
        lambda node: node[2].__setitem__(0, "object+"),
        lambda node: node[2].__setitem__(0, "enum"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("value", [Leaf(1), Animal(name="n")], ids=["dataclass", "model"])
def test_a_planted_instance_is_a_typed_error(value, change):
    """An instance that does not fit its row of the table is not made."""
    node = document(value, type(value))
    change(node)

    with pytest.raises((StoreCorrupt, StaleValue)):
        codec_for(type(value)).loads(to_json(node))


def test_a_planted_flag_of_a_pattern_is_dropped(capsys):
    """`re.DEBUG` would print what the pattern means."""
    loaded = codec_for(Any).loads(b'["pattern", "a", %d]' % (re.DEBUG | re.IGNORECASE))

    assert loaded == re.compile("a", re.IGNORECASE)
    assert capsys.readouterr().out == ""


def test_a_uuid_keeps_how_it_was_made():
    """Whether a UUID was made safely for many processes is no part of its equality, and comes back too."""
    for safe in uuid.SafeUUID:
        assert copy_of(uuid.UUID(int=7, is_safe=safe)).is_safe is safe


def test_a_time_zone_that_this_machine_does_not_know_is_stale():
    """The value was right where it was made; here it has to be made again."""
    with pytest.raises(StaleValue, match="Mars/Olympus"):
        codec_for(Any).loads(b'["zoneinfo", "Mars/Olympus"]')


def test_a_path_of_another_system_is_stale():
    """A concrete Windows path cannot be made here, and the other way round."""
    tag = b"posixpath" if sys.platform == "win32" else b"windowspath"

    with pytest.raises(StaleValue, match="another operating system"):
        codec_for(Any).loads(b'["%s", "a"]' % tag)


AUDITED: list[str] = []
FORBIDDEN = ("exec", "compile", "import", "marshal.loads", "pickle.find_class", "open", "os.system", "subprocess.Popen")
watching = False


def audit(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event in FORBIDDEN:
        AUDITED.append(f"{event} {arguments!r:.80}")


def test_reading_hostile_bytes_imports_opens_and_executes_nothing():
    """An audit hook sees every import, file and piece of compiled code; reading what is planted asks for none."""
    global watching  # noqa: PLW0603 - an audit hook cannot be taken away, only told to look elsewhere
    codec = codec_for(tuple[Leaf, Dog, dt.datetime])
    codec.loads(stored([Leaf(1), Dog(name="Rex")], tuple[Leaf, Dog]))
    sys.addaudithook(audit)
    watching = True

    for body in HOSTILE:
        try:
            codec.loads(body)
        except (StoreCorrupt, StaleValue):
            continue
    watching = False

    assert AUDITED == []


def test_the_source_has_no_way_to_run_data():
    """No module of the codec names pickle, marshal, eval, exec or importlib."""
    modules = [ROOT / "agentflow" / f"{name}.py" for name in CODEC_MODULES]

    found = [word for module in modules for word in FORBIDDEN_WORDS if word in module.read_text(encoding="utf-8")]

    assert found == []


CODEC_MODULES = [
    "_layout",
    "_scalars",
    "_serialization",
    "_type_changes",
    "_type_layout",
    "_type_registry",
    "_value_reader",
    "_value_writer",
]
FORBIDDEN_WORDS = ["import pickle", "import marshal", "eval(", "exec(", "importlib", "__import__", "shelve", "dill"]


# The seal.


def test_what_is_sealed_is_unsealed():
    """The body comes back as it was, also an empty one."""
    for body in (b"", b"abc", bytes(range(256)) * 100):
        assert unseal(seal(body)) == body


def test_every_changed_byte_is_found():
    """No byte of the sealed value can change unseen."""
    sealed = seal(stored({"a": [1, 2.5, "text"]}))

    for place in range(len(sealed)):
        for bit in (1, 128):
            damaged = bytearray(sealed)
            damaged[place] ^= bit
            with pytest.raises(StoreCorrupt):
                unseal(bytes(damaged))


def test_every_missing_end_is_found():
    """A value that was cut short anywhere is damaged, and so is one with something behind it."""
    sealed = seal(b"body")

    for size in range(len(sealed)):
        with pytest.raises(StoreCorrupt):
            unseal(sealed[:size])
    with pytest.raises(StoreCorrupt):
        unseal(sealed + b"\0")


def test_a_newer_version_is_told_from_damage(monkeypatch):
    """A whole value of a newer version asks for an upgrade."""
    monkeypatch.setattr("agentflow._serialization._VERSION", 9)
    newer = seal(b"body")
    monkeypatch.undo()

    with pytest.raises(IncompatibleStore, match="upgrade"):
        unseal(newer)


# Sizes.


@pytest.mark.parametrize("value", ["x" * 1000, b"x" * 1000], ids=["str", "bytes"])
def test_text_and_bytes_are_stored_as_they_are(value):
    """A value that is only text or bytes takes one byte more than itself."""
    assert len(stored(value)) == 1001


def test_a_class_is_named_once():
    """Instances of one class share one row of the table."""
    body = stored([Leaf(i) for i in range(100)], Leaf)

    assert body.count(b"Leaf") == 1


# Plain JSON, for those who do not have the classes.


def shown(value: Any, annotation: Any = Any) -> Any:
    """Return what the plain JSON of a value says."""
    return json.loads(plain_json(stored(value, annotation)))


SHOWN = [
    ("text", "text"),
    ("a\ud800", "a\\ud800"),
    (b"\xff", "/w=="),
    ([1, 2.5, None, True], [1, 2.5, None, True]),
    ([["nested"], ("t",), deque([1], maxlen=3)], [["nested"], ["t"], [1]]),
    ([{1}, frozenset({(2,)})], [[1], [[2]]]),
    ([{"a": [b"x", bytearray(b"x")]}], [{"a": ["eA==", "eA=="]}]),
    ({1: "a", (2, "b"): "c"}, {"1": "a", '[2,"b"]': "c"}),
    ({1: "a", "1": "b"}, [["1", "a"], ["1", "b"]]),
    (OrderedDict(a=[1]), {"a": [1]}),
    ([Counter("aa"), defaultdict(list, a=[1])], [{"a": 2}, {"a": [1]}]),
    ([2**70, float("nan"), 1j], [2**70, "nan", "1j"]),
    ([dt.date(2024, 1, 2), dt.timedelta(1), Decimal("1.50")], ["2024-01-02", "1 day, 0:00:00", "1.50"]),
    (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02 00:00:00+00:00"),
    (["a\ud800", {"b\ud800": 1}], ["a\\ud800", {"b\\ud800": 1}]),
]


@pytest.mark.parametrize(("value", "expected"), SHOWN, ids=range(len(SHOWN)))
def test_a_value_is_shown_as_plain_json(value, expected):
    """Every kind of value has a form in ordinary JSON, in which nothing is missing."""
    assert shown(value) == expected


def test_instances_are_shown_without_their_classes():
    """An instance is an object of its fields, wherever its class is; what is private stays so."""
    odd = with_private(_seen=0)(title="t")
    more = with_extra("allow")(title="t", more=[Leaf(2)])
    noted = WithNote(1)
    noted.note = "n"
    annotation = tuple[Branch, Dog, Mood, type(odd), type(more), WithNote, NoisyText]

    body = stored([Branch([Leaf(1)]), Dog(name="R"), Mood.GOOD, odd, more, noted, NoisyText("x")], annotation)

    assert json.loads(plain_json(body)) == [
        {"leaves": [{"size": 1}]},
        {"name": "R", "tricks": []},
        "GOOD",
        {"title": "t"},
        {"title": "t", "added": 1, "more": [{"size": 2}]},
        {"x": 1, "note": "n"},
        "x",
    ]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_showing_bytes_that_nobody_wrote_gives_json_or_a_typed_error(body):
    """To show a value is no way around the checks."""
    with contextlib.suppress(StoreCorrupt):
        json.loads(plain_json(body))


# Odds and ends of layouts.


@dataclass
class WithNote:
    x: int


@dataclass(slots=True)
class WithSlots:
    x: int


@dataclass(slots=True)
class Empty:
    pass


def test_what_was_put_on_an_instance_comes_back():
    """An attribute that is no field is kept, as copying keeps it."""
    value = WithNote(1)
    value.note = [Leaf(2)]

    loaded = copy_of(value, tuple[WithNote, Leaf])

    assert loaded.note == [Leaf(2)]


def test_a_field_that_was_deleted_stays_deleted():
    """An instance without one of its fields comes back without it."""
    value = WithNote(1)
    del value.x

    slotted = WithSlots(1)
    del slotted.x

    assert not hasattr(copy_of(value, WithNote), "x")
    assert not hasattr(copy_of(slotted, WithSlots), "x")
    assert copy_of([WithNote(2), value], WithNote)[0] == WithNote(2)


def test_a_class_without_fields_or_dict_comes_back():
    """There is nothing to store but the class."""
    assert copy_of(Empty(), Empty) == Empty()


class SlottedModel(BaseModel):
    __slots__ = ("hidden",)

    x: int


def test_a_model_with_slots_of_its_own_is_refused():
    """What it keeps in slots would be lost."""
    with pytest.raises(UnserializableValue):
        stored(SlottedModel(x=1), SlottedModel)


def test_a_flag_that_was_made_at_run_time_and_is_no_number_is_refused():
    """A member that its class does not have cannot be found again."""

    class Odd(enum.Enum):
        ONE = 1

        @classmethod
        def _missing_(cls, value: object) -> Odd:
            member = object.__new__(cls)
            member._name_, member._value_ = f"MADE_{value}", value
            return member

    assert copy_of(Odd.ONE, Odd) is Odd.ONE
    with pytest.raises(UnserializableValue, match="no member of its class"):
        stored(Odd(5), Odd)


class Plugin:
    """A class that says nothing about its fields, in a tree of classes that do."""


@dataclass
class Shouter(Plugin):
    word: str


def test_a_base_class_without_fields_may_be_declared():
    """An annotation may name an interface; its implementations say what they hold."""
    assert copy_of([Shouter("hey")], list[Plugin]) == [Shouter("hey")]


def test_known_types_find_what_is_declared_first():
    """Of two classes with one name the declared one is meant, not the registered one."""
    one, other = named("Twin", "shop", data_class(x=int)), named("Twin", "shop", data_class(x=int))
    register_type(other)

    assert KnownTypes(one).find("shop:Twin") is one
    assert KnownTypes(Any).find("shop:Twin") is other


if sys.version_info >= (3, 12):
    NEW_ALIAS = "type Leaves = list[Leaf]\ntype Endless = list[Endless] | Leaf"

    def test_a_type_statement_is_looked_into():
        """The aliases of Python 3.12 stand for what they name, also when they name themselves."""
        space: dict[str, Any] = {"Leaf": Leaf}
        exec(NEW_ALIAS, space)

        assert copy_of([Leaf(1)], space["Leaves"]) == [Leaf(1)]
        assert copy_of([[Leaf(1)]], space["Endless"]) == [[Leaf(1)]]
