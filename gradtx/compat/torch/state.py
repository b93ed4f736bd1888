"""Converts states of PyTorch's optimizers in the middle of a run to states of gradtx.

    tx = torch.AdamW(lr=1e-3)
    state = torch.load_state(optimizer.state_dict(), tx, params)

PyTorch is not imported: a `state_dict` is a dict, and its tensors are converted by NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.compat.arrays import held_weights
from gradtx.compat.torch.state_dict import Layout, Names, StateDict, places
from gradtx.core.composite import Composite, View
from gradtx.core.slots import PerLeaf, child_state
from gradtx.core.state import declared
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import as_transformation

__all__ = ["group_labels", "load_state"]

KEYS = {
    ("FactoredState", "v"): ("variance",),
    # In a transposed layout rows and columns are swapped, so either key may hold the array: the shape decides.
    ("FactoredState", "v_col"): ("col_var", "row_var"),
    ("FactoredState", "v_row"): ("row_var", "col_var"),
    ("MuonState", "mu"): ("momentum_buffer",),
    ("ScaleByAdaDeltaState", "e_g"): ("square_avg",),
    ("ScaleByAdaDeltaState", "e_x"): ("acc_delta",),
    ("ScaleByAdamState", "mu"): ("exp_avg",),
    ("ScaleByAdamState", "nu"): ("exp_avg_sq", "exp_inf"),
    ("ScaleByAmsgradState", "mu"): ("exp_avg",),
    ("ScaleByAmsgradState", "nu"): ("exp_avg_sq",),
    ("ScaleByAmsgradState", "nu_max"): ("max_exp_avg_sq",),
    ("ScaleByAsgdState", "ax"): ("ax",),
    ("ScaleByAsgdState", "eta"): ("eta",),
    ("ScaleByNadamState", "mu"): ("exp_avg",),
    ("ScaleByNadamState", "mu_product"): ("mu_product",),
    ("ScaleByNadamState", "nu"): ("exp_avg_sq",),
    ("ScaleByRStdDevState", "mu"): ("grad_avg",),
    ("ScaleByRStdDevState", "nu"): ("square_avg",),
    ("ScaleByRmsState", "nu"): ("square_avg",),
    ("ScaleByRpropState", "prev_updates"): ("prev",),
    ("ScaleByRpropState", "step_sizes"): ("step_size",),
    ("ScaleByRssState", "sum_of_squares"): ("sum",),
    ("TraceState", "trace"): ("momentum_buffer",),
}
"""Maps (state class, field) of gradtx to the keys of PyTorch's state dict that may hold the same array."""


def load_state(
    torch_state_dict: Mapping[str, Any],
    tx: Any,
    params: Any,
    names: Names = None,
    *,
    layout: Layout = None,
    count: int | None = None,
) -> Any:
    """Makes the state of a transformation from the `state_dict()` of the same optimizer of `torch.optim`.

    Use it to continue in JAX a run that was started in PyTorch, or to start from a checkpoint of such a run. Moments
    and step counts are copied. A transformation for which PyTorch has no state, such as a wrapper or gradient clipping,
    starts with its initial state. Hyperparameters come from `tx`: if the PyTorch run used a scheduler, build `tx` with
    the same schedule.

    Args:
      torch_state_dict: The dict that `optimizer.state_dict()` returned. Its values may be tensors, NumPy arrays, or
        anything else that `numpy.asarray` accepts.
      tx: The same optimizer, made with `gradtx.compat.torch` or gradtx itself; for several parameter groups a
        `gx.partition` with the labels that `group_labels` returns.
      params: The current parameters, in JAX's layout.
      names: Says which leaf of `params` each parameter of PyTorch is, by the path of the leaf, such as `dense/kernel`
        or `dense.kernel`. A list of paths in PyTorch's order, a dict from PyTorch's index or name to the path, or a
        function from PyTorch's name to the path. (PyTorch's optimizer knows names if it was made with
        `model.named_parameters()`.) None in place of a path leaves a parameter out. By default PyTorch's parameters
        have the order of the leaves.
      layout: How to reorder the axes of PyTorch's arrays: a function `f(path, x)` that returns the array in JAX's
        layout, or a dict from path to the order of axes for `numpy.transpose`. By default arrays are unchanged. For
        example, a weight of `torch.nn.Linear` is (output, input), and a kernel of flax (input, output); a weight of
        `Conv2d` is (output, input, height, width), and a kernel of flax (height, width, input, output).
      count: The number of steps taken so far; needed only for SGD and Muon, for which PyTorch keeps no count.

    Returns:
      A state for `tx.update`, with the shapes and dtypes of `tx.init(params)`.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from gradtx.compat import torch
      >>> moments = {"step": 3.0, "exp_avg": np.ones((2, 1)), "exp_avg_sq": np.ones((2, 1))}
      >>> state_dict = {"state": {0: moments}, "param_groups": [{"params": [0]}]}
      >>> params = {"dense": {"kernel": jnp.zeros((1, 2))}}
      >>> state = torch.load_state(state_dict, torch.Adam(), params, ["dense.kernel"], layout=lambda path, x: x.T)
      >>> print(state[0].count, state[0].mu["dense"]["kernel"])
      3 [[1. 1.]]

    Raises:
      ValueError: The state belongs to another optimizer or to other parameters, or the number of steps is not known.
        The error names the field and the parameter.
      TypeError: `tx` is not a transformation, or a value is not an array.
    """
    tx = as_transformation("load_state", tx)
    told = None if count is None else checks.integer("load_state", "count", count, ge=0)
    source = StateDict(torch_state_dict, params, names, layout, told)
    state = _loaded(tx, tx.init(params), params, source, "")
    source.check_all_taken()
    return state


