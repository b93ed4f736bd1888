"""Differentially private gradient descent: descent on a noisy average of clipped per-example gradients.

    g = (sum over examples of clip(g_i, l2_norm_clip) + l2_norm_clip * noise_multiplier * N(0, 1)) / examples

Abadi et al., 2016, "Deep Learning with Differential Privacy", algorithm 1.
"""

from __future__ import annotations

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.sgd import sgd
from gradtx.transforms.privacy import differentially_private_aggregate

__all__ = ["dpsgd"]


@constructor
def dpsgd(
    learning_rate: HyperArg,
    l2_norm_clip: HyperArg,
    noise_multiplier: HyperArg,
    seed: int,
    momentum: HyperArg | None = None,
    nesterov: bool = False,
) -> chain:
    """Runs differentially private gradient descent on per-example gradients.

    Use it when the trained model must not reveal single examples. Pass per-example gradients to `update`, with the
    examples along the first axis, as `jax.vmap(jax.grad(loss), in_axes=(None, 0))` returns them (Abadi et al., 2016,
    "Deep Learning with Differential Privacy", algorithm 1):

        g  = (sum over examples of clip(g_i, l2_norm_clip) + l2_norm_clip * noise_multiplier * N(0, 1)) / examples
        p <- p - learning_rate * g

    The optimizer does not compute the privacy loss of a run; use a privacy accountant for that.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      l2_norm_clip: Largest norm of one example's gradient over all parameters; gradients with a larger norm are clipped
        to this norm. Not negative.
      noise_multiplier: Standard deviation of the noise, relative to `l2_norm_clip`; more noise gives more privacy. Not
        negative.
      seed: Seed of the random numbers, an integer; the same seed gives the same run.
      momentum: Decay rate of the momentum, a decaying sum of past updates that is used in place of the current update;
        None disables momentum. In [0, 1].
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    Returns:
      A transformation. State: a random key; with momentum, one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=1.1, seed=0).links[0]
    differentially_private_aggregate(l2_norm_clip=1.0, noise_multiplier=1.1)
    """
    seed = differentially_private_aggregate.check_field("key", seed, who="dpsgd", name="seed")
    aggregate = differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed)
    return chain(aggregate, *sgd(learning_rate, momentum, nesterov).links)
