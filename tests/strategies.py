"""Random inputs of the fuzz tests: chains as expressions, and trees of every kind of node, shape and dtype.

A chain consists of cases of the registry, in which random numbers and schedules replace the hyperparameters. The range
of each number is read from the limits that the constructor declares.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from gradtx.core.hyper import Limits
from gradtx.testing.finite import sequences
from gradtx.testing.trees import Layer, Pair
from tests.cases import WRAPPERS, Case
from tests.laws.bad_calls import NUMBERS, limits
from tests.libraries import APART, GRADTX

# --- trees

SHAPES = [(2,), (3, 2), (), (0, 3)]
"""Few: each shape that is new compiles."""

DTYPES = ["float32", "float64", "bfloat16", "float16"]
KINDS = ["plain", "max", "late", "large", "zero", "small", "tiny", "subnormal"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Describes a parameter and its gradients; JAX sees a leaf, which a law turns into an abstract or concrete
    array."""

    shape: tuple[int, ...]
    p_dtype: str
    g_dtype: str
    kind: str

    def abstract_param(self) -> Any:
        return jax.ShapeDtypeStruct(self.shape, self.p_dtype)

    def abstract_grad(self) -> Any:
        return jax.ShapeDtypeStruct(self.shape, self.g_dtype)

    def param(self) -> Any:
        return jnp.asarray(np.resize([1.0, 0.5, 0.25], self.shape), self.p_dtype)

    def grads(self) -> Any:
        """Draws the gradients of three steps: extremes with alternating signs, or ordinary numbers, or these after
        zeros."""
        if self.kind == "plain":
            three = np.asarray([[0.3, -0.7], [0.2, 0.5], [-1.3, 0.1]])
        else:
            three = np.asarray(sequences(self.g_dtype)[self.kind])
        return jnp.asarray(np.stack([np.resize(g, self.shape) for g in three]), self.g_dtype)


def trees(depth: int = 3, shapes: Any = SHAPES, dtypes: Any = DTYPES, kinds: Any = KINDS) -> Any:
    """Draws trees of `Leaf`: dicts, lists, tuples, custom nodes, None and empty containers."""
    leaf = st.builds(Leaf, *map(st.sampled_from, (shapes, dtypes, dtypes, kinds)))
    empty = st.sampled_from([None, {}, [], ()])
    tree = leaf | empty
    for _ in range(depth):
        inner = leaf | tree
        tree = st.one_of(
            st.dictionaries(st.sampled_from("wab"), inner, min_size=1),
            st.lists(inner, min_size=1, max_size=3),
            st.lists(inner, min_size=1, max_size=2).map(tuple),
            st.builds(Pair, inner, inner),
            st.builds(Layer, inner, inner),
            leaf,
            empty,
        )
    return tree


def params_of(tree: Any) -> Any:
    return jax.tree.map(Leaf.param, tree)


def grads_of(tree: Any) -> list[Any]:
    """Returns the gradients of three steps, a tree for each step."""
    grads = jax.tree.map(lambda leaf: np.asarray(leaf.grads()), tree)
    return [jax.tree.map(lambda g, t=t: jnp.asarray(g[t]), grads) for t in range(3)]


# --- numbers and schedules, as text

VALUES = [0.5, 0.9, 0.1, 0.0, 1.0, 0.999, 1e-8, 1e-30, -0.5, 2.0, 30.0, float("inf")]


def numbers(allowed: Limits, largest: float = float("inf")) -> Any:
    """Draws numbers within the limits, as text."""
    found = [x for x in VALUES if x in allowed and abs(x) <= largest]
    return st.sampled_from(["float('inf')" if x == float("inf") else repr(x) for x in found])


def schedules(allowed: Limits, largest: float = float("inf")) -> Any:
    """Draws schedules within the limits, as text."""
    number = numbers(dataclasses.replace(allowed, infinite=False), largest)
    curves = [
        st.builds("linear_schedule({}, {}, 2)".format, number, number),
        st.builds("cosine_decay_schedule({}, 4, alpha=0.5)".format, number),
        st.builds("constant_schedule({})".format, number),
        st.builds("piecewise_constant_schedule({}, {{1: 0.5}})".format, number),
        st.builds("join_schedules([linear_schedule({}, {}, 2), constant_schedule({})], [2])".format, *[number] * 3),
    ]
    return st.one_of(*curves, *[st.just("halving")] * (0.1 in allowed and 0.5 in allowed))


# --- links and chains, as text

