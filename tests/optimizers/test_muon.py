"""Matrix methods: Muon against optax on every view, stacks against single matrices, GaLore against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import gradtx as gx
from gradtx.linalg.newton_schulz import orthogonalize, triples
from tests.cases import close, stack, trajectory

SHAPES = {"a": (4, 6), "b": (6, 4), "c": {"kernel": (2, 3, 5)}, "d": (2, 2, 3, 4), "e": (4, 6)}
IS_SHAPE = {"is_leaf": lambda x: type(x) is tuple}
NUMBERS = {
    "a": (0, 1),
    "b": (1, 0),
    "c": {"kernel": ((0,), (1, 2))},
    "d": ((0, 1, 2), -1),
    "e": (0, 1),
}


def tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape)), SHAPES, **IS_SHAPE)


PARAMS, GRADS = tree(0), stack([tree(i + 1) for i in range(4)])
OURS = jax.tree.map(lambda x: gx.WeightDimensionNumbers(*x), NUMBERS, **IS_SHAPE)
THEIRS = jax.tree.map(lambda x: optax.contrib.MuonDimensionNumbers(*x), NUMBERS, **IS_SHAPE)


@pytest.mark.one_in(8)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"nesterov": False, "preconditioning": "spectral"},
        {"preconditioning": "aol", "ns_steps": 3},
        {"adaptive": True, "beta": 0.5},
    ],
    ids=str,
)
def test_parity_of_every_view(arguments):
    def updates(lib, numbers, tx):
        state, found = tx.init(PARAMS), []
        for t in range(4):
            u, state = tx.update(jax.tree.map(lambda g, t=t: g[t], GRADS), state, PARAMS)
            found.append(u)
        return found

    ours = gx.scale_by_muon(weight_dimension_numbers=OURS, eps=1e-8, **arguments)  # optax's eps
    theirs = optax.contrib.scale_by_muon(weight_dimension_numbers=THEIRS, **arguments)
    found, expected = jax.jit(lambda: (updates(gx, OURS, ours), updates(optax, THEIRS, theirs)))()
    close(found, expected, rtol=1e-9, atol=1e-12)


def test_parity_of_the_optimizer_with_routing():
    ours = {**OURS, "a": None}
    theirs = {**THEIRS, "a": None}
    settings = {"weight_decay": 0.1, "consistent_rms": 0.2, "adam_learning_rate": 0.05}
    a = gx.muon(0.1, eps=1e-8, muon_weight_dimension_numbers=ours, **settings)
    b = optax.contrib.muon(0.1, muon_weight_dimension_numbers=theirs, **settings)

    def updates(tx):
        state, g = tx.init(PARAMS), jax.tree.map(lambda g: g[0], GRADS)
        first, state = tx.update(g, state, PARAMS)
        return first, tx.update(g, state, PARAMS)[0]

    close(*jax.jit(lambda: (updates(a), updates(b)))(), rtol=1e-9, atol=1e-12)


def test_default_routing_by_path_and_shape():
    shapes = {
        "Embed_0": {"embedding": (9, 4)},
        "encoder": {"attention_heads": {"kernel": (4, 2, 2)}, "mlp": {"kernel": (4, 8), "bias": (8,)}},
        "model.embed_tokens": (9, 4),
        "wte": (9, 4),
        "Conv_0": {"kernel": (3, 3, 2, 4)},
        "MultiHeadDotProductAttention_0": {"query": {"kernel": (4, 2, 2)}},
        "lm_head": {"kernel": (4, 9)},
        "headed": (4, 4),
    }
    params = jax.tree.map(jnp.zeros, shapes, **IS_SHAPE)
    labels = gx.muon_labels()(params)
    taken = {
        jax.tree_util.keystr(p, simple=True, separator="/") for p, x in jax.tree.leaves_with_path(labels) if x == "muon"
    }
    assert taken == {
        "encoder/attention_heads/kernel",
        "encoder/mlp/kernel",
        "Conv_0/kernel",
        "MultiHeadDotProductAttention_0/query/kernel",
        "headed",
    }
    state = gx.muon(0.1).init(params)  # a group has no state for another's leaves
    assert set(state.inner_states["muon"][0].mu) == taken


def test_equal_shapes_are_one_stack():
    """All matrices of a shape share one iteration, with the same results as separate iterations."""
    matrices = [jnp.asarray(np.random.default_rng(i).normal(size=(6, 4))) for i in range(5)]
    tx = gx.scale_by_muon(ns_steps=5)
    together = tx.update(matrices, tx.init(matrices))[0]
    close(together, [tx.update(x, tx.init(x))[0] for x in matrices], rtol=1e-12, atol=1e-15)
    products = str(jax.make_jaxpr(tx.update)(matrices, tx.init(matrices))).count("dot_general")
    assert products == 5 * 3  # three products a step, of one stack


def test_many_matrices_share_the_kernels_that_divide_their_stack():
    """Slices at static positions would be separate kernels; runs under `vmap` slice at the same positions."""
    rng = np.random.default_rng(0)
    sizes = [1, 3, 1, 2, 1, 1, 1, 1, 1]
    grads = [jnp.asarray(rng.normal(size=(2, n, 3, 2))) for n in sizes]
    tx = gx.scale_by_muon(ns_steps=1, weight_dimension_numbers=gx.WeightDimensionNumbers(-2, -1))
    one = [g[0] for g in grads]
    jaxpr = str(jax.make_jaxpr(tx.update)(one, tx.init(one)))
    assert jaxpr.count(" dynamic_slice[") == len(sizes)
    assert " split[" not in jaxpr
    state = jax.vmap(tx.init)(grads)  # with a count for each run
    updates = jax.jit(jax.vmap(tx.update))(grads, state)[0]
    alone = gx.scale_by_muon(ns_steps=1)
    for u, g in zip(updates, grads, strict=True):
        u, g = u.reshape(-1, 3, 2), g.reshape(-1, 3, 2)
        close(u, jnp.stack([alone.update(x, alone.init(x))[0] for x in g]), rtol=1e-12, atol=1e-15)


def test_a_stack_may_be_sharded():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 6)))
    numbers = gx.WeightDimensionNumbers(1, 2)  # the first axis counts matrices
    tx = gx.scale_by_muon(weight_dimension_numbers=numbers)
    step = jax.jit(lambda g: tx.update(g, tx.init(g))[0])
    sharded = step(jax.device_put(x, NamedSharding(mesh, PartitionSpec("x"))))
    assert sharded.sharding.spec == PartitionSpec("x")
    np.testing.assert_allclose(sharded, step(x), rtol=1e-12)


def test_newton_schulz_orthogonalizes():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 4)))
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    close(orthogonalize(x, [(1.5, -0.5, 0.0)] * 30), jnp.asarray(u @ vh), rtol=1e-10)
    values = np.linalg.svd(orthogonalize(x, [(3.4445, -4.775, 2.0315)] * 5), compute_uv=False)
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    rounded = orthogonalize(x, [(3.4445, -4.775, 2.0315)] * 5, dtype="bfloat16")
    assert rounded.dtype == x.dtype
    values = np.linalg.svd(rounded, compute_uv=False)
    assert (values > 0.5).all()
    assert (values < 1.4).all()


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_galore_is_its_algorithm(shape):
    rank, gap, b1, b2 = 2, 3, 0.9, 0.999
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(shape[0], rank)), rng.normal(size=(rank, shape[1]))
    grads = [left @ right + 0.1 * rng.normal(size=shape) for _ in range(7)]
    tall, expected, m, v = shape[0] >= shape[1], [], 0, 0
    for t, g in enumerate(grads, 1):
        if (t - 1) % gap == 0:
            u, _, vh = np.linalg.svd(g, full_matrices=False)
            p = u[:, :rank] if tall else vh[:rank].T
        low = p.T @ g if tall else g @ p
        m, v = b1 * m + (1 - b1) * low, b2 * v + (1 - b2) * low**2
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        expected.append(0.5 * (p @ step if tall else step @ p.T))
    tx = gx.scale_by_galore(rank, gap, scale=0.5)
    close(trajectory(tx, jnp.zeros(shape), jnp.asarray(grads))[0], jnp.asarray(expected), rtol=1e-9, atol=1e-12)


def test_galore_leaves_what_is_no_matrix():
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3), "t": jnp.ones((2, 2, 2)), "n": None}
    tx = gx.scale_by_galore(rank=1, base_optimizer=gx.scale(2.0))
    updates, state = tx.update(params, tx.init(params))
    assert state.projector["b"] is state.projector["t"] is None
    assert (updates["b"] == 2).all()
    assert (updates["t"] == 2).all()


def test_galore_hands_extra_arguments_to_its_base():
    """Except arguments with the parameters' shapes: `grad` is left out, and an argument only for the base raises."""
    seen = {}

    def look(updates, state, params=None, *, value, grad=None, hessian_diag=None):
        seen.update(value=value, grad=grad, hessian_diag=hessian_diag)
        return updates, state

    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    tx = gx.scale_by_galore(rank=1, base_optimizer=gx.GradientTransformation(lambda params: gx.EmptyState(), look))
    state = tx.init(params)
    tx.update(params, state, value=2.0, grad=params, hessian_diag=0.5)
    assert seen == {"value": 2.0, "grad": None, "hessian_diag": 0.5}
    with pytest.raises(TypeError, match="hessian_diag has the shapes of the full parameters"):
        tx.update(params, state, value=2.0, hessian_diag=params)
    plateau = gx.scale_by_galore(rank=1, base_optimizer=gx.reduce_on_plateau(0.5, patience=1))
    with pytest.raises(ValueError, match="needs `value`"):
        plateau.update(params, plateau.init(params))
    plateau.update(params, plateau.init(params), value=1.0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gx.scale_by_muon(ns_coeffs=(1.0, 2.0)), "ns_coeffs must be three numbers"),
        (lambda: gx.scale_by_muon(ns_coeffs="best"), "one of 'standard', 'dion', 'polar_express', 'cans'"),
        (lambda: gx.scale_by_muon(ns_coeffs="dion", ns_steps=3), "5 triples for ns_steps=3"),
        (lambda: gx.scale_by_muon(ns_steps=0), "ns_steps must be an integer of at least 1"),
        (lambda: gx.scale_by_muon(preconditioning="none"), "preconditioning must be one of 'frobenius'"),
        (lambda: gx.scale_by_shape(consistent_rms=-1.0), "consistent_rms must be None or a positive number"),
        (lambda: gx.scale_by_galore(rank=0), "rank must be an integer of at least 1"),
        (
            lambda: gx.scale_by_muon(weight_dimension_numbers=gx.WeightDimensionNumbers(0, 2)).init(
                {"w": jnp.ones((2, 2))}
            ),
            r"at \['w'\].*does not fit an array of shape \(2, 2\)",
        ),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(ValueError, match=match):
        call()


