"""Measures each step: norms, ratios, the learning rate, and whether gradients and updates were finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core import mask as masks
from gradtx.core.branch import alike
from gradtx.core.chain import chain
from gradtx.core.composite import Composite, Wrapper
from gradtx.core.metrics import reports
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import hyperparameters
from gradtx.core.value import static
from gradtx.transforms.plateau import reduce_on_plateau
from gradtx.types import Params, State, Updates

__all__ = ["MetricsState", "with_metrics"]


@reports("values")
class MetricsState(NamedTuple):
    """The number of steps, the metrics of the latest step by name, and the inner state."""

    count: Array = counter()
    values: dict[str, Array] = per_tree(start="first_values")
    inner_state: Any = child_state()


def _check_groups(who: str, name: str, value: Any) -> Any:
    if isinstance(value, tuple) and all(isinstance(x, tuple) and len(x) == 2 for x in value):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{who}: {name} must be a dict from a name to a mask, as in {{'bias': gx.select.path('**/bias')}}, got "
            f"{checks.shown(value)}."
        )
    return tuple((key, masks.check(who, f"{name}[{key!r}]", mask)) for key, mask in value.items())


class with_metrics(Wrapper, state=MetricsState, needs=("params",)):
    """Measures each step of `inner`; read the metrics of the latest step with `gx.metrics(state)`.

        grad_norm       norm of the incoming updates, before any clipping
        update_norm     norm of the outgoing updates
        param_norm      norm of the parameters before the step
        update_ratio    update_norm / param_norm, and `update_ratio/<group>` for the leaves of each group
        learning_rate   the learning rate of the latest step of `inner`, times the factor of a `reduce_on_plateau` in
                        the same chain; several learning rates are reported by name, as in
                        `learning_rate/a.scale_by_learning_rate`. A call of `update` that skips the step or only
                        accumulates gradients does not change this metric
        finite          whether all incoming and outgoing updates were finite

    `gx.metrics(state)` also contains the metrics that the transformations inside report: `clip_factor`, the `lr_scale`
    of `reduce_on_plateau`, the number of `skipped` steps, `loss_scale`, and measurements. Before the first step,
    `finite` and factors are 1 and the other metrics are 0. Put `with_metrics` outermost, except around
    `gx.accumulate`: `gx.accumulate(gx.with_metrics(tx), 4)` measures only the real steps, with the mean gradient;
    `gx.with_metrics(gx.accumulate(tx, 4))` measures every call, and most updates are then zero.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      groups: A dict from a name to a mask, such as `{"bias": gx.select.path("**/bias")}`: each group gets its own
        metric `update_ratio/<name>`. No groups by default.

    Returns:
      A transformation whose `update` needs `params`. State: a few scalars, in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.with_metrics(gx.sgd(0.1), groups={"bias": gx.select.path("b")})
      >>> params = {"w": jnp.array([3.0]), "b": jnp.array([1.0])}
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> print(round(float(gx.metrics(state)["update_ratio/bias"]), 3))
      0.1

    Raises:
      TypeError: `groups` is not a dict from names to masks.
    """

    groups: Any = static(default=(), check=_check_groups)

    def first_values(self, params: Any) -> dict[str, Array]:
        """Returns a zero for each metric."""

        def first(p: Params) -> dict[str, Array]:
            state = self.inner.init(p)
            return self._values(p, p, p, state, state, {})

        values = jax.eval_shape(first, params)
        zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in values.items()}
        return zeros | {"finite": jnp.ones_like(zeros["finite"])}

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, MetricsState]:
        new, inner_state = self.inner_update(updates, state.inner_state, params, extra)
        values = self._values(updates, new, params, state.inner_state, inner_state, state.values)
        values = alike("with_metrics", values, state.values)
        return new, MetricsState(count=counted(state.count), values=values, inner_state=inner_state)

    def _values(
        self, updates: Updates, new: Any, params: Params, before: Any, after: Any, last: dict[str, Array]
    ) -> dict[str, Array]:
        parts = tuple((name, tuple(masks.each("with_metrics", mask, params))) for name, mask in self.groups)
        values = _measured(updates, new, params, parts)
        rates = _rates(self.inner, before, after, _scale(self.inner, after))
        for name, (rate, stepped) in rates.items():
            short = "learning_rate" if len(rates) == 1 else f"learning_rate/{name.rpartition('.')[0]}"
            rate = rate.astype(leaf.accumulator_dtype(jnp.promote_types(rate.dtype, jnp.float16)))
            values[short] = jnp.where(stepped, rate, last.get(short, 0))
        return dict(sorted(values.items()))

    def _arguments(self) -> Any:
        yield "inner", self.inner
        if self.groups:
            yield "groups", dict(self.groups)


def _rates(tx: Any, before: Any, after: Any, scale: Any) -> dict[str, tuple[Array, Any]]:
    """Maps the name of each learning rate to its value times `scale`, and whether its transformation took the step.

    `before` and `after` are the states before and after the step. A call of `update` that skips the step or only
    accumulates gradients does not change the step count.
    """
    counts = isinstance(getattr(before, "count", None), Array)  # a tuple without the field has a method `count`
    stepped = after.count != before.count if counts else True
    found = {
        name: (jnp.asarray(x) * scale, stepped)
        for name, x in hyperparameters(tx, before).items()
        if name.rpartition(".")[2] == "learning_rate"
    }
    if isinstance(tx, Composite):
        for (name, inner, old), (_, _, new) in zip(tx._members(before), tx._members(after), strict=True):
            own = scale if _is_serial(tx) else scale * _scale(inner, new)
            rates = {f"{name}.{key}": x for key, x in _rates(inner, old, new, own).items()}
            found |= {key: x for key, x in rates.items() if key in found}
    return found


def _scale(tx: Any, state: State) -> Any:
    """Returns the product of the factors of all `reduce_on_plateau` inside `tx` that every update passes through."""
    if isinstance(tx, reduce_on_plateau):
        return state.scale
    inside = tx._members(state) if isinstance(tx, Composite) and _is_serial(tx) else ()
    return math.prod(_scale(inner, inner_state) for _, inner, inner_state in inside)


def _is_serial(tx: Composite) -> bool:
    """Whether all updates pass through all inner transformations: true of a chain, false of groups."""
    return isinstance(tx, chain) or len(tx.children()) == 1


def _measured(updates: Updates, new: Any, params: Params, parts: Any) -> dict[str, Array]:
    values = {
        "grad_norm": _norm(updates),
        "update_norm": _norm(new),
        "param_norm": _norm(params),
        "finite": tree.finite(updates) & tree.finite(new),
    }
    values["update_ratio"] = leaf.ratio(values["update_norm"], values["param_norm"])
    moved, size = jax.tree.leaves(new), jax.tree.leaves(params)
    for name, inside in parts:
        pick = [i for i, x in enumerate(inside) if x]
        values[f"update_ratio/{name}"] = leaf.ratio(_norm([moved[i] for i in pick]), _norm([size[i] for i in pick]))
    return values


def _norm(x: Any) -> Array:
    """Returns the norm, at most the dtype's largest number if all entries are finite."""
    norm = tree.norm(x)
    return jnp.where(tree.finite(x), leaf.saturated(norm), norm)
