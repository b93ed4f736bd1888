"""The logging example sends the right values to each framework."""

import json
import sys
import types

import jax
import pytest

from examples import log_metrics


def test_the_same_numbers_reach_every_logger(tmp_path, monkeypatch):
    calls = []
    writer = types.SimpleNamespace(add_scalar=lambda *call: calls.append(call))
    run = types.SimpleNamespace(log=lambda numbers, step: calls.append((step, numbers)))
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=lambda folder: writer))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: run))
    numbers = {"loss": 0.5, "learning_rate/a": 0.1}
    for make in log_metrics.LOGGERS.values():
        make(tmp_path)(7, numbers)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7, **numbers}
    assert calls == [("loss", 0.5, 7), ("learning_rate/a", 0.1, 7), (7, numbers)]


@pytest.mark.heavy
def test_a_run_is_logged(tmp_path):
    with jax.numpy_rank_promotion("allow"):  # as users run it
        log_metrics.main(["--steps", "5", "--every", "2", "--out", str(tmp_path)])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[0].keys() >= {"loss", "grad_norm", "clip_factor", "learning_rate", "skipped", "update_ratio/matrices"}
    assert all(0 < line["clip_factor"] <= 1 for line in lines)
