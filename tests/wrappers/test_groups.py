"""Selectors and groups of leaves: which leaves are selected in every kind of tree, and the error messages."""

import dataclasses
import enum
import inspect
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import gradtx as gx
from gradtx import select
from tests.cases import close, draw
from tests.libraries import GLOSSARY, GRADTX


class Pair(NamedTuple):
    kernel: Any
    bias: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1, name="head")(linen.Dense(3, name="hidden")(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)])


class Affine(eqx.Module):
    """A callable module that fails if it is called with parameters instead of data."""

    kernel: Any
    bias: Any

    def __call__(self, x):
        raise AssertionError("a tree of parameters was called")


def layer(kind=dict):
    return kind(kernel=jnp.ones((2, 3)), bias=jnp.ones(3))


def paths(tree, mask):
    """Returns the paths of the leaves that a mask selects."""
    picked = zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(mask), strict=True)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for (path, _), yes in picked if yes]


# --- selectors


@pytest.mark.parametrize("kind", [dict, Pair, Layer, Affine])
@pytest.mark.parametrize("outer", [list, lambda x: dict(enumerate(x)), tuple])
def test_paths_in_containers(kind, outer):
    tree = outer([layer(kind), layer(kind)])
    assert paths(tree, select.path("**/bias")(tree)) == ["0/bias", "1/bias"]
    assert paths(tree, select.path("1/*")(tree)) in (["1/kernel", "1/bias"], ["1/bias", "1/kernel"])
    assert paths(tree, select.path("?/[ab]ias")(tree)) == ["0/bias", "1/bias"]
    assert paths(tree, select.regex(r"^0/k")(tree)) == ["0/kernel"]
    assert jax.tree.structure(select.path("**")(tree)) == jax.tree.structure(tree)


def test_paths_in_linen_parameters():
    params = Linen().init(jax.random.key(0), jnp.ones(2))["params"]
    assert paths(params, select.path("head/*")(params)) == ["head/bias", "head/kernel"]
    assert paths(params, (select.path("**/kernel") & ~select.path("head/**"))(params)) == ["hidden/kernel"]


def test_paths_in_an_equinox_module():
    model = eqx.filter(eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0)), eqx.is_array)
    assert paths(model, select.path("layers/*/bias")(model)) == ["layers/0/bias", "layers/1/bias"]
    assert paths(model, select.path("**/weight")(model)) == ["layers/0/weight", "layers/1/weight"]


@pytest.mark.parametrize("pure", [False, True])
def test_paths_in_an_nnx_state(pure):
    """A Param is no part of the path, so that it is the same with it and without."""
    params = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    params = nnx.as_pure(params) if pure else params
    names = [path for path, _ in jax.tree_util.tree_leaves_with_path(nnx.as_pure(params))]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in names]

    def picked(selector):
        return [name for name, yes in zip(names, jax.tree.leaves(selector(params)), strict=True) if yes]

    assert picked(select.regex("kernel")) == ["hidden/kernel", "layers/0/kernel", "layers/1/kernel"]
    assert picked(select.path("**/bias")) == ["hidden/bias", "layers/0/bias", "layers/1/bias"]
    assert picked(select.path("layers/1/*")) == ["layers/1/bias", "layers/1/kernel"]


TREE = {"norm": {"scale": jnp.ones(3)}, "dense": layer(), "embed": jnp.ones((4, 4), "bfloat16"), "t": jnp.ones(())}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (select.path("**/bias", "*/scale"), "dense/bias norm/scale"),
        (select.path("*"), "embed t"),
        (select.path("**/dense/**"), "dense/bias dense/kernel"),
        (select.ndim(min=2), "dense/kernel embed"),
        (select.ndim(max=0), "t"),
        (select.ndim(1, 1), "dense/bias norm/scale"),
        (select.shape(lambda s: len(set(s)) < len(s)), "embed"),
        (select.dtype("bfloat16"), "embed"),
        (select.dtype(jnp.floating) & ~select.dtype(jnp.bfloat16) & select.ndim(min=2), "dense/kernel"),
        (select.path("embed") | select.ndim(max=0), "embed t"),
        (~(select.path("embed") | select.ndim(max=0)), "dense/bias dense/kernel norm/scale"),
        (select.everything(), "dense/bias dense/kernel embed norm/scale t"),
        (select.maybe(select.path("nothing")), ""),
    ],
    ids=lambda x: x if isinstance(x, str) else repr(x).partition("<")[0],
)
def test_what_a_selector_picks(selector, expected):
    assert paths(TREE, selector(TREE)) == expected.split()
    if "lambda" not in repr(selector):
        assert eval(repr(selector)) == selector
        assert hash(eval(repr(selector))) == hash(selector)


