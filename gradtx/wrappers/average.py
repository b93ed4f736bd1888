"""Averages of the parameters over the steps, kept in the state and read with `averaged_params(state)`.

    ema_params        e_t = decay * e_(t-1) + (1 - decay) * x_(t+1), with bias correction
    polyak_average    sum_t w_t x_t / sum_t w_t                                    over t >= start
                      (Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging")
    swa               the mean of x_(t+1) over t = start, start + every, start + 2 * every, ...
                      (Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima and Better Generalization")

x_t are the parameters at which the gradient of step t = 0, 1, ... was taken, and x_(t+1) the parameters after the step.
Each function appends a transformation to a chain. The appended transformation leaves the updates unchanged. It must be
the last element of the chain, because x_(t+1) depends on the final updates.
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
from gradtx.types import Params, Slots, State

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
    """The number of steps, the average of the parameters, and the sum of the averaging weights."""

    count: Array = counter()
    average: Array = per_param(start=PARAM)
    weight: Array = per_tree(start="first_weight", signed=False)


class _Average(Elementwise, state=AverageState, needs=("params",)):
    """Keeps an average in the state. Subclasses define which parameters are averaged, and how they are weighted."""

    def first_weight(self, params: Params) -> Array:
        """Returns the sum of the averaging weights before the first step."""
        return tree.number(params, 0.0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        share, weight = self.shares(numbers.weight, t)
        return share, numbers._replace(weight=weight)

    def shares(self, weight: Array, t: Array) -> tuple[Array, Array]:
        """Returns the fraction of the new parameters in the average, and the updated sum of the averaging weights.

        The average becomes (1 - fraction) * average + fraction * parameters. Step `t` is counted from 1, and `weight`
        is the sum of the averaging weights before it.
        """
        raise NotImplementedError

    def averaged(self, g: Array, p: Array) -> Array:
        """Returns the parameters to average: by default the parameters after the step."""
        return p + g

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g, slots._replace(average=slots.average * (1 - shared) + self.averaged(g, p) * shared)


class ema_of_params(_Average):
    """Keeps an exponential moving average of the parameters in the state; `ema_params` adds it to an optimizer.

    Put it last in a chain. It leaves the updates unchanged.

    Args:
      decay: Decay rate of the moving average; a value closer to 1 averages over more steps. In [0, 1); default 0.999
        (about the last 1000 steps).
      debias: True to average only over the steps so far (default); False to start the average at the initial
        parameters.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
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
    """Keeps an average of the parameters in the state; `polyak_average` and `swa` add it to an optimizer.

    Put it last in a chain. It leaves the updates unchanged.

    Args:
      weights: Averaging weight of the parameters at each step, a number or a schedule of the step count. Not negative;
        default 1.
      start: First step that is averaged, counted from 0 (default 0). Until then the average equals the latest
        parameters.
      every: Number of steps from an averaged step to the next averaged step (default 1). At least 1.
      of: 'before' to average the parameters before each step, at which the gradients are taken (default), or 'after' to
        average the parameters after each step.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
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
        # While no weight is positive, the average equals the latest parameters.
        return jnp.where(total > 0, leaf.ratio(new, total), 1), total

    def averaged(self, g: Array, p: Array) -> Array:
        return p if self.of == "before" else p + g


@constructor
def ema_params(inner: Any, decay: HyperArg = 0.999, debias: bool = True) -> chain:
    """Adds to `inner` an exponential moving average of the parameters after each step.

    Evaluate the model at `averaged_params(state)`: the average often performs better than the latest parameters, even
    if the learning rate does not decay. Usual for diffusion models and GANs.

        e <- decay * e + (1 - decay) * p

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It must contain everything that changes the updates.
      decay: Decay rate of the moving average; a value closer to 1 averages over more steps. In [0, 1); default 0.999
        (about the last 1000 steps).
      debias: True to average only over the steps so far (default); False to start the average at the initial
        parameters.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the inner state.

    Example:
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
    """Adds to `inner` the average of the parameters at which gradients were taken, from step `start` on.

    Evaluate the model at `averaged_params(state)`. With a constant learning rate the parameters only fluctuate around
    the minimum, while their average converges.

        sum_t w_t x_t / sum_t w_t      over t >= start

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It must contain everything that changes the updates.
      weights: None for equal weights (default), or a schedule of the step count, often the schedule of the learning
        rate. Not negative.
      start: First step that is averaged, counted from 0 (default 0). Until then the average equals the latest
        parameters.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the inner state.

    References:
      Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging".

    Example:
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
    """Adds to `inner` stochastic weight averaging: the mean of the parameters from step `start` on.

    The mean is taken over the parameters after the steps `start`, `start + every`, `start + 2 * every` and so on,
    counted from 0. Use `swa` for the last epochs of a run, with a constant or cyclical learning rate, and evaluate the
    model at `averaged_params(state)`. Recompute the statistics of batch normalization for the averaged parameters.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It must contain everything that changes the updates.
      start: First step whose parameters are averaged, counted from 0. With a cyclical learning rate, pass the last step
        of a cycle.
      every: Number of steps from an averaged step to the next averaged step (default 1). At least 1. With a cyclical
        learning rate, pass the length of a cycle.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the inner state.

    References:
      Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".

    Example:
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


def averaged_params(state: State) -> Any:
    """Returns the average of the parameters that `ema_params`, `polyak_average` or `swa` keeps in a state.

    Args:
      state: The state from `tx.init` or `tx.update`. It must contain exactly one such average, at any depth.

    Returns:
      A tree with the structure and shapes of the parameters, in float32 or wider; before the first step the average
        equals the parameters. For an average inside a group of `partition`, a dict that maps the path of each leaf of
        this group to its average.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.apply_if_finite(gx.swa(gx.sgd(0.1), start=0))
      >>> print(gx.averaged_params(tx.init(jnp.ones(2))))
      [1. 1.]

    Raises:
      ValueError: The state contains no average, or more than one.
    """
    advice = (
        "Add an average with gx.ema_params, gx.polyak_average or gx.swa. If the state has several averages, pass the "
        "inner state that contains the average you want."
    )
    return unpacked(only("averaged_params", state, AverageState, "averages", advice).average)