PRECONDITIONINGS = ["frobenius", "spectral", "aol", "schatten"]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_update_does_not_depend_on_the_unit_of_the_gradient(preconditioning, dtype):
    g = jax.random.normal(jax.random.key(0), (8, 6), dtype)
    for tx in (gx.scale_by_muon(preconditioning=preconditioning), gx.muon(0.1, preconditioning=preconditioning)):
        unit = tx.update(g, tx.init(g), g * 0)[0]
        for scale in (1e-30, 1e-12, 1e-9, 1e-3, 1e12, 1e30):
            found = tx.update(g * scale, tx.init(g), g * 0)[0]
            tolerance = {"float32": 1e-3, "float64": 1e-12}[dtype]
            np.testing.assert_allclose(found, unit, rtol=tolerance, atol=tolerance * float(jnp.abs(unit).max()))


@pytest.mark.one_in(20)
@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("floor", [False, True])
def test_zeros_stay_zeros(preconditioning, eps, floor):
    """Zero gradients give zero updates, with finite derivatives."""
    tx = gx.scale_by_muon(preconditioning=preconditioning, eps=eps, eps_is_floor=floor)
    for shape in ((4, 3), (3, 4), (1, 1)):
        zeros = jnp.zeros(shape)
        np.testing.assert_array_equal(tx.update(zeros, tx.init(zeros))[0], zeros)
        slope = jax.grad(lambda g, tx=tx: jnp.sum(tx.update(g, tx.init(g))[0]))(zeros)
        assert bool(jnp.isfinite(slope).all())


