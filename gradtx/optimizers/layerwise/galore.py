"""GaLore: runs a base optimizer on each matrix's gradient, projected onto its leading singular vectors.

    P = the `rank` leading singular vectors of g on its longer side, computed anew every `update_proj_gap` steps
    u = scale * P * base(P^H g)                 for a wide matrix: scale * base(g P) * P^H

Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", algorithm 2. The base
optimizer's state has the shapes of the small, projected matrices. As in the paper, its moments stay as they are when
the projection changes.
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
from gradtx.core.transformation import STANDARD_EXTRA_ARGS, GradientTransformation, as_transformation
from gradtx.core.value import child, integer, static
from gradtx.linalg.matrix_view import MatrixView, WeightDimensionNumbers
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay

__all__ = ["GaLoreState", "galore", "scale_by_galore"]


class GaLoreState(NamedTuple):
    """The steps taken, the base optimizer's state, and P of each leaf: None for a leaf that is not projected."""

    count: Array = counter()
    base_optimizer_state: Any = child_state(of="base_optimizer")
    projector: Array = factor(side="longer", rank="rank")


def _base(who: str, name: str, value: Any) -> GradientTransformation:
    del name
    return scale_by_adam() if value is None else as_transformation(who, value)


class _ProjectedShapes(View):
    """Shows the base optimizer zero arrays of the projected shapes, to initialize its state."""

    def __init__(self, matrix_views: Sequence[MatrixView | None], rank: int) -> None:
        self.matrix_views, self.rank = matrix_views, rank

    def seen(self, tree: Any) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        pairs = zip(leaves, self.matrix_views, strict=True)
        return treedef.unflatten([self._zeros(jnp.asarray(x), view) for x, view in pairs])

    def _zeros(self, x: Array, view: MatrixView | None) -> Array:
        if view is None:
            return x
        r = min(self.rank, view.fan_in, view.fan_out)
        small = (r, view.fan_out) if _is_tall(view.fan_in, view.fan_out) else (view.fan_in, r)
        return jnp.zeros((view.count, *small), x.dtype)


def _is_tall(fan_in: int, fan_out: int) -> bool:
    """Whether the rows are the longer side, which is the one that is projected."""
    return fan_in >= fan_out


class scale_by_galore(Composite, state=GaLoreState):
    """Runs `base_optimizer` on projected gradients: GaLore without learning rate and weight decay.

    Args:
      rank: The number of singular vectors to project onto, at least 1.
      update_proj_gap: The number of steps after which the projection is computed anew; each time costs an SVD.
      scale: Multiplies the updates of projected leaves only.
      base_optimizer: The transformation of the projected gradients; `scale_by_adam()` by default.
      weight_dimension_numbers: Which leaves are projected, and how they are matrices: as in `scale_by_muon`, but None
        in a tree leaves a leaf out. By default every 2-D leaf is projected, embeddings included.

    Leaves that are not projected go to the base optimizer as they are. It gets the extra arguments that it accepts, such
    as `value` and `key`. It gets neither params nor what has their shapes: `grad` and `value_fn` are left out, any other
    such argument raises. Derivatives treat the projection as a constant. Updates have the gradients' dtype.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_galore(rank=2, base_optimizer=gx.trace(0.9))
    >>> state = tx.init({"w": jnp.zeros((100, 30)), "b": jnp.zeros(30)})
    >>> state.base_optimizer_state.trace["w"].shape, state.projector["w"].shape
    ((1, 2, 30), (1, 100, 2))

    Raises:
      ValueError: The dimension numbers do not fit a leaf.
      TypeError: The base optimizer accepts an extra argument of `update` that cannot be projected.
    """

    rank: int = integer(default=128, ge=1)
    update_proj_gap: int = integer(default=200, ge=1)
    scale: Hyper = hyper(default=1.0)
    base_optimizer: Any = child(default=None, check=_base)
    weight_dimension_numbers: Any = static(default=None, check=matrices.check)

    def views(self, tree: Any) -> dict[str, View]:
        return {"base_optimizer": _ProjectedShapes(self._views(tree), self.rank)}

    def movers(self) -> dict[str, GradientTransformation]:
        """Returns no inner transformations: the base gets no params, so it cannot enforce a constraint set."""
        return {}

    def init(self, params: Any) -> GaLoreState:
        checks.floating("scale_by_galore", "params", params, jax.tree.leaves(params))
        return super().init(params)

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, GaLoreState]:
        leaves, treedef = jax.tree.flatten(updates)
        matrix_views = self._views(updates)
        extra = self._base_extra(extra, treedef, matrix_views)

        def project(x: Array, old: Array) -> tuple[Array, Array]:
            new = matrices.renewed(self.update_proj_gap, state.count, lambda: _leading_vectors(x, old), old)
            return _project(x, new), new

        wide = [leaf.widen(jnp.asarray(g)) for g in leaves]
        low, projectors = matrices.on_stacks(project, matrix_views, wide, treedef.flatten_up_to(state.projector))
        base, base_state = self.base_optimizer.update(treedef.unflatten(low), state.base_optimizer_state, **extra)
        scale, out = self.at(state.count).scale, []
        for g, u, view, projector in zip(leaves, jax.tree.leaves(base), matrix_views, projectors, strict=True):
            full = u if view is None else view.restored(_lift(u, projector, view)) * scale
            out.append(leaf.narrow(full, jnp.result_type(g)))
        return treedef.unflatten(out), GaLoreState(
            count=counted(state.count), base_optimizer_state=base_state, projector=treedef.unflatten(projectors)
        )

    def _base_extra(self, extra: dict[str, Any], treedef: Any, matrix_views: list[Any]) -> dict[str, Any]:
        """The extra arguments that the base optimizer gets: all that it accepts, but for those of the full shapes."""
        given = {}
        for name, x in self.base_optimizer.accepted(extra).items():
            if name not in ("value_fn", "grad_fn") and not _has_full_shapes(x, treedef, matrix_views):
                given[name] = x
            elif name not in STANDARD_EXTRA_ARGS:
                raise TypeError(
                    f"scale_by_galore.update: {name} belongs to the parameters' full shapes, but base_optimizer sees "
                    f"projected gradients. Leave {name} out, or choose a base_optimizer that does not read it."
                )
        return given

    def _views(self, tree: Any) -> list[MatrixView | None]:
        """For each leaf how it is seen as matrices; None for a leaf that is not projected."""
        shapes = [np.shape(x) for x in jax.tree.leaves(tree)]
        numbers: list[Any]
        if self.weight_dimension_numbers is None:
            numbers = [WeightDimensionNumbers() if len(shape) == 2 else None for shape in shapes]
        else:
            numbers = matrices.numbers_of(self.weight_dimension_numbers, tree)
        chosen = [x is not None and 0 not in shape for x, shape in zip(numbers, shapes, strict=True)]
        found = matrices.views("scale_by_galore", numbers, tree)
        return [view if used else None for view, used in zip(found, chosen, strict=True)]


