"""DoG: the step size is the distance from the start divided by the square root of the sum of squared gradient norms.

    r_t = max(r_(t-1), |x_t - x_1|)
    G_t = G_(t-1) + |g_t|^2
    u_t = g_t * r_t / sqrt(G_t + eps)

Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", section 2. The
initial distance r_0 is small: `init_step` is ('heuristic', c) for c * (1 + |x_1|), ('distance', r) for r itself, or
('learning_rate', eta) for a first step of eta * g. DoWG weights the squared gradient norms by the squared distance:

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
    """The state of `scale_by_dog`.

    `count`: the number of steps taken. `init_params`: the initial parameters. `max_dist`: the largest distance from the
    initial parameters. `sum_sq_norm_grads`: the sum of squared gradient norms.
    """

    count: Array = counter()
    init_params: Array = per_param(start=PARAM)
    max_dist: Array = per_tree(start="first_distance", signed=False)
    sum_sq_norm_grads: Array = per_tree(signed=False)


class scale_by_dog(Treewide, state=DoGState, needs=("params",)):
    """Scales the gradient by the distance from the initial parameters over the root of all squared gradient norms.

    This is `dog` without the learning rate:

        u = g * r / sqrt(G + eps)

    where r is the largest distance from the initial parameters so far, and G the sum of squared gradient norms.

    Args:
      init_step: What `init_step_value` means: the initial distance relative to 1 + the norm of the parameters
        ('heuristic'), the initial distance itself ('distance'), or the step size of the first step ('learning_rate').
        Default 'heuristic'.
      init_step_value: The initial distance or the first step size, depending on `init_step`. Not negative; default
        1e-6.
      eps: Added to the sum of squared norms under the square root, for numerical stability. Not negative; default 1e-8.

    State: one array per parameter (4 bytes per entry in float32). `update` needs `params`.

    Reference: Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend", section 2.

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
    """Runs DoG: gradient descent that computes its step size from the distance to the initial parameters.

    Use it when you want SGD without tuning a learning rate. The paper evaluates an average of the parameters over the
    run; to do the same, wrap `dog` in `polyak_average` (Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend: A
    Parameter-Free Dynamic Step Size Schedule", section 2):

        p <- p - learning_rate * g * r / sqrt(G + eps)

    where r is the largest distance from the initial parameters so far, and G the sum of squared gradient norms.

    Args:
      learning_rate: Factor by which every update is multiplied: a number, or a schedule (a function of the step count);
        1 gives the paper's method. Not negative; default 1.
      init_step: Sets the size of the first step: ('heuristic', c) for an initial distance of c * (1 + the norm of the
        parameters), ('distance', r) for an initial distance of r, or ('learning_rate', eta) for a first update of eta *
        g. The number is not negative. Default ('heuristic', 1e-06).
      eps: Added to the sum of squared norms under the square root, for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.dog().links[1]
    scale_by_dog(init_step_value=1e-06, eps=1e-08)
    """
    if not (isinstance(init_step, tuple) and len(init_step) == 2):
        raise TypeError(f"dog: init_step must be a pair such as ('distance', 1e-3), got {checks.shown(init_step)}.")
    rule = scale_by_dog(*init_step, eps)
    return chain(add_decayed_weights(weight_decay, mask), rule, scale_by_learning_rate(learning_rate))


class DoWGState(NamedTuple):
    """The state of `scale_by_dowg`.

    `init_params`: the initial parameters. `weighted_sq_norm_grads`: the weighted sum of squared gradient norms.
    `estim_sq_dist`: the largest squared distance from the initial parameters so far. `count`: the number of steps
    taken.
    """

    init_params: Array = per_param(start=PARAM)
    weighted_sq_norm_grads: Array = per_tree(signed=False)
    estim_sq_dist: Array = per_tree(start="init_estim_sq_dist", signed=False)
    count: Array = counter()


class scale_by_dowg(Treewide, state=DoWGState, needs=("params",)):
    """Scales the gradient by the squared distance from the start over the root of weighted squared gradient norms.

    This is `dowg` without the learning rate:

        u = g * d / (sqrt(v) + eps)

    where d is the largest squared distance from the initial parameters so far, and v the sum of d * |g|^2 over all
    steps.

    Args:
      init_estim_sq_dist: Initial squared distance; the squared distance never shrinks, so choose a small value. Not
        negative; default 1e-4.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-4.

    State: one array per parameter (4 bytes per entry in float32). `update` needs `params`.

    Reference: Khaled, Mishchenko and Jin, 2023, "DoWG Unleashed", algorithm 1.

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
    """Runs DoWG, a variant of DoG with more weight on gradients computed farther from the initial parameters.

    Use it in place of `dog` when the updates of `dog` become too small (Khaled, Mishchenko and Jin, 2023, "DoWG
    Unleashed: An Efficient Universal Parameter-Free Gradient Descent Method"):

        p <- p - learning_rate * g * d / (sqrt(v) + eps)

    where d is the largest squared distance from the initial parameters so far, and v the sum of d * |g|^2 over all
    steps.

    Args:
      learning_rate: Factor by which every update is multiplied: a number, or a schedule (a function of the step count);
        1 gives the paper's method. Not negative; default 1.
      init_estim_sq_dist: Initial squared distance; the squared distance never shrinks, so choose a small value. `eps`
        by default. Not negative.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-4.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.dowg().links[1]
    scale_by_dowg(init_estim_sq_dist=0.0001, eps=0.0001)
    """
    eps = scale_by_dowg.check_field("eps", eps, who="dowg", name="eps")
    rule = scale_by_dowg(eps if init_estim_sq_dist is None else init_estim_sq_dist, eps)
    return chain(add_decayed_weights(weight_decay, mask), rule, scale_by_learning_rate(learning_rate))
