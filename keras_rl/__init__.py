"""keras-rl2 on Keras 3, and a `DQNAgent` and a `SequentialMemory` that are many times faster.

    import keras_rl                                        # first; then keras-rl as ever
    from rl.agents.dqn import DQNAgent                     # keras-rl's own, or
    from keras_rl import DQNAgent, SequentialMemory        # ours, with the same arguments

`rl` is keras-rl2 itself, repaired (`keras_rl.bridge`). `Checkpointer` makes a training resumable. `load_weights` and
`save_weights` read and write the HDF5 layout that every Keras knows.
"""

from keras_h5.layers import load_weights, save_weights
from keras_rl.bridge import rl

from keras_rl.agent import DQNAgent  # isort: skip  (the bridge comes first)
from keras_rl.checkpoint import Checkpointer, CheckpointError
from keras_rl.memory import SequentialMemory

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "DQNAgent",
    "SequentialMemory",
    "load_weights",
    "rl",
    "save_weights",
]
