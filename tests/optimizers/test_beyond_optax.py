"""Methods that optax does not have, against their published algorithms written out in NumPy, in float64.

Each transcription follows the paper, or the named code, step by step: it updates moments with bias corrections, and
moves the network weights in place. The gradients are taken from a noisy quadratic at the current weights, so that an
error in a step affects all later steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import close, trajectory

STEPS = 100
SHAPES = {"w": (4, 3), "b": (3,)}
RNG = np.random.default_rng(0)
START = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
SCALE = {name: 10.0 ** RNG.uniform(-1, 1, size=shape) for name, shape in SHAPES.items()}
# Small gradients, then large gradients: at the change the second moments are out of date.
LOUD = np.where(np.arange(STEPS) % 40 < 25, 0.1, 2.0)
NOISE = {name: LOUD.reshape(-1, *[1] * len(s)) * RNG.normal(size=(STEPS, *s)) for name, s in SHAPES.items()}


def weights(tx, start=START):
    """Returns the network weights after each step of a transformation."""

    def step(carry, noise):
        params, state = carry
        grads = {name: SCALE[name] * params[name] + noise[name] for name in params}
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)
        return (params, state), params

    params = jax.tree.map(jnp.asarray, start)
    return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), NOISE)[1])()


def transcribed(method, start=START, **options):
    """Returns the weights after each step of a transcription: a generator, one for each leaf, from gradients to
    weights."""
    result = {}
    for name, w in start.items():
        leaf, rows = method(w.copy(), **options), []
        next(leaf)
        for noise in NOISE[name]:
            w = leaf.send(SCALE[name] * w + noise)
            rows.append(w)
        result[name] = np.stack(rows)
    return result


def agree(tx, expected, **options):
    found = weights(tx, **options)
    assert all(np.ptp(x[-1]) > 0 for x in expected.values())
    close(found, expected, rtol=1e-10, atol=1e-12)


def laprop(w, lr, b1=0.9, b2=0.999, eps=1e-15, wd=0.0):
    """Algorithm 1 of the paper, with weight decay times the learning rate."""
    m, n, t = 0.0, 0.0, 0
    while True:
        g = yield w
        t += 1
        n = b2 * n + (1 - b2) * g * g
        m = b1 * m + (1 - b1) * g / (np.sqrt(n / (1 - b2**t)) + eps)
        w = w - lr * (m / (1 - b1**t) + wd * w)


@pytest.mark.parametrize("options", [{}, {"b1": 0.95, "b2": 0.5, "eps": 1e-3}])
def test_laprop(options):
    agree(gx.laprop(0.03, **options), transcribed(laprop, lr=0.03, **options))
    agree(gx.laprop(0.03, weight_decay=0.1, **options), transcribed(laprop, lr=0.03, wd=0.1, **options))
    decoupled = gx.laprop(0.03, weight_decay=0.003, decouple_lr=True, **options)
    agree(decoupled, transcribed(laprop, lr=0.03, wd=0.1, **options))


def test_laprop_is_bounded_where_adam_is_not():
    """The paper's counterexample for Adam: b1 is larger than b2, and the gradients become zero."""
    g = jnp.asarray([[1.0]] * 3 + [[0.0]] * 20)

    def largest(tx):
        return jnp.abs(jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], tx.init(g[0]), g)[1]).max()

    assert largest(gx.scale_by_laprop(b1=0.9, b2=0.1)) <= 1 + 1e-12
    assert largest(gx.scale_by_adam(b1=0.9, b2=0.1)) > 100


def adam_atan2(w, lr, b1=0.9, b2=0.99, a=1.27, b=1.0, wd=0.0):
    """`AdamAtan2.step` of adam-atan2-pytorch, whose decay multiplies the weights first by 1 - lr * wd."""
    m, v, t = np.zeros_like(w), np.zeros_like(w), 0
    while True:
        g = yield w
        t += 1
        w = w * (1 - lr * wd)
        m = m + (1 - b1) * (g - m)
        v = v + (1 - b2) * (g * g - v)
        w = w - lr * a * np.arctan2(m / (1 - b1**t), np.sqrt(v * (b * b / (1 - b2**t))))


