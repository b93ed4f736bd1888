"""Grafting: takes the direction of one method and the norm of another method's update.

    U = P |D| / |P|                                  with the norms of whole leaves; P is Shampoo's, D one of these
    sgd        D = G
    adagrad    V = V + |G|^2,                        D = G / (sqrt(V) + eps)
    rmsprop    V = b2 V + (1 - b2) |G|^2,            D = G / (sqrt(V) + eps)
    adam       as rmsprop, with V / (1 - b2^t)       (momentum is a link of its own)

Agarwal et al., 2020, "Disentangling Adaptive Gradient Methods from Learning Rates".
"""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx import leaf, tree

__all__ = ["GRAFTS", "graft_direction", "grafted"]

GRAFTS = ("none", "sgd", "adagrad", "rmsprop", "adam")


def graft_direction(
    kind: str, g: Array, nu: Array, *, b2: Any, rate: Any, weight: Any, eps: Any, normalize: bool
) -> tuple[Array, Array]:
    """Returns D and the next V; `rate` is the weight of the new gradient in V, which is divided by `weight` for
    'adam'.

    With `normalize` the gradient is divided by its norm first.
    """
    if normalize:
        g = g * leaf.ratio(1.0, tree.norm(g))
    if kind in ("none", "sgd"):
        return g, nu
    decay, rate = (1, 1) if kind == "adagrad" else (b2, rate)
    nu = leaf.saturated(decay * nu + leaf.abs_sq(g) * rate)
    return g / (leaf.root(nu / weight if kind == "adam" else nu) + eps), nu


def grafted(p: Array, d: Array) -> Array:
    """Returns P with the norm of D."""
    return p * leaf.ratio(tree.norm(d), tree.norm(p))
