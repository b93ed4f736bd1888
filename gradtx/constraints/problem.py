"""A loss under constraints: minimize f(x) subject to g(x) <= 0 and h(x) = 0.

The functions g and h return trees of arrays, each entry of which is one constraint. Two numbers measure how far a point
is from a solution:

    the violation                  max(max_i g_i(x), max_j |h_j(x)|, 0)
    the complementary slackness    max_i |alpha_i g_i(x)|        with the multipliers alpha >= 0 of g
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.value import Value, flag, function, static
from gradtx.types import Params

__all__ = ["Problem", "complementary_slackness", "violation"]


def _optional(who: str, name: str, value: Any) -> Any:
    return None if value is None else function(who, name, value)


class Problem(Value):
    """A loss with its constraints. The functions are static; `inequality` and `equality` are None where absent.

    With `has_aux` the loss returns a pair of its value and anything else.
    """

    loss: Any = static(check=function)
    inequality: Any = static(default=None, check=_optional, kw_only=True)
    equality: Any = static(default=None, check=_optional, kw_only=True)
    has_aux: bool = flag(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inequality is None and self.equality is None:
            raise ValueError(
                f"{type(self).__name__}: there are no constraints. Give inequality=g for g(params) <= 0, "
                "equality=h for h(params) == 0, or both. Without constraints, differentiate the loss itself."
            )

    def constraints(self, params: Params) -> dict[str, Any]:
        """Returns the values of the constraints at `params`.

        Args:
          params: The parameters.

        Returns:
          A dict of 'inequality' and 'equality', with () for a constraint that is absent.
        """
        found = {name: () if fn is None else fn(params) for name, fn in self._given().items()}
        for name, values in found.items():
            leaves = jax.tree.leaves(values)
            checks.floating(type(self).__name__, f"what {name}(params) returned", values, leaves)
            checks.real(type(self).__name__, f"what {name}(params) returned", values, leaves)
        return found

    def violation(self, params: Params) -> Array:
        """Returns the largest violation of any constraint at `params`, 0 if all hold.

        Args:
          params: The parameters.
        """
        return violation(self.constraints(params))

    def _given(self) -> dict[str, Any]:
        return {"inequality": self.inequality, "equality": self.equality}

    def _with_loss(self, params: Params, args: Any, kwargs: Any, terms: Any) -> Any:
        """Returns the loss plus `terms`, a tree of numbers; with its auxiliary output if it has one."""
        out = self.loss(params, *args, **kwargs)
        if self.has_aux and not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(
                f"{type(self).__name__}: with has_aux the loss must return a pair (value, aux), got "
                f"{checks.shown(out)}."
            )
        value, aux = out if self.has_aux else (out, None)
        total = functools.reduce(jnp.add, jax.tree.leaves(terms), jnp.asarray(value))
        return (total, aux) if self.has_aux else total


def violation(constraints: Any) -> Array:
    """Returns the largest violation, from a dict of the values of 'inequality' and 'equality'."""
    over = jax.tree.map(lambda g: jnp.maximum(g, 0), constraints["inequality"])
    off = jax.tree.map(jnp.abs, constraints["equality"])
    return _largest((over, off))


def complementary_slackness(constraints: Any, multipliers: Any) -> Array:
    """Returns the largest |alpha_i g_i|, which is 0 if every constraint with a multiplier is active."""
    products = jax.tree.map(lambda g, a: jnp.abs(g * a), constraints["inequality"], multipliers["inequality"])
    return _largest(products)


def _largest(tree: Any) -> Array:
    """Returns the largest entry of a tree of nonnegative arrays, in float32 or wider.

    NaN if an entry is NaN, and 0 if there are no entries.
    """
    tops = [jnp.max(leaf.widen(jnp.asarray(x))) for x in jax.tree.leaves(tree) if jnp.size(x)]
    dtype = jnp.result_type(jnp.float32, *tops)
    return functools.reduce(jnp.maximum, tops, jnp.zeros(())).astype(dtype)
