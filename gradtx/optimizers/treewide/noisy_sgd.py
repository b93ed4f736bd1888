"""Noisy gradient descent: adds normal noise of variance eta / t^gamma to the gradient.

Neelakantan et al., 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks".
"""

from __future__ import annotations

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.transforms.noise import add_noise
from gradtx.transforms.scale import scale_by_learning_rate

__all__ = ["noisy_sgd"]


@constructor
def noisy_sgd(learning_rate: HyperArg, eta: HyperArg = 0.01, gamma: HyperArg = 0.55, key: int = 0) -> chain:
    """Runs gradient descent with gradient noise that decreases over the steps.

    Try it when plain gradient descent gets stuck early in training a very deep network (Neelakantan et al., 2015,
    "Adding Gradient Noise Improves Learning for Very Deep Networks"):

        p <- p - learning_rate * (g + noise),    noise: normal with variance eta / t^gamma at step t

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      eta: Variance of the noise at the first step. Not negative; default 0.01.
      gamma: Exponent of the decrease: at step t the variance is eta / t^gamma, and 0 keeps the variance constant. Not
        negative; default 0.55.
      key: Seed of the random numbers, an integer; the same seed gives the same run. Default 0.

    Returns:
      A transformation. State: one random key.

    >>> import gradtx as gx
    >>> gx.noisy_sgd(0.1)
    chain(add_noise(eta=0.01, gamma=0.55), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(add_noise(eta, gamma, key), scale_by_learning_rate(learning_rate))
