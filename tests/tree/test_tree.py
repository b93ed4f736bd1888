"""`gx.tree`: parity with optax in float64, corner cases that optax 0.2.8 gets wrong, fields, `map_params`."""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.libraries import GRADTX


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array


def tree(seed, *, real=False, dtype="float64"):
    """A tree with a dict, a NamedTuple, None, a scalar, an empty and a complex leaf."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    last = draw(2, 2) if real else draw(2, 2) + 1j * draw(2, 2)
    return {"a": draw(3), "b": Pair(draw(2, 3), None), "c": [draw(), jnp.zeros((0, 2), dtype)], "d": last}


A, B, C = tree(0), tree(1), tree(2)
R, S = tree(3, real=True), tree(4, real=True)
COUNTS = {"a": jnp.arange(5), "b": (jnp.ones(2, jnp.int32), None)}
NOT_NONE = {"a": jnp.ones(3), "b": None}
KEY = jax.random.key(7)

CALLS = {
    "add": [(A, B), (A, B, C, A), (COUNTS, COUNTS), (1.5, 2)],
    "sub": [(A, B), (COUNTS, COUNTS)],
    "mul": [(A, B), (A, R)],
    "div": [(A, B), (COUNTS, COUNTS)],
    "scale": [(0.3, A), (jnp.float32(0.3), A), (2, COUNTS), (1j, R)],
    "add_scale": [(A, 0.3, B), (NOT_NONE, 2.0, NOT_NONE), (None, 1, R), (3, 0.1, 2)],
    "allclose": [(A, A), (A, B), (A, gx.tree.scale(1 + 1e-7, A)), (A, B, 10.0, 10.0), ({}, {})],
    "batch_shape": [(A,), (A, (4, 2))],
    "bias_correction": [(A, 0.9, 3), (A, 0.0, 1), (A, jnp.float64(0.999), jnp.int32(1000))],
    "cast": [(A, None), (R, "float32"), (COUNTS, "float64"), (R, jnp.bfloat16)],
    "cast_like": [(R, gx.tree.cast(R, "float32")), (A, A), ({"a": jnp.ones(2)}, {"a": 1.0})],
    "clip": [(R, -0.5, 0.5), (R, None, 0.1), (R, 0.1), (COUNTS, 1, 3)],
    "conj": [(A,), (COUNTS,)],
    "div ": [(R, S)],
    "dtype": [
        (R,),
        (A, "promote"),
        ({},),
        (COUNTS, "promote"),
        ({"a": jnp.ones(1, "bfloat16"), "b": A["a"]}, "lowest"),
    ],
    "full_like": [(A, 2.5), (R, 1, "float32")],
    "max": [(R,), ({},), (COUNTS,)],
    "min": [(R,), ({},), (COUNTS,)],
    "norm": [(A,), (A, 2), (A, 1), (A, jnp.inf), (A, "inf"), (A, None, True), (A, 1, True), (R, np.inf, True), ({},)],
    "ones_like": [(A,), (R, "float32")],
    "random_like": [(KEY, R), (KEY, A), (KEY, R, jax.random.uniform), (KEY, R, jax.random.normal, "float32")],
    "real": [(A,)],
    "size": [(A,), ({},)],
    "split_key_like": [(KEY, A)],
    "sum": [(A,), (R,), (R, True), ({},), (COUNTS,)],
    "unwrap_random_key_data": [({"key": KEY, "count": 3},)],
    "update_infinity_moment": [(A, gx.tree.real(B), 0.9, 1e-8), (NOT_NONE, NOT_NONE, 0.5, 0.0), (None, R, 1, 1)],
    "update_moment": [(A, B, 0.9, 1), (A, B, 0.9, 2), (R, S, jnp.float64(0.9), 3), (None, R, 1, 1)],
    "update_moment_per_elem_norm": [(A, gx.tree.real(B), 0.9, 2), (A, gx.tree.real(B), 0.9, 4), (None, R, 1, 1)],
    "vdot": [(A, B), (R, S), ({}, {}), (COUNTS, COUNTS), (A, R), (R, A)],
    "where": [(True, A, B), (jnp.asarray(False), A, B), (jnp.asarray(True), R, A)],
    "zeros_like": [(A,), (R, "float32"), (COUNTS,)],
}
IN_STATES = {"get", "get_all_with_path", "set", "map_params"}
PARAMETERS = [(name.strip(), i, args) for name, calls in CALLS.items() for i, args in enumerate(calls)]


def plain(x):
    return gx.tree.unwrap_random_key_data(x)


def test_every_function_of_optax_is_here_with_its_arguments():
    theirs = {name for name in vars(optax.tree) if not name.startswith("_")}
    assert theirs | {"NamedTupleKey"} <= set(gx.tree.__all__)
    assert theirs <= {name.strip() for name in CALLS} | IN_STATES
    for name in theirs:
        mine, other = (
            inspect.signature(inspect.unwrap(getattr(lib, name))).parameters for lib in (gx.tree, optax.tree)
        )
        for a, b in zip(mine.values(), other.values(), strict=False):
            assert (a.kind, a.default) == (b.kind, b.default), name
            assert a.name == b.name or a.kind is a.POSITIONAL_ONLY, name
        assert all(a.kind is a.KEYWORD_ONLY and a.default is None for a in list(mine.values())[len(other) :]), name


@pytest.mark.one_in(6)
@pytest.mark.parametrize(("name", "i", "args"), PARAMETERS, ids=lambda x: str(x) if not isinstance(x, tuple) else "")
def test_optax_agrees_in_float64(name, i, args):
    found, expected = plain(getattr(gx.tree, name)(*args)), plain(getattr(optax.tree, name)(*args))
    if name == "dtype":
        assert found == expected
        return
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)
        assert np.shape(x) == np.shape(y)
        if not (name in ("max", "min", "sum", "vdot", "norm") and args[0] in ({}, COUNTS)):
            assert jnp.result_type(x) == jnp.result_type(y)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_computed_in_float32(dtype):
    x = {"a": jnp.full(3000, 100, dtype), "b": None}
    for number in (gx.tree.sum(x), gx.tree.norm(x, 1), gx.tree.vdot(x, x), gx.tree.norm(x), gx.tree.norm(x, np.inf)):
        assert number.dtype == jnp.float32
    np.testing.assert_allclose(gx.tree.sum(x), 300_000)
    np.testing.assert_allclose(gx.tree.norm(x, 1), 300_000)
    np.testing.assert_allclose(gx.tree.vdot(x, x), 3e7)
    one, small = jnp.ones(1, dtype), jnp.full(1, jnp.finfo(dtype).eps / 2, dtype)
    assert gx.tree.add(one, small, small)[0] == 1 + jnp.finfo(dtype).eps  # rounded once
    assert optax.tree.add(one, small, small)[0] == 1


def test_what_is_finite_stays_finite():
    large = jnp.full(1, jnp.finfo("float16").max, "float16")
    for name, *args in (
        ("add", large, large),
        ("scale", 3, large),
        ("mul", large, large),
        ("add_scale", large, 2.0, large),
        ("update_moment", large, large, 0.9, 2),
        ("update_infinity_moment", large, large, 0.9, large[0]),
        ("sum", [large, large]),
        ("vdot", large, large),
        ("norm", [large, large]),
    ):
        found, theirs = getattr(gx.tree, name)(*args), getattr(optax.tree, name)(*args)
        assert np.isfinite(found).all(), name
        assert np.isinf(theirs).all(), name
        assert found.dtype == (theirs.dtype if found.shape else jnp.float32), name
    assert gx.tree.sub(large, large)[0] == 0


def test_a_cast_saturates_and_leaves_infinity_visible():
    found = gx.tree.cast({"a": jnp.array([1e6, jnp.inf, jnp.nan])}, "float16")["a"]
    np.testing.assert_array_equal(found, [65504, np.inf, np.nan])
    assert np.isinf(optax.tree.cast({"a": jnp.array([1e6])}, "float16")["a"][0])
    state = {"key": KEY, "x": 1.0}
    assert gx.tree.cast(state, "float32")["key"] is KEY


def test_corners_that_optax_gets_wrong():
    large = {"a": jnp.full(2, 3e200)}
    np.testing.assert_allclose(gx.tree.norm(large), 3e200 * np.sqrt(2))
    assert np.isinf(optax.tree.norm(large))
    np.testing.assert_allclose(gx.tree.norm({"a": jnp.full(2, 3e-200)}), 3e-200 * np.sqrt(2))
    assert optax.tree.norm({"a": jnp.full(2, 3e-200)}) == 0
    assert gx.tree.norm({}, np.inf) == 0
    assert optax.tree.norm({}, np.inf) == -np.inf
    assert np.all(jax.grad(gx.tree.norm)(jnp.zeros(2)) == 0)
    assert np.all(np.isnan(jax.grad(optax.tree.norm)(jnp.zeros(2))))
    most = jnp.array([1.5e308, 1.5e308, -1.5e308])  # partial sums leave the range
    np.testing.assert_allclose(gx.tree.sum({"a": most}), 1.5e308)
    assert np.isinf(optax.tree.sum({"a": most}))
    assert np.isinf(gx.tree.sum(jnp.array([1.0, jnp.inf])))
    assert np.isnan(gx.tree.sum(jnp.array([1.0, jnp.nan])))
    counts = {"a": jnp.array([2**53, 2**53 + 1])}
    assert int(gx.tree.max(counts)) == 2**53 + 1
    assert int(optax.tree.max(counts)) == 2**53
    bytes_ = jnp.array([100, 100], jnp.int8)
    assert int(gx.tree.vdot(bytes_, bytes_)) == 20_000
    assert int(optax.tree.vdot(bytes_, bytes_)) != 20_000
    assert gx.tree.bias_correction(jnp.zeros(1), 0.9, jnp.int32(0))[0] == 0
    assert np.isnan(optax.tree.bias_correction(jnp.zeros(1), 0.9, jnp.int32(0))[0])
    tiny = 1 - 2**-20  # 1 - decay^count cancels
    moment = jnp.ones(1, "float32")
    found = gx.tree.bias_correction(moment, tiny, jnp.int32(1))[0]
    np.testing.assert_allclose(found, 2**20, rtol=1e-6)
    assert np.isfinite(gx.tree.update_moment(jnp.array([1e200]), jnp.zeros(1), 0.9, 2))
    assert np.isinf(optax.tree.update_moment(jnp.array([1e200]), jnp.zeros(1), 0.9, 2))
    # Of a real number optax takes the power, not that of the modulus.
    np.testing.assert_allclose(gx.tree.update_moment_per_elem_norm(-jnp.ones(1), jnp.zeros(1), 0.5, 3), 0.5)
    np.testing.assert_allclose(optax.tree.update_moment_per_elem_norm(-jnp.ones(1), jnp.zeros(1), 0.5, 3), -0.5)
    nested = {"a": 1, "x": {"y": {"a": 2}}}
    assert gx.tree.set(nested, a=5) == {"a": 5, "x": {"y": {"a": 5}}}
    assert optax.tree.set(nested, a=5) == {"a": 5, "x": {"y": {"a": 2}}}


def test_shapes_stand_for_arrays():
    shapes = {"a": jax.ShapeDtypeStruct((2,), "float32"), "b": None}
    for made in (gx.tree.zeros_like(shapes), gx.tree.ones_like(shapes), gx.tree.random_like(KEY, shapes)):
        assert (made["a"].shape, made["a"].dtype) == ((2,), jnp.float32)
    assert gx.tree.size(shapes) == 2
    assert gx.tree.dtype(shapes) == jnp.float32


def test_derivatives_and_jit():
    for f in (gx.tree.norm, gx.tree.sum, lambda x: gx.tree.norm(x, 1), lambda x: gx.tree.norm(x, np.inf)):
        slopes = jax.jit(jax.grad(f))(R)
        step = gx.tree.add_scale(R, 1e-6, S)
        np.testing.assert_allclose(f(step) - f(R), 1e-6 * gx.tree.vdot(slopes, S), rtol=1e-4)
    moments = jax.jit(gx.tree.update_moment, static_argnums=3)(A, B, 0.9, 2)
    assert gx.tree.allclose(moments, gx.tree.update_moment(A, B, 0.9, 2))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gx.tree.add({"a": 1.0}, {"b": 1.0}), "add: the tree of tree_y is not the tree of tree_x"),
        (lambda: gx.tree.add(R, R, {}), r"add: the tree of other_trees\[0\] is not"),
        (lambda: gx.tree.where(True, R, {}), "where: the tree of tree_y"),
        (lambda: gx.tree.allclose(R, {}), "allclose: the tree of b"),
        (lambda: gx.tree.vdot(jnp.ones(2), jnp.ones(1)), r"vdot: .* tree_y has shape \(1,\)"),
        (lambda: gx.tree.cast_like(R, {}), "cast_like: the tree of other_tree|cast_like: the tree of tree"),
        (lambda: gx.tree.norm(R, 3), "norm: ord must be None, 1, 2 or inf, got 3"),
        (lambda: gx.tree.norm(R["a"], (0,)), r"write axes=\(1,\)"),
        (lambda: gx.tree.norm(R["a"], 1, axes=(0,)), "axes is for the Euclidean norm"),
        (lambda: gx.tree.clip(A, 0, 1), r"clip: at \['d'\] tree is complex"),
        (lambda: gx.tree.dtype(A), "dtype: the leaves of tree have several dtypes: float64 at"),
        (lambda: gx.tree.dtype(A, "widest"), "mixed_dtype_handler must be one of"),
        (
            lambda: gx.tree.dtype([jnp.ones(1, "int32"), jnp.ones(1, "uint32")], "highest"),
            "none of the dtypes of tree is the highest",
        ),
        (lambda: gx.tree.map_params(gx.adam(0.1), lambda x: x, gx.sgd(0.1).init(R)), "the state must be"),
        (lambda: gx.tree.map_params(3, lambda x: x, ()), "map_params: expected a transformation or its init"),
    ],
)
def test_errors(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


# --- fields of states

PARAMS = {"mu": jnp.ones((2, 3)), "count": {"nu": jnp.ones(3), "learning_rate": None, "hyperparams": jnp.ones(())}}
ONLY_MU, DEEPER = {"mu": True, "count": False}, {"mu": 2}
LABELS = {"mu": "wide", "count": "rest"}
STATEFUL = {
    "chain": gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1)),
    "masked": gx.masked(gx.adam(0.1), gx.select.path("mu")),
    "partition": gx.partition({"wide": gx.adam(0.1), "rest": gx.sgd(0.1, momentum=0.9)}, LABELS),
    "nested": gx.masked(gx.partition({2: gx.adam(0.1), 0: gx.scale(1.0)}, gx.lookup_by_path(DEEPER)), ONLY_MU),
    "inject": gx.inject_hyperparams(gx.adam)(learning_rate=0.1, b1=gx.linear_schedule(0.9, 0.8, 4)),
    "scheduled": gx.adam(0.1, b1=gx.linear_schedule(0.9, 0.8, 4)),
    "accumulate": gx.accumulate(gx.adam(0.1), 2),
    "lookahead": gx.lookahead(gx.adam(0.1), 3, 0.5),
    "schedule_free": gx.schedule_free(gx.scale_by_adam(), 0.1, 0.9),
    "lbfgs": gx.lbfgs(),
    "flatten": gx.flatten(gx.adam(0.1)),
    "stored": gx.stored(gx.adam(0.1), "bfloat16", min_size=0),
    "named": gx.named_chain(("first", gx.adam(0.1)), ("second", gx.scale(0.5))),
    "if_finite": gx.apply_if_finite(gx.adam(0.1), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEFUL)
def test_no_parameter_is_taken_for_a_field(name):
    """A parameter with the name of a field does not change which fields are found."""
    tx = STATEFUL[name]
    renamed = {"mu": jnp.ones((2, 3)), "count": {"y": jnp.ones(3), "x": None, "z": jnp.ones(())}}
    for key in ("count", "nu", "learning_rate", "hyperparams"):
        found = [path for path, _ in gx.tree.get_all_with_path(tx.init(PARAMS), key)]
        assert found == [path for path, _ in gx.tree.get_all_with_path(tx.init(renamed), key)]
    mus = gx.tree.get_all_with_path(tx.init(PARAMS), "mu")
    assert all(isinstance(path[-1], gx.tree.NamedTupleKey) and path[-1].name == "mu" for path, _ in mus)
    assert len(mus) == (name != "lbfgs")
    assert gx.tree.get(tx.init(PARAMS), "b1") is None or name in ("inject", "schedule_free")


@pytest.mark.one_in(8)
@pytest.mark.parametrize("name", STATEFUL)
def test_one_count_is_found_where_all_agree(name):
    tx = STATEFUL[name]
    params = jax.tree.map(jnp.copy, PARAMS)
    state = tx.init(params)
    extra = {}
    if name == "lbfgs":
        value = lambda p: gx.tree.norm(p, squared=True)  # noqa: E731
        extra = {"value": value(params), "grad": jax.grad(value)(params), "value_fn": value}
    for _ in range(2):
        _, state = tx.update(extra.get("grad", PARAMS), state, params, **extra)
    assert int(gx.tree.get(state, "count")) == (1 if name == "accumulate" else 2)
    assert int(jax.jit(lambda state: gx.tree.get(state, "count"))(state)) == int(gx.tree.get(state, "count"))
    again = gx.tree.set(state, count=7)
    assert jax.tree.map(jnp.result_type, again) == jax.tree.map(jnp.result_type, state)
    assert int(gx.tree.get(again, "count")) == 7
    tx.update(extra.get("grad", PARAMS), again, params, **extra)  # still a state


def test_counts_that_differ_are_listed():
    state = gx.chain(gx.scale_by_adam(), gx.trace(0.9)).init(PARAMS)
    state = gx.tree.set(state, lambda path, _: path[-1].tuple_name == "TraceState", count=3)
    assert [int(x) for _, x in gx.tree.get_all_with_path(state, "count")] == [0, 3]
    with pytest.raises(KeyError) as error:
        gx.tree.get(state, "count")
    assert "[0]ScaleByAdamState.count = 0" in error.value.args[0]
    assert "[1]TraceState.count = 3" in error.value.args[0]
    found = gx.tree.get(state, "count", filtering=lambda path, _: path[-1].tuple_name == "TraceState")
    assert int(found) == 3
    with pytest.raises(KeyError, match="2 fields are called 'mu'"):
        gx.tree.get(gx.chain(gx.scale_by_adam(), gx.scale_by_adam()).init(PARAMS), "mu")


def test_what_is_found():
    state = STATEFUL["inject"].init(PARAMS)
    assert float(gx.tree.get(state, "learning_rate")) == pytest.approx(0.1)
    assert gx.tree.get(state, "ScaleByAdamState") is state.inner_state[0]
    assert gx.tree.get(state, "hyperparams") is state.hyperparams
    assert gx.tree.get(state, "apple", 7.0) == 7.0
    assert gx.tree.get(state, "mu") is state.inner_state[0].mu
    groups = STATEFUL["partition"].init(PARAMS)
    assert gx.tree.get(groups, "trace") is groups.inner_states["rest"][0].trace
    assert gx.tree.get(groups, "wide") is groups.inner_states["wide"]
    named = STATEFUL["named"].init(PARAMS)
    assert gx.tree.get(named, "first") is named["first"]
    assert gx.tree.get(gx.adam(0.1), "b1") == 0.9  # a dataclass
    assert gx.tree.get_all_with_path(jnp.ones(2), "count") == []
    outer = gx.tree.get_all_with_path({"a": {"a": 1.0}}, "a")
    assert outer == optax.tree.get_all_with_path({"a": {"a": 1.0}}, "a")
    info = gx.tree.get(STATEFUL["lbfgs"].init(PARAMS), "num_linesearch_steps")
    assert info.shape == ()


def test_what_optax_finds_in_its_states_is_found():
    tx = optax.chain(optax.inject_hyperparams(optax.adam)(0.1), optax.add_noise(1.0, 0.9, 0))
    state = tx.init(jnp.ones(2))
    for key in ("count", "mu", "learning_rate", "AddNoiseState", "inner_state", "rng_key"):
        mine, other = (lib.tree.get_all_with_path(state, key) for lib in (gx, optax))
        assert [jax.tree_util.keystr(path) for path, _ in mine] == [jax.tree_util.keystr(path) for path, _ in other]
        assert all(x is y for (_, x), (_, y) in zip(mine, other, strict=True))
    mine, other = (lib.tree.set(state, learning_rate=0.5, b1=jnp.float32(0.3)) for lib in (gx, optax))
    assert gx.tree.allclose(plain(mine), plain(other))


def test_set():
    state = STATEFUL["inject"].init(PARAMS)
    new = gx.tree.set(state, learning_rate=2, b2=jnp.float64(0.5))
    assert new.hyperparams["learning_rate"].dtype == state.hyperparams["learning_rate"].dtype
    assert float(new.hyperparams["b2"]) == 0.5
    assert new.inner_state[0].mu is state.inner_state[0].mu
    assert gx.tree.set(state, ScaleByAdamState=None).inner_state[0] is None
    moments = gx.tree.set(state, mu=PARAMS)
    assert moments.inner_state[0].mu is PARAMS
    assert float(gx.tree.get(gx.tree.set(gx.adam(0.1), b1=0.5), "b1")) == 0.5
    with pytest.raises(KeyError, match=r"no field is called 'ema'. There are: b1, .*count, .*mu, nu"):
        gx.tree.set(state, ema=1.0)
    with pytest.raises(
        KeyError, match=r"filtering is false for every field that is called 'mu': .*ScaleByAdamState.mu"
    ):
        gx.tree.set(state, lambda path, value: False, mu=1.0)
    with pytest.raises(KeyError, match="no field is called 'nothing'"):  # a parameter is not a field
        gx.tree.set(gx.adam(0.1).init({"nothing": jnp.ones(1)}), nothing=1.0)


@pytest.mark.parametrize("name", STATEFUL)
def test_map_params_goes_by_the_declared_kinds(name):
    """`f` gets the arrays per parameter, each with the name of its parameter; the other function gets the others."""
    tx = STATEFUL[name]
    state = tx.init(PARAMS)
    names = jax.tree.unflatten(jax.tree.structure(PARAMS), ["count/hyperparams", "count/nu", "mu"])
    found = gx.tree.map_params(tx, lambda x, name: (name, x.shape), state, names, transform_non_params=lambda x: None)
    shapes = {"mu": (2, 3), "count/nu": (3,), "count/hyperparams": ()}
    rows = [r for r in gx.describe(tx, PARAMS).rows if r.kind == "per parameter" and name != "flatten"]
    expected = sorted((row.path, shapes[row.path]) for row in rows)
    items = jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str))
    assert sorted(items) == expected
    same = gx.tree.map_params(tx, lambda x: x, state)
    assert all(x is y for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(same), strict=True))
    assert jax.tree.structure(same) == jax.tree.structure(state)
    by_init = gx.tree.map_params(tx.init, lambda x: x + 1, state)
    assert gx.tree.allclose(by_init, gx.tree.map_params(tx, lambda x: x + 1, state))


def test_map_params_of_others():
    """optax's transformations, functions, this library's inside of optax's, and optax's inside of this one's."""
    specs = {"mu": "M", "count": {"nu": "N", "learning_rate": None, "hyperparams": "H"}}
    adam = optax.adam(0.1)
    for tx in (
        adam,
        optax.chain(gx.adam(0.1), adam),
        gx.chain(adam, gx.adam(0.1)),
        gx.masked(adam, ONLY_MU),
    ):
        state = tx.init(PARAMS)
        by_group = isinstance(tx, gx.partition)
        of_params = {"mu": "M"} if by_group else specs
        for given in (tx, tx.init) if not isinstance(tx, gx.GradientTransformation) else (tx,):
            found = gx.tree.map_params(given, lambda _, spec: spec, state, specs, transform_non_params=lambda _: 0)
            mus = gx.tree.get_all_with_path(found, "mu", lambda path, _: isinstance(path[-1], gx.tree.NamedTupleKey))
            assert mus
            assert all(mu == of_params for _, mu in mus)
            assert {x for x in jax.tree.leaves(found) if not isinstance(x, str)} == {0}
    theirs = optax.tree.map_params(adam, lambda _, spec: spec, adam.init(PARAMS), specs)
    assert str(gx.tree.map_params(adam, lambda _, spec: spec, adam.init(PARAMS), specs)) == str(theirs)
    dicts = gx.tree.map_params(lambda p: {"count": jnp.zeros(()), "mu": p}, lambda x: 1, {"count": 3, "mu": PARAMS})
    assert dicts["count"] == 3
    assert dicts["mu"]["mu"] == 1
    factored = gx.adafactor(0.1, min_dim_size_to_factor=2)
    for made in (factored, lambda params: factored.init(params)):
        found = gx.tree.map_params(made, lambda x: 1 / 0, factored.init(PARAMS))
        assert jax.tree.structure(found) == jax.tree.structure(factored.init(PARAMS))


