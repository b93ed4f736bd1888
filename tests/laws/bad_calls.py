"""Law 11, generated: every public constructor with every argument wrong, and every method with every tree wrong.

The good call of a constructor is its first case; one argument at a time is replaced. Each call must raise ValueError or
TypeError, before anything is computed, with a message that names the argument, or the path. What an argument is, and in
which range, is read from gradtx's declarations; another library is asked the same where it has such an argument.
"""

import ast
import dataclasses
import functools
import inspect
import math

import jax
import jax.numpy as jnp

from gradtx.core.hyper import Limits
from gradtx.core.value import Value
from tests.cases import draw, extra_args
from tests.laws.subject import NotApplicableError, law
from tests.libraries import GRADTX

ERRORS = (ValueError, TypeError)
NUMBERS = ("Hyper", "HyperArg", "HyperArg | None", "Number", "ArrayLike")
PARAMS = jax.eval_shape(lambda: draw(0, "float32"))
OTHER = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape[1:]), x.dtype), PARAMS)

UNREAD = {
    **dict.fromkeys(("identity", "stateless", "set_to_zero", "freeze", "chain"), "its first case reads no tree"),
    **dict.fromkeys(("stateless_with_tree_map",), "the function is the user's"),
    **dict.fromkeys(("snapshot", "monitor"), "the trees are for the user's function"),
}
"""Rules whose trees are not asked for, with the reason."""

OPEN = {
    ("with_extra_args_support", "an unknown extra argument"): "it takes them all",
    ("scale_by_galore", "parameters of another shape"): "it does not read them",
    ("dynamic_loss_scale", "integers"): "unscaled they are floating",
}
"""Calls that are accepted, with the reason."""


@functools.cache
def good_calls(library):
    """Of every constructor the call that is its first case, as its bound arguments."""
    found = {}
    for case in library.cases():
        call = ast.parse(case.expression, mode="eval").body
        name = getattr(call.func, "id", "")  # a call of what a call returned has none
        if name and name not in found:
            args = [_value(library, x) for x in call.args]
            kwargs = {x.arg: _value(library, x.value) for x in call.keywords}
            bound = inspect.signature(library.names[name]).bind(*args, **kwargs)
            found[name] = case.expression, bound
    return found


def _value(library, node):
    return eval(compile(ast.Expression(node), "<case>", "eval"), dict(library.names))


def limits(name, argument):
    """The declared limits of an argument: those of the fields of its name in what the good call makes, if all agree."""
    found = set()
    for value in _values(GRADTX.make(good_calls(GRADTX)[name][0])):
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


def bad_constructions(library, name):
    """A constructor with one argument wrong, for every argument: its name, what is wrong with it, and the call."""
    make, (_, good) = library.names[name], good_calls(library)[name]
    for parameter in inspect.signature(GRADTX.names[name]).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL or parameter.name not in good.signature.parameters:
            continue
        for bad in bad_values(name, parameter):
            bound = inspect.BoundArguments(
                good.signature, type(good.arguments)({**good.arguments, parameter.name: bad})
            )
            yield parameter.name, bad, lambda bound=bound: make(*bound.args, **bound.kwargs)


def refused(call, named):
    """What is wrong with how a call fails; None where its error names what it should."""
    try:
        call()
    except ERRORS as error:
        return None if named in str(error) else f"the message does not name {named}: {str(error)[:200]}"
    except Exception as error:
        return f"{type(error).__name__} in place of ValueError or TypeError"
    return "accepted"


@law(11, "bad arguments", quick=True, of_trees=False)
@law(11, "bad arguments", quick=True, of_trees=False, about="schedule")
def bad_arguments_are_refused(subject):
    """Every argument out of its range, or of another kind, raises an error that names it, at construction."""
    name = _asked(subject)
    if name not in good_calls(GRADTX):
        raise NotApplicableError("gradtx has no such constructor, which would declare what its arguments may be")
    calls = bad_constructions(subject.library, name)
    return [(f"{name}({argument}={bad!r})", refused(call, argument)) for argument, bad, call in calls]


def _asked(subject):
    """The constructor of a subject, if this is the first case of it."""
    name = subject.case.constructor
    if good_calls(subject.library).get(name, ("",))[0] != subject.case.expression:
        raise NotApplicableError("it is asked in another case of the constructor")
    return name


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


@law(11, "bad trees", quick=True)
def bad_trees_are_refused(subject):
    """Every tree, state or extra argument that does not fit raises an error that names it or its path."""
    name = _asked(subject)
    if name in UNREAD:
        raise NotApplicableError(UNREAD[name])
    findings = []

    def inside():
        """Abstract values only: a call that comes to computing would be traced, and accepted."""
        for what, call, named in bad_uses(subject.tx):
            if (name, what) not in OPEN:
                findings.append((f"{name}: {what}", refused(call, named)))
        return ()

    jax.eval_shape(inside)
    return findings
