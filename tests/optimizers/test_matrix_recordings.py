"""SOAP, Shampoo and Kron equal recordings of other implementations (`record_matrix_optimizers.py`)."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.linalg.whitening import fitted, preconditioned
from tests.optimizers.test_soap import updates_of

RECORDED = json.loads((pathlib.Path(__file__).parent.parent / "recordings" / "matrix_optimizers.json").read_text())

OURS = {
    "SOAP": gx.scale_by_soap(0.8, 0.9, 0.7, eps=0.0, interval=3),
    "Shampoo": gx.scale_by_shampoo(1.0, 0.0, "none", interval=1),
}
ERRORS = {"SOAP": 1e-5, "Shampoo": 1e-9}
"""SOAP's factorizations are in float32 there."""


@pytest.mark.parametrize("name", list(OURS))
def test_weights_are_those_recorded(name):
    grads, weights = (np.asarray(RECORDED[name][key]) for key in ("grads", "weights"))
    np.testing.assert_allclose(
        -np.cumsum(updates_of(OURS[name], grads), axis=0), weights, rtol=ERRORS[name], atol=ERRORS[name]
    )


@pytest.mark.heavy
def test_krons_factors_are_those_recorded():
    """With the random matrices of the recording; the clip adds 1e-6 to the root mean square there."""
    grads, noises, weights = (jnp.asarray(RECORDED["Kron"][key]) for key in ("grads", "noises", "weights"))
    rows, columns, mu, weight = jnp.eye(4)[None], jnp.eye(3)[None], 0.0, 0.0
    for t, (g, v) in enumerate(zip(grads, noises, strict=True)):
        mu = 0.8 * mu + 0.2 * g
        x = mu[None] / (1 - 0.8 ** (t + 1))
        rows, columns = fitted(x, v[None], rows, columns, 0.1)
        u = preconditioned(x, rows, columns)[0]
        weight = weight - u * jnp.minimum(1.1 / (jnp.sqrt(jnp.mean(u**2)) + 1e-6), 1)
        np.testing.assert_allclose(weight, weights[t], rtol=1e-5, atol=1e-7)
