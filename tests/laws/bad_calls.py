"""Law 11 for arguments: calls every public constructor with each argument wrong in turn.

The good call of a constructor is its first case; one argument at a time is replaced. Each call must raise ValueError or
TypeError, before anything is computed, with a message that names the argument. The kind and the range of each argument
are read from gradtx's declarations; optax is tested in the same way if it has the argument.
"""

import dataclasses
import functools
import inspect
import math

from gradtx.core.hyper import Limits
from gradtx.testing.bad_calls import refused
from gradtx.testing.contract import parts
from tests.laws.subject import AGAIN, NotApplicableError, good_calls, law
from tests.libraries import GRADTX

NUMBERS = ("Hyper", "HyperArg", "HyperArg | None", "Number", "ArrayLike")


def limits(name, argument):
    """Returns the limits of an argument, as declared by the fields of the same name in the transformation, if all
    agree."""
    found = set()
    for value in parts(GRADTX.make(good_calls(GRADTX)[name][0])):
        for field in dataclasses.fields(value):
            check = field.metadata.get("gradtx.check")
            check = check.func if isinstance(check, functools.partial) else check
            owner = getattr(check, "__self__", None)
            if field.name == argument and isinstance(owner, Limits):
                found.add(owner)
    return found.pop() if len(found) == 1 else None


def outside(allowed):
    """Returns the numbers just outside of an interval."""
    ends = [(allowed.ge, -math.inf, allowed.gt), (allowed.le, math.inf, allowed.lt)]
    for closed, away, opened in ends:
        if math.isfinite(opened):
            yield opened
        elif math.isfinite(closed):
            yield math.nextafter(closed, away)
        elif not allowed.infinite:
            yield away


def bad_values(name, parameter):
    """Returns wrong values for an argument, from its annotation and its declared limits."""
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
    """Yields for every argument of a constructor its name, what is wrong with it, and the bad call."""
    make, (_, good) = library.names[name], good_calls(library)[name]
    for parameter in inspect.signature(GRADTX.names[name]).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL or parameter.name not in good.signature.parameters:
            continue
        for bad in bad_values(name, parameter):
            bound = inspect.BoundArguments(
                good.signature, type(good.arguments)({**good.arguments, parameter.name: bad})
            )
            yield parameter.name, bad, lambda bound=bound: make(*bound.args, **bound.kwargs)


@law(11, "bad arguments", quick=True, of_trees=False)
@law(11, "bad arguments", quick=True, of_trees=False, about="schedule")
def bad_arguments_are_refused(subject):
    """Every argument that is out of range or of the wrong kind raises an error at construction that names it."""
    name = subject.name
    if not subject.comes_first:
        raise NotApplicableError(AGAIN)
    if name not in good_calls(GRADTX):
        raise NotApplicableError("gradtx has no such constructor, which would declare what its arguments may be")
    calls = bad_constructions(subject.library, name)
    return [(f"{name}({argument}={bad!r})", refused(call, argument)) for argument, bad, call in calls]
