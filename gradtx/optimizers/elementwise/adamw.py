"""AdamW: Adam with decoupled weight decay.

    x_(t+1) = x_t - eta_t * (u_t + lambda * x_t),   u_t as in Adam

Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization", algorithm 2; the decay is also multiplied by the
learning rate, as in optax and PyTorch.
"""

from __future__ import annotations

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, OptionalDType

__all__ = ["adamw"]


@constructor
def adamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: OptionalDType = None,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
    decouple_lr: bool = False,
) -> chain:
    """Runs Adam with decoupled weight decay, the usual default for transformers.

    Unlike an L2 penalty, the decay is not divided by the second moment. With Adam's moving averages m of g and v of
    |g|^2 (Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization", algorithm 2):

        p <- p - learning_rate * (m_hat / (sqrt(v_hat + eps_root) + eps) + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-3 is a usual first try for
        small networks, 3e-4 for large ones. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 1e-4.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adamw(1e-3, weight_decay=0.01)
    chain(
      scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0),
      add_decayed_weights(weight_decay=0.01),
      scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
