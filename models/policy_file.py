"""policy.h5: a trained Nature CNN in one HDF5 file that every Keras opens, and that is safe to read.

    attributes   keras_version, backend, model_config (JSON of a Sequential, keys that Keras 2 and 3 share)
                 dqn_<fact>: what is known about the policy (game, actions, steps, score, ...)
    model_weights/<layer>/<layer>/{kernel,bias}:0   float32, see keras_h5/layers.py

The network takes (batch, 4, 84, 84) float32 in [0, 1], oldest frame first, and returns (batch, nb_actions)
Q-values in the order of the game's minimal action set. Writing and reading need neither Keras nor TensorFlow.
"""

from __future__ import annotations

import io
import json
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from keras_h5 import files
from keras_h5.files import FileError
from keras_h5.layers import (
    BACKEND,
    KERAS_VERSION,
    PolicyFileError,
    read_array,
    read_texts,
    reading,
    stored_layers,
    write_layer_weights,
)

if TYPE_CHECKING:
    import keras

__all__ = ["SUFFIXES", "WINDOW_LENGTH", "PolicyFileError", "TrainedPolicy", "load_policy", "save_policy"]

SUFFIXES = (".h5", ".hdf5")  # by which Keras knows such files
WINDOW_LENGTH = 4  # frames in a state (Mnih et al. 2015)
_STATE_SHAPE = [WINDOW_LENGTH, 84, 84]
_FACT_PREFIX = "dqn_"
_MAX_ACTIONS = 1024
_MAX_FILE_BYTES = 2**26  # a policy is 7 MB; with the optimizer slots that Keras adds, in float64, 41 MB
_MAX_NAMES = 64
_MAX_FACTS = 256
_MAX_FACT_CHARACTERS = 2**16
_EXPECTED = (
    "expected a policy.h5 from train.py, or a Nature CNN for four 84x84 frames saved as .h5 by Keras or "
    "keras-rl; train one, or name another file"
)


_IF_TOLD = {"groups": 1}  # settings that older Kerases do not tell, or that other layers do not have


class _Layer(NamedTuple):
    class_name: str
    name: str
    settings: dict[str, Any]
    kernel_shape: tuple[int, ...] | None = None


def _architecture(nb_actions: int) -> list[_Layer]:
    """The layers of `nature_cnn` as data: written into every policy.h5, and looked for in every file read."""

    def convolution(filters: int, size: int, stride: int) -> dict[str, Any]:
        return {
            "filters": filters,
            "kernel_size": [size, size],
            "strides": [stride, stride],
            "padding": "valid",
            "data_format": "channels_last",
            "dilation_rate": [1, 1],
            "activation": "relu",
            "use_bias": True,
        }

    def dense(units: int, activation: str) -> dict[str, Any]:
        return {"units": units, "activation": activation, "use_bias": True}

    return [
        _Layer("Permute", "frames_last", {"dims": [2, 3, 1]}),
        _Layer("Conv2D", "conv1", convolution(32, 8, 4), (8, 8, 4, 32)),
        _Layer("Conv2D", "conv2", convolution(64, 4, 2), (4, 4, 32, 64)),
        _Layer("Conv2D", "conv3", convolution(64, 3, 1), (3, 3, 64, 64)),
        _Layer("Flatten", "flatten", {"data_format": "channels_last"}),
        _Layer("Dense", "hidden", dense(512, "relu"), (3136, 512)),
        _Layer("Dense", "q_values", dense(nb_actions, "linear"), (512, nb_actions)),
    ]


@dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """A trained Nature CNN as plain arrays, and what is known about it.

    Attributes:
        weights: 10 finite float32 arrays: kernel and bias of conv1, conv2, conv3, hidden, q_values.
        facts: what the file says about the policy; empty for a file that other software wrote.
    """

    weights: tuple[np.ndarray, ...]
    facts: dict[str, Any]

    @property
    def nb_actions(self) -> int:
        """Number of actions that the policy chooses among."""
        return len(self.weights[-1])

    def build_model(self) -> keras.Sequential:
        """Builds the Keras network with these weights: (batch, 4, 84, 84) float32 -> (batch, nb_actions)."""
        from models.nature_cnn import nature_cnn  # here, because importing Keras takes seconds

        model = nature_cnn(self.nb_actions)
        model.set_weights(list(self.weights))
        return model


