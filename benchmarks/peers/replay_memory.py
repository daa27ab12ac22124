"""Fills one replay memory with recorded frames; prints its resident size and its sampling time as a line of JSON."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SIZE = 64


def ours(size: int):
    """This repository's memory, with 3-step returns as in its default training, and eight streams."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from keras_rl.memory import SequentialMemory

    memory = SequentialMemory(size, window_length=4, n_step=3, num_streams=8)

    def append(step: int, frame: np.ndarray, end: bool) -> None:
        memory.append(frame, 0, 0.0, end, stream=step // (size // 8) % 8)

    return append, lambda: memory.sample_batch(BATCH_SIZE, 0.99)


def keras_rl2(size: int):
    """keras-rl2's own."""
    from rl.memory import SequentialMemory

    memory = SequentialMemory(limit=size, window_length=4)
    return lambda step, frame, end: memory.append(frame, 0, 0.0, end), lambda: memory.sample(BATCH_SIZE)


def sb3(size: int):
    """Stable-Baselines3's, in its mode that keeps a state once instead of twice."""
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.buffers import ReplayBuffer

    settings: dict[str, Any] = {"optimize_memory_usage": True, "handle_timeout_termination": False, "device": "cpu"}
    memory = ReplayBuffer(size, Box(0, 255, (4, 84, 84), np.uint8), Discrete(4), **settings)
    state = np.zeros((1, 4, 84, 84), np.uint8)

    def append(step: int, frame: np.ndarray, end: bool) -> None:
        state[:, :-1] = state[:, 1:]
        state[:, -1] = frame
        memory.add(state, state, np.zeros(1), np.zeros(1), np.array([end]), [{}])

    return append, lambda: memory.sample(BATCH_SIZE)


def resident_bytes() -> int:
    """What of this process lies in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("memory", choices=("ours", "keras_rl2", "sb3"))
    parser.add_argument("size", type=int)
    parser.add_argument("recording", help="an .npz of frames, uint8 (number, 84, 84), and of where episodes end")
    given = parser.parse_args()
    recording = np.load(given.recording)
    frames, ends = recording["frames"], recording["ends"]
    warm_append, _ = globals()[given.memory](1_000)  # what it imports shall not count
    warm_append(0, frames[0].copy(), False)
    before = resident_bytes()
    append, sample = globals()[given.memory](given.size)
    started = time.perf_counter()
    for step in range(given.size):
        # A copy, as from an emulator: keras-rl keeps the array that it is given.
        append(step, frames[step % len(frames)].copy(), bool(ends[step % len(ends)]))
    append_seconds = (time.perf_counter() - started) / given.size
    resident = resident_bytes() - before
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        sample()
        seconds.append(time.perf_counter() - started)
    result = {"bytes": resident, "append_seconds": append_seconds, "sample_seconds": float(np.median(seconds[10:]))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
