"""Properties of methods beyond parity: formulas in NumPy, and deliberate differences from optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx as gx
from gradtx import leaf
from tests.cases import close, finite, trajectory

GRADS = np.random.default_rng(0).normal(size=(6, 4))
ZEROS = jnp.zeros(4)


def test_dampened_momentum_starts_with_the_first_gradient():
    """As in PyTorch's SGD, the first momentum buffer is the first gradient, without dampening."""
    expected, m = [], None
    for g in GRADS:
        m = g if m is None else 0.9 * m + (1 - 0.3) * g
        expected.append(m)
    updates, _ = trajectory(gx.trace(0.9, dampening=0.3), ZEROS, GRADS)
    close(updates, np.asarray(expected))


def test_yogi_keeps_its_second_moment_at_the_floor():
    floor, b1, b2, eps, start = 0.05, 0.9, 0.9, 1e-3, 1e-6
    m, v = np.full(4, start), np.full(4, start)
    expected = []
    for t, g in enumerate(GRADS, 1):
        m = b1 * m + (1 - b1) * g
        v = np.maximum(v - (1 - b2) * np.sign(v - g**2) * g**2, floor)
        expected.append(m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps))
    updates, states = trajectory(gx.scale_by_yogi(b2=b2, nu_floor=floor), ZEROS, GRADS)
    close(updates, np.asarray(expected), rtol=1e-10)
    assert (np.asarray(states.nu) >= floor).all()
    without = trajectory(gx.scale_by_yogi(b2=b2), ZEROS, GRADS)[1].nu
    assert (np.asarray(without) < floor).any()


def test_adadelta_descends_by_default():
    """optax's default learning rate None leaves the sign flip out, and ascends."""
    g = jnp.ones(2)
    updates, _ = gx.adadelta().update(g, gx.adadelta().init(g))
    assert (updates < 0).all()


def test_rprop_takes_its_step_at_once():
    """optax returns the step for the previous gradient."""
    for tx, expected in ((gx.rprop(0.1), [-0.1, -0.12]), (optax.rprop(0.1), [0.0, -0.1])):
        close(trajectory(tx, ZEROS, np.ones((2, 4)))[0], np.outer(expected, np.ones(4)))


def test_first_gradients_of_zeros_do_no_harm():
    """optax divides zeros by zero, or later gradients by nearly zero."""
    grads = np.outer([0.0, 1.0], np.ones(4))
    for name, bound in (("prodigy", 1e-5), ("dadapt_adamw", 1e-5), ("acprop", 1.0)):
        rates = {"acprop": (1.0,)}.get(name, ())
        steps = np.abs(trajectory(getattr(gx, name)(*rates), jnp.ones(4), grads)[0])
        assert (steps[0] == 0).all()
        assert (steps[1] > 0).all()
        assert (steps[1] <= bound).all()
        theirs = np.abs(trajectory(getattr(optax.contrib, name)(*rates), jnp.ones(4), grads)[0])
        assert not (theirs[1] < 1e6).any()  # not a number, or millions of times the rate


def test_a_rate_above_one_makes_no_infinity():
    """The learning rate is multiplied last, after factors that make the largest gradient small."""
    tx = gx.scale_by_dadapt_adamw(b2=0.5, estim_lr0=0.5)
    g = jnp.asarray([1.0, -1.0]) * float(jnp.finfo("float64").max)
    updates, state = trajectory(tx, jnp.ones(2), g[None])
    assert finite((updates, state))


def test_a_rounded_variance_is_not_negative():
    """The variance of a constant gradient is zero up to rounding of either sign, but its root must be finite."""
    g = jnp.full((200, 3), 0.1, "float32")
    updates, _ = trajectory(gx.scale_by_stddev(eps=0.0, eps_in_sqrt=False, bias_correction=True), g[0], g)
    assert jnp.isfinite(updates).all()


def test_masks_may_be_functions_and_prefixes():
    params = {"w": jnp.ones((2, 2)), "b": {"x": jnp.ones(2), "y": jnp.ones(2)}}
    grads = {"w": jnp.zeros((2, 2)), "b": {"x": jnp.zeros(2), "y": jnp.zeros(2)}}
    expected = {"w": jnp.full((2, 2), 0.5), "b": grads["b"]}
    for mask in (
        {"w": True, "b": False},
        {"w": True, "b": {"x": False, "y": False}},
        lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    ):
        tx = gx.add_decayed_weights(0.5, mask)
        close(jax.jit(tx.update)(grads, tx.init(params), params)[0], expected)


def test_bias_corrections_do_not_cancel():
    """1 - b^t has full relative accuracy, even for b near 1 in float32."""

    for b in (0.9, 0.999, 1 - 1e-6):
        for t in (1, 2, 1000, 10**8):
            exact = -np.expm1(t * np.log(b))
            with jax.enable_x64(False):
                assert abs(float(leaf.one_minus_power(b, t)) / exact - 1) < 2e-7
            assert abs(float(leaf.one_minus_power(b, t)) / exact - 1) < 1e-15
    assert float(leaf.one_minus_power(0.0, 1)) == 1.0
    slope = jax.grad(lambda b: leaf.one_minus_power(b, 1))
    assert float(slope(0.0)) == float(slope(0.5)) == -1.0


