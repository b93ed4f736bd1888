"""The optimizers at the top level of optax, with optax's names and defaults of arguments."""

from __future__ import annotations

import warnings
from typing import Any

import gradtx as gx
from gradtx.compat.optax.spelled import seed_of, spelled
from gradtx.core.hyper import HyperArg

__all__ = [
    "adabelief",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "amsgrad",
    "fromage",
    "lamb",
    "lbfgs",
    "lion",
    "nadam",
    "nadamw",
    "noisy_sgd",
    "novograd",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "polyak_sgd",
    "radam",
    "rmsprop",
    "sgd",
    "sign_sgd",
    "signum",
    "sm3",
    "yogi",
]

adabelief = spelled(gx.adabelief)
adagrad = spelled(gx.adagrad)
adam = spelled(gx.adam)
adamax = spelled(gx.adamax)
adamaxw = spelled(gx.adamaxw)
adamw = spelled(gx.adamw)
adan = spelled(gx.adan)
amsgrad = spelled(gx.amsgrad)
fromage = spelled(gx.fromage)
lamb = spelled(gx.lamb)
lion = spelled(gx.lion)
nadam = spelled(gx.nadam)
nadamw = spelled(gx.nadamw)
novograd = spelled(gx.novograd)
optimistic_adam_v2 = spelled(gx.optimistic_adam_v2)
optimistic_gradient_descent = spelled(gx.optimistic_gradient_descent)
polyak_sgd = spelled(gx.polyak_sgd)
radam = spelled(gx.radam)
rmsprop = spelled(gx.rmsprop)
sgd = spelled(gx.sgd)
sign_sgd = spelled(gx.sign_sgd)
signum = spelled(gx.signum)
sm3 = spelled(gx.sm3)
yogi = spelled(gx.yogi)
lbfgs = spelled(gx.lbfgs)
lars = spelled(
    gx.lars, rename={"weight_decay_mask": "mask"}, default={"weight_decay_mask": True, "trust_ratio_mask": True}
)


@spelled
def adadelta(
    learning_rate: HyperArg | None = None,
    rho: HyperArg = 0.9,
    eps: HyperArg = 1e-6,
    weight_decay: HyperArg = 0.0,
    weight_decay_mask: Any = None,
) -> Any:
    """AdaDelta: steps as large as recent changes of the parameters, relative to recent gradients.

    Pass a learning rate: as in optax, without a learning rate the sign of the updates is not changed, so that the loss
    rises.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. None by default, for no scaling and no change
        of sign.
      rho: Decay rate of both averages; closer to 1 averages over more steps. In [0, 1); default 0.9.
      eps: Added under both roots for numerical stability. Not negative; default 1e-6.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before everything else.
        Not negative; default 0 (no penalty).
      weight_decay_mask: Which parameters to decay: a tree of booleans like the parameters, or a function of the
        parameters that returns one; all by default.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes in float32).

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.adadelta().inner.links[-1]
      identity()
    """
    rate = gx.identity() if learning_rate is None else gx.scale_by_learning_rate(learning_rate)
    return gx.chain(gx.add_decayed_weights(weight_decay, weight_decay_mask), gx.scale_by_adadelta(rho, eps), rate)


adafactor = spelled(
    gx.adafactor,
    rename={"weight_decay_rate": "weight_decay", "weight_decay_mask": "mask"},
    default={"weight_decay_rate": None, "decouple_lr": True},
    none={"weight_decay_rate": 0.0},
)


@spelled
def noisy_sgd(
    learning_rate: HyperArg, eta: HyperArg = 0.01, gamma: HyperArg = 0.55, key: Any = None, *, seed: int | None = None
) -> Any:
    """Gradient descent with noise whose variance decreases: eta / t^gamma at step t.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative.
      eta: Variance of the noise at the first step (default 0.01). Not negative.
      gamma: How fast the variance decreases (default 0.55). Not negative.
      key: A random key, or a seed, an integer. Seed 0 by default.
      seed: The older name of `key`. Pass only one of the two.

    Returns:
      A transformation. State: a step count and a random key (12 bytes), and a count.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.noisy_sgd(0.1, key=1).inner.links[0]
      add_noise(eta=0.01, gamma=0.55, key=1)
    """
    return gx.noisy_sgd(learning_rate, eta, gamma, seed_of("noisy_sgd", key, seed))


@spelled
def optimistic_adam(
    learning_rate: HyperArg,
    optimism: HyperArg | None = None,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> Any:
    """The older version of `optimistic_adam_v2`, in which `optimism` is not relative to the learning rate.

    Args:
      learning_rate: Step size, a number.
      optimism: Factor of the latest change of the gradient; it includes the learning rate. `learning_rate` by default.
      b1: Decay rate of the first moment (the moving average of the gradient); closer to 1 averages over more steps. In
        [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); closer to 1 averages over more
        steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead. Default True.

    Returns:
      A transformation. State: three arrays per parameter (12 bytes in float32).

    Example:
      >>> import warnings, gradtx.compat.optax as optax
      >>> warnings.simplefilter("ignore", DeprecationWarning)
      >>> optax.optimistic_adam(0.1).inner.links[1]
      scale_by_optimistic_gradient(alpha=0.1, beta=0.1)

    Raises:
      ValueError: `learning_rate` is a schedule.
    """
    warnings.warn(
        "optimistic_adam is deprecated in optax: use `optimistic_adam_v2` instead.", DeprecationWarning, stacklevel=3
    )
    if callable(learning_rate):
        raise ValueError("optimistic_adam: learning_rate must be a number. For a schedule use optimistic_adam_v2.")
    return gx.chain(
        gx.scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        gx.scale_by_optimistic_gradient(learning_rate, learning_rate if optimism is None else optimism),
        gx.scale_by_learning_rate(1.0),
    )
