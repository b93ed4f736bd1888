"""Frozen classes behave like dataclasses, although `dataclasses` generates no code for them."""

import copy
import dataclasses
import inspect

import pytest

import gradtx as gx
from gradtx.frozen import Frozen


class Point(Frozen):
    x: float
    y: float = 0.0
    name: str = dataclasses.field(default="", kw_only=True)

    def __post_init__(self):
        if self.x < 0:
            raise ValueError("negative")


class Point3(Point):
    z: float = 5.0


def test_arguments_are_bound_as_a_dataclass_binds_them():
    assert Point(1.0) == Point(x=1.0) == Point(1.0, 0.0, name="")
    assert Point3(1.0, 2.0, 3.0, name="a") == Point3(name="a", z=3.0, y=2.0, x=1.0)
    assert list(vars(Point(y=1.0, x=2.0))) == ["x", "y", "name"]
    assert repr(Point(1.0, name="a")) == "Point(x=1.0, y=0.0, name='a')"
    assert Point3(1.0) != Point(1.0)
    assert hash(Point(1.0)) == hash(Point(1.0))
    with pytest.raises(ValueError, match="negative"):
        Point(-1.0)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: Point(), "missing a required argument: 'x'"),
        (lambda: Point(y=1.0), "missing a required argument: 'x'"),
        (lambda: Point(1.0, 2.0, "a"), "too many positional arguments"),
        (lambda: Point(1.0, x=1.0), "multiple values for argument 'x'"),
        (lambda: Point(1.0, w=1.0), "got an unexpected keyword argument 'w'"),
    ],
)
def test_wrong_calls_name_the_class_and_its_arguments(call, problem):
    with pytest.raises(TypeError, match=rf"^Point: {problem}.*\. Its arguments are: x, y, name\.$"):
        call()


def test_wrong_calls_of_a_transformation():
    with pytest.raises(TypeError, match="scale: missing a required argument: 'step_size'"):
        gx.scale()
    with pytest.raises(
        TypeError,
        match=r"unexpected keyword argument 'beta1'\. Did you mean b1\? Its arguments are: b1, b2, eps, eps_root",
    ):
        gx.scale_by_adam(beta1=0.9)
    with pytest.raises(TypeError, match=r"^adamw: .* keyword argument 'lr'\. Did you mean learning_rate\?"):
        gx.adamw(lr=1e-3)
    with pytest.raises(TypeError, match=r"^adamw: missing a required argument: 'learning_rate'"):
        gx.adamw()
    with pytest.raises(TypeError, match=r"^chain: got one list\..*: chain\(\*links\)"):
        gx.chain([gx.scale(0.1), gx.scale(0.1)])
    with pytest.raises(TypeError, match=r"^adamw: mask must be a selector.*gx\.select\.path\('w'\)"):
        gx.adamw(1e-3, mask="w")


def test_nothing_can_be_set_or_deleted():
    point = Point(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x


def test_the_tools_for_dataclasses_work():
    tx = gx.scale_by_adam(b1=0.5)
    assert dataclasses.is_dataclass(tx)
    assert [f.name for f in dataclasses.fields(tx)] == ["b1", "b2", "eps", "eps_root", "mu_dtype", "nesterov"]
    assert dataclasses.replace(tx, b2=0.9) == gx.scale_by_adam(b1=0.5, b2=0.9)
    assert not hasattr(copy, "replace") or copy.replace(tx, b2=0.9) == gx.scale_by_adam(b1=0.5, b2=0.9)
    match tx:
        case gx.scale_by_adam(b1, b2):
            assert (b1, b2) == (0.5, 0.999)
        case _:
            pytest.fail("did not match")


def test_signatures():
    assert str(inspect.signature(Point3)) == "(x: float, y: float = 0.0, z: float = 5.0, *, name: str = '') -> None"
    assert str(inspect.signature(gx.chain)) == "(*links: 'Transformation') -> 'None'"
    assert list(inspect.signature(gx.constant_schedule(1.0)).parameters) == ["count"]  # an instance that is called


def test_a_subclass_with_its_own_init_may_call_that_above():
    class Named(Point):
        label: str = ""

        def __init__(self, label):
            super().__init__(1.0, name=label)
            object.__setattr__(self, "label", label)

    assert repr(Named("a")) == "Named(x=1.0, y=0.0, name='a', label='a')"
    assert list(inspect.signature(Named).parameters) == ["label"]


def test_fields_that_no_init_could_have():
    with pytest.raises(TypeError, match="Wrong: field 'b' has no default, but comes after 'a', which has one"):

        class Wrong(Frozen):
            a: float = 1.0
            b: float

    with pytest.raises(TypeError, match="Made: field 'a' has a default_factory or init=False"):

        class Made(Frozen):
            a: list = dataclasses.field(default_factory=list)