ALONE = {
    **APART,
    **dict.fromkeys(("mask_misaligned", "scale_by_mechanic"), "it needs the gradient, which its wrapper gives"),
    **dict.fromkeys(
        ("newton", "scale_by_newton", "newton_cg", "scale_by_newton_cg", "trust_region_newton", "sophia"),
        "it needs derivatives of a function, of which the updates of the links before it are none",
    ),
    **dict.fromkeys(("with_hessian_diag", "scale_by_lbfgsb"), "as above"),
}
"""Constructors that are no link of a drawn chain, with the reason."""

MASKS = [
    Case("masked({}, select.maybe(select.ndim(min=2)))"),
    Case("masked({}, select.maybe(select.ndim(max=1)), rest='zero')"),
]
AROUND = MASKS + [
    case for case in WRAPPERS if "opaque_mode" not in case.expression and "like gradients" not in case.unless
]
"""Wrappers that can stand anywhere in a chain, around any chain.

`sam` in opaque mode needs derivatives of a function, as above, and has none for another in it. `master_weights` and its
like return float32 updates for 16-bit gradients, so they come last.
"""


def is_link(case: Case) -> bool:
    """Whether a case works anywhere in a chain and on any tree: no wrapper, line search, or mask for one tree."""
    others = {*ALONE, *(x.constructor for x in MASKS + WRAPPERS)}
    if case.constructor in others or "{'" in case.expression:
        return False
    return hasattr(GRADTX.make(case.expression), "update") and "reverse" not in case.unless


LINKS = [case for case in GRADTX.cases() if is_link(case)]


AS_GIVEN = {
    **dict.fromkeys(("clip_params", "rprop", "scale_by_rprop", "dynamic_loss_scale"), "bounds must be in order"),
    "schedule_free_sgd": "with a warmup its rate is no schedule",
}
"""Constructors whose numbers are not drawn, with the reason."""


@functools.cache
def arguments(expression: str) -> tuple[str, dict[str, str], dict[str, tuple[Limits, bool]]]:
    """Returns a call's name, its arguments as text, and for each number its limits and whether it may be a schedule."""
    call: Any = ast.parse(expression, mode="eval").body
    name = getattr(call.func, "id", "")  # a call of what a call returned has none
    signature = inspect.signature(GRADTX.names[name]) if name else inspect.Signature()
    parameters = signature.parameters.values()
    if not name or any(x.kind is x.VAR_POSITIONAL for x in parameters):
        return "", {}, {}
    given = signature.bind(*map(ast.unparse, call.args), **{x.arg: ast.unparse(x.value) for x in call.keywords})
    found = {}
    for x in parameters:
        allowed = limits(name, x.name) if str(x.annotation) in NUMBERS and name not in AS_GIVEN else None
        if allowed is not None:
            found[x.name] = allowed, "Hyper" in str(x.annotation)
    return name, dict(given.arguments), found


@st.composite
def calls(draw: Callable[[Any], Any], case: Case, largest: float = float("inf")) -> str:
    """Draws a case in which random numbers replace some of the numbers."""
    name, texts, hypers = arguments(case.expression.replace("{}", "INNER"))
    if not name:  # a chain, say, stays as it is
        return case.expression
    for key, (allowed, curves) in hypers.items():
        choice = draw(st.sampled_from(["as it is", "as it is", "a number", "a number", "a schedule"]))
        if choice == "a number":
            texts = {**texts, key: draw(numbers(allowed, largest))}
        if choice == "a schedule" and curves:
            texts = {**texts, key: draw(schedules(allowed, largest))}
    return f"{name}({', '.join(f'{key}={text}' for key, text in texts.items())})".replace("INNER", "{}")


@st.composite
def chains(
    draw: Callable[[Any], Any],
    keep: Callable[[Case], bool] = lambda case: True,
    largest: float = float("inf"),
    most: int = 6,
    depth: int = 2,
) -> str:
    """Draws the expression of a chain of one to six transformations, some of them chains or wrapped chains."""
    cases = [case for case in LINKS if keep(case)]
    link = st.sampled_from(cases).flatmap(lambda case: calls(case, largest))
    if depth:
        inner = chains(keep, largest, 2, depth - 1)
        around = st.sampled_from([case for case in AROUND if keep(case)]).flatmap(lambda case: calls(case, largest))
        link = st.one_of(link, link, link, inner, st.builds(lambda w, x: w.replace("{}", x), around, inner))
    return f"chain({', '.join(draw(st.lists(link, min_size=1, max_size=most)))})"
