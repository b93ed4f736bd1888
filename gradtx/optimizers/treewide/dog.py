"""DoG: the step size is the distance travelled over the root of the sum of squared gradient norms.

    r_t = max(r_(t-1), |x_t - x_1|)
    G_t = G_(t-1) + |g_t|^2
    u_t = g_t * r_t / sqrt(G_t + eps)

Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
section 2. r_0 is small: `init_step` is ('heuristic', c) for c * (1 + |x_1|), ('distance', r) for r itself, or
('learning_rate', eta), whose first step is eta * g. DoWG weighs the gradients by the distance:

    d_t = max(d_(t-1), |x_t - x_1|^2)
    v_t = v_(t-1) + d_t * |g_t|^2
    u_t = g_t * d_t / (sqrt(v_t) + eps)

Khaled, Mishchenko and Jin, 2023, "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient Descent Method".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Treewide
from gradtx.core.slots import PARAM, counter, per_param, per_tree
from gradtx.core.value import choice
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Params, Slots, Updates

__all__ = ["DoGState", "DoWGState", "dog", "dowg", "scale_by_dog", "scale_by_dowg"]

_KINDS = ("heuristic", "distance", "learning_rate")


class DoGState(NamedTuple):
    """The steps taken, x_1, the largest distance, and the sum of squared norms."""

    count: Array = counter()
    init_params: Array = per_param(start=PARAM)
    max_dist: Array = per_tree(start="first_distance", signed=False)
    sum_sq_norm_grads: Array = per_tree(signed=False)


class scale_by_dog(Treewide, state=DoGState, needs=("params",)):
    """The rule of DoG. `init_step_value` and `eps` are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_dog("distance", 0.5, eps=0.0)
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(p), p)[0].round(3))
    [0.3 0.4]
    """

    init_step: str = choice(default="heuristic", options=_KINDS)
    init_step_value: Hyper = hyper(default=1e-6, ge=0)
    eps: Hyper = hyper(default=1e-8, ge=0)

    def first_distance(self, params: Params) -> Array:
        first = 0.0 if self.init_step == "learning_rate" else self.init_step_value
        if self.init_step == "heuristic":
            first = first * (1 + tree.norm(params))
        return tree.number(params, first)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        travelled = tree.norm(jax.tree.map(jnp.subtract, params, slots.init_params))
        farthest = jnp.maximum(numbers.max_dist, travelled)
        total = leaf.finite_sum(numbers.sum_sq_norm_grads, tree.norm_sq(updates))
        rate = farthest / leaf.root(total, self.eps)
        if self.init_step == "learning_rate":
            rate = jnp.where(t == 1, self.init_step_value, rate)
        return rate, numbers._replace(max_dist=farthest, sum_sq_norm_grads=total)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared, slots


@constructor
def dog(
    learning_rate: HyperArg = 1.0,
    init_step: tuple[str, HyperArg] = ("heuristic", 1e-6),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """DoG; the decay is an L2 penalty. State: one array per parameter. `update` needs params.

    The iterates' average, weighted by polynomial decay, is what the paper evaluates.

    >>> import gradtx as gx
    >>> gx.dog().links[1]
    scale_by_dog(init_step_value=1e-06, eps=1e-08)
    """
    if not (isinstance(init_step, tuple) and len(init_step) == 2):
        raise TypeError(f"dog: init_step must be a pair such as ('distance', 1e-3), got {checks.shown(init_step)}.")
    rule = scale_by_dog(*init_step, eps)
    return chain(add_decayed_weights(weight_decay, mask), rule, scale_by_learning_rate(learning_rate))


class DoWGState(NamedTuple):
    """The steps taken, x_1, the weighted sum of squared norms, and the largest squared distance."""

    init_params: Array = per_param(start=PARAM)
    weighted_sq_norm_grads: Array = per_tree(signed=False)
    estim_sq_dist: Array = per_tree(start="init_estim_sq_dist", signed=False)
    count: Array = counter()


class scale_by_dowg(Treewide, state=DoWGState, needs=("params",)):
    """The rule of DoWG. `init_estim_sq_dist`, the first d, and `eps` (both 1e-4 by default) are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_dowg(0.25, eps=0.0)
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(p), p)[0].round(3))
    [0.3 0.4]
    """

    init_estim_sq_dist: Hyper = hyper(default=1e-4, ge=0)
    eps: Hyper = hyper(default=1e-4, ge=0)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        travelled = tree.norm_sq(jax.tree.map(jnp.subtract, params, slots.init_params))
        farthest = jnp.maximum(numbers.estim_sq_dist, travelled)
        weighted = leaf.finite_sum(numbers.weighted_sq_norm_grads, farthest * tree.norm_sq(updates))
        rate = farthest / (leaf.root(weighted) + self.eps)
        return rate, numbers._replace(weighted_sq_norm_grads=weighted, estim_sq_dist=farthest)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared, slots


@constructor
def dowg(
    learning_rate: HyperArg = 1.0,
    init_estim_sq_dist: HyperArg | None = None,
    eps: HyperArg = 1e-4,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """DoWG; the first squared distance is `eps` unless given. State: one array per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.dowg().links[1]
    scale_by_dowg(init_estim_sq_dist=0.0001, eps=0.0001)
    """
    eps = scale_by_dowg.check_field("eps", eps, who="dowg", name="eps")
    rule = scale_by_dowg(eps if init_estim_sq_dist is None else init_estim_sq_dist, eps)
    return chain(add_decayed_weights(weight_decay, mask), rule, scale_by_learning_rate(learning_rate))
