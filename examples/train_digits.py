"""Trains a small convolutional network on scikit-learn's handwritten digits with a composed gradtx optimizer.

The data are 1,797 images of 8 x 8 pixels that come with scikit-learn; a quarter of them is held out for testing. The
optimizer is a chain: clipping by the global norm, the method that `--optimizer` names, weight decay on the kernels
(none for adam and nadam), and a learning rate that warms up and then follows half a cosine. The whole step is one
jitted function with donated arguments.

    pip install '.[examples]'
    python examples/train_digits.py
    python examples/train_digits.py --optimizer adamw --steps 600
    python examples/train_digits.py --checkpoint out/run

The program prints the optimizer and the size of its state, trains, and saves a picture of the run in the folder `out`.
With `--checkpoint`, which needs orbax, it saves checkpoints during the run, and resumes an interrupted run. A resumed
run ends bit for bit like a run without interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import gradtx as gx

BATCH_SIZE = 64
MAX_NORM = 1.0  # for clipping the gradient
FETCH_EVERY = 20  # steps between two fetches of metrics from the device
SAVE_EVERY = 100  # steps between two checkpoints
TESTS = 12  # evaluations of the test accuracy, evenly spread over the run
LAYOUT = ("NHWC", "HWIO", "NHWC")  # layouts of images, kernels and outputs of convolutions

Params = dict[str, dict[str, Array]]


class Method(NamedTuple):
    """The transformation that gives an optimizer its name, its peak learning rate, and the kernels' weight decay."""

    link: gx.GradientTransformation
    peak_rate: float
    weight_decay: float = 0.0


METHODS = {
    "yogi": Method(gx.scale_by_yogi(), 0.015, weight_decay=0.01),
    "adamw": Method(gx.scale_by_adam(), 0.01, weight_decay=0.01),
    "adam": Method(gx.scale_by_adam(), 0.01),
    "nadam": Method(gx.scale_by_adam(nesterov=True), 0.01),
    "nadamw": Method(gx.scale_by_adam(nesterov=True), 0.01, weight_decay=0.01),
    "sgd": Method(gx.trace(0.9, nesterov=True), 0.2, weight_decay=0.001),
    "rmsprop": Method(gx.scale_by_rms(), 0.01, weight_decay=0.01),
    "adagrad": Method(gx.scale_by_rss(), 0.5, weight_decay=0.001),
    "adadelta": Method(gx.scale_by_adadelta(eps=1e-4), 1.0, weight_decay=0.001),  # a larger eps starts faster
}


class Digits(NamedTuple):
    """Images of shape (n, 8, 8, 1) with entries in [0, 1], and their labels."""

    images: Array
    labels: Array


class Metrics(NamedTuple):
    """What one training step reports about its minibatch: scalars, or arrays with one entry per step."""

    loss: Array
    accuracy: Array
    learning_rate: Array
    grad_norm: Array


