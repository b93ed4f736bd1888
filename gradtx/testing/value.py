"""Law 1: repr, eval, ==, hash, pickle and copy work; hash and == never read array contents."""

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

import gradtx as gx
from gradtx.testing.subject import Subject, law


def rebuilds(tx: Any, names: Mapping[str, Any]) -> None:
    """Asserts that the repr evaluates to an equal value, with each function's repr replaced by its name."""
    text = repr(tx)
    for name, function in names.items():
        text = text.replace(repr(function), name)
    assert eval(text, {**vars(gx), "jnp": jnp, **names}) == tx, f"eval(repr(tx)) is not equal to tx: {text}"


@law(1, "value", of_values=True, quick=True, of_trees=False)
@law(1, "value", of_values=True, quick=True, about="schedule")
def a_value(subject: Subject) -> None:
    """A copy made by eval(repr(tx)), pickle, copy, or flatten and unflatten has the same ==, hash and repr."""
    tx = subject.make()
    rebuilds(tx, subject.names)
    twins = {
        "made again": subject.make(),
        "pickled": pickle.loads(pickle.dumps(tx)),
        "copied": copy.copy(tx),
        "copied deeply": copy.deepcopy(tx),
    }
    for how, twin in twins.items():
        assert twin == tx, f"not equal when {how}"
        assert hash(twin) == hash(tx), f"the hash differs when {how}"
        assert repr(twin) == repr(tx), f"the repr differs when {how}"
    leaves, treedef = jax.tree.flatten(tx)
    assert treedef.unflatten(leaves) == tx, "not equal when flattened and unflattened"
    for other in (gx.scale(123.0), gx.constant_schedule(123.0)):
        assert tx != other, f"equal to {other}"


@law(1, "traced value", of_values=True, quick=True, of_trees=False)
@law(1, "traced value", of_values=True, quick=True, about="schedule")
def a_traced_value(subject: Subject) -> None:
    """==, hash and repr work inside jit, because they never read the contents of arrays."""

    def same(traced: Any) -> list[Any]:
        assert traced == traced, "not equal to itself when traced"
        assert isinstance(hash(traced), int), "its hash is no integer when traced"
        repr(traced)
        return jax.tree.leaves(traced)

    jax.eval_shape(same, subject.tx)
