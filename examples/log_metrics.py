"""Logs the metrics of a training run to a file of JSON lines, to TensorBoard or to Weights & Biases.

    python examples/log_metrics.py
    python examples/log_metrics.py --to tensorboard      # needs tensorboardX
    python examples/log_metrics.py --to wandb            # needs wandb

`gx.with_metrics` keeps the metrics of the last step in the state, and `gx.metrics(state)` returns them: norms, the clip
factor, the learning rate of each group, the number of skipped steps. Each logger in this program is a function of the
step and the metrics.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import gradtx as gx


def json_lines(folder):
    path = folder / "metrics.jsonl"
    path.write_text("")

    def log(step, numbers):
        with path.open("a") as file:
            print(json.dumps({"step": step, **numbers}), file=file)

    return log


def tensorboard(folder):
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))
    return lambda step, numbers: [writer.add_scalar(name, x, step) for name, x in numbers.items()]


def weights_and_biases(folder):
    import wandb

    run = wandb.init(project="digits", dir=str(folder))
    return lambda step, numbers: run.log(numbers, step=step)


LOGGERS = {"json": json_lines, "tensorboard": tensorboard, "wandb": weights_and_biases}


def loss_of(params, images, labels):
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    scores = hidden @ params["w2"] + params["b2"]
    return gx.losses.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="steps between two lines (default: %(default)s)")
    parser.add_argument("--to", choices=LOGGERS, default="json")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the log (default: %(default)s)")
    args = parser.parse_args(argv)

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(keys[0], (64, 64)) / 8,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(keys[1], (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }
    schedule = gx.warmup_cosine_decay_schedule(0.0, 0.01, warmup_steps=args.steps // 10, decay_steps=args.steps)
    groups = {"matrices": gx.select.ndim(min=2), "biases": gx.select.ndim(max=1)}
    tx = gx.with_metrics(gx.apply_if_finite(gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(schedule))), groups=groups)

    @jax.jit
    def train_step(params, state, step):
        rows = jax.random.choice(jax.random.fold_in(jax.random.key(1), step), len(labels), (64,))
        loss, grads = jax.value_and_grad(loss_of)(params, images[rows], labels[rows])
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state, {"loss": loss, **gx.metrics(state)}

    args.out.mkdir(parents=True, exist_ok=True)
    log, state = LOGGERS[args.to](args.out), tx.init(params)
    for step in range(1, args.steps + 1):
        params, state, numbers = train_step(params, state, step)
        if step % args.every == 0 or step == args.steps:  # reading a metric waits for the device
            log(step, {name: float(x) for name, x in numbers.items()})
    print(f"loss {numbers['loss']:.4f}; logged {', '.join(numbers)}")


if __name__ == "__main__":
    main()
