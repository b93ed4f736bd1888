"""The module `optax.second_order`: second derivatives of `loss(params, inputs, targets)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array
from jax.flatten_util import ravel_pytree

import gradtx as gx

__all__ = ["fisher_diag", "hessian_diag", "hvp"]


def hvp(loss: Callable[..., Any], v: Any, params: Any, inputs: Any, targets: Any) -> Any:
    """Computes the product of the Hessian of the loss and a vector.

    Args:
      loss: Function `loss(params, inputs, targets)` that returns a scalar.
      v: A vector with as many entries as all parameters together.
      params: The parameters.
      inputs: Inputs of the model.
      targets: Targets of the loss.

    Returns:
      A tree like `params`.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.second_order.hvp(lambda p, x, y: x * p**2, jnp.ones(1), jnp.array(1.0), 3.0, None))
      6.0
    """
    return gx.hvp(lambda p: loss(p, inputs, targets), params, ravel_pytree(params)[1](v))


def hessian_diag(loss: Callable[..., Any], params: Any, inputs: Any, targets: Any) -> Array:
    """Computes the diagonal of the Hessian of the loss, exactly.

    Args:
      loss: Function `loss(params, inputs, targets)` that returns a scalar.
      params: The parameters.
      inputs: Inputs of the model.
      targets: Targets of the loss.

    Returns:
      A vector with as many entries as all parameters together.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.second_order.hessian_diag(lambda p, x, y: x * jnp.sum(p**2), jnp.ones(2), 3.0, None))
      [6. 6.]
    """
    return ravel_pytree(gx.hessian_diag(lambda p: loss(p, inputs, targets), params))[0]


def fisher_diag(negative_log_likelihood: Callable[..., Any], params: Any, inputs: Any, targets: Any) -> Array:
    """Computes the squared gradient of the negative log-likelihood: the diagonal of the observed Fisher matrix.

    Args:
      negative_log_likelihood: Function `f(params, inputs, targets)` that returns a scalar.
      params: The parameters.
      inputs: Inputs of the model.
      targets: Targets of the loss.

    Returns:
      A vector with as many entries as all parameters together.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.second_order.fisher_diag(lambda p, x, y: jnp.sum(x * p**2), jnp.ones(2), 3.0, None))
      [36. 36.]
    """
    return ravel_pytree(gx.fisher_diag(lambda p: negative_log_likelihood(p, inputs, targets), params))[0]