def group_labels(torch_state_dict: Mapping[str, Any], params: Any, names: Names = None) -> Any:
    """Returns the index of each leaf's parameter group, as labels for `gx.partition`.

    Args:
      torch_state_dict: The dict that `optimizer.state_dict()` returned.
      params: The parameters, in JAX's layout.
      names: Says which leaf each parameter of PyTorch is, as in `load_state`. By default PyTorch's parameters have the
        order of the leaves.

    Returns:
      A tree like `params` of integers, 0 for the first group.

    Example:
      >>> import jax.numpy as jnp
      >>> from gradtx.compat import torch
      >>> state_dict = {"state": {}, "param_groups": [{"params": [0]}, {"params": [1, 2]}]}
      >>> torch.group_labels(state_dict, {"a": jnp.ones(1), "b": jnp.ones(1), "c": jnp.ones(1)})
      {'a': 0, 'b': 1, 'c': 1}

    Raises:
      ValueError: A leaf belongs to no parameter of PyTorch, or the names do not match the parameters.
    """
    group = {str(i): k for k, one in enumerate(torch_state_dict["param_groups"]) for i in one["params"]}
    index = places("group_labels", torch_state_dict, params, names)
    paths = checks.paths(params)
    missing = [path for path in paths if path not in index]
    if missing:
        raise ValueError(
            f"group_labels: names has no parameter of PyTorch for {checks.listed(missing)}. Add it to names."
        )
    return jax.tree.unflatten(jax.tree.structure(params), [group[index[path]] for path in paths])


def _loaded(tx: Any, state: Any, params: Any, source: StateDict, above: str) -> Any:
    """Returns the state of a (possibly inner) transformation that sees the parameters `params`."""
    link = f"{above}{type(tx).__name__}"
    if isinstance(tx, Stateful) and tx.State is not None:
        state = state._replace(**_fields(tx, state, params, source, link))
    if isinstance(tx, Composite):
        views, states = tx.views(params), tx.child_states(state)
        inside: dict[Any, Any] = {}
        for name, inner in tx.children().items():
            view = views[name]
            if not (view.selects or type(view) is View):
                raise ValueError(
                    f"load_state: {link} rearranges the parameters, and PyTorch has no such state. Load the state of "
                    "the inner transformation separately."
                )
            inside[name] = _loaded(inner, states[name], view.seen(params), source, above)
        state = tx.with_child_states(state, inside)
    return state


def _fields(tx: Any, state: Any, params: Any, source: StateDict, link: str) -> dict[str, Any]:
    """Returns the fields of a transformation's state for which PyTorch's state has values."""
    paths, treedef = checks.paths(params), jax.tree.structure(params)
    found: dict[str, Any] = {}
    for name, slot in declared(tx.State).items():
        keys, old, where = KEYS.get((tx.State.__name__, name)), getattr(state, name), f"{link}.{name}"
        if not slot.present(tx) or isinstance(slot, child_state):
            continue
        if name == "count":
            found[name] = jnp.asarray(source.count(where, paths), old.dtype)
        elif name == "weights":
            new = held_weights(tx, old, source.count(where, paths))
            found[name] = {key: jnp.asarray(x, old[key].dtype) for key, x in new.items()}
        elif keys is not None and isinstance(slot, PerLeaf):
            rows = zip(paths, treedef.flatten_up_to(old), strict=True)
            items = [None if x is None else source.array(where, path, keys, x) for path, x in rows]
            found[name] = treedef.unflatten(items)
        elif keys is not None:
            number = source.number(where, paths, keys[0])
            found[name] = old if number is None else jnp.asarray(number, old.dtype)
    if "prev_updates" in found:  # only the sign of PyTorch's previous gradient matters
        found["prev_updates"] = jax.tree.map(lambda g, s: jnp.sign(g) * s, found["prev_updates"], found["step_sizes"])
    return found
