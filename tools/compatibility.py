"""Proves that policy.h5 opens everywhere: in one virtual environment for each Keras, with equal Q-values.

    python tools/compatibility.py                       all cells; writes docs/compatibility.md
    python tools/compatibility.py --cells tf_keras      only these; prints the table, and writes nothing
    python tools/compatibility.py --policy other.h5     of another file

A cell is made in tools/.venvs the first time, which takes minutes and some 16 GB in all. In each, the file is opened
by `load_model`, by `load_weights` of a network built anew and, where it still runs unmodified, by keras-rl. And back:
what is saved there is read by `load_policy`. Q-values for the same states are held against those of
tools/check_policy.py, computed in float64 without Keras.

Exit status: 0 all cells that could be made agree, 1 one does not, 2 bad input.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import check_policy

import console
from keras_h5 import files
from models.policy_file import PolicyFileError, TrainedPolicy, load_policy
from tools import virtual_environment

TOOLS = Path(__file__).resolve().parent
REPOSITORY = TOOLS.parent
PAGE = REPOSITORY / "docs" / "compatibility.md"
TOLERANCE = 1e-4  # of a Q-value, absolute
NUM_STATES = 8
DISAGREES = 1
WAYS = ["load_model", "load_model, compile=False", "load_weights", "DQNAgent.load_weights"]


@dataclass(frozen=True)
class Cell:
    """One environment that policy.h5 has to open in."""

    name: str
    python: str  # major.minor
    requirements: str  # for pip, separated by spaces
    module: str = "keras"  # what Keras is called there
    rl: bool = False  # whether stock keras-rl, or keras-rl2, runs there
    backend: str = "tensorflow"


# What pip 18 of Python 3.6 would choose by itself beside TensorFlow 1.12 wants a newer Python or a compiler.
TENSORFLOW_1 = (
    "tensorflow==1.12.0 keras==2.2.4 keras-rl==0.4.2 h5py==2.9.0 numpy==1.16.6 scipy==1.4.1 protobuf==3.8.0 "
    "grpcio==1.20.1 absl-py==0.9.0 termcolor==1.1.0 gast==0.2.2 astor==0.8.1 tensorboard==1.12.2 werkzeug==0.16.1 "
    "markdown==3.2.2 importlib-metadata==1.7.0 zipp==3.1.0 six==1.15.0 wheel==0.34.2 pyyaml==5.3.1"
)
# Keras 3.0 does not say that it needs packaging.
CELLS = [
    Cell("tensorflow-1.12", "3.6", TENSORFLOW_1, "keras", True),
    Cell("tensorflow-2.0", "3.7", "tensorflow==2.0.4 keras-rl2==1.0.5 h5py<3 protobuf<3.20", "tensorflow.keras", True),
    Cell("tensorflow-2.15", "3.11", "tensorflow==2.15.1 keras-rl2==1.0.5", "tensorflow.keras"),
    Cell("tf_keras", "3.13", "tensorflow==2.21.0 tf_keras==2.21.0", "tf_keras"),
    Cell("keras-3.0-tensorflow", "3.10", "tensorflow==2.16.1 keras==3.0.5"),
    Cell("keras-3.0-jax", "3.10", "keras==3.0.5 packaging jax==0.4.30 jaxlib==0.4.30 numpy<2", backend="jax"),
    Cell("keras-3.0-torch", "3.11", "keras==3.0.5 packaging torch==2.13.0", backend="torch"),
    Cell("keras-3.15-tensorflow", "3.12", "tensorflow==2.21.0 keras==3.15.1"),
    Cell("keras-3.15-jax", "3.11", "keras==3.15.1 jax==0.7.1 h5py>=3.14", backend="jax"),
    Cell("keras-3.15-torch", "3.12", "keras==3.15.1 torch==2.13.0", backend="torch"),
]


@dataclass
class Result:
    """What came of a cell: either `problem`, or how far its Q-values are from the truth."""

    cell: Cell
    problem: str = ""
    disagrees: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)  # by way of opening the file
    saved: dict[str, float] = field(default_factory=dict)  # by way of saving one there


def main() -> int:
    """Tries the cells in turn, then prints the table."""
    parser = console.ArgumentParser(__doc__)
    names = [cell.name for cell in CELLS]
    parser.add_argument("--cells", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--policy", type=Path, default=REPOSITORY / "policy.h5", help="(default: policy.h5)")
    given = parser.parse_args()
    policy = load_policy(given.policy)
    results = []
    for cell in CELLS:
        if cell.name in (given.cells or names):
            print(f"{cell.name} ...", file=sys.stderr, flush=True)
            results.append(try_cell(cell, given.policy, policy))
    print(table(results))
    if not given.cells:
        files.write(PAGE, page(results).encode())
    return DISAGREES if any(result.disagrees for result in results) else console.DONE


def try_cell(cell: Cell, path: Path, policy: TrainedPolicy) -> Result:
    """Opens the file at `path` in a cell, and what the cell saves here; `policy` is what is in the file."""
    try:
        python = virtual_environment.make(
            TOOLS / ".venvs" / cell.name,
            "\n".join(cell.requirements.split()),
            virtual_environment.find_python(cell.python),
        )
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return Result(cell, f"not installed: {last_line(error)}")
    states = np.random.default_rng(0).integers(0, 256, (NUM_STATES, *check_policy.STATE_SHAPE), np.uint8)
    truth = check_policy.q_values(policy, states)
    result = Result(cell)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(path, folder / "policy.h5")
        np.save(folder / "states.npy", states)
        try:
            for way in ("keras", "keras-rl") if cell.rl else ("keras",):
                said = probe(python, folder, cell, way)
                result.versions.update(said["versions"])
                for opened, values in said["q_values"].items():
                    result.differences[opened] = difference(np.array(values), truth)
            for saved in sorted(folder.glob("saved by *.h5")):
                values = check_policy.q_values(load_policy(saved), states)
                result.saved[saved.stem.removeprefix("saved by ")] = difference(values, truth)
        except (subprocess.CalledProcessError, PolicyFileError) as error:
            result.problem = f"failed: {last_line(error)}"
    found = [*result.differences.values(), *result.saved.values()]
    result.disagrees = bool(result.problem) or max(found) > TOLERANCE
    return result


def probe(python: Path, folder: Path, cell: Cell, way: str) -> dict:
    """What compatibility_probe.py says there.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [str(python), "-I", str(TOOLS / "compatibility_probe.py"), str(folder), cell.module, way]
    # Of the person's own settings only these count: a CPU, and no keras.json.
    settings = {"KERAS_BACKEND": cell.backend, "KERAS_HOME": str(folder), "JAX_PLATFORMS": "cpu"}
    settings |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env={**os.environ, **settings}
    )
    return json.loads(process.stdout.splitlines()[-1])


