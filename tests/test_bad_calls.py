"""Law 11, generated: every public constructor with every argument wrong, and every method with every tree wrong.

The calls come from the registry: of each constructor its first case is the good call, in which one argument at a time
is replaced. Each call must raise ValueError or TypeError with a message that names the argument, or the path.
The messages themselves are in tests/test_bad_input.py.
"""

import ast
import dataclasses
import functools
import inspect
import math

import jax
import jax.numpy as jnp

import gradtx as gx
from gradtx.core.hyper import Limits
from gradtx.core.value import Value
from tests.cases import FUNCTIONS, PER_EXAMPLE, SCHEDULES, TRANSFORMATIONS, draw, extra_args

NAMES = {**vars(gx), **FUNCTIONS}
ERRORS = (ValueError, TypeError)
NUMBERS = ("Hyper", "HyperArg", "HyperArg | None", "Number", "ArrayLike")


def good_calls():
    """Of every public constructor the arguments of its first case."""
    found = {}
    unlisted = ["normalize()", "scale_by_schedule(halving)", "measure_with_ema(tree.norm, 0.9)"]
    for expression in [case.expression for case in TRANSFORMATIONS + PER_EXAMPLE + SCHEDULES] + unlisted:
        call = ast.parse(expression, mode="eval").body
        name = getattr(call.func, "id", "")  # a call of what a call returned has none
        if name in gx.__all__ and name not in found:
            args = [_value(x) for x in call.args]
            kwargs = {x.arg: _value(x.value) for x in call.keywords}
            found[name] = inspect.signature(getattr(gx, name)).bind(*args, **kwargs)
    return found


def _value(node):
    return eval(compile(ast.Expression(node), "<case>", "eval"), NAMES)


GOOD = good_calls()


def constructors():
    """The public transformations and schedules: classes of values, and functions that say that they return one."""
    for name in gx.__all__:
        made = getattr(gx, name)
        if inspect.isfunction(made):
            made = NAMES.get(inspect.signature(made).return_annotation)
        if inspect.isclass(made) and issubclass(made, (gx.GradientTransformation, gx.Schedule)):
            yield name


ABSTRACT = {"GradientTransformation", "Schedule", "Elementwise", "Layerwise", "Treewide"}


def test_every_constructor_has_a_good_call():
    assert set(constructors()) - set(GOOD) == ABSTRACT


def limits(name, argument):
    """The declared limits of an argument: those of the fields of its name in what the good call makes, if all agree."""
    found = set()
    for value in _values(getattr(gx, name)(*GOOD[name].args, **GOOD[name].kwargs)):
        for field in dataclasses.fields(value):
            check = field.metadata.get("gradtx.check")
            check = check.func if isinstance(check, functools.partial) else check
            owner = getattr(check, "__self__", None)
            if field.name == argument and isinstance(owner, Limits):
                found.add(owner)
    return found.pop() if len(found) == 1 else None


def _values(x):
    if isinstance(x, Value):
        yield x
        x = [getattr(x, field.name) for field in dataclasses.fields(x)]
    if isinstance(x, (tuple, list, dict)):
        for item in x.values() if isinstance(x, dict) else x:
            yield from _values(item)


def outside(allowed):
    """The numbers just outside of an interval."""
    ends = [(allowed.ge, -math.inf, allowed.gt), (allowed.le, math.inf, allowed.lt)]
    for closed, away, opened in ends:
        if math.isfinite(opened):
            yield opened
        elif math.isfinite(closed):
            yield math.nextafter(closed, away)
        elif not allowed.infinite:
            yield away


def bad_values(name, parameter):
    """What does not fit an argument, by its annotation and its declared limits."""
    kind = str(parameter.annotation)
    if kind in NUMBERS:
        allowed = limits(name, parameter.name)
        return [math.nan, "0.1", 1j, [0.1], True, *(outside(allowed) if allowed else ())]
    if kind == "int":
        return [-1, 0.5, math.nan, "1", True, None]
    if kind == "bool":
        return [1, "yes", None, math.nan]
    if kind == "str":
        return [3, None] if parameter.default is parameter.empty else ["nonsense", 3, None]
    return [3.5, "float31"] if parameter.name.endswith("dtype") else []


