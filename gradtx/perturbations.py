"""Smooths functions by random perturbations of their arguments, with derivatives of every order.

    f_sigma(x) = E_z f(x + sigma z),      z with density mu

`make_perturbed_fun` estimates f_sigma and its derivatives from values of f alone, so f may jump, or be flat almost
everywhere. If y = x + sigma z is held fixed, z = (y - x) / sigma, and the density of y has the logarithm

    l(x, sigma) = log mu((y - x) / sigma) - d log sigma            d the number of entries of x

Let [l] be a constant with the value of l. Then f(y) exp(l - [l]) has the value f(y), and the means of its
derivatives by x and sigma are the derivatives of f_sigma (Foerster et al., 2018, "DiCE: The Infinitely
Differentiable Monte Carlo Estimator"). Subtracting a constant b from f(y) keeps the mean of each derivative and
lowers its variance.

Berthet et al., 2020, "Learning with Differentiable Perturbed Optimizers"; Salimans et al., 2017, "Evolution
Strategies as a Scalable Alternative to Reinforcement Learning".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.core.hyper import Limits
from gradtx.core.value import Value, child
from gradtx.frozen import Frozen

__all__ = ["Gumbel", "Normal", "make_perturbed_fun", "multi_normal"]


class Normal(Frozen):
    """The standard normal distribution, as noise for `make_perturbed_fun`.

    >>> import jax, gradtx as gx
    >>> gx.perturbations.Normal().sample(jax.random.key(0), (2,)).shape
    (2,)
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Array:
        """Draws an array of independent samples."""
        return jax.random.normal(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Array:
        """Returns the logarithm of the density at each entry, up to a constant."""
        return -0.5 * inputs**2


class Gumbel(Frozen):
    """The standard Gumbel distribution, as noise for `make_perturbed_fun`.

    The argmax of logits that are perturbed by it is a sample from their softmax.

    >>> import jax, gradtx as gx
    >>> float(gx.perturbations.Gumbel().log_prob(0.0))
    -1.0
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Array:
        """Draws an array of independent samples."""
        return jax.random.gumbel(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Array:
        """Returns the logarithm of the density at each entry."""
        return -inputs - jnp.exp(-inputs)


class multi_normal(Value):
    """A normal distribution with independent entries, whose parameters can be learned.

    It is a pytree, so `jax.grad` with respect to the distribution works. `sample` is differentiable, too, and
    `log_prob` is accurate even for scales beyond the range of the dtype's exponential.

    Args:
      loc: The mean, an array.
      log_scale: The logarithm of the standard deviation, an array. Both broadcast to each other.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> normal = gx.perturbations.multi_normal(jnp.zeros(2), jnp.zeros(2))
    >>> print(normal.sample((3,), jax.random.key(0)).shape, normal.log_prob(jnp.zeros(2)).round(3))
    (3, 2) -1.838

    Raises:
      ValueError: the shapes of `loc` and `log_scale` do not broadcast to each other.
    """

    loc: Any = child()
    log_scale: Any = child()

    def __post_init__(self) -> None:
        super().__post_init__()
        shapes = [np.shape(x) for x in self.params]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ValueError(
                f"perturbations.multi_normal: Incompatible shapes for broadcasting: loc has shape {shapes[0]}, "
                f"log_scale {shapes[1]}. Give both the shape of one sample."
            ) from error

    @property
    def params(self) -> list[Any]:
        """The mean and the logarithm of the standard deviation."""
        return [self.loc, self.log_scale]

    def sample(self, shape: tuple[int, ...], key: Any) -> Array:
        """Draws independent samples: an array of the given shape, followed by the shape of the parameters."""
        loc, log_scale = self._like(tuple(shape))
        drawn = jax.random.normal(key, loc.shape, loc.dtype)
        return leaf.narrow(drawn * jnp.exp(log_scale) + loc, np.dtype(jnp.result_type(*self.params, jnp.float16)))

    def log_prob(self, x: Any) -> Array:
        """Returns the logarithm of the density at samples, in float32 or wider."""
        axes = len(jnp.broadcast_shapes(*map(np.shape, self.params)))
        loc, log_scale = self._like(np.shape(x)[: np.ndim(x) - axes])
        half = jnp.exp(-log_scale / 2)  # its square could overflow or underflow
        z = (jnp.asarray(x, loc.dtype) - loc) * half * half
        each = -0.5 * z**2 - log_scale - 0.5 * math.log(2 * math.pi)
        return jnp.sum(each, axis=tuple(range(-axes, 0)))

    def _like(self, shape: tuple[int, ...]) -> list[Array]:
        """Returns the parameters in float32 or wider, for samples of this shape."""
        dtype = leaf.accumulator_dtype(jnp.result_type(*self.params, jnp.float16))
        shape = (*shape, *jnp.broadcast_shapes(*map(np.shape, self.params)))
        return [jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in self.params]


def make_perturbed_fun(
    fun: Callable[[Any], Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = Gumbel(),  # noqa: B008  (a frozen value)
    use_baseline: bool = True,
) -> Callable[[Any, Any], Any]:
    """Makes a function differentiable by averaging it over random perturbations of its argument.

    Use it to train through an argmax, a sorting, a shortest path or a simulation. Values and derivatives of every
    order, forward and reverse, are unbiased estimates of those of the mean f_sigma, with respect to the argument
    and `sigma`. `fun` itself is never differentiated. Arithmetic on samples is in float32 or wider.

    Args:
      fun: A function from a tree of real arrays to a tree of arrays. It is called on all samples at once, by
        `jax.vmap`.
      num_samples: Number of samples to average over. The standard error falls with its square root, and memory
        grows with it. At least 1; 1000 by default.
      sigma: Size of the perturbations, a number or a scalar array. Larger values make the function smoother and
        lower the variance of derivatives, which is proportional to 1 / sigma^2. Positive; 0.1 by default.
      noise: The distribution of the perturbations: `Gumbel()` (default), `Normal()`, or any object with the methods
        `sample(key, shape, dtype)` and `log_prob(inputs)`, whose density is smooth and positive everywhere.
      use_baseline: Whether to subtract the value at the argument itself from the values at the samples, which
        lowers the variance of derivatives and costs one more call of `fun`. True by default.

    Returns:
      A function of a random key and the argument of `fun`. Its result is like that of `fun`, with floats in place
      of integers and booleans.

    Raises:
      TypeError: `fun` is not a function, `num_samples` is not an integer, `noise` lacks a method, or the argument
        has a leaf that is complex or not a floating-point array.
      ValueError: `num_samples` or `sigma` is not positive.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> step = lambda x: jnp.where(x > 0, 1.0, 0.0)  # its derivative is 0 wherever it has one
    >>> smooth = gx.perturbations.make_perturbed_fun(step, 100_000, 0.5, gx.perturbations.Normal())
    >>> print(jax.grad(smooth, argnums=1)(jax.random.key(0), 0.0).round(1))  # the density of 0.5 z at 0 is 0.798
    0.8
    """
    who = "perturbations.make_perturbed_fun"
    if not callable(fun):
        raise TypeError(f"{who}: fun must be a function, got {checks.shown(fun)}.")
    num_samples = checks.integer(who, "num_samples", num_samples, ge=1)
    sigma = Limits(gt=0).check(who, "sigma", sigma, schedules=False)
    checks.scalar(who, "sigma", sigma)
    _check_noise(who, noise)
    use_baseline = checks.flag(who, "use_baseline", use_baseline)

    def perturbed(key: Any, x: Any) -> Any:
        checks.floating(who, "x", x, jax.tree.leaves(x))
        checks.real(who, "x", x, jax.tree.leaves(x))
        x = jax.tree.map(jnp.asarray, x)
        baseline = jax.tree.map(_baseline, fun(lax.stop_gradient(x))) if use_baseline else None
        keys = jax.random.split(key, num_samples)
        samples = jax.vmap(lambda key: _estimate(fun, key, x, sigma, noise, baseline))(keys)
        return jax.tree.map(_mean, samples, jax.eval_shape(fun, x))

    return perturbed


def _check_noise(who: str, noise: Any) -> None:
    for method in ("sample", "log_prob"):
        if not callable(getattr(noise, method, None)) or isinstance(noise, type):
            raise TypeError(
                f"{who}: noise must have a method {method}, got {checks.shown(noise)}. "
                "Give gx.perturbations.Normal() or Gumbel()."
            )


def _estimate(fun: Callable[[Any], Any], key: Any, x: Any, sigma: Any, noise: Any, baseline: Any) -> Any:
    """Returns an unbiased estimate of the value and of all derivatives, from one sample."""
    leaves, treedef = jax.tree.flatten(x)
    wide = list(map(leaf.widen, leaves))
    keys = jax.random.split(key, len(leaves))
    drawn = [noise.sample(k, p.shape, p.dtype) for k, p in zip(keys, wide, strict=True)]
    near = [p + (z * sigma).astype(p.dtype) for p, z in zip(wide, drawn, strict=True)]
    near = treedef.unflatten([leaf.narrow(y, p.dtype) for y, p in zip(near, leaves, strict=True)])
    values = fun(lax.stop_gradient(near))
    # These have the drawn values, but as functions of x and sigma they are (y - x) / sigma.
    fixed = lax.stop_gradient(sigma)
    z = [(z * fixed - (p - lax.stop_gradient(p))) / sigma for z, p in zip(drawn, wide, strict=True)]
    size = tree.size(x)
    log_density = sum((jnp.sum(noise.log_prob(part)) for part in z), -size * jnp.log(jnp.asarray(sigma, float)))
    one = jnp.exp(log_density - lax.stop_gradient(log_density))
    if baseline is None:
        return jax.tree.map(lambda v: _floating(v) * one, values)
    return jax.tree.map(lambda v, b: _floating(v) * one + b * (1 - one), values, baseline)


def _floating(x: Any) -> Array:
    x = jnp.asarray(x)
    return leaf.widen(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(float)


def _baseline(x: Any) -> Array:
    """Returns a constant near the values; any finite constant will do."""
    x = lax.stop_gradient(_floating(x))
    return jnp.where(jnp.isfinite(x), x, 0)


def _mean(samples: Array, like: Any) -> Array:
    """Returns the mean over samples, in the dtype of one value of the function."""
    mean = jnp.mean(samples, axis=0)
    return leaf.narrow(mean, like.dtype) if jnp.issubdtype(like.dtype, jnp.inexact) else mean
