"""Races: problems, the search for the best learning rate, pictures, animations, and the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gradtx as gx
from gradtx.viz.__main__ import main
from gradtx.viz.entries import entries

NAMES = {name: getattr(gx, name) for name in gx.__all__}


@pytest.mark.parametrize("problem", gx.viz.PROBLEMS.values(), ids=lambda p: p.name)
def test_the_minima_are_minima_and_lie_in_the_window(problem):
    def f(point):
        return problem.f(*point)

    for point in problem.minima:
        x = jnp.asarray(point)
        assert abs(f(x) - problem.lowest) < 1e-9
        assert jnp.linalg.norm(jax.grad(f)(x)) < 1e-3
        assert jnp.linalg.eigvalsh(jax.hessian(f)(x)).min() > 0.01
    for point in (problem.start, *problem.minima):
        assert all(low < x < high for x, (low, high) in zip(point, problem.window, strict=True))
    grid = np.meshgrid(*(np.linspace(*side, 301) for side in problem.window))
    assert problem.f(*grid).min() >= problem.lowest
    assert problem.f(*problem.start) > problem.lowest + 1


def test_the_condition_number_of_the_ravine_and_the_signs_at_the_saddle():
    ravine, saddle = (
        jnp.linalg.eigvalsh(jax.hessian(lambda point, p=gx.viz.PROBLEMS[name]: p.f(*point))(jnp.zeros(2)))
        for name in ("ravine", "saddle")
    )
    np.testing.assert_allclose(ravine[1] / ravine[0], 100)
    np.testing.assert_allclose(saddle, [-1, 1])


def by_hand(rate, steps):
    """Returns the gaps of gradient descent on the ravine, computed in NumPy."""
    x, gaps = np.array([-4.0, -1.0]), []
    for _ in range(steps + 1):
        s, d = x.sum(), x[0] - x[1]
        gaps.append(s**2 / 20 + 5 * d**2)
        x = x - rate * np.array([s / 10 + 10 * d, s / 10 - 10 * d])
    return np.array(gaps)


def test_the_best_learning_rate_is_the_one_that_arrives_first():
    rates = [0.01, 0.05, 0.09, 0.099, 0.2]
    (racer,) = gx.viz.race({"sgd": gx.sgd}, "ravine", 200, rates=rates).racers
    goal = 1e-4 * by_hand(0.0, 0)[0]
    arrivals = [np.flatnonzero(by_hand(rate, 200) > goal)[-1] + 1 for rate in rates]
    best = int(np.argmin(arrivals))
    assert arrivals[best] < 180 < arrivals[0]  # otherwise the test would prove nothing
    assert (racer.rate, racer.arrival) == (rates[best], arrivals[best])
    np.testing.assert_allclose(racer.gaps, by_hand(rates[best], 200), atol=1e-12)


def test_without_arrival_the_end_decides():
    (racer,) = gx.viz.race({"sgd": gx.sgd}, "ravine", 20, rates=[0.001, 0.09, 0.2]).racers
    assert racer.rate == 0.09
    assert racer.arrival is None


def test_a_lucky_last_step_is_no_arrival():
    """From x = -4 the rate 1 / 0.2 jumps to the minimum along the valley; the first step there must not be the last."""
    valley = gx.viz.PROBLEMS["ravine"]._replace(
        start=(-2.0, -2.0), f=lambda x, y: (x + y) ** 2 / 20 + (x - y) ** 2 / 20
    )
    (late,) = gx.viz.race({"jump": lambda rate: gx.sgd(lambda t: rate * (t == 19))}, valley, 20, rates=[5.0]).racers
    assert late.gaps[-1] < 1e-9
    assert late.arrival is None
    (early,) = gx.viz.race({"jump": lambda rate: gx.sgd(lambda t: rate * (t == 15))}, valley, 20, rates=[5.0]).racers
    assert early.arrival == 16


def test_what_each_problem_shows():
    racers = {
        name: gx.viz.race({"sgd": gx.sgd, "adam": gx.adam, "exact": gx.newton(), "absolute": absolute}, name).racers
        for name, absolute in [(name, gx.newton(hessian="absolute")) for name in ("saddle", "ravine")]
    }
    _, _, exact, absolute = racers["saddle"]
    assert exact.arrival is None
    np.testing.assert_allclose(exact.path[-1], 0, atol=1e-6)  # drawn into the saddle
    assert absolute.arrival < 40
    sgd, adam, exact, _ = racers["ravine"]
    assert exact.arrival == 1
    assert adam.arrival < sgd.arrival


def test_transformations_run_as_they_are_and_matrices_are_noticed():
    entered = {"dog": gx.dog(), "muon": gx.muon, "adadelta": gx.adadelta(), "adam": gx.adam, "sm3": gx.sm3}
    dog, muon, adadelta, adam, sm3 = gx.viz.race(entered, steps=30, rates=[0.01, 0.1]).racers
    assert dog.rate is adadelta.rate is None
    assert adam.rate in (0.01, 0.1)
    assert [racer.matrix for racer in (dog, muon, adadelta, adam, sm3)] == [False, True, False, False, True]
    lengths = np.linalg.norm(np.diff(muon.path, axis=0), axis=1)
    assert (np.abs(lengths / muon.rate - 1) < 0.4).all()  # Newton-Schulz: a singular value is between 0.68 and 1.13


def test_with_decay_the_steps_end_in_nothing():
    plain, decayed = (gx.viz.race({"lion": gx.lion}, "himmelblau", decay=decay).racers[0] for decay in (False, True))
    assert decayed.gaps[-1] < 1e-4 < plain.gaps[-1]
    assert decayed.arrival


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"optimizers": gx.adam}, TypeError, "must be a dict from a label to a transformation"),
        ({"optimizers": {}}, ValueError, "optimizers is empty"),
        ({"optimizers": {"a": 0.1}}, TypeError, r"race: optimizers\['a'\]: expected gradient transformations"),
        ({"optimizers": {"a": lambda rate: rate}}, TypeError, r"race: optimizers\['a'\]\(0.0001\): expected"),
        ({"problem": "banana"}, ValueError, "problem must be one of 'rosenbrock', 'beale'"),
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1"),
        ({"rates": [0.1, -1.0]}, ValueError, "rates must be positive numbers"),
        ({"rates": "0.1"}, ValueError, "rates must be positive numbers"),
        ({"tol": 1.0}, ValueError, r"tol must be a number in \(0, 1\)"),
        ({"decay": 1}, TypeError, "decay must be True or False"),
        ({"optimizers": {"gn": gx.newton(hessian="gauss_newton")}}, ValueError, "needs `residual_fn`"),
    ],
)
def test_races_that_are_refused(change, error, match):
    with pytest.raises(error, match=match):
        gx.viz.race(**{"optimizers": {"sgd": gx.sgd}, **change})


def test_the_picture(tmp_path):
    race = gx.viz.race({"adam": gx.adam, "sgd": gx.sgd, "newton": gx.newton()}, "beale", steps=60)
    figure = gx.viz.plot_race(race)
    chart, gaps = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0].startswith("adam, rate 0.")
    assert legend[2] == "newton: does not arrive"
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()}
    assert len(looks) == 3
    thick = gaps.get_lines()[0]
    np.testing.assert_allclose(thick.get_ydata(), [race.racers[0].gaps[i:].max() for i in range(61)])
    np.testing.assert_allclose(chart.get_lines()[2].get_xydata(), race.racers[0].path)
    figure.savefig(tmp_path / "race.png")
    with pytest.raises(TypeError, match=r"race must be a result of gx.viz.race"):
        gx.viz.plot_race({"adam": gx.adam})


def test_the_film(tmp_path):
    race = gx.viz.race({"adam": gx.adam, "sgd": gx.sgd}, "himmelblau", steps=40)
    seen = []
    figure = gx.viz.animate_race(race, tmp_path / "race.gif", frames=5, progress=lambda x: seen.extend(x) or x)
    assert seen == [0, 5, 14, 26, 40]
    with Image.open(tmp_path / "race.gif") as film:
        assert film.n_frames == 5
        first = np.asarray(film.convert("RGB"), int)
        film.seek(4)
        last = np.asarray(film.convert("RGB"), int)
        assert film.info["duration"] == 2000
    assert 0.001 < (np.abs(first - last).max(axis=2) > 30).mean() < 0.1  # only the lines have grown
    assert figure.axes[1].get_title() == "step 40 of 40"
    with pytest.raises(ValueError, match="frames must be an integer of at least 1"):
        gx.viz.animate_race(race, tmp_path / "race.gif", frames=0)


def test_optimizers_from_text():
    parts = ["yogi", "sgd(momentum=0.9)", "lookahead(adam(), 5, 0.5)", "dog", "newton(hessian='absolute')", "lion(0.1)"]
    found = entries(", ".join(parts), NAMES)
    assert list(found) == parts
    assert found["yogi"](0.5) == gx.yogi(0.5)
    assert found["sgd(momentum=0.9)"](0.5) == gx.sgd(0.5, momentum=0.9)
    assert found["lookahead(adam(), 5, 0.5)"](0.5) == gx.lookahead(gx.adam(0.5), 5, 0.5)
    assert found["dog"] == gx.dog()
    assert found["newton(hessian='absolute')"] == gx.newton(hessian="absolute")
    assert found["lion(0.1)"] == gx.lion(0.1)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", ValueError, "is not a list of optimizers"),
        ("adam,(", ValueError, "is not a list of optimizers"),
        ("adamm", ValueError, "gradtx has no adamm"),
        ("adam,sgd,adam", ValueError, "adam occurs twice"),
        ("sgd(momentum=2.0)", ValueError, r"momentum must be in|decay must be in"),
        ("sgd(momenta=0.9)", TypeError, "momenta"),
        ("constant_schedule(1.0)", TypeError, "expected gradient transformations"),
        ("sgd; adam", ValueError, "is not a list of optimizers"),
    ],
)
def test_optimizers_that_are_refused(text, error, match):
    with pytest.raises(error, match=match):
        entries(text, NAMES)


def test_the_shell(tmp_path, capsys):
    arguments = ["race", "--optimizers", "yogi,muon,dog", "--steps", "20", "--problem", "saddle", "--out"]
    assert main([*arguments, str(tmp_path / "race.png")]) == 0
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, str(tmp_path / "race.gif"), "--decay"]) == 0
    with Image.open(tmp_path / "race.gif") as film:
        assert film.n_frames > 10
    assert main(["race", "--optimizers", "yogi,frob", "--out", "x.png"]) == 2
    assert "gradtx has no frob" in capsys.readouterr().err