@pytest.mark.parametrize(
    "selector",
    [
        select.path("**/bais"),
        select.path("Dense/*"),
        select.regex("^bias"),
        select.ndim(min=5),
        select.dtype("int8"),
        select.path("dense/*") & select.path("**/sclae"),
        select.path("dense/*") | select.path("**/sclae"),
        ~select.path("**/sclae"),
        ~select.everything(),
    ],
    ids=repr,
)
def test_a_selector_that_matches_nothing_lists_the_paths(selector):
    """Also for a misspelled selector inside a combination."""
    for call in (selector, gx.masked(gx.sgd(1.0), selector).init, gx.freeze(selector).init):
        with pytest.raises(ValueError, match="matches no leaf") as error:
            call(TREE)
        for path in ("norm/scale", "dense/kernel", "dense/bias", "embed", "t"):
            assert path in str(error.value)
        assert repr(selector).split("'")[-2] in str(error.value) if "path" in repr(selector) else True


def test_of_many_leaves_an_error_lists_some():
    with pytest.raises(ValueError, match="and 30 more"):
        select.path("x")({str(i): 0.0 for i in range(50)})


def test_selectors_are_not_booleans():
    with pytest.raises(TypeError, match="&"):
        select.path("a") and select.path("b")
    for call in (
        select.path,
        lambda: select.path(3),
        select.dtype,
        lambda: select.dtype("no dtype"),
        lambda: select.shape(3),
        lambda: select.regex(3),
        lambda: select.ndim("2"),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    with pytest.raises(ValueError, match="regular expression"):
        select.regex("(")
    with pytest.raises(TypeError):
        select.path("a") & True


# --- masks


def moved(tx, params):
    """The paths of the leaves that an update moves, for gradients of ones."""
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(ones, tx.init(params), params)
    return paths(params, jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates))


def test_selectors_and_masks_mean_the_same():
    """A mask may be a selector, a tree, a prefix of a tree, or a function."""
    params = {"a": layer(), "b": layer()}
    for mask in (
        select.path("a/*"),
        {"a": True, "b": False},
        {"a": layer(lambda **kw: dict.fromkeys(kw, True)), "b": False},
        lambda p: {"a": True, "b": np.bool_(False)},
        lambda p: jax.tree.map(lambda _: False, p) | {"a": True},
    ):
        assert moved(gx.masked(gx.sgd(1.0), mask, rest="zero"), params) == ["a/bias", "a/kernel"]
        assert moved(gx.chain(gx.sgd(1.0), gx.freeze(mask)), params) == ["b/bias", "b/kernel"]
        assert moved(gx.selective_transform(gx.sgd(1.0), freeze_mask=mask), params) == ["b/bias", "b/kernel"]


@pytest.mark.heavy
def test_selectors_as_masks_of_rules():
    params = {"dense": {"kernel": 2 * jnp.eye(3), "bias": jnp.ones(3)}, "head": {"kernel": jnp.ones((3, 1))}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    decayed = ["dense/kernel", "head/kernel"]
    for mask in (select.ndim(min=2), ~select.path("**/bias"), select.path("**/kernel")):
        for tx in (
            gx.adamw(0.1, weight_decay=0.1, mask=mask),
            gx.lamb(0.1, weight_decay=0.1, mask=mask),
            gx.add_decayed_weights(0.1, mask=mask),
            gx.muon(0.1, weight_decay=0.1, adam_weight_decay=0.1, mask=mask),
        ):
            updates, _ = tx.update(zeros, tx.init(params), params)
            assert paths(params, jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates)) == decayed


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon", "stable_adamw", "dadapt_adamw"])
def test_a_misspelt_selector_in_a_rule_raises(name):
    params = {"hidden": jnp.ones((3, 3)), "bias": jnp.ones(3)}
    tx = getattr(gx, name)(0.1, weight_decay=0.1, mask=select.path("**/bais"))
    with pytest.raises(ValueError, match="matches no leaf"):
        tx.update(params, tx.init(params), params)


