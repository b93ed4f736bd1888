"""Checkpoints of a run with orbax: parameters, optimizer state, and what transformation the state belongs to.

`save` and `restore` are thin. Orbax's `CheckpointManager` writes the files: asynchronously, so that training goes on
while they are written, and atomically, so that a run that is killed leaves only complete checkpoints. gradtx adds two
things: the transformation, written into each checkpoint and compared when it is restored, and a layout that any state
of this library survives bit for bit.

It needs orbax: `pip install 'gradtx[checkpoint]'`.
"""

from gradtx.checkpoint.files import Checkpoint, restore, save

__all__ = ["Checkpoint", "restore", "save"]
