"""Frames in little room: each compressed against a key frame; and states that share the frames they are made of."""

import dataclasses
import itertools
import math
from typing import NamedTuple

import lz4.block
import numpy as np

LONGEST_KEY_RUN = 64


class FrameStacks(NamedTuple):
    """States of observations that overlap, each observation being there once: state i is `frames[indices[i]]`.

    `np.asarray` makes the (batch, window_length, *observation) array of it, oldest observation first.
    """

    frames: np.ndarray  # (number, *observation)
    indices: np.ndarray  # (batch, window_length) int32

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.frames[self.indices], dtype)


@dataclasses.dataclass
class FrameWriter:
    """Compresses the observations of one stream, each against the newest key frame."""

    key: bytes = b""
    run: int = 0  # observations since the key frame, itself included
    bytes_of_run: int = 0  # that they take

    def is_sound(self, nbytes: int) -> bool:
        """Whether its values, which may be anything, can be those of a writer."""
        integers = type(self.run) is int and type(self.bytes_of_run) is int
        return integers and isinstance(self.key, bytes) and len(self.key) in (0, nbytes)

    def write(self, raw: bytes) -> tuple[bytes, bytes | None]:
        """The frame to keep and the key frame to read it with; None if the frame is as it was."""
        if 0 < self.run < LONGEST_KEY_RUN:
            packed = lz4.block.compress(raw, store_size=False, dict=self.key)
            # A key frame is worth its bytes until an observation costs more than they did on average.
            if len(packed) * self.run <= self.bytes_of_run and len(packed) < len(raw):
                self.run += 1
                self.bytes_of_run += len(packed)
                return packed, self.key
        self.key, self.run, self.bytes_of_run = raw, 1, len(raw)
        return raw, None


def aligned_empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Like `np.empty`, at an address that a tensor may have, so that nobody needs to copy the array to make one."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """The pieces of `data` that have these lengths."""
    if sum(lengths) != len(data) or min(lengths, default=0) < 0:
        raise ValueError("observations in the replay memory are incomplete")
    ends = itertools.accumulate(lengths)
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
