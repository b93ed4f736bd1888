# ruff: noqa: N802  (PyTorch's names)
"""Adam and related optimizers: Adam, AdamW, Adamax, NAdam, RAdam."""

from __future__ import annotations

from typing import Any

from gradtx.compat.torch.arguments import descent, flagged, made, several
from gradtx.core.chain import chain
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.optimizers.elementwise.adamax import scale_by_adamax
from gradtx.optimizers.elementwise.amsgrad import scale_by_amsgrad
from gradtx.optimizers.elementwise.nadam import scale_by_nadam
from gradtx.optimizers.elementwise.radam import scale_by_radam

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]

Pair = tuple[HyperArg, HyperArg]


def _moments(who: str, betas: Any, eps: Any) -> dict[str, Any]:
    b1, b2 = several(who, "betas", betas)
    return {"b1": b1, "b2": b2, "eps": ("eps", eps)}


def Adam(
    lr: HyperArg = 1e-3,
    betas: Pair = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0,
    amsgrad: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
    decoupled_weight_decay: bool = False,
) -> chain:
    """`torch.optim.Adam`: Adam, with an L2 penalty if `weight_decay` is set; for decoupled decay use `AdamW`.

    With `amsgrad`, the step is divided by the root of the largest second moment so far. PyTorch takes the maximum
    before bias correction; optax's `amsgrad` takes it after bias correction.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-3.
      betas: Decay rates of the first and the second moment; closer to 1 averages over more steps. Each in [0, 1);
        default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decay: `weight_decay * params` is added to the gradient, unless it is decoupled
        (default 0). Not negative.
      amsgrad: Whether to use the largest second moment so far. Default False.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      fused: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.
      decoupled_weight_decay: Whether to decouple the weight decay, as in `AdamW`. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32), or three with `amsgrad` (12 bytes).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.Adam(lr=1e-3)
      chain(scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0), scale_by_learning_rate(learning_rate=0.001))
    """
    return _adam("Adam", lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay)


def AdamW(
    lr: HyperArg = 1e-3,
    betas: Pair = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> chain:
    """`torch.optim.AdamW`: Adam with decoupled weight decay.

    It differs from optax's `adamw` in the default of `weight_decay` (1e-4 in optax), and in `amsgrad` (see `Adam`).

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-3.
      betas: Decay rates of the first and the second moment; closer to 1 averages over more steps. Each in [0, 1);
        default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled decay: each step also moves a parameter towards zero by
        `lr * weight_decay` of its value (default 1e-2). Not negative.
      amsgrad: Whether to use the largest second moment so far. Default False.
      maximize: Whether to ascend instead of descending. Default False.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      fused: PyTorch's choice of an implementation; accepted and ignored.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32), or three with `amsgrad` (12 bytes).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.AdamW(lr=1e-3)
      chain(
        scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0),
        add_decayed_weights(weight_decay=0.01),
        scale_by_learning_rate(learning_rate=0.001),
      )
    """
    return _adam("AdamW", lr, betas, eps, weight_decay, amsgrad, maximize, decoupled=True)


def _adam(
    who: str, lr: Any, betas: Any, eps: Any, weight_decay: Any, amsgrad: Any, maximize: Any, decoupled: Any
) -> chain:
    if flagged(who, "amsgrad", amsgrad):
        rule: Any = made(who, scale_by_amsgrad, correct_after_max=True, **_moments(who, betas, eps))
    else:
        rule = made(who, scale_by_adam, **_moments(who, betas, eps))
    return descent(who, rule, lr=lr, weight_decay=weight_decay, maximize=maximize, decoupled=decoupled)


def Adamax(
    lr: HyperArg = 2e-3,
    betas: Pair = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    capturable: bool = False,
) -> chain:
    """`torch.optim.Adamax`: Adam with the infinity norm in place of the second moment; the same as optax's `adamax`.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 2e-3.
      betas: Decay rates of the first moment and of the infinity norm; closer to 1 averages over more steps. Each in [0,
        1); default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient (default 0). Not
        negative.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.Adamax()
      chain(scale_by_adamax(b1=0.9, b2=0.999, eps=1e-08), scale_by_learning_rate(learning_rate=0.002))
    """
    rule = made("Adamax", scale_by_adamax, **_moments("Adamax", betas, eps))
    return descent("Adamax", rule, lr=lr, weight_decay=weight_decay, maximize=maximize)


def NAdam(
    lr: HyperArg = 2e-3,
    betas: Pair = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0,
    momentum_decay: HyperArg = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> chain:
    """`torch.optim.NAdam`: Adam with Nesterov momentum, which grows from half of `betas[0]` towards `betas[0]`.

    In optax's `nadam` the momentum is constant.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 2e-3.
      betas: Decay rates of the first and the second moment; closer to 1 averages over more steps. Each in [0, 1);
        default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decay: `weight_decay * params` is added to the gradient, unless it is decoupled
        (default 0). Not negative.
      momentum_decay: How fast the momentum grows to `betas[0]` (default 4e-3). Not negative; 0 keeps it at half of
        `betas[0]`.
      decoupled_weight_decay: Whether to decouple the weight decay, as in `AdamW`. Default False.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.NAdam().links[0]
      scale_by_nadam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, momentum_decay=0.004)
    """
    given = {**_moments("NAdam", betas, eps), "momentum_decay": ("momentum_decay", momentum_decay)}
    rule = made("NAdam", scale_by_nadam, **given)
    decay = {"weight_decay": weight_decay, "decoupled": decoupled_weight_decay}
    return descent("NAdam", rule, lr=lr, maximize=maximize, **decay)


def RAdam(
    lr: HyperArg = 1e-3,
    betas: Pair = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> chain:
    """`torch.optim.RAdam`: Adam that starts with momentum steps until the second moment is reliable.

    `eps` is added to the root of the second moment before bias correction; optax adds it after bias correction.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-3.
      betas: Decay rates of the first and the second moment; closer to 1 averages over more steps. Each in [0, 1);
        default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decay: `weight_decay * params` is added to the gradient, unless it is decoupled
        (default 0). Not negative.
      decoupled_weight_decay: Whether to decouple the weight decay, as in `AdamW`. Default False.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      capturable: PyTorch's choice of an implementation; accepted and ignored.
      differentiable: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: two arrays per parameter (8 bytes in
        float32).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.RAdam().links[0].eps_before_correction
      True
    """
    rule = made("RAdam", scale_by_radam, eps_before_correction=True, **_moments("RAdam", betas, eps))
    decay = {"weight_decay": weight_decay, "decoupled": decoupled_weight_decay}
    return descent("RAdam", rule, lr=lr, maximize=maximize, **decay)
