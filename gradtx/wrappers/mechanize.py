"""Mechanic: tunes the learning rate of any base optimizer during the run.

With the updates u_t of the base optimizer, their sum Delta_t = u_1 + ... + u_t, and the scale s_t = sum_i s_t^i over
`num_betas` tuners with decay rates b_i = 1 - 10^-i,

    x_(t+1) = x_1 + s_(t+1) * Delta_(t+1)
    h_t       = -<g_t + weight_decay * s_t |g_t| / (|x_t| + eps) * x_t, Delta_t>

and for each tuner

    r <- b r + clip(h, -m, m) * s
    m <- max(b m, |h| + eps)
    v <- b^2 v + h^2
    s <- (s_init / num_betas * m + max(r, 0)) / (sqrt(v) + eps)

Cutkosky, Defazio and Mehta, 2023, "Mechanic: A Learning Rate Tuner". Delta is not stored, because it is (x_t - x_1) /
s_t.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.metrics import reports
from gradtx.core.slots import PARAM, counter, per_param, per_tree
from gradtx.core.value import integer
from gradtx.types import Params, Slots, Updates
from gradtx.wrappers.cautious import with_grad_arg

__all__ = ["MechanicState", "mechanize", "scale_by_mechanic"]


@reports(mechanic_scale="total")
class MechanicState(NamedTuple):
    """The number of steps, the initial parameters, and the tuners' values.

    Each tuner has a reward `r`, a bound `m`, a variance `v` and a scale `s`; `total` is the sum of the scales.
    """

    count: Array = counter()
    r: Array = per_tree(start="first_tuners")
    m: Array = per_tree(start="first_tuners", signed=False)
    v: Array = per_tree(start="first_tuners", signed=False)
    s: Array = per_tree(start="first_scales", signed=False)
    x0: Array = per_param(start=PARAM)
    total: Array = per_tree(start="first_total", signed=False)


class scale_by_mechanic(Treewide, state=MechanicState, needs=("params", "grad")):
    """Scales the updates by a learning rate that is tuned during the run; `mechanize` adds it to an optimizer.

    Put it after the base optimizer, inside `with_grad_arg`, which passes the extra argument `grad`.

    Args:
      weight_decay: Strength of the decay that steers the tuning (default 0.01). Not negative. It does not decay the
        parameters directly.
      eps: Added to the denominator for numerical stability. Positive; default 1e-8 (a larger value, such as 1e-6, makes
        smaller updates where gradients are tiny).
      s_init: Initial scale of the updates (default 1e-6). Positive; small, because the scale grows quickly if it is too
        small.
      num_betas: Number of tuners, with the decay rates 0.9, 0.99 and so on (default 6). At least 1.

    Returns:
      A transformation whose `update` needs `params` and `grad`. State: one array per parameter (4 bytes in float32),
        and four numbers per tuner.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_mechanic()
      >>> g = p = jnp.ones(1)
      >>> print(tx.update(-g, tx.init(p), p, grad=g)[0] < 0)
      [ True]
    """

    weight_decay: Hyper = hyper(default=0.01, ge=0)
    eps: Hyper = hyper(default=1e-8, gt=0)
    s_init: Hyper = hyper(default=1e-6, gt=0)
    num_betas: int = integer(default=6, ge=1)

    def first_tuners(self, params: Any) -> Array:
        """Returns a zero for each tuner."""
        return jnp.zeros(self.num_betas, tree.number(params, 0.0).dtype)

    def first_scales(self, params: Any) -> Array:
        """Returns the initial scale, once for each tuner."""
        return jnp.full(self.num_betas, self.s_init, tree.number(params, 0.0).dtype)

    def first_total(self, params: Any) -> Array:
        """Returns the sum of the first scales."""
        return jnp.sum(self.first_scales(params))

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, *, grad: Any
    ) -> tuple[Any, Any]:
        total, s = numbers.total, numbers.s
        betas = jnp.asarray(1 - 0.1 ** np.arange(1, self.num_betas + 1), s.dtype)
        back = jax.tree.map(lambda start, p: (start - leaf.widen(p)) / (total + self.eps), slots.x0, params)
        size = leaf.saturated(self.weight_decay * total * leaf.saturated(tree.norm(grad)))
        decay = leaf.saturated(size / (tree.norm(params) + self.eps))
        toward, decayed = (leaf.bounded(tree.real_vdot(x, back).astype(s.dtype)) for x in (grad, params))
        h = leaf.bounded(toward + leaf.bounded(decay * decayed))
        r = betas * numbers.r + jnp.clip(h, -numbers.m, numbers.m) * s
        m = jnp.maximum(betas * numbers.m, jnp.abs(h) + self.eps)
        v = leaf.finite_sum(betas**2 * numbers.v, leaf.abs_sq(h))
        s = (self.s_init / self.num_betas * m + jnp.maximum(r, 0)) / (leaf.root(v) + self.eps)
        new = numbers._replace(r=r, m=m, v=v, s=s, total=jnp.sum(s))
        return Shared(before=total, after=new.total.astype(total.dtype)), new

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        before, after = shared.before, shared.after
        # x_1 + s' (Delta + u) - x with Delta = (x - x_1) / (s + eps), rearranged so that nothing is added to the
        # parameters: their rounding would lose small steps.
        return (p - slots.x0) * ((after - before - self.eps) / (before + self.eps)) + g * after, slots


@constructor
def mechanize(
    base_optimizer: Any,
    weight_decay: HyperArg = 0.01,
    eps: HyperArg = 1e-8,
    s_init: HyperArg = 1e-6,
    num_betas: int = 6,
) -> with_grad_arg:
    """Tunes the learning rate of an optimizer during the run (Mechanic).

    Set the learning rate of the base optimizer to 1, or to a schedule with a maximum of 1 that ends low. Mechanic
    multiplies the schedule by a tuned scale; the shape of the schedule is kept. `gx.metrics(state)` reports the current
    scale as `mechanic_scale`.

    Args:
      base_optimizer: The optimizer to tune, such as `gx.adamw(1.0)`.
      weight_decay: Strength of the decay that steers the tuning (default 0.01). Not negative. It does not decay the
        parameters directly.
      eps: Added to the denominator for numerical stability. Positive; default 1e-8 (a larger value, such as 1e-6, makes
        smaller updates where gradients are tiny).
      s_init: Initial scale of the updates (default 1e-6). Positive; small, because the scale grows quickly if it is too
        small.
      num_betas: Number of tuners, with the decay rates 0.9, 0.99 and so on (default 6). At least 1.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32) and four
        numbers per tuner, in addition to the state of `base_optimizer`.

    References:
      Cutkosky, Defazio and Mehta, 2023, "Mechanic: A Learning Rate Tuner".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.mechanize(gx.sgd(1.0))
      >>> params = jnp.array([1.0])
      >>> updates, state = tx.update(2 * params, tx.init(params), params)
      >>> print(gx.metrics(state)["mechanic_scale"] < 1e-4)
      True
    """
    return with_grad_arg(chain(base_optimizer, scale_by_mechanic(weight_decay, eps, s_init, num_betas)))