def difference(values: np.ndarray, truth: np.ndarray) -> float:
    """The largest difference of a Q-value; infinite if the shapes differ or a value is not a number."""
    if values.shape != truth.shape or not np.isfinite(values).all():
        return float("inf")
    return float(np.abs(values - truth).max())


def last_line(error: Exception) -> str:
    """What a person wants to know of an error, fit for a cell of a table."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    line = ((text or "").strip().splitlines() or [str(error)])[-1].replace("|", "/")
    return re.sub(r" \(/.*\)$", "", line)[:200]  # without the path of a module that ImportError names


def table(results: list[Result]) -> str:
    """The results in Markdown, a line for each cell."""
    rows = [
        "| cell | Python | Keras | on | NumPy, h5py | `load_model` | `compile=False` | `load_weights` "
        "| keras-rl's `load_weights` | saved there, read here |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cell, versions = result.cell, result.versions
        if result.problem:
            rows.append(f"| {cell.name} | {cell.python} | {result.problem} | | | | | | | |")
            continue
        engine = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "Torch"}[cell.backend]
        opened = [f"{result.differences[way]:.0e}" if way in result.differences else "" for way in WAYS]
        saved = ", ".join(f"`{way}` {value:.0e}" for way, value in result.saved.items())
        rows.append(
            f"| {cell.name} | {versions['python']} | {versions['keras']} | {engine} {versions[cell.backend]} "
            f"| {versions['numpy']}, {versions['h5py']} | {' | '.join(opened)} | {saved} |"
        )
    return "\n".join(rows)


def page(results: list[Result]) -> str:
    """docs/compatibility.md."""
    today = datetime.date.today()
    agreeing = sum(not (result.problem or result.disagrees) for result in results)
    return f"""# Where policy.h5 opens

Written by `python tools/compatibility.py` on {today.day} {today:%B %Y}: {agreeing} of {len(results)} cells agree.

A cell is a virtual environment of its own. In it the `policy.h5` of this repository is opened in four ways:

- by `load_model`, with default arguments;
- by `load_model` with `compile=False`;
- by `load_weights` of a network built anew;
- by the stock `DQNAgent.load_weights` where it runs unmodified: of keras-rl2 1.0.5, in the oldest cell keras-rl 0.4.2.

The last column is the way back: what is saved there is read here by `load_policy`, as `play.py` reads it.

`tools/check_policy.py` computes the same network in float64, without Keras. The numbers are the largest difference of a
Q-value from that, over {NUM_STATES} states of random pixels. Up to {TOLERANCE:g} counts as equal.

{table(results)}

Keras 3 has no `save_weights` in the format of Keras 2; `DQNAgent.save_weights` of this project writes it.
"""


if __name__ == "__main__":
    console.run(main, PolicyFileError)
