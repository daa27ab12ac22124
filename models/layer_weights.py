"""Weights of any Keras model, in the HDF5 layout of Keras 2, written and read with h5py alone.

    root, or the group model_weights of a whole-model file
      attributes: layer_names (model order), backend, keras_version
      one group per layer: attribute weight_names (kernel before bias), one dataset per weight

Keras 2, tf_keras and keras-rl2 read this layout under any file name; Keras 3 reads it, but its `save_weights`
no longer writes it. Nothing in a file is executed, and nothing outside it is opened.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import files

if TYPE_CHECKING:
    import keras

# What the file claims to be written by. A version below 3 sends every Keras to its reader of this layout, and
# "tensorflow" keeps Keras 2 from transposing kernels, whichever backend trained them.
KERAS_VERSION = "2.15.0"
BACKEND = "tensorflow"

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_TEXT_BYTES = 2**20
_MAX_TEXTS = 2**16  # of variable length
_MAX_MESSAGES = 2**12  # in the header of an object
_MAX_SAME_NAMES = 2**10
_MAX_SEARCHED_BYTES = 2**31  # some seconds
_EXPECTED_WEIGHTS = "expected weights of a model with these layers; build that model, or name another file"
# What h5py, NumPy and Keras raise on files that are damaged or foreign, as fuzzing showed.
_READ_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError)


class PolicyFileError(ValueError):
    """A file that cannot be read or written, told in one sentence to the person who named it."""


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves the weights of a built model so that Keras 2, tf_keras, Keras 3 and keras-rl2 can load them.

    The file is replaced as a whole or not at all. float16 and bfloat16 are stored as float32, which is exact.
    A name that ends in `.weights.h5` gets the native format of `keras.Model.save_weights` instead, because
    that is what every Keras since 2.13 expects under this name.

    Raises:
        PolicyFileError: the model is not built or keeps weights outside its layers, or the file cannot be
            written.
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
    with replacing(path, data):
        pass


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
        raise PolicyFileError("is a .weights.h5 file of Keras 3, which does not tell the order of its layers")
    group = file
    if "layer_names" not in file.attrs and "model_weights" in file:
        group = _child(file, "model_weights", h5py.Group)
    layers = []
    for layer_name in read_texts(group, "layer_names", max_count=max_names):
        layer = _child(group, layer_name, h5py.Group)
        weight_names = read_texts(layer, "weight_names", max_count=max_names)
        if weight_names:
            layers.append((layer_name, [_child(layer, name, h5py.Dataset) for name in weight_names]))
    return layers


def read_array(dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an array of real numbers in native byte order, after checking that it is stored plainly.

    Only for use inside `reading`. Nothing is allocated before shape, dtype and storage are found to be right.
    """
    if dataset.shape != shape:
        raise PolicyFileError(f"holds an array {dataset.name!r} of shape {dataset.shape}, not {shape}")
    if dataset.dtype.kind not in "fiub":
        raise PolicyFileError(f"holds an array {dataset.name!r} of {dataset.dtype}, not of numbers")
    return np.asarray(_read_plain(dataset), dtype=dataset.dtype.newbyteorder("="))


def read_texts(owner: h5py.Group, name: str, *, max_count: int = 1) -> list[str]:
    """Reads the text attribute `name`, a scalar or an array, as a list. Only for use inside `reading`."""
    if name not in owner.attrs:
        raise PolicyFileError(f"holds no {name!r}")
    attribute = owner.attrs.get_id(name)
    if 0 in attribute.shape:  # Keras writes an empty list of names as an array of no floats
        return []
    text_type = h5py.check_string_dtype(attribute.dtype)
    is_short = math.prod(attribute.shape) <= max_count and attribute.get_storage_size() <= _MAX_TEXT_BYTES
    if text_type is None or not is_short:
        raise PolicyFileError(f"holds something else than {max_count} or fewer texts in {name!r}")
    if text_type.length is None:
        info = h5py.h5o.get_info(owner.id)
        stored = _open_images[info.fileno].variable_texts(info.addr, name, attribute.shape)
    else:
        stored = [bytes(text) for text in np.ravel(owner.attrs[name])]
    if sum(map(len, stored)) > _MAX_TEXT_BYTES:
        raise PolicyFileError(f"holds more than {_MAX_TEXT_BYTES} characters in {name!r}")
    return [text.decode("utf-8") for text in stored]


