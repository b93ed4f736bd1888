"""Averages of the iterates, kept in the state and read by `averaged_params(state)`.

    ema_params        e_t = decay * e_(t-1) + (1 - decay) * x_(t+1), corrected for its start
    polyak_average    sum_t w_t x_t / sum_t w_t                                    over t >= start
                      (Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging")
    swa               the mean of x_(t+1), every so many steps from a start on
                      (Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima and Better Generalization")

x_t are the parameters at which the gradient of step t = 0, 1, ... was taken, x_(t+1) those after it. Each of the three
adds a link to the end of a chain, which leaves the updates as they are; nothing that changes them may follow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.metrics import only
from gradtx.core.packed import unpacked
from gradtx.core.slots import PARAM, counter, per_param, per_tree
from gradtx.core.value import choice, flag, integer

__all__ = [
    "AverageState",
    "averaged_params",
    "ema_params",
    "polyak_average",
    "swa",
    "average_of_params",
    "ema_of_params",
]


class AverageState(NamedTuple):
    """The steps taken, the average of the parameters, and the sum of its weights."""

    count: Array = counter()
    average: Array = per_param(start=PARAM)
    weight: Array = per_tree(start="first_weight", signed=False)


class _Average(Elementwise, state=AverageState, needs=("params",)):
    """An average in the state; subclasses say which share of it the new parameters get, and which parameters."""

    def first_weight(self, params: Any) -> Array:
        """The sum of weights before the first step."""
        return tree.number(params, 0.0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        share, weight = self.shares(numbers.weight, t)
        return share, numbers._replace(weight=weight)

    def shares(self, weight: Array, t: Array) -> tuple[Array, Array]:
        """The share of the new parameters at step t (from 1), and the new sum of weights."""
        raise NotImplementedError

    def averaged(self, g: Array, p: Array) -> Array:
        """The parameters to average: those after the step, or before it."""
        return p + g

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g, slots._replace(average=slots.average * (1 - shared) + self.averaged(g, p) * shared)


class ema_of_params(_Average):
    """The link of `ema_params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.ema_of_params(0.9))
    >>> params = jnp.ones(1)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
    >>> print(gx.averaged_params(state))
    [0.]
    """

    decay: Hyper = hyper(default=0.999, ge=0, lt=1)
    debias: bool = flag(default=True)

    def first_weight(self, params: Any) -> Array:
        return tree.number(params, 0.0 if self.debias else 1.0)

    def shares(self, weight: Array, t: Array) -> tuple[Array, Array]:
        weight = weight * self.decay + (1 - self.decay)
        return (1 - self.decay) / weight, weight


class average_of_params(_Average):
    """The link of `polyak_average` and `swa`; `of` is 'before' or 'after' the step.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.average_of_params())
    >>> params = jnp.ones(1)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
    >>> print(gx.averaged_params(state))
    [1.]
    """

    weights: Hyper = hyper(default=1.0, ge=0)
    start: int = integer(default=0)
    every: int = integer(default=1, ge=1)
    of: str = choice(default="before", options=("before", "after"))

    def shares(self, weight: Array, t: Array) -> tuple[Array, Array]:
        late = t - 1 - self.start
        new = jnp.where((late >= 0) & (late % self.every == 0), self.weights, 0)
        total = weight + new
        # Before the first one that counts, the average is the latest.
        return jnp.where(total > 0, leaf.ratio(new, total), 1), total

    def averaged(self, g: Array, p: Array) -> Array:
        return p if self.of == "before" else p + g


@constructor
def ema_params(inner: Any, decay: HyperArg = 0.999, debias: bool = True) -> chain:
    """`inner`, and an exponential moving average of the parameters after each step.

    With `debias` the average is that of the steps so far; without, it begins at the initial parameters. `update`
    needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.ema_params(gx.sgd(1.0), decay=0.5)
    >>> params = jnp.array([4.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.ones(1), state, params)
    ...     params = gx.apply_updates(params, updates)
    >>> print(params, gx.averaged_params(state))
    [2.] [2.3333333]
    """
    return chain(inner, ema_of_params(decay, debias))


@constructor
def polyak_average(inner: Any, weights: HyperArg | None = None, start: int = 0) -> chain:
    """`inner`, and the average of the parameters at which the gradients were taken, from step `start` on.

    `weights` is None for equal ones, or a schedule, often that of the learning rate. Before `start` the average is the
    latest of them. `update` needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.polyak_average(gx.sgd(1.0))
    >>> params = jnp.array([4.0])
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.ones(1), state, params)
    ...     params = gx.apply_updates(params, updates)
    >>> print(params, gx.averaged_params(state))
    [1.] [3.]
    """
    return chain(inner, average_of_params(1.0 if weights is None else weights, start))


@constructor
def swa(inner: Any, start: int, every: int = 1) -> chain:
    """`inner`, and the mean of the parameters after the steps `start`, `start + every`, ..., counted from 0.

    With `every` the length of a cycle of the learning rate, give the last step of a cycle as `start`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.swa(gx.sgd(1.0), start=1, every=2)
    >>> params = jnp.array([4.0])
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...     updates, state = tx.update(jnp.ones(1), state, params)
    ...     params = gx.apply_updates(params, updates)
    >>> print(params, gx.averaged_params(state))
    [0.] [1.]
    """
    return chain(inner, average_of_params(1.0, start, every, "after"))


def averaged_params(state: Any) -> Any:
    """The average that `ema_params`, `polyak_average` or `swa` keeps, from anywhere in a nested state.

    It has the tree and shapes of the parameters, in float32 or wider; before the first step it is the parameters. An
    average inside a group of `partition` has the group's leaves alone, in a dict by path.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.apply_if_finite(gx.swa(gx.sgd(0.1), start=0))
    >>> print(gx.averaged_params(tx.init(jnp.ones(2))))
    [1. 1.]

    Raises:
      ValueError: there is no average in the state, or more than one.
    """
    advice = (
        "Add one by gx.ema_params, gx.polyak_average or gx.swa; of several, give the part of the state that has the "
        "one you want."
    )
    return unpacked(only("averaged_params", state, AverageState, "averages", advice).average)
