"""`load_state` against runs recorded from PyTorch in float64 (`tests/record_torch_states.py`)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.compat import torch
from tests.record_torch_states import FILE, HALF, ROWS, SECOND_RATE, SLOPE, STEPS, problem, shapes

RECORDED = np.load(FILE)


def recorded(row):
    """Returns the state dict of a recorded run, and the parameters in the middle and at the end of the run."""
    arrays = {key.partition("/")[2]: RECORDED[key] for key in RECORDED.files if key.startswith(row + "/")}
    state = {i: {} for i in range(len(shapes(row)))}
    for key, x in arrays.items():
        if key[0].isdigit():
            index, _, name = key.partition(" ")
            state[int(index)][name] = x
    half, end = ({name: arrays[f"{when} {name}"] for name in shapes(row)} for when in ("half", "end"))
    return {"state": state, "param_groups": json.loads(str(arrays["param_groups"]))}, half, end


def make(row):
    kind, arguments = ROWS[row]
    return getattr(torch, kind)(**arguments)


def count(row):
    return {"count": HALF} if row in ("SGD", "Muon") else {}


def go_on(row, tx, params, state, change=lambda name, x: x):
    noise = problem(row)[1]
    for t in range(HALF, STEPS):
        grads = {name: SLOPE * p + change(name, noise[t][name]) for name, p in params.items()}
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)
    return params


def close(found, expected, change=lambda name, x: x):
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], change(name, x), rtol=1e-8, atol=1e-10)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("row", [row for row in ROWS if not row.endswith("groups")])
def test_a_run_goes_on(row):
    state_dict, half, end = recorded(row)
    params = jax.tree.map(jnp.asarray, half)
    tx = make(row)
    state = torch.load_state(state_dict, tx, params, **count(row))
    fresh = tx.init(params)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(state)] == [(x.shape, x.dtype) for x in jax.tree.leaves(fresh)]
    close(go_on(row, tx, params, state), end)
    with pytest.raises(AssertionError):
        close(go_on(row, tx, params, fresh), end)


def transposed(name, x):
    """Returns a matrix in the layout of flax's kernels."""
    del name
    return np.swapaxes(x, -1, -2) if np.ndim(x) > 1 else x


@pytest.mark.parametrize("row", ["Adam", "Adafactor", "RMSprop"])
def test_other_layouts(row):
    state_dict, half, end = recorded(row)
    params = {name: jnp.asarray(transposed(name, x)) for name, x in half.items()}
    tx = make(row)
    state = torch.load_state(state_dict, tx, params, layout=transposed)
    close(go_on(row, tx, params, state, transposed), end, transposed)
    axes = {"w": (1, 0), "t": (0, 2, 1)}
    by_axes = torch.load_state(state_dict, tx, params, layout=axes)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), by_axes, state))
    with pytest.raises(ValueError, match=r"^load_state: scale_by.* of t has the shape .*layout=lambda path, x: x\.T"):
        torch.load_state(state_dict, tx, params)


def test_groups():
    row = "AdamW groups"
    state_dict, half, end = recorded(row)
    params = jax.tree.map(jnp.asarray, half)
    labels = torch.group_labels(state_dict, params)
    assert labels == {"b": 0, "t": 1, "w": 1}
    assert [group["lr"] for group in state_dict["param_groups"]] == [0.1, SECOND_RATE]
    rates = enumerate(group["lr"] for group in state_dict["param_groups"])
    tx = gx.partition({i: torch.AdamW(lr=lr) for i, lr in rates}, labels)
    close(go_on(row, tx, params, torch.load_state(state_dict, tx, params)), end)


NAMES = {
    "a list": ["layer.b", "layer/t", "w"],
    "a dict by index": {0: "layer/b", "1": "layer/t", 2: "w"},
    "a dict by PyTorch's names": {"b": "layer/b", "t": "layer/t", "w": "w"},
    "a function": lambda name: name if name == "w" else f"layer/{name}",
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names(names):
    state_dict, half, _ = recorded("Adam")
    params = {"a": {"none": jnp.ones(2)}, "layer": {"b": half["b"], "t": half["t"]}, "w": half["w"]}
    tx = gx.selective_transform(make("Adam"), freeze_mask=gx.select.path("a/**"))
    state = torch.load_state(state_dict, tx, params, names)
    mu = state.inner_states["train"][-2].mu
    np.testing.assert_array_equal(mu["layer/b"], state_dict["state"][0]["exp_avg"])
    np.testing.assert_array_equal(mu["w"], state_dict["state"][2]["exp_avg"])
    assert int(state.inner_states["freeze"].count) == HALF


def test_what_surrounds_the_optimizer_begins_anew():
    state_dict, half, end = recorded("Adam")
    tx = gx.ema_params(gx.apply_if_finite(gx.chain(gx.clip_by_global_norm(1e3), make("Adam")), 3), 0.9)
    state = torch.load_state(state_dict, tx, half)
    np.testing.assert_array_equal(state[1].average["w"], tx.init(half)[1].average["w"])
    close(go_on("Adam", tx, half, state), end)


class Tensor:
    """Behaves like a tensor of PyTorch towards NumPy, which cannot read bfloat16."""

    def __init__(self, x, dtype="torch.bfloat16"):
        self.x, self.dtype = x, dtype

    def detach(self):
        return self

    cpu = detach

    def float(self):
        return Tensor(self.x, "torch.float32")

    def __array__(self, dtype=None, copy=None):
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.x, dtype)


