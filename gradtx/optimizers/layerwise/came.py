"""CAME: Adafactor with momentum, and smaller updates where the momentum and Adafactor's update disagree.

    v_t = r_t c_t / mean(r_t)                     r, c: averages, with decay b2, of |g_t|^2 + eps over columns and rows
    w_t = g_t / sqrt(v_t),   divided by max(1, rms(w_t) / clipping_threshold)
    m_t = b1 * m_(t-1) + (1 - b1) * w_t
    s_t                                           like v_t, of |w_t - m_t|^2 + eps_residual, with decay b3
    u_t = m_t / sqrt(s_t)                         u_t = m_t for vectors and scalars

Luo et al., 2023, "CAME: Confidence-guided Adaptive Memory Efficient Optimization", algorithm 2. As in the authors'
code, tensors with two or more axes are factored over the last two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.slots import counter, per_param, reduced
from gradtx.core.value import dtype
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["CameState", "came", "scale_by_came"]


class CameState(NamedTuple):
    """The state of `scale_by_came`.

    `count`: the number of steps taken. `mu`: the momentum. `v_row`, `v_col`: the averages of the squared gradient over
    rows and columns of every factored leaf. `v`: the second moment of every other leaf. `residual_row`, `residual_col`:
    the same averages of the squared difference between update and momentum.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    v_row: Array = reduced(over="over_columns", keepdims=True, real=True, signed=False)
    v_col: Array = reduced(over="over_rows", keepdims=True, real=True, signed=False)
    v: Array = reduced(over="unfactored", real=True, signed=False)
    residual_row: Array = reduced(over="over_columns", keepdims=True, real=True, signed=False)
    residual_col: Array = reduced(over="over_rows", keepdims=True, real=True, signed=False)


def _mean(x: Array, axis: int) -> Array:
    """Returns the mean along `axis`, which keeps length 1; the entries are divided first, so that no sum overflows."""
    return jnp.sum(x / max(x.shape[axis], 1), axis=axis, keepdims=True)


def _factored(square: Array, row: Array, col: Array, decay: Any) -> tuple[Array, Array, Array]:
    """Returns the factored estimate of an average of squares, and the new averages over rows and columns."""
    row = leaf.moment(row, _mean(square, -1), decay)
    col = leaf.moment(col, _mean(square, -2), decay)
    mean = jnp.maximum(_mean(row, -2), jnp.finfo(row.dtype).tiny)
    return leaf.quotient(row, mean) * col, row, col


class scale_by_came(Layerwise, state=CameState):
    """Averages Adafactor's update and divides the average by an estimate of how much the update varies.

    This is `came` without learning rate and weight decay:

        u = m / sqrt(s),    m: moving average of Adafactor's update w,   s: factored moving average of |w - m|^2

    Args:
      b1: Decay rate of the momentum (the moving average of the update); a value closer to 1 averages over more steps.
        In [0, 1); default 0.9.
      b2: Decay rate of the second moment, one number per row and per column; a value closer to 1 averages over more
        steps. In [0, 1); default 0.999.
      b3: Decay rate of the squared differences between update and momentum; a value closer to 1 averages over more
        steps. In [0, 1); default 0.9999.
      eps: Added to squared gradients for numerical stability. Not negative; default 1e-30.
      eps_residual: Added to the squared differences; a larger value makes the updates of all entries more similar. Not
        negative; default 1e-16.
      clipping_threshold: Largest root mean square of Adafactor's update, before momentum. Positive; default 1.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.

    State: for a matrix one array of the same shape (4 bytes per entry in float32) and two numbers per row and per
      column; for a vector two arrays.

    Reference: Luo et al., 2023, "CAME: Confidence-guided Adaptive Memory Efficient Optimization", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> state = gx.scale_by_came().init({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})
    >>> print(state.v_row["w"].shape, state.residual_col["w"].shape, state.v["w"], state.v["b"].shape)
    (2, 1) (1, 3) None (3,)
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    b3: Hyper = hyper(default=0.9999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-30, ge=0)
    eps_residual: Hyper = hyper(default=1e-16, ge=0)
    clipping_threshold: Hyper = hyper(default=1.0, gt=0)
    mu_dtype: Any = dtype(default=None)

    def over_columns(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns the last axis for a leaf that is factored."""
        return (-1,) if len(shape) > 1 else None

    def over_rows(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns the second-to-last axis for a leaf that is factored."""
        return (-2,) if len(shape) > 1 else None

    def unfactored(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns () for a leaf that is not factored, and None for a factored leaf."""
        return None if len(shape) > 1 else ()

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        square = leaf.abs_sq(g) + self.eps
        if g.ndim > 1:
            v, row, col = _factored(square, slots.v_row, slots.v_col, self.b2)
            slots = slots._replace(v_row=row, v_col=col)
        else:
            v = leaf.moment(slots.v, square, self.b2)
            slots = slots._replace(v=v)
        w = g / leaf.root(v)
        size = jnp.sqrt(jnp.mean(leaf.abs_sq(w)) + jnp.finfo(v.dtype).tiny)
        w = w / jnp.maximum(1, size / self.clipping_threshold)
        mu = leaf.moment(slots.mu, w, self.b1)
        slots = slots._replace(mu=mu)
        if g.ndim < 2:
            return mu, slots
        apart = leaf.abs_sq(w - mu) + self.eps_residual
        s, row, col = _factored(apart, slots.residual_row, slots.residual_col, self.b3)
        return mu / leaf.root(s), slots._replace(residual_row=row, residual_col=col)


@constructor
def came(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    b3: HyperArg = 0.9999,
    eps: HyperArg = 1e-30,
    eps_residual: HyperArg = 1e-16,
    clipping_threshold: HyperArg = 1.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs CAME: Adafactor with momentum and more cautious updates, with decoupled weight decay.

    Use it in place of AdamW when there is memory for only one array per parameter. Updates are smaller where the
    momentum m and Adafactor's update w disagree (Luo et al., 2023, "CAME: Confidence-guided Adaptive Memory Efficient
    Optimization", algorithm 2):

        p <- p - learning_rate * (m / sqrt(s) + weight_decay * p),    s: factored moving average of |w - m|^2

    As in the paper, the first updates are large, because the averages start at zero, and only the update before
    momentum is clipped.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 2e-4 in the paper's language
        models. Not negative.
      b1: Decay rate of the momentum (the moving average of the update); a value closer to 1 averages over more steps.
        In [0, 1); default 0.9.
      b2: Decay rate of the second moment, one number per row and per column; a value closer to 1 averages over more
        steps. In [0, 1); default 0.999.
      b3: Decay rate of the squared differences between update and momentum; a value closer to 1 averages over more
        steps. In [0, 1); default 0.9999.
      eps: Added to squared gradients for numerical stability. Not negative; default 1e-30.
      eps_residual: Added to the squared differences; a larger value makes the updates of all entries more similar. Not
        negative; default 1e-16.
      clipping_threshold: Largest root mean square of Adafactor's update, before momentum. Positive; default 1.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: for a matrix one array of the same shape (4 bytes per entry
      in float32) and two numbers per row and per column; for a vector two arrays.

    >>> import gradtx as gx
    >>> gx.came(2e-4).links[0].b3
    0.9999
    """
    rule = scale_by_came(b1, b2, b3, eps, eps_residual, clipping_threshold, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