@contextmanager
def reading(path: str | os.PathLike[str], *, max_bytes: int, expected: str) -> Iterator[h5py.File]:
    """Opens an HDF5 file of at most `max_bytes`; every failure inside becomes one PolicyFileError.

    A PolicyFileError raised inside tells only what was found, as a verb phrase ("holds no 'layer_names'");
    here the path is put before it and `expected` after it. The file is read into memory first, so HDF5 does
    not lock it and it can be replaced meanwhile.
    """
    path = Path(path)
    try:
        image = _Image(_read_bytes(path, max_bytes))
        with h5py.File(image, "r") as file:
            number = h5py.h5o.get_info(file.id).fileno
            _open_images[number] = image
            try:
                yield file
            finally:
                del _open_images[number]
    except PolicyFileError as found:
        raise PolicyFileError(f"{path} {found}; {expected}.") from found.__cause__
    except _READ_ERRORS as error:
        raise PolicyFileError(f"{path} is damaged or cut short; {expected}.") from error


@contextmanager
def replacing(path: str | os.PathLike[str], data: bytes) -> Iterator[None]:
    """Like `files.replacing`.

    Raises:
        PolicyFileError: the file system refused.
    """
    try:
        with files.replacing(path, data):
            yield
    except OSError as error:
        raise PolicyFileError(
            f"{Path(os.path.realpath(path))} cannot be written ({error.strerror or error}), and what was there is "
            "unchanged; make room or give permission, or name another place."
        ) from error


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


def _read_plain(dataset: h5py.Dataset) -> np.ndarray:
    # Keras writes no chunks and compresses nothing; a chunk can be far larger than the array cut from it.
    is_elsewhere = dataset.chunks or dataset.external or dataset.is_virtual
    if is_elsewhere or dataset.id.get_storage_size() != dataset.nbytes:
        raise PolicyFileError(f"does not hold the numbers of {dataset.name!r} themselves, uncompressed")
    return dataset[()]


def _fixed_texts(texts: Iterable[str]) -> np.ndarray:
    return np.array([text.encode("utf-8") for text in texts], dtype=np.bytes_)


def _child(group: h5py.Group, path: str, kind: type) -> Any:
    """Walks down hard links only, so that nothing outside this file is ever opened."""
    child: Any = group
    for part in path.split("/"):
        link = child.get(part, getlink=True) if isinstance(child, h5py.Group) else None
        if link is not None and not isinstance(link, h5py.HardLink):
            raise PolicyFileError(f"keeps {path!r} behind a link, not in itself")
        child = None if link is None else child[part]
    if not isinstance(child, kind):
        raise PolicyFileError(f"lacks the {kind.__name__.lower()} {path!r}")
    return child


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            if path.exists():
                raise PolicyFileError("is not a file")
            if path.with_name(f"{path.name}.index").is_file():  # what Keras 2 makes of a name like x.h5f
                raise PolicyFileError("is a TensorFlow checkpoint (save_weights to a name in .h5 is HDF5)")
            raise PolicyFileError("does not exist")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise PolicyFileError(f"cannot be read ({error.strerror or error})") from error
    if not data:
        raise PolicyFileError("is empty")
    if len(data) > max_bytes:
        raise PolicyFileError(f"is larger than {max_bytes // 2**20} MiB")
    if not data.startswith(_HDF5_SIGNATURE):
        raise PolicyFileError("is not an HDF5 file")
    return data


_open_images: dict[int, _Image] = {}  # by HDF5's number of the open file, while inside `reading`