def test_tensors():
    state_dict, half, _ = recorded("Adam")
    state_dict["state"] = {
        i: {key: Tensor(x) if key != "step" else Tensor(x, "torch.float32") for key, x in entry.items()}
        for i, entry in state_dict["state"].items()
    }
    state = torch.load_state(state_dict, make("Adam"), half)
    np.testing.assert_array_equal(state[-2].mu["w"], recorded("Adam")[0]["state"][2]["exp_avg"])


def test_decays_by_schedule_bring_the_weights_of_their_averages():
    state_dict, half, _ = recorded("Adam")
    b1 = gx.linear_schedule(0.9, 0.5, 10)
    weights = torch.load_state(state_dict, gx.adam(0.1, b1=b1), half)[0].weights
    np.testing.assert_allclose(weights["b1"], 1 - np.prod([b1(i) for i in range(HALF)]), rtol=1e-6)


def without(entry, key):
    return {name: x for name, x in entry.items() if name != key}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d: d["state"], {}, r"expected a state dict, as optimizer\.state_dict\(\) returns it"),
        (
            lambda d: d,
            {"tx": torch.SGD(momentum=0.9)},
            r"trace\.trace of b is PyTorch's momentum_buffer.* has step",
        ),
        (lambda d: d, {"tx": gx.sgd(0.1)}, r"has exp_avg, exp_avg_sq for b, but the transformation has no place"),
        (lambda d: d, {"tx": torch.Adam(amsgrad=True)}, r"scale_by_amsgrad\.nu_max of b is PyTorch's max_exp_avg_sq"),
        (lambda d: d, {"names": ["b", "t"]}, r"the optimizer has 3 parameters, and names 2"),
        (lambda d: d, {"names": ["b", "t", "t"]}, r"names has 't' for parameter 2 of PyTorch, twice"),
        (lambda d: d, {"names": ["b", "t", "q"]}, r"names has 'q' .* no such leaf; it has b, t, w"),
        (lambda d: d, {"names": {0: "b", "z": "t"}}, r"names has z, which is neither"),
        (lambda d: d, {"names": {0: "b", 1: "t"}}, r"names has no entry for 2"),
        (lambda d: d, {"names": ["b", "t", None]}, r"scale_by_adam\.mu of w is PyTorch's exp_avg, .* is not named"),
        (lambda d: d, {"names": ["t", "b", "w"]}, r"scale_by_adam\.mu of b has the shape \(3,\)"),
        (lambda d: d, {"count": 4}, r"count=4, but the state_dict has counted 5 steps"),
        (lambda d: {**d, "param_groups": [{"params": [0, 1, 2]}]}, {"names": str}, r"was made without names"),
        (
            lambda d: {**d, "state": {**d["state"], 1: {**d["state"][1], "step": 4}}},
            {},
            r"count is a single number in gradtx, but PyTorch's step differs between parameters: 5 for .*, 4 for t",
        ),
        (lambda d: {**d, "state": {0: d["state"][0], 1: d["state"][1]}}, {}, r"of w .* has no state"),
        (
            lambda d: {**d, "state": {i: without(x, "step") for i, x in d["state"].items()}},
            {},
            r"no step count for scale_by_adam\.count",
        ),
        (lambda d: d, {"tx": gx.flatten(torch.Adam())}, r"flatten rearranges the parameters"),
    ],
)
def test_what_does_not_fit(change, arguments, message):
    state_dict, half, _ = recorded("AdamW")
    given = {"tx": torch.AdamW(), **arguments}
    with pytest.raises(ValueError, match=rf"^load_state: .*{message}|^load_state: {message}"):
        torch.load_state(change(state_dict), params=half, **given)


def test_no_array():
    state_dict, half, _ = recorded("AdamW")
    state_dict["state"][0]["exp_avg"] = {"a": 1}
    with pytest.raises(TypeError, match=r"^load_state: exp_avg of b is .*, which is not an array"):
        torch.load_state(state_dict, torch.AdamW(), half)


def test_labels_of_leaves_without_a_parameter():
    state_dict, half, _ = recorded("AdamW groups")
    with pytest.raises(ValueError, match=r"^group_labels: names has no parameter of PyTorch for w"):
        torch.group_labels(state_dict, half, ["b", "t", None])
