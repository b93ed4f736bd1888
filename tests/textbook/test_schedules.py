"""Every curve against its closed form, and gradtx's schedules against PyTorch's schedulers."""

import numpy as np
import pytest

from examples.textbook import schedules

T = np.arange(schedules.STEPS + 1)


@pytest.fixture(scope="module")
def result():
    return schedules.compute()


def cosine(share):
    return (1 + np.cos(np.pi * share)) / 2


def restarts():
    """Cycles of 14, 28, 56 and 112 steps."""
    lengths = [14, 28, 56, 112]
    return 0.1 * np.concatenate([cosine(np.arange(n) / n) for n in lengths])[: len(T)]


def warm_restarts():
    """Cycles of 25 steps: 5 up from 0.001 to a peak of 0.1 * 0.7^i, and 20 down."""
    cycle, t = T // 25, T % 25
    height = np.where(t < 5, t / 5, cosine((t - 5) / 20))
    return 0.001 + (0.1 * 0.7**cycle - 0.001) * height


CLOSED_FORMS = {
    "ConstantLR": np.full(len(T), 0.1),
    "LambdaLR": 0.1 / np.sqrt(T + 1),
    "StepLR": 0.1 * 0.6 ** (T // 25),
    "MultiStepLR": 0.1 * 0.5 ** ((T >= 15).astype(int) + (T >= 30)),
    "ExponentialLR": 0.1 * 0.95**T,
    "CosineAnnealingLR": 0.01 + 0.09 * cosine(np.minimum(T / 80, 1)),
    "CosineAnnealingWarmRestarts": restarts(),
    "with warm-up and gamma": warm_restarts(),
    "SequentialLR": np.where(T < 10, 0.1 * (0.01 + 0.99 * T / 10), 0.1 * cosine((T - 10) / 90)),
}


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_the_closed_form(result, name):
    np.testing.assert_allclose(result.own[name], CLOSED_FORMS[name], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", [name for name, (torch, _) in schedules.SCHEDULES.items() if torch is not None])
def test_both_libraries_agree(result, name):
    assert schedules.difference(result, name) < 1e-15


def test_pytorchs_cosine_goes_on_past_its_end(result):
    np.testing.assert_allclose(result.torch["CosineAnnealingLR"], 0.01 + 0.09 * cosine(T / 80), rtol=1e-12)
    assert result.torch["CosineAnnealingLR"][-1] > 2 * result.own["CosineAnnealingLR"][-1]


def test_the_conclusion(result):
    conclusion = schedules.conclusion(result)
    assert "Eight of PyTorch's schedulers" in conclusion
    assert "climbed to 0.023" in conclusion
