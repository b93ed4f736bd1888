"""Adafactor: the second moment of a matrix as an outer product of a row and a column.

    beta_t = 1 - max(t - step_offset, 1)^(-decay_rate)
    s_t = |g_t|^2 + epsilon
    r_t = beta_t * r_(t-1) + (1 - beta_t) * mean of s_t over the longest axis
    c_t = beta_t * c_(t-1) + (1 - beta_t) * mean of s_t over the second longest axis
    v_t = r_t c_t / mean(r_t)           for every other pair of axes; v_t = the average of s_t if not factored
    u_t = g_t / sqrt(v_t)

Shazeer and Stern, 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", algorithm 4. optax, as
here by default, factors the two longest axes if both have `min_dim_size_to_factor`. PyTorch factors the last two
(`dims="last"`), adds no epsilon, and keeps the mean of r_t above `floor` and v_t above floor^2.
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
    """The steps taken; of each leaf r and c if it is factored, else v. What a leaf does not have is None."""

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
    """The rule of Adafactor's second moment.

    `decay_rate` and `epsilon` (default 1e-30) are not negative, nor is `floor` (default 0). With `dtype_floor` the
    floor is the `eps` of the dtype that the gradient is computed in, as PyTorch has it by default.
    `decay_rate_fn(t, decay_rate)` gives beta_t. `factored=False` keeps all of v.

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
        """The axes whose means are c and r, or None for a leaf that is not factored."""
        if not self.factored or len(shape) < 2:
            return None
        if self.dims == "last":
            return len(shape) - 2, len(shape) - 1
        second, longest = (int(i) for i in np.argsort(shape, stable=True)[-2:])
        return (second, longest) if shape[second] >= self.min_dim_size_to_factor else None

    def row_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The axis whose mean is r."""
        dims = self._dims(shape)
        return dims and dims[1:]

    def col_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The axis whose mean is c."""
        dims = self._dims(shape)
        return dims and dims[:1]

    def v_over(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """No axis of a leaf that is not factored."""
        return () if self._dims(shape) is None else None

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        # Until the offset is passed every step is a first one: its power, of a number below 1, would be no average.
        steps = jnp.maximum((t - self.step_offset).astype(float), 1)
        return of_step(self.decay_rate_fn, steps, self.decay_rate), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        square = leaf.abs_sq(g) + self.epsilon
        floor = float(jnp.finfo(g.dtype).eps) if self.dtype_floor else self.floor
        dims = self._dims(g.shape)
        if dims is None:
            v = leaf.moment(slots.v, square, shared)
            return _over_root(g, v, floor), slots._replace(v=v)
        # Leading axes of length 1, as kernels of 1 x 1 have them, make XLA's CPU backend ten times slower.
        ones = next(i for i, n in enumerate((*g.shape, 0)) if n != 1)
        if 0 < ones <= min(dims):
            inner_g, inner_slots = jax.tree.map(lambda x: x.reshape(x.shape[ones:]), (g, slots))
            u, new = self.update_leaf(inner_g, inner_slots, p, shared)
            return u.reshape(g.shape), jax.tree.map(lambda x, old: x.reshape(old.shape), new, slots)
        second, longest = dims
        # Divided once, by the larger of the two lengths, so that neither sum overflows.
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
    """Adafactor. State: for a matrix one array per axis, else one like the parameter; one more with momentum.

    Without a learning rate it is 1: the parameters' scale sets the step. `update` needs params. The decay is scaled by
    the learning rate; optax's is not, which is `decouple_lr=True`. The rate scales the average of the steps;
    optax averages the scaled steps, which is the same for a constant rate.

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