def test_a_mask_for_a_whole_tree_in_a_group_of_it():
    """A selector, a tree and a function in a rule inside `masked`, whose group has none or some of the leaves."""
    params = {"a": layer(), "b": layer()}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for mask in (select.path("**/kernel"), gx.lookup_by_path({"a": {"kernel": True, "bias": False}, "b": False})):
        tx = gx.masked(gx.adamw(0.1, weight_decay=0.1, mask=mask), select.path("a/*"))
        updates, _ = tx.update(zeros, tx.init(params), params)
        assert paths(params, jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates)) == ["a/kernel"]


def test_a_callable_tree_is_not_called():
    """An equinox module of booleans as a mask, of parameters as parameters, of labels as labels."""
    params, mask = layer(Affine), Affine(kernel=True, bias=False)
    assert moved(gx.masked(gx.sgd(1.0), mask, rest="zero"), params) == ["kernel"]
    assert moved(gx.chain(gx.sgd(1.0), gx.freeze(mask)), params) == ["bias"]
    labels = Affine(kernel="a", bias="b")
    assert moved(gx.partition({"a": gx.sgd(1.0), "b": gx.set_to_zero()}, labels), params) == ["kernel"]
    tx = gx.adamw(0.1, weight_decay=0.1, mask=mask)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert bool(jnp.all(updates.bias == 0) & jnp.all(updates.kernel < 0))
    assert moved(gx.masked(gx.sgd(1.0), lambda p: mask, rest="zero"), params) == ["kernel"]
    tx = gx.layerwise_lr_decay(gx.sgd(1.0), Affine(1, 0), 0.5)
    close(tx.update(params, tx.init(params), params)[0].kernel, -0.5 * params.kernel)


@pytest.mark.parametrize("bad", [1, 0.0, "yes", jnp.array(True), np.ones(2, bool), jnp.ones(3)])
def test_a_mask_leaf_that_is_no_boolean(bad):
    params = {"w": jnp.ones(2), "b": {"c": jnp.ones(2)}}
    for make in (
        lambda mask: gx.masked(gx.sgd(1.0), mask),
        gx.freeze,
        lambda mask: gx.adamw(0.1, mask=mask),
        lambda mask: gx.with_metrics(gx.sgd(1.0), groups={"x": mask}),
    ):
        with pytest.raises(TypeError, match=r"True and False.*c'"):
            make({"w": True, "b": {"c": bad}})
    tx = gx.masked(gx.sgd(1.0), lambda p: {"w": True, "b": {"c": bad}})
    with pytest.raises(TypeError, match="True and False"):
        tx.init(params)


def test_masks_that_do_not_fit():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(ValueError, match="x"):
        gx.masked(gx.sgd(1.0), {"w": True, "x": False}).init(params)
    with pytest.raises(TypeError, match="None"):
        gx.masked(gx.sgd(1.0), None)
    with pytest.raises(ValueError, match="'keep', 'zero'"):
        gx.masked(gx.sgd(1.0), {"w": True, "b": False}, rest="zeros")
    with pytest.raises(TypeError):
        gx.masked(gx.sgd(1.0), {"w": True, "b": False}, rest=0)


# --- masked, partition


def test_the_rest():
    params, mask = {"w": jnp.ones(2), "b": jnp.ones(2)}, select.path("w")
    for rest, expected in (("keep", 1.0), ("zero", 0.0), (gx.scale(5.0), 5.0)):
        tx = gx.masked(gx.scale(-2.0), mask, rest=rest)
        updates, _ = tx.update(params, tx.init(params), params)
        close(updates, {"w": jnp.full(2, -2.0), "b": jnp.full(2, expected)})


