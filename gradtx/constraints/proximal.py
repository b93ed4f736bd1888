"""Proximal gradient steps for min f(x) + g(x), with f smooth and g simple.

With prox_s(y) = argmin_x |x - y|^2 / 2 + s g(x) and a learning rate eta, 1 over the Lipschitz constant of the gradient
of f at most (ISTA; Lions and Mercier, 1979, "Splitting Algorithms for the Sum of Two Nonlinear Operators"),

    y <- prox_eta(y - eta grad f(y))

The accelerated method keeps two more points, x and z, all equal at first, and theta = 1:

    z' = prox_(eta/theta)(z - eta/theta grad f(y)),    x <- (1 - theta) x + theta z',    z <- z'
    theta <- 2 / (1 + sqrt(1 + 4 / theta^2)),          y <- (1 - theta) x + theta z

f + g at x falls as 1/t^2 (Auslender and Teboulle, 2006, "Interior Gradient and Proximal Methods for Convex and Conic
Optimization"; Tseng, 2008, "On Accelerated Proximal Gradient Methods for Convex-Concave Optimization"). FISTA takes its
gradients at points beyond x, which may lie outside of the set that g is finite on; here y lies between x and z, so that
the parameters, which are y, never leave a convex set. With `restart` it starts anew at x, z and y all there, theta 1,
when the step turns against the last one, <z - z', x' - x> > 0 (O'Donoghue and Candes, 2015, "Adaptive Restart for
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
    """The proximal operator at `x`; a projection is that of a set, whatever the scaling."""
    given = {"scaling": scaling} if function.takes("scaling") else {}
    return function(x, axis, **given) if x.size else x


class _Proximal(WithFunction):
    """What both methods share: `(prox, learning_rate, *data, axis=None)`."""

    _function = "prox"

    def _pop_between(self, parts: dict[str, Any]) -> list[Any]:
        return [parts.pop("learning_rate")]


class proximal_gradient(_Proximal, Layerwise, needs=("params",)):
    """y <- prox(y - learning_rate * grad, *data, scaling=learning_rate), for every leaf: ISTA. See `proximal`.

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
    """The steps taken, the points x and z, and theta of the next step."""

    count: Array = counter()
    x: Array = per_param(start=PARAM)
    z: Array = per_param(start=PARAM)
    theta: Array = per_tree(start=1.0, signed=False)


class accelerated_proximal_gradient(_Proximal, Treewide, state=AcceleratedProximalState, needs=("params",)):
    """Accelerated proximal steps with restart. See `proximal`. State: two arrays per parameter.

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
    """Proximal gradient descent for a smooth loss and a term that is not: a whole optimizer, given the loss's gradient.

    Args:
      prox: `prox(leaf, *data, scaling=eta)`, a proximal operator such as those of `gradtx.projections`; or a
        projection, which takes no scaling: then it is projected gradient descent.
      learning_rate: eta, not negative: 1 over the Lipschitz constant of the gradient, or less.
      data: the numbers of `prox`, such as the weight of a penalty: hyperparameters, as in `project`.
      acceleration: whether to accelerate. The parameters are then the points at which gradients are taken, inside of
        every convex set; both methods end at the same point.
      restart: whether acceleration starts anew where the steps turn.
      axis: None for every leaf as a point; else every vector along that axis is one.

    Of the leaves of a tree each is a point of its own; `flatten(proximal(...))` takes the tree as one vector, and
    `masked(proximal(...), mask, rest=sgd(eta))` takes plain steps with the others.

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