def _has_full_shapes(x: Any, treedef: Any, matrix_views: list[Any]) -> bool:
    """Whether `x` is a tree like the updates, with the shape of the update at some projected leaf."""
    leaves, structure = jax.tree.flatten(x)
    if structure != treedef:
        return False
    pairs = zip(leaves, matrix_views, strict=True)
    return any(view is not None and np.shape(part) == view.shape for part, view in pairs)


# In these functions `x` is a stack of matrices (count, fan_in, fan_out). The projector is (count, longer side, rank).


def _leading_vectors(x: Array, old: Array) -> Array:
    """The leading singular vectors of the longer side, as many as `old` has."""
    constant = lax.stop_gradient(x)
    # Entries of at most 1 keep the decomposition from overflowing.
    largest = jnp.max(jnp.abs(constant), axis=(-2, -1), keepdims=True, initial=0)
    u, _, vh = jnp.linalg.svd(constant / jnp.where(largest > 0, largest, 1), full_matrices=False)
    vectors = u if _is_tall(*x.shape[1:]) else jnp.swapaxes(vh, -1, -2).conj()
    return leaf.narrow(vectors[..., : old.shape[-1]], old.dtype)


def _project(x: Array, projector: Array) -> Array:
    projector = projector.astype(x.dtype)
    return jnp.swapaxes(projector, -1, -2).conj() @ x if _is_tall(*x.shape[1:]) else x @ projector


def _lift(low: Array, projector: Array, view: MatrixView) -> Array:
    """The inverse of `_project`: the matrices of full size."""
    projector = projector.astype(jnp.promote_types(projector.dtype, low.dtype))
    if _is_tall(view.fan_in, view.fan_out):
        return projector @ low
    return low @ jnp.swapaxes(projector, -1, -2).conj()


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
    """Trains with low-rank gradients, to save the memory of optimizer states. `update` needs params.

    The state holds P for each matrix, and the base optimizer's state for the small, projected matrices.

    Args:
      learning_rate: Step size, a number or a schedule. Not negative.
      rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers: See `scale_by_galore`.
      weight_decay: Decoupled weight decay, as in `adamw`. Not negative.
      mask: Which parameters to decay; all by default.
      decouple_lr: Whether the decay is not multiplied by the learning rate.

    >>> import gradtx as gx
    >>> gx.galore(1e-3, rank=4).links[0].base_optimizer
    scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