def save_policy(
    path: str | os.PathLike[str],
    weights: Sequence[np.ndarray],
    facts: Mapping[str, Any],
) -> Path | None:
    """Writes policy.h5, whole or not at all, and sets a policy of another run aside.

    The fact `run` says whose policy it is, and a file of the same run is replaced. Any other file at `path`
    first gets a second name, such as policy.previous-<run>.h5 (a hard link, or a copy where the file system
    has no links), and only then gives up its place: at no moment is the old or the new policy missing. Of each
    other run one unfinished policy is kept, the newest.

    Args:
        path: the file to write, with a name in .h5; a symbolic link is followed.
        weights: kernel and bias of the five layers that have any, as `nature_cnn(n).get_weights()` returns
            them, in any float dtype (bfloat16 too). Fold another head first, see keras_rl/heads.py.
        facts: JSON values by name. They become the attributes dqn_<name>: numbers and text as HDF5 has them,
            everything else as JSON text. Tuples come back as lists.

    Returns:
        The new name of the file that was set aside, or None if there was none.

    Raises:
        PolicyFileError: the weights are not those of a Nature CNN or not finite (a training that diverged
            replaces no policy), or a fact cannot be stored.
        FileError: the file cannot be written.
    """
    path = files.target(path, SUFFIXES)
    arrays = _checked_weights(weights)
    architecture = _architecture(len(arrays[-1]))
    remaining = iter(arrays)
    layers = []
    for layer in architecture:
        parts = ("kernel", "bias") if layer.kernel_shape else ()
        layers.append((layer.name, [(f"{layer.name}/{part}:0", next(remaining)) for part in parts]))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        # Bytes of fixed length, as everything Keras reads here: see write_layer_weights.
        file.attrs["keras_version"] = np.bytes_(KERAS_VERSION)
        file.attrs["backend"] = np.bytes_(BACKEND)
        file.attrs["model_config"] = np.bytes_(json.dumps(_model_config(architecture)))
        for name, value in facts.items():
            file.attrs[_FACT_PREFIX + name] = _stored_fact(name, value)
        write_layer_weights(file.create_group("model_weights"), layers)
    aside = None
    try:
        with files.in_words(path), files.replacing(path, buffer.getvalue()):
            if path.exists():
                old = _facts_of(path)
                if old.get("run") is None or old["run"] != facts.get("run"):
                    aside = _set_aside(path, old)
    except FileError:
        with suppress(OSError):
            if aside and aside.samefile(path):  # the old policy kept its place, so it needs no second name
                aside.unlink()
        raise
    return aside


def load_policy(path: str | os.PathLike[str], *, nb_actions: int | None = None) -> TrainedPolicy:
    """Reads a policy without executing anything in the file.

    Reads what `save_policy` writes, and a Nature CNN, sequential or functional, that Keras 2 or 3 saved with
    `model.save("x.h5")` or keras-rl with `save_weights("x.h5")`. The layers that a file describes are checked. A file
    of weights alone is known by the shapes of its arrays, and taken to be of the architecture of `nature_cnn`.

    Args:
        path: the file to read.
        nb_actions: number of actions that the policy must have; any number if None.

    Raises:
        PolicyFileError: no such file, or not a policy, or one with another number of actions.
    """
    with reading(path, max_bytes=_MAX_FILE_BYTES, expected=_EXPECTED) as file:
        facts = _read_facts(file)
        described = _described_layers(read_texts(file, "model_config")[0]) if "model_config" in file.attrs else None
        stored = stored_layers(file, max_names=_MAX_NAMES)
        datasets = [dataset for _, layer in stored for dataset in layer]
        shapes = _weight_shapes([dataset.shape for dataset in datasets], [name for name, _ in stored])
        if described is None and "layer_names" in file.attrs:
            _refuse_a_head(read_texts(file, "layer_names", max_count=_MAX_NAMES), stored[-1][0])
        found_actions = shapes[-1][0]
        if nb_actions not in (None, found_actions):
            game = f" of the game {reprlib.repr(facts['game'])}" if "game" in facts else ""
            raise PolicyFileError(f"values {found_actions} actions{game}, but {nb_actions} are needed")
        if described is not None:
            _check_settings(described, _architecture(found_actions))
        arrays = [read_array(dataset, shape) for dataset, shape in zip(datasets, shapes, strict=True)]
        return TrainedPolicy(tuple(_checked_floats(arrays)), facts)


