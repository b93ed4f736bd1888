"""The tables of `benchmarks.step`; its docstring says what the columns are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from tabulate import tabulate

import gradtx


def environment() -> dict[str, Any]:
    versions = {lib.__name__: lib.__version__ for lib in (jax, optax, gradtx)}
    device = jax.devices()[0]
    return {**versions, "backend": device.platform, "device": device.device_kind, "cpus": os.cpu_count()}


def tables(results: Sequence[dict[str, Any]]) -> str:
    """The ratios, and the times behind them, in GitHub's table format."""
    return (
        "ratios of medians, gradtx over optax; in the last three columns the values of both, gradtx / optax\n\n"
        f"{_table(results, _ratio_row)}\n\n"
        "medians in milliseconds, gradtx / optax\n\n"
        f"{_table(results, _time_row)}"
    )


def _table(results: Sequence[dict[str, Any]], row: Callable[[dict[str, Any]], dict[str, str]]) -> str:
    return tabulate([row(result) for result in results], headers="keys", tablefmt="github", disable_numparse=True)


def _both(values: dict[str, float], form: str) -> str:
    return " / ".join(format(values[name], form) for name in ("gradtx", "optax"))


def _ratio_row(result: dict[str, Any]) -> dict[str, str]:
    median, n = result["median"], result["parameters"]
    row = {"optimizer": result["optimizer"], "tree": result["tree"]}
    for key in ("step", "trace+lower", "trace", "lower", "compile", "eager"):
        row[key] = f"{median['gradtx'][key] / median['optax'][key]:.2f}"
    row["state B/param"] = _both({name: x / n for name, x in result["state_bytes"].items()}, ".2f")
    for column, probe in (("of floor", "copy"), ("in place", "in place")):
        floor = result["bytes_to_move"] / result["bandwidth"][probe]
        row[column] = _both({name: floor / x["step"] for name, x in median.items()}, ".2f")
    return row


def _time_row(result: dict[str, Any]) -> dict[str, str]:
    row = {"optimizer": result["optimizer"], "tree": result["tree"], "leaves": str(result["leaves"])}
    for key in ("step", "trace", "lower", "compile", "eager"):
        row[key] = _both({name: 1e3 * x[key] for name, x in result["median"].items()}, ".3g")
    row["copy, in place GB/s"] = ", ".join(f"{x / 1e9:.1f}" for x in result["bandwidth"].values())
    return row
