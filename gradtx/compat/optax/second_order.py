"""The module `optax.second_order`: derivatives of `loss(params, inputs, targets)`, as one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array
from jax.flatten_util import ravel_pytree

import gradtx as gx

__all__ = ["fisher_diag", "hessian_diag", "hvp"]


def hvp(loss: Callable[..., Any], v: Any, params: Any, inputs: Any, targets: Any) -> Any:
    """The Hessian of the loss times the vector `v`: a tree like `params`.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.second_order.hvp(lambda p, x, y: x * p**2, jnp.ones(1), jnp.array(1.0), 3.0, None))
    6.0
    """
    return gx.hvp(lambda p: loss(p, inputs, targets), params, ravel_pytree(params)[1](v))


def hessian_diag(loss: Callable[..., Any], params: Any, inputs: Any, targets: Any) -> Array:
    """The diagonal of the Hessian of the loss, as a vector.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.second_order.hessian_diag(lambda p, x, y: x * jnp.sum(p**2), jnp.ones(2), 3.0, None))
    [6. 6.]
    """
    return ravel_pytree(gx.hessian_diag(lambda p: loss(p, inputs, targets), params))[0]


def fisher_diag(negative_log_likelihood: Callable[..., Any], params: Any, inputs: Any, targets: Any) -> Array:
    """The squared gradient of the negative log-likelihood, as a vector.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.second_order.fisher_diag(lambda p, x, y: jnp.sum(x * p**2), jnp.ones(2), 3.0, None))
    [36. 36.]
    """
    return ravel_pytree(gx.fisher_diag(lambda p: negative_log_likelihood(p, inputs, targets), params))[0]