@pytest.mark.parametrize("options", [{}, {"b1": 0.95, "b2": 0.9, "a": 1.0, "b": 0.5}])
def test_adam_atan2(options):
    agree(gx.adam_atan2(0.03, **options), transcribed(adam_atan2, lr=0.03, **options))
    agree(gx.adam_atan2(0.03, weight_decay=0.1, **options), transcribed(adam_atan2, lr=0.03, wd=0.1, **options))


def test_adam_atan2_does_not_see_the_scale_of_the_gradients():
    tx = gx.scale_by_adam_atan2()
    for dtype, factors in (("float32", (1e-15, 1.0, 1e15)), ("float64", (1e-140, 1.0, 1e140))):
        g = jnp.asarray([0.5, -2.0, 0.0], dtype)
        found = [tx.update(g * jnp.asarray(c, dtype), tx.init(g))[0] for c in factors]
        for u in found:
            np.testing.assert_allclose(u, 1.27 * np.pi / 4 * np.sign(g), rtol=1e-5)


def test_the_derivatives_of_atan2_are_right_and_zero_at_the_origin():
    """The derivatives of `jnp.arctan2` are NaN at the origin, and wherever a square overflows or underflows."""
    tx = gx.scale_by_adam_atan2(a=1.0)
    state = tx.init(jnp.zeros(()))

    def second(first, g):
        return tx.update(g, tx.update(first, state)[1])[0]

    slopes = jax.jit(jax.grad(second, argnums=(0, 1)))
    assert slopes(jnp.zeros(()), jnp.zeros(())) == (0.0, 0.0)
    h = 1e-6
    for c in (1e-100, 1.0, 1e100):  # homogeneous of degree 0: slopes of degree -1
        first, g = jnp.asarray(0.3 * c), jnp.asarray(-0.7 * c)
        ahead, behind = second(first, g + h * c), second(first, g - h * c)
        np.testing.assert_allclose(slopes(first, g)[1] * c, (ahead - behind) / (2 * h), rtol=1e-6)
    # If the second moment is zero and the momentum is not, the angle is a right angle.
    silent = gx.scale_by_adam_atan2(b2=0.0, a=1.0)
    _, state = silent.update(jnp.ones(()), silent.init(jnp.zeros(())))
    np.testing.assert_allclose(silent.update(jnp.zeros(()), state)[0], np.pi / 2)


def test_adam_atan2_turns_the_modulus_of_complex_entries():
    """A real gradient and the same gradient as a complex number get the same update."""
    tx = gx.scale_by_adam_atan2()
    g = jnp.asarray([0.5, -2.0, 0.0])
    turn = jnp.exp(0.3j)
    np.testing.assert_allclose(tx.update(g * turn, tx.init(g * turn))[0], tx.update(g, tx.init(g))[0] * turn)


def stable_adamw(w, lr, b1=0.9, b2=0.99, eps=1e-6, wd=0.2):
    """Algorithm 2 of the paper: debiased decay rates, the rate clipped for the step and the decay."""
    v, u, t = np.zeros_like(w), np.zeros_like(w), 0
    while True:
        g = yield w
        t += 1
        hat1 = b1 * (1 - b1 ** (t - 1)) / (1 - b1**t)
        hat2 = b2 * (1 - b2 ** (t - 1)) / (1 - b2**t)
        v = hat1 * v + (1 - hat1) * g
        u = hat2 * u + (1 - hat2) * g * g
        rms = np.sqrt(np.mean(g * g / np.maximum(u, eps**2)))
        eta = lr / max(1.0, rms)
        w = w - eta * wd * w - eta * v / (np.sqrt(u) + eps)


@pytest.mark.parametrize("options", [{}, {"b1": 0.8, "b2": 0.999, "eps": 0.5}])
def test_stable_adamw(options):
    agree(gx.stable_adamw(0.03, **options), transcribed(stable_adamw, lr=0.03, **options))


