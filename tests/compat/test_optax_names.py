"""Every public object of optax is in the drop-in, callable with the same arguments, and states have its fields."""

import functools
import importlib
import inspect
import types
import warnings

import jax
import numpy as np
import optax
import pytest

import gradtx.compat.optax as drop_in

MODULES = [
    "",
    *sorted(
        name
        for name, module in vars(optax).items()
        if isinstance(module, types.ModuleType) and module.__name__ == f"optax.{name}" and not name.startswith("_")
    ),
    "experimental.aggregating",
]

# The defaults that differ from optax's; docs/from_optax.md gives the reasons.
OTHER_DEFAULTS = {
    "micro_grad.metrics_fn": "a function that does the same",
    "micro_grad.transform_fn": "a function that does the same",
    "adopt.clip_value_fn": "a function that does the same",
    "lbfgs.linesearch": "a transformation that does the same",
    "scale_by_adopt.clip_value_fn": "a function that does the same",
    "scale_by_factored_rms.decay_rate_fn": "a function that does the same",
    "sophia.hessian_diagonal_fn": "a transformation that does the same",
}

# States whose fields differ from optax's, and the replacements of the missing fields.
OTHER_FIELDS = {
    "InjectHyperparamsState": "`hyperparams_states`, as optax's `InjectStatefulHyperparamsState`",
    "MuonState": "no `ns_coeffs`, which are numbers of the transformation",
    "ScaleByAdemamixState": "`count` alone, without `count_m2`",
    "ScaleBySimplifiedAdEMAMixState": "`count` in place of `t`",
    "DoGState": "`count` in place of `is_init_step`",
    "ScaleByAdanState": "`count` in place of `t`",
}


def at(package, module):
    """Returns a module inside a package; the package itself for ''."""
    return functools.reduce(getattr, module.split(".") if module else [], package)


def public(module):
    theirs = at(optax, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {*vars(theirs), *getattr(theirs, "__all__", ()), *getattr(theirs, "_deprecations", ())}
        return {
            name: getattr(theirs, name)
            for name in sorted(names)
            if not name.startswith("_") and hasattr(theirs, name) and is_of(theirs, getattr(theirs, name))
        }


def is_of(module, x):
    """Whether the object belongs to the module, and is not merely imported for internal use."""
    if module.__name__ == "optax.experimental._aggregating":  # the only object that is public under a different name
        return getattr(x, "__module__", "") == module.__name__
    return not isinstance(x, types.ModuleType) or x.__name__.startswith("optax")


OBJECTS = [(module, name, x) for module in MODULES for name, x in public(module).items()]
IDS = [f"{module}.{name}".lstrip(".") for module, name, _ in OBJECTS]


def ours(module, name):
    return getattr(at(drop_in, module), name)


def is_state(x):
    return isinstance(x, type) and issubclass(x, tuple) and x._fields != ("init", "update")


def test_the_walk_sees_all_of_optax():
    assert MODULES[:3] == ["", "assignment", "contrib"]
    assert len(MODULES) == 14
    assert {name for module, name, _ in OBJECTS if not module} >= set(optax.__all__)
    assert len(OBJECTS) > 450


@pytest.mark.parametrize(("module", "name", "theirs"), OBJECTS, ids=IDS)
def test_is_there_and_takes_the_same_arguments(module, name, theirs):
    here = ours(module, name)
    if isinstance(theirs, types.ModuleType):
        assert isinstance(here, types.ModuleType)
        return
    if not callable(theirs) or is_state(theirs) or is_alias(theirs):
        return
    assert callable(here)
    own = list(inspect.signature(here).parameters.values())
    for i, parameter in enumerate(inspect.signature(theirs).parameters.values()):
        check_parameter(name, i, parameter, own)
    known = inspect.signature(theirs).parameters
    for parameter in own:  # arguments that only gradtx has must be optional
        optional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        assert parameter.name in known or optional or parameter.default is not parameter.empty, parameter


def is_alias(x):
    """Whether the object is a type alias or a protocol, which nobody calls."""
    return (not isinstance(x, type) and not inspect.isroutine(x)) or getattr(x, "_is_protocol", False)


def check_parameter(name, i, theirs, own):
    if theirs.kind in (theirs.VAR_POSITIONAL, theirs.VAR_KEYWORD):
        assert any(p.kind is theirs.kind for p in own), theirs
        return
    if theirs.kind is theirs.KEYWORD_ONLY:
        found = next((p for p in own if p.name == theirs.name), None)
        assert found is not None, theirs
        assert found.kind in (theirs.KEYWORD_ONLY, theirs.POSITIONAL_OR_KEYWORD)
    else:
        found = own[i]
        assert found.kind is theirs.kind or theirs.kind is theirs.POSITIONAL_ONLY, (theirs, found)
        assert found.name == theirs.name or theirs.kind is theirs.POSITIONAL_ONLY, (theirs, found)
    required, other = theirs.default is theirs.empty, f"{name}.{theirs.name}" in OTHER_DEFAULTS
    assert required or other or same(found.default, theirs.default), (found, theirs)


def same(ours, theirs):
    if ours is theirs or repr(ours) == repr(theirs):
        return True
    if type(ours).__name__ == type(theirs).__name__ and type(ours).__module__ != type(theirs).__module__:
        return getattr(ours, "name", None) == getattr(theirs, "name", None)  # an enum, or an object without arguments
    try:
        return bool(np.all(np.asarray(ours) == np.asarray(theirs)))
    except (TypeError, ValueError):
        return False


STATES = {name: x for _, name, x in OBJECTS if is_state(x) and x._fields}


@pytest.mark.parametrize("name", STATES)
def test_fields_of_states_are_optax_s_in_its_order(name):
    module = next(module for module, other, _ in OBJECTS if other == name)
    here, theirs = ours(module, name)._fields, STATES[name]._fields
    if name in OTHER_FIELDS:
        assert here[: len(theirs)] != theirs, "it has optax's fields now: take it out of OTHER_FIELDS"
    else:
        assert here[: len(theirs)] == theirs


def test_names_of_modules():
    for module in MODULES[1:]:
        importlib.import_module(f"gradtx.compat.optax.{module}")
    assert drop_in.__version__ == optax.__version__


def test_private_names_are_not_there():
    assert not hasattr(drop_in, "_src")
    assert jax.tree.leaves(drop_in.MaskedNode()) == []
