"""One attempt at a trial, on whatever machine has a core for it: train.py, from where it stopped, then evaluate.py."""

import collections
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import console
from keras_h5 import files
from sweeping.plan import Trial

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK_SECONDS = 300  # that a process may take to end, or a file server to notice that its machine is gone
LEAST_ROOM = 10_000_000  # bytes: a policy and what is written with it
MAX_ATTEMPTS_BYTES = 2**22  # of an attempts.json
TRAINING, EVALUATING, ENDED = "training", "evaluating", "ended"
PACKAGES = ("tensorflow", "jax", "torch", "keras", "keras-rl2", "ale-py", "numpy", "pillow")  # that bits depend on


@dataclass(frozen=True)
class Order:
    """What an attempt needs to know besides the trial."""

    token: str  # tells this attempt from all others
    cores: int  # threads that it computes with, and processes
    checkpoint_steps: int
    environment: dict[str, str]  # variables that are the same on every machine


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    is_done: bool
    words: str = ""  # why not
    is_final: bool = False  # whether another attempt would end in the same way


def attempt(trial: Trial, order: Order) -> Outcome:
    """Does what is left of a trial. Ctrl-C, or whatever else ends this, lets the training save and ends it, too."""
    if not trial.folder.parent.is_dir():
        host = socket.gethostname()
        return Outcome(False, f"{host} sees no folder {trial.folder.parent}; every machine needs it under this path")
    try:
        trial.folder.mkdir(exist_ok=True)
        notes = Notes(trial.folder, order)
        with open(trial.log, "ab", buffering=0) as log:
            return _train_and_evaluate(trial, order, notes, log)
    except OSError as error:
        return Outcome(False, f"{trial.folder} cannot be written ({error.strerror or error})")


def _train_and_evaluate(trial: Trial, order: Order, notes: "Notes", log: IO[bytes]) -> Outcome:
    workers = ["--workers", str(order.cores - 1)]
    if not trial.is_trained:
        notes.set(TRAINING)
        places = ["--checkpoint-steps", str(order.checkpoint_steps), "--wait-for-lock", str(LOCK_SECONDS)]
        status, words = _run(["train.py", *trial.training_command(), *places, *workers], order, log)
        if status or not trial.is_trained:
            notes.set(ENDED)
            return Outcome(False, _why("train.py", status, words, trial), status == console.DIVERGED)
    notes.set(EVALUATING)
    status, words = _run(["evaluate.py", *trial.evaluation_command(), *workers], order, log)
    notes.set(ENDED)
    return Outcome(True) if trial.is_done else Outcome(False, _why("evaluate.py", status, words, trial))


def _run(words: list[str], order: Order, log: IO[bytes]) -> tuple[int, str]:
    """Runs a script until it ends. Returns its status and the last line that it printed on standard error."""
    with suppress(OSError):
        log.write(f"\n{datetime.datetime.now():%Y-%m-%d %H:%M:%S} {socket.gethostname()}\n$ ".encode())
        log.write(f"{console.command(*words)}\n".encode())
    command = [sys.executable, str(REPOSITORY / "sweeping/leash.py"), str(REPOSITORY / words[0]), *words[1:]]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.PIPE,
        env=os.environ | _threads(order.cores) | order.environment,
        start_new_session=True,  # Ctrl-C in a terminal is dealt with by whoever started the sweep
    )
    lines: collections.deque[str] = collections.deque(maxlen=1)
    reader = threading.Thread(target=_copy, args=(process.stderr, log, lines), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):  # in short parts: an interruption by Ray waits for the next
                process.wait(0.5)
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    reader.join(5)
    return process.returncode, "".join(lines)


def _copy(source: Any, log: IO[bytes], lines: "collections.deque[str]") -> None:
    for line in source:
        with suppress(OSError):  # a full disk
            log.write(line)
        if text := line.decode(errors="replace").strip():
            lines.append(text)


def _threads(cores: int) -> dict[str, str]:
    """Variables that let every backend compute with so many threads: the same bits need the same number."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NPROC")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false" if cores == 1 else None
    return {**dict.fromkeys(names, str(cores)), **({"XLA_FLAGS": flags.strip()} if flags else {})}


def _why(script: str, status: int, words: str, trial: Trial) -> str:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    if not status:
        how = "could not write its file"
    with suppress(OSError):
        if shutil.disk_usage(trial.folder).free < LEAST_ROOM:
            words = "there is no room left on the disk"
    return f"{script} {how}{f': {words}' if words else ''}"


class Notes:
    """attempts.json in the folder of a run: which machines have worked on it, and what it is at now."""

    def __init__(self, folder: Path, order: Order) -> None:
        self.path = folder / "attempts.json"
        self.attempts = [*attempts(folder), {"token": order.token, "phase": "", **machine(order)}]

    def set(self, phase: str) -> None:
        """Writes down what begins now. A full disk does not keep a training from trying."""
        self.attempts[-1]["phase"] = phase
        with suppress(OSError):
            files.write(self.path, (json.dumps(self.attempts[-100:], indent=1) + "\n").encode())


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What the attempts.json of a run says, oldest first; nothing if there is none."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(files.read(folder / "attempts.json", MAX_ATTEMPTS_BYTES))
        if isinstance(found, list) and all(isinstance(each, dict) for each in found):
            return found
    return []


def unlike_machines(folder: Path) -> str:
    """In words, if a run was worked on by machines that may compute other bits; else nothing."""
    kinds: dict[str, str] = {}
    for each in attempts(folder):
        kind = {
            name: each.get(name) for name in ("processor", "features", "gpu", "python", "versions", "cores", "backend")
        }
        kinds.setdefault(json.dumps(kind, sort_keys=True), f"{each.get('host')} ({each.get('processor')})")
    return "" if len(kinds) < 2 else "moved between machines that differ: " + ", ".join(kinds.values())


def machine(order: Order) -> dict[str, Any]:
    """What the bits of a training depend on besides its options."""
    versions = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    processor, features = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        about = Path("/proc/cpuinfo").read_text()
        names, flags = (
            re.search(rf"^(?:{word})\s*: (.*)$", about, re.MULTILINE) for word in ("model name", "flags|Features")
        )
        processor = names[1] if names else processor
        features = hashlib.blake2b(flags[1].encode(), digest_size=8).hexdigest() if flags else ""
    return {
        "host": socket.gethostname(),
        "processor": processor,
        "features": features,
        "gpu": _gpu(),
        "cores": order.cores,
        "backend": order.environment.get("KERAS_BACKEND") or os.environ.get("KERAS_BACKEND", ""),
        "python": platform.python_version(),
        "versions": versions,
    }


def _gpu() -> str:
    """The graphics card that this process was given, if any."""
    number = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not number or number == "-1":
        return ""
    command = ["nvidia-smi", f"--id={number}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    return "unknown"
