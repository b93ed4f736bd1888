"""QK-clip: shrinks the weights of queries and keys where attention logits have become too large.

    gamma = min(1, threshold / largest logit)          for every head
    x <- (x + u) * gamma^balance                       weights of queries
    x <- (x + u) * gamma^(1 - balance)                 weights of keys

Kimi Team, 2025, "Kimi K2: Open Agentic Intelligence", section 2.1 (MuonClip), whose balance is 0.5 and threshold 100.
Parts that heads share are left alone there, and rotary parts of the queries alone take all of gamma: that is a second
link with balance 1, no keys, and those parts as its queries.
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
    """Shrinks the weights of queries and keys of heads whose attention logits exceed `threshold`.

    The last link of a chain, after the learning rate: `chain(muon(0.02), qk_clip(queries, keys))`. `update` needs
    params and the extra argument `max_logits`, the largest logits (before the softmax) of the batch, which the forward
    pass reports. It is an array with one number for each head; of scanned layers (layers, heads), as their weights lead
    with layers; or a dict from a path, such as 'block_0/attention', to such arrays for the weights below it. Weights
    for which there are no logits are left alone, and so are those whose logits are not finite.

    Args:
      queries: Which leaves are weights of queries: a selector such as `gx.select.path("**/query/kernel")`, or a mask.
      keys: Which leaves are weights of keys, likewise. A leaf that both select raises an error.
      threshold: The largest logit that is left alone, positive (default 100).
      balance: The share of the queries in shrinking, in [0, 1]. The keys have the rest.
      head_axis: The axis of the weights that counts heads: -2 for (model, heads, size), the default; -1 for
        (model, heads * size), whose columns belong to the heads one after the other. Weights with fewer heads than
        there are logits, as in grouped-query attention, shrink by the largest logit of each group.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.qk_clip(gx.select.path("query"), gx.select.path("key"))
    >>> params = {"query": jnp.ones((1, 2, 1)), "key": jnp.ones((1, 2, 1)), "value": jnp.ones(1)}
    >>> updates, _ = tx.update(params, tx.init(params), params, max_logits=jnp.array([50.0, 400.0]))
    >>> print((params["query"] + updates["query"]).ravel(), updates["value"])
    [2. 1.] [1.]

    Raises:
      ValueError: The heads of a leaf and the logits do not go into each other.
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
                raise ValueError(f"qk_clip: queries and keys both select the leaf {path}.")
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
        """The factors of the heads, in a shape that meets the leaf."""
        layers, heads = gamma.shape[:-1], gamma.shape[-1] if gamma.ndim else 0
        fits = gamma.ndim and -x.ndim <= self.head_axis < x.ndim and x.shape[: len(layers)] == layers
        axis = self.head_axis % x.ndim if fits else 0
        n = x.shape[axis] if fits else 0
        if not fits or axis < len(layers) or not heads or (n % heads and heads % max(n, 1)) or not n:
            raise ValueError(
                f"qk_clip: max_logits of shape {gamma.shape} do not go with the leaf {path} of shape {x.shape}, whose "
                f"axis {self.head_axis} counts heads. Give one number for each head, after one axis for each axis of "
                "layers, or another head_axis."
            )
        each = jnp.repeat(gamma, n // heads, -1) if n >= heads else gamma.reshape(*layers, n, -1).min(-1)
        return each.reshape(*layers, *(n if i == axis else 1 for i in range(len(layers), x.ndim))).astype(x.real.dtype)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared.factor + p * (shared.factor - 1), slots


def _logits(max_logits: Any, path: str) -> Array | None:
    """The logits for a leaf: those at its path, or at the nearest path above it."""
    if not isinstance(max_logits, dict):
        return jnp.asarray(max_logits)
    while path and path not in max_logits:
        path = path.rpartition("/")[0]
    return jnp.asarray(max_logits[path]) if path in max_logits else None
