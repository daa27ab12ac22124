"""Weights of any Keras model, in the HDF5 layout of Keras 2, written and read with h5py alone.

    root, or the group model_weights of a whole-model file
      attributes: layer_names (model order), backend, keras_version
      one group per layer: attribute weight_names (kernel before bias), one dataset per weight

Keras 2, tf_keras and keras-rl2 read this layout under any file name; Keras 3 reads it, but its `save_weights`
no longer writes it. Nothing in a file is executed, and nothing outside it is opened.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from keras_h5 import files
from keras_h5.untrusted import (
    READ_ERRORS,
    PolicyFileError,
    child,
    read_array,
    read_plain,
    read_texts,
    reading,
)

if TYPE_CHECKING:
    import keras

# What the file claims to be written by. A version below 3 sends every Keras to its reader of this layout, and
# "tensorflow" keeps Keras 2 from transposing kernels, whichever backend trained them.
KERAS_VERSION = "2.15.0"
BACKEND = "tensorflow"

_EXPECTED_WEIGHTS = "expected weights of a model with these layers; build that model, or name another file"


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves the weights of a built model so that Keras 2, tf_keras, Keras 3 and keras-rl2 can load them.

    The file is replaced as a whole or not at all, in a folder that is made if it is not there. float16 and bfloat16
    are stored as float32, which is exact.
    A name that ends in `.weights.h5` gets the native format of `keras.Model.save_weights` instead, because
    that is what every Keras since 2.13 expects under this name.

    Raises:
        PolicyFileError: the model is not built or keeps weights outside its layers.
        FileError: the file cannot be written.
    """
    layers = _layer_variables(model)
    if Path(path).name.endswith(".weights.h5"):
        with tempfile.TemporaryDirectory() as folder:
            native = Path(folder, "model.weights.h5")
            model.save_weights(native)
            data = native.read_bytes()
    else:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            named = [(name, [(f"{each.path}:0", each.numpy()) for each in group]) for name, group in layers]
            write_layer_weights(file, named)
        data = buffer.getvalue()
    with files.in_words(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        files.write(path, data)


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads weights into a built model, layer by layer in the order of `model.layers`, as Keras 2 does.

    Reads weights files and whole-model files in the layout of Keras 2, under any name, and `.weights.h5`
    files of Keras 3. In the layout of Keras 2 names play no part: the number of layers with weights, the
    number of weights in each, and all shapes have to agree, or the model stays as it is.

    Raises:
        PolicyFileError: no such file, a damaged file, or weights of another model.
    """
    layers = [(name, variables) for name, variables in _layer_variables(model) if variables]
    assignments: list[tuple[Any, np.ndarray]] = []
    # Room for float64 weights with two optimizer slots each: a larger file never held weights of this model.
    max_bytes = 2**26 + 32 * sum(math.prod(variable.shape) for variable in model.weights)
    with reading(path, max_bytes=max_bytes, expected=_EXPECTED_WEIGHTS) as file:
        if _is_native(file):
            _load_native(model, Path(path), file)
            return
        stored = stored_layers(file)
        if len(stored) != len(layers):
            raise PolicyFileError(f"holds weights of {len(stored)} layers, but this model has {len(layers)}")
        for (name, variables), (stored_name, datasets) in zip(layers, stored, strict=True):
            if len(datasets) != len(variables):
                raise PolicyFileError(
                    f"holds {len(datasets)} arrays for its layer {stored_name!r}, "
                    f"but layer {name!r} of this model has {len(variables)}"
                )
            for variable, dataset in zip(variables, datasets, strict=True):
                assignments.append((variable, read_array(dataset, tuple(variable.shape))))
    for variable, array in assignments:
        variable.assign(array)


def write_layer_weights(
    group: h5py.Group,
    layers: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]],
) -> None:
    """Writes (layer name, [(weight name, array), ...]) pairs into a new group or file, in the given order.

    Every layer of the model belongs in `layers`, also one without weights; weight names are unique in a
    layer. float16 and bfloat16 arrays are written as float32, every other dtype as it is.
    """
    # Bytes of fixed length: h5py 2 hands other text back as str, which the Keras of its time cannot decode.
    group.attrs["layer_names"] = _fixed_texts(name for name, _ in layers)
    group.attrs["backend"] = np.bytes_(BACKEND)
    group.attrs["keras_version"] = np.bytes_(KERAS_VERSION)
    for layer_name, weights in layers:
        layer = group.require_group(layer_name)
        layer.attrs["weight_names"] = _fixed_texts(name for name, _ in weights)
        for name, array in weights:
            is_half = array.dtype.name in ("float16", "bfloat16")
            layer.create_dataset(name, data=array.astype(np.float32) if is_half else array)


def stored_layers(file: h5py.File, *, max_names: int = 4096) -> list[tuple[str, list[h5py.Dataset]]]:
    """Lists the layers that have weights, with their datasets, in the order that the file's attributes give.

    Only for use inside `reading`. At most `max_names` names are read from one attribute.
    """
    if _is_native(file):
        raise PolicyFileError(
            "is a .weights.h5 file of Keras 3, which does not tell the order of its layers: load it into its network "
            'with load_weights() and save that with model.save("policy.h5")'
        )
    group = file
    if "layer_names" not in file.attrs and "model_weights" in file:
        group = child(file, "model_weights", h5py.Group)
    layers = []
    for layer_name in read_texts(group, "layer_names", max_count=max_names):
        layer = child(group, layer_name, h5py.Group)
        weight_names = read_texts(layer, "weight_names", max_count=max_names)
        if weight_names:
            layers.append((layer_name, [child(layer, name, h5py.Dataset) for name in weight_names]))
    return layers


def _layer_variables(model: keras.Model) -> list[tuple[str, list[Any]]]:
    """Lists every (layer name, variables) in model order; a nested model is one layer, as in Keras 2."""
    if not model.built:
        raise PolicyFileError(
            f"The model {model.name!r} has no weights yet; build it first, for example with an Input layer."
        )
    layers = [(layer.name, layer.trainable_weights + layer.non_trainable_weights) for layer in model.layers]
    if {id(each) for _, variables in layers for each in variables} != {id(each) for each in model.weights}:
        raise PolicyFileError(
            f"The model {model.name!r} keeps weights outside its layers, for which this file format has no "
            "place; move them into a layer."
        )
    return layers


def _fixed_texts(texts: Iterable[str]) -> np.ndarray:
    return np.array([text.encode("utf-8") for text in texts], dtype=np.bytes_)


def _is_native(file: h5py.File) -> bool:
    """Whether this is what `keras.Model.save_weights` writes under a name in .weights.h5 since Keras 2.13."""
    is_legacy = "layer_names" in file.attrs or "model_weights" in file
    return not is_legacy and ("layers" in file or "_layer_checkpoint_dependencies" in file)


def _load_native(model: keras.Model, path: Path, file: h5py.File) -> None:
    if not path.name.endswith(".weights.h5"):
        raise PolicyFileError("is a weights file of Keras 3, which needs a name that ends in .weights.h5")
    before = model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        # Keras gets a copy of what is plain in the file: it would follow and allocate more than this module does.
        plain = Path(folder, "model.weights.h5")
        with h5py.File(plain, "w") as copy:
            _copy_arrays(file, copy)
        try:
            model.load_weights(plain)
        except READ_ERRORS as error:
            model.set_weights(before)
            raise PolicyFileError("is damaged, or holds weights of another model") from error


def _copy_arrays(file: h5py.File, copy: h5py.File) -> None:
    """Copies groups and arrays, no larger together than the file, and no attribute but the dtype of bfloat16."""
    num_bytes = file.id.get_filesize()

    def copy_one(name: str, child: Any) -> None:
        nonlocal num_bytes
        if not isinstance(child, h5py.Dataset):
            copy.require_group(name)
            return
        num_bytes -= child.nbytes
        if num_bytes < 0:
            raise PolicyFileError(f"does not hold the numbers of {child.name!r} themselves")
        is_bfloat16 = (
            child.dtype == np.dtype("V2") and "dtype" in child.attrs and read_texts(child, "dtype")[0] == "bfloat16"
        )
        array = read_plain(child) if is_bfloat16 else read_array(child, child.shape)
        copied = copy.create_dataset(name, data=array)
        if is_bfloat16:
            copied.attrs["dtype"] = "bfloat16"

    file.visititems(copy_one)  # visits every object once, by hard links only
