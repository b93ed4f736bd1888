"""Trains a small network in one or more processes, on a mesh of all their devices.

The mesh has two axes: each batch is split over "data", and the hidden layers are split over "model". The optimizer's
state is also split over "data" (ZeRO-1), so each device only holds its own shard of the state. With `--checkpoint` the
program saves checkpoints during the run, and a run that was killed resumes from its last complete checkpoint, bit for
bit.

    pip install '.[checkpoint]'
    python -m examples.distributed.train
    python -m examples.distributed.launch --processes 2 --devices 2 -- --checkpoint /tmp/run

The last line starts two processes on this machine. On a cluster, Slurm or Kubernetes starts the same program;
`docs/distributed.md` explains how.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import gradtx as gx

INPUTS, CLASSES, BATCH_SIZE = 16, 8, 32
SPECS = {  # how each parameter is split
    "in": PartitionSpec(None, "model"),
    "hidden": PartitionSpec("model", None),
    "out": PartitionSpec(None, None),
    "bias": PartitionSpec("model"),
}
SAVES_KEPT = 3

Params = dict[str, Array]


class Batch(NamedTuple):
    """Inputs of shape (batch, inputs), and their classes."""

    inputs: Array
    classes: Array


def join_the_others() -> None:
    """Connects this process with the other processes of the run, if the launcher has started several."""
    env = os.environ
    if "JAX_NUM_PROCESSES" in env:  # the launcher sets JAX_COORDINATOR_ADDRESS, too
        number, own = int(env["JAX_NUM_PROCESSES"]), int(env["JAX_PROCESS_ID"])
        jax.distributed.initialize(num_processes=number, process_id=own, cluster_detection_method="deactivate")
    elif int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1 or "JOB_COMPLETION_INDEX" in env:
        jax.distributed.initialize()  # JAX gets the rest from Slurm or Kubernetes


def make_mesh(model: int | None) -> Mesh:
    """Makes a mesh of all devices of all processes; the axis "model" has length 2 by default if that is possible."""
    devices = jax.device_count()
    model = model or (2 if devices % 2 == 0 else 1)
    return jax.make_mesh((devices // model, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))


def init_params(key: Array, width: int) -> Params:
    """Initializes the kernels as in He et al. (2015), and the bias with zero."""
    init = jax.nn.initializers.he_normal()
    shapes = {"in": (INPUTS, width), "hidden": (width, width), "out": (width, CLASSES)}
    keys = jax.random.split(key, len(shapes))
    kernels = {name: init(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    return {**kernels, "bias": jnp.zeros(width)}


def loss_of(params: Params, batch: Batch) -> Array:
    """Computes the mean cross entropy."""
    x = jax.nn.relu(batch.inputs @ params["in"] + params["bias"])
    x = jax.nn.relu(x @ params["hidden"])
    return gx.losses.softmax_cross_entropy_with_integer_labels(x @ params["out"], batch.classes).mean()


def load_batch(step: int, sharding: NamedSharding, dtype: Any) -> Batch:
    """Makes the batch of a step; each process only makes the rows of its own devices.

    To use a data set, read the rows that `index` selects. The batch only depends on the step, so a resumed run gets the
    same batches as a run without interruption.
    """
    random = np.random.default_rng(step)
    inputs = random.normal(size=(BATCH_SIZE, INPUTS)).astype(dtype)
    teacher = np.random.default_rng(0).normal(size=(INPUTS, CLASSES))
    classes = (inputs @ teacher).argmax(axis=1).astype(np.int32)
    return Batch(
        *(jax.make_array_from_callback(x.shape, sharding, lambda index, x=x: x[index]) for x in (inputs, classes))
    )


def make_optimizer(steps: int) -> gx.GradientTransformation:
    schedule = gx.warmup_cosine_decay_schedule(0.0, 0.01, warmup_steps=5, decay_steps=steps)
    return gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(schedule))


class Run(NamedTuple):
    """The step count, the parameters and the optimizer's state."""

    step: int
    params: Params
    state: Any


