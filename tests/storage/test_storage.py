"""Storage formats: their accuracy, bytes and memory, and runs on one and on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx as gx
from gradtx.testing.subject import LAWS
from tests.cases import close, draw
from tests.drawn import is_drawn

STORAGE = gx.storage
NAMED = [name for name in STORAGE.NAMES if name != "host"]
SIGNED = [name for name in NAMED if not name.startswith("u")]
FORMATS = {name: STORAGE.NAMES[name] for name in NAMED} | {
    "linear int8": STORAGE.quantized(8, codebook="linear"),
    "linear uint4": STORAGE.quantized(4, signed=False, codebook="linear"),
    "drawn int8": STORAGE.quantized(8, stochastic=True),
    "nearest int4": STORAGE.quantized(4, size=32),
    "stochastic": STORAGE.stochastic("bfloat16"),
}
SHAPES = [(), (1,), (5,), (17,), (100,), (3, 130), (4, 1000), (7, 3, 3), (2, 257)]


def kept(form, x, clock=0):
    """Returns the array after storing and loading, and its stored form."""
    bits = (jnp.full(x.shape, clock, jnp.uint32),) if form.draws else ()
    parts = form.encode(x, *bits)
    return form.decode(parts, x.shape), parts


def normal(shape, form, seed=0):
    """Returns random numbers of many sizes, without negative numbers for unsigned formats."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=shape) * np.exp(2 * rng.normal(size=shape)), jnp.float32)
    return x if getattr(form, "signed", True) else jnp.abs(x)


# --- digits


def bound(form, x, largest):
    """Returns the largest error of each entry that the documentation of a format allows."""
    size = np.abs(x)
    if isinstance(form, STORAGE.quantized):
        n, k = form.most, {"linear": 1, "quadratic": 2, "dynamic": 4}[form.codebook]
        q, away = n * (size / largest) ** (1 / k), 1.001 if form.stochastic else 0.501
        up, down = (q + away) ** k - q**k, q**k - np.maximum(q - away, 0) ** k
        return np.maximum(np.maximum(up, down), 0 if form.signed else 1) * 1.001 * largest / n**k
    if isinstance(form, STORAGE.float8):
        digits, span = (4, 2.0**-13) if form.to == "float8_e4m3fn" else (3, 2.0**-28)
        return np.maximum(size, largest * span) * 2.0**-digits
    if isinstance(form, STORAGE.corrected):
        return size * 2.0**-16 if form.bits == 8 else np.zeros_like(size)
    digits = {"bfloat16": 8, "float16": 11}[form.to.name] - form.draws
    return np.maximum(size, float(jnp.finfo(form.to).tiny)) * 2.0**-digits


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", FORMATS)
def test_every_entry_keeps_the_accuracy_that_is_promised(name):
    """Also in a block with an entry that is a thousand times larger than all other entries."""
    form = FORMATS[name]
    x = np.array(normal((6, 128), form))
    x[3, 40] = 1e3 * np.abs(x).max()
    x /= x[3, 40]
    found, _ = kept(form, jnp.asarray(x))
    assert np.all(np.abs(found - x) <= bound(form, x, np.abs(x).max(axis=-1, keepdims=True)))
    assert not np.array_equal(found, x) or name == "bf16+16"


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "shape", [pytest.param(s, marks=[] if s == (2, 257) else pytest.mark.heavy) for s in SHAPES], ids=str
)
def test_what_was_stored_before_is_stored_alike(name, shape):
    """Storing a stored array again changes nothing, so skipped steps do not let the state drift."""
    form = FORMATS[name]
    once, parts = kept(form, normal(shape, form))
    assert once.shape == shape
    assert once.dtype == jnp.float32
    twice, again = kept(form, once, clock=12345)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), (once, parts), (twice, again)))


@pytest.mark.one_in(9)
@pytest.mark.parametrize("name", FORMATS)
def test_bad_values_stay_visible(name):
    form = FORMATS[name]
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        found, _ = kept(form, jnp.asarray([1.0, bad, 2.0], jnp.float32))
        assert not np.isfinite(found[1]), bad
        alone = np.isfinite(found[jnp.array([0, 2])])
        assert np.all(alone == (found[jnp.array([0, 2])] != 0)) or not alone.any(), bad


