"""Differentially private gradient descent: descent on the private average of per-example gradients.

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
    """Private gradient descent; the gradients have the examples along their first axis.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative.
      seed: Seed of the random numbers, an integer; the same seed gives the same run.
      momentum: Decay rate of the momentum, a decaying sum of past updates that replaces the update; None leaves
        momentum out.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead: the current gradient counts once more in
        the update. Default False.

    State: a random key; with momentum, one array per parameter. The privacy that is spent is to be accounted for
    outside.

    >>> import gradtx as gx
    >>> gx.dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=1.1, seed=0).links[0]
    differentially_private_aggregate(l2_norm_clip=1.0, noise_multiplier=1.1)
    """
    seed = differentially_private_aggregate.check_field("key", seed, who="dpsgd", name="seed")
    aggregate = differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed)
    return chain(aggregate, *sgd(learning_rate, momentum, nesterov).links)