def test_many_methods_find_the_minimum():
    """On an ill-scaled quadratic, with the rates one would try first."""
    scales = jnp.asarray([1.0, 10.0])
    methods = [gx.sgd(0.05, momentum=0.9), gx.adam(0.1), gx.adamw(0.1), gx.nadam(0.1), gx.yogi(0.1), gx.adagrad(1.0)]
    methods += [gx.rmsprop(gx.exponential_decay(0.1, 50, 0.5)), gx.adadelta(10.0), gx.nadamw(0.1)]
    for tx in methods:

        def body(carry, _, tx=tx):
            params, state = carry
            updates, state = tx.update(scales * params, state, params)
            return (gx.apply_updates(params, updates), state), None

        start = jnp.asarray([1.0, -2.0])
        (params, _), _ = jax.jit(
            lambda start, body=body, tx=tx: jax.lax.scan(body, (start, tx.init(start)), length=400)
        )(start)
        assert jnp.abs(params).max() < 0.1, tx


def test_factored_rms_averages_nothing_until_its_offset_is_passed():
    """optax raises zero and negative numbers to a power there, and its updates are NaN."""
    tx = gx.scale_by_factored_rms(step_offset=3)
    with jax.disable_jit():
        updates = trajectory(tx, ZEROS, GRADS)[0]
        close(updates[:4], np.sign(GRADS[:4]), rtol=1e-12)
        late = trajectory(gx.scale_by_factored_rms(), ZEROS, GRADS[3:])[0]
        close(updates[3:], late, rtol=1e-12)


def test_adamax_without_eps_at_zero():
    """The divisor is the smallest normal number; times a correction below 1 it would be flushed to zero."""
    for x64, dtype in ((True, "float64"), (True, "float32"), (False, "float32")):
        with jax.enable_x64(x64):
            g, tx = jnp.zeros(2, dtype), gx.scale_by_adamax(eps=0.0)
            close(tx.update(g, tx.init(g))[0], g)


def test_adafactor_of_a_kernel_of_one_by_one_is_that_of_its_matrix():
    kernel = jax.random.normal(jax.random.key(0), (1, 1, 16, 24))
    for dims in ("largest", "last"):
        tx = gx.scale_by_factored_rms(min_dim_size_to_factor=2, dims=dims)
        update, matrix = jax.jit(tx.update), kernel[0, 0]
        (u, state), (v, flat) = update(kernel, tx.init(kernel), kernel), update(matrix, tx.init(matrix), matrix)
        np.testing.assert_allclose(u[0, 0], v, rtol=1e-12)
        assert state.v_row.shape == (1, 1, 16, 1)
        np.testing.assert_allclose(state.v_col[0, 0], flat.v_col, rtol=1e-12)


@pytest.mark.one_in(10)
@pytest.mark.parametrize("eps", [1e-30, 0.0])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 4), (1, 4, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_of_adafactor_at_gradients_of_zeros(dtype, shape, eps):
    """Derivatives by parameters, gradients and hyperparameters; the squared mean of r underflows in float32."""

    def loss(tx, params, grads):
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(grads, state, params)
            params = gx.apply_updates(params, updates)
        return sum(jnp.sum(x) for x in jax.tree.leaves(params))

    params = {"kernel": jnp.full(shape, 0.5, dtype), "bias": jnp.ones(3, dtype)}
    tx = jax.tree.map(lambda x: jnp.asarray(x, dtype), gx.adafactor(0.1, min_dim_size_to_factor=2, eps=eps))
    grads = jax.tree.map(jnp.zeros_like, params)
    found = jax.grad(loss, argnums=(0, 1, 2))(tx, params, grads)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(found))


def test_factors_that_grow_a_step_are_at_least_one():
    for make in (lambda x: gx.rprop(0.1, eta_plus=x), lambda x: gx.scale_by_rprop(0.1, eta_plus=x)):
        make(1.0)
        for bad in (0.5, 0.999, 0.0, -1.0):
            with pytest.raises(ValueError, match="eta_plus must be in"):
                make(bad)


def test_bounds_in_the_wrong_order_raise():
    gx.rprop(0.1, min_step_size=1.0, max_step_size=1.0)
    with pytest.raises(ValueError, match=r"min_step_size must not be larger than max_step_size, got 2\.0 and 1\.0"):
        gx.rprop(0.1, min_step_size=2.0, max_step_size=1.0)
    with pytest.raises(ValueError, match=r"min_scale must not be larger than max_scale, got 8\.0 and 4\.0"):
        gx.dynamic_loss_scale(gx.sgd(0.1), 4.0, min_scale=8.0, max_scale=4.0)