@pytest.mark.one_in(9)
@pytest.mark.parametrize("name", FORMATS)
def test_corners_of_the_range(name):
    """Zeros stay zeros, the largest numbers stay finite, and no small number becomes large."""
    form = FORMATS[name]
    assert np.all(kept(form, jnp.zeros((3, 40), jnp.float32))[0] == 0)
    big, parts = kept(form, jnp.asarray([3.4028235e38, 3.3e38, 1.0], jnp.float32))
    assert np.all(np.isfinite(big))
    assert all(np.all(np.isfinite(np.asarray(x, np.float32))) for x in jax.tree.leaves(parts))
    assert big[0] >= 4e37 or name == "float16"
    tiny = jnp.asarray([1e-45, 1e-40, 2e-38], jnp.float32)
    assert np.all(np.abs(kept(form, tiny)[0]) <= 4e-38), kept(form, tiny)[0]


@pytest.mark.one_in(9)
@pytest.mark.parametrize("name", FORMATS)
def test_positive_numbers_stay_positive(name):
    """A second moment that is rounded to zero would make a step explode."""
    form = FORMATS[name].unsigned()
    x = jnp.asarray([1.0, *10.0 ** -np.arange(1.0, 30)], jnp.float32)
    found, _ = kept(form, x)
    assert np.all(found > 0)
    assert kept(form, jnp.zeros(3, jnp.float32))[0][0] == 0


# --- stochastic rounding


@pytest.mark.parametrize("to", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("fraction", [0.1, 0.3712, 0.5, 0.93])
def test_the_mean_of_many_draws_is_right(to, fraction):
    """Over 100,000 entries, and over 100,000 steps of one entry, for numbers between two representable neighbors."""
    step = float(jnp.finfo(to).eps)
    value = float(np.float32(1.0 + fraction * step))
    form = STORAGE.stochastic(to, seed=3)
    packed = STORAGE.Packed.of(form, jnp.full(100_000, value, jnp.float32), "entries")
    draws = packed.store(jnp.full(100_000, value, jnp.float32)).load()
    assert set(np.unique(draws)) == {1.0, 1.0 + np.float32(step)}
    assert abs(float(np.mean(np.asarray(draws, np.float64))) - value) / step < 3e-5

    def one(packed, _):
        packed = packed.store(jnp.full((2,), value, jnp.float32))
        return packed, packed.load()

    _, steps = jax.jit(lambda p: jax.lax.scan(one, p, length=100_000))(
        STORAGE.Packed.of(form, jnp.zeros(2, jnp.float32), "steps")
    )
    means = np.mean(np.asarray(steps, np.float64), axis=0)
    assert np.all(np.abs(means - value) / step < 3e-5)


def test_stochastic_rounding_keeps_small_changes():
    """A second moment with a decay rate of 0.999 follows its gradient; with rounding to nearest it would not move."""
    ends = {}
    for name in ("bfloat16", STORAGE.stochastic("bfloat16")):
        tx = gx.stored(gx.scale_by_rms(decay=0.999, initial_scale=1.0), name, min_size=0)
        g = jnp.full(64, 0.5, jnp.float32)
        state = tx.init(g)
        state, _ = jax.lax.scan(lambda s, _, tx=tx, g=g: (tx.update(g, s)[1], None), state, length=3000)
        ends[str(name)] = np.asarray(state.nu.load())
    exact = 0.25 + 0.75 * 0.999**3000
    nearest, random = ends.values()
    assert np.all(np.abs(random / exact - 1) < 0.04)
    assert np.all(nearest > 1.5 * exact)


@pytest.mark.parametrize("codebook", ["dynamic", "quadratic", "linear"])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_mean_of_drawn_codes_is_right(bits, codebook):
    form = STORAGE.quantized(bits, codebook=codebook, stochastic=True)
    x = normal((2, 128), form) / 100

    def one(packed, _):
        packed = packed.store(x)
        return packed, packed.load()

    _, found = jax.lax.scan(one, STORAGE.Packed.of(form, x, ""), length=4000)
    step = np.max(np.abs(x), axis=-1, keepdims=True) * (1 - (1 - 1 / form.most) ** 4)
    assert np.all(np.abs(np.mean(np.asarray(found, np.float64), axis=0) - x) < 2e-3 * step)


def test_seeds_leaves_and_steps_draw_otherwise():
    x = jnp.full(1000, 1.003, jnp.float32)
    one = STORAGE.Packed.of(STORAGE.stochastic("bfloat16"), x, "a")
    others = [
        STORAGE.Packed.of(STORAGE.stochastic("bfloat16"), x, "b"),
        STORAGE.Packed.of(STORAGE.stochastic("bfloat16", seed=1), x, "a"),
        one.store(x),
    ]
    assert np.array_equal(one.parts, STORAGE.Packed.of(STORAGE.stochastic("bfloat16"), x, "a").parts)
    for other in others:
        assert 0 < np.sum(np.asarray(one.parts != other.parts)) < 900


# --- bytes and memory


@pytest.mark.parametrize(
    ("formats", "most"),
    [
        ({"mu": "int8", "nu": "uint8"}, 2.10),
        ("int8", 2.10),
        ("int4", 1.15),
        ("bf16+8", 6.0),
        ("bf16+16", 8.0),
        ("float8_e4m3fn", 2.10),
        ("float8_e5m2", 2.10),
        ("bfloat16", 4.0),
    ],
)
def test_bytes_per_parameter(formats, most):
    shape = jax.ShapeDtypeStruct
    params = {
        "a": shape((1000, 500), "float32"),
        "b": shape((512, 768), "float32"),
        "c": shape((3, 3, 64, 192), "float32"),
    }
    n = sum(np.prod(p.shape) for p in jax.tree.leaves(params))
    description = gx.describe(gx.stored(gx.adamw(1e-3), formats), params)
    assert description.nbytes - 12 <= most * n
    state = jax.eval_shape(gx.stored(gx.adamw(1e-3), formats).init, params)
    assert description.plain_nbytes == 8 * n + 12
    assert description.nbytes == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


@pytest.mark.parametrize("formats", ["int8", "int4", "float8_e4m3fn"])
def test_no_float32_copy_of_a_slot_is_alive(formats):
    tx = gx.stored(gx.adamw(1e-3), formats)
    p = {"w": jnp.zeros((256, 1024), jnp.float32)}
    step = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=(1,)).lower(p, tx.init(p), p)
    memory = step.compile({"xla_backend_optimization_level": "2"}).memory_analysis()
    assert memory.temp_size_in_bytes < 4 * p["w"].size


