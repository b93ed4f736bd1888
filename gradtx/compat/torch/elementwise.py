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
    """`torch.optim.SGD`: gradient descent, with momentum if you ask for it, as PyTorch computes it.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1e-3 by default.
      momentum: Decay rate of the momentum, a decaying sum of past gradients. In [0, 1]; 0 (no momentum) by default.
      dampening: The momentum adds `1 - dampening` times the gradient; the first gradient is added as a whole. In
        [0, 1]; 0 by default.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient. Not negative; 0 by
        default.
      nesterov: Whether to use Nesterov momentum, which needs a momentum and no dampening. False by default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.
      fused: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: one array per parameter with momentum (4 bytes in float32), else a counter.

    >>> from gradtx.compat import torch
    >>> torch.SGD(lr=0.1, momentum=0.9)
    chain(trace(decay=0.9, dampening=0), scale_by_learning_rate(learning_rate=0.1))

    Raises:
      ValueError: `nesterov` without momentum, or with dampening.
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
    """`torch.optim.ASGD`: averaged gradient descent, as PyTorch computes it.

    optax has no such method. The averaged parameters are `state[-1].ax`. A schedule in `lr` acts one step late, as
    it does in PyTorch.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1e-2 by default.
      lambd: Strength of the decay of the parameters. Not negative; 1e-4 by default.
      alpha: Power by which the step size falls. Not negative; 0.75 by default.
      t0: Step at which the averaging begins. 1e6 by default.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient. Not negative; 0 by
        default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.
      capturable: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: one array per parameter, the averaged parameters (4 bytes in float32).

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
    """`torch.optim.Rprop`: resilient backpropagation, as PyTorch computes it. For full-batch gradients.

    Parameters must be real.

    Args:
      lr: The first step size of every entry, clipped to `step_sizes`; only the first value of a schedule is used.
        1e-2 by default.
      etas: Factors (smaller, larger) of an entry's step size after a change of the gradient's sign, and without
        one. (0.5, 1.2) by default.
      step_sizes: Smallest and largest step size. (1e-6, 50) by default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      capturable: Accepted for compatibility with PyTorch; has no effect.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

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
    """`torch.optim.Adagrad`: divides by the root of the sum of squared gradients, as PyTorch computes it.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1e-2 by default.
      lr_decay: The step at count t is divided by 1 + t * lr_decay; a number or an array. Not negative; 0 by
        default.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient. Not negative; 0 by
        default.
      initial_accumulator_value: Value at which the sums start. 0 by default.
      eps: Added to the root for numerical stability; optax adds it under the root. 1e-10 by default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.
      fused: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: one array per parameter (4 bytes in float32).

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
    """`torch.optim.RMSprop`: divides by the root mean square of recent gradients, as PyTorch computes it.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1e-2 by default.
      alpha: Decay rate of the second moment (`decay` in optax); closer to 1 averages over more steps. In [0, 1);
        0.99 by default.
      eps: Added to the root for numerical stability; optax adds it under the root by default. 1e-8 by default.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient. Not negative; 0 by
        default.
      momentum: Decay rate of the momentum of the scaled gradients, before the learning rate (optax: after it). In
        [0, 1]; 0 by default.
      centered: Whether to divide by the standard deviation instead of the root mean square. False by default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      capturable: Accepted for compatibility with PyTorch; has no effect.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: one array per parameter (4 bytes in float32), and one more each for `momentum` and
      `centered`.

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
    """`torch.optim.Adadelta`: Adadelta as PyTorch computes it.

    The rule equals optax's.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1 by default.
      rho: Decay rate of both moving averages; closer to 1 averages over more steps. In [0, 1); 0.9 by default.
      eps: Added to the denominator for numerical stability. 1e-6 by default.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient. Not negative; 0 by
        default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      foreach: Accepted for compatibility with PyTorch; has no effect.
      capturable: Accepted for compatibility with PyTorch; has no effect.
      differentiable: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    >>> from gradtx.compat import torch
    >>> torch.Adadelta()
    chain(scale_by_adadelta(rho=0.9, eps=1e-06), scale_by_learning_rate(learning_rate=1.0))
    """
    rule = made("Adadelta", scale_by_adadelta, rho=("rho", rho), eps=("eps", eps))
    return descent("Adadelta", rule, lr=lr, weight_decay=weight_decay, maximize=maximize)
