"""A run that diverges without warm-up and not with it, and the sharpness that explains it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from examples.textbook import warmup

pytestmark = pytest.mark.heavy  # the script runs for seconds


@pytest.fixture(scope="module")
def result():
    return warmup.compute()


def test_only_warm_up_reaches_the_high_rate(result):
    diverged, safe, warm = (result.losses[name] for name in warmup.RUNS)
    assert diverged.shape == (warmup.SEEDS, warmup.STEPS)
    assert np.isnan(diverged[:, -1]).all()
    assert (diverged[:, 3] > 10 * diverged[:, 0]).all()
    assert (warm[:, -1] < 0.04).all()
    assert (safe[:, -1] > 3 * warm[:, -1]).all()


def test_the_start_is_past_the_edge_and_warm_up_leads_along_it(result):
    edge = 2 / warmup.PEAK
    for sharpness in result.sharpness.values():
        assert sharpness[0] > 5 * edge
    late = result.sharpness["warm-up"][(warmup.WARMUP + 45) // warmup.EVERY :]
    np.testing.assert_allclose(late, edge, rtol=0.2)
    assert result.sharpness[f"rate {warmup.SAFE:g}"].max() < 2 / warmup.SAFE
    assert result.sharpness[f"rate {warmup.SAFE:g}"][-1] > 2 * edge


@pytest.mark.heavy
def test_the_sharpness_is_the_largest_eigenvalue():
    batch = warmup.data()
    params = jax.tree.map(lambda x: x[:6, :6] if x.ndim > 1 else x[:6], warmup.init(0)[1:2] * 2)
    batch = batch[0][:, 20:26], batch[1][:, :6]
    flat, unravel = ravel_pytree(params)
    largest = np.linalg.eigvalsh(jax.hessian(lambda x: warmup.loss(unravel(x), *batch))(flat))[-1]
    found = warmup.sharpness(params, batch, unravel(jnp.ones_like(flat)), 200)
    np.testing.assert_allclose(found, largest, rtol=1e-3)


def test_every_rate(result):
    low = warmup.RATES < 0.04  # here warm-up is not needed, and costs a little
    np.testing.assert_array_less(result.constant[low], result.warmed_up[low])
    assert np.isnan(result.constant[-2:]).all()
    assert not np.isnan(result.warmed_up).any()
    assert result.warmed_up.argmin() >= len(warmup.RATES) - 2
    assert result.warmed_up.min() < 0.5 * np.nanmin(result.constant)


def test_the_conclusion(result):
    conclusion = warmup.conclusion(result)
    assert "At rate 1.25, 5 of 5 runs diverge without warm-up and none with it." in conclusion
    assert "2 / rate is 1.6" in conclusion
