"""`scale_by_width`: the factors of the paper's table, and a coordinate check that they work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from examples import coordinate_check
from tests.cases import close

BASE = {"first": (3, 8), "hidden": (8, 8), "last": (8, 2), "bias": (8,), "heads": (8, 2, 4), "stack": (5, 8, 8)}
WIDE = {
    "first": (3, 32),
    "hidden": (32, 32),
    "last": (32, 2),
    "bias": (32,),
    "heads": (32, 2, 16),
    "stack": (5, 32, 32),
}
PARAMS = jax.tree.map(jnp.ones, WIDE, is_leaf=lambda x: isinstance(x, tuple))
EXPECTED = {
    "adam": {"first": 1, "hidden": 1 / 4, "last": 1 / 4, "bias": 1},
    "sgd": {"first": 4, "hidden": 1, "last": 1 / 4, "bias": 4},
    "muon": {"first": 2, "hidden": 1, "last": 1 / 2, "bias": 2},
}


def factors(tx, params=PARAMS):
    updates = tx.update(params, tx.init(params))[0]
    return {name: float(u.ravel()[0]) for name, u in updates.items()}


@pytest.mark.parametrize("rule", EXPECTED)
def test_the_factors_are_those_of_the_table(rule):
    found = factors(gx.scale_by_width(BASE, rule))
    assert {name: found[name] for name in EXPECTED[rule]} == EXPECTED[rule]


def test_axes_that_are_neither_inputs_nor_outputs_and_those_of_heads():
    numbers = dict.fromkeys(WIDE) | {
        "heads": gx.WeightDimensionNumbers(0, (1, 2)),
        "stack": gx.WeightDimensionNumbers(1, 2),
    }
    found = factors(gx.scale_by_width(BASE, "sgd", weight_dimension_numbers=numbers))
    assert (found["heads"], found["stack"]) == (1.0, 1.0)
    assert factors(gx.scale_by_width(BASE, "adam", weight_dimension_numbers=numbers))["heads"] == 0.25


def test_shapes_may_come_as_arrays_as_structs_or_by_path_and_the_base_itself_is_left_alone():
    shapes = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, "float32"), {"net": BASE}, is_leaf=lambda x: type(x) is tuple
    )
    arrays = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
    by_path = {f"net/{name}": shape for name, shape in BASE.items()}
    first, *others = (gx.scale_by_width(x) for x in (shapes, arrays, by_path, {"net": BASE}))
    assert all(tx == first and hash(tx) == hash(first) for tx in others)
    assert eval(repr(first), vars(gx)) == first
    close(first.update(arrays, first.init(arrays))[0], arrays, rtol=0)
    tx = gx.partition(
        {"a": gx.chain(first, gx.scale(2.0)), "b": gx.set_to_zero()}, lambda tree: {"net": dict.fromkeys(WIDE, "a")}
    )
    updates = tx.update({"net": PARAMS}, tx.init({"net": PARAMS}))[0]
    assert float(updates["net"]["hidden"][0, 0]) == 0.5


def test_a_decay_after_the_link_is_the_same_at_every_width():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    for tx, decay in (
        (gx.chain(gx.scale_by_adam(), gx.scale_by_width(BASE), *gx.decoupled_weight_decay(0.1, 0.5)), 0.05),
        (gx.chain(gx.adamw(0.1, weight_decay=0.5), gx.scale_by_width(BASE)), 0.0125),
    ):
        updates = tx.update(zeros, tx.init(PARAMS), PARAMS)[0]
        np.testing.assert_allclose(updates["hidden"], -decay, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: gx.scale_by_width(BASE).init({"other": jnp.ones((2, 2))}),
            ValueError,
            "other, and base_shapes has no such leaf",
        ),
        (
            lambda: gx.scale_by_width(BASE).init({"bias": jnp.ones((2, 2))}),
            ValueError,
            r"base_shapes has the shape \(8,\)",
        ),
        (lambda: gx.scale_by_width({"w": "wide"}), TypeError, "base_shapes must be a tree of arrays"),
        (lambda: gx.scale_by_width(BASE, "lion"), ValueError, "rule must be one of 'adam', 'sgd', 'muon'"),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


WIDTHS = (64, 256, 1024)
SHAPES = jax.eval_shape(lambda: coordinate_check.init(64))


def slopes(tx):
    sizes = coordinate_check.check(tx, WIDTHS, images=64)
    return {name: coordinate_check.slope(grid, WIDTHS) for name, grid in sizes.items()}


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("adam", gx.chain(gx.scale_by_adam(), gx.scale_by_width(SHAPES), gx.scale(-0.003))),
        ("sgd", gx.chain(gx.scale_by_width(SHAPES, "sgd"), gx.scale(-0.5))),
        (
            "muon",
            gx.chain(gx.scale_by_muon(ns_coeffs="polar_express"), gx.scale_by_width(SHAPES, "muon"), gx.scale(-0.05)),
        ),
    ],
)
@pytest.mark.heavy
def test_activations_move_alike_at_every_width(rule, method):
    found = slopes(method)
    assert all(abs(found[name]) < 0.25 for name in ("first", "hidden")), found
    # At the start the inputs of the last layer are random: their contribution falls as width^-1/2.
    assert -0.5 < found["last"] < 0.25, found


@pytest.mark.heavy
def test_without_it_wide_networks_move_more():
    found = slopes(gx.adam(0.003))
    assert found["hidden"] > 0.6, found
    assert found["last"] > 0.6, found


def test_the_picture_has_a_panel_for_each_layer_and_a_line_for_each_step():
    widths = np.array([2, 4, 8])
    figure = gx.viz.plot_coordinates({"a": np.stack([widths, widths**2]), "b": np.ones((2, 3))}, widths)
    assert [axes.get_title() for axes in figure.axes] == ["a: width^2.00", "b: width^0.00"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), widths**2)
    diverged = gx.viz.plot_coordinates({"a": [[1.0, np.inf, 3.0]]}, widths)
    assert diverged.axes[0].get_title() == "a: width^inf"


@pytest.mark.parametrize(
    ("sizes", "widths", "error", "match"),
    [
        ({"a": np.ones((2, 3))}, [1, 2], ValueError, r"sizes\['a'\] has shape \(2, 3\)"),
        ({"a": np.ones((2, 2))}, [0, 2], ValueError, "widths must be two or more positive numbers"),
        ({}, [1, 2], ValueError, "sizes is empty"),
        ({"a": [["x", "y"]]}, [1, 2], TypeError, "must be an array of real numbers"),
    ],
)
def test_pictures_refuse_what_does_not_fit(sizes, widths, error, match):
    with pytest.raises(error, match=match):
        gx.viz.plot_coordinates(sizes, widths)
