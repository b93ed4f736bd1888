# ruff: noqa: N802  (PyTorch's names)
"""Muon: the gradient's average with its singular values brought near 1.

    b_t = momentum * b_(t-1) + (1 - momentum) * g_t
    X_0 = c_t / max(|c_t|, eps),   c_t = momentum * b_t + (1 - momentum) * g_t  (Nesterov)  or  b_t
    X_k = a X_(k-1) + (b A + c A^2) X_(k-1),   A = X_(k-1) X_(k-1)^T
    u_t = X_n * sqrt(max(1, rows / columns))         ("original")
    u_t = X_n * 0.2 * sqrt(max(rows, columns))       ("match_rms_adamw")

Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks"; the second factor is that of Liu et
al., 2025, "Muon is Scalable for LLM Training".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.compat.torch.arguments import descent, made, several
from gradtx.core.chain import chain
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.state import Like
from gradtx.core.value import choice, dtype, flag, integer

__all__ = ["Muon", "ScaleByMatrixMomentumState", "scale_by_matrix_momentum"]

_ADJUSTMENTS = ("original", "match_rms_adamw")


class ScaleByMatrixMomentumState(NamedTuple):
    """The steps taken, and the average of the gradient, from zero."""

    count: Array
    momentum_buffer: Like


class scale_by_matrix_momentum(Layerwise, state=ScaleByMatrixMomentumState, real=True):
    """The rule of PyTorch's Muon, for real matrices whose rows are the outputs.

    `momentum` lies in [0, 1), `eps` is not negative, `a`, `b` and `c` are the coefficients of the iteration.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch.muon import scale_by_matrix_momentum
    >>> tx = scale_by_matrix_momentum(a=1.5, b=-0.5, c=0.0, ns_steps=20)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    momentum: Hyper = hyper(default=0.95, ge=0, lt=1)
    a: Hyper = hyper(default=3.4445)
    b: Hyper = hyper(default=-4.775)
    c: Hyper = hyper(default=2.0315)
    eps: Hyper = hyper(default=1e-7, ge=0)
    nesterov: bool = flag(default=True)
    ns_steps: int = integer(default=5)
    adjust_lr_fn: str = choice(default="original", options=_ADJUSTMENTS)
    iteration_dtype: Any = dtype(default=None)

    def init_leaf(self, p: Array) -> tuple[Array]:
        if p.ndim != 2:
            raise ValueError(
                f"torch.Muon: every parameter must be a matrix, got one of shape {p.shape}. Give the others to "
                "another optimizer, with gradtx.partition."
            )
        return (leaf.full(p),)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        buffer = leaf.moment(slots[0], g, self.momentum)
        direction = leaf.moment(buffer, g, self.momentum) if self.nesterov else buffer
        rows, columns = g.shape
        if self.adjust_lr_fn == "original":
            factor = math.sqrt(max(1, rows / max(columns, 1)))
        else:
            factor = 0.2 * math.sqrt(max(rows, columns))
        return self._orthogonal(direction) * factor, (buffer,)

    def _orthogonal(self, x: Array) -> Array:
        scale, norm = tree.scaled(x)  # their product, the norm, need not be representable
        divisor = jnp.maximum(norm, self.eps / scale)
        x = x / scale / jnp.where(divisor > 0, divisor, 1)

        def rounded(x: Array) -> Array:
            return x if self.iteration_dtype is None else leaf.narrow(x, self.iteration_dtype)

        def dot(x: Array, y: Array) -> Array:
            return jnp.matmul(x, y, precision=lax.Precision.HIGHEST, preferred_element_type=wide)

        wide = x.dtype
        tall = x.shape[0] > x.shape[1]
        x = rounded(x.T if tall else x)
        for _ in range(self.ns_steps):
            gram = rounded(dot(x, x.T))
            x = rounded(self.a * x.astype(wide) + dot(rounded(self.b * gram + self.c * dot(gram, gram)), x))
        return (x.T if tall else x).astype(wide)


def Muon(
    lr: HyperArg = 1e-3,
    weight_decay: HyperArg = 0.1,
    momentum: HyperArg = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[HyperArg, HyperArg, HyperArg] = (3.4445, -4.775, 2.0315),
    eps: HyperArg = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    *,
    iteration_dtype: Any = None,
) -> chain:
    """`torch.optim.Muon`, for matrices whose rows are the outputs, as in PyTorch.

    The momentum is not corrected for its start at zero as it is in optax, and `eps` is the least norm to divide by
    instead of being added to it. PyTorch iterates in bfloat16, off by some percent of a step; here the iteration
    is in float32 or wider unless `iteration_dtype` is given, which PyTorch does not have.

    >>> from gradtx.compat import torch
    >>> torch.Muon(lr=0.02).links[1:]
    (add_decayed_weights(weight_decay=0.1), scale_by_learning_rate(learning_rate=0.02))

    Raises:
      ValueError: `init` finds a parameter that is no matrix.
    """
    checks.choice("torch.Muon", "adjust_lr_fn", adjust_lr_fn, (None, *_ADJUSTMENTS))
    a, b, c = several("Muon", "ns_coefficients", ns_coefficients, 3)
    given = {"momentum": momentum, "eps": eps, "nesterov": nesterov, "ns_steps": ns_steps}
    rule = made(
        "Muon",
        scale_by_matrix_momentum,
        a=a,
        b=b,
        c=c,
        adjust_lr_fn=adjust_lr_fn or "original",
        iteration_dtype=("iteration_dtype", iteration_dtype),
        **{name: (name, value) for name, value in given.items()},
    )
    return descent("Muon", rule, lr=lr, weight_decay=weight_decay, maximize=False, decoupled=True)
