"""The lines of `docs/from_torch.md` in gradtx, against runs recorded from PyTorch (`tests/record_torch_page.py`)."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.record_torch_page import FILE, PAGE, STEPS, VARIANTS, page_loop

RECORDED = json.loads(FILE.read_text())
X = np.random.RandomState(0).normal(size=(64, 3))
DATA = X, X @ np.array([1.0, -2.0, 0.5])
ADAMW = gx.adamw(0.1, weight_decay=1e-2)


def loss_fn(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def trained(tx, steps=STEPS, batches=(DATA,), start=None):
    """Returns the parameters and the state after some steps."""
    params = {"w": jnp.full(3, 0.5), "b": jnp.asarray(0.5)} if start is None else start
    step, state = jax.jit(gx.value_and_step(loss_fn, tx)), tx.init(params)
    for t in range(steps):
        params, state, _ = step(params, state, *batches[t % len(batches)])
    return params, state


def another_rate():
    params, state = trained(ADAMW)
    step = gx.value_and_step(loss_fn, ADAMW.replace(learning_rate=0.01))
    for _ in range(STEPS):
        params, state, _ = step(params, state, *DATA)
    return params


PARTS = [tuple(a[16 * i : 16 * i + 16] for a in DATA) for i in range(4)]
LINES = {
    "zero_grad, backward, step": lambda: trained(ADAMW)[0],
    "clip_grad_norm_": lambda: trained(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)))[0],
    "CosineAnnealingLR": lambda: trained(gx.adamw(gx.cosine_decay_schedule(0.1, STEPS), weight_decay=1e-2))[0],
    "param_groups lr": another_rate,
    "groups": lambda: trained(gx.adamw(0.1, weight_decay=0.1, mask=gx.select.ndim(min=1)))[0],
    "requires_grad": lambda: trained(gx.selective_transform(ADAMW, freeze_mask=gx.select.path("w")))[0],
    "accumulate": lambda: trained(gx.accumulate(ADAMW, 4), 4 * STEPS, PARTS)[0],
    "AveragedModel": lambda: gx.averaged_params(trained(gx.swa(ADAMW, start=0))[1]),
    "LBFGS": lambda: gx.minimize(loss_fn, {"w": jnp.full(3, 0.5), "b": jnp.asarray(0.5)}, args=DATA).params,
}
TOLERANCES = {"page": 1e-5, "clip_grad_norm_": 1e-5, "LBFGS": 1e-6}
"""PyTorch adds 1e-6 to the norm that it clips, and its L-BFGS has another line search."""


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_the_table(name):
    agree(name, LINES[name]())


def test_the_loop_of_the_page():
    code = re.search(r"The same in gradtx:\n\n```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[1]
    names = {}
    exec(code, names)
    agree("page", names["params"])


def agree(name, params):
    for leaf, expected in RECORDED["runs"][name].items():
        rtol = TOLERANCES.get(name, 1e-10)
        np.testing.assert_allclose(params[leaf], expected, rtol=rtol, atol=rtol, err_msg=f"{name}: {leaf}")


def test_what_was_recorded_is_what_stands_there():
    assert RECORDED["page_loop"] == page_loop()
    assert set(LINES) == set(VARIANTS) == set(RECORDED["runs"]) - {"page"}
