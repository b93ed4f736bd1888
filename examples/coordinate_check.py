"""Checks that a learning rate carries over from narrow to wide networks with `gx.scale_by_width`, and draws it.

Multilayer perceptrons of several widths take a few steps of Adam on scikit-learn's handwritten digits, all with the
same learning rate. Without `gx.scale_by_width`, the activations of wider networks change more in a step. With it, the
activations change by about the same amount at every width, so a learning rate that was tuned on a narrow network also
works for a wide network.

    pip install '.[examples]'
    python examples/coordinate_check.py

The change of the activations of each layer grows as a power of the width. The program prints the exponent of this
power, and saves two pictures in the folder `out`. In both runs, the initial weights have the variances of maximal
update parametrization: 1 / inputs, and 1 / inputs^2 in the last layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import gradtx as gx

WIDTHS = (64, 128, 256, 512, 1024)
STEPS = 4
RATE = 0.003
LAYERS = ("first", "hidden", "last")


def init(width: int) -> dict[str, Any]:
    """Initializes the weights of a network."""
    shapes = {"first": (64, width), "hidden": (width, width), "last": (width, 10)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    power = {"first": 0.5, "hidden": 0.5, "last": 1.0}
    return {
        name: jax.random.normal(key, shape) / shape[0] ** power[name]
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def activations(params: Any, x: Any) -> dict[str, Any]:
    """Returns the output of each layer, before the nonlinearity."""
    first = x @ params["first"]
    hidden = jax.nn.relu(first) @ params["hidden"]
    return {"first": first, "hidden": hidden, "last": jax.nn.relu(hidden) @ params["last"]}


def changes(tx: Any, width: int, x: Any, y: Any, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Returns for each layer, after each step, the mean absolute change of its activations since the start."""

    def loss(params: Any) -> Any:
        logits = activations(params, x)["last"]
        return gx.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any]:
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return gx.apply_updates(params, updates), state

    params = init(width)
    start, state, found = activations(params, x), tx.init(params), []
    for _ in range(steps):
        params, state = step(params, state)
        now = activations(params, x)
        found.append([float(jnp.mean(jnp.abs(now[name] - start[name]))) for name in LAYERS])
    return dict(zip(LAYERS, np.array(found).T, strict=True))


def check(tx: Any, widths: tuple[int, ...] = WIDTHS, images: int = 256) -> dict[str, np.ndarray]:
    """Returns the changes for each layer, by step and width."""
    data = load_digits()
    x, y = jnp.asarray(data.data[:images] / 16), jnp.asarray(data.target[:images])
    found = [changes(tx, width, x, y) for width in widths]
    return {name: np.stack([each[name] for each in found], axis=1) for name in LAYERS}


def optimizers(rate: float = RATE, base: int = WIDTHS[0]) -> dict[str, Any]:
    """Returns Adam, and Adam with updates scaled from a network of width `base`."""
    shapes = jax.eval_shape(lambda: init(base))
    scaled = gx.chain(gx.scale_by_adam(), gx.scale_by_width(shapes, "adam"), gx.scale_by_learning_rate(rate))
    return {"adam": gx.adam(rate), "scaled": scaled}


def slope(sizes: np.ndarray, widths: tuple[int, ...] = WIDTHS) -> float:
    """Estimates the exponent of the width in the changes after the last step."""
    return float(np.polyfit(np.log(widths), np.log(sizes[-1]), 1)[0])


def main() -> None:
    """Runs the check and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=RATE, help="the learning rate of all networks")
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder of the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, tx in optimizers(given.rate).items():
        sizes = check(tx)
        print(name, {layer: round(slope(sizes[layer]), 2) for layer in LAYERS})
        figure = gx.viz.plot_coordinates(sizes, WIDTHS, ylabel="mean change of an activation")
        figure.savefig(given.out / f"coordinates_{name}.png")


if __name__ == "__main__":
    main()
