"""Reports what a step did as numbers: norms, ratios, the learning rate, and whether everything was finite."""

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
    """The number of steps, the metrics of the last step by name, and the inner state."""

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
    """Adds metrics of the last step to `inner`; read them with `gx.metrics(state)`.

        grad_norm       norm of the incoming updates, before any clipping
        update_norm     norm of the outgoing updates
        param_norm      norm of the parameters before the step
        update_ratio    update_norm / param_norm, and `update_ratio/<group>` for the leaves of each group
        learning_rate   the learning rate of the last step of `inner`, times the factor of a `reduce_on_plateau` in the
                        same chain; several rates each by name, as in `learning_rate/a.scale_by_learning_rate`.
                        While gradients are accumulated, and in a skipped step, it stays as it was
        finite          whether all incoming and outgoing updates were finite

    `gx.metrics(state)` also has what the links inside report: `clip_factor`, the `lr_scale` of `reduce_on_plateau`,
    `skipped` steps, `loss_scale`, measurements. All metrics are zero before the first step. Put it outermost.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      groups: A dict from a name to a mask, such as `{"bias": gx.select.path("**/bias")}`: for each group there is an
        `update_ratio` of its own. No groups by default.

    Returns:
      A transformation whose `update` needs `params`. State: a few numbers, beside the inner state.

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
        return {name: jnp.zeros(x.shape, x.dtype) for name, x in values.items()}

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
    """Returns the learning rates of a step times `scale`, by name, and whether the part that has each took the step.

    `before` and `after` are the states. In a step that is skipped or only accumulated the counter stays as it is.
    """
    counts = isinstance(getattr(before, "count", None), Array)  # the method of a tuple has this name, too
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
    """Returns the product of the factors of all plateau links that the updates of `tx` have passed."""
    if isinstance(tx, reduce_on_plateau):
        return state.scale
    inside = tx._members(state) if isinstance(tx, Composite) and _is_serial(tx) else ()
    return math.prod(_scale(inner, inner_state) for _, inner, inner_state in inside)


def _is_serial(tx: Composite) -> bool:
    """Whether the updates pass through all inner transformations, as in a chain; groups each see other leaves."""
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
