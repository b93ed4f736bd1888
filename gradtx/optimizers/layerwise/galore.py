"""GaLore: projects each matrix's gradient onto its leading singular vectors and runs a base optimizer on the result.

    g has at least as many rows as columns:    P = its left singular vectors,     u = scale * P base(P^H g)
    g has more columns than rows:              P = its right singular vectors,    u = scale * base(g P) P^H

The columns of P are the `rank` leading singular vectors, recomputed every `update_proj_gap` steps. The longer side is
projected, as in optax. Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection",
algorithm 2. The base optimizer's state has the projected shapes. As in the paper, this state is kept unchanged when the
projection changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf, mesh
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
from gradtx.types import Mask, Params, State, Updates

__all__ = ["GaLoreState", "galore", "scale_by_galore"]


class GaLoreState(NamedTuple):
    """The state of `scale_by_galore`.

    `count`: the number of steps taken. `base_optimizer_state`: the base optimizer's state, in the projected shapes.
    `projector`: for each leaf, the matrix of the `rank` leading singular vectors onto which its gradient is projected;
    None for a leaf that is not projected.
    """

    count: Array = counter()
    base_optimizer_state: Any = child_state(of="base_optimizer")
    projector: Array = factor(side="longer", rank="rank")


def _base(who: str, name: str, value: Any) -> GradientTransformation:
    return scale_by_adam() if value is None else as_transformation(who, value)


class _ProjectedShapes(View):
    """Gives the base optimizer arrays of zeros in the projected shapes, from which it initializes its state."""

    def __init__(self, matrix_views: Sequence[MatrixView | None], rank: int) -> None:
        self.matrix_views, self.rank = matrix_views, rank

    def seen(self, tree: Any) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        pairs = zip(map(jnp.asarray, leaves), self.matrix_views, strict=True)
        return treedef.unflatten([x if v is None else matrices.low_rank(x, v, self.rank) for x, v in pairs])


def _is_tall(fan_in: int, fan_out: int) -> bool:
    return fan_in >= fan_out  # then the rows are the longer side, which is projected


class scale_by_galore(Composite, state=GaLoreState):
    """Runs a base optimizer on gradients projected to a low rank.

    This is `galore` without learning rate and weight decay:

        u = scale * P base(P^H g),    P: the leading singular vectors of the longer side

    Args:
      rank: Number of singular vectors to project onto; a lower rank saves memory but approximates the gradient less
        closely. At least 1; default 128.
      update_proj_gap: Number of steps between two recomputations of the projection. Each recomputation costs a singular
        value decomposition. At least 1; default 200.
      scale: Factor by which the updates of projected leaves are multiplied. Default 1.
      base_optimizer: The transformation that is applied to the projected gradients; `scale_by_adam()` by default.
      weight_dimension_numbers: Which leaves to project, and which of their axes are inputs and outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf (None for a leaf that should not be
        projected), or a function that takes the tree of leaves and returns such a tree. By default every leaf with two
        axes is projected, including embeddings.

    The base optimizer receives all other leaves unprojected. It also receives the extra arguments that it accepts, such
    as `value`, but not `params` and no extra argument with the shapes of the full parameters: `grad` and `value_fn` are
    left out, and any other such argument, like `grad_fn`, raises an error if the base optimizer reads it. Updates have
    the gradients' dtype. Derivatives treat the projection as a constant.

    State: P for each projected matrix (shape longer side x rank), and the base optimizer's state in the projected
      shapes.

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_galore(rank=2, base_optimizer=gx.trace(0.9))
    >>> state = tx.init({"w": jnp.zeros((100, 30)), "b": jnp.zeros(30)})
    >>> state.base_optimizer_state.trace["w"].shape, state.projector["w"].shape
    ((1, 2, 30), (1, 100, 2))
    """

    rank: int = integer(default=128, ge=1)
    update_proj_gap: int = integer(default=200, ge=1)
    scale: Hyper = hyper(default=1.0)
    base_optimizer: Any = child(default=None, check=_base)
    weight_dimension_numbers: Any = static(default=None, check=matrices.check)

    def views(self, tree: Any) -> dict[str, View]:
        return {"base_optimizer": _ProjectedShapes(self._matrix_views(tree), self.rank)}

    def movers(self) -> dict[str, GradientTransformation]:
        """Returns no inner transformations: without `params` the base optimizer cannot keep them in a set."""
        return {}

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, GaLoreState]:
        leaves, treedef = jax.tree.flatten(updates)
        matrix_views = self._matrix_views(updates)
        extra = self._base_extra(extra, treedef, matrix_views)

        def project(x: Array, old: Array, count: Array) -> tuple[Array, Array]:
            new = matrices.renewed(self.update_proj_gap, count, lambda: _leading_vectors(x, old), old)
            return _project(x, new), new

        wide = [leaf.widen(jnp.asarray(g)) for g in leaves]
        like = jax.tree.leaves(self.views(updates)["base_optimizer"].seen(updates)) if mesh.explicit(wide) else None
        kept = treedef.flatten_up_to(state.projector)
        low, projectors = matrices.on_stacks(project, matrix_views, wide, kept, state.count, like=like)
        base, base_state = self.base_optimizer.update(treedef.unflatten(low), state.base_optimizer_state, **extra)
        scale, out = self.at(state.count).scale, []
        for g, u, view, projector in zip(leaves, jax.tree.leaves(base), matrix_views, projectors, strict=True):
            full = u if view is None else mesh.automatic(partial(_lift, view), u, projector, like=g) * scale
            out.append(leaf.narrow(full, jnp.result_type(g)))
        return treedef.unflatten(out), GaLoreState(counted(state.count), base_state, treedef.unflatten(projectors))

    def _base_extra(self, extra: dict[str, Any], treedef: Any, matrix_views: list[Any]) -> dict[str, Any]:
        """Returns the extra arguments for the base optimizer, without those that have the full parameters' shapes."""
        given = {}
        for name, x in self.base_optimizer.accepted(extra).items():
            like_params = jax.tree.structure(x) == treedef
            pairs = zip(jax.tree.leaves(x), matrix_views, strict=like_params)
            has_shapes = like_params and any(view and np.shape(y) == view.shape for y, view in pairs)
            if not has_shapes and name not in ("value_fn", "grad_fn"):
                given[name] = x
            elif name not in STANDARD_EXTRA_ARGS:
                # Standard arguments are left out without an error, because other transformations may read them.
                raise TypeError(
                    f"scale_by_galore.update: {name} has the shapes of the full parameters, but base_optimizer gets "
                    f"projected gradients, which are smaller. Leave {name} out, or choose a base_optimizer that does "
                    "not read it."
                )
        return given

    def _matrix_views(self, tree: Any) -> list[MatrixView | None]:
        """Returns the `MatrixView` of each leaf, and None for a leaf that is not projected."""
        leaves, dims = jax.tree.leaves(tree), self.weight_dimension_numbers
        planar = [WeightDimensionNumbers() if np.ndim(x) == 2 else None for x in leaves]
        dims = planar if dims is None else matrices.numbers_of(dims, tree)
        found = zip(matrices.views("scale_by_galore", dims, tree), dims, leaves, strict=True)
        return [view if dim is not None and np.size(x) else None for view, dim, x in found]


