"""Evaluates a function of a batch on one micro-batch after the other, to save memory.

    carry = init(shapes of a result);  for each micro-batch j:  carry = update(carry, f(micro-batch j), j);
    result = finalize(carry)

A batch of k * m rows is split into k micro-batches of m rows. Micro-batch i has the rows i, i + k, i + 2 k, ... So if
the batch is sharded over devices in blocks, every micro-batch is sharded over all devices, and no data moves between
devices.

An `Accumulator` defines how the results of the micro-batches are combined; `AccumulationType` names four usual ways.
Sums and means of 16-bit floats are accumulated in float32.
"""

from gradtx.microbatching.accumulators import AccumulationType, Accumulator
from gradtx.microbatching.functions import micro_grad, micro_vmap, microbatch
from gradtx.microbatching.parts import reshape_batch_axis

__all__ = ["AccumulationType", "Accumulator", "micro_grad", "micro_vmap", "microbatch", "reshape_batch_axis"]