def test_codes_have_the_shape_of_the_parameter():
    params = {"w": jnp.ones((8, 300), jnp.float32), "b": jnp.ones(7, jnp.float32)}
    state = gx.stored(gx.trace(0.9), "int8", min_size=8).init(params)
    assert isinstance(state.trace["b"], jax.Array)  # below min_size
    assert {name: x.shape for name, x in state.trace["w"].parts.items()} == {"codes": (8, 300), "scale": (8, 3)}
    half = gx.stored(gx.trace(0.9), "int4", min_size=8).init(params).trace["w"]
    assert half.parts["codes"].shape == (8, 150)  # two to a byte
    assert (half.shape, half.dtype, half.ndim) == ((8, 300), jnp.float32, 2)


# --- which arrays


def test_rules_fields_and_unsigned_forms():
    params = {"embed": jnp.ones((4, 8)), "head": jnp.ones((8, 4)), "norm": jnp.ones(8)}
    select = gx.select
    tx = gx.stored(
        gx.adamw(1e-3),
        [
            (select.path("norm"), None),
            (select.path("embed"), {"mu": "int4"}),
            (select.everything(), "int8"),
        ],
        min_size=0,
    )
    state = tx.init(params)[0]
    assert isinstance(state.mu["norm"], jax.Array)
    assert isinstance(state.nu["embed"], jax.Array)
    assert state.mu["embed"].format == STORAGE.NAMES["int4"]
    assert state.mu["head"].format == STORAGE.quantized(8)
    assert state.nu["head"].format == STORAGE.quantized(8, signed=False)
    assert eval(repr(tx), vars(gx)) == tx
    assert tx.replace(min_size=5).min_size == 5


@pytest.mark.parametrize(
    ("formats", "error", "text"),
    [
        ("int7", TypeError, "formats must be a format: one of 'bfloat16'"),
        (STORAGE.rounded, TypeError, "formats is the class rounded; write rounded"),
        ({"mu": 8}, TypeError, r"formats\['mu'\] must be a format"),
        ([(lambda tree: tree, "int8")], TypeError, "a rule of formats must begin with a selector"),
        ([("mu",)], TypeError, "each rule of formats must be a pair"),
        ({"momentum": "int8"}, ValueError, "names 'momentum', but no state inside has a field"),
        ({"mu": "uint8"}, ValueError, "mu at w can be negative"),
        ([(gx.select.path("v"), "int8")], ValueError, "matches no leaf"),
    ],
)
def test_formats_that_do_not_fit_are_refused(formats, error, text):
    with pytest.raises(error, match=text):
        gx.stored(gx.adam(1e-3), formats, min_size=0).init({"w": jnp.ones(8)})


def test_complex_leaves_are_refused():
    with pytest.raises(TypeError, match="mu at w is complex, but formats store real numbers only"):
        gx.stored(gx.adam(1e-3), "int8", min_size=0).init({"w": jnp.ones(8, complex)})