def _model_config(architecture: list[_Layer]) -> dict[str, Any]:
    """What Keras builds the model from, in the keys that its versions 2 and 3 share."""
    frames = {"batch_input_shape": [None, *_STATE_SHAPE], "dtype": "float32"}
    layers: list[dict[str, Any]] = [{"class_name": "InputLayer", "config": {"name": "frames", **frames}}]
    layers += [
        {
            "class_name": layer.class_name,
            "config": {"name": layer.name, "trainable": True, "dtype": "float32", **layer.settings},
        }
        for layer in architecture
    ]
    return {"class_name": "Sequential", "config": {"name": "nature_cnn", "layers": layers}}


def _described_layers(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Reads a file's description of its model, by any Keras: (class name, settings) of layers like nature_cnn's."""
    model = json.loads(text)
    if model["class_name"] not in ("Sequential", "Functional", "Model"):
        raise PolicyFileError(f"holds a {reprlib.repr(model['class_name'])} model, not a Sequential or Functional one")
    config = model["config"]
    stored = config if isinstance(config, list) else config["layers"]  # a bare list before Keras 2.2.3
    if model["class_name"] != "Sequential":
        before = [set(), *({layer["config"]["name"]} for layer in stored)]
        if [_inputs(layer.get("inbound_nodes")) for layer in stored] != before[:-1]:
            raise PolicyFileError(f"holds a {model['class_name']!r} model whose layers do not follow one another")
    layers: list[tuple[str, dict[str, Any]]] = []
    for layer in stored:
        name, settings = layer["class_name"], dict(layer["config"])
        if name == "Activation" and layers and layers[-1][1].get("activation") == "linear":
            # keras-rl's example has every activation as a layer of its own.
            layers[-1][1]["activation"] = settings["activation"]
        else:
            layers.append((name, settings))
    names = [name for name, _ in layers if name != "InputLayer"]
    expected = [layer.class_name for layer in _architecture(1)]
    if names != expected:
        raise PolicyFileError(f"has the layers {_listed(names)}, not {_listed(expected)}")
    return layers


def _inputs(nodes: Any) -> set[str]:
    """The names of the layers that a layer is called with: [name, node index, tensor index, ...] anywhere inside."""
    if isinstance(nodes, dict):
        return _inputs(list(nodes.values()))
    if not isinstance(nodes, list):
        return set()
    if len(nodes) > 2 and isinstance(nodes[0], str) and isinstance(nodes[1], int) and isinstance(nodes[2], int):
        return {nodes[0]}
    return set().union(*map(_inputs, nodes))


def _check_settings(layers: list[tuple[str, dict[str, Any]]], architecture: list[_Layer]) -> None:
    """Compares the layers that a file describes with the Nature CNN's."""
    for _, settings in layers:
        shape = settings.get("batch_input_shape") or settings.get("batch_shape")
        if shape and shape[1:] != _STATE_SHAPE:
            raise PolicyFileError(f"takes states of shape {reprlib.repr(shape[1:])}, not {_STATE_SHAPE}")
    computing = [(name, settings) for name, settings in layers if name != "InputLayer"]
    for (name, settings), layer in zip(computing, architecture, strict=True):
        for key, value in {**layer.settings, **_IF_TOLD}.items():
            if settings.get(key, _IF_TOLD.get(key)) != value:
                found = f"a {name} layer with {key} {reprlib.repr(settings.get(key))}"
                raise PolicyFileError(f"has {found} where {layer.name} has {value!r}")


def _refuse_a_head(names: list[str], last: str) -> None:
    """Refuses weights whose last Dense layer is not the network's last, as more than an activation follows it.

    A state value and advantages have the shape of Q-values of one action more; only the names tell them apart.
    """
    after = [name for name in names[names.index(last) + 1 :] if not name.startswith("activation")]
    if after:
        raise PolicyFileError(
            f"holds weights of a network that goes on after its last Dense layer, with {_listed(after)}: a dueling or "
            "quantile head, which save_weights() keeps; write it with save_policy(path, agent.plain_weights(), {})"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(reprlib.repr(name).strip("'") for name in names[:20])


def _weight_shapes(found: Sequence[tuple[int, ...]], layers: Sequence[str] = ()) -> list[tuple[int, ...]]:
    """Returns the 10 shapes of a Nature CNN with as many actions as `found` has; refuses other shapes."""
    if len(found) != 10:
        names = f"; its layers with weights are {_listed(list(layers))}" if layers else ""
        raise PolicyFileError(f"holds {len(found)} arrays, not five kernels and five biases of a Nature CNN{names}")
    nb_actions = found[-1][-1] if found[-1] else 0
    if not 1 <= nb_actions <= _MAX_ACTIONS:
        raise PolicyFileError(f"values {nb_actions} actions, not 1 to {_MAX_ACTIONS}")
    kernels = [layer.kernel_shape for layer in _architecture(nb_actions) if layer.kernel_shape]
    expected = [shape for kernel in kernels for shape in (kernel, kernel[-1:])]
    for number, (shape, expected_shape) in enumerate(zip(found, expected, strict=True), start=1):
        if shape != expected_shape:
            raise PolicyFileError(f"holds shape {shape} in array number {number}, not {expected_shape}")
    return expected


def _checked_weights(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [np.asarray(array) for array in weights]
    try:
        _weight_shapes([array.shape for array in arrays])
        return _checked_floats(arrays)
    except PolicyFileError as found:
        raise PolicyFileError(
            f"The network to save {found}; expected the finite weights of nature_cnn: nothing was written."
        ) from None


def _checked_floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Casts to float32, and refuses integers, and anything that is not finite then."""
    floats = []
    for number, array in enumerate(arrays, start=1):
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise PolicyFileError(f"holds {array.dtype} in array number {number}, not a float dtype")
        with np.errstate(over="ignore"):
            floats.append(array.astype(np.float32))
        if not np.isfinite(floats[-1]).all():
            raise PolicyFileError(f"holds NaN or infinite numbers in array number {number}")
    return floats


def _stored_fact(name: str, value: Any) -> int | float | str:
    """Turns a fact into an HDF5 number or text; text that would read back as JSON is written as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if not (isinstance(value, str) and value.isprintable() and _fact_from_text(value) == value):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError):
            raise PolicyFileError(
                f"The fact {name!r} is {reprlib.repr(value)}; expected a JSON value: nothing was written."
            ) from None
    if len(value) > _MAX_FACT_CHARACTERS:
        raise PolicyFileError(
            f"The fact {name!r} has {len(value)} characters; expected at most {_MAX_FACT_CHARACTERS}: "
            "nothing was written."
        )
    return value


def _fact_from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read_facts(file: h5py.File) -> dict[str, Any]:
    facts = {}
    for name in file.attrs:
        if name.startswith(_FACT_PREFIX):
            attribute = file.attrs.get_id(name)
            is_number = attribute.shape == () and attribute.dtype.kind in "fiu"
            value = file.attrs[name].item() if is_number else _fact_from_text(read_texts(file, name)[0])
            facts[name.removeprefix(_FACT_PREFIX)] = value
        if len(facts) > _MAX_FACTS:
            raise PolicyFileError(f"holds more than {_MAX_FACTS} facts")
    return facts


def _facts_of(path: Path) -> dict[str, Any]:
    with suppress(PolicyFileError), reading(path, max_bytes=_MAX_FILE_BYTES, expected=_EXPECTED) as file:
        return _read_facts(file)
    return {}


def _set_aside(path: Path, facts: dict[str, Any]) -> Path:
    """Gives the file at `path` a second name beside it, and returns that: a free one, or an earlier state's of its run.

    So two trainings that write one file leave one file of each, and not one at every save.
    """
    run = facts.get("run")
    words = re.findall(r"[A-Za-z0-9]+", "" if run is None else str(run))
    label = "-".join(["previous", *words])[:60]
    number = 1
    while True:
        aside = path.with_name(f"{path.stem}.{label}{f'-{number}' if number > 1 else ''}{path.suffix}")
        try:
            _add_name(path, aside)
            return aside
        except FileExistsError:
            if _is_earlier(_facts_of(aside), facts):
                files.write(aside, path.read_bytes())
                return aside
            number += 1


def _is_earlier(facts: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether a policy is an earlier, unfinished one of the run of another."""
    try:
        return (
            facts["run"] == later["run"]
            and facts["finished"] is False
            and facts["steps_of_training"] <= later["steps_of_training"]
        )
    except (KeyError, TypeError):
        return False


def _add_name(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network drives have no hard links
        if name.exists():
            raise FileExistsError(name) from None
        files.write(name, path.read_bytes())