def bad_constructions():
    """Every constructor with one argument wrong."""
    for name, good in GOOD.items():
        parameters = inspect.signature(getattr(gx, name)).parameters
        for parameter in parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                continue
            for bad in bad_values(name, parameter):
                yield name, good, parameter.name, bad


def test_bad_constructions():
    wrong, calls = [], 0
    for name, good, argument, bad in bad_constructions():
        calls += 1
        bound = inspect.BoundArguments(good.signature, type(good.arguments)({**good.arguments, argument: bad}))
        problem = refused(lambda name=name, bound=bound: getattr(gx, name)(*bound.args, **bound.kwargs), argument)
        if problem:
            wrong.append(f"{name}({argument}={bad!r}): {problem}")
    assert not wrong, "\n".join(wrong)
    assert calls >= 300


def refused(call, *names):
    """What is wrong with how a call fails; None where its error names one of `names`."""
    try:
        call()
    except ERRORS as error:
        return None if any(name in str(error) for name in names) else f"the message names nothing: {error}"
    return "accepted"


# --- trees, states and extra arguments

PARAMS = jax.eval_shape(lambda: draw(0, "float32"))
OTHER = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape[1:]), x.dtype), PARAMS)
UNREAD = {
    **dict.fromkeys(("identity", "stateless", "set_to_zero", "freeze", "chain"), "its first case reads no tree"),
    **dict.fromkeys(("snapshot", "monitor", "measure_with_ema"), "the trees are for the user's function"),
    **{case.expression.partition("(")[0]: "its trees are other ones" for case in PER_EXAMPLE},
}
"""Rules that this test does not ask, with the reason."""

OPEN = {
    ("with_extra_args_support", "an unknown extra argument"): "it takes them all",
    ("scale_by_galore", "parameters of another shape"): "it does not read them",
    ("dynamic_loss_scale", "integers"): "unscaled they are floating",
}
"""Calls that are accepted, with the reason."""


def first_cases():
    """Of every rule its first case, as a transformation."""
    for name in constructors():
        if name in GOOD and name not in UNREAD:
            tx = getattr(gx, name)(*GOOD[name].args, **GOOD[name].kwargs)
            if isinstance(tx, gx.GradientTransformation):
                yield name, tx


def bad_uses(tx):
    """What is wrong, the call, and what the message must contain."""

    def zeros(tree):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)

    params = zeros(PARAMS)
    state = tx.init(params)
    extra = extra_args(tx, params, params)

    def use(updates=params, state=state, params=params, **more):
        return tx.update(updates, state, params, **{**extra, **more})

    yield "a missing leaf", lambda: use({"w": params["w"]}), "deep"
    yield "a leaf too many", lambda: use({**params, "more": params["w"]}), "['more']"
    yield "another shape", lambda: use(zeros(OTHER)), "at ['"
    yield "integers", lambda: use({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string", lambda: use({**params, "w": "x"}), "['w']"
    yield "parameters of another shape", lambda: use(params=zeros(OTHER)), "at ['"
    yield "a number for a state", lambda: use(state=3.5), "state"
    yield "the state of no transformation", lambda: use(state={"nothing": 1}), "state"
    yield "an unknown extra argument", lambda: use(valeu=1.0), "valeu"
    yield "integer parameters", lambda: tx.init({**params, "w": jnp.zeros((8, 2), int)}), "['w']"
    yield "a string for a parameter", lambda: tx.init({**params, "w": "x"}), "['w']"


def test_bad_uses():
    wrong, calls = [], 0
    for name, tx in first_cases():

        def inside(name=name, tx=tx):
            """Abstract values only: a call that comes to computing would be traced, and accepted."""
            nonlocal calls
            for what, call, named in bad_uses(tx):
                calls += 1
                problem = refused(call, named)
                if problem and (name, what) not in OPEN:
                    wrong.append(f"{name}: {what}: {problem}")
            return ()

        jax.eval_shape(inside)
    assert not wrong, "\n".join(wrong)
    assert calls >= 300
