"""What joblib promises of how it reads functions and arguments, asked of the keys of `@cached_step`.

Each test names the test of joblib 1.6.0 (`joblib/test/test_func_inspect.py`) whose behaviour it restates: there, what `filter_args` leaves of a
call is what it is found by; here that is `step.key(...)`, so two calls are compared by their keys. Left out, and why:

* `test_clean_win_chars`, `test_func_name`, `test_func_name_on_inner_func`, `test_func_inspect_errors`: names as parts of paths; ours are data in a row.
* `test_format_signature*`: joblib's text of a call for its log; ours shows no arguments.
"""

from __future__ import annotations

import importlib

import pytest

from agentflow import cached_step
from agentflow.exceptions import UsageError

pytestmark = pytest.mark.usefixtures("store")


def f(x, y=0):
    return None


def g(x):
    return None


def h(x, y=0, z=1, *args, **kwargs):
    return None


def j(x, y, **kwargs):
    return None


def k(*args, **kwargs):
    return None


def m(x, *, y, z=3):
    return None


def early(*, kw1="kw1", kw2):
    return None


class Call:
    """The arguments of a call, as they are written."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def key(self, step):
        return step.key(*self.args, **self.kwargs)

    def __repr__(self):
        return f"({', '.join([*map(repr, self.args), *(f'{name}={value!r}' for name, value in self.kwargs.items())])})"


def name_of(part):
    """Name a part of a case alike in every process, where the repr of a function would have its address."""
    return part.__name__ if callable(part) else repr(part)


@pytest.mark.parametrize(
    ("fn", "ignore", "one", "other"),
    [
        (f, [], Call(1), Call(1, 0)),
        (f, ["x"], Call(1), Call(2)),
        (f, ["y"], Call(0), Call(0, y=1)),
        (f, ["x", "y"], Call(0), Call(1, 2)),
        (f, [], Call(0, y=1), Call(0, 1)),
        (f, ["y"], Call(x=2, y=1), Call(2)),
        (g, [], Call(x=1), Call(1)),
        (h, [], Call(1), Call(1, 0, 1)),
        (h, [], Call(1, ee=2), Call(x=1, ee=2, y=0)),
        (h, ["args"], Call(1, 2, 25), Call(1, 2, 25, 7)),
        (h, ["kwargs"], Call(1, ee=2), Call(1, ee=3, aa=4)),
        (j, [], Call(1, 2, ee=2), Call(y=2, ee=2, x=1)),
        (k, [], Call(1, 2, ee=2, aa=3), Call(1, 2, aa=3, ee=2)),
        (m, [], Call(1, y=2), Call(1, z=3, y=2)),
        (m, ["x", "z"], Call(1, y=3, z=4), Call(2, y=3, z=5)),
        (early, [], Call(kw2=2), Call(kw1="kw1", kw2=2)),
    ],
    ids=name_of,
)
def test_calls_that_are_one(fn, ignore, one, other):
    """joblib, `test_filter_args`, `test_filter_varargs`, `test_filter_kwargs`, `test_filter_args_2`, `test_filter_args_edge_cases`,
    `test_filter_args_kwonly_default_before_required`: defaults, names and what is ignored make no difference."""  # noqa: D205
    step = cached_step(ignore=ignore)(fn)

    assert one.key(step) == other.key(step)


@pytest.mark.parametrize(
    ("fn", "ignore", "one", "other"),
    [
        (f, [], Call(1), Call(1, 1)),
        (f, ["x"], Call(1, 1), Call(1, 2)),
        (h, [], Call(1, 2, 3, 4), Call(1, 2, 3, 4, 5)),
        (h, [], Call(1, 2, 3, 4), Call(1, 2, 4, 3)),
        (h, ["args"], Call(1, 2, ee=2), Call(1, 2, ee=3)),
        (h, [], Call(1, ee=2), Call(1, aa=2)),
        (k, [], Call(3, 4), Call((3, 4))),
        (k, [], Call({"ee": 2}), Call(ee=2)),
        (k, [], Call(), Call(None)),
        (m, [], Call(1, y=2), Call(1, y=2, z=2)),
        (early, [], Call(kw2=2), Call(kw2=2, kw1=2)),
    ],
    ids=name_of,
)
def test_calls_that_are_two(fn, ignore, one, other):
    """joblib, the same tests: what is left of two calls differs, and so do their keys; a keyword is no positional dict."""
    step = cached_step(ignore=ignore)(fn)

    assert one.key(step) != other.key(step)


def test_an_argument_given_twice():
    """joblib, `test_filter_args_set_positional_and_keyword`: the TypeError of a plain call."""
    with pytest.raises(TypeError, match="multiple values for argument 'x'"):
        cached_step(f).key(1, x=2)


@pytest.mark.parametrize("call", [Call(), Call(1, 2, 3), Call(1, z=1)], ids=repr)
def test_arguments_that_do_not_fit(call):
    """joblib, `test_filter_args_error_msg` (wrong number): the TypeError of a plain call, with the function's name."""
    with pytest.raises(TypeError, match=r"f\(\)"):
        call.key(cached_step(f))


def test_ignoring_what_is_not_there():
    """joblib, `test_filter_args_error_msg` (ignore list): refused, here already at decoration, naming the parameters that there are."""
    with pytest.raises(UsageError, match=r"\['bar'\].*x"):
        cached_step(ignore=["bar"])(g)


def test_keyword_arguments_of_the_caller_are_left_alone():
    """joblib, `test_filter_args_no_kwargs_mutation`."""
    given = {"x": 0}

    cached_step(g)(**given)

    assert given == {"x": 0}


def test_methods_are_refused():
    """joblib, `test_filter_args_method`, `test_bound_methods`. Ours differ: an object is no argument that one sees, so a method is refused, and bound ones too."""
    with pytest.raises(UsageError, match="out of the class"):

        class Klass:
            @cached_step
            def f(self, x):
                return x

    class Plain:
        def f(self, x):
            return x

    with pytest.raises(UsageError, match="plain functions"):
        cached_step(Plain().f)


def test_inner_functions_of_one_name_do_not_collide():
    """joblib, `test_func_name_collision_on_inner_func`: what holds a function is part of its name."""

    def one():
        @cached_step
        def inner_function():
            return "one"

        return inner_function

    def other():
        @cached_step
        def inner_function():
            return "other"

        return inner_function

    assert one().name != other().name
    assert [one()(), other()(), one()()] == ["one", "other", "one"]


def test_a_source_file_in_another_encoding(tmp_path, monkeypatch):
    """joblib, `test_special_source_encoding`, `test_func_code_consistency`: code is read as its file says it is written."""
    text = (
        "# -*- coding: big5 -*-\nfrom agentflow import cached_step\n\n@cached_step\ndef f(x):\n    return '中文' + x\n"
    )
    (tmp_path / "in_big5.py").write_bytes(text.encode("big5"))
    (tmp_path / "in_utf8.py").write_text(text.partition("\n")[2])
    monkeypatch.syspath_prepend(tmp_path)

    modules = [importlib.import_module(name) for name in ("in_big5", "in_utf8")]
    results = [module.f("a") for module in modules]

    assert results == ["中文a", "中文a"]
    assert all(module.f.is_cached("a") for module in modules)
