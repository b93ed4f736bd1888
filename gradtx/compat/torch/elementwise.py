# ruff: noqa: N802  (PyTorch's names)
"""The other elementwise optimizers: SGD, ASGD, Rprop, Adagrad, RMSprop, Adadelta."""

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
    """`torch.optim.SGD`: gradient descent with momentum, dampening and an L2 penalty.

        m <- momentum * m + (1 - dampening) * g,     p <- p - lr * m

    In the first step, m is the gradient itself, without dampening.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-3.
      momentum: Decay factor of the sum of past gradients; closer to 1 sums over more steps. In [0, 1]; default 0, for
        no momentum.
      dampening: Reduces the weight of new gradients in the sum to 1 - dampening. In [0, 1]; default 0.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead. Default False.
      maximize: Whether to ascend instead of descending. Default False.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      fused: PyTorch's choice of an implementation; accepted and ignored.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: one array per parameter (4 bytes in
        float32); no array without momentum.

    Example:
      >>> from gradtx.compat import torch
      >>> torch.SGD(lr=0.1, momentum=0.9)
      chain(trace(decay=0.9, dampening=0), scale_by_learning_rate(learning_rate=0.1))

    Raises:
      ValueError: Nesterov momentum is set without momentum, or with dampening.
    """
    rule = made("SGD", trace, decay=("momentum", momentum), dampening=("dampening", dampening))
    if flagged("SGD", "nesterov", nesterov):
        if zero(rule.decay) or not zero(rule.dampening):
            raise ValueError(
                f"torch.SGD: nesterov needs a positive momentum and no dampening, got momentum={momentum!r} and "
                f"dampening={dampening!r}. Set momentum and dampening=0, or leave nesterov out."
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
    """`torch.optim.ASGD`: averaged stochastic gradient descent, which optax does not have.

    Evaluate the model at the averaged parameters, `state[-1].ax`. A schedule in `lr` acts one step late, as in PyTorch.

    Args:
      lr: Step size at the start, a number or a schedule of the step count. Not negative; default 1e-2.
      lambd: Strength of the decay of the parameters; it also makes the learning rate fall (default 1e-4). Not negative.
      alpha: Exponent with which the learning rate decreases (default 0.75). Not negative.
      t0: Step at which averaging of the parameters starts (default 1e6).
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
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
    """`torch.optim.Rprop`: a step size for each entry, which grows while the sign of the gradient stays the same.

    Use it with full batches. It uses only the signs of gradients, so parameters must be real. As in PyTorch (and unlike
    optax), the first step size is clipped to `step_sizes`.

    Args:
      lr: Step size of the first step (default 1e-2). Not negative. If it is a schedule, only its first value is used.
      etas: Factors by which a step size shrinks if the gradient changes its sign, and grows if the sign stays the same.
        Default (0.5, 1.2); the first in (0, 1), the second above 1.
      step_sizes: Smallest and largest step size. Default (1e-6, 50).
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    Example:
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
    """`torch.optim.Adagrad`: divides each entry by the root of the sum of its squared gradients.

    `eps` is added to the root, and the sum starts at 0; optax adds `eps` under the root and starts at 0.1.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-2.
      lr_decay: Decay of the learning rate: step t (0 for the first step) is divided by 1 + t * lr_decay (default 0).
        Not negative; a number or an array.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      initial_accumulator_value: Value at which the sums start (default 0); a larger one makes the first steps shorter.
        Not negative.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-10.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      fused: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: one array per parameter (4 bytes in
        float32).

    Example:
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
    """`torch.optim.RMSprop`: divides each entry by the root of the second moment, then applies momentum.

    `eps` is added to the root; optax adds it under the root by default, and calls `alpha` `decay`. Momentum is applied
    before the learning rate; in optax it is applied after the learning rate.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-2.
      alpha: Decay rate of the second moment; closer to 1 averages over more steps. In [0, 1); default 0.99.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      momentum: Decay factor of the sum of past scaled gradients. In [0, 1]; default 0, for no momentum.
      centered: Whether to subtract the squared mean gradient from the second moment, so that entries are divided by a
        standard deviation. Default False.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: one array per parameter (4 bytes in
        float32), another array with `centered`, and another array with momentum.

    Example:
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
    """`torch.optim.Adadelta`: steps as large as recent changes of the parameters, relative to recent gradients.

    It works without a tuned learning rate: the default is 1. optax's `adadelta` descends only if you pass a learning
    rate.

    Args:
      lr: Factor of the step, a number or a schedule of the step count. Not negative; default 1.
      rho: Decay rate of both averages; closer to 1 averages over more steps. In [0, 1); default 0.9.
      eps: Added under both roots for numerical stability; it also sets the size of the first steps. Not negative;
        default 1e-6.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.Adadelta()
      chain(scale_by_adadelta(rho=0.9, eps=1e-06), scale_by_learning_rate(learning_rate=1.0))
    """
    rule = made("Adadelta", scale_by_adadelta, rho=("rho", rho), eps=("eps", eps))
    return descent("Adadelta", rule, lr=lr, weight_decay=weight_decay, maximize=maximize)
