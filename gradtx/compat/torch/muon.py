# ruff: noqa: N802  (PyTorch's names)
"""Muon as PyTorch computes it: `gradtx.scale_by_muon` without a correction of the momentum, and the factor by shape."""

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
    """Returns the dimension numbers of PyTorch's weights (output, input), which must be matrices.

    Raises:
      ValueError: a parameter is not a matrix.
    """

    def numbers(path: Any, p: Any) -> WeightDimensionNumbers:
        if np.ndim(p) != 2:
            raise ValueError(
                f"torch.Muon: every parameter must be a matrix, but at {checks.keystr(path)} there is one of shape "
                f"{np.shape(p)}. Give the others to another optimizer, with gradtx.partition."
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
    """`torch.optim.Muon`: Muon as PyTorch computes it, for matrices whose rows are the outputs.

    Unlike in optax, the momentum is not corrected for its start at zero, and `eps` is a lower bound on the norm
    instead of being added to it. PyTorch iterates in bfloat16, which differs by some percent of a step.

    Args:
      lr: Step size, a number or a schedule of the step count. Not negative; 1e-3 by default.
      weight_decay: Strength of the decoupled weight decay: each step also moves a parameter towards zero by
        `lr * weight_decay` of its value. Not negative; 0.1 by default.
      momentum: Decay rate of the momentum; closer to 1 averages over more steps. 0.95 by default.
      nesterov: Whether to use Nesterov momentum. True by default.
      ns_coefficients: Three coefficients of the Newton-Schulz iteration. (3.4445, -4.775, 2.0315) by default.
      eps: Lower bound on the norm by which the momentum is divided. 1e-7 by default.
      ns_steps: Number of Newton-Schulz steps. 5 by default.
      adjust_lr_fn: How the step size depends on the shape: None or 'original' (default), or 'match_rms_adamw' for
        updates as large as AdamW's.
      iteration_dtype: Dtype of the products of the iteration, which PyTorch does not have. None (default) for
        float32 or wider.

    Returns:
      A transformation. State: one array per parameter (4 bytes in float32).

    >>> from gradtx.compat import torch
    >>> torch.Muon(lr=0.02).links[2:]
    (add_decayed_weights(weight_decay=0.1), scale_by_learning_rate(learning_rate=0.02))

    Raises:
      ValueError: `init` finds a parameter that is not a matrix.
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
