"""Kills a run of two processes in the middle of saves, and checks that every restart continues correctly.

    python -m benchmarks.kills --kills 20

`examples.distributed.train` runs once without interruption. Then it runs again, and saves every few steps in the
background. The benchmark kills all its processes at once with SIGKILL, at a random moment after a save has begun, and
starts the program again. When `--kills` kills have interrupted an unfinished save, the program may run to its end. The
benchmark checks that

- each restart begins at the last complete checkpoint, and only the unfinished checkpoint was lost;
- every loss of every attempt, and the parameters and the state at the end, equal those of the first run bit for bit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from examples.distributed import launch, train

PROCESSES, DEVICES = 2, 2
EVERY = 4  # steps between two saves
SLOWEST = 300.0  # seconds to wait for anything before giving up


class Kill(NamedTuple):
    """The state of the run when it was killed."""

    after: float
    """The seconds since the save began for which the kill has waited."""
    unfinished: int | None
    """The step of the save that was unfinished, if one was."""
    complete: int
    """The last complete checkpoint, or 0."""


def complete(folder: Path) -> set[int]:
    """Returns the steps of the complete checkpoints."""
    return {int(path.name) for path in folder.glob("*") if path.name.isdigit()}


def in_flight(folder: Path) -> set[int]:
    """Returns the steps of the saves that have begun and are not complete."""
    return {int(path.name.partition(".")[0]) for path in folder.glob("*.orbax-checkpoint-tmp*")}


def losses(log: Path) -> list[tuple[int, str]]:
    """Reads the losses by step from a log; leaves out the last line if the process was killed while writing it."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [(int(step), loss) for step, loss in (line.split() for line in lines if line.endswith("\n"))]


def work(process: int, address: str, arguments: list[str], output: Path) -> None:
    """Runs one process of a training run."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= launch.environment(process, PROCESSES, DEVICES, address)
    train.main(arguments)


class Workers:
    """The processes of one training run, forked from a server that has imported the program, for a quick start."""

    def __init__(self, arguments: list[str], root: Path) -> None:
        self.outputs = [root / f"output {i}" for i in range(PROCESSES)]
        address, make = f"127.0.0.1:{launch.free_port()}", multiprocessing.get_context("forkserver").Process
        self.processes = [make(target=work, args=(i, address, arguments, x)) for i, x in enumerate(self.outputs)]
        for process in self.processes:
            process.start()

    def kill(self) -> None:
        """Ends all at once, as a crash does: by SIGKILL, of which no process knows beforehand."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def until(self, done: Callable[[], Any]) -> None:
        """Waits until `done()`; raises if a process ends before."""
        end = time.monotonic() + SLOWEST
        while not done():
            if any(process.exitcode is not None for process in self.processes) or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the run ended, or hung, before it was killed:\n{self.text()}")
            time.sleep(0.002)

    def to_the_end(self) -> list[str]:
        """Waits for the end of the run; returns the digests that the processes print."""
        for process in self.processes:
            process.join(SLOWEST)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        if any(codes):
            raise RuntimeError(f"a process failed without being killed: {codes}\n{self.text()}")
        return [line.rpartition(" ")[2] for line in self.text().splitlines() if "digest" in line]

    def text(self) -> str:
        """Returns what the processes have printed."""
        return "\n".join(output.read_text() for output in self.outputs)


def kill_in_a_save(workers: Workers, folder: Path, log: Path, lasting: float, seed: random.Random) -> Kill:
    """Kills a run at a random moment of one of its next saves, of which each takes about `lasting` seconds."""
    target = max(complete(folder), default=0) + EVERY * seed.randint(1, 3)
    workers.until(lambda: any(step >= target - 1 for step, _ in losses(log)))  # before, there may be an older file
    workers.until(lambda: target in in_flight(folder) | complete(folder))
    began, wait = time.monotonic(), seed.uniform(0, lasting)
    workers.until(lambda: time.monotonic() > began + wait or target in complete(folder))
    after = time.monotonic() - began
    workers.kill()
    last = max(complete(folder), default=0)
    return Kill(after, max((step for step in in_flight(folder) if step > last), default=None), last)


def time_of_a_save(workers: Workers, folder: Path) -> float:
    """Measures how long a save in the background takes, from its first file to its last."""
    workers.until(lambda: in_flight(folder))
    began = time.monotonic()
    workers.until(lambda: complete(folder))
    workers.kill()
    return time.monotonic() - began


def attempts(kills: int, steps: int, width: int, seed: random.Random) -> Iterator[str]:
    """Yields one line for each kill; raises an AssertionError if a restart differs from what it must be."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        common = ["--steps", str(steps), "--width", str(width), "--save-every", str(EVERY)]
        digests = Workers([*common, "--log", str(root / "undisturbed")], root).to_the_end()
        expected = dict(losses(root / "undisturbed"))
        lasting = time_of_a_save(Workers([*common, "--checkpoint", str(root / "timed")], root), root / "timed")
        yield f"undisturbed: {steps} steps, digests {digests}; a save takes {lasting:.2f} s"

        folder, log, begin, unfinished = root / "killed", root / "log", 0, 0
        arguments = [*common, "--checkpoint", str(folder), "--log", str(log)]
        while unfinished < kills:
            found = kill_in_a_save(Workers(arguments, root), folder, log, lasting, seed)
            reached = check_attempt(log, begin, expected)
            # A save begins before its step is logged, and only when the save before it is complete.
            assert reached // EVERY * EVERY - EVERY <= found.complete <= reached + 1, f"step {reached}: {found}"
            unfinished, begin = unfinished + (found.unfinished is not None), found.complete
            lasting = min(lasting, found.after) if found.unfinished is None else lasting
            met = "between two saves" if found.unfinished is None else f"in the save of step {found.unfinished}"
            yield f"killed {found.after:.3f} s after a save began, {met}; goes on from step {found.complete}"
        last = Workers(arguments, root).to_the_end()
        check_attempt(log, begin, expected)
        assert last == digests, f"the end differs: {last}, and undisturbed {digests}"
        yield f"{unfinished} kills in the middle of a save; the end is bit for bit that of the undisturbed run"


def check_attempt(log: Path, begin: int, expected: dict[int, str]) -> int:
    """Checks the losses that one attempt has logged, and empties the log; returns the last step in it."""
    found = losses(log)
    steps = [step for step, _ in found]
    assert steps == list(range(begin + 1, begin + 1 + len(steps))), f"went on from {steps[:1]}, not from {begin}"
    wrong = [(step, loss, expected[step]) for step, loss in found if loss != expected[step]]
    assert not wrong, f"another loss: (step, found, undisturbed) {wrong[0]}"
    log.write_text("")
    return steps[-1] if steps else begin


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Kills two processes in the middle of asynchronous saves.")
    parser.add_argument("--kills", type=int, default=20, help="in the middle of a save (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="of the run (default: %(default)s)")
    parser.add_argument("--width", type=int, default=512, help="of its layers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args(argv)
    begin = time.monotonic()
    multiprocessing.set_forkserver_preload(["examples.distributed.train"])
    for line in attempts(args.kills, args.steps, args.width, random.Random(args.seed)):
        print(line, flush=True)
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
