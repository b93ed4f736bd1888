"""The module `optax.losses`: gradtx's losses have the same names and arguments."""

from __future__ import annotations

import warnings
from typing import Any

from gradtx import losses as _native
from gradtx.losses import *  # noqa: F403
from gradtx.losses import __all__ as __all__


def convex_kl_divergence(log_predictions: Any, targets: Any, axis: Any = -1, where: Any = None) -> Any:
    """Computes `generalized_kl_divergence` under its older name.

    Args:
      log_predictions: Logarithms of the predicted distribution.
      targets: The target distribution.
      axis: Axis of the classes (default -1).
      where: Which elements to include, a boolean array; all by default.

    Example:
      >>> import warnings, gradtx.compat.optax as optax, jax.numpy as jnp
      >>> warnings.simplefilter("ignore", DeprecationWarning)
      >>> print(optax.losses.convex_kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([0.5, 0.5])))
      0.0
    """
    message = "convex_kl_divergence is deprecated in optax: use generalized_kl_divergence"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return _native.generalized_kl_divergence(log_predictions, targets, axis, where)
