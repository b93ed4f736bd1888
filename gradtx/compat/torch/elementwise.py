# ruff: noqa: N802  (PyTorch's names)
"""Other elementwise methods: SGD, ASGD, Rprop, Adagrad, RMSprop, Adadelta."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gradtx import leaf
from gradtx.compat.torch.arguments import before, descent, flagged, made, several, zero
from gradtx.core.chain import chain
from gradtx.core.hyper import HyperArg, Limits, Schedule
from gradtx.optimizers.elementwise.adadelta import scale_by_adadelta
from gradtx.optimizers.elementwise.adagrad import scale_by_rss
from gradtx.optimizers.elementwise.asgd import scale_by_asgd
from gradtx.optimizers.elementwise.rmsprop import scale_by_rms, scale_by_stddev
from gradtx.optimizers.elementwise.rprop import scale_by_rprop
from gradtx.schedules.inverse import inverse_power_schedule
from gradtx.transforms.momentum import trace
from gradtx.transforms.scale import scale

__all__ = ["ASGD", "SGD", "Adadelta", "Adagrad", "RMSprop", "Rprop"]


def SGD(
    lr: HyperArg = 1e-3,
    momentum: HyperArg = 0,
    dampening: HyperArg = 0,
    weight_decay: HyperArg = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    differentiable: bool = False,
    fused: bool | None = None,
) -> chain:
    """`torch.optim.SGD`: optax's `sgd`, with dampening (not of the first gradient) and with the decay as a penalty.

    `momentum` and `dampening` lie in [0, 1].

    >>> from gradtx.compat import torch
    >>> torch.SGD(lr=0.1, momentum=0.9)
    chain(trace(decay=0.9, dampening=0), scale_by_learning_rate(learning_rate=0.1))

    Raises:
      ValueError: Nesterov momentum without momentum, or with dampening.
    """
    rule = made("SGD", trace, decay=("momentum", momentum), dampening=("dampening", dampening))
    if flagged("SGD", "nesterov", nesterov):
        if zero(rule.decay) or not zero(rule.dampening):
            raise ValueError(
                f"torch.SGD: nesterov needs a positive momentum and no dampening, got momentum={momentum!r} and "
                f"dampening={dampening!r}. Set momentum, leave dampening 0, or leave nesterov out."
            )
        rule = rule.replace(nesterov=True)
    rules = [] if zero(rule.decay) else [rule]
    return descent("SGD", *rules, lr=lr, weight_decay=weight_decay, maximize=maximize)


def ASGD(
    lr: HyperArg = 1e-2,
    lambd: HyperArg = 1e-4,
    alpha: HyperArg = 0.75,
    t0: HyperArg = 1e6,
    weight_decay: HyperArg = 0,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
    capturable: bool = False,
) -> chain:
    """`torch.optim.ASGD`, which optax does not have. The averaged parameters are `state[-1].ax`.

    `lambd` and `alpha` are not negative. A schedule in `lr` acts one step late, as it does in PyTorch.

    >>> from gradtx.compat import torch
    >>> torch.ASGD()
    chain(scale_by_asgd(learning_rate=0.01, lambd=0.0001, alpha=0.75, t0=1000000.0))
    """
    fields = {"learning_rate": ("lr", lr), "lambd": ("lambd", lambd), "alpha": ("alpha", alpha), "t0": ("t0", t0)}
    return chain(*before("ASGD", weight_decay, maximize), made("ASGD", scale_by_asgd, **fields))


def Rprop(
    lr: HyperArg = 1e-2,
    etas: tuple[HyperArg, HyperArg] = (0.5, 1.2),
    step_sizes: tuple[HyperArg, HyperArg] = (1e-6, 50),
    *,
    capturable: bool = False,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
) -> chain:
    """`torch.optim.Rprop`: optax's rule, whose first step size PyTorch brings within `step_sizes`.

    `lr` is that first step size: of a schedule only its first value is used. For real parameters.

    >>> from gradtx.compat import torch
    >>> torch.Rprop(lr=0.1).links[0].learning_rate
    0.1
    """
    down, up = several("Rprop", "etas", etas)
    Limits(gt=1).check("torch.Rprop", *up)
    low, high = several("Rprop", "step_sizes", step_sizes)
    given = {"eta_minus": down, "eta_plus": up, "min_step_size": low, "max_step_size": high}
    rule = made("Rprop", scale_by_rprop, learning_rate=("lr", lr), **given)
    values = (rule.learning_rate, rule.min_step_size, rule.max_step_size)
    first, least, most = (x(0) if isinstance(x, Schedule) else x for x in values)
    if all(map(leaf.is_number, (first, least, most))):
        first = min(max(first, least), most)
    else:
        first = jnp.clip(first, least, most)
    return chain(*before("Rprop", 0, maximize), rule.replace(learning_rate=first), scale(-1.0))


def Adagrad(
    lr: HyperArg = 1e-2,
    lr_decay: Any = 0,
    weight_decay: HyperArg = 0,
    initial_accumulator_value: HyperArg = 0,
    eps: HyperArg = 1e-10,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> chain:
    """`torch.optim.Adagrad`: `eps` is added to the root, and the sum starts at 0; optax adds it under the root.

    `lr_decay` is a number or an array: the step at count t is divided by 1 + t * lr_decay.

    >>> from gradtx.compat import torch
    >>> torch.Adagrad(lr=0.1).links[0]
    scale_by_rss(initial_accumulator_value=0, eps=1e-10, eps_in_sqrt=False)
    """
    start = ("initial_accumulator_value", initial_accumulator_value)
    rule = made("Adagrad", scale_by_rss, initial_accumulator_value=start, eps=("eps", eps), eps_in_sqrt=False)
    slower = made("Adagrad", inverse_power_schedule, init_value=1.0, beta=("lr_decay", lr_decay), alpha=1.0)
    rules = [rule] if zero(slower.beta) else [rule, scale(slower)]
    return descent("Adagrad", *rules, lr=lr, weight_decay=weight_decay, maximize=maximize)


def RMSprop(
    lr: HyperArg = 1e-2,
    alpha: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0,
    momentum: HyperArg = 0,
    centered: bool = False,
    capturable: bool = False,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
) -> chain:
    """`torch.optim.RMSprop`: `eps` is added to the root, by default under it in optax, where `alpha` is `decay`.

    Momentum is that of the scaled gradients, before the learning rate; in optax it is behind it. `alpha` lies in
    [0, 1), `momentum` in [0, 1].

    >>> from gradtx.compat import torch
    >>> torch.RMSprop(momentum=0.9)
    chain(
      scale_by_rms(decay=0.99, eps=1e-08, initial_scale=0.0, eps_in_sqrt=False),
      trace(decay=0.9, dampening=0.0),
      scale_by_learning_rate(learning_rate=0.01),
    )
    """
    which = scale_by_stddev if flagged("RMSprop", "centered", centered) else scale_by_rms
    rules: list[Any] = [made("RMSprop", which, decay=("alpha", alpha), eps=("eps", eps), eps_in_sqrt=False)]
    after = made("RMSprop", trace, decay=("momentum", momentum))
    if not zero(after.decay):
        rules.append(after)
    return descent("RMSprop", *rules, lr=lr, weight_decay=weight_decay, maximize=maximize)


def Adadelta(
    lr: HyperArg = 1.0,
    rho: HyperArg = 0.9,
    eps: HyperArg = 1e-6,
    weight_decay: HyperArg = 0,
    foreach: bool | None = None,
    *,
    capturable: bool = False,
    maximize: bool = False,
    differentiable: bool = False,
) -> chain:
    """`torch.optim.Adadelta`: optax's `adadelta`, which descends here without being given a learning rate.

    `rho` lies in [0, 1).

    >>> from gradtx.compat import torch
    >>> torch.Adadelta()
    chain(scale_by_adadelta(rho=0.9, eps=1e-06), scale_by_learning_rate(learning_rate=1.0))
    """
    rule = made("Adadelta", scale_by_adadelta, rho=("rho", rho), eps=("eps", eps))
    return descent("Adadelta", rule, lr=lr, weight_decay=weight_decay, maximize=maximize)
