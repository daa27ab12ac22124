"""Opens a policy.h5 with the Keras beside this file's Python, and says what it values: started by compatibility.py.

    python compatibility_probe.py FOLDER MODULE WAY

FOLDER holds policy.h5 and states.npy, uint8 (batch, 4, 84, 84), and gets what Keras here saves of the same network;
MODULE is what `keras` is called here; WAY is "keras" or "keras-rl". Prints one line of JSON. Runs on Python 3.6.
"""

import importlib
import json
import os
import platform
import sys

import h5py
import numpy as np

PACKAGES = ("tensorflow", "jax", "torch", "rl")


def network(keras, nb_actions):
    """The Nature CNN as a course or keras-rl's example writes it: no name in it is that of policy.h5."""
    layers = keras.layers
    model = keras.models.Sequential()
    model.add(layers.Permute((2, 3, 1), input_shape=(4, 84, 84)))
    model.add(layers.Conv2D(32, 8, strides=4, activation="relu"))
    model.add(layers.Conv2D(64, 4, strides=2, activation="relu"))
    model.add(layers.Conv2D(64, 3, activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(512, activation="relu"))
    model.add(layers.Dense(nb_actions))
    return model


def version_of(keras):
    """Its version; tensorflow.keras 2.15 does not know it, but is made of a package that does."""
    return getattr(keras, "__version__", None) or sys.modules["keras"].__version__


def with_keras(keras, folder, states):
    """{way: Q-values} of `load_model` and `load_weights`; saves the network with everything that Keras has."""
    path, scaled = os.path.join(folder, "policy.h5"), states.astype("float32") / 255
    opened = {
        "load_model": keras.models.load_model(path),
        "load_model, compile=False": keras.models.load_model(path, compile=False),
    }
    fresh = opened["load_weights"] = network(keras, opened["load_model"].output_shape[-1])
    fresh.load_weights(path)
    fresh.save(os.path.join(folder, "saved by model.save.h5"))
    if version_of(keras) < "3":  # Keras 3 has another format for weights, under another name
        fresh.save_weights(os.path.join(folder, "saved by save_weights.h5"))
    return {way: model.predict(scaled, verbose=0) for way, model in opened.items()}


def with_keras_rl(keras, folder, states):
    """{way: Q-values} of `load_weights` of keras-rl's or keras-rl2's agent; saves with its `save_weights`."""
    from rl.agents.dqn import DQNAgent
    from rl.core import Processor
    from rl.memory import SequentialMemory

    class AtariProcessor(Processor):
        def process_state_batch(self, batch):
            return batch.astype("float32") / 255.0

    path = os.path.join(folder, "policy.h5")
    with h5py.File(path, "r") as file:
        nb_actions = file["model_weights/q_values/q_values/bias:0"].shape[0]
    agent = DQNAgent(
        model=network(keras, nb_actions),
        nb_actions=nb_actions,
        memory=SequentialMemory(limit=10, window_length=4),
        processor=AtariProcessor(),
    )
    agent.compile("adam")
    agent.load_weights(path)
    agent.save_weights(os.path.join(folder, "saved by DQNAgent.save_weights.h5"))
    return {"DQNAgent.load_weights": agent.compute_batch_q_values(list(states))}


def versions(keras):
    """{package: version} of what is installed here and in use."""
    found = {"python": platform.python_version(), "keras": version_of(keras)}
    found.update({"numpy": np.__version__, "h5py": h5py.__version__})
    for name in PACKAGES:
        if name in sys.modules:
            found[name] = getattr(sys.modules[name], "__version__", "")
    return found


def main():
    """Tries one way of loading, with the Keras that is here, and prints what came of it as JSON."""
    folder, module, way = sys.argv[1:]
    package, _, attribute = module.partition(".")
    keras = importlib.import_module(package)
    if attribute:
        keras = getattr(keras, attribute)
    states = np.load(os.path.join(folder, "states.npy"))
    probe = {"keras": with_keras, "keras-rl": with_keras_rl}[way]
    values = {name: np.asarray(array, np.float64).tolist() for name, array in probe(keras, folder, states).items()}
    print(json.dumps({"q_values": values, "versions": versions(keras)}))


if __name__ == "__main__":
    main()