def load_data() -> tuple[Digits, Digits]:
    """Loads the training and the test set. The split is the same in every run."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    split = train_test_split(images, labels.astype(np.int32), test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, split)
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def init_params(key: Array) -> Params:
    """Initializes the kernels as in He et al. (2015), and the biases with zero."""
    shapes = {"conv1": (3, 3, 1, 32), "conv2": (3, 3, 32, 64), "dense": (4 * 4 * 64, 10)}
    init = jax.nn.initializers.he_normal()
    keys = jax.random.split(key, len(shapes))
    layers = zip(keys, shapes.items(), strict=True)
    return {name: {"kernel": init(k, shape), "bias": jnp.zeros(shape[-1])} for k, (name, shape) in layers}


def logits(params: Params, images: Array) -> Array:
    x = images
    for name, stride in (("conv1", 1), ("conv2", 2)):
        x = jax.lax.conv_general_dilated(x, params[name]["kernel"], (stride, stride), "SAME", dimension_numbers=LAYOUT)
        x = jax.nn.relu(x + params[name]["bias"])
    return x.reshape(len(x), -1) @ params["dense"]["kernel"] + params["dense"]["bias"]


def sample(key: Array, data: Digits) -> Digits:
    """Draws a minibatch with replacement, and shifts each image by up to one pixel in each direction."""
    rows_key, shifts_key = jax.random.split(key)
    rows = jax.random.randint(rows_key, (BATCH_SIZE,), 0, len(data.labels))
    shifts = jax.random.randint(shifts_key, (BATCH_SIZE, 2), 0, 3)
    padded = jnp.pad(data.images[rows], ((0, 0), (1, 1), (1, 1), (0, 0)))
    images = jax.vmap(lambda image, shift: jax.lax.dynamic_slice(image, (*shift, 0), (8, 8, 1)))(padded, shifts)
    return Digits(images, data.labels[rows])


def loss_and_accuracy(params: Params, batch: Digits) -> tuple[Array, Array]:
    scores = jax.nn.log_softmax(logits(params, batch.images))
    loss = -jnp.take_along_axis(scores, batch.labels[:, None], axis=1).mean()
    return loss, (scores.argmax(axis=1) == batch.labels).mean()


def make_optimizer(method: Method, steps: int, params: Params) -> gx.GradientTransformation:
    schedule = gx.warmup_cosine_decay_schedule(0.0, method.peak_rate, warmup_steps=steps // 10, decay_steps=steps)
    links = [gx.clip_by_global_norm(MAX_NORM), method.link]
    if method.weight_decay:
        kernels = jax.tree.map(lambda p: p.ndim > 1, params)
        links.append(gx.add_decayed_weights(method.weight_decay, mask=kernels))
    return gx.chain(*links, gx.scale_by_learning_rate(schedule))


# The optimizer is hashable, so it can be a static argument: its hyperparameters are constants of the compiled program.
@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    tx: gx.GradientTransformation, params: Params, state: Any, data: Digits, key: Array, step: int
) -> tuple[Params, Any, Metrics]:
    batch = sample(jax.random.fold_in(key, step), data)
    (loss, accuracy), grads = jax.value_and_grad(loss_and_accuracy, has_aux=True)(params, batch)
    rate = gx.hyperparameters(tx, state)["scale_by_learning_rate.learning_rate"]
    updates, state = tx.update(grads, state, params)
    return gx.apply_updates(params, updates), state, Metrics(loss, accuracy, rate, gx.tree.norm(grads))


@jax.jit
def test_accuracy(params: Params, data: Digits) -> Array:
    return loss_and_accuracy(params, data)[1]


def train(
    tx: gx.GradientTransformation,
    params: Params,
    state: Any,
    data: Digits,
    test: Digits,
    key: Array,
    steps: int,
    manager: Any = None,
) -> tuple[Metrics, dict[int, float]]:
    """Trains, and returns the metrics of every step and the test accuracy by step. Donates `params` and `state`.

    With a checkpoint manager, saves the run, and continues from the last checkpoint if there is one.
    """
    done, kept = 0, Metrics(*np.full((4, steps), np.nan, np.float32))
    accuracies = np.full(steps + 1, np.nan, np.float32)
    if manager is not None and manager.latest_step() is not None:
        done, params, state, (kept, accuracies) = gx.checkpoint.restore(manager, tx, params, state, (kept, accuracies))
    recent: list[Metrics] = []
    test_after = set(np.linspace(0, steps, TESTS + 1, dtype=int).tolist())
    tests: dict[int, Array] = {}
    with tqdm(total=steps, initial=done, unit="step") as bar:
        for step in range(done + 1, steps + 1):
            params, state, metrics = train_step(tx, params, state, data, key, step)
            recent.append(metrics)
            if step in test_after:
                tests[step] = test_accuracy(params, test)
            # Fetching waits for the device, so fetch rarely, for many steps at once.
            if step % FETCH_EVERY == 0 or step == steps:
                for curve, values in zip(kept, zip(*jax.device_get(recent), strict=True), strict=True):
                    curve[step - len(recent) : step] = values
                for tested, accuracy in tests.items():
                    accuracies[tested] = accuracy
                loss, accuracy, _, norm = (curve[step - len(recent) : step].mean() for curve in kept)
                rate = kept.learning_rate[step - 1]
                bar.set_postfix_str(f"loss {loss:.4f}, acc {accuracy:.1%}, lr {rate:.1e}, grad {norm:.2f}", False)
                bar.update(len(recent))
                recent.clear()
                if manager is not None:
                    gx.checkpoint.save(manager, step, tx, params, state, more=(kept, accuracies))
    return kept, {step: float(x) for step, x in enumerate(accuracies) if step in test_after and step}


def plot(path: Path, title: str, metrics: Metrics, tests: dict[int, float]) -> None:
    """Saves four panels over the steps: loss, accuracy, learning rate and gradient norm."""
    from matplotlib.figure import Figure  # not pyplot, which would look for a display

    figure = Figure(figsize=(8, 9), layout="constrained")
    figure.suptitle(title)
    loss, accuracy, rate, norm = axes = figure.subplots(4, sharex=True)
    curves = metrics._replace(accuracy=100 * metrics.accuracy)
    labels = "cross-entropy loss (nats)", "accuracy (%)", "learning rate", "gradient norm"
    steps = np.arange(1, len(metrics.loss) + 1)
    window = np.ones(max(1, len(steps) // 40))
    for ax, curve, label in zip(axes, curves, labels, strict=True):
        if ax is not rate:
            ax.plot(steps, curve, color="C0", alpha=0.3, linewidth=0.8, label="minibatch")
            curve = np.convolve(curve, window, "same") / np.convolve(np.ones(len(curve)), window, "same")
        ax.plot(steps, curve, color="C0", label="running mean")
        ax.set(ylabel=label, xmargin=0.01)
        ax.grid(alpha=0.3)
    accuracy.plot(list(tests), [100 * x for x in tests.values()], "o-", color="C1", markersize=4, label="test set")
    norm.axhline(MAX_NORM, color="C3", linestyle="--", label=f"clipped to {MAX_NORM:g}")
    loss.set(yscale="log")
    rate.yaxis.set_major_formatter("{x:g}")
    norm.set(yscale="log", xlabel="step")
    norm.xaxis.get_major_locator().set_params(integer=True)
    for ax in (loss, accuracy, norm):
        ax.legend()
    figure.align_ylabels(axes)
    figure.savefig(path, dpi=150)


def checkpoints(folder: Path | None) -> Any:
    """Opens a checkpoint manager for a folder, and waits for its writes at the end; yields None without a folder."""
    if folder is None:
        return contextlib.nullcontext()
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(save_interval_steps=SAVE_EVERY, max_to_keep=2)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def positive_int(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Trains a small network on handwritten digits with gradtx.")
    parser.add_argument("--optimizer", choices=METHODS, default="yogi", help="default: %(default)s")
    parser.add_argument("--steps", type=positive_int, default=800, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the initial parameters and the minibatches")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="folder to save the run in, and to resume it from")
    args = parser.parse_args(argv)
    start = time.perf_counter()

    data, test = load_data()
    params_key, batches_key = jax.random.split(jax.random.key(args.seed))
    params = init_params(params_key)
    tx = make_optimizer(METHODS[args.optimizer], args.steps, params)
    state = tx.init(params)
    print(f"{tx}\nparameters       {gx.tree.size(params):,}")
    print(f"optimizer state  {gx.tree.nbytes(state) / gx.tree.size(params):.2f} bytes per parameter", flush=True)

    with checkpoints(args.checkpoint) as manager:
        metrics, tests = train(tx, params, state, data, test, batches_key, args.steps, manager)

    accuracy = f"{tests[args.steps]:.2%} of {len(test.labels)} test images"
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"train_digits_{args.optimizer}.png"
    plot(path, f"{args.optimizer} on handwritten digits: {accuracy} right", metrics, tests)
    print(f"test accuracy    {accuracy}\npicture          {path}")
    print(f"time             {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
