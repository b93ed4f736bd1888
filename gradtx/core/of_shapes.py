"""`init` of parameters that are shapes alone, `jax.ShapeDtypeStruct`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.types import Params

__all__ = ["takes_shapes"]


def takes_shapes(init: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Lets a method `init` also accept shapes (`jax.ShapeDtypeStruct`) as parameters.

    Zeros, counters, hyperparameters and random keys do not depend on the values of the parameters, so they are real
    arrays in the state. Arrays that are copied or computed from parameters become shapes.
    """

    @functools.wraps(init)
    def wrapped(self: Any, params: Params) -> Any:
        leaves = jax.tree.leaves(params)
        if not any(isinstance(x, jax.ShapeDtypeStruct) for x in leaves):
            return init(self, params)
        checks.floating(type(self).__name__, "params", params, leaves, shapes=True)
        return _made(functools.partial(init, self), params)

    return wrapped


def _made(init: Callable[[Any], Any], params: Params) -> Any:
    closed, shapes = jax.make_jaxpr(init, return_shape=True)(params)
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    given = zip(closed.jaxpr.invars, jax.tree.leaves(params), strict=True)
    known |= {var: jnp.asarray(x) for var, x in given if not isinstance(x, jax.ShapeDtypeStruct)}
    for equation in closed.jaxpr.eqns:
        if all(_is_literal(var) or var in known for var in equation.invars):
            known.update(zip(equation.outvars, _results(equation, known), strict=True))
    leaves, treedef = jax.tree.flatten(shapes)
    outputs = zip(closed.jaxpr.outvars, leaves, strict=True)
    return treedef.unflatten([_array(var, known, shape) for var, shape in outputs])


def _is_literal(var: Any) -> bool:
    return hasattr(var, "val")


def _results(equation: Any, known: dict[Any, Any]) -> Sequence[Any]:
    primitive, inputs = equation.primitive, [x.val if _is_literal(x) else known[x] for x in equation.invars]
    with equation.ctx.manager:
        found = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return found if primitive.multiple_results else [found]


def _array(var: Any, known: dict[Any, Any], shape: Any) -> Any:
    """Returns a copy of the array of `var`, or its shape if the array depends on unknown values."""
    if _is_literal(var):
        return jnp.asarray(var.val, shape.dtype)
    return jnp.array(known[var], copy=True) if var in known else shape
