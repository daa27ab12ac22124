"""Files from strangers: thousands of damaged and hostile ones are refused in one sentence, or loaded as they are.

The files are made and read in a child process, whose crash, hang or memory is then seen. Each is made from a number,
which a failure names. With FUZZ_SECONDS=600 every test goes on for so long, with other numbers.
"""

import collections
import contextlib
import faulthandler
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
STATUS = Path("/proc/self/status")
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
LONGEST_SECONDS = 30  # for one file
LARGEST_GROWTH = 10**6  # kB, of the memory by one file


@pytest.mark.slow
@pytest.mark.timeout(300 + FUZZ_SECONDS)
@pytest.mark.parametrize(("kind", "number"), [("policies", 100), ("weights", 100), ("checkpoints", 100)])
def test_hostile_files_do_no_harm(tmp_path, kind, number):
    command = [sys.executable, __file__, kind, str(number), str(FUZZ_SECONDS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    print(child.stdout[-4_000:])
    assert child.returncode == 0, child.stdout[-4_000:] + child.stderr[-4_000:]
    outcomes = json.loads(child.stdout.splitlines()[-1])
    assert {"refused", "loaded"} <= outcomes.keys()  # else the files are all alike


# What runs in the child process


def fuzz(read: Callable[[np.random.Generator], str], number: int, seconds: float) -> int:
    """Calls `read` with generators of different seeds, and reports what it says or raises. Returns the exit status."""
    outcomes: collections.Counter[str] = collections.Counter()
    failures: dict[str, str] = {}
    end, seed, peak = time.monotonic() + seconds, 0, 0
    while seed < number or time.monotonic() < end:
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        print(f"file {seed}", file=sys.stderr, flush=True)
        before = memory_used()
        try:
            outcome = read(np.random.default_rng(seed))
        except Exception as error:
            outcome = "failed"
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            failures.setdefault(kind, f"file {seed}: {type(error).__name__}: {str(error)[:500]}")
        growth = memory_used(peak=True) - before
        peak = max(peak, growth)
        if growth > LARGEST_GROWTH:
            failures.setdefault("memory", f"file {seed}: took {growth:,} kB")
        outcomes[outcome] += 1
        seed += 1
    faulthandler.cancel_dump_traceback_later()
    for kind, failure in failures.items():
        print(f"{kind}, first in {failure}")
    print(json.dumps({**outcomes, "largest growth in kB": peak}))
    return 1 if failures else 0


def memory_used(peak: bool = False) -> int:
    """kB of memory; with `peak` the most since the last call without. 0 where the system does not tell."""
    if not STATUS.exists():
        return 0
    if not peak:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) if found else 0


NUMBERS = [0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1]


def damaged(data: bytes, rng: np.random.Generator, places: np.ndarray | None = None) -> bytes:
    """`data` with damage of a random kind, mostly at one of `places`."""
    place = int(rng.integers(len(data)) if places is None or rng.random() < 0.1 else rng.choice(places))
    changed = bytearray(data)
    size = int(2 ** rng.integers(0, 14))
    match int(rng.integers(7)):
        case 0:
            for _ in range(int(rng.integers(1, 9))):
                changed[place] ^= 1 << int(rng.integers(8))
                place = min(len(data) - 1, place + int(rng.integers(64)))
        case 1:
            del changed[place:]
        case 2:
            changed += rng.bytes(size) if rng.random() < 0.5 else bytes(size)
        case 3:
            changed[place : place + size] = bytes(len(changed[place : place + size]))
        case 4:
            other = int(rng.integers(len(data)))
            changed[place : place + size] = changed[other : other + len(changed[place : place + size])]
        case 5:
            length = int(2 ** rng.integers(0, 4))
            number = int(rng.choice(np.array(NUMBERS, object))) % 256**length
            changed[place : place + length] = number.to_bytes(length, "little")
        case _:
            del changed[place : place + int(rng.integers(1, 64))]
    return bytes(changed)


def metadata_places(path: Path) -> np.ndarray:
    """Where the bytes are that are no weights, in an HDF5 file."""
    is_metadata = np.ones(path.stat().st_size, bool)

    def leave_out(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and each.nbytes:
            start = each.id.get_offset()
            is_metadata[start : start + each.nbytes] = False

    with h5py.File(path) as file:
        file.visititems(leave_out)
    return np.flatnonzero(is_metadata)


def is_one_sentence(error: Exception) -> bool:
    return str(error).endswith(".") and "\n" not in str(error)


def reader_of_policies() -> Callable[[np.random.Generator], str]:
    from models.policy_file import PolicyFileError, load_policy, save_policy

    shapes = [(8, 8, 4, 32), (32,), (4, 4, 32, 64), (64,), (3, 3, 64, 64), (64,), (3136, 512), (512,), (512, 4), (4,)]
    weights = [np.full(shape, index, np.float32) for index, shape in enumerate(shapes)]
    path = Path("policy.h5")
    files = []
    save_policy(path, weights, {"run": "first", "game": "breakout", "actions": ["NOOP", "FIRE"], "steps": 5})
    ours = path.read_bytes()
    for libver in (None, "earliest", "latest"):
        path.write_bytes(ours)
        if libver:
            with h5py.File(path) as old, h5py.File("other.h5", "w", libver=libver) as file:
                old.copy("model_weights", file)
                for name, value in old.attrs.items():
                    file.attrs[name] = value.decode() if isinstance(value, bytes) else value
                group = file["model_weights"]
                group.attrs["layer_names"] = [name.decode() for name in group.attrs["layer_names"]]
                file.attrs.update({f"dqn_{number}": f"text {number}" for number in range(20)})
            shutil.move("other.h5", path)
        load_policy(path)
        files.append((path.read_bytes(), metadata_places(path)))

    def read(rng: np.random.Generator) -> str:
        data, places = files[int(rng.integers(len(files)))]
        path.write_bytes(damaged(data, rng, places))
        try:
            policy = load_policy(path)
        except PolicyFileError as error:
            assert is_one_sentence(error), error
            return "refused"
        assert [array.shape for array in policy.weights] == shapes
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in policy.weights)
        return "loaded"

    return read


def reader_of_weights() -> Callable[[np.random.Generator], str]:
    import keras
    from keras import layers

    from keras_h5.layers import load_weights, save_weights
    from keras_h5.untrusted import PolicyFileError

    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)])
    files = {}
    for name in ("w.h5", "whole.h5", "w.weights.h5"):
        if name == "whole.h5":
            model.save(name)
        else:
            save_weights(model, name)
        files[name] = Path(name).read_bytes()
        load_weights(model, name)

    def read(rng: np.random.Generator) -> str:
        name = str(rng.choice(list(files)))
        Path(name).write_bytes(damaged(files[name], rng))
        before = model.get_weights()
        try:
            load_weights(model, name)
        except PolicyFileError as error:
            assert is_one_sentence(error), error
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, model.get_weights(), strict=True))
            return "refused"
        return "loaded"

    return read


