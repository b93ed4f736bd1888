"""The optimizers at the top level of optax, with its names and defaults of arguments."""

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
    """AdaDelta. As in optax, without a learning rate the sign is not flipped, and the loss rises.

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
    """Gradient descent with fading noise. `key` is a random key or a seed; `seed` is its older name.

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
    """The older form of `optimistic_adam_v2`: `optimism` is given as it multiplies the gradient's last change.

    >>> import warnings, gradtx.compat.optax as optax
    >>> warnings.simplefilter("ignore", DeprecationWarning)
    >>> optax.optimistic_adam(0.1).inner.links[1]
    scale_by_optimistic_gradient(alpha=0.1, beta=0.1)
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
