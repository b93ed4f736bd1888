# ruff: noqa: N802  (PyTorch's names)
"""Muon as in PyTorch: `gradtx.scale_by_muon` without bias correction, and with PyTorch's factor for each shape."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gradtx import checks
from gradtx.compat.torch.arguments import descent, made
from gradtx.core.chain import chain
from gradtx.core.hyper import HyperArg
from gradtx.linalg.matrix_view import WeightDimensionNumbers
from gradtx.optimizers.layerwise.muon import scale_by_muon
from gradtx.transforms.shape import scale_by_shape

__all__ = ["Muon", "rows_are_outputs"]

_ADJUSTMENTS = {None: None, "original": None, "match_rms_adamw": 0.2}


def rows_are_outputs(params: Any) -> Any:
    """Returns the dimension numbers of PyTorch's weights, which must all be matrices of shape (output, input).

    Args:
      params: A tree of matrices.

    Raises:
      ValueError: A parameter is not a matrix.
    """

    def numbers(path: Any, p: Any) -> WeightDimensionNumbers:
        if np.ndim(p) != 2:
            raise ValueError(
                f"torch.Muon: every parameter must be a matrix, but the one at {checks.keystr(path)} has shape "
                f"{np.shape(p)}. Give such parameters to another optimizer, with gradtx.partition."
            )
        return WeightDimensionNumbers(reduction_axis=1, output_axis=0)

    return jax.tree_util.tree_map_with_path(numbers, params)


def Muon(
    lr: HyperArg = 1e-3,
    weight_decay: HyperArg = 0.1,
    momentum: HyperArg = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    eps: HyperArg = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    *,
    iteration_dtype: Any = None,
) -> chain:
    """`torch.optim.Muon`: orthogonalizes the momentum of matrices whose rows are the outputs, as in PyTorch.

    Unlike optax's `muon`, the momentum has no bias correction, and `eps` is a lower bound on the norm instead of being
    added to the norm. PyTorch iterates in bfloat16, which changes a step by a few percent; here the iteration is in
    float32 or wider unless you set `iteration_dtype`, an argument that PyTorch does not have. Use `gx.partition` to
    train parameters that are not matrices with a different optimizer.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; default 1e-3.
      weight_decay: Strength of the decoupled decay: each step also moves a parameter towards zero by
        `lr * weight_decay` of its value (default 0.1). Not negative.
      momentum: Decay rate of the momentum (the moving average of the gradient); closer to 1 averages over more steps.
        In [0, 1); default 0.95.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead. Default True.
      ns_coefficients: Coefficients of the Newton-Schulz iteration. Default (3.4445, -4.775, 2.0315).
      eps: Lower bound on the norm by which the momentum is divided before the iteration (default 1e-7). Not negative.
      ns_steps: Number of Newton-Schulz steps (default 5); more steps are more exact and cost three matrix products
        each.
      adjust_lr_fn: Factor of the step for each shape: None (default) or 'original' for sqrt(max(1, outputs / inputs));
        'match_rms_adamw' for 0.2 * sqrt(max(outputs, inputs)), which lets you reuse learning rates tuned for AdamW.
      iteration_dtype: Dtype to which the products of the Newton-Schulz iteration are rounded; float32 or wider by
        default, and bfloat16 is faster on hardware that supports it.

    Returns:
      A transformation whose `update` needs `params` if there is a decay. State: one array per parameter (4 bytes in
        float32).

    Example:
      >>> from gradtx.compat import torch
      >>> torch.Muon(lr=0.02).links[2:]
      (add_decayed_weights(weight_decay=0.1), scale_by_learning_rate(learning_rate=0.02))

    Raises:
      ValueError: From `init`: a parameter is not a matrix.
    """
    checks.choice("torch.Muon", "adjust_lr_fn", adjust_lr_fn, tuple(_ADJUSTMENTS))
    rule = made(
        "Muon",
        scale_by_muon,
        ns_coeffs=("ns_coefficients", ns_coefficients),
        ns_steps=("ns_steps", ns_steps),
        beta=("momentum", momentum),
        eps=("eps", eps),
        nesterov=("nesterov", nesterov),
        iteration_dtype=("iteration_dtype", iteration_dtype),
        weight_dimension_numbers=rows_are_outputs,
        bias_correction=False,
        eps_is_floor=True,
    )
    shape = scale_by_shape(rows_are_outputs, _ADJUSTMENTS[adjust_lr_fn])
    return descent("Muon", rule, shape, lr=lr, weight_decay=weight_decay, maximize=False, decoupled=True)
