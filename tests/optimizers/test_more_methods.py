"""Methods that optax does not have equal pytorch_optimizer's recorded steps, or the papers' formulas in NumPy."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import close, trajectory
from tests.record_pytorch_optimizer import ROWS, SHAPES, SLOPE, SQUARE, parts

RECORDED = dict(np.load(pathlib.Path(__file__).parent.parent / "recordings" / "pytorch_optimizer.npz"))
TORCH = gx.WeightDimensionNumbers(1, 0)  # PyTorch's weights are (outputs, inputs)
NUMBERS = {"w": TORCH, "b": None}


def steps(tx, shapes):
    """The parameters after each step of the recorded problem."""

    def tree(row):
        return dict(zip(shapes, parts(jnp.asarray(row), shapes), strict=True))

    def step(carry, noise):
        params, state = carry
        grads = jax.tree.map(lambda p, n: SLOPE * p + n, params, tree(noise))
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)
        return (params, state), jnp.concatenate([params[k].ravel() for k in shapes])

    params = tree(RECORDED["start"])
    return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), RECORDED["noise"])[1])()


def scion(norm):
    return gx.scion(0.1, 0.9, norm, "column", 2.0, 2.0, constrained=True, scion_weight_dimension_numbers=NUMBERS)


OURS = {
    "adagc": lambda: gx.chain(gx.clip_by_past_norm(max_norm=3.0, warmup_steps=4), gx.adam(0.1, eps=1e-12)),
    "adamuon": lambda: gx.matrices_with_adamw(
        gx.chain(
            gx.scale_by_adamuon(
                beta=0.9, nesterov=False, nu_eps=1e-14, sign_momentum=False, weight_dimension_numbers=TORCH
            ),
            gx.scale_by_shape(TORCH, 0.2),
        ),
        0.1,
        weight_dimension_numbers=NUMBERS,
        adam_eps=1e-12,
    ),
    "came": lambda: gx.came(0.1, 0.8, 0.9, 0.95, weight_decay=0.1),
    "fira": lambda: gx.fira(0.1, 2, 99, b1=0.0, b2=0.0, eps=1e-12, fira_weight_dimension_numbers=NUMBERS),
    "grams": lambda: gx.grams(0.1, 0.8, 0.9, eps=1e-3, weight_decay=0.1),
    "grokfast": lambda: gx.chain(gx.grokfast(), gx.adam(0.1, 0.8, 0.9)),
    "normuon": lambda: gx.normuon(0.1, beta=0.9, b2=0.8, adam_b2=0.95, muon_weight_dimension_numbers=NUMBERS),
    "orthograd": lambda: gx.chain(gx.orthograd(), gx.sgd(0.1, momentum=0.9)),
    "sgd_sai": lambda: gx.sgd_sai(0.1, weight_decay=0.1),
    "splus": lambda: gx.splus(0.1, 0.8, 0.9, 4, splus_weight_dimension_numbers=NUMBERS),
    "scion SPECTRAL": lambda: scion("spectral"),
    "scion SIGN": lambda: scion("sign"),
    "scion COL": lambda: scion("column"),
    "scion ROW": lambda: scion("row"),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_steps_of_pytorch_optimizer(name):
    """To 1e-6, because the package adds eps at different places; to 1e-5 if it decomposes matrices in float32."""
    found = steps(OURS[name](), SQUARE if name == "splus" else SHAPES)
    tolerance = 1e-5 if name in ("fira", "splus") else 1e-6
    np.testing.assert_allclose(found, RECORDED[name], rtol=tolerance, atol=tolerance)


# --- the papers in NumPy


def grams(grads, p, b1=0.9, b2=0.999, eps=1e-8):
    m, v = 0, 0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        yield np.sign(g) * np.abs(m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps))


def grokfast(grads, p, alpha=0.98, lamb=2.0):
    h = None
    for g in grads:
        h = g if h is None else alpha * h + (1 - alpha) * g
        yield g + lamb * h


def orthograd(grads, p):
    for g in grads:
        rest = g - np.sum(p * g) / np.sum(p * p) * p
        yield rest * np.linalg.norm(g) / np.linalg.norm(rest)


def sgd_sai(grads, p, beta=0.9, eps=1e-8):
    m = 0
    factor = np.linalg.norm(grads[0])
    factor = factor / (np.std(grads[0], ddof=1) + eps) if p.ndim > 1 else factor
    for g in grads:
        m = beta * m + (1 - beta) * g
        yield factor * m


def adagc(grads, p, rel=1.05, most=1.0, beta=0.98, warmup=4):
    gamma = np.inf
    for t, g in enumerate(grads, 1):
        size = np.linalg.norm(g)
        u = g * min(1, (most if t < warmup else rel * gamma) / size)
        gamma = min(gamma, np.linalg.norm(u)) if t < warmup else beta * gamma + (1 - beta) * np.linalg.norm(u)
        yield u


def adam_mini(grads, p, b1=0.9, b2=0.999, eps=1e-8):
    m, v = 0, 0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.mean(g * g, axis=0 if g.ndim > 1 else None)
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def came(grads, p, b1=0.9, b2=0.999, b3=0.9999, e1=1e-30, e2=1e-16, d=1.0):
    m, r, c, v, rs, cs = 0, 0, 0, 0, 0, 0
    for g in grads:
        square = g * g + e1
        if g.ndim > 1:
            r, c = b2 * r + (1 - b2) * square.mean(1), b2 * c + (1 - b2) * square.mean(0)
            u = g / np.sqrt(np.outer(r, c) / r.mean())
        else:
            v = b2 * v + (1 - b2) * square
            u = g / np.sqrt(v)
        u = u / max(1, np.sqrt(np.mean(u * u)) / d)
        m = b1 * m + (1 - b1) * u
        if g.ndim < 2:
            yield m
            continue
        apart = (u - m) ** 2 + e2
        rs, cs = b3 * rs + (1 - b3) * apart.mean(1), b3 * cs + (1 - b3) * apart.mean(0)
        yield m / np.sqrt(np.outer(rs, cs) / rs.mean())


def adam_of(low, state, t, b1=0.9, b2=0.999, eps=1e-8):
    state[:] = [b1 * state[0] + (1 - b1) * low, b2 * state[1] + (1 - b2) * low * low]
    return state[0] / (1 - b1**t) / (np.sqrt(state[1] / (1 - b2**t)) + eps)


def limited(x, last, growth=1.01):
    size = np.linalg.norm(x)
    if last and size > growth * last:
        return x * (growth * last / size), growth * last
    return x, size


def apollo(grads, p, rank=2, gap=3, scale=1.5, tensor=False):
    """The paper's algorithm, with gradtx's projections."""
    state, last = [0, 0], 0
    for t, g in enumerate(grads, 1):
        w = g if g.shape[0] < g.shape[1] else g.T
        key = jax.random.fold_in(jax.random.key(0), (t - 1) // gap)
        low = np.asarray(jax.random.normal(key, (w.shape[0], rank))).T / np.sqrt(rank) @ w
        adam = adam_of(low, state, t)
        axis = None if tensor else 0
        u, last = limited(w * (np.linalg.norm(adam, axis=axis) / np.linalg.norm(low, axis=axis)), last)
        yield scale * (u if g.shape[0] < g.shape[1] else u.T)


def fira(grads, p, rank=2, gap=3):
    state, last = [0, 0], 0
    for t, g in enumerate(grads, 1):
        w = g if g.shape[0] < g.shape[1] else g.T
        if (t - 1) % gap == 0:
            basis = np.linalg.svd(w, full_matrices=False)[0][:, :rank]
        low = basis.T @ w
        adam = adam_of(low, state, t)
        rest = (w - basis @ low) * (np.linalg.norm(adam, axis=0) / np.linalg.norm(low, axis=0))
        rest, last = limited(rest, last)
        u = basis @ adam + rest
        yield u if g.shape[0] < g.shape[1] else u.T


def splus(grads, p, b1=0.9, b2=0.999, every=4):
    rows, columns = p.shape
    m, left, right, ql, qr = 0, 0, 0, np.eye(rows), np.eye(columns)
    for t, g in enumerate(grads, 1):
        m = b1 * m + (1 - b1) * g
        left, right = b2 * left + (1 - b2) * g @ g.T, b2 * right + (1 - b2) * g.T @ g
        yield ql @ np.sign(ql.T @ m @ qr) @ qr.T * 2 / (rows + columns)
        if t == 1 or t % every == 0:
            ql, qr = np.linalg.eigh(left)[1], np.linalg.eigh(right)[1]


MATRICES = [(4, 6), (6, 4), (5, 5)]
ALL = [*MATRICES[:2], (7,)]
METHODS = {
    "grams": (gx.scale_by_grams(), grams, ALL),
    "grokfast": (gx.grokfast(), grokfast, ALL),
    "orthograd": (gx.orthograd(), orthograd, ALL),
    "sgd_sai": (gx.chain(*gx.sgd_sai(1.0).links[:2]), sgd_sai, ALL),
    "adagc": (gx.clip_by_past_norm(warmup_steps=4), adagc, ALL),
    "adam_mini": (gx.scale_by_adam_mini(), adam_mini, ALL),
    "came": (gx.scale_by_came(), came, ALL),
    "apollo": (gx.scale_by_apollo(2, 3, scale=1.5), apollo, MATRICES),
    "apollo of tensors": (
        gx.scale_by_apollo(1, 3, 1.5, "tensor"),
        lambda grads, p: apollo(grads, p, rank=1, tensor=True),
        MATRICES,
    ),
    "fira": (gx.scale_by_fira(2, 3), fira, MATRICES),
    "splus": (gx.scale_by_splus(interval=4), splus, [(5, 5), (3, 3), (1, 1)]),  # singular factors have many bases
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, (*_, shapes) in METHODS.items() for s in shapes], ids=str)
def test_the_paper_in_numpy(name, shape):
    tx, method, _ = METHODS[name]
    rng = np.random.default_rng(1)
    p, grads = (
        rng.normal(size=shape),
        rng.normal(size=(10, *shape)) * np.geomspace(1, 5, 10).reshape(-1, *[1] * len(shape)),
    )
    found = trajectory(tx, jnp.asarray(p), jnp.asarray(grads))[0]
    np.testing.assert_allclose(found, np.stack(list(method(grads, p))), rtol=1e-8, atol=1e-11)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_corners(name, dtype):
    """Methods recover from zero gradients at the start, and from tiny, huge, rank-one and infinite gradients."""
    tx, *_ = METHODS[name]
    g = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), dtype)
    p = jnp.ones_like(g) + jnp.arange(24).reshape(4, 6)
    run = jax.jit(lambda grads: trajectory(tx, p, grads))
    updates, _ = run(jnp.stack([g * 0, g * 0, g, g, g, g]))
    np.testing.assert_array_equal(updates[:2], 0)
    assert bool((jnp.abs(updates[2:]).max((1, 2)) > 0.03).all()), jnp.abs(updates).max((1, 2))
    for scale in (1e-15, 1e15):
        updates, state = run(jnp.stack([g * scale, g * scale, -g * scale]))
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((updates, state)))
    left, right = np.random.default_rng(1).normal(size=(200, 4, 1)), np.linspace(-1, 1, 6)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(run(jnp.asarray(left * right, dtype))))
    updates, _ = run(jnp.stack([g, g.at[1, 2].set(jnp.inf)]))
    assert not bool(jnp.isfinite(updates[1]).all()) or name in ("grams", "splus")


# --- what each promises besides


@pytest.mark.heavy
def test_adam_mini_by_heads_tokens_and_wholes():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3)))
    for axes, mean in (((-2,), (0, 2)), (0, (1, 2)), ((), (0, 1, 2)), ((0, 1), (2,))):
        tx = gx.scale_by_adam_mini(block_axes=axes)
        expected = g / jnp.sqrt(jnp.mean(g * g, mean, keepdims=True))
        np.testing.assert_allclose(tx.update(g, tx.init(g))[0], expected, rtol=1e-6)
    every = gx.scale_by_adam_mini(block_axes=(0, 1, 2))
    close(every.update(g, every.init(g))[0], gx.scale_by_adam().update(g, gx.scale_by_adam().init(g))[0], rtol=1e-12)
    params = {"tok_embedding": {"w": g}, "query": g, "mlp": g[0], "bias": g[0, 0]}
    labels = gx.adam_mini(0.1, heads=gx.select.path("query")).param_labels(params)
    assert labels == {"tok_embedding": {"w": "tokens"}, "query": "heads", "mlp": "outputs", "bias": "outputs"}
    with pytest.raises(ValueError, match=r"does not have the axes block_axes="):
        gx.scale_by_adam_mini(block_axes=2).init(jnp.ones((2, 2)))


@pytest.mark.parametrize(
    ("tx", "most"),
    [
        (gx.adam_mini(0.1), 1.01),
        (gx.came(0.1), 1.05),
        (gx.apollo(0.1, rank=8), 0.13),
        (gx.apollo_mini(0.1), 0.02),
        (gx.fira(0.1, rank=8), 0.2),
        (gx.sgd_sai(0.1), 1.001),
    ],
    ids=lambda x: str(x)[:20],
)
def test_they_need_less_memory_than_adam(tx, most):
    params = {"w": jax.ShapeDtypeStruct((128, 256), "float32")}
    assert gx.tree.nbytes(jax.eval_shape(tx.init, params)) <= most * gx.tree.nbytes(params)


def test_apollo_draws_another_projection_every_gap():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)))
    tx = gx.scale_by_apollo(rank=1, update_proj_gap=2, b1=0.0, b2=0.0, eps=0.0, growth=float("inf"))
    updates = trajectory(tx, g, jnp.tile(g, (4, 1, 1)))[0]
    close(updates[0], updates[1], rtol=1e-12)
    close(updates[2], updates[3], rtol=1e-12)
    assert float(jnp.abs(updates[1] - updates[2]).max()) > 0.1


def test_an_infinite_gradient_does_not_change_the_norm_that_adagc_remembers():
    tx, g = gx.clip_by_past_norm(warmup_steps=2), jnp.ones(3)
    updates, state = trajectory(tx, g, jnp.stack([g, g * 2, g.at[1].set(jnp.inf), g * jnp.nan, g]))
    assert not bool(jnp.isfinite(updates[2:4]).all((1,)).any())
    close(state.norm[1], state.norm[3], rtol=0)
    assert bool(jnp.isfinite(updates[4]).all())


# --- QK-clip

TX = gx.qk_clip(gx.select.path("**/query"), gx.select.path("**/key"))


def clipped(params, logits, tx=TX, updates=None):
    updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
    new, _ = jax.jit(tx.update)(updates, tx.init(params), params, max_logits=logits)
    return gx.apply_updates(params, new)


def attention(heads=2, kv_heads=2):
    rng = np.random.default_rng(0)
    shapes = {"query": (5, heads, 3), "key": (5, kv_heads, 3), "value": (5, kv_heads, 3)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def logits_of(params, x):
    q, k = (jnp.einsum("nd,dhk->hnk", x, params[name]) for name in ("query", "key"))
    k = jnp.repeat(k, q.shape[0] // k.shape[0], 0)
    return jnp.einsum("hnk,hmk->hnm", q, k).max((1, 2))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("balance", [0.5, 0.0, 1.0])
def test_after_the_clip_no_logit_exceeds_the_threshold(kv_heads, balance):
    params, x = {"a": attention(4, kv_heads)}, jnp.asarray(np.random.default_rng(1).normal(size=(9, 5)))
    before = logits_of(params["a"], x)
    threshold = float(jnp.sort(before)[1]) * 1.01
    tx = TX.replace(threshold=threshold, balance=balance)
    new = clipped(params, {"a": before}, tx)["a"]
    after = logits_of(new, x)
    shared = kv_heads < 4 and balance < 1
    assert bool((after <= threshold * (1 + 1e-9)).all())
    if not shared:  # heads that share keys shrink by the largest logit of their group
        close(after, jnp.minimum(before, threshold), rtol=1e-9)
    close(new["value"], params["a"]["value"], rtol=0)


def test_qk_clip_scales_the_weights_after_the_update_and_leaves_small_logits_alone():
    params = {"a": attention()}
    updates = jax.tree.map(lambda p: jnp.full_like(p, 0.25), params)
    new = clipped(params, jnp.array([50.0, 400.0]), updates=updates)["a"]
    for name, factors in (("query", [1, 0.5]), ("key", [1, 0.5]), ("value", [1, 1])):
        close(new[name], (params["a"][name] + 0.25) * jnp.array(factors)[None, :, None], rtol=1e-12)
    same, _ = TX.update(updates, TX.init(params), params, max_logits=jnp.array([50.0, jnp.nan]))
    close(same, updates, rtol=0)  # exactly


def test_logits_by_path_by_layer_and_of_fused_columns():
    params = {"block_0": attention(), "block_1": attention()}
    new = clipped(params, {"block_1": jnp.array([400.0, 1.0])})
    close(new["block_0"], params["block_0"], rtol=0)
    close(new["block_1"]["key"], params["block_1"]["key"] * jnp.array([0.5, 1.0])[None, :, None], rtol=1e-12)
    scanned = jax.tree.map(lambda x: jnp.stack([x, x, x]), {"a": attention()})
    logits = jnp.ones((3, 2)).at[2, 1].set(400.0)
    new = clipped(scanned, logits)["a"]["query"]
    close(new, scanned["a"]["query"] * jnp.ones((3, 1, 2, 1)).at[2, 0, 1].set(0.5), rtol=1e-12)
    fused = {"a": {"query": params["block_0"]["query"].reshape(5, 6)}}
    tx = gx.qk_clip(gx.select.path("**/query"), head_axis=-1)
    new = clipped(fused, jnp.array([1.0, 1e4]), tx)["a"]["query"]
    close(new, fused["a"]["query"] * jnp.repeat(jnp.array([[1.0, 0.1]]), 3, 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("tx", "logits", "match"),
    [
        (TX, jnp.ones(3), r"max_logits has shape \(3,\), which does not match the leaf a/key"),
        (TX, jnp.ones(()), r"max_logits has shape \(\)"),
        (TX, jnp.ones((3, 2)), r"max_logits has shape \(3, 2\)"),
        (TX, None, "needs `max_logits`"),
        (
            gx.qk_clip(gx.select.path("**/query"), gx.select.path("**/query")),
            jnp.ones(2),
            "both select the leaf a/query",
        ),
        (gx.qk_clip(gx.select.path("**/querry")), jnp.ones(2), "matches no leaf"),
    ],
)
def test_qk_clip_refuses_what_does_not_fit(tx, logits, match):
    params = {"a": attention()}
    with pytest.raises(ValueError, match=match):
        tx.update(params, tx.init(params), params, max_logits=logits)


@pytest.mark.heavy
def test_splus_moves_in_no_direction_of_rounding_errors():
    """For gradients of rank one, the step in the eigenbasis has one entry, whatever the basis of the null space is."""
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.normal(size=(6, 1)) * rng.normal(size=(1, 4)))
    tx = gx.scale_by_splus()
    updates, state = trajectory(tx, g, jnp.tile(g, (3, 1, 1)))
    size = 2 / (6 + 4)
    np.testing.assert_allclose(updates[0], jnp.sign(g) * size, rtol=1e-12)
    u, v = np.linalg.svd(g)[::2]
    np.testing.assert_allclose(updates[1], u[:, :1] * v[:1] * size, rtol=1e-9, atol=1e-12)
    turned = trajectory(tx, g, jnp.tile(g * (1 + 1e-15), (3, 1, 1)))[1]
    for basis, other in ((state.left_basis, turned.left_basis), (state.right_basis, turned.right_basis)):
        np.testing.assert_allclose(jnp.abs(basis[2]), jnp.abs(other[2]), rtol=1e-9, atol=1e-12)
        eye = jnp.eye(basis.shape[-1])
        np.testing.assert_allclose(jnp.swapaxes(basis[2, 0], 0, 1) @ basis[2, 0], eye, atol=1e-12)


@pytest.mark.parametrize("axis", [0.5, "1", None, True])
def test_an_axis_of_heads_is_an_integer(axis):
    with pytest.raises(TypeError, match="qk_clip: head_axis must be an integer"):
        gx.qk_clip(gx.select.path("q"), head_axis=axis)


def test_rotations_of_the_largest_gradients_by_splus_stay_finite():
    tx, top = gx.scale_by_splus(interval=2, b1=0.1), float(jnp.finfo(jnp.float32).max)
    signs = jnp.array([[1.0, -1.0]] * 3, jnp.float32)
    state = tx.init(signs)
    for sign in (1, -1, 1):  # the first step has no bases yet
        updates, state = tx.update(sign * top * signs, state)
        assert jnp.all(jnp.isfinite(updates))
