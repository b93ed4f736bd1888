"""The example with many processes gives the same run for any number of processes, and however often it is killed."""

import os
import random

import numpy as np
import pytest

from benchmarks import kills
from examples.distributed import launch

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(launch.ROOT / ".cache" / "jax"))


def losses(tmp_path, processes, devices, *arguments, monkeypatch):
    """Returns the losses of a run in double precision."""
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    log = tmp_path / f"{processes}-{devices}-{len(list(tmp_path.iterdir()))}"
    assert launch.wait(launch.start(processes, devices, ["--log", str(log), *arguments])) == 0
    return [(step, float.fromhex(loss)) for step, loss in kills.losses(log)]


@pytest.mark.heavy
def test_1_2_and_4_processes_find_the_same_losses(tmp_path, monkeypatch):
    """On meshes of 1 x 1, 2 x 2 and 4 x 1 devices, up to rounding (far below 1e-10 in double precision)."""
    few = ("--steps", "12", "--width", "32")
    one = losses(tmp_path, 1, 1, *few, monkeypatch=monkeypatch)
    assert [step for step, _ in one] == list(range(1, 13))
    assert one[-1][1] < 0.9 * one[0][1]
    for processes, devices, model in ((2, 2, "2"), (4, 1, "1")):
        found = losses(tmp_path, processes, devices, *few, "--model", model, monkeypatch=monkeypatch)
        np.testing.assert_allclose(found, one, rtol=1e-10)


@pytest.mark.heavy
def test_a_run_of_two_processes_goes_on_in_one_process(tmp_path, monkeypatch):
    """The checkpoint of a 2 x 2 mesh is restored onto one device, and the run continues, equal up to rounding."""
    few = ("--width", "32", "--save-every", "5", "--checkpoint", str(tmp_path / "run"))
    first = losses(tmp_path, 2, 2, "--steps", "12", *few, monkeypatch=monkeypatch)
    second = losses(tmp_path, 1, 1, "--steps", "12", *few, monkeypatch=monkeypatch)
    assert [step for step, _ in second] == [11, 12]
    np.testing.assert_allclose(second, first[10:], rtol=1e-10)


@pytest.mark.heavy
def test_two_processes_killed_in_a_save_go_on_bit_for_bit():
    """`python -m benchmarks.kills --kills 20` does it 20 times."""
    lines = list(kills.attempts(1, steps=60, width=64, seed=random.Random(0)))
    assert "1 kills in the middle of a save" in lines[-1]
