"""Momentum.

Momentum replaces the gradient by a leaky sum of all gradients so far. Each step forgets the share 1 - beta of the sum,
so about 1 / (1 - beta) gradients count. Dampening weights the newest gradient by less. With dampening beta the sum
becomes an average, but for the first gradient, which stays whole.

On a quadratic the method is a linear map of velocity and position: the largest modulus of the map's eigenvalues is the
factor by which the error shrinks per step. The heat maps compare that prediction with the factor measured in runs of
600 steps, for 60 x 60 pairs of rate and momentum in one `vmap`. Nesterov's momentum looks ahead and takes the same
stable road for a wider range of rates.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page

D2L = "Zhang et al., Dive into Deep Learning, section 12.6", "https://d2l.ai/chapter_optimization/momentum.html"
POLYAK = "Polyak, 1964, Some methods of speeding up the convergence of iteration methods, section 2"
NESTEROV = "Sutskever, Martens, Dahl and Hinton, 2013, On the importance of initialization and momentum"
R = r"R(\beta, \eta, \lambda) = \begin{pmatrix} \beta & \lambda \\ -\eta \beta & 1 - \eta \lambda \end{pmatrix}"
BEST = r"\sqrt\beta = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}, \quad \sqrt\eta = \frac{2}{\sqrt{\lambda_1} + \sqrt{\lambda_n}}"
FORMULAS = [
    page.Formula(r"v_t = \beta v_{t-1} + g_t, \quad x_t = x_{t-1} - \eta v_t", "The leaky sum, and the step.", *D2L),
    page.Formula(r"\begin{pmatrix} v_t \\ x_t \end{pmatrix} = R \begin{pmatrix} v_{t-1} \\ x_{t-1} \end{pmatrix}, \quad " + R,
                 "The same on f(x) = lambda x^2 / 2.", *D2L),
    page.Formula(r"0 < \eta \lambda < 2 + 2 \beta", "Where it converges.", *D2L),
    page.Formula(BEST, "The best pair; the error then shrinks by the root of beta.", POLYAK),
    page.Formula(r"x_t = x_{t-1} - \eta (g_t + \beta v_t)", "Nesterov's form.", NESTEROV, "https://proceedings.mlr.press/v28/sutskever13.html"),
]

CURVATURES = np.array([1.0, 10.0])
RATES = np.linspace(0.005, 0.4, 60)
MOMENTA = np.linspace(0.0, 0.98, 60)
STEPS, FROM = 600, 200  # the slope of the logarithm of the error is measured after the first 200 steps


def measured(rate: Any, momentum: Any, nesterov: bool = False) -> jax.Array:
    """The factor by which velocity and position shrink per step, from a run."""
    tx = gx.sgd(rate, momentum, nesterov)

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        x, state = carry
        updates, state = tx.update(CURVATURES * x, state)
        new = gx.apply_updates(x, updates)
        return (new, state), jnp.log(jnp.maximum(jnp.abs(x).max(), jnp.abs(new-x).max()))

    x = jnp.ones(2)
    logs = jax.lax.scan(step, (x, tx.init(x)), length=STEPS)[1][FROM:]
    t = jnp.arange(FROM, STEPS)
    t = t - t.mean()
    return jnp.exp(t @ logs / (t @ t))


def predicted(rate, momentum):
    b, e, l = np.broadcast_arrays(momentum[..., None], rate[..., None], CURVATURES)
    return np.abs(np.linalg.eigvals(np.stack([np.stack([b, l], -1), np.stack([-e*b, 1-e*l], -1)], -2))).max((-1, -2))
