"""Evaluates functions of a batch on one part of it after the other, to save memory.

    carry = init(the shapes of a result);   for each part k:  carry = update(carry, f(part k), k);   finalize(carry)

A batch of k m rows has k parts of m rows: part i has rows i, i + k, i + 2 k, ... So if the batch is split over
devices in blocks, every part is split over all of them, and nothing is sent between devices.

An `Accumulator` says how results are combined; `AccumulationType` names four usual ways. Sums and means of narrow
floats are accumulated in float32.
"""

from gradtx.microbatching.accumulators import AccumulationType, Accumulator
from gradtx.microbatching.functions import micro_grad, micro_vmap, microbatch
from gradtx.microbatching.parts import reshape_batch_axis

__all__ = ["AccumulationType", "Accumulator", "micro_grad", "micro_vmap", "microbatch", "reshape_batch_axis"]
