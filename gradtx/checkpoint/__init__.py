"""Checkpoints of a run with orbax: parameters, optimizer state, and a description of the transformation.

`save` and `restore` are thin wrappers. Orbax's `CheckpointManager` writes the files asynchronously, so training
continues in the meantime, and atomically, so a run that is killed leaves only complete checkpoints. gradtx adds two
things. Each checkpoint contains a description of the transformation, which `restore` compares with the transformation
it is given. And any state of this library is restored bit for bit.

It needs orbax: `pip install 'gradtx[checkpoint]'`.
"""

from gradtx.checkpoint.files import Checkpoint, restore, save

__all__ = ["Checkpoint", "restore", "save"]