def start(tx: gx.GradientTransformation, places: Any, width: int, manager: Any) -> tuple[Run, Any]:
    """Returns the run from the last complete checkpoint, or a new run, and the shardings of the state."""
    make, key = partial(init_params, width=width), jax.random.key(0)
    shapes = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), jax.eval_shape(make, key), places
    )
    shardings = gx.sharding.state_shardings(tx, shapes, zero_axis="data")
    if manager is not None and manager.latest_step() is not None:
        found = gx.checkpoint.restore(manager, tx, shapes, shardings=shardings)
        return Run(found.step, found.params, found.state), shardings
    params = jax.jit(make, out_shardings=places)(key)
    return Run(0, params, gx.sharding.init(tx, params, shardings)), shardings


def train(
    tx: gx.GradientTransformation, run: Run, places: Any, shardings: Any, steps: int, manager: Any
) -> Iterable[Any]:
    """Yields the run and the loss after each step; saves the run at the steps that the manager selects."""
    mesh = places["in"].mesh

    @partial(jax.jit, donate_argnums=(0, 1), out_shardings=(places, shardings, NamedSharding(mesh, PartitionSpec())))
    def train_step(params: Params, state: Any, batch: Batch) -> tuple[Params, Any, Array]:
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        updates, state = gx.sharding.update(tx, grads, state, params, shardings, places)
        return gx.apply_updates(params, updates), state, loss

    rows = NamedSharding(mesh, PartitionSpec("data"))
    for step in range(run.step + 1, steps + 1):
        params, state, loss = train_step(run.params, run.state, load_batch(step, rows, run.params["in"].dtype))
        run = Run(step, params, state)
        if manager is not None:
            gx.checkpoint.save(manager, step, tx, params, state)
        yield run, float(loss)


def digest(tree: Any) -> str:
    """Computes a checksum of the shards of all arrays that this process holds."""
    crc = 0
    for x in jax.tree.leaves(tree):
        for shard in x.addressable_shards:
            crc = zlib.crc32(np.asarray(shard.data).tobytes(), crc)
    return f"{crc:08x}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Trains a small network with as many processes as there are.")
    parser.add_argument("--steps", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=64, help="of the hidden layers (default: %(default)s)")
    parser.add_argument("--model", type=int, help="length of the mesh axis 'model' (default: 2, or 1)")
    parser.add_argument("--checkpoint", type=Path, help="folder to save in, and to resume from; all processes need it")
    parser.add_argument("--save-every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--log", type=Path, help="file to which the losses are added, exactly")
    args = parser.parse_args(argv)
    begin = time.perf_counter()

    join_the_others()
    mesh, tx = make_mesh(args.model), make_optimizer(args.steps)
    places = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    options = ocp.CheckpointManagerOptions(
        save_interval_steps=args.save_every, max_to_keep=SAVES_KEPT, cleanup_tmp_directories=True
    )
    manager = ocp.CheckpointManager(args.checkpoint.absolute(), options=options) if args.checkpoint else None
    run, shardings = start(tx, places, args.width, manager)
    first = jax.process_index() == 0
    log = args.log.open("a") if args.log and first else None
    if first:
        print(f"{jax.process_count()} processes, mesh {dict(mesh.shape)}, from step {run.step}", flush=True)
    for now, loss in train(tx, run, places, shardings, args.steps, manager):
        run = now
        if log:
            print(run.step, loss.hex(), file=log, flush=True)
        if first and run.step % 10 == 0:
            print(f"step {run.step}: loss {loss:.4f}", flush=True)
    if manager is not None:
        manager.close()  # waits for files that are still being written
    took, parts = time.perf_counter() - begin, digest((run.params, run.state))
    os.write(1, f"process {jax.process_index()}: {took:.1f} s, digest {parts}\n".encode())  # one write, so one line


if __name__ == "__main__":
    main()