def test_stable_adamw_clips_what_adamw_does_not():
    tx, plain = gx.stable_adamw(0.03, weight_decay=0.0), gx.adamw(0.03, b2=0.99, eps=1e-6, weight_decay=0.0)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(weights(tx).values(), weights(plain).values(), strict=True))


def test_stable_adamw_decays_where_the_mask_says():
    masked = weights(gx.stable_adamw(0.03, mask={"w": True, "b": False}))
    close(masked["w"], transcribed(stable_adamw, lr=0.03)["w"], rtol=1e-10)
    close(masked["b"], transcribed(stable_adamw, lr=0.03, wd=0.0)["b"], rtol=1e-10)


def mars_gradient(g, last, b1, gamma):
    """c_t of `update_fn` in the authors' optimizers/mars.py, with is_approx and optimize_1d."""
    c = (g - last) * (gamma * (b1 / (1 - b1))) + g
    norm = np.linalg.norm(c)
    return c / norm if norm > 1 else c


def mars(w, lr, b1=0.95, b2=0.99, eps=1e-8, wd=0.0, gamma=0.025, zero_start=False):
    """`update_fn` of the authors' optimizers/mars.py, type mars-adamw; `zero_start` is their first step."""
    m, v, t, last = np.zeros_like(w), np.zeros_like(w), 0, None
    while True:
        g = yield w
        t += 1
        c = mars_gradient(g, g * (not zero_start) if last is None else last, b1, gamma)
        last = g
        m = b1 * m + (1 - b1) * c
        v = b2 * v + (1 - b2) * c * c
        denominator = (np.sqrt(v) / np.sqrt(1 - b2**t) + eps) * (1 - b1**t)
        w = w - lr * (wd * w + m / denominator)


@pytest.mark.parametrize("options", [{}, {"b1": 0.8, "b2": 0.9, "eps": 0.1, "gamma": 0.3}])
def test_mars(options):
    agree(gx.mars(0.03, **options), transcribed(mars, lr=0.03, **options))
    agree(gx.mars(0.03, weight_decay=0.1, **options), transcribed(mars, lr=0.03, wd=0.1, **options))


def test_mars_has_nothing_to_correct_at_first():
    g = jnp.asarray([0.3, -0.4])
    updates, _ = trajectory(gx.reduce_variance(b1=0.5, gamma=0.1), g, jnp.stack([g, g, -g]))
    close(updates, jnp.stack([g, g, -1.2 * g]))


def test_mars_from_the_second_step_on_is_the_authors():
    """Only the first correction differs, and clipping hides the difference: both have norm 1."""
    start = {name: 10 * w for name, w in START.items()}
    agree(gx.mars(0.03), transcribed(mars, start, lr=0.03, zero_start=True), start=start)


def mars_lion(w, lr, b1=0.95, b2=0.99, gamma=0.025):
    """MARS's gradient in front of Lion's update (Chen et al., 2023)."""
    m, last = np.zeros_like(w), None
    while True:
        g = yield w
        c = mars_gradient(g, g if last is None else last, b1, gamma)
        last = g
        w = w - lr * np.sign(b1 * m + (1 - b1) * c)
        m = b2 * m + (1 - b2) * c


def test_mars_before_another_method():
    sign = gx.chain(gx.reduce_variance(0.95), gx.lion(0.01, b1=0.95, b2=0.99, weight_decay=0.0))
    agree(sign, transcribed(mars_lion, lr=0.01))


def test_mars_without_gamma_and_limit_leaves_gradients_as_they_are():
    tx = gx.reduce_variance(gamma=0.0, max_norm=float("inf"))
    g = jnp.asarray([3.0, -4.0])
    for max_norm, expected in ((float("inf"), g), (10.0, g), (1.0, g / 5), (0.0, g * 0)):
        tx = tx.replace(max_norm=max_norm)
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], expected, rtol=1e-15)