def reader_of_checkpoints() -> Callable[[np.random.Generator], str]:
    """Reads damaged checkpoints, and such as are hostile behind digests that are right."""
    import keras
    from keras import layers

    from environments.atari import AtariEnvironment
    from keras_rl import rl
    from keras_rl.agent import DQNAgent
    from keras_rl.checkpoint import Checkpointer, CheckpointError
    from keras_rl.memory import SequentialMemory

    class Small(rl.core.Processor):
        def process_observation(self, observation):
            return np.ascontiguousarray(observation[::10, ::10])

        def process_state_batch(self, batch):
            return np.asarray(batch, np.float32) / 255

    class StopAfter(rl.callbacks.Callback):
        def on_step_begin(self, step, logs=None):
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.model.stop_training = True

    keras.utils.set_random_seed(1)
    environments = [AtariEnvironment(noop_max=4) for _ in range(2)]
    for seed, environment in enumerate(environments):
        environment.reset(seed=seed)
    stop = StopAfter()
    agent = DQNAgent(
        model=keras.Sequential([keras.Input((4, 21, 16)), layers.Flatten(), layers.Dense(4)]),
        nb_actions=4,
        memory=SequentialMemory(limit=100, window_length=4, num_streams=2),
        processor=Small(),
        nb_steps_warmup=30,
        target_model_update=50,
    )
    agent.compile("adam")
    good, folder = Path("good"), Path("checkpoint")
    agent.fit(environments, nb_steps=150, callbacks=[Checkpointer(good, 120)], verbose=0)

    def fingerprint() -> str:
        return _digest_of([agent.get_state(), agent.memory.get_entries()])

    wanted = {}
    for step in (150, 120):
        assert Checkpointer(good, 120).restore(agent, environments) == step
        wanted[step] = fingerprint()
        if step == 150:
            (good / "checkpoint-150.json").rename("checkpoint-150.json")
    Path("checkpoint-150.json").rename(good / "checkpoint-150.json")
    names = sorted(path.name for path in good.iterdir())

    def read(rng: np.random.Generator) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        is_hostile = rng.random() < 0.7
        if is_hostile:
            make_hostile(folder, rng)
        elif rng.random() < 0.1:
            one, other = (folder / str(name) for name in rng.choice(names, 2, replace=False))
            shutil.copy(one, other)
        else:
            path = folder / str(rng.choice(names))
            path.write_bytes(damaged(path.read_bytes(), rng))
        try:
            step = Checkpointer(folder, 120).restore(agent, environments)
        except CheckpointError as error:
            assert not is_hostile, error  # the one before is as it was
            return "refused"
        assert step in wanted
        if step == 120 or not is_hostile:
            assert fingerprint() == wanted[step]
            if rng.random() < 0.9:
                return "loaded" if step == 150 else "refused, the one before loaded"
        stop.steps_left = 5
        try:
            agent.fit(environments, nb_steps=step + 3, callbacks=[stop], verbose=0)
        except FloatingPointError:  # weights that are numbers, but so large that no Q-value is
            assert is_hostile
            return "refused, when it acts"
        assert agent.step == step + 3
        return "loaded"

    return read


