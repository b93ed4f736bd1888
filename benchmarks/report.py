"""Prints and draws the results of the benchmarks."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import optax
from tabulate import tabulate

import gradtx

TIMES = ("step", "trace+lower", "compile", "first step", "eager", "first eager")
COUNTS = {"kernels": "kernels", "copies": "copies", "bytes": "bytes_accessed"}

Result = dict[str, Any]


def environment() -> dict[str, Any]:
    """Returns a description of the machine and the versions, on which results depend."""
    versions = {lib.__name__: lib.__version__ for lib in (jax, optax, gradtx)}
    device = jax.devices()[0]
    return {**versions, "backend": device.platform, "device": device.device_kind, "cpus": os.cpu_count()}


def ratios(result: Result) -> dict[str, float]:
    """Takes gradtx's figures over optax's, of what both have some of."""
    ours, theirs = (result["median"][name] for name in ("gradtx", "optax"))
    found = {key: ours[key] / theirs[key] for key in TIMES if key in ours and key in theirs}
    ours, theirs = (result["program"][name] for name in ("gradtx", "optax"))
    return found | {key: ours[name] / theirs[name] for key, name in COUNTS.items() if theirs[name] and ours[name]}


def tables(results: Sequence[Result]) -> str:
    """Returns the summary and then every method on every tree, in GitHub's table format."""
    parts = ["ratios, gradtx over optax: geometric mean, and the worst", _summary(results)]
    for tree in dict.fromkeys(result["tree"] for result in results):
        of_tree = [result for result in results if result["tree"] == tree]
        leaves, parameters = of_tree[0]["leaves"], of_tree[0]["parameters"]
        parts += [f"{tree}: {leaves} leaves, {parameters:,} parameters", _table(map(_row, of_tree))]
    return "\n\n".join(parts)


def _summary(results: Sequence[Result]) -> str:
    rows = []
    for tree in dict.fromkeys(result["tree"] for result in results):
        of_tree = {result["method"]: ratios(result) for result in results if result["tree"] == tree}
        row = {"tree": tree, "methods": str(len(of_tree))}
        for key in (*TIMES, *COUNTS):
            found = {name: values[key] for name, values in of_tree.items() if key in values}
            if found:
                worst = max(found, key=lambda name: found[name])
                mean = math.exp(sum(map(math.log, found.values())) / len(found))
                row[key] = f"{mean:.2f}, {found[worst]:.2f} {worst}"
        rows.append(row)
    return _table(rows)


def _row(result: Result) -> dict[str, str]:
    found, n = ratios(result), result["parameters"]
    row = {"method": result["method"]} | {key: f"{found[key]:.2f}" for key in TIMES if key in found}
    both = [result["program"][name] for name in ("gradtx", "optax")]
    row |= {key: " / ".join(str(x[name]) for x in both) for key, name in COUNTS.items() if key != "bytes"}
    row["bytes"] = f"{found['bytes']:.2f}" if "bytes" in found else ""
    for key, name in (("temporary", "temporary_bytes"), ("state", "state_bytes")):
        row[key] = " / ".join(f"{x[name] / n:.2f}" for x in both)
    return row


def _table(rows: Iterable[dict[str, str]]) -> str:
    return tabulate(list(rows), headers="keys", tablefmt="github", disable_numparse=True)


def picture(results: Sequence[Result], file: pathlib.Path) -> None:
    """Draws a point for every method and tree: a strip for each column, on a logarithmic axis, with 1 marked."""
    from matplotlib import pyplot as plt

    keys = [key for key in TIMES if any(key in ratios(result) for result in results)]
    names = sorted({result["tree"] for result in results})
    figure, axes = plt.subplots(len(keys), 1, figsize=(9, 1.3 * len(keys) + 0.6), sharex=True, squeeze=False)
    for ax, key in zip(axes[:, 0], keys, strict=True):
        for place, tree in enumerate(names):
            found = [ratios(result).get(key) for result in results if result["tree"] == tree]
            points = [x for x in found if x]
            ax.plot(points, [place] * len(points), "o", alpha=0.45, markersize=4, color=f"C{place}")
            if points:
                mean = math.exp(sum(map(math.log, points)) / len(points))
                ax.plot([mean], [place], "|", color="black", markersize=14)
        ax.axvline(1, color="grey", linewidth=0.8)
        ax.set(xscale="log", ylim=(-0.6, len(names) - 0.4), yticks=range(len(names)), yticklabels=names)
        ax.set_title(key, loc="left", fontsize="medium")
    axes[-1, 0].set_xlabel("gradtx / optax, every method; the bar is the geometric mean")
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)
