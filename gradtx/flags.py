"""XLA flags that make training faster."""

from __future__ import annotations

__all__ = ["cpu_flags"]


def cpu_flags() -> str:
    """Returns XLA flags that make Adam and its relatives faster on the CPU, for the environment variable `XLA_FLAGS`.

    By default XLA's CPU backend computes one result per loop, so AdamW goes over the gradient and both moments
    twice. The flag lets it compute several results in one loop. On two cores AdamW and NAdam took 0.7 to 0.8 of the
    time, Adam 0.9, and SGD, Lion and Adagrad as long as before. AdamW behind `clip_by_global_norm` took 1.9 times
    as long, so leave the flag out if you clip by a norm. `python -m benchmarks.floor` measures it on your machine.
    Other backends compute several results in a loop anyway, and ignore the flag.

    XLA reads the variable once, when JAX starts its backend at the first computation. Set it before, in the shell
    or at the top of your program:

    >>> import os, gradtx as gx
    >>> os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {gx.cpu_flags()}"  # doctest: +SKIP
    >>> gx.cpu_flags()
    '--xla_backend_extra_options=xla_cpu_use_multi_output_fusion'

    Returns:
      The flags, separated by spaces.
    """
    return "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion"
