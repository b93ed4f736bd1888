"""The range test, the panel of metrics, and the heat map of a sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

CURVATURES = np.array([1.0, 4.0])


def quadratic(w):
    return 0.5 * jnp.sum(CURVATURES * w**2)


def range_by_hand(rates):
    w, losses = np.ones(2), []
    for rate in rates:
        losses.append(0.5 * np.sum(CURVATURES * w**2))
        w = w - rate * CURVATURES * w
    return np.array(losses)


def test_the_range_test_trains_while_the_rate_grows():
    result = gx.viz.range_test(quadratic, gx.sgd(0.3), jnp.ones(2), [()], low=1e-3, high=1.0, steps=60)
    rates = np.geomspace(1e-3, 1.0, 60)
    losses = range_by_hand(rates)
    np.testing.assert_allclose(result.rates, rates)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-6)
    assert not result.diverged
    lines = [np.polyfit(np.log10(rates[i - 3 : i + 4]), losses[i - 3 : i + 4], 1) for i in range(3, 57)]
    slopes = np.array([slope for slope, _ in lines])
    assert result.suggestion == pytest.approx(rates[3 + slopes.argmin()])
    np.testing.assert_allclose(result.slope[3:57], slopes, rtol=1e-5, atol=1e-6)
    assert 0.01 < result.suggestion < 0.1  # far below 2 / 4, where it diverges


def test_it_stops_where_the_loss_diverges():
    result = gx.viz.range_test(quadratic, gx.sgd, jnp.ones(2), [()], low=0.1, high=100.0, steps=200)
    assert result.diverged
    assert len(result.losses) == len(result.rates) == len(result.smooth) < 200
    assert result.losses[-1] > 2 * result.losses[0]
    # gradient descent is stable up to 2 / 4, and shrinks the first steps so far that it takes some more to notice
    assert 0.5 < result.rates[-1] < 5
    np.testing.assert_allclose(result.losses, range_by_hand(result.rates), rtol=1e-5)
    at_once = gx.viz.range_test(lambda w: jnp.sum(jnp.log(w)), gx.sgd, jnp.ones(2), [()], low=1.0, high=2.0)
    assert (at_once.diverged, at_once.suggestion, at_once.losses.tolist()) == (True, None, [0.0, -np.inf])
    overflow = gx.viz.range_test(lambda w: jnp.exp(jnp.sum(w**2)), gx.sgd, jnp.ones(2), [()], low=0.01, high=1e6)
    assert overflow.diverged


@pytest.mark.parametrize("seed", range(4))
def test_noise_at_small_rates_is_no_divergence(seed):
    rng = np.random.default_rng(seed)
    batches = [(rng.normal(size=(4, 2)), rng.normal(size=4)) for _ in range(200)]

    def loss(w, x, y):
        return jnp.mean((x @ w - y) ** 2)

    result = gx.viz.range_test(loss, gx.sgd, jnp.zeros(2), batches, low=1e-9, high=1e-6, steps=200)
    assert not result.diverged
    shifted = gx.viz.range_test(
        lambda w, x, y: loss(w, x, y) - 50, gx.sgd, jnp.zeros(2), batches, low=1e-9, high=1e-6, steps=200
    )
    assert not shifted.diverged


def test_a_fall_from_a_spike_is_no_suggestion():
    """The loss is scripted: flat, then a slow descent, then a spike that falls steeply."""
    losses = [5.0] * 10 + np.linspace(5.0, 3.0, 20).tolist() + [6.0, 7.5, 7.5, 6.0, 4.5, 4.1, 4.0, 4.0] + [4.0] * 22
    result = gx.viz.range_test(lambda w, t: w[0] * 0 + t, gx.sgd, jnp.ones(1), [(x,) for x in losses], steps=60)
    assert not result.diverged
    assert result.slope.argmin() > 30
    assert result.rates[10] < result.suggestion < result.rates[30]


def test_a_loss_that_only_rises_has_no_suggestion():
    result = gx.viz.range_test(lambda w, t: w[0] ** 2 * 0 + t, gx.sgd, jnp.ones(1), [(float(t),) for t in range(1, 21)])
    assert result.suggestion is None
    figure = gx.viz.plot_range_test(result)
    assert not any("steepest" in text.get_text() for text in figure.axes[0].texts)


def test_what_the_range_test_takes():
    def loss(params, x):
        return jnp.sum((params["w"] - x) ** 2), "aux"

    params = {"w": jnp.zeros(2)}
    options = {"low": 1e-3, "high": 0.1, "steps": 12, "has_aux": True}
    rates = [
        gx.viz.range_test(loss, tx, params, batches, **options).suggestion
        for tx in (gx.sgd, gx.sgd(gx.cosine_decay_schedule(1.0, 5)), lambda rate: gx.chain(gx.clip(9.0), gx.sgd(rate)))
        for batches in ([(1.0,)], [(1.0,)] * 5, iter([(1.0,)] * 12), [[1.0]])
    ]
    assert len(set(rates)) == 1
    np.testing.assert_array_equal(params["w"], 0)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"loss_fn": 1}, TypeError, "loss_fn must be a function"),
        ({"loss_fn": lambda w: w}, TypeError, "the loss must be a real scalar"),
        ({"loss_fn": lambda w: jnp.sum(w) * jnp.nan}, ValueError, "the loss is nan before the first step"),
        ({"tx": 0.1}, TypeError, "range_test: expected gradient transformations"),
        ({"tx": gx.trace(0.9)}, ValueError, "must have one learning_rate, and has 0"),
        ({"tx": gx.chain(gx.sgd(0.1), gx.sgd(0.1))}, ValueError, "and has 2: "),
        ({"tx": gx.inject_hyperparams(gx.sgd)(0.1)}, ValueError, "the state of tx holds the learning rate"),
        ({"batches": 3}, TypeError, "batches must be tuples"),
        ({"batches": [1.0]}, TypeError, "each batch must be a tuple"),
        ({"batches": iter([()] * 3)}, ValueError, "batches ended after 3 of 100 steps"),
        ({"batches": []}, ValueError, "batches ended after 0 of 100 steps"),
        ({"low": 1.0, "high": 0.1}, ValueError, "low less than high"),
        ({"low": 0.0}, ValueError, "must be positive"),
        ({"steps": 5}, ValueError, "steps must be an integer of at least 10"),
    ],
)
def test_range_tests_that_are_refused(change, error, match):
    arguments = {"loss_fn": quadratic, "tx": gx.sgd, "params": jnp.ones(2), "batches": [()], **change}
    with pytest.raises(error, match=match):
        gx.viz.range_test(**arguments)


def test_the_picture_of_a_range_test(tmp_path):
    result = gx.viz.range_test(quadratic, gx.sgd, jnp.ones(2), [()], low=1e-3, high=100.0)
    figure = gx.viz.plot_range_test(result)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    texts = [text.get_text().strip() for text in axes.texts]
    assert texts == [f"steepest descent: {result.suggestion:.2g}", f"diverges at {result.rates[-1]:.2g}"]
    assert axes.get_ylim()[1] < 2 * result.losses[0]  # the divergence does not squeeze the curve
    figure.savefig(tmp_path / "range.png")
    with pytest.raises(TypeError, match="must be a result of range_test"):
        gx.viz.plot_range_test(result.losses)


HISTORY = [
    {"loss": 10.0 ** (-t / 10), "finite": t != 7, "update_ratio": 0.1, "update_ratio/bias": 0.2, "0/clip_factor": 1.0}
    for t in range(40)
]


def test_each_quantity_has_a_panel(tmp_path):
    history = [dict(record) for record in HISTORY]
    history[5]["loss"] = jnp.nan
    history[20]["accuracy"] = jnp.float32(0.5)
    figure = gx.viz.plot_metrics(history)
    panels = {axes.get_title("left"): axes for axes in figure.axes}
    assert list(panels) == ["loss", "finite", "update_ratio", "clip_factor", "accuracy"]
    assert [axes.get_yscale() for axes in panels.values()] == ["log", "linear", "linear", "linear", "linear"]
    loss, crosses = panels["loss"].get_lines()
    assert np.flatnonzero(np.isnan(loss.get_ydata())).tolist() == [5]
    assert crosses.get_xdata().tolist() == [6]  # steps count from 1
    assert [text.get_text() for text in panels["update_ratio"].get_legend().get_texts()] == ["all", "bias"]
    assert panels["accuracy"].get_lines()[0].get_xydata().tolist() == [[21, 0.5]]
    assert [text.get_text() for text in panels["finite"].get_yticklabels()] == ["no", "yes"]
    figure.savefig(tmp_path / "metrics.png")


def test_the_scale_of_a_panel():
    rates = [float(gx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)(t)) for t in range(100)]
    falls = [0.0, *(0.9**t for t in range(99))]
    signs = [(-1) ** t * 10.0**t for t in range(100)]
    seldom = [0.0] * 90 + [1e3] * 10
    history = [dict(zip("abcd", row, strict=True)) for row in zip(rates, falls, signs, seldom, strict=True)]
    assert [axes.get_yscale() for axes in gx.viz.plot_metrics(history).axes] == ["linear", "log", "linear", "linear"]


@pytest.mark.parametrize("panels", range(1, 8))
def test_any_number_of_panels_is_laid_out(panels, tmp_path):
    figure = gx.viz.plot_metrics([{f"m{i}": float(t) for i in range(panels)} for t in range(3)], steps=[10, 20, 30])
    figure.savefig(tmp_path / "metrics.png")  # a warning is an error here
    assert len(figure.axes) == panels
    assert sum(axes.get_xlabel() == "step" for axes in figure.axes) == min(panels, 2)
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("history", "steps", "error", "match"),
    [
        ({"loss": [1.0]}, None, TypeError, "history must be a list of dicts"),
        ([1.0], None, TypeError, "history must be a list of dicts"),
        ([{"loss": jnp.ones(2)}], None, TypeError, r"history\[0\]\['loss'\] must be one real number"),
        ([{"loss": 1.0}, {"loss": "low"}], None, TypeError, r"history\[1\]\['loss'\] must be one real number"),
        ([{"loss": 1j}], None, TypeError, "must be one real number"),
        ([{"loss": None}], None, TypeError, "must be one real number"),
        ([], None, ValueError, "there is nothing to draw"),
        ([{}], None, ValueError, "there is nothing to draw"),
        ([{"loss": 1.0}], [1, 2], ValueError, "steps must have one number for each dict"),
    ],
)
def test_metrics_that_are_refused(history, steps, error, match):
    with pytest.raises(error, match=match):
        gx.viz.plot_metrics(history, steps)


def test_the_best_cell_of_a_sweep(tmp_path):
    rates, decays = np.geomspace(1e-4, 1.0, 16), np.array([0.0, *np.geomspace(1e-3, 1.0, 7)])
    values = (np.log10(rates) + 2.4) ** 2 + decays[:, None]
    values[3, 14:] = np.nan
    figure = gx.viz.plot_sweep(values, rates, decays)
    axes, bar = figure.axes
    column = int(np.argmin(abs(np.log10(rates) + 2.4)))
    assert (
        axes.get_title() == f"lowest loss: {values[0, column]:.3g} at learning rate {rates[column]:.2g}, weight decay 0"
    )
    boxes = [patch.get_xy() for patch in axes.patches]
    assert boxes == [(14, 3), (15, 3), (column, 0)]
    assert len(axes.get_xticks()) == 8
    assert bar.get_ylabel() == "loss"
    figure.savefig(tmp_path / "sweep.png")
    high = gx.viz.plot_sweep(-values, rates, decays, best="highest", label="accuracy").axes[0]
    assert high.patches[-1].get_xy() == (column, 0)


@pytest.mark.parametrize("best", ["lowest", "highest"])
def test_better_is_brighter(best):
    values = np.array([[1.0, 2.0, 3.0]])
    cells = gx.viz.plot_sweep(values, [1, 2, 3], [1], best=best).axes[0].collections[0]
    grey = cells.cmap(cells.norm(values.ravel()))[:, :3] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(grey) < 0).all() == (best == "lowest")


def test_a_sweep_is_one_vmapped_call():
    def final(rate, decay):
        tx = gx.adamw(rate, weight_decay=decay)
        step, w = gx.value_and_step(quadratic, tx), jnp.ones(2)
        state = tx.init(w)
        for _ in range(3):
            w, state, _ = step(w, state)
        return quadratic(w)

    rates, decays = jnp.geomspace(1e-3, 1e-1, 4), jnp.array([0.0, 0.1, 1.0])
    values = jax.vmap(jax.vmap(final, (0, None)), (None, 0))(rates, decays)
    np.testing.assert_allclose(values[2, 1], final(rates[1], decays[2]), rtol=1e-6)
    assert gx.viz.plot_sweep(values, rates, decays).axes[0].patches[-1].get_xy() == (3, 2)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"values": np.ones((3, 2))}, ValueError, "Give values.T"),
        ({"values": np.ones((3, 3))}, ValueError, "one row for each y and one column for each x"),
        ({"x": 0.1}, ValueError, "one column for each x"),
        ({"values": [[1.0], [1.0, 2.0]]}, TypeError, "values must be an array of real numbers"),
        ({"values": np.ones((2, 3)) * 1j}, TypeError, "values must be an array of real numbers"),
        ({"y": ["a", "b"]}, TypeError, "y must be an array of real numbers"),
        ({"values": np.full((2, 3), np.nan)}, ValueError, "every run diverged"),
        ({"best": "least"}, ValueError, "best must be one of 'lowest', 'highest'"),
    ],
)
def test_sweeps_that_are_refused(change, error, match):
    with pytest.raises(error, match=match):
        gx.viz.plot_sweep(**{"values": np.ones((2, 3)), "x": [1, 2, 3], "y": [1, 2], **change})
