"""Checkpoints: all that a training is made of, on disk, so that it can be killed at any moment and go on.

A folder holds

    state-<step>.safetensors     networks, optimizer, games, random generators, counters, as of this agent step
    replay-<step>.safetensors    what the replay memory got since the checkpoint before
    checkpoint-<step>.json       the files that make up this checkpoint, with their sizes and digests

The last is written last, so that a checkpoint is there whole or not at all. The last two are kept: if a file of the
newest is damaged, the one before it is used. A replay file goes once the ring has overwritten what is in it.

Nothing in these files is executed, and no path in them is followed: they hold arrays (safetensors) and JSON.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import ENOTDIR
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from keras_h5 import files
from keras_rl.bridge import rl

KEPT_CHECKPOINTS = 2
LARGEST_FILE, LARGEST_MANIFEST = 2**30, 2**24  # bytes
NO_LINK = "it is a symbolic link, and old checkpoints are removed; put a folder in its place"
OWN_FILES = re.compile(r"\.?(checkpoint|replay|state)-\d+(-again)?\.(json|safetensors)(\.\w+\.tmp)?")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, or none that can; the message says why."""


class Checkpointer(rl.callbacks.Callback):
    """Writes a checkpoint of a `DQNAgent` every `interval` agent steps, when the tick ends, and at the end of `fit`.

        checkpointer = Checkpointer(folder, interval=25_000)
        checkpointer.restore(dqn, environments)  # None where there is no checkpoint yet
        dqn.fit(environments, nb_steps=1_000_000, callbacks=[checkpointer])

    Killed at any moment and started again, this script ends with the weights of one that was never stopped, bit for
    bit: with the same versions of everything, on the same kind of CPU. The environments need `get_state` and
    `set_state`, as `AtariEnvironment` has them, and the agent a `keras_rl.memory.SequentialMemory`. List it after the
    callbacks that are among its `extras`: what they do last is then in the last checkpoint.

    Args:
        folder: Where the files go, no symbolic link. Of what is in it only files with names as above are removed.
        interval: Agent steps between two checkpoints.
        extras: Other parts of the training by name: anything that has `get_state`, returning a dict of JSON values,
            arrays and bytes, and `set_state`.
        warn: Called with the error where a checkpoint cannot be written or read: a full disk must not end a training,
            and a damaged file has one before it. Default: an error in writing is raised, one in reading passed over.
        then: Called after each checkpoint that was due in `fit`, between two ticks like it.
    """

    def __init__(
        self,
        folder: Path,
        interval: int,
        extras: Mapping[str, Any] | None = None,
        warn: Callable[[Exception], None] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.interval = interval
        self.extras = dict(extras or {})
        self.warn = warn
        self.then = then
        self.last_step = 0  # of the last checkpoint, 0 if there is none yet
        self._intervals = 0  # at whose end a checkpoint was due, so far
        self._state_name = ""  # of the last checkpoint's file
        self._replay_files: list[dict[str, Any]] = []  # of the last checkpoint, oldest first
        self._saved_counts: np.ndarray | None = None  # of the memory's entries, at the last checkpoint

    def on_step_begin(self, step: int, logs=None) -> None:
        # Here the agent may be between two ticks; in on_step_end the end of the episode is still to be dealt with.
        intervals = self.model.step // self.interval
        if intervals > self._intervals and not self.model.pending_steps:
            self._intervals = intervals
            self._save_or_warn()
            if self.then:
                self.then()

    def on_train_end(self, logs=None) -> None:
        if not (logs or {}).get("did_abort"):  # else the agent may be in the middle of a step
            self._save_or_warn()  # also where no step was taken: something else may have been, such as an evaluation

    def save(self) -> None:
        """Writes a checkpoint now.

        Raises:
            OSError: If that fails. The checkpoints before are still there.
            FloatingPointError: If the network has diverged: there is nothing to go on from.
            TypeError: If the memory or an environment cannot tell its state.
        """
        if self.folder.is_symlink():
            raise NotADirectoryError(ENOTDIR, NO_LINK, str(self.folder))
        agent, memory, step = self.model, self.model.memory, self.model.step
        state = {"agent": agent.get_state(), **{name: extra.get_state() for name, extra in self.extras.items()}}
        if not all(np.isfinite(weights).all() for weights in state["agent"]["model"]):
            raise FloatingPointError("The network's weights are no finite numbers.")
        entries = memory.get_entries(self._saved_counts)
        counts = entries["ends"]
        self.folder.mkdir(parents=True, exist_ok=True)
        state_name = f"state-{step}.safetensors"
        if state_name == self._state_name:  # of this step, but before the last evaluation, say: it stays until the end
            state_name = f"state-{step}-again.safetensors"
        replay_name, replay = f"replay-{step}.safetensors", list(self._replay_files)
        has_new_entries = bool(np.any(counts > entries["starts"]))
        try:
            if has_new_entries:
                replay.append({**self._write(replay_name, entries), "ends": counts.tolist()})
            replay = [file for file in replay if np.any(file["ends"] > counts - memory.capacity)]
            text = json.dumps({"state": self._write(state_name, state), "replay": replay}, indent=1)
            files.write(self.folder / f"checkpoint-{step}.json", f"{_digest(text.encode())}\n{text}\n".encode())
        except OSError:  # a full disk needs the room
            for name in [state_name, *([replay_name] if has_new_entries else [])]:
                (self.folder / name).unlink(missing_ok=True)
            raise
        self.last_step, self._replay_files, self._saved_counts = step, replay, counts
        self._state_name = state_name
        self._remove_the_old()

    def restore(self, agent, env) -> int | None:
        """Puts the newest usable checkpoint into a compiled agent and its environments; `fit` goes on from there.

        Args:
            agent: Built and compiled as ever.
            env: The environment, or the list of them, that `fit` will get.

        Returns:
            The agent steps so far, or None if there is no checkpoint yet.

        Raises:
            CheckpointError: If there are checkpoints, but none can be used.
        """
        damage: list[Exception] = []
        if self.folder.is_symlink():
            raise CheckpointError(f"{self.folder}: {NO_LINK}")
        for step, path in self._checkpoints():
            try:
                self._restore(agent, env, path, step)
            except Exception as error:  # whatever a damaged file, or a hostile one, makes of itself
                damage.append(CheckpointError(f"{path} cannot be used: {error}"))
                continue
            if self.warn:
                for each in damage:
                    self.warn(each)
            self.last_step, self._intervals = step, step // self.interval
            return step
        if damage:
            raise CheckpointError("; ".join(map(str, damage)))
        return None

    def _restore(self, agent, env, path: Path, step: int) -> None:
        manifest = _manifest(path)
        state = self._read(manifest["state"])
        agent.set_state(state["agent"], env, (self._read(file) for file in manifest["replay"]))
        if agent.step != step:
            raise CheckpointError(f"it is of step {agent.step}")
        for name, extra in self.extras.items():
            extra.set_state(state[name])
        self._replay_files, self._saved_counts = manifest["replay"], agent.memory.counts
        self._state_name = manifest["state"]["name"]

    def _save_or_warn(self) -> None:
        if not self.model.training or not self.model.step:
            return
        try:
            self.save()
        except OSError as error:
            if self.warn is None:
                raise
            self.warn(error)

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """(step, path) of every checkpoint in the folder, the newest first."""
        found = [(path.stem.removeprefix("checkpoint-"), path) for path in self.folder.glob("checkpoint-*.json")]
        return sorted(((int(step), path) for step, path in found if step.isdecimal()), reverse=True)

    def _remove_the_old(self) -> None:
        """Leaves the last checkpoints and what belongs to them; later ones are from before a restore."""
        checkpoints = [path for step, path in self._checkpoints() if step <= self.last_step][:KEPT_CHECKPOINTS]
        needed = {path.name for path in checkpoints}
        for path in checkpoints:
            with suppress(Exception):  # a damaged one needs nothing
                manifest = _manifest(path)
                needed |= {file["name"] for file in [manifest["state"], *manifest["replay"]]}
        for path in self.folder.iterdir():
            if path.name not in needed and OWN_FILES.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()

    def _write(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Writes a file; returns what the manifest says of it."""
        arrays: dict[str, np.ndarray] = {}
        text = json.dumps(_take_out_arrays(values, arrays))
        data = safetensors.numpy.save(arrays, {"values": text})
        if len(data) > LARGEST_FILE:
            raise OSError(f"{self.folder / name} would have {len(data):,} bytes, which is too much; save more often")
        files.write(self.folder / name, data)
        return {"name": name, "size": len(data), "digest": _digest(data)}

    def _read(self, file: dict[str, Any]) -> Any:
        """The values in a file that a manifest names."""
        path = self.folder / Path(file["name"]).name
        size = path.stat().st_size
        if size != file["size"] or size > LARGEST_FILE:
            raise CheckpointError(f"{path.name} has {size:,} bytes, expected {file['size']:,}")
        data = files.read(path, LARGEST_FILE)
        if _digest(data) != file["digest"]:
            raise CheckpointError(f"{path.name} has changed since it was written")
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return _put_back_arrays(json.loads(header["__metadata__"]["values"]), arrays)


def _manifest(path: Path) -> dict[str, Any]:
    digest, _, text = files.read(path, LARGEST_MANIFEST).decode().rstrip("\n").partition("\n")
    if _digest(text.encode()) != digest:
        raise CheckpointError("it has changed since it was written")
    return json.loads(text)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _take_out_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON holds it; its arrays and bytes go to `arrays`, and {"array": name} stands in their place."""
    if isinstance(value, dict):
        return {name: _take_out_arrays(each, arrays) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_out_arrays(each, arrays) for each in value]
    if isinstance(value, (np.ndarray, bytes)):
        name = str(len(arrays))
        if isinstance(value, bytes):
            arrays[name] = np.frombuffer(value, np.uint8)
            return {"bytes": name}
        arrays[name] = np.asarray(value, order="C")
        return {"array": name}
    return value.item() if isinstance(value, np.generic) else value


def _put_back_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The opposite of `_take_out_arrays`."""
    if isinstance(value, list):
        return [_put_back_arrays(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return arrays[value["array"]]
    if value.keys() == {"bytes"}:
        return arrays[value["bytes"]].tobytes()
    return {name: _put_back_arrays(each, arrays) for name, each in value.items()}