def test_a_state_of_other_formats_is_refused():
    params = {"w": jnp.ones((4, 8))}
    state = gx.stored(gx.adam(1e-3), "int8", min_size=0).init(params)
    with pytest.raises(ValueError, match=r"stored\.update: the state does not fit"):
        gx.stored(gx.adam(1e-3), "int4", min_size=0).update(params, state, params)


# --- converting


@pytest.mark.one_in(12)
@pytest.mark.parametrize("name", [*SIGNED, "stochastic"])
def test_a_run_changes_its_format_in_the_middle(name):
    params, tx = draw(0, "float32"), gx.adamw(0.1)
    small = gx.stored(tx, FORMATS[name], min_size=0)
    _, state = tx.update(draw(1, "float32"), tx.init(params), params)
    there = gx.convert_state(tx, state, small)
    assert jax.tree.structure(there) == jax.tree.structure(small.init(params))
    u, there = small.update(draw(2, "float32"), there, params)
    expected, _ = tx.update(draw(2, "float32"), state, params)
    close(u, expected, rtol=0.1, atol={"int4": 0.05}.get(name, 0.01))
    back = gx.convert_state(small, there, tx)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    tx.update(draw(3, "float32"), back, params)


def test_a_converted_state_draws_as_a_fresh_one():
    params = draw(0, "float32")
    tx = gx.stored(gx.trace(0.9), FORMATS["stochastic"], min_size=0)
    fresh, converted = tx.init(params), gx.convert_state(gx.trace(0.9), gx.trace(0.9).init(params), tx)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), fresh, converted))


def test_states_that_cannot_be_converted_are_refused():
    params = draw(0, "float32")
    adam, small = gx.adam(0.1), gx.stored(gx.adam(0.1), "int8", min_size=0)
    with pytest.raises(ValueError, match="the state does not fit tx_a"):
        gx.convert_state(small, adam.init(params), adam)
    with pytest.raises(ValueError, match="the state does not fit tx_b"):
        gx.convert_state(adam, adam.init(params), gx.sgd(0.1, momentum=0.9))
    groups = gx.masked(adam, gx.select.path("w"))
    with pytest.raises(ValueError, match="the tree of the parameters cannot be found from this state"):
        gx.convert_state(groups, groups.init(params), gx.stored(groups, "int8", min_size=0))
    there = gx.convert_state(groups, groups.init(params), gx.stored(groups, "int8", min_size=0), params)
    gx.stored(groups, "int8", min_size=0).update(params, there, params)


# --- what else reads or makes states


def test_averages_are_read_from_stored_states():
    params = {"w": jnp.full((4, 8), 1.5, jnp.float32)}
    tx = gx.stored(gx.ema_params(gx.sgd(0.1), 0.9), {"average": "bf16+16"}, min_size=0)
    np.testing.assert_array_equal(gx.averaged_params(tx.init(params))["w"], params["w"])
    tx = gx.stored(gx.schedule_free_sgd(0.1), {"z": "bf16+16"}, min_size=0)
    close(gx.schedule_free_eval_params(tx.init(params), params), params, rtol=1e-6)


@pytest.mark.parametrize(
    "tx",
    [
        gx.lookahead(gx.sgd(0.1, momentum=0.9), 2, 0.5, reset_state=True),
        gx.sam(gx.sgd(0.1, momentum=0.9), gx.sgd(0.1, momentum=0.5), reset_state=True),
        gx.apply_if_finite(gx.adam(0.1)),
        gx.accumulate(gx.adam(0.1), 2),
        gx.partition({"a": gx.adam(0.1), "b": gx.sgd(0.1, momentum=0.9)}, {"w": "a", "deep": "b"}),
    ],
    ids=lambda tx: type(tx).__name__,
)
def test_wrappers_pass_packed_slots_on(tx):
    """In a lossless format, four steps equal the steps with the ordinary state."""
    params, kept_as = draw(0, "float32"), gx.stored(tx, "bf16+16", min_size=0)
    a, b = tx.init(params), kept_as.init(params)
    for i in range(4):
        g = draw(i + 1, "float32")
        u, a = tx.update(g, a, params)
        v, b = kept_as.update(g, b, params)
        close(v, u, rtol=1e-5, atol=1e-7)
    assert jax.tree.structure(b) == jax.tree.structure(kept_as.init(params))


def test_packed_arrays_are_arrays_to_jax_numpy():
    x = STORAGE.Packed.of(STORAGE.corrected(16), jnp.arange(3, dtype=jnp.float32), "")
    np.testing.assert_array_equal(jnp.asarray(x), [0, 1, 2])
    assert "storage.corrected(bits=16)" in repr(x)


