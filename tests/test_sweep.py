"""The benchmark sweep finds all cases and counts kernels and bytes correctly."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import methods, reasons, report, trees
from benchmarks.program import Program, program

MATRIX = jax.ShapeDtypeStruct((64, 32), jnp.float32)


def compiled(function, *args):
    return program(jax.jit(function).lower(*args).compile())


def test_a_program_is_counted():
    found = compiled(lambda x, t: (x * 2, jnp.sum(x), t + 1), MATRIX, jax.ShapeDtypeStruct((), jnp.int32))
    assert found.kernels >= 2
    assert found.scalar_kernels >= 1
    assert found.branches == 0
    assert found.bytes_accessed >= 2 * 4 * 64 * 32


def test_branches_and_loops_are_counted_with_what_is_in_them():
    def branching(x, yes):
        return jax.lax.cond(yes, lambda: x @ x.T, lambda: jnp.zeros((64, 64), x.dtype))

    found = compiled(branching, MATRIX, jax.ShapeDtypeStruct((), bool))
    assert found.branches == 1
    assert found.kernels >= 1
    loop = compiled(lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.tanh(y) * 2, x), MATRIX)
    assert loop.branches == 0
    assert loop.kernels >= 1


def test_every_shared_method_is_found_and_can_be_made():
    shared, shapes = methods.shared(), trees.few()
    assert len(shared) > 120
    assert {"adamw", "apply_if_finite", "prodigy", "scale_by_sm3", "accumulate", "inject_hyperparams"} <= set(shared)
    for method in shared.values():
        for library in ("gradtx", "optax"):
            assert hasattr(method.make(library, shapes), "update"), method


def test_what_is_dearer_needs_a_reason(monkeypatch, tmp_path):
    ours, theirs = Program(3, 1, 0, 0, 1000, 9000), Program(2, 1, 1, 0, 1000, 100)
    assert reasons.dearer(ours, theirs) == []  # a copy is a kernel, and a few kB are nothing
    assert reasons.dearer(ours._replace(copies=2, temporary_bytes=10**6), theirs) == [
        "kernels",
        "copies",
        "temporary_bytes",
    ]
    monkeypatch.setattr(reasons, "FILE", tmp_path / "reasons.toml")
    reasons.FILE.write_text('[adam]\nkernels = "it counts"\n[yogi]\ncopies = "no more"\n')
    more = {("adam", "kernels"): "adam: kernels", ("lion", "copies"): "lion: copies"}
    left = reasons.unexplained(more, {"adam", "yogi", "lion"})
    assert left[0] == "lion: copies"
    assert left[1].startswith("yogi: optax has as many copies now")
    assert reasons.unexplained(more, {"adam"})[1:] == []


def test_tables_and_picture(tmp_path):
    figures = {"step": 1.0, "trace+lower": 2.0, "compile": 1.0, "first step": 3.0}
    counted = {**Program(3, 1, 0, 0, 1000, 100)._asdict(), "state_bytes": 8}
    result = {
        "method": "adam",
        "tree": "large",
        "parameters": 1,
        "leaves": 1,
        "median": {"gradtx": figures, "optax": {key: 2 * x for key, x in figures.items()}},
        "program": {"gradtx": counted, "optax": counted},
    }
    text = report.tables([result])
    assert "0.50, 0.50 adam" in text
    assert "| adam" in text
    report.picture([result], tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["adamw", "clip_by_global_norm", "apply_if_finite"])
def test_no_step_needs_more_memory_than_optax_has(name):
    method, shapes = methods.shared()[name], trees.few()
    found = {}
    with jax.enable_x64(False):
        for library in ("gradtx", "optax"):
            state = jax.eval_shape(method.make(library, shapes).init, shapes)
            found[library] = program(method.step(library, shapes).lower(shapes, state, shapes).compile())
    assert found["gradtx"].branches == 0
    assert found["gradtx"].temporary_bytes <= found["optax"].temporary_bytes * 1.05 + 64 * 1024