def _digest_of(value: Any) -> str:
    if isinstance(value, dict):
        value = sorted((name, _digest_of(each)) for name, each in value.items())
    elif isinstance(value, (list, tuple)):
        value = [_digest_of(each) for each in value]
    elif isinstance(value, np.ndarray):
        value = (value.dtype.str, value.shape, value.tobytes())
    return hashlib.blake2b(repr(value).encode()).hexdigest()


VALUES: list[Any] = [None, True, -1, 0, 1, 3, 2**31, 2**63, -(2**63), 2**200, 0.5, -1e308, float("nan"), float("inf")]
VALUES += ["", "x" * 10_000, "../../../etc/passwd", "/etc/passwd", [], {}, [[]], [1] * 10_000, {"array": "0"}]
VALUES += [
    {"bytes": "0"},
    {"array": "99999"},
    {"array": 0},
    {"array": []},
    "O",
    "V1000000000",
    "<f8",
    "S0",
    "<U9",
    "M8",
]
SHAPES: list[Any] = [
    [2**20, 2**20],
    [2**26],
    [2**63, 2],
    [-1, 5],
    [21.5, 16],
    ["21", 16],
    [0],
    [],
    [21, 16, 1],
    [16, 21],
]


def make_hostile(folder: Path, rng: np.random.Generator) -> None:
    """Changes what the newest checkpoint says, and makes sizes and digests right again."""
    path = folder / "checkpoint-150.json"
    manifest = json.loads(path.read_text().partition("\n")[2])
    if rng.random() < 0.15:
        manifest = changed_json(manifest, rng)
    else:
        entry = manifest["state"] if rng.random() < 0.6 else manifest["replay"][-1]
        file = folder / entry["name"]
        data = file.read_bytes()
        data = damaged(data, rng) if rng.random() < 0.1 else changed_content(data, rng)
        file.write_bytes(data)
        entry["size"], entry["digest"] = len(data), hashlib.blake2b(data, digest_size=32).hexdigest()
    text = json.dumps(manifest, indent=1)
    if rng.random() < 0.01:
        text = "[" * 100_000
    path.write_text(f"{hashlib.blake2b(text.encode(), digest_size=32).hexdigest()}\n{text}\n")


def changed_content(data: bytes, rng: np.random.Generator) -> bytes:
    import safetensors.numpy

    arrays = safetensors.numpy.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    values = json.loads(header["__metadata__"]["values"])
    if rng.random() < 0.5:
        if "agent" in values and rng.random() < 0.2:
            memory = values["agent"]["memory"]
            name = str(rng.choice(["shape", "dtype", "recent", "writers"]))
            memory[name] = (
                SHAPES[int(rng.integers(len(SHAPES)))] if name == "shape" else changed_json(memory[name], rng)
            )
        else:
            values = changed_json(values, rng)
    else:
        name = str(rng.choice(list(arrays)))
        arrays[name] = changed_array(arrays[name], rng)
    return safetensors.numpy.save(arrays, {"values": json.dumps(values)})


def changed_json(value: Any, rng: np.random.Generator) -> Any:
    """`value` with one thing in it replaced, removed or put elsewhere."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = list(value)[int(rng.integers(len(value)))] if isinstance(value, dict) else int(rng.integers(len(value)))
        match int(rng.integers(8)):
            case 0:
                del value[key]
            case 1 if isinstance(value, list):
                value.append(value[key])
            case _:
                value[key] = changed_json(value[key], rng)
        return value
    if isinstance(value, (int, float)) and rng.random() < 0.3:
        return value + int(rng.integers(-3, 4))
    if rng.random() < 0.05:
        for _ in range(500):
            value = [value]
        return value
    return VALUES[int(rng.integers(len(VALUES)))]


def changed_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another array in the place of `array`."""
    dtypes = ["u1", "i4", "i8", "f2", "f4", "f8", "?", "u8"]
    match int(rng.integers(7)):
        case 0:
            return array.astype(str(rng.choice(dtypes)))
        case 1:
            return array.reshape(-1)[: int(rng.integers(array.size + 1))]
        case 2:
            return np.resize(array, array.size + int(rng.integers(1, 10)))
        case 3:
            return array[None]
        case 4:
            return np.zeros([0, 3], array.dtype)
        case 5:
            return np.zeros([1_000_000], str(rng.choice(dtypes)))
        case _:
            if not array.size:
                return np.ones(3, array.dtype)
            raw = bytearray(array.tobytes())
            raw = bytearray((damaged(bytes(raw), rng) + bytes(len(raw)))[: len(raw)])
            return np.frombuffer(raw, array.dtype).reshape(array.shape)


READERS = {"policies": reader_of_policies, "weights": reader_of_weights, "checkpoints": reader_of_checkpoints}

if __name__ == "__main__":
    sys.exit(fuzz(READERS[sys.argv[1]](), int(sys.argv[2]), float(sys.argv[3])))