def test_an_eps_that_is_a_floor_is_one():
    """As in PyTorch, a gradient whose norm is below `eps` gives a smaller update."""
    g = jax.random.normal(jax.random.key(0), (8, 6))
    tx = gx.scale_by_muon(eps_is_floor=True, eps=1e-7)
    size = gx.tree.norm(tx.update(g, tx.init(g))[0])
    small = gx.tree.norm(tx.update(g * 1e-12, tx.init(g))[0])
    assert 0 < small < 0.5 * size


@pytest.mark.parametrize("name", ["dion", "polar_express", "cans"])
def test_the_published_sets_come_nearer_to_the_polar_factor(name):
    """No singular value from 1e-3 to 1 ends further from 1 than with Jordan's coefficients."""
    values = np.geomspace(1e-3, 1, 200)

    def mapped(rows):
        x = values
        for a, b, c in rows:
            x = a * x + b * x**3 + c * x**5
        return x

    error = np.abs(mapped(triples("test", name, 5)) - 1).max()
    assert error < np.abs(mapped(triples("test", "standard", 5)) - 1).max()
    if name != "dion":
        assert np.abs(mapped(triples("test", name, 9)) - 1).max() < {"polar_express": 1e-12, "cans": 0.05}[name]
        assert triples("test", name, 9)[-1] == triples("test", name, 20)[-1]