def test_map_params_with_complex_parts_and_points():
    params = {"z": jnp.ones(2, complex), "x": jnp.ones(2)}
    tx = gx.split_real_and_imaginary(gx.scale_by_adam())
    found = gx.tree.map_params(tx, lambda _, spec: spec, tx.init(params), {"z": "Z", "x": "X"})
    assert found.mu == {"z": gx.SplitRealAndImaginaryArrays("Z", "Z"), "x": "X"}
    problem = gx.lagrangian(lambda x: jnp.sum(x**2), inequality=lambda x: 1 - jnp.sum(x))
    tx, point = gx.primal_dual(gx.adam(0.1), gx.adam(0.5)), problem.init(jnp.zeros(2))
    names = jax.tree.map(lambda x: str(x.shape), point)
    found = gx.tree.map_params(tx, lambda _, name: name, tx.init(point), names)
    assert found.inner_state[0].mu == "(2,)"
    assert found.dual_state[0].mu["inequality"] == "()"
    tx = STATEFUL["masked"]
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="rest has nothing at mu"):
        gx.tree.map_params(tx, lambda x, spec: x, state, {"other": 1})


@pytest.mark.heavy
def test_every_method_of_the_library():
    """For all cases: no parameter is taken for a field, and `map_params` maps the arrays that `describe` calls per
    parameter."""
    shapes = {"mu": jax.ShapeDtypeStruct((4, 4), "float64"), "count": jax.ShapeDtypeStruct((4,), "float64")}
    others = {"x": shapes["mu"], "y": shapes["count"]}
    seen = 0
    for case in GRADTX.cases():
        tx = GRADTX.make(case.expression)
        if (
            not isinstance(tx, gx.GradientTransformation)
            or "'deep'" in case.expression
            or case.constructor == "primal_dual"
        ):
            continue  # a mask of another tree, and a transformation of points
        state, renamed = (jax.eval_shape(tx.init, params) for params in (shapes, others))
        for key in ("mu", "count", "x", "y"):
            found, expected = ([p for p, _ in gx.tree.get_all_with_path(s, key)] for s in (state, renamed))
            assert found == expected, case
        mapped = []
        gx.tree.map_params(
            tx, lambda x, name, mapped=mapped: mapped.append((name, x.shape)), state, {k: k for k in shapes}
        )
        rows = [
            (row.path, row.shape) for row in gx.describe(tx, shapes).rows if row.kind == "per parameter" and row.path
        ]
        if "stored(" not in case.expression:  # `describe` shows the parts of what is stored, `map_params` the arrays
            # GaLore's inner transformation sees different shapes.
            assert sorted(mapped) == ([] if "galore" in case.expression else sorted(rows)), case
        seen += 1
    assert seen > 350


def test_leaves_of_map_params():
    """`is_leaf` says which nodes `f` gets as a whole."""
    tx = gx.scale_by_adam()
    params = {"pair": Pair(jnp.ones(2), jnp.ones(2))}
    found = gx.tree.map_params(tx, lambda x: type(x), tx.init(params), is_leaf=lambda x: isinstance(x, Pair))
    assert found.mu == {"pair": Pair}