def test_a_frozen_leaf_costs_no_state():
    """A leaf of another group needs no state either; only step counts are kept."""
    w, b = select.path("w"), select.path("b")

    def size(tx, n):
        return gx.tree.size(tx.init({"w": jnp.ones(7), "b": jnp.ones(n)}))

    for tx in (
        gx.selective_transform(gx.adam(0.1), freeze_mask=b),
        gx.masked(gx.adam(0.1), w),
        gx.masked(gx.adam(0.1), w, rest="zero"),
        gx.freeze(b),
        gx.partition({"adam": gx.adam(0.1), "sgd": gx.sgd(0.1)}, [(w, "adam"), (b, "sgd")]),
        gx.accumulate(gx.selective_transform(gx.adam(0.1), freeze_mask=b), 1),
        gx.apply_if_finite(gx.with_metrics(gx.selective_transform(gx.adam(0.1), freeze_mask=b))),
        gx.selective_transform(gx.lookahead(gx.accumulate(gx.adam(0.1), 2), 2, 0.5), freeze_mask=b),
    ):
        assert size(tx, 1000) == size(tx, 1)
    assert size(gx.masked(gx.adam(0.1), w), 1000) < 2 * 7 + 5
    two = gx.partition({"a": gx.adam(0.1), "m": gx.trace(0.9)}, [(w, "a"), (b, "m")])
    assert size(two, 1000) == (2 * 7 + 2) + (1000 + 1)


def test_the_first_rule_that_matches_wins():
    params = {"dense": layer(), "norm": {"bias": jnp.ones(3), "scale": jnp.ones(3)}}
    rules = [(select.path("norm/*"), "n"), (select.path("**/bias"), "b"), (select.everything(), "rest")]
    tx = gx.partition({"b": gx.scale(2.0), "n": gx.scale(3.0), "rest": gx.scale(4.0)}, rules)
    updates, state = tx.update(params, tx.init(params), params)
    found = {path: float(jnp.ravel(x)[0]) for path, x in by_paths(updates).items()}
    assert found == {"dense/bias": 2.0, "dense/kernel": 4.0, "norm/bias": 3.0, "norm/scale": 3.0}
    assert list(state.inner_states) == ["b", "n", "rest"]
    assert eval(repr(tx), {**vars(gx)}) == tx
    names = gx.partition({"b": gx.scale(2.0), "n": gx.scale(3.0), "rest": gx.scale(4.0)}, tuple(rules))
    assert names == tx


def by_paths(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in found}


def test_unmatched_paths_and_unused_groups_are_named():
    params = {"dense": layer(), "norm": {"scale": jnp.ones(3)}}
    group = {"a": gx.sgd(1.0), "b": gx.sgd(0.1), "c": gx.sgd(0.01)}
    with pytest.raises(ValueError, match="no rule matches dense/kernel, norm/scale; no leaf is left for b, c"):
        gx.partition(group, [(select.path("**/bias"), "a")]).init(params)
    with pytest.raises(ValueError, match=r"no leaf is left for c.*dense/bias, dense/kernel, norm/scale"):
        gx.partition(group, [(select.path("**/bias"), "a"), (select.everything(), "b"), (select.path("x"), "c")]).init(
            params
        )
    with pytest.raises(ValueError, match=r"\['dense'\]\['bias'\].*'d'.*'a', 'b', 'c'"):
        gx.partition(group, {"dense": "d", "norm": "a"}).init(params)
    with pytest.raises(ValueError, match="param_labels"):
        gx.partition(group, {"dense": "a"}).init(params)
    with pytest.raises(TypeError, match="dict"):
        gx.partition([gx.sgd(1.0)], "a")


