"""Products with matrices of second derivatives, and estimates of their diagonals, without forming the matrices.

For a loss f of parameters x, a vector v shaped like them, a model o(x) with Jacobian J, and a loss L of its
outputs:

    hvp                 H v,   H = f''(x)              the derivative of the gradient along v (Pearlmutter, 1994,
                                                       "Fast Exact Multiplication by the Hessian")
    gauss_newton_vp     J^T L''(o) J v                 (Schraudolph, 2002, "Fast Curvature Matrix-Vector Products for
                                                       Second-Order Gradient Descent")
    fisher_diag         sum_i g_i * g_i                g_i the gradient of the loss of example i: the diagonal of the
                                                       empirical Fisher matrix
    fisher_vp           J^T F(o) J v,  F(o) = E_y[-(log p(y | o))'']   with y drawn from the model itself (Amari, 1998,
                                                       "Natural Gradient Works Efficiently in Learning")
    hutchinson_diag     E_z[z * H z],  E[z z^T] = I    (Hutchinson, 1989; for diagonals Bekas, Kokiopoulou and Saad,
                                                       2007, "An estimator for the diagonal of a matrix")
    gauss_newton_bartlett_diag     E_y[B * g * g]      the diagonal of the Gauss-Newton matrix of a mean over B
                                                       examples, g its gradient for labels y drawn from the model (Liu
                                                       et al., 2023, "Sophia", algorithm 2)

Each product costs a few gradients, and as much memory as one. `hessian_diag` and `hessian` take one product for
every entry of x, so they are for small problems. Parameters are trees of real arrays; None leaves are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree
from gradtx.core.branch import fold
from gradtx.types import Params

__all__ = [
    "fisher_diag",
    "fisher_vp",
    "gauss_newton_bartlett_diag",
    "gauss_newton_vp",
    "hessian",
    "hessian_diag",
    "hutchinson_diag",
    "hvp",
]

_COLUMNS = 32
"""The number of entries of an exact diagonal that are computed at once."""


def hvp(f: Callable[[Any], Any], params: Params, v: Any) -> Any:
    """Multiplies the Hessian of `f` at `params` by a vector, without forming the Hessian.

    Use it to write your own second-order method. It costs about two gradients (forward over reverse
    differentiation).

    Args:
      f: A function from parameters to a real scalar.
      params: The parameters, a tree of real floating-point arrays.
      v: The vector, a tree like `params`.

    Returns:
      The product, a tree like `params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> f = lambda p: p["a"] ** 2 * p["b"]
    >>> x, v = {"a": jnp.array(3.0), "b": jnp.array(2.0)}, {"a": jnp.array(1.0), "b": jnp.array(0.0)}
    >>> print(gx.hvp(f, x, v))  # the first column of [[2 b, 2 a], [2 a, 0]]
    {'a': Array(4., dtype=float32), 'b': Array(6., dtype=float32)}

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `v` is not shaped like `params`, or `f` does not return a scalar.
    """
    params, v = _pair("hvp", params, v)
    if not jax.tree.leaves(params):
        return v
    return jax.jvp(jax.grad(_scalar("hvp", f)), (params,), (v,))[1]


def gauss_newton_vp(
    model_fn: Callable[[Any], Any], loss_of_output: Callable[[Any], Any], params: Params, v: Any
) -> Any:
    """Multiplies the Gauss-Newton matrix of `loss_of_output(model_fn(params))` by a vector.

    The Gauss-Newton matrix is the Hessian of the loss with the model replaced by its linear approximation at
    `params`. It is positive semidefinite if `loss_of_output` is convex. For half the sum of squared residuals it is
    J^T J.

    Args:
      model_fn: A function from parameters to the outputs, a tree of real arrays.
      loss_of_output: A function from the outputs to a real scalar, convex as a rule.
      params: The parameters, a tree of real floating-point arrays.
      v: The vector, a tree like `params`.

    Returns:
      The product, a tree like `params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> model = lambda w: w**2  # J = diag(2 w)
    >>> half = lambda r: jnp.sum(r**2) / 2
    >>> print(gx.gauss_newton_vp(model, half, jnp.array([1.0, 3.0]), jnp.ones(2)))
    [ 4. 36.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `v` is not shaped like `params`, or `loss_of_output` does not return a scalar.
    """
    who = "gauss_newton_vp"
    params, v = _pair(who, params, v)
    if not jax.tree.leaves(params):
        return v
    outputs, along = jax.jvp(model_fn, (params,), (v,))
    checks.real(who, "the output of model_fn", outputs, jax.tree.leaves(outputs))
    back = jax.vjp(model_fn, params)[1]
    curved = jax.jvp(jax.grad(_scalar(who, loss_of_output)), (outputs,), (along,))[1]
    return back(curved)[0]


def fisher_vp(
    outputs_fn: Callable[[Any], Any], log_likelihood: Callable[[Any, Any], Any], params: Params, v: Any
) -> Any:
    """Multiplies the Fisher information matrix of a model by a vector, as natural gradient methods need it.

    Args:
      outputs_fn: A function from parameters to the parameters o of a distribution p(y | o), such as logits.
      log_likelihood: A function `(o, at)` that returns the mean of log p(y | o) over y drawn from p(y | at), summed
        over the batch. For logits write `sum(softmax(at) * log_softmax(o))`; for the mean of a normal distribution
        with variance s write `-sum((at - o)**2) / (2 * s)`. Its negative second derivative by o at o = at is the
        Fisher matrix of the outputs. If o are natural parameters, such as logits, it does not depend on y, and any
        log-likelihood of data will do.
      params: The parameters, a tree of real floating-point arrays.
      v: The vector, a tree like `params`.

    Returns:
      The product, a tree like `params`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> normal = lambda mean, at: -jnp.sum((at - mean) ** 2) / 2
    >>> print(gx.fisher_vp(lambda w: w * jnp.array([1.0, 2.0]), normal, jnp.array(5.0), jnp.array(1.0)))  # 1 + 4
    5.0

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `v` is not shaped like `params`, or `log_likelihood` does not return a scalar.
    """
    who = "fisher_vp"
    params, v = _pair(who, params, v)
    if not jax.tree.leaves(params):
        return v
    at = jax.tree.map(lax.stop_gradient, outputs_fn(params))
    scalar = _scalar(who, lambda outputs: log_likelihood(outputs, at))
    return gauss_newton_vp(outputs_fn, lambda outputs: -scalar(outputs), params, v)


def fisher_diag(f: Callable[[Any], Any], params: Params) -> Any:
    """Computes the diagonal of the empirical Fisher matrix: the sum over examples of the squared gradients.

    Use it to weigh parameters by importance, as elastic weight consolidation does. The labels are those of the
    data; `gauss_newton_bartlett_diag` draws labels from the model instead. It computes one gradient per example,
    one after the other. If `f` returns one number for a whole batch, it squares the gradient of the batch.

    Args:
      f: A function from parameters to the negative log-likelihood: a vector with one entry per example, or a real
        scalar for a single example.
      params: The parameters, a tree of real floating-point arrays.

    Returns:
      The diagonal, a tree like `params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> x, y = jnp.array([1.0, 2.0]), jnp.array([0.0, 3.0])
    >>> print(gx.fisher_diag(lambda w: (w * x - y) ** 2 / 2, 1.0))  # 1^2 + (-2)^2
    5.0

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `f` returns neither a scalar nor a vector.
    """
    who = "fisher_diag"
    params, _ = _pair(who, params, params)
    if not jax.tree.leaves(params):
        return params
    values, back = jax.vjp(f, params)
    if np.ndim(values) > 1:
        raise ValueError(f"{who}: the function must return one number or a vector, got shape {np.shape(values)}.")

    def squares(i: Array) -> Any:
        which = jnp.zeros_like(values).at[i].set(1) if np.ndim(values) else jnp.ones_like(values)
        return jax.tree.map(lambda g: leaf.abs_sq(leaf.widen(g)), back(which)[0])

    def add(total: Any, i: Array) -> Any:
        return jax.tree.map(leaf.finite_sum, total, squares(i))

    total = fold(add, jax.tree.map(leaf.full, params), jnp.arange(max(np.size(values), 1)))
    return jax.tree.map(lambda x, p: leaf.narrow(x, p.dtype), total, params)


def hutchinson_diag(
    f: Callable[[Any], Any], params: Params, key: Any, samples: int = 1, distribution: str = "rademacher"
) -> Any:
    """Estimates the diagonal of the Hessian of `f` without bias, from products with random vectors.

    The estimate is the mean of z * H z over random vectors z. It costs one Hessian-vector product per sample, one
    after the other.

    Args:
      f: A function from parameters to a real scalar.
      params: The parameters, a tree of real floating-point arrays.
      key: A random key from `jax.random.key`.
      samples: Number of random vectors; the variance falls as 1 / samples. At least 1; 1 by default.
      distribution: "rademacher" (default) draws entries from -1 and 1: exact for a diagonal Hessian and the least
        variance for others, sum_(j != i) H_ij^2 / samples for entry i. "normal" draws normal ones.

    Returns:
      The estimate, a tree like `params`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> print(gx.hutchinson_diag(lambda p: jnp.sum(p**3), jnp.array([1.0, 2.0]), jax.random.key(0)))
    [ 6. 12.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array, or `samples` is not an integer.
      ValueError: `samples` is not positive, or `distribution` is unknown.
    """
    who = "hutchinson_diag"
    samples = checks.integer(who, "samples", samples, ge=1)
    draw = _DRAWS[checks.choice(who, "distribution", distribution, tuple(_DRAWS))]
    params, _ = _pair(who, params, params)
    leaves, treedef = jax.tree.flatten(params)

    def one(key: Any) -> Any:
        keys = jax.random.split(key, len(leaves))
        z = treedef.unflatten([draw(k, p.shape, p.dtype) for k, p in zip(keys, leaves, strict=True)])
        return jax.tree.map(lambda z, h: leaf.widen(z) * leaf.widen(h), z, hvp(f, params, z))

    return _mean(one, params, key, samples) if leaves else params


def gauss_newton_bartlett_diag(outputs_fn: Callable[[Any], Any], params: Params, key: Any, samples: int = 1) -> Any:
    """Estimates the diagonal of the Gauss-Newton matrix of a classifier without bias, from labels drawn from the
    model.

    The loss is the mean over B examples of the cross-entropy, -log softmax(logits)[label]. With g, its gradient for
    the drawn labels, the estimate is B * g^2. It is never negative and costs one gradient per sample.

    Args:
      outputs_fn: A function from parameters to logits, an array with the classes along its last axis and the
        examples (or tokens) along the others.
      params: The parameters, a tree of real floating-point arrays.
      key: A random key from `jax.random.key`.
      samples: Number of draws of all labels, over which the estimate is averaged. At least 1; 1 by default.

    Returns:
      The estimate, a tree like `params`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> logits = lambda w: jnp.stack([w, -w], -1)  # two classes of equal probability: (d log p / dw)^2 = 1
    >>> print(gx.gauss_newton_bartlett_diag(lambda w: logits(w)[None, :], jnp.array(0.0), jax.random.key(0)))
    1.0

    Raises:
      TypeError: a leaf is complex or not a floating-point array, or `samples` is not an integer.
      ValueError: `samples` is not positive, or the outputs are not an array with an axis of classes.
    """
    who = "gauss_newton_bartlett_diag"
    samples = checks.integer(who, "samples", samples, ge=1)
    params, _ = _pair(who, params, params)
    if not jax.tree.leaves(params):
        return params
    outputs, back = jax.vjp(outputs_fn, params)
    if not isinstance(outputs, jax.Array) or outputs.ndim == 0 or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(
            f"{who}: outputs_fn must return logits, one real array with the classes along its last axis, got "
            f"{checks.shown(outputs)}."
        )
    logits = leaf.widen(outputs)
    examples = max(logits.size // max(logits.shape[-1], 1), 1)

    def one(key: Any) -> Any:
        drawn = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1], dtype=logits.dtype)
        # The gradient of the sum over examples: its square over B is B times the square of the mean's gradient.
        (g,) = back(leaf.narrow(jax.nn.softmax(logits) - drawn, outputs.dtype))
        return jax.tree.map(lambda g: leaf.widen(g) * (leaf.widen(g) / examples), g)

    return _mean(one, params, key, samples)


def _mean(one: Callable[[Any], Any], params: Params, key: Any, samples: int) -> Any:
    """Averages a function of a random key over several keys, one after the other, in the dtypes of `params`."""

    def add(total: Any, key: Any) -> Any:
        return jax.tree.map(lambda total, x: total + x / samples, total, one(key))

    total = fold(add, jax.tree.map(leaf.full, params), jax.random.split(key, samples))
    return jax.tree.map(lambda x, p: leaf.narrow(x, p.dtype), total, params)


def hessian_diag(f: Callable[[Any], Any], params: Params) -> Any:
    """Computes the exact diagonal of the Hessian of `f`.

    It takes one Hessian-vector product per entry of `params`, so it is for small problems and for tests. For larger
    problems take `hutchinson_diag`.

    Args:
      f: A function from parameters to a real scalar.
      params: The parameters, a tree of real floating-point arrays.

    Returns:
      The diagonal, a tree like `params`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.hessian_diag(lambda p: p[0] ** 2 * p[1] ** 3, jnp.array([1.0, 2.0])))
    [16. 12.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `f` does not return a scalar.
    """
    who = "hessian_diag"
    params, _ = _pair(who, params, params)
    x, unravel = tree.raveled(params)
    if not x.size:
        return params
    gradient = jax.grad(lambda x: _scalar(who, f)(unravel(x)))

    def entry(i: Array) -> Array:
        along = jnp.zeros_like(x).at[i].set(1)
        return jax.jvp(gradient, (x,), (along,))[1][i]

    return unravel(lax.map(entry, jnp.arange(x.size), batch_size=min(x.size, _COLUMNS)))


def hessian(f: Callable[[Any], Any], params: Params) -> Array:
    """Computes the Hessian of `f` as one matrix.

    Rows and columns are the entries of all leaves in order. For n parameters it has n^2 numbers, so it is for small
    problems.

    Args:
      f: A function from parameters to a real scalar.
      params: The parameters, a tree of real floating-point arrays.

    Returns:
      An n x n array in float32 or wider, symmetric up to rounding.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.hessian(lambda p: p["a"] ** 2 * p["b"], {"a": 3.0, "b": 2.0}))
    [[4. 6.]
     [6. 0.]]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `f` does not return a scalar.
    """
    params, _ = _pair("hessian", params, params)
    x, unravel = tree.raveled(params)
    if not x.size:
        return jnp.zeros((0, 0), x.dtype)
    _, along = jax.linearize(jax.grad(lambda x: _scalar("hessian", f)(unravel(x))), x)
    return jax.vmap(along)(mesh.as_varying_as(jnp.eye(x.size, dtype=x.dtype), x))


def check_like(who: str, name: str, other: Any, like_name: str, params: Params) -> None:
    """Raises unless both are trees of real floating arrays of the same structure and shapes."""
    leaves, treedef = jax.tree.flatten(params)
    others, structure = jax.tree.flatten(other)
    for which, whole, parts in ((like_name, params, leaves), (name, other, others)):
        checks.floating(who, which, whole, parts)
        checks.real(who, which, whole, parts)
    if structure != treedef:
        raise checks.tree_mismatch(who, name, other, like_name, params)
    checks.same_shapes(who, name, other, others, like_name, leaves)


def _pair(who: str, params: Params, v: Any) -> tuple[Any, Any]:
    """Returns both as trees of arrays, `v` in the dtypes of `params`; raises unless they are real and of the same
    shapes.

    Inside `shard_map` each array of `v` is made to vary over the axes of its parameter, which derivatives along it
    need.
    """
    check_like(who, "v", v, "params", params)
    params = jax.tree.map(_array, params)
    return params, jax.tree.map(lambda p, x: mesh.as_varying_as(leaf.narrow(jnp.asarray(x), p.dtype), p), params, v)


def _array(x: Any) -> Array:
    """Returns `x` as an array that is not weakly typed, which derivatives need."""
    x = jnp.asarray(x)
    return leaf.narrow(x, x.dtype)


def _scalar(who: str, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns `f` with a check that it returns a scalar."""

    def scalar(x: Any) -> Any:
        value = f(x)
        if np.shape(value) != ():
            raise ValueError(
                f"{who}: the function must return one number, got shape {np.shape(value)}. Sum it, or take its mean."
            )
        return value

    return scalar


_DRAWS: dict[str, Callable[..., Array]] = {"rademacher": jax.random.rademacher, "normal": jax.random.normal}
