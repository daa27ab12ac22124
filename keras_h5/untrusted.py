"""Reading HDF5 files from strangers: nothing in one is executed, and nothing outside it is opened.

Every failure is one `PolicyFileError`. Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_h5 import files

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_TEXT_BYTES = 2**20
_MAX_TEXTS = 2**16  # of variable length
_MAX_MESSAGES = 2**12  # in the header of an object
_MAX_SAME_NAMES = 2**10
_MAX_SEARCHED_BYTES = 2**31  # some seconds
# What h5py, NumPy and Keras raise on files that are damaged or foreign, as fuzzing showed.
READ_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError)


class PolicyFileError(files.FileError):
    """A file that is none of ours, told in one sentence to the person who named it."""


def read_array(dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an array of real numbers in native byte order, after checking that it is stored plainly.

    Only for use inside `reading`. Nothing is allocated before shape, dtype and storage are found to be right.
    """
    if dataset.shape != shape:
        raise PolicyFileError(f"holds an array {dataset.name!r} of shape {dataset.shape}, not {shape}")
    if dataset.dtype.kind not in "fiub":
        raise PolicyFileError(f"holds an array {dataset.name!r} of {dataset.dtype}, not of numbers")
    return np.asarray(read_plain(dataset), dtype=dataset.dtype.newbyteorder("="))


def read_texts(owner: h5py.Group, name: str, *, max_count: int = 1) -> list[str]:
    """Reads the text attribute `name`, a scalar or an array, as a list. Only for use inside `reading`."""
    if name not in owner.attrs:
        raise PolicyFileError(f"holds no {name!r}")
    attribute = owner.attrs.get_id(name)
    if 0 in attribute.shape:  # Keras writes an empty list of names as an array of no floats
        return []
    text_type = h5py.check_string_dtype(attribute.dtype)
    is_short = math.prod(attribute.shape) <= max_count and attribute.get_storage_size() <= MAX_TEXT_BYTES
    if text_type is None or not is_short:
        raise PolicyFileError(f"holds something else than {max_count} or fewer texts in {name!r}")
    if text_type.length is None:
        info = h5py.h5o.get_info(owner.id)
        stored = _open_images[info.fileno].variable_texts(info.addr, name, attribute.shape)
    else:
        stored = [bytes(text) for text in np.ravel(owner.attrs[name])]
    if sum(map(len, stored)) > MAX_TEXT_BYTES:
        raise PolicyFileError(f"holds more than {MAX_TEXT_BYTES} characters in {name!r}")
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
    except READ_ERRORS as error:
        raise PolicyFileError(f"{path} is damaged or cut short; {expected}.") from error


def read_plain(dataset: h5py.Dataset) -> np.ndarray:
    """Reads an array that lies in the file as it is, neither in chunks nor compressed nor elsewhere."""
    # Keras writes no chunks and compresses nothing; a chunk can be far larger than the array cut from it.
    is_elsewhere = dataset.chunks or dataset.external or dataset.is_virtual
    if is_elsewhere or dataset.id.get_storage_size() != dataset.nbytes:
        raise PolicyFileError(f"does not hold the numbers of {dataset.name!r} themselves, uncompressed")
    return dataset[()]


def child(group: h5py.Group, path: str, kind: type) -> Any:
    """Walks down hard links only, so that nothing outside this file is ever opened."""
    found: Any = group
    for part in path.split("/"):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if link is not None and not isinstance(link, h5py.HardLink):
            raise PolicyFileError(f"keeps {path!r} behind a link, not in itself")
        found = None if link is None else found[part]
    if not isinstance(found, kind):
        raise PolicyFileError(f"lacks the {kind.__name__.lower()} {path!r}")
    return found


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
    if data.startswith(b"PK"):
        raise PolicyFileError(
            "is not an HDF5 file, but a zip file such as Keras 3's .keras: load it with keras.models.load_model() and "
            "save it under a name in .h5"
        )
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
                intact = 16 <= step <= end - start and (index == 0 or size <= MAX_TEXT_BYTES)
                if index:
                    self._objects[heap.start(), index] = data[start + 16 : start + 16 + min(size, step)]
                start += step
            if not intact or len(self._objects) > _MAX_TEXTS:
                raise PolicyFileError(f"is damaged or cut short, or holds a text above {MAX_TEXT_BYTES} bytes")

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
