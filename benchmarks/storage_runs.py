"""Compares whole training runs with quantized states with runs in float32: does a format change the final loss?

    python -m benchmarks.storage_runs
    python -m benchmarks.storage_runs --steps 200 --tasks digits

There are three tasks, whose data come with Python packages, three methods, and several formats for the state. Each cell
of the table is the loss on held-out data after the last step, as the mean over three seeds; learning rates decay to
zero. The seed determines the initial parameters and the batches, and every format uses the same seeds as float32. The
loss is the training loss: cross entropy with labels smoothed by 0.1.

digits   A perceptron with two hidden layers of 128 on 1,797 images of 8 x 8 (scikit-learn).
text     A language model of characters: 16 characters of context, embedded in 16, one hidden layer of 256; on the
         help texts of Python (`pydoc_data.topics`).
patches  A convolutional network that recognizes, for patches of 12 x 12 pixels, the photograph (of two) and its quarter
         from which a patch was cut (scikit-learn's sample images).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tabulate import tabulate

import gradtx as gx

SEEDS = 3
FORMATS: tuple[Any, ...] = (None, "int8", "bf16+8", "int4")
METHODS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "adamw": (lambda rate: gx.adamw(rate, weight_decay=0.01), 2e-3),
    "lion": (lambda rate: gx.lion(rate, weight_decay=0.1), 2e-4),
    "muon": (lambda rate: gx.muon(rate, weight_decay=0.01), 1e-2),
}


class Task(NamedTuple):
    """A learning task: training and test data, the shapes of the parameters, and a function that computes logits."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    logits: Callable[[Any, Any], Any]
    classes: int


def _split(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    order = np.random.default_rng(0).permutation(len(x))
    x, y, n = x[order], y[order], len(x) // 5
    return (x[n:], y[n:]), (x[:n], y[:n])


def digits() -> Task:
    """Makes the task of classifying images of digits with a perceptron."""
    from sklearn.datasets import load_digits

    data = load_digits()
    train, test = _split((data.data / 16).astype(np.float32), data.target)
    shapes = {"w1": (64, 128), "b1": (128,), "w2": (128, 128), "b2": (128,), "w3": (128, 10), "b3": (10,)}

    def logits(p: Any, x: Any) -> Any:
        x = jax.nn.gelu(x @ p["w1"] + p["b1"])
        return jax.nn.gelu(x @ p["w2"] + p["b2"]) @ p["w3"] + p["b3"]

    return Task(train, test, shapes, logits, 10)


def text() -> Task:
    """Makes the task of predicting the next character in the help texts of Python."""
    from pydoc_data.topics import topics

    characters = np.frombuffer("".join(topics.values()).encode("ascii", "replace"), np.uint8)[:200_000]
    known, codes = np.unique(characters, return_inverse=True)
    windows = np.lib.stride_tricks.sliding_window_view(codes, 17)[::4]
    n = len(windows) // 5
    parts = [(part[:, :16].astype(np.int32), part[:, 16]) for part in (windows[n:], windows[:n])]
    size = len(known)
    shapes = {"e": (size, 16), "w1": (256, 256), "b1": (256,), "w2": (256, size), "b2": (size,)}

    def logits(p: Any, x: Any) -> Any:
        x = p["e"][x].reshape(-1, 256)
        return jax.nn.gelu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    return Task(parts[0], parts[1], shapes, logits, size)


def patches() -> Task:
    """Makes the task of classifying patches of photographs with a convolutional network."""
    from sklearn.datasets import load_sample_images

    rng, xs, ys = np.random.default_rng(0), [], []
    for i, image in enumerate(load_sample_images().images):
        for k in range(4):
            for _ in range(600):
                row = rng.integers(0, 200) + 213 * (k // 2)
                column = rng.integers(0, 300) + 320 * (k % 2)
                xs.append(image[row : row + 12, column : column + 12])
                ys.append(4 * i + k)
    train, test = _split(np.asarray(xs, np.float32) / 255 - 0.5, np.asarray(ys))
    shapes = {"k1": (3, 3, 3, 32), "k2": (3, 3, 32, 32), "w1": (288, 64), "b1": (64,), "w2": (64, 8), "b2": (8,)}

    def convolved(x: Any, kernel: Any) -> Any:
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.gelu(x)

    def logits(p: Any, x: Any) -> Any:
        x = convolved(convolved(x, p["k1"]), p["k2"]).reshape(x.shape[0], -1)
        return jax.nn.gelu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    return Task(train, test, shapes, logits, 8)


TASKS = {"digits": digits, "text": text, "patches": patches}


def first(task: Task, key: Any) -> Any:
    """Returns the initial parameters."""
    keys = dict(zip(task.shapes, jax.random.split(key, len(task.shapes)), strict=True))
    return {
        name: jnp.zeros(shape)
        if len(shape) == 1
        else jax.random.normal(keys[name], shape) / math.sqrt(math.prod(shape[:-1]) if name != "e" else 1)
        for name, shape in task.shapes.items()
    }


def loss(task: Task, params: Any, x: Any, y: Any) -> Any:
    """Cross entropy with smoothed labels."""
    wanted = 0.9 * jax.nn.one_hot(y, task.classes) + 0.1 / task.classes
    return -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(task.logits(params, x)), axis=-1))


def run(task: Task, tx: Any, steps: int, batch: int, seed: Any) -> Any:
    """Trains, and returns the loss on held-out data at the end."""
    x, y = map(jnp.asarray, task.train)
    key = jax.random.key(seed)
    params = first(task, key)

    def step(carry: Any, t: Any) -> Any:
        params, state = carry
        picked = jax.random.randint(jax.random.fold_in(key, t), (batch,), 0, len(x))
        grads = jax.grad(partial(loss, task))(params, x[picked], y[picked])
        updates, state = tx.update(grads, state, params)
        return (gx.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))
    return loss(task, params, *(jnp.asarray(part[:4000]) for part in task.test))


def main(arguments: Sequence[str]) -> None:
    """Prints a table for each task and method as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run (default 2000)")
    parser.add_argument("--batch", type=int, default=32, help="examples of each step (default 32)")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for name in options.tasks:
        task = TASKS[name]()
        for method, (make, rate) in METHODS.items():
            plain = 0.0
            for form in FORMATS:
                tx = make(gx.cosine_decay_schedule(rate, options.steps))
                tx = tx if form is None else gx.stored(tx, form)
                start = time.perf_counter()
                losses = jax.jit(jax.vmap(partial(run, task, tx, options.steps, options.batch)))(jnp.arange(SEEDS))
                mean = float(jnp.mean(losses))
                plain = plain or mean
                rows.append(
                    {
                        "task": name,
                        "method": method,
                        "format": "float32" if form is None else str(form),
                        "loss": round(mean, 4),
                        "change": f"{100 * (mean / plain - 1):+.2f}%",
                        "seconds": round(time.perf_counter() - start, 1),
                    }
                )
                print(*rows[-1].values(), flush=True)
    print(tabulate(rows, headers="keys"))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
