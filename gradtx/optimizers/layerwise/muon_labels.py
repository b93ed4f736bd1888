"""Finds the leaves that Muon trains: the matrices between the embedding and the output head.

Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks": vectors, embeddings and the last layer
are better left to Adam.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

from gradtx import checks
from gradtx.core import mask as masks
from gradtx.core import matrices
from gradtx.core.value import Value, static
from gradtx.linalg.matrix_view import WeightDimensionNumbers
from gradtx.types import Mask, Params

__all__ = ["hidden_matrices", "muon_labels"]

# Matches path components that end in such a word, with an optional number: embed, Embed_0, token_embedding, lm_head.
_OUTER = re.compile(r"(^|[_.])((un)?embed(s|der|ding|dings|_tokens)?|wte|wpe|head|logits?)([_.]?\d+)?$", re.IGNORECASE)


def hidden_matrices(params: Params) -> Any:
    """Returns dimension numbers for the leaves that Muon trains by default, and None for the others.

    Muon trains the leaves with two or more axes, unless a component of the path ends in a word for an embedding or an
    output head (embed, embedding, embed_tokens, wte, wpe, head, logits; a number may follow). The last axis is the
    output, and all other axes are the input: a kernel (height, width, input, output) is a matrix with height * width *
    input rows.

    Args:
      params: The parameters, a tree of arrays or shapes.

    Returns:
      A tree with the structure of `params` and `gx.WeightDimensionNumbers` or None as its leaves.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"lm_head": jnp.ones((4, 9)), "conv": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)}
    >>> gx.hidden_matrices(params)
    {'bias': None, 'conv': WeightDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3), 'lm_head': None}
    """

    def numbers(path: Any, p: Any) -> WeightDimensionNumbers | None:
        outer = any(_OUTER.search(part) for part in checks.slashed(path).split("/"))
        n = np.ndim(p)
        return None if n < 2 or outer else WeightDimensionNumbers(tuple(range(n - 1)), n - 1)

    return jax.tree_util.tree_map_with_path(numbers, params)


def _check_numbers(who: str, name: str, value: Any) -> Any:
    return hidden_matrices if value is None else matrices.check(who, name, value)


def _check_names(who: str, name: str, value: Any) -> tuple[str, str]:
    if not (isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(x, str) for x in value)):
        raise TypeError(f"{who}: {name} must be two labels, such as ('muon', 'adam'), got {checks.shown(value)}.")
    return value[0], value[1]


class muon_labels(Value):
    """Labels the parameters with the groups of `muon`: 'muon' for hidden matrices, 'adam' for all others.

    Use it to build your own `partition` like `muon`. Called with the parameters, it returns the tree of labels.

    Args:
      numbers: Which leaves are hidden matrices: a tree of `gx.WeightDimensionNumbers` and None with the structure of
        the parameters or a prefix of it, one `gx.WeightDimensionNumbers` for all leaves, or a function from a tree to
        such a tree. `hidden_matrices` by default. A function is called with the whole tree to compute the labels, and
        with a dict from path (`dense/kernel`) to leaf by the transformations of the group. So the result for a leaf
        should depend only on the leaf and its path.
      mask: The mask of the weight decay. It does not change the labels; it is passed only so that a mask that does not
        match the whole tree of parameters raises an error.
      adam_mask: The mask of AdamW's weight decay, checked in the same way.
      names: The two labels, for hidden matrices and for all other parameters; ('muon', 'adam') by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> labels = gx.muon_labels({"dense": gx.WeightDimensionNumbers(), "embed": None})
    >>> labels({"dense": jnp.ones((4, 4)), "embed": jnp.ones((9, 4))})
    {'dense': 'muon', 'embed': 'adam'}
    """

    numbers: Any = static(default=hidden_matrices, check=_check_numbers)
    mask: Mask = static(default=None, check=masks.check)
    adam_mask: Any = static(default=None, check=masks.check)
    names: tuple[str, str] = static(default=("muon", "adam"), check=_check_names)

    def __call__(self, params: Params) -> Any:
        for mask in (self.mask, self.adam_mask):
            masks.selected("muon", mask, params)  # raises if the mask does not match the tree or selects nothing
        found = matrices.numbers_of(self.numbers, params)
        return jax.tree.unflatten(jax.tree.structure(params), [self.names[x is None] for x in found])