class _Image(io.BytesIO):
    """An HDF5 file in memory, with a reader of its texts of variable length.

    HDF5 loops forever in a broken heap of such texts, and allocates whatever length a text claims to have, up to
    4 GiB. So the heaps are checked before it opens the file, and it is never asked for a text in them.

    A heap is "GCOL", version 1, its size, then objects: index, references, size, content padded to 8 bytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self._objects: dict[tuple[int, int], bytes] = {}  # (address of the heap, index) -> content
        self._num_searches = 0
        if (data[13:15] if data[8:9] < b"\2" else data[9:11]) != b"\x08\x08":  # bytes in an address and in a size
            raise PolicyFileError("is damaged or cut short")
        end = 0
        for heap in re.finditer(rb"GCOL\x01", data):
            start, end, last_end = heap.start() + 16, heap.start() + self._number(heap.start() + 8, 8), end
            intact = heap.start() >= last_end
            while intact and start + 16 <= end:
                index, size = self._number(start, 2), self._number(start + 8, 8)  # index 0: free space at the end
                step = 16 + (size + 7) // 8 * 8 if index else size
                intact = 16 <= step <= end - start and (index == 0 or size <= _MAX_TEXT_BYTES)
                if index:
                    self._objects[heap.start(), index] = data[start + 16 : start + 16 + min(size, step)]
                start += step
            if not intact or len(self._objects) > _MAX_TEXTS:
                raise PolicyFileError(f"is damaged or cut short, or holds a text above {_MAX_TEXT_BYTES} bytes")

    def variable_texts(self, owner: int, name: str, shape: tuple[int, ...]) -> list[bytes]:
        """The texts in the attribute of this name and shape of the object whose header is at `owner`."""
        key = name.encode("utf-8", "surrogateescape") + b"\0"
        found = {self._texts(head, key, shape) for head in self._attributes(owner)} - {None}
        if not found:  # objects with many attributes have them elsewhere
            self._num_searches += 1
            if self._num_searches * len(self._data) > _MAX_SEARCHED_BYTES:
                raise PolicyFileError("holds too many texts of variable length")
            places = (match.start() for match in re.finditer(re.escape(key), self._data))
            for place in itertools.islice(places, _MAX_SAME_NAMES):
                found |= {self._texts(place - 9, key, shape), self._texts(place - 8, key, shape)} - {None}
        if len(found) != 1:
            raise PolicyFileError(f"holds {len(found) or 'no readable'} different texts of variable length in {name!r}")
        return list(*found)

    def _attributes(self, owner: int) -> Iterator[int]:
        """Where the attributes begin that are in the header of an object; there are two versions of headers.

        It is made of messages: type, size, flags, content. They go on wherever a message of type 16 says.
        """
        if self._data[owner : owner + 4] == b"OHDR":
            flags, start = self._number(owner + 5, 1), owner + 6
            start += 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            size_bytes = 1 << flags % 4
            chunks = [(start + size_bytes, self._number(start, size_bytes))]
            type_bytes, head_bytes, signature_bytes = 1, 6 if flags & 4 else 4, 4
        else:
            chunks = [(owner + 16, self._number(owner + 8, 4))]
            type_bytes, head_bytes, signature_bytes = 2, 8, 0
        num_messages = 0
        for start, size in chunks:  # which grows meanwhile
            end = min(start + size, len(self._data))
            while start + head_bytes <= end and num_messages < _MAX_MESSAGES:
                num_messages += 1
                kind, size = self._number(start, type_bytes), self._number(start + type_bytes, 2)
                start += head_bytes
                if kind == 12:
                    yield start
                elif kind == 16:
                    offset, length = self._number(start, 8), self._number(start + 8, 8)
                    chunks.append((offset + signature_bytes, length - 2 * signature_bytes))
                start += size

    def _texts(self, head: int, key: bytes, shape: tuple[int, ...]) -> tuple[bytes, ...] | None:
        """The texts of the attribute at `head`, or None if it is another one.

        An attribute is its version, flags, the sizes of name, type and shape, and in version 3 a character set; then
        name, type and shape, each padded to 8 bytes in version 1; then for each text its length, the address of its
        heap and its index there. A shape is its version, rank, 2 (in version 1: 6) more bytes and the lengths.
        """
        version, flags = self._number(head, 1), self._number(head + 1, 1)
        padding = 8 if version == 1 else 1
        sizes = [-(-self._number(head + offset, 2) // padding) * padding for offset in (2, 4, 6)]
        of_name, of_type, of_shape, start = itertools.accumulate(sizes, initial=head + (9 if version == 3 else 8))
        of_lengths = of_shape + (8 if self._number(of_shape, 1) == 1 else 4)
        end = start + 16 * math.prod(shape)
        if (
            version not in (1, 2, 3)
            or flags
            or self._number(head + 2, 2) != len(key)
            or self._data[of_name : of_name + len(key)] != key
            or (self._number(of_type, 1) % 16, self._number(of_type + 1, 1) % 16) != (9, 1)  # variable length, text
            or self._number(of_shape + 1, 1) != len(shape)
            or any(self._number(of_lengths + 8 * i, 8) != length for i, length in enumerate(shape))
            or end > len(self._data)
        ):
            return None
        texts = []
        for length, heap, index in struct.iter_unpack("<IQI", self._data[start:end]):
            text = self._objects.get((heap, index)) if length else b""
            if text is None or len(text) != length:
                raise PolicyFileError("is damaged: a text is not where or as long as the file says")
            texts.append(text.partition(b"\0")[0])
        return tuple(texts)

    def _number(self, start: int, length: int) -> int:
        return int.from_bytes(self._data[start : start + length], "little")


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
        except _READ_ERRORS as error:
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
        array = _read_plain(child) if is_bfloat16 else read_array(child, child.shape)
        copied = copy.create_dataset(name, data=array)
        if is_bfloat16:
            copied.attrs["dtype"] = "bfloat16"

    file.visititems(copy_one)  # visits every object once, by hard links only