class Speed(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


LABELS = [(0, 1), ("a", 0), (Speed.FAST, Speed.SLOW), ((0, 1), (1, 0)), (None, "x"), (1.5, "b.c"), (frozenset("a"), 2)]


@pytest.mark.parametrize("form", ["tree", "prefix", "function", "rules"])
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_a_label_may_be_anything_hashable(labels, form):
    fast, slow = labels
    params = {"w": {"x": jnp.ones(2), "y": jnp.ones(1)}, "b": jnp.ones(2)}
    tree = {"w": {"x": fast, "y": fast}, "b": slow}
    forms = {
        "tree": tree,
        "prefix": {"w": fast, "b": slow},
        "function": lambda params: tree,
        "rules": [(select.path("w/*"), fast), (select.everything(), slow)],
    }
    tx = gx.partition({fast: gx.scale(2.0), slow: gx.trace(0.5)}, forms[form])
    updates, state = jax.jit(lambda g: tx.update(g, tx.init(g), g))(params)
    close(updates, {"w": {"x": jnp.full(2, 2.0), "y": jnp.full(1, 2.0)}, "b": jnp.ones(2)})
    assert gx.hyperparameters(tx, state)[f"{slow}.decay"] == 0.5
    assert {row.link for row in gx.describe(tx, params).rows} == {f"partition.{fast}.scale", f"partition.{slow}.trace"}
    assert tx.replace(**{f"{slow}.decay": 0.1}).transforms[1] == gx.trace(0.1)
    with pytest.raises(ValueError, match=r"\['b'\] has the label \('no', 1\).* there are: "):
        gx.partition({fast: gx.scale(2.0), slow: gx.trace(0.5)}, {**tree, "b": ("no", 1)}).init(params)


def test_labels_that_read_alike_are_refused():
    with pytest.raises(ValueError, match="two labels have the text '0'"):
        gx.partition({0: gx.sgd(0.1), "0": gx.sgd(0.2)}, 0)


NESTED = {"a": {"x": jnp.ones(2), "y": jnp.ones(2)}, "head": jnp.ones(2)}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("mask", lambda x: gx.adamw(0.1, mask=dict.fromkeys(x, True))),
        ("mask", lambda x: gx.novograd(0.1, weight_decay=0.1, mask=dict.fromkeys(x, True))),
        ("mask", lambda x: gx.masked(gx.sgd(0.1), dict.fromkeys(x, True))),
        ("mask", lambda x: gx.with_metrics(gx.sgd(0.1), groups={"g": dict.fromkeys(x, True)})),
        ("param_labels", lambda x: gx.partition({3: gx.sgd(0.1)}, dict.fromkeys(x, 3))),
        ("depth_of", lambda x: gx.scale_by_depth(dict.fromkeys(x, 3), 0.5)),
    ],
)
def test_a_prefix_that_lacks_a_leaf_or_names_too_many(name, make):
    """The error names what the prefix lacks, and not what it covers."""
    with pytest.raises(ValueError, match=name) as caught:
        make(["a"]).init(NESTED)
    assert f"{name} says nothing of ['head']." in str(caught.value)
    assert "['x']" not in str(caught.value)
    with pytest.raises(ValueError, match=name) as caught:
        make(["a", "head", "tail"]).init(NESTED)
    assert f"{name} names ['tail'], where " in str(caught.value)
    assert "['x']" not in str(caught.value)
    make(["a", "head"]).init(NESTED)


@pytest.mark.parametrize(
    "group",
    [
        lambda tx: gx.masked(tx, select.path("w/*")),
        lambda tx: gx.selective_transform(tx, freeze_mask=select.path("b")),
        lambda tx: gx.partition({"w": tx, "b": gx.sgd(0.1)}, {"w": "w", "b": "b"}),
    ],
)
def test_a_mask_of_the_whole_tree_inside_a_group(group):
    """The error says how to pass such a mask, and this way works."""
    params, mask = (
        {"w": {"x": jnp.ones(2), "y": jnp.ones(2)}, "b": jnp.ones(2)},
        {"w": {"x": True, "y": False}, "b": True},
    )
    with pytest.raises(ValueError, match=r"write mask=gx.lookup_by_path\(mask\)"):
        group(gx.adamw(0.1, mask=mask)).init(params)
    tx = group(gx.add_decayed_weights(0.5, gx.lookup_by_path(mask)))
    updates, _ = tx.update(params, tx.init(params), params)
    close(updates["w"], {"x": jnp.full(2, 1.5), "y": jnp.ones(2)})


MASKED = [
    (name, parameter)
    for name in GRADTX.constructors()
    for parameter in inspect.signature(getattr(gx, name)).parameters
    if parameter in ("mask", "freeze_mask", "trust_ratio_mask", "groups", "depth_of")
]


@pytest.mark.parametrize(("name", "parameter"), MASKED)
def test_a_misspelt_selector_is_refused_by_init(name, parameter):
    """The error comes from `init`, not only from `update`."""
    wrong = select.path("biass")
    given = {"groups": {"g": wrong}, "depth_of": lambda path: -1}.get(parameter, wrong)
    signature = inspect.signature(getattr(gx, name)).parameters
    asked = {
        x.name: eval(GLOSSARY[x.name], dict(GRADTX.names))
        for x in signature.values()
        if x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD
    }
    decays = {"weight_decay": 0.1} if "weight_decay" in signature else {}
    tx = getattr(gx, name)(**{**asked, **decays, parameter: given})
    with pytest.raises(ValueError, match=r"biass|depth_of"):
        tx.init({"w": jnp.ones((2, 2)), "bias": jnp.ones(2)})


