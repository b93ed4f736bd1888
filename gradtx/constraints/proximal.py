"""Proximal gradient steps, to minimize f(x) + g(x) for a smooth f and a simple g.

The proximal operator is prox_s(y) = argmin_x |x - y|^2 / 2 + s g(x). With a learning rate eta of at most 1 over the
Lipschitz constant of the gradient of f, a step is (ISTA; Lions and Mercier, 1979, "Splitting Algorithms for the Sum of
Two Nonlinear Operators")

    y <- prox_eta(y - eta grad f(y))

The accelerated method keeps two more points, x and z. All are equal at first, and theta = 1:

    z' = prox_(eta/theta)(z - eta/theta grad f(y)),    x <- (1 - theta) x + theta z',    z <- z'
    theta <- 2 / (1 + sqrt(1 + 4 / theta^2)),          y <- (1 - theta) x + theta z

f + g at x falls as 1/t^2 (Auslender and Teboulle, 2006, "Interior Gradient and Proximal Methods for Convex and Conic
Optimization"; Tseng, 2008, "On Accelerated Proximal Gradient Methods for Convex-Concave Optimization"). FISTA takes its
gradients at points beyond x, which may lie outside of the set where g is finite. Here y lies between x and z, so that
the parameters, which are y, never leave a convex set. With `restart` the method starts anew at x (y = z = x, theta = 1)
when a step turns against the previous one, <z - z', x' - x> > 0 (O'Donoghue and Candes, 2015, "Adaptive Restart for
Accelerated Gradient Schemes").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import ByLeaf, Layerwise, Shared, Treewide
from gradtx.core.partial import Partial, WithFunction
from gradtx.core.slots import PARAM, counter, per_param, per_tree
from gradtx.core.value import child, flag, static
from gradtx.transforms.project import check_axis
from gradtx.types import Params, Slots, Updates

__all__ = ["AcceleratedProximalState", "accelerated_proximal_gradient", "proximal", "proximal_gradient"]


def _prox(function: Partial, x: Array, axis: int | None, scaling: Any) -> Array:
    """Applies the proximal operator to `x`; a projection takes no `scaling`."""
    given = {"scaling": scaling} if function.takes("scaling") else {}
    return function(x, axis, **given) if x.size else x


class _Proximal(WithFunction):
    """The part that both methods share: the arguments `(prox, learning_rate, *data, axis=None)`."""

    _function = "prox"

    def _pop_between(self, parts: dict[str, Any]) -> list[Any]:
        return [parts.pop("learning_rate")]


class proximal_gradient(_Proximal, Layerwise, needs=("params",)):
    """Takes proximal gradient steps (ISTA), each leaf separately; the plain form of `proximal`.

        p <- prox(p - learning_rate * g, *data, scaling=learning_rate)

    Args:
      prox: A proximal operator `prox(leaf, *data, scaling=...)` such as `gx.prox_l1`; or a projection, which takes no
        scaling.
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative; at most 1 over the
        Lipschitz constant of the gradient.
      data: Further arguments of `prox`, such as the weight of a penalty. They are hyperparameters: numbers, arrays,
        schedules or trees of arrays.
      axis: None (default) to take each leaf as one point; an integer to take every vector along that axis as a point of
        its own.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.proximal_gradient(gx.projection_non_negative, 0.5)
      >>> y = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([1.0, 4.0]), tx.init(y), y)
      >>> print(y + updates)
      [0.5 0. ]
    """

    prox: Partial = child()
    learning_rate: Hyper = hyper(ge=0)
    axis: int | None = static(default=None, check=check_axis)

    def __init__(self, prox: Any, learning_rate: HyperArg, *data: Any, axis: int | None = None) -> None:
        self._set(prox, data, learning_rate=learning_rate, axis=axis)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        there = lax.optimization_barrier(p - self.learning_rate * g)
        return _prox(self.prox, there, self.axis, self.learning_rate) - p, slots


class AcceleratedProximalState(NamedTuple):
    """The number of steps, the points x and z, and theta of the next step."""

    count: Array = counter()
    x: Array = per_param(start=PARAM)
    z: Array = per_param(start=PARAM)
    theta: Array = per_tree(start=1.0, signed=False)


class accelerated_proximal_gradient(_Proximal, Treewide, state=AcceleratedProximalState, needs=("params",)):
    """Takes accelerated proximal gradient steps with restarts; the accelerated form of `proximal`.

    Args:
      prox: A proximal operator `prox(leaf, *data, scaling=...)` such as `gx.prox_l1`; or a projection, which takes no
        scaling.
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative; at most 1 over the
        Lipschitz constant of the gradient.
      data: Further arguments of `prox`, such as the weight of a penalty. They are hyperparameters: numbers, arrays,
        schedules or trees of arrays.
      restart: Whether to start the acceleration anew when a step turns against the previous one. Default True.
      axis: None (default) to take each leaf as one point; an integer to take every vector along that axis as a point of
        its own.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes in float32).

    References:
      Tseng, 2008, "On Accelerated Proximal Gradient Methods for Convex-Concave Optimization"; O'Donoghue and Candes,
        2015, "Adaptive Restart for Accelerated Gradient Schemes".

    Example:
      >>> import jax, jax.numpy as jnp, gradtx as gx
      >>> f = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 0.01]) * (x - 1) ** 2)
      >>> tx = gx.accelerated_proximal_gradient(gx.projection_non_negative, 1.0)
      >>> step = jax.jit(gx.value_and_step(f, tx))
      >>> y = jnp.zeros(2)
      >>> state = tx.init(y)
      >>> for _ in range(60):
      ...     y, state, _ = step(y, state)
      >>> print(y.round(2))
      [1. 1.]
    """

    prox: Partial = child()
    learning_rate: Hyper = hyper(ge=0)
    restart: bool = flag(default=True, kw_only=True)
    axis: int | None = static(default=None, check=check_axis)

    def __init__(
        self, prox: Any, learning_rate: HyperArg, *data: Any, restart: bool = True, axis: int | None = None
    ) -> None:
        self._set(prox, data, learning_rate=learning_rate, restart=restart, axis=axis)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        theta = numbers.theta
        rate = self.learning_rate / theta

        def along(g: Array, z: Array) -> Array:
            return _prox(self.prox, z - rate.astype(leaf.compute_dtype(z.dtype)) * g, self.axis, rate)

        z = jax.tree.map(along, updates, slots.z)
        x = jax.tree.map(lambda a, b: _mix(a, b, theta), slots.x, z)
        turned = tree.real_vdot(_minus(slots.z, z), _minus(x, slots.x)) > 0
        anew = turned & self.restart
        following = jnp.where(anew, 1, 2 / (1 + jnp.sqrt(1 + 4 / theta**2))).astype(theta.dtype)
        return Shared(x=ByLeaf(x), z=ByLeaf(z), anew=anew, theta=following), numbers._replace(theta=following)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        z = jnp.where(shared.anew, shared.x, shared.z)
        y = _mix(shared.x, z, shared.theta)
        return y - p, slots._replace(x=shared.x, z=z)


def _mix(a: Array, b: Array, theta: Array) -> Array:
    return a + theta.astype(leaf.compute_dtype(a.dtype)) * (b - a)


def _minus(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.subtract, a, b)


@constructor
def proximal(
    prox: Any,
    learning_rate: HyperArg,
    *data: Any,
    acceleration: bool = False,
    restart: bool = True,
    axis: int | None = None,
) -> proximal_gradient | accelerated_proximal_gradient:
    """Proximal gradient descent, for a smooth loss plus a term that is not smooth, such as an L1 penalty.

    It is a whole optimizer: give it the gradient of the smooth loss alone. With a projection in place of a proximal
    operator it is projected gradient descent. Each leaf of a tree is a point of its own; `flatten(proximal(...))` takes
    the whole tree as one vector. `masked(proximal(...), mask, rest=sgd(eta))` takes plain gradient steps with the other
    leaves.

        p <- prox(p - learning_rate * g, *data, scaling=learning_rate)

    Args:
      prox: A proximal operator `prox(leaf, *data, scaling=...)` such as `gx.prox_l1`; or a projection such as
        `gx.projection_simplex`, which takes no scaling.
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative; at most 1 over the
        Lipschitz constant of the gradient.
      data: Further arguments of `prox`, such as the weight of a penalty. They are hyperparameters: numbers, arrays,
        schedules or trees of arrays.
      acceleration: Whether to accelerate (default False), which needs far fewer steps if the problem is badly
        conditioned. The parameters are then the points at which gradients are taken, and stay inside of every convex
        set. Both methods converge to the same point.
      restart: Whether to start the acceleration anew when a step turns against the previous one. Default True.
      axis: None (default) to take each leaf as one point; an integer to take every vector along that axis as a point of
        its own.

    Returns:
      A transformation whose `update` needs `params`. State: none except a step count; with `acceleration` two arrays
        per parameter (8 bytes in float32).

    References:
      Tseng, 2008, "On Accelerated Proximal Gradient Methods for Convex-Concave Optimization".

    Example:
      >>> import jax, jax.numpy as jnp, gradtx as gx
      >>> tx = gx.proximal(gx.projection_simplex, 0.5)
      >>> w = jnp.array([0.5, 0.5])
      >>> updates, _ = tx.update(jnp.array([0.2, -0.2]), tx.init(w), w)
      >>> print(w + updates)
      [0.4 0.6]
    """
    checks.flag("proximal", "restart", restart)
    if not checks.flag("proximal", "acceleration", acceleration):
        return proximal_gradient(prox, learning_rate, *data, axis=axis)
    return accelerated_proximal_gradient(prox, learning_rate, *data, restart=restart, axis=axis)
