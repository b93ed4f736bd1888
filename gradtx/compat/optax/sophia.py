"""`optax.contrib.sophia`, in which the estimator of the Hessian's diagonal is a transformation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import gradtx as gx
from gradtx import checks
from gradtx.compat.optax.spelled import GradientTransformationExtraArgs, spelled
from gradtx.core.branch import branch
from gradtx.core.composite import Wrapper, inner
from gradtx.core.hyper import HyperArg
from gradtx.core.slots import average_weights, child_state, counter, per_param
from gradtx.curvature.sophia import SophiaState as _RuleState

__all__ = ["HutchinsonState", "SophiaState", "hutchinson_estimator_diag_hessian", "sophia"]


class HutchinsonState(NamedTuple):
    """The random key of the next estimate."""

    key: Any


def hutchinson_estimator_diag_hessian(random_seed: Any = None) -> GradientTransformationExtraArgs:
    """Estimates the diagonal of the Hessian with random vectors (Hutchinson), as a transformation.

    `update` needs `params`, and the loss as the extra argument `obj_fn`, a function of the parameters.

    Args:
      random_seed: A random key; the key of seed 0 by default.

    Returns:
      A transformation whose updates are the estimate. State: a random key (8 bytes).

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx, x = optax.contrib.hutchinson_estimator_diag_hessian(), jnp.ones(2)
      >>> print(tx.update(x, tx.init(x), x, obj_fn=lambda x: jnp.sum(x**3))[0])
      [6. 6.]
    """

    def init(params: Any) -> HutchinsonState:
        del params
        return HutchinsonState(jax.random.PRNGKey(0) if random_seed is None else random_seed)

    def update(updates: Any, state: Any, params: Any = None, obj_fn: Any = None, **extra: Any) -> Any:
        del updates, extra
        checks.needed("hutchinson_estimator_diag_hessian", params=params, obj_fn=obj_fn)
        key, sample = jax.random.split(state.key)
        return gx.hutchinson_diag(obj_fn, params, sample), HutchinsonState(key)

    return GradientTransformationExtraArgs(init, update)


_HUTCHINSON = hutchinson_estimator_diag_hessian()


class SophiaState(NamedTuple):
    """The number of steps, the first moment, the average Hessian diagonal, and the state of the Hessian's estimator."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True)
    hessian_fn_state: Any = child_state()
    weights: dict[str, Array] = average_weights()


class _Estimated(Wrapper, state=SophiaState, needs=("params",)):
    """Takes Sophia's steps; `inner` estimates the Hessian diagonal on every `update_interval`-th step."""

    rule: Any = inner()

    corrected = gx.scale_by_sophia.corrected

    @property
    def mu_dtype(self) -> Any:
        """The dtype of the first moment."""
        return self.rule.mu_dtype

    def children(self) -> dict[str, Any]:
        return {"inner": self.inner}

    def init(self, params: Any) -> SophiaState:
        return SophiaState(hessian_fn_state=self.inner.init(params), **self.rule.init(params)._asdict())

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        checks.needed("sophia", params=params)
        rule_state = _RuleState(**{name: getattr(state, name) for name in _RuleState._fields})
        zeros = jax.tree.map(lambda n: jnp.zeros(n.shape, n.dtype), rule_state.nu)
        hessian, fn_state = branch(
            "sophia",
            state.count % self.rule.update_interval == 0,
            lambda: self.inner.update(updates, state.hessian_fn_state, params, **self.inner.accepted(extra)),
            lambda: (zeros, state.hessian_fn_state),
        )
        updates, rule_state = self.rule.update(updates, rule_state, params, hessian_diag=hessian)
        return updates, SophiaState(hessian_fn_state=fn_state, **rule_state._asdict())


_Estimated.__name__ = "sophia"


@spelled
def sophia(
    learning_rate: HyperArg,
    b1: HyperArg = 0.965,
    b2: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 1e-4,
    weight_decay_mask: Any = None,
    gamma: HyperArg = 0.01,
    clip_threshold: HyperArg | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Any = _HUTCHINSON,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
) -> Any:
    """Sophia: steps scaled by a moving average of the Hessian's diagonal, and clipped entry by entry.

    `update` needs `params` and the extra arguments of `hessian_diagonal_fn`, by default the loss as `obj_fn`.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); closer to 1 averages over more steps. In
        [0, 1); default 0.965.
      b2: Decay rate of the average Hessian diagonal; closer to 1 averages over more estimates. In [0, 1); default 0.99.
      eps: Lower bound on the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled weight decay: each step also moves a parameter towards zero by
        `learning_rate * weight_decay` of its value. Not negative; default 1e-4.
      weight_decay_mask: Which parameters to decay: a tree of booleans like the parameters, or a function of the
        parameters that returns one; all by default.
      gamma: Factor of the Hessian diagonal in the denominator (default 0.01); a smaller one gives larger steps, more of
        which are clipped.
      clip_threshold: Largest absolute value of an entry before the learning rate (default 1); None for no clipping.
      update_interval: Number of steps between two estimates of the Hessian's diagonal (default 10). At least 1.
      hessian_diagonal_fn: Transformation whose updates are the estimate; Hutchinson's by default.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      verbose: Accepted and ignored.
      print_win_rate_every_n_steps: Accepted and ignored.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32), in addition to the state of the estimator.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx, x = optax.contrib.sophia(0.1), jnp.ones(2)
      >>> print(tx.update(x, tx.init(x), x, obj_fn=lambda x: jnp.sum(x**2))[0])
      [-0.10001 -0.10001]
    """
    del verbose, print_win_rate_every_n_steps
    threshold = math.inf if clip_threshold is None else clip_threshold
    rule = gx.scale_by_sophia(b1, b2, eps, gamma, threshold, update_interval, mu_dtype)
    return gx.chain(
        _Estimated(hessian_diagonal_fn, rule),
        gx.add_decayed_weights(weight_decay, weight_decay_mask),
        gx.scale_by_learning_rate(learning_rate),
    )