class counted(STORAGE.Format, draws=True):
    """A user-defined format that keeps integers, rounded by the random bits that it gets."""

    def encode(self, x, bits):
        return {"whole": jnp.floor(x + (bits >> 8).astype(jnp.float32) / 2**24).astype(jnp.int32), "n": jnp.int32(7)}

    def decode(self, parts, shape):
        return parts["whole"].astype(jnp.float32).reshape(shape)


def test_a_format_of_ones_own():
    tx = gx.stored(gx.trace(0.0), counted(), min_size=0)
    g = jnp.full((100, 10), 0.25, jnp.float32)
    _, state = tx.update(g, tx.init(g))
    assert state.trace.parts["n"] == 7
    assert abs(float(jnp.mean(jnp.asarray(state.trace))) - 0.25) < 0.01


def test_host_memory():
    params = {"w": jnp.ones((8, 8), jnp.float32)}
    tx, plain = gx.stored(gx.sgd(0.1, momentum=0.9), "host", min_size=0), gx.sgd(0.1, momentum=0.9)
    state = tx.init(params)
    assert state[0].trace["w"].parts.sharding.memory_kind == "pinned_host"
    u, state = jax.jit(tx.update)(params, state)
    u, state = jax.jit(tx.update)(params, state)
    assert state[0].trace["w"].parts.sharding.memory_kind == "pinned_host"
    close(u, plain.update(params, plain.update(params, plain.init(params))[1])[0], rtol=1e-6)


class Device:
    """A device without host memory."""

    def addressable_memories(self):
        return []


def test_a_backend_without_host_memory_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    with pytest.raises(ValueError, match="backend has no pinned host memory"):
        gx.stored(gx.sgd(0.1, momentum=0.9), "host", min_size=0).init({"w": jnp.ones(8, jnp.float32)})


# --- devices


SPECS = [PartitionSpec("x"), PartitionSpec(None, "x")]


@pytest.mark.one_in(15)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", [*SIGNED, "stochastic"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_eight_devices_store_what_one_does(name, spec, kind):
    """Eight devices store the same bits as one device, and stored arrays are sharded like the parameter."""
    tx = gx.stored(gx.adamw(0.1), FORMATS[name], min_size=0)
    rng = np.random.default_rng(0)
    p, *grads = (jnp.asarray(rng.normal(size=(16, 1024)), jnp.float32) for _ in range(4))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    step, state = jax.jit(tx.update), tx.init(p)
    with jax.set_mesh(mesh):
        there = NamedSharding(mesh, spec)
        q = jax.device_put(p, there)
        split = tx.init(q)
        for part in jax.tree.leaves(split[0].mu):
            found = [*part.sharding.spec, None, None][: part.ndim]
            assert found == [*spec, None, None][: part.ndim]
    for g in grads:
        u, state = step(g, state, p)
        with jax.set_mesh(mesh):
            v, split = jax.block_until_ready(step(jax.device_put(g, there), split, q))
        assert np.array_equal(u, v)
        assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), state, split))


# --- the laws, of methods in formats


METHODS = {
    "adamw": (gx.adamw(0.1), None),
    "lion": (gx.lion(0.1), None),
    "muon": (gx.muon(0.1), None),
    "adafactor": (gx.adafactor(0.1, momentum=0.9), None),
    "schedule_free": (gx.schedule_free_adamw(0.1), None),
    "lbfgs": (gx.scale_by_lbfgs(), ("params", "updates", "diff_params_memory", "diff_updates_memory")),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*SIGNED, "stochastic"])
@pytest.mark.parametrize("method", METHODS)
def test_the_laws_hold_in_every_format(method, name):
    """A third of all laws, sampled by name, for every method in every format."""
    tx, fields = METHODS[method]
    laws = [law.name for law in LAWS if law.about != "schedule" and is_drawn(f"{law} of {method} in {name}", 3)]
    formats = FORMATS[name] if fields is None else dict.fromkeys(fields, FORMATS[name])
    unless = {
        "derivatives": "what is stored is rounded, which has no difference quotient",
        "complex": "the formats are real",
        "scope": "entries of a block share a scale, and the place of an entry decides how it is rounded",
        "own steps": "the inner transformation counts the steps that it takes",
    }
    if name == "float16":
        unless["finite"] = "float16 saturates where the gradients do not"
    gx.testing.check(gx.stored(tx, formats, min_size=0), laws=laws, unless=unless).raise_if_broken()