def _leading_vectors(x: Array, old: Array) -> Array:
    """Returns as many leading singular vectors of the longer side as `old` has; `x` is (count, fan_in, fan_out)."""
    constant = lax.stop_gradient(x)
    largest = jnp.max(jnp.abs(constant), axis=(-2, -1), keepdims=True, initial=0)
    u, _, vh = jnp.linalg.svd(constant / jnp.where(largest > 0, largest, 1), full_matrices=False)
    vectors = u if _is_tall(*x.shape[1:]) else jnp.swapaxes(vh, -1, -2).conj()
    return leaf.narrow(vectors[..., : old.shape[-1]], old.dtype)


def _project(x: Array, projector: Array) -> Array:
    """Returns P^H x or x P, for `x` (count, fan_in, fan_out)."""
    projector = projector.astype(x.dtype)
    return jnp.swapaxes(projector, -1, -2).conj() @ x if _is_tall(*x.shape[1:]) else x @ projector


def _lift(view: MatrixView, low: Array, projector: Array) -> Array:
    """Returns P low or low P^H, as an array with the leaf's shape."""
    projector = projector.astype(jnp.promote_types(projector.dtype, low.dtype))
    tall = _is_tall(view.fan_in, view.fan_out)
    return view.restored(projector @ low if tall else low @ jnp.swapaxes(projector, -1, -2).conj())


@constructor
def galore(
    learning_rate: HyperArg,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: HyperArg = 1.0,
    base_optimizer: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    weight_dimension_numbers: Any = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs Adam, or another optimizer, on low-rank gradients to save optimizer memory, with decoupled weight decay.

    Use it when there is no memory for Adam's moments of large matrices: with rank 128, the moments of a 4096 x 4096
    matrix take 1/32 of Adam's memory, plus the projection P (Zhao et al., 2024, "GaLore: Memory-Efficient LLM Training
    by Gradient Low-Rank Projection", algorithm 2):

        p <- p - learning_rate * (scale * P base(P^H g) + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      rank: Number of singular vectors to project onto; a lower rank saves memory but approximates the gradient less
        closely. At least 1; default 128.
      update_proj_gap: Number of steps between two recomputations of the projection. Each recomputation costs a singular
        value decomposition. At least 1; default 200.
      scale: Factor by which the updates of projected leaves are multiplied. Default 1.
      base_optimizer: The transformation that is applied to the projected gradients; `scale_by_adam()` by default.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      weight_dimension_numbers: Which leaves to project, and which of their axes are inputs and outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf (None for a leaf that should not be
        projected), or a function that takes the tree of leaves and returns such a tree. By default every leaf with two
        axes is projected, including embeddings.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: P for each projected matrix (shape longer side x rank), and
      the base optimizer's state in the projected shapes.

    >>> import gradtx as gx
    >>> gx.galore(1e-3, rank=4).links[0].base_optimizer
    scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