def test_a_tree_wide_rule_sees_its_group_alone():
    params = {"a": jnp.array([3.0]), "b": jnp.array([4.0]), "c": jnp.array([12.0])}
    clip = gx.clip_by_global_norm(1.0)
    tx = gx.partition({"x": clip, "y": clip}, {"a": "x", "b": "x", "c": "y"})
    updates, state = tx.update(params, tx.init(params))
    close(updates, {"a": jnp.array([0.6]), "b": jnp.array([0.8]), "c": jnp.array([1.0])})
    found = gx.metrics(state)
    close(list(found.values()), [jnp.array(0.2), jnp.array(1 / 12)])
    assert sorted(found) == ["inner_states/x/clip_factor", "inner_states/y/clip_factor"]


def test_groups_of_other_trees():
    """Updates come back in the structure of the parameters, whatever that is."""
    for params in ([layer(Pair)], (layer(Layer), jnp.ones(())), layer(Affine), nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)):
        tx = gx.partition(
            {"m": gx.muon(0.1), "a": gx.adam(0.1)}, [(select.ndim(2, 2), "m"), (select.everything(), "a")]
        )
        updates, _ = tx.update(params, tx.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)


# --- depth


def test_rates_shrink_with_depth():
    params = {"embed": jnp.ones(1), "layers": [jnp.ones(1)] * 3, "head": jnp.ones(1)}

    def depth(path):
        return {"embed": 4, "head": 0}.get(path, 3 - int(path[-1]) if "/" in path else 0)

    tree = {"embed": 4, "layers": [3, 2, 1], "head": 0}
    for depth_of, expected in (
        (depth, tree),
        (tree, tree),
        ({"embed": 4, "layers": 1, "head": 0}, {**tree, "layers": [1] * 3}),
    ):
        tx = gx.layerwise_lr_decay(gx.sgd(1.0), depth_of, 0.5)
        updates, _ = tx.update(params, tx.init(params), params)
        close(updates, jax.tree.map(lambda d: jnp.full(1, -(0.5**d)), expected))
    # The decay may follow a schedule.
    tx = gx.layerwise_lr_decay(gx.sgd(1.0), tree, gx.linear_schedule(0.5, 1.0, 1))
    _, state = tx.update(params, tx.init(params), params)
    close(tx.update(params, state, params)[0]["embed"], jnp.array([-1.0]))


def test_bad_depths():
    params = {"a": jnp.ones(1)}
    with pytest.raises((TypeError, ValueError), match="depth_of"):
        gx.layerwise_lr_decay(gx.sgd(1.0), {"a": -1}, 0.5)
    with pytest.raises(TypeError, match=r"depth_of.*'a'"):
        gx.layerwise_lr_decay(gx.sgd(1.0), lambda path: 0.5, 0.5).init(params)
    with pytest.raises(ValueError, match=r"depth_of says nothing of \['a'\]; depth_of names \['b'\]"):
        gx.layerwise_lr_decay(gx.sgd(1.0), {"b": 1}, 0.5).init(params)
    for decay in (0.0, 1.1):
        with pytest.raises(ValueError, match="decay"):
            gx.layerwise_lr_decay(gx.sgd(1.0), {"a": 1}, decay)


def test_groups_under_jit_and_scan():
    params = draw(0)
    tx = gx.masked(gx.adam(0.1), select.path("w"), rest=gx.sgd(1.0))
    eager, state = tx.update(params, tx.init(params), params)
    jitted, jitted_state = jax.jit(tx.update)(params, tx.init(params), params)
    close((eager, state), (jitted, jitted_state))


def test_a_group_without_leaves_needs_no_params():
    """A tree that is None, or a group that no leaf is in, is empty: not missing."""
    tx = gx.masked(gx.chain(gx.dog(), gx.scale_by_lbfgs()), gx.select.maybe(gx.select.path("w")))
    assert tx.update(None, tx.init(None), None)[0] is None
    only = gx.masked(gx.dog(), gx.select.maybe(gx.select.path("w")))
    g = {"b": jnp.ones(2)}
    close(only.update(g, only.init(g))[0], g)
