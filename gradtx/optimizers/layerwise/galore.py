"""GaLore: another method, run on a projection of each matrix's gradient onto its leading singular vectors.

    P = the `rank` leading singular vectors of g, on its longer side, taken anew every `update_proj_gap` steps
    u = scale * P * rule(P^H g)

Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", algorithm 2. The inner
rule's state is that of the small matrices. When the projection changes the rule's moments are kept as they are, as
in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf
from gradtx.core import matrices
from gradtx.core.chain import chain
from gradtx.core.engine import resolve
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.state import Reduced, counted
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, integer, static
from gradtx.linalg.matrix_view import MatrixView, WeightDimensionNumbers
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import descend

__all__ = ["GaLoreState", "galore", "scale_by_galore"]


class GaLoreState(NamedTuple):
    """The steps taken, the inner rule's state, and the projections; None for a leaf that is not projected."""

    count: Array
    base_optimizer_state: Any
    projector: Reduced


def _inner(who: str, name: str, value: Any) -> Any:
    return scale_by_adam() if value is None else as_transformation(who, value)


def _shapes(view: MatrixView, x: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of a leaf's projector, and of what is projected."""
    rows, columns = view.fan_in, view.fan_out
    n = math.prod(np.shape(x)) // (rows * columns)
    r = min(rank, rows, columns)
    return ((n, rows, r), (n, r, columns)) if rows >= columns else ((n, columns, r), (n, rows, r))


class scale_by_galore(GradientTransformation):
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
    base_optimizer: Any = child(default=None, check=_inner)
    weight_dimension_numbers: Any = static(default=None, check=matrices.check)

    def init(self, params: Any) -> GaLoreState:
        leaves, treedef = jax.tree.flatten(params)
        checks.floating("scale_by_galore", "params", params, leaves)
        views = self._views(params)
        small, projectors = [], []
        for p, view in zip(leaves, views, strict=True):
            p = jnp.asarray(p)
            if view is None:
                small.append(p)
                projectors.append(None)
                continue
            shape, low = _shapes(view, p, self.rank)
            projectors.append(leaf.full(jnp.zeros(shape, p.dtype)))
            small.append(jnp.zeros(low, p.dtype))
        inner = self.base_optimizer.init(treedef.unflatten(small))
        return GaLoreState(jnp.zeros((), jnp.int32), inner, treedef.unflatten(projectors))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        self._check_state(state, GaLoreState)
        leaves, treedef = jax.tree.flatten(updates)
        checks.floating("scale_by_galore", "updates", updates, leaves)
        views = self._views(updates)
        anew = state.count % self.update_proj_gap == 0
        try:
            projectors = treedef.flatten_up_to(state.projector)
        except ValueError:
            like = ("state.projector", state.projector)
            raise checks.tree_mismatch("scale_by_galore", "updates", updates, *like) from None
        self._check_projectors(updates, views, projectors)
        wide = [leaf.widen(jnp.asarray(g)) for g in leaves]
        small = list(wide)
        for i, view in enumerate(views):
            if view is not None:
                x = view.stacked(wide[i])
                projectors[i] = self._projector(x, projectors[i], anew)
                small[i] = self._down(x, projectors[i])
        inner, inner_state = self.base_optimizer.update(treedef.unflatten(small), state.base_optimizer_state)
        scale = resolve(self, "scale", state.count)
        out = jax.tree.leaves(inner)
        for i, (g, view) in enumerate(zip(leaves, views, strict=True)):
            if view is not None:
                out[i] = view.restored(self._up(out[i], projectors[i], view)) * scale
            out[i] = leaf.narrow(out[i], jnp.result_type(g))
        return treedef.unflatten(out), GaLoreState(counted(state.count), inner_state, treedef.unflatten(projectors))

    def _check_projectors(self, updates: Any, views: Any, projectors: Any) -> None:
        """Raises a ValueError naming the first leaf whose projector in the state is that of another shape."""
        for (path, g), view, old in zip(jax.tree_util.tree_leaves_with_path(updates), views, projectors, strict=True):
            found = np.shape(old)
            if view is not None and (len(found) != 3 or found != _shapes(view, g, found[-1])[0]):
                raise ValueError(
                    f"scale_by_galore: at {checks.keystr(path)} updates has shape {np.shape(g)}, and state.projector, "
                    f"which has shape {found}, does not fit it. The two belong to different parameters: pass "
                    "updates like the params that tx.init got, or the state that it made for these."
                )

    def _projector(self, x: Array, old: Array, anew: Any) -> Array:
        """The leading singular vectors of the longer side where they are taken anew, else the old ones."""

        def leading() -> Array:
            constant = lax.stop_gradient(x)
            largest = jnp.max(jnp.abs(constant), axis=(-2, -1), keepdims=True, initial=0)
            u, _, vh = jnp.linalg.svd(constant / jnp.where(largest > 0, largest, 1), full_matrices=False)
            vectors = u if x.shape[1] >= x.shape[2] else jnp.swapaxes(vh, -1, -2).conj()
            return leaf.narrow(vectors[..., : old.shape[-1]], old.dtype)

        return lax.cond(anew, leading, lambda: old)

    def _down(self, x: Array, projector: Array) -> Array:
        tall = x.shape[1] >= x.shape[2]
        projector = projector.astype(x.dtype)
        return jnp.swapaxes(projector, -1, -2).conj() @ x if tall else x @ projector

    def _up(self, low: Array, projector: Array, view: MatrixView) -> Array:
        projector = projector.astype(jnp.promote_types(projector.dtype, low.dtype))
        if view.fan_in >= view.fan_out:
            return projector @ low
        return low @ jnp.swapaxes(projector, -1, -2).conj()

    def _views(self, tree: Any) -> list[MatrixView | None]:
        """How each leaf that is projected is seen as matrices."""
        shapes = [np.shape(x) for x in jax.tree.leaves(tree)]
        numbers: list[Any]
        if self.weight_dimension_numbers is None:
            numbers = [WeightDimensionNumbers() if len(shape) == 2 else None for shape in shapes]
        else:
            numbers = matrices.numbers_of(self.weight_dimension_numbers, tree)
        chosen = [x is not None and 0 not in shape for x, shape in zip(numbers, shapes, strict=True)]
        views = matrices.views("scale_by_galore", numbers, tree)
        return [view if used else None for view, used in zip(views, chosen, strict=True)]

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        yield "scale", self.scale if state is None else resolve(self, "scale", state.count)
        inner = None if state is None else state.base_optimizer_state
        yield from ((f"base_optimizer.{name}", x) for name, x in self.base_optimizer._hyperparameters(inner))


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
    return chain(rule, *descend(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
