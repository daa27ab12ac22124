"""Says what is in a policy.h5 and what it values, with h5py and NumPy alone: neither Keras nor TensorFlow is needed.

    python tools/check_policy.py                            policy.h5: what it is, and whether every Keras opens it
    python tools/check_policy.py --states states.npy        its Q-values for these states, too
    python tools/check_policy.py other.h5 --json FILE       the same for machines

The network is computed here in NumPy, in float64: what any Keras says of the same file can be held against it.
Exit status: 0 a policy, 2 not one, or bad input.
"""

import json
import re
import reprlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
from keras_h5 import files
from keras_h5.layers import read_texts, reading
from models.policy_file import TrainedPolicy, load_policy

STATE_SHAPE = (4, 84, 84)
STRIDES = (4, 2, 1)
LARGEST_FILE = 2**26  # bytes
# What Keras 3 writes into a model's description and Keras 2 does not understand.
ONLY_KERAS_3 = {"batch_shape", "optional", "quantization_config", "DTypePolicy"}


def q_values(policy: TrainedPolicy, states: np.ndarray) -> np.ndarray:
    """Q-values of a policy's network, computed in float64.

    Args:
        policy: as `load_policy` returns it.
        states: (batch, 4, 84, 84), oldest frame first; uint8, or floats in [0, 1].

    Returns:
        (batch, nb_actions) float64.
    """
    scale = 255.0 if states.dtype == np.uint8 else 1.0
    x = states.astype(np.float64).transpose(0, 2, 3, 1) / scale  # (batch, 84, 84, 4)
    weights = [array.astype(np.float64) for array in policy.weights]
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for (kernel, bias), stride in zip(layers[:3], STRIDES, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))  # (batch, y, x, in, h, w)
        patches = windows[:, ::stride, ::stride]
        x = np.maximum(np.einsum("byxihw,hwio->byxo", patches, kernel, optimize=True) + bias, 0.0)
    (hidden, hidden_bias), (head, head_bias) = layers[3:]
    features = np.maximum(x.reshape(len(x), -1) @ hidden + hidden_bias, 0.0)  # (batch, 512)
    return features @ head + head_bias


def opened_by(path: Path) -> str:
    """Which Keras opens the file with `load_model`, judged by how it describes the model."""
    with reading(path, max_bytes=LARGEST_FILE, expected="expected a policy") as file:
        if "model_config" not in file.attrs:
            return "load_weights only, of a network of the same shape"
        text = read_texts(file, "model_config")[0]
    words = set(re.findall(r'"(\w+)"', text))
    return "load_model of Keras 3 only" if words & ONLY_KERAS_3 else "load_model of Keras 2 and 3"


def read_states(path: Path) -> np.ndarray:
    """States from a .npy file.

    Raises:
        UsageError: there are none in it.
    """
    try:
        states = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise console.UsageError(f"{path} is not a NumPy array file ({error}); write one with numpy.save.") from None
    if states.shape == STATE_SHAPE:
        states = states[None]
    in_range = states.dtype == np.uint8 or (
        states.dtype.kind == "f" and bool(np.all((states >= 0) & (states <= 1)))  # refuses NaN as well
    )
    if states.ndim != 4 or states.shape[1:] != STATE_SHAPE or not in_range:
        raise console.UsageError(
            f"{path} holds {states.dtype} of shape {states.shape}; expected (batch, 4, 84, 84), uint8 or floats "
            "between 0 and 1."
        )
    return states


def main() -> int:
    """Reads, computes, prints."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("policy", nargs="?", type=Path, default=Path("policy.h5"), help="(default: policy.h5)")
    parser.add_argument("--states", type=Path, metavar="FILE.npy", help="(batch, 4, 84, 84), uint8 or in [0, 1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same to this file")
    given = parser.parse_args()
    if given.json:
        files.require_writable(given.json)
    policy = load_policy(given.policy)
    actions = policy.facts.get("actions") or [f"action {index}" for index in range(policy.nb_actions)]
    result: dict[str, Any] = {
        "policy": str(given.policy),
        "opened_by": opened_by(given.policy),
        "actions": actions,
        "numbers": sum(array.size for array in policy.weights),
        "facts": policy.facts,
    }
    print(f"{given.policy}: a Nature CNN of {result['numbers']:,} finite float32 weights, {policy.nb_actions} actions")
    print(f"  opened by   {result['opened_by']}")
    print("  input       (batch, 4, 84, 84) float32 in [0, 1], oldest frame first")
    print(f"  output      (batch, {policy.nb_actions}) Q-values: {', '.join(map(str, actions))}")
    for name, value in policy.facts.items():
        if not isinstance(value, (dict, list)):
            print(f"  {name.replace('_', ' ')}: {reprlib.repr(value) if len(str(value)) > 200 else value}")
    if given.states:
        values = q_values(policy, read_states(given.states))
        result["q_values"] = values.tolist()
        for index, row in enumerate(values):
            print(f"  state {index}: {actions[int(row.argmax())]}, Q = {' '.join(f'{q:.6f}' for q in row)}")
    if given.json:
        with files.in_words(given.json):
            files.write(given.json, (json.dumps(result, indent=2) + "\n").encode())
    return console.DONE


if __name__ == "__main__":
    console.run(main, files.FileError)
