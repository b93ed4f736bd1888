"""The race on Rosenbrock's valley."""

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import race as script

GOAL = 1e-4 * 24.2


def rosenbrock(point):
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def slope(point):
    x, y = point
    return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


def lion_by_hand(rate_at, steps):
    """Lion with the defaults of gradtx: b1 = 0.9, b2 = 0.99, weight decay 0.001."""
    x, m, gaps = np.array([-1.2, 1.0]), np.zeros(2), []
    for t in range(steps + 1):
        gaps.append(rosenbrock(x))
        g = slope(x)
        x = x - rate_at(t) * (np.sign(0.9 * m + 0.1 * g) + 1e-3 * x)
        m = 0.99 * m + 0.01 * g
    return np.array(gaps)


@pytest.fixture(scope="module")
def race():
    return script.compute()


def test_who_arrives(race):
    yogi, adamw, lion, muon, lion_decayed, muon_decayed = race.racers
    assert race.goal == pytest.approx(GOAL)
    assert lion.arrival is muon.arrival is None
    assert 200 < yogi.arrival < 240
    assert 200 < adamw.arrival < 240
    assert 200 < muon_decayed.arrival < lion_decayed.arrival < 270
    for racer in (yogi, adamw, lion_decayed, muon_decayed):
        assert racer.gaps[racer.arrival - 1] > GOAL
        assert racer.gaps[racer.arrival :].max() <= GOAL


def test_lion_is_lion_and_runs_at_its_best(race):
    lion, decayed = race.racers[2], race.racers[4]
    np.testing.assert_allclose(lion.gaps[:50], lion_by_hand(lambda t: lion.rate, 50)[:-1], rtol=1e-6)
    steps = np.abs(np.diff(lion.path, axis=0))
    np.testing.assert_allclose(steps, lion.rate, rtol=2e-3)  # but for the weight decay of 0.001

    def cosine(rate):
        return lambda t: rate * (1 + np.cos(np.pi * t / script.STEPS)) / 2

    def tail(rate):
        return lion_by_hand(lambda t: rate, script.STEPS)[-30:].mean()

    def arrival(rate):
        return np.flatnonzero(lion_by_hand(cosine(rate), script.STEPS) > GOAL)[-1] + 1

    rates = np.geomspace(1e-4, 10, 61)
    near = [i + d for i in [int(np.argmin(np.abs(rates - lion.rate)))] for d in (-2, -1, 1, 2)]
    assert all(tail(rates[i]) > tail(lion.rate) for i in near)
    near = [i + d for i in [int(np.argmin(np.abs(rates - decayed.rate)))] for d in (-2, -1, 1, 2)]
    assert all(arrival(rates[i]) >= arrival(decayed.rate) for i in near)
    assert abs(arrival(decayed.rate) - decayed.arrival) <= 3


def test_muon_moves_by_about_the_learning_rate(race):
    muon = race.racers[3]
    assert muon.matrix
    lengths = np.linalg.norm(np.diff(muon.path, axis=0), axis=1) / muon.rate
    singular = gx.scale_by_muon().update(jnp.array([[3.0], [4.0]]), gx.scale_by_muon().init(jnp.zeros((2, 1))))[0]
    assert jnp.linalg.norm(singular) == pytest.approx(1, abs=0.35)
    assert lengths.min() > 0.65
    assert lengths.max() < 1.35


def test_the_picture_and_the_conclusion(race, tmp_path):
    figure = script.draw(race)
    figure.savefig(tmp_path / "race.png")
    assert len(figure.legends[0].get_texts()) == 6
    text = script.conclusion(race)
    assert f"Yogi needs {race.racers[0].arrival}" in text
    assert "Lion and Muon stop short" in text
