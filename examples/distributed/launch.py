"""Starts a program in several processes on this machine, which find each other through `jax.distributed`.

    python -m examples.distributed.launch --processes 2 --devices 2 -- --steps 40

The arguments after `--` are passed to the program, `examples.distributed.train` by default. Each process computes on
the CPU, with the given number of simulated devices. On a cluster, use the launcher of the cluster instead.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "examples.distributed.train"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(process: int, processes: int, devices: int, address: str) -> dict[str, str]:
    """Returns the environment variables that tell a process its index and the number of processes."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags.strip(),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
    }


def start(
    processes: int, devices: int, arguments: Sequence[str], program: str = PROGRAM
) -> list[subprocess.Popen[Any]]:
    """Starts the processes."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", program, *arguments]
    return [
        subprocess.Popen(command, env=os.environ | environment(i, processes, devices, address), cwd=ROOT)
        for i in range(processes)
    ]


def wait(workers: Sequence[subprocess.Popen[Any]]) -> int:
    """Waits for all processes, and returns 0; if a process fails, ends the others and returns its exit status."""
    try:
        while True:
            codes = [worker.poll() for worker in workers]
            failed = next((code for code in codes if code), None)
            if failed is not None or None not in codes:
                return failed or 0
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Starts a program in several processes on this machine.")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--devices", type=int, default=2, help="of each process (default: %(default)s)")
    parser.add_argument("--program", default=PROGRAM, help="the module (default: %(default)s)")
    parser.add_argument("arguments", nargs="*", help="of the program, after --")
    args = parser.parse_args(argv)
    return wait(start(args.processes, args.devices, args.arguments, args.program))


if __name__ == "__main__":
    sys.exit(main())
