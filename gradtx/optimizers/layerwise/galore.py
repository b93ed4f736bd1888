"""GaLore: another method, run on a projection of each matrix's gradient onto its leading singular vectors.

    P = the `rank` leading singular vectors of g, on its longer side, taken anew every `update_proj_gap` steps
    u = scale * P * rule(P^H g)

Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", algorithm 2. The inner
rule's state is that of the small matrices. When the projection changes the rule's moments are kept as they are, as
in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf
from gradtx.core import matrices
from gradtx.core.chain import chain
from gradtx.core.composite import Composite, View
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.slots import child_state, counter, factor
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, integer, static
from gradtx.linalg.matrix_view import MatrixView, WeightDimensionNumbers
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay

__all__ = ["GaLoreState", "galore", "scale_by_galore"]


class GaLoreState(NamedTuple):
    """The steps taken, the inner rule's state, and the projections; None for a leaf that is not projected."""

    count: Array = counter()
    base_optimizer_state: Any = child_state(of="base_optimizer")
    projector: Array = factor(side="longer", rank="rank")


def _base(who: str, name: str, value: Any) -> GradientTransformation:
    del name
    return scale_by_adam() if value is None else as_transformation(who, value)


class _Projected(View):
    """The shapes of what the inner rule gets; its numbers are made of the gradients alone."""

    def __init__(self, views: Sequence[MatrixView | None], rank: int) -> None:
        self.matrices, self.rank = views, rank

    def seen(self, tree: Any) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        return treedef.unflatten([self._low(jnp.asarray(x), v) for x, v in zip(leaves, self.matrices, strict=True)])

    def _low(self, x: Array, view: MatrixView | None) -> Array:
        if view is None:
            return x
        r = min(self.rank, view.fan_in, view.fan_out)
        return jnp.zeros((view.count, *((r, view.fan_out) if _is_tall(view) else (view.fan_in, r))), x.dtype)


def _is_tall(view: MatrixView) -> bool:
    return view.fan_in >= view.fan_out


class scale_by_galore(Composite, state=GaLoreState):
    """The rule of GaLore around `base_optimizer`, by default `scale_by_adam()`.

    Matrices are projected, and other leaves pass to the inner rule as they are; `weight_dimension_numbers` say
    otherwise (None in a tree of them: not projected), as in `scale_by_muon`. The inner rule gets no params,
    whose shapes are not its own. The projection counts as a constant where a derivative is taken. The update comes in
    the gradient's dtype, so that in a chain 16-bit gradients are rounded before the next link.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_galore(rank=2, base_optimizer=gx.trace(0.9))
    >>> state = tx.init({"w": jnp.zeros((100, 30)), "b": jnp.zeros(30)})
    >>> state.base_optimizer_state.trace["w"].shape, state.projector["w"].shape
    ((1, 2, 30), (1, 100, 2))

    Raises:
      ValueError: the dimension numbers do not fit a leaf.
    """

    rank: int = integer(default=128, ge=1)
    update_proj_gap: int = integer(default=200, ge=1)
    scale: Hyper = hyper(default=1.0)
    base_optimizer: Any = child(default=None, check=_base)
    weight_dimension_numbers: Any = static(default=None, check=matrices.check)

    def views(self, tree: Any) -> dict[str, View]:
        return {"base_optimizer": _Projected(self._views(tree), self.rank)}

    def movers(self) -> dict[str, GradientTransformation]:
        """None: the inner rule gets no params, so that it cannot keep them to a set."""
        return {}

    def init(self, params: Any) -> GaLoreState:
        checks.floating("scale_by_galore", "params", params, jax.tree.leaves(params))
        return super().init(params)

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, GaLoreState]:
        leaves, treedef = jax.tree.flatten(updates)
        views = self._views(updates)

        def project(x: Array, old: Array) -> tuple[Array, Array]:
            new = matrices.renewed(self.update_proj_gap, state.count, lambda: _leading(x, old), old)
            return _down(x, new), new

        wide = [leaf.widen(jnp.asarray(g)) for g in leaves]
        low, projectors = matrices.on_stacks(project, views, wide, treedef.flatten_up_to(state.projector))
        base, base_state = self.base_optimizer.update(treedef.unflatten(low), state.base_optimizer_state)
        scale, out = self.at(state.count).scale, []
        for g, u, view, projector in zip(leaves, jax.tree.leaves(base), views, projectors, strict=True):
            full = u if view is None else view.restored(_up(u, projector, _is_tall(view))) * scale
            out.append(leaf.narrow(full, jnp.result_type(g)))
        return treedef.unflatten(out), GaLoreState(
            count=counted(state.count), base_optimizer_state=base_state, projector=treedef.unflatten(projectors)
        )

    def _views(self, tree: Any) -> list[MatrixView | None]:
        shapes = [np.shape(x) for x in jax.tree.leaves(tree)]
        numbers: list[Any]
        if self.weight_dimension_numbers is None:
            numbers = [WeightDimensionNumbers() if len(shape) == 2 else None for shape in shapes]
        else:
            numbers = matrices.numbers_of(self.weight_dimension_numbers, tree)
        chosen = [x is not None and 0 not in shape for x, shape in zip(numbers, shapes, strict=True)]
        views = matrices.views("scale_by_galore", numbers, tree)
        return [view if used else None for view, used in zip(views, chosen, strict=True)]


def _leading(x: Array, old: Array) -> Array:
    """The leading singular vectors of the longer side, as many as the old ones."""
    constant = lax.stop_gradient(x)
    largest = jnp.max(jnp.abs(constant), axis=(-2, -1), keepdims=True, initial=0)
    u, _, vh = jnp.linalg.svd(constant / jnp.where(largest > 0, largest, 1), full_matrices=False)
    vectors = u if x.shape[1] >= x.shape[2] else jnp.swapaxes(vh, -1, -2).conj()
    return leaf.narrow(vectors[..., : old.shape[-1]], old.dtype)


def _down(x: Array, projector: Array) -> Array:
    projector = projector.astype(x.dtype)
    return jnp.swapaxes(projector, -1, -2).conj() @ x if x.shape[1] >= x.shape[2] else x @ projector


def _up(low: Array, projector: Array, tall: bool) -> Array:
    projector = projector.astype(jnp.promote_types(projector.dtype, low.dtype))
    return projector @ low if tall else low @ jnp.swapaxes(projector, -1, -2).conj()


@constructor
def galore(
    learning_rate: HyperArg,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: HyperArg = 1.0,
    base_optimizer: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    weight_dimension_numbers: Any = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """GaLore with decoupled weight decay. State: a projection per matrix, and the inner rule's on small matrices.

    `update` needs params.

    >>> import gradtx as gx
    >>> gx.galore(1e-3, rank=4).links[0].base_optimizer
    scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
