"""Adafactor: approximates the second moment of a matrix by the outer product of two vectors.

    beta_t = 1 - max(t - step_offset, 1)^(-decay_rate)
    s_t = |g_t|^2 + epsilon
    r_t = beta_t * r_(t-1) + (1 - beta_t) * mean of s_t over the longest axis
    c_t = beta_t * c_(t-1) + (1 - beta_t) * mean of s_t over the second longest axis
    v_t = r_t c_t / mean(r_t)                         if the leaf is factored
    v_t = beta_t * v_(t-1) + (1 - beta_t) * s_t       otherwise
    u_t = g_t / sqrt(v_t)

Shazeer and Stern, 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", algorithm 4. By default, as in
optax, the two longest axes are factored if both have at least `min_dim_size_to_factor` entries. PyTorch factors the
last two axes (`dims="last"`), adds no epsilon, and bounds the mean of r_t from below by `floor` and v_t by floor^2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper, of_step
from gradtx.core.leafwise import Layerwise
from gradtx.core.slots import counter, reduced
from gradtx.core.value import choice, flag, function, integer, static
from gradtx.transforms.clip import clip_by_block_rms
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.momentum import ema
from gradtx.transforms.norms import scale_by_param_block_rms
from gradtx.types import Mask, Slots

__all__ = ["FactoredState", "adafactor", "scale_by_factored_rms"]


class FactoredState(NamedTuple):
    """The state of `scale_by_factored_rms`.

    `count`: the number of steps taken. `v_row`, `v_col`: r and c of every factored leaf. `v`: the second moment of
    every other leaf. If a leaf does not have one of these arrays, the entry is None.
    """

    count: Array = counter()
    v_row: Array = reduced(over="row_over", keepdims=True, real=True, signed=False)
    v_col: Array = reduced(over="col_over", keepdims=True, real=True, signed=False)
    v: Array = reduced(over="v_over", real=True, signed=False)


def _decay_rate_pow(t: Any, exponent: Any) -> Any:
    return 1 - t ** (-exponent)


def _sum(x: Array, axis: int) -> Array:
    return jnp.sum(x, axis=axis, keepdims=True)


def _over_root(g: Array, v: Array, floor: Any) -> Array:
    return g / leaf.root(jnp.maximum(v, jnp.square(floor)))


class scale_by_factored_rms(Layerwise, state=FactoredState, needs=("params",)):
    """Divides the gradient by the square root of Adafactor's second moment, which is factored for matrices.

    This is `adafactor` without clipping, momentum and learning rate:

        u = g / sqrt(r c / mean(r)),    r, c: moving averages of the mean of |g|^2 over columns and rows

    Args:
      factored: Whether to factor the second moment of large matrices; False keeps one number per entry. Default True.
      decay_rate: Exponent of the averaging: at step t the decay rate of the averages is 1 - t^(-decay_rate), so later
        averages extend over more steps. Not negative; default 0.8.
      step_offset: Number of steps that is subtracted from t in the formula of the decay rate; useful if the run
        continues an earlier run. Default 0.
      min_dim_size_to_factor: Smallest length that both factored axes must have; smaller matrices are not factored. At
        least 1; default 128.
      epsilon: Added to the squared gradient for numerical stability. Not negative; default 1e-30.
      decay_rate_fn: Function `(t, decay_rate)` that returns the decay rate of step t; 1 - t^(-decay_rate) by default.
      dims: Which two axes are factored: the two longest ('largest', as in optax) or the last two ('last', as in
        PyTorch). Default 'largest'.
      floor: Lower bound on the square root of the second moment. Not negative; default 0.
      dtype_floor: Whether to use the machine epsilon of the gradient's dtype as the floor, as PyTorch does by default.

    State: for a factored matrix one number per row and per column, for other leaves one array (4 bytes per parameter in
    float32). `update` needs `params`.

    Reference: Shazeer and Stern, 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", algorithm 4.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_factored_rms(min_dim_size_to_factor=2)
    >>> state = tx.init({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})
    >>> print(state.v_row["w"].shape, state.v_col["w"].shape, state.v["w"], state.v["b"].shape)
    (2, 1) (1, 3) None (3,)
    """

    factored: bool = flag(default=True)
    decay_rate: Hyper = hyper(default=0.8, ge=0)
    step_offset: Hyper = hyper(default=0)
    min_dim_size_to_factor: int = integer(default=128, ge=1)
    epsilon: Hyper = hyper(default=1e-30, ge=0)
    decay_rate_fn: Any = static(default=_decay_rate_pow, check=function)
    dims: str = choice(default="largest", options=("largest", "last"), kw_only=True)
    floor: Hyper = hyper(default=0.0, ge=0, kw_only=True)
    dtype_floor: bool = flag(default=False, kw_only=True)

    def _dims(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Returns the axes whose means are c and r, or None for a leaf that is not factored."""
        if not self.factored or len(shape) < 2:
            return None
        if self.dims == "last":
            return len(shape) - 2, len(shape) - 1
        second, longest = (int(i) for i in np.argsort(shape, stable=True)[-2:])
        return (second, longest) if shape[second] >= self.min_dim_size_to_factor else None

    def row_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns the axis whose mean is r."""
        dims = self._dims(shape)
        return dims and dims[1:]

    def col_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns the axis whose mean is c."""
        dims = self._dims(shape)
        return dims and dims[:1]

    def v_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns () for a leaf that is not factored, and None for a factored leaf."""
        return () if self._dims(shape) is None else None

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        # Steps up to the offset are treated as the first step, because t^(-decay_rate) would exceed 1 if t were below
        # 1.
        steps = jnp.maximum((t - self.step_offset).astype(float), 1)
        return of_step(self.decay_rate_fn, steps, self.decay_rate), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        square = leaf.abs_sq(g) + self.epsilon
        floor = float(jnp.finfo(g.dtype).eps) if self.dtype_floor else self.floor
        dims = self._dims(g.shape)
        if dims is None:
            v = leaf.moment(slots.v, square, shared)
            return _over_root(g, v, floor), slots._replace(v=v)
        # Leading axes of length 1, as in 1 x 1 kernels, make XLA's CPU backend ten times slower.
        ones = next(i for i, n in enumerate((*g.shape, 0)) if n != 1)
        if 0 < ones <= min(dims):
            inner_g, inner_slots = jax.tree.map(lambda x: x.reshape(x.shape[ones:]), (g, slots))
            u, new = self.update_leaf(inner_g, inner_slots, p, shared)
            return u.reshape(g.shape), jax.tree.map(lambda x, old: x.reshape(old.shape), new, slots)
        second, longest = dims
        # The squares are divided once, by the larger of the two lengths, so that neither sum overflows.
        most = max(g.shape[second], g.shape[longest], 1)
        share = square / most
        row = leaf.moment(slots.v_row, _sum(share, longest) * (most / max(g.shape[longest], 1)), shared)
        col = leaf.moment(slots.v_col, _sum(share, second) * (most / max(g.shape[second], 1)), shared)
        mean = jnp.maximum(_sum(row / max(g.shape[second], 1), second), floor)
        v = leaf.quotient(row, jnp.maximum(mean, jnp.finfo(row.dtype).tiny)) * col
        return _over_root(g, v, floor), slots._replace(v_row=row, v_col=col)


@constructor
def adafactor(
    learning_rate: HyperArg | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: HyperArg = 0.8,
    decay_offset: HyperArg = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: HyperArg | None = 1.0,
    momentum: HyperArg | None = None,
    dtype_momentum: Any = jnp.float32,
    weight_decay: HyperArg = 0.0,
    eps: HyperArg = 1e-30,
    factored: bool = True,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs Adafactor, an Adam-like optimizer that needs very little memory for matrices.

    Use it when there is no memory for Adam's second moment: the second moment of an n x m matrix needs only n + m
    numbers. By default the updates are proportional to the size of the parameters: with a learning rate of 1e-2, a step
    changes a parameter array by about one percent of its root mean square (Shazeer and Stern, 2018, "Adafactor:
    Adaptive Learning Rates with Sublinear Memory Cost", algorithm 4):

        u  = g / sqrt(r c / mean(r)),    divided by max(1, rms(u) / clipping_threshold)
        p <- p - learning_rate * (rms(p) * u + weight_decay * p)

    where r and c are moving averages of the mean of |g|^2 over columns and rows.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). The paper uses min(1e-2, 1 /
        sqrt(t)) at step t. None (default) is the same as 1, as in optax, with which an update can be as large as the
        parameters themselves. Not negative.
      min_dim_size_to_factor: Smallest length that both factored axes must have; smaller matrices are not factored. At
        least 1; default 128.
      decay_rate: Exponent of the averaging: at step t the decay rate of the averages is 1 - t^(-decay_rate), so later
        averages extend over more steps. Not negative; default 0.8.
      decay_offset: Number of steps that is subtracted from t in the formula of the decay rate; useful if the run
        continues an earlier run. Default 0.
      multiply_by_parameter_scale: Whether to multiply each update by the root mean square of its parameter. Default
        True.
      clipping_threshold: Largest root mean square of an update before the learning rate is applied; None disables
        clipping. Positive; default 1.
      momentum: Decay rate of a moving average of the updates; a value closer to 1 averages over more steps, and None
        uses no momentum. optax averages the updates after multiplying them by the learning rate, which gives the same
        result if the learning rate is constant. In [0, 1).
      dtype_momentum: Dtype in which the momentum is stored; float32 by default.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      eps: Added to the squared gradient for numerical stability. Not negative; default 1e-30.
      factored: Whether to factor the second moment of large matrices; False keeps one number per entry. Default True.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. optax's `adafactor` does this. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: for a factored matrix one number per row and per column,
      for other leaves one array (4 bytes per entry in float32); with momentum, one more array.

    >>> import gradtx as gx
    >>> gx.adafactor(0.01).links[1]
    clip_by_block_rms(threshold=1.0)
    """
    offset = scale_by_factored_rms.check_field("step_offset", decay_offset, who="adafactor", name="decay_offset")
    links: list[Any] = [scale_by_factored_rms(factored, decay_rate, offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        named = {"who": "adafactor", "name": "clipping_threshold"}
        links.append(clip_by_block_rms(clip_by_block_rms.check_field("threshold", clipping_threshold, **named)))
    if checks.flag("adafactor", "multiply_by_parameter_scale", multiply_by_parameter_scale):
        links.append(scale_by_param_block_rms())
    if momentum is not None:
        decay = ema.check_field("decay", momentum, who="adafactor", name="momentum")
        links.append(ema(decay, False, dtype_momentum))
    rate = 1.0 if learning_rate is None else learning_rate
    return chain(*links, *decoupled_weight_decay(rate, weight_decay, mask, decouple_lr=decouple_lr))
