"""QK-clip: scales down the query and key weights of attention heads whose logits have become too large.

    gamma = min(1, threshold / largest logit)          for every head
    x <- (x + u) * gamma^balance                       for query weights
    x <- (x + u) * gamma^(1 - balance)                 for key weights

Kimi Team, 2025, "Kimi K2: Open Agentic Intelligence", section 2.1 (MuonClip), with balance 0.5 and threshold 100. The
paper does not scale weights that all heads share, and multiplies the rotary query weights by gamma instead of
gamma^balance. To do the same, add a second `qk_clip` with `balance=1`, the rotary query weights as `queries` and no
`keys`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks
from gradtx.core import mask
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import ByLeaf, Shared, Treewide
from gradtx.core.value import static
from gradtx.types import Params, Slots, Updates

__all__ = ["qk_clip"]


def _check_axis(who: str, name: str, value: Any) -> int:
    return checks.integer(who, name, value, ge=-16)


class qk_clip(Treewide, needs=("params", "max_logits")):
    """Scales down the query and key weights of attention heads whose logits exceed `threshold`.

    Use it when attention logits grow without bound, as with Muon at scale. Put it last in a chain, after the learning
    rate: `chain(muon(0.02), qk_clip(queries, keys))`. `update` needs the extra argument `max_logits`, the largest
      attention logits of the batch before the softmax, which your forward pass must return. `max_logits` can be:

    - an array with one number per head; - an array of shape (layers, heads) for scanned layers, whose weights have the
    layers along their first axis; - a dict from a path, such as 'block_0/attention', to such arrays for the weights
    below that path.

    Weights for which there are no logits are left unchanged, and so are heads whose largest logit is NaN or infinite.

    Args:
      queries: Which leaves are query weights: a selector such as `gx.select.path("**/query/kernel")`, a tree of
        booleans, or a function of the parameters.
      keys: Which leaves are key weights, in the same form as `queries`. None (default) selects no leaf.
      threshold: Largest logit that needs no scaling (default 100). Positive.
      balance: Exponent of gamma for the query weights (default 0.5); the exponent for the key weights is 1 - balance.
        In [0, 1].
      head_axis: Axis of the heads in the weights: -2 (default) for the shape (model, heads, size); -1 for the shape
        (model, heads * size), in which the columns of each head are contiguous. If the weights have fewer heads than
        there are logits, as in grouped-query attention, each key head is scaled by the largest logit of its group of
        query heads.

    Returns:
      A transformation whose `update` needs `params` and `max_logits`. It keeps no state except a step count.

    References:
      Kimi Team, 2025, "Kimi K2: Open Agentic Intelligence", section 2.1.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.qk_clip(gx.select.path("query"), gx.select.path("key"))
      >>> params = {"query": jnp.ones((1, 2, 1)), "key": jnp.ones((1, 2, 1)), "value": jnp.ones(1)}
      >>> updates, _ = tx.update(params, tx.init(params), params, max_logits=jnp.array([50.0, 400.0]))
      >>> print((params["query"] + updates["query"]).ravel(), updates["value"])
      [2. 1.] [1.]

    Raises:
      ValueError: The number of heads of a leaf does not match the number of logits, or `queries` and `keys` select the
        same leaf.
    """

    queries: Any = static(check=mask.check)
    keys: Any = static(default=None, check=mask.check)
    threshold: Hyper = hyper(default=100.0, gt=0)
    balance: Hyper = hyper(default=0.5, ge=0, le=1)
    head_axis: Any = static(default=-2, check=_check_axis)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        paths, leaves = checks.paths(updates), jax.tree.leaves(updates)
        factors = []
        pairs = zip(paths, leaves, self._selected("queries", params), self._selected("keys", params), strict=True)
        for path, x, query, key in pairs:
            if query and key:
                raise ValueError(
                    f"qk_clip: queries and keys both select the leaf {path}. Change one of the two, so that they have "
                    "no leaf in common."
                )
            logits = _logits(extra["max_logits"], path) if query or key else None
            if logits is None:
                factors.append(jnp.ones((), x.real.dtype))
                continue
            share = self.balance if query else 1 - self.balance
            gamma = jnp.where(logits > self.threshold, self.threshold / jnp.where(logits == 0, 1, logits), 1.0)
            gamma = jnp.where(jnp.isfinite(logits), gamma, 1.0) ** share
            factors.append(self._along(path, x, gamma))
        return Shared(factor=ByLeaf(factors)), numbers

    def _selected(self, name: str, params: Params) -> list[bool]:
        if getattr(self, name) is None:
            return [False] * len(jax.tree.leaves(params))
        return mask.each("qk_clip", getattr(self, name), params)

    def _along(self, path: str, x: Array, gamma: Array) -> Array:
        """Returns the factor of each head, in a shape that broadcasts to the shape of the leaf."""
        layers, heads = gamma.shape[:-1], gamma.shape[-1] if gamma.ndim else 0
        fits = gamma.ndim and -x.ndim <= self.head_axis < x.ndim and x.shape[: len(layers)] == layers
        axis = self.head_axis % x.ndim if fits else 0
        n = x.shape[axis] if fits else 0
        if not fits or axis < len(layers) or not heads or (n % heads and heads % max(n, 1)) or not n:
            raise ValueError(
                f"qk_clip: max_logits has shape {gamma.shape}, which does not match the leaf {path} of shape "
                f"{x.shape}, whose axis {self.head_axis} counts heads. Give one number per head (after the axes of "
                "scanned layers, if the leaf has any), or a different head_axis."
            )
        each = jnp.repeat(gamma, n // heads, -1) if n >= heads else gamma.reshape(*layers, n, -1).min(-1)
        return each.reshape(*layers, *(n if i == axis else 1 for i in range(len(layers), x.ndim))).astype(x.real.dtype)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared.factor + p * (shared.factor - 1), slots


def _logits(max_logits: Any, path: str) -> Array | None:
    """Returns the logits given for `path`, or for the nearest path above it, and None if there are none."""
    if not isinstance(max_logits, dict):
        return jnp.asarray(max_logits)
    while path and path not in max_logits:
        path = path.rpartition("/")[0]
    return jnp.asarray(max_logits[path]) if path in max_logits else None