def ftrl_of_the_paper(w, alpha, beta, l1, l2):
    """Algorithm 1 of the paper, entry by entry; the weights follow from z and n alone."""
    z, n = np.zeros_like(w), np.zeros_like(w)
    while True:
        g = yield w
        w = w.copy()
        for i in np.ndindex(w.shape):
            sigma = (np.sqrt(n[i] + g[i] ** 2) - np.sqrt(n[i])) / alpha
            z[i] += g[i] - sigma * w[i]
            n[i] += g[i] ** 2
            shrunk = z[i] - np.sign(z[i]) * l1
            w[i] = 0.0 if abs(z[i]) <= l1 else -shrunk / ((beta + np.sqrt(n[i])) / alpha + l2)


ZEROS = {name: np.zeros(shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("l1", [0.0, 3.0])
@pytest.mark.parametrize("l2", [0.0, 0.4])
def test_ftrl_of_the_paper(l1, l2):
    tx = gx.ftrl(
        0.3,
        beta=1.0,
        initial_accumulator_value=0.0,
        l1_regularization_strength=l1,
        l2_regularization_strength=l2 / 2,
    )
    expected = transcribed(ftrl_of_the_paper, ZEROS, alpha=0.3, beta=1.0, l1=l1, l2=l2)
    agree(tx, expected, start=ZEROS)
    if l1:
        assert sum((x == 0).sum() for x in expected.values()) > 0
        close(jax.tree.map(lambda x: x == 0, weights(tx, ZEROS)), jax.tree.map(lambda x: x == 0, expected))


def ftrl_of_keras(w, lr, power=-0.5, n0=0.1, l1=0.0, l2=0.0, beta=0.0):
    """`update_step` of keras/src/optimizers/ftrl.py."""
    n, linear = np.full_like(w, n0), np.zeros_like(w)
    l2 = l2 + beta / (2 * lr)
    while True:
        g = yield w
        new_n = n + g * g
        linear = linear + g - (new_n**-power - n**-power) / lr * w
        quadratic = new_n**-power / lr + 2 * l2
        w = (np.clip(linear, -l1, l1) - linear) / quadratic
        n = new_n


@pytest.mark.parametrize(
    ("power", "n0", "l1", "l2", "beta"),
    [(-0.5, 0.1, 0.0, 0.0, 0.0), (-0.5, 0.1, 2.0, 0.3, 1.0), (-0.3, 0.01, 2.0, 0.0, 0.5), (0.0, 0.1, 0.5, 0.1, 5.0)],
)
def test_ftrl_of_keras(power, n0, l1, l2, beta):
    tx = gx.ftrl(0.2, power, n0, l1, l2, beta)
    agree(tx, transcribed(ftrl_of_keras, ZEROS, lr=0.2, power=power, n0=n0, l1=l1, l2=l2, beta=beta), start=ZEROS)


def test_ftrl_keeps_its_start_and_its_weights_when_the_rate_falls():
    """The published algorithms forget the start; without penalties gradtx's FTRL is AdaGrad, whatever the start and
    rate."""
    rate = gx.exponential_decay(0.3, 20, 0.5)
    close(
        weights(gx.ftrl(rate, initial_accumulator_value=0.2)),
        weights(gx.adagrad(rate, initial_accumulator_value=0.2, eps=0.0)),
        rtol=1e-10,
        atol=1e-12,
    )
    assert np.abs(transcribed(ftrl_of_keras, lr=1e-3)["w"][0]).max() < 0.9 * np.abs(START["w"]).max()
    still = gx.ftrl(0.0, l1_regularization_strength=1.0)
    p = jnp.asarray([1.0, -2.0, 0.0])
    np.testing.assert_array_equal(still.update(jnp.asarray([5.0, 0.0, 3.0]), still.init(p), p)[0], np.zeros(3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_ftrl_zeros_are_exact(dtype):
    tx = gx.ftrl(0.5, l1_regularization_strength=100.0)
    p = jnp.asarray([0.1, -0.3, 1 / 3, 1e-4], dtype)
    updates, _ = tx.update(jnp.asarray([0.1, 0.7, -0.3, 0.2], dtype), tx.init(p), p)
    np.testing.assert_array_equal(np.asarray(p + updates, "float64"), np.zeros(4))
