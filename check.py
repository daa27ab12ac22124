"""Runs every check of this repository, setting up all that they need: python3 check.py

Makes a virtual environment in .venv, installs requirements-dev.txt into it, then formats, lints, type-checks (all
without changing a file) and tests. Words after the command go to pytest: python3 check.py -m "not slow".

    python3 check.py --oldest    the quick tests that depend on versions, in .venv-oldest: the oldest ones that
                                 requirements.txt allows, on the oldest Python, if there is a Python 3.10 here
    python3 check.py --jax       the tests that depend on Keras' backend, in .venv-jax, without TensorFlow
    python3 check.py --torch     the same on Torch; it may be a download of gigabytes

With --set-up after it, each of these commands makes its environment and ends.
"""

import os
import re
import signal
import subprocess
import sys
import venv
from pathlib import Path

from tools import virtual_environment

REPOSITORY = Path(__file__).resolve().parent
OLDEST_PYTHON = "3.10"
CHECKS = [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy", "."]]
BACKENDS = {"jax": "jax>=0.4.30,<1", "torch": "torch>=2.5,<3"}
# What JAX has compiled once, however small, it reads again in other tests and processes.
JAX_CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
BACKEND_TESTS = [
    "tests/test_backends.py",
    "tests/test_background.py",
    "tests/test_dqn_agent.py",
    "tests/test_saliency.py",
    "tests/test_checkpoint.py::TestResumingTrainPy::test_killed_and_resumed_it_writes_the_same_policy",
]
# What another version of a dependency can change; the rest is our own code, tested with the newest ones.
VERSION_TESTS = [
    f"tests/test_{name}.py"
    for name in (
        "atari_environment",
        "atari_processor",
        "check_policy",
        "dqn_agent",
        "evaluate",
        "heads",
        "html_report",
        "keras_rl",
        "learning_curve",
        "nature_cnn",
        "policy_file",
        "recording",
        "replay_memory",
        "tensorboard",
        "terminal",
        "train",
        "workers",
    )
]
# One more than there are cores: some tests wait for processes, terminals and clocks.
PYTEST = ["pytest", "-n", str(min(8, (os.cpu_count() or 1) + 1)), "--dist", "worksteal"]
# --no-compile: half a minute of one core for modules of which most are never imported; Python compiles the others then.
INSTALL = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]


def main() -> int:
    """Returns the exit status of the first check that fails, else 0."""
    if sys.version_info < (3, 10):  # noqa: UP036, a person may start this with anything
        print(f"This is Python {sys.version.split()[0]}; 3.10 or newer is needed.", file=sys.stderr)
        return 2
    for signum in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        if signal.getsignal(signum) is signal.SIG_IGN:  # as after `python3 check.py &`; tests send Ctrl-C
            signal.signal(signum, signal.SIG_DFL)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process would compile TensorFlow's modules again
    words = sys.argv[1:]
    leg = words.pop(0)[2:] if words[:1] and words[0] in ("--oldest", "--jax", "--torch") else ""
    folder = REPOSITORY / (f".venv-{leg}" if leg else ".venv")
    python = virtual_environment.python_of(folder)
    if not python.exists():
        make_environment(folder, leg == "oldest")
    settings = {"KERAS_BACKEND": leg, "JAX_PLATFORMS": "cpu"} if leg in BACKENDS else {}
    if leg == "jax":
        settings |= JAX_CACHE | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    todo = commands(leg, folder, words)
    if words == ["--set-up"]:
        todo = [command for command in todo if command[0] == "pip"]
    for command in todo:
        print("$ python -m", *command, flush=True)
        status = subprocess.run([python, "-m", *command], cwd=REPOSITORY, env=os.environ | settings).returncode
        if status:
            return status
    return 0


def commands(leg: str, folder: Path, words: list[str]) -> list[list[str]]:
    """What Python's -m is to run, one after the other, in the virtual environment in this folder."""
    requirements = (REPOSITORY / "requirements.txt").read_text()
    if leg in BACKENDS:
        lines = requirements.splitlines()
        needed = [line for line in lines if not line.startswith(("#", "tensorflow", "keras-rl2"))]
        needed += re.findall(r"^pytest.*$", (REPOSITORY / "requirements-dev.txt").read_text(), re.MULTILINE)
        (keras_rl2,) = (line for line in lines if line.startswith("keras-rl2"))
        without = [*INSTALL, "--no-deps", keras_rl2]  # it asks for TensorFlow, and here it does without
        return [[*INSTALL, *needed, BACKENDS[leg]], without, [*PYTEST, *BACKEND_TESTS, *words]]
    install = [*INSTALL, "-r", "requirements-dev.txt"]
    if leg == "oldest":
        constraints = folder / "oldest.txt"
        constraints.write_text(oldest_versions(requirements))
        return [[*install, "-c", str(constraints)], [*PYTEST, *(words or ["-m", "not slow", *VERSION_TESTS])]]
    return [install, *CHECKS, [*PYTEST, *words]]


def make_environment(folder: Path, oldest: bool) -> None:
    """An empty virtual environment, of the oldest Python if it is to be and there is one."""
    if oldest:
        try:
            subprocess.run([virtual_environment.find_python(OLDEST_PYTHON), "-m", "venv", folder], check=True)
            return
        except FileNotFoundError as error:
            print(f"{error}; going on with {sys.version.split()[0]}.")
    venv.create(folder, with_pip=True)


def oldest_versions(requirements: str) -> str:
    """Constraints for pip: every requirement in the lowest version that it allows."""
    return "\n".join(f"{n}=={v}" for n, v in re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirements, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