def test_polar_express_is_its_greedy_minimax_problem():
    """Algorithm 1's first polynomial oscillates evenly on [0.02407, 1], the paper's cushion, centred for [1e-3, 1]."""
    a, b, c = np.asarray(triples("test", "polar_express", 1)[0]) * 1.01 ** np.array([1, 3, 5])
    inner = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a])))
    cushion, peak, dip, end, least = (a * x + b * x**3 + c * x**5 for x in (0.02407327424182761, *inner, 1.0, 1e-3))
    np.testing.assert_allclose([dip, peak, least], [cushion, end, 2 - end], rtol=1e-6)


def test_the_fallback_has_its_own_rate_eps_decay_and_mask():
    params = {"w": jnp.ones((3, 3)), "embed": jnp.ones((4, 3)), "b": jnp.ones(3)}
    zeros, grads = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.ones_like, params)
    tx = gx.muon(
        0.1, weight_decay=0.5, adam_weight_decay=0.25, adam_learning_rate=0.01, adam_mask=gx.select.path("embed")
    )
    found = tx.update(zeros, tx.init(params), params)[0]
    close(found, {"w": params["w"] * -0.05, "embed": params["embed"] * -0.0025, "b": zeros["b"]}, rtol=1e-12)
    for settings, eps in (({}, 1e-8), ({"eps": 1.0}, 1.0), ({"eps": 1.0, "adam_eps": 3.0}, 3.0)):
        tx = gx.muon(0.1, adam_learning_rate=0.01, nesterov=False, **settings)
        found = tx.update(grads, tx.init(params), params)[0]
        np.testing.assert_allclose(found["b"], -0.01 / (1 + eps), rtol=1e-9)
    with pytest.raises(ValueError, match="muon: adam_eps must be in"):
        gx.muon(0.1, adam_eps=-1.0)
    with pytest.raises(ValueError, match="matches no leaf"):
        gx.muon(0.1, adam_mask=gx.select.path("nothing")).init(params)


VIEWS = {
    "fused qkv": (
        (4, 3, 2, 5),
        gx.WeightDimensionNumbers(0, 3),
        lambda x: [x[:, i, j] for i in range(3) for j in (0, 1)],
    ),
    "heads of the output": ((2, 5, 4), gx.WeightDimensionNumbers(1, 2), list),
    "scanned layers": ((3, 4, 6), gx.WeightDimensionNumbers(1, 2), list),
    "convolution": ((3, 2, 4, 5), gx.WeightDimensionNumbers((0, 1, 2), 3), lambda x: [x.reshape(24, 5)]),
    "PyTorch's convolution": ((5, 4, 3, 2), gx.WeightDimensionNumbers((1, 2, 3), 0), lambda x: [x.reshape(5, 24).T]),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_the_matrices_one_by_one(name):
    shape, numbers, cut = VIEWS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    tx = gx.scale_by_muon(weight_dimension_numbers=numbers)
    found = cut(tx.update(x, tx.init(x))[0])
    single = gx.scale_by_muon()
    close(found, [single.update(m, single.init(m))[0] for m in cut(x)], rtol=1e-9, atol=1e-12)


def test_depthwise_convolutions_go_to_the_fallback_by_their_numbers():
    params = {"conv": jnp.ones((3, 3, 4, 8)), "depthwise": jnp.ones((3, 3, 1, 8))}

    def numbers(tree):
        wide = {path: x.shape[2] > 1 for path, x in tree.items()}
        return {path: gx.WeightDimensionNumbers((0, 1, 2), 3) if wide[path] else None for path in tree}

    tx = gx.muon(0.1, muon_weight_dimension_numbers=numbers)
    assert tx.param_labels(params) == {"conv": "muon", "depthwise": "adam"}
    tx.update(params, tx.init(params), params)
