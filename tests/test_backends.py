"""Keras on JAX, TensorFlow not being installed; with EVERY_BACKEND=1 on Torch too, which is a download of gigabytes.

The first time a virtual environment is made for each, in .venv-jax and .venv-torch, with the commands of the README.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.policy_file import save_policy
from tools import virtual_environment

REPOSITORY = Path(__file__).parents[1]
BACKENDS = {"jax": "jax>=0.4.30,<1"}
if os.environ.get("EVERY_BACKEND"):
    BACKENDS["torch"] = "torch>=2.5,<3"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """The name of a backend, and a Python that has it and not TensorFlow."""
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    others = [line for line in lines if not line.startswith(("#", "tensorflow", "keras-rl2"))]
    (keras_rl2,) = (line for line in lines if line.startswith("keras-rl2"))
    python = virtual_environment.make(
        REPOSITORY / f".venv-{request.param}", "\n".join([*others, BACKENDS[request.param]])
    )
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", keras_rl2], check=True)
    assert subprocess.run([python, "-c", "import tensorflow"], capture_output=True).returncode == 1
    return request.param, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the policy.h5 of a network that always chooses RIGHT."""
    folder = tmp_path_factory.mktemp("backends")
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = [part for shape in shapes for part in (np.zeros(shape), np.zeros(shape[-1]))]
    weights[-1] = np.array([0.0, 0, 1, 0])
    save_policy(folder / "policy.h5", weights, {"game": "breakout"})
    return folder


def run(folder, backend, script, *words):
    name, python = backend
    environment = os.environ | {"KERAS_BACKEND": name, "JAX_PLATFORMS": "cpu"}
    command = [python, REPOSITORY / script, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_evaluating_gives_the_same_scores_as_on_tensorflow(folder, backend):
    scores = []
    for name, python in (("tensorflow", sys.executable), backend):
        path = folder / f"{name}.json"
        process = run(folder, (name, python), "evaluate.py", "--episodes", "3", "--epsilon", "0.3", "--json", str(path))
        assert (process.returncode, process.stderr) == (0, "")
        facts = json.loads(path.read_text())
        assert name in facts["versions"]
        scores.append(facts["scores"])
    assert scores[0] == scores[1]


def test_playing_works_and_is_recorded(folder, backend):
    words = ["--no-window", "--record", "game.webp", "--episodes", "1", "--max-steps", "30"]
    process = run(folder, backend, "play.py", *words)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Game 1 is in game.webp" in process.stdout


@pytest.mark.parametrize(
    ("words", "what"), [(["train.py", "--preset", "smoke"], "Training"), (["play.py", "--saliency"], "--saliency")]
)
def test_what_needs_tensorflow_says_so_in_one_sentence(folder, backend, words, what):
    process = run(folder, backend, *words, *(["--no-window"] if words[0] == "play.py" else []))
    assert process.returncode == 2
    sentence = f"{what} needs Keras on TensorFlow, and this is Keras on {backend[0]}; set KERAS_BACKEND=tensorflow."
    assert process.stderr == f"{words[0]}: {sentence}\n"
    assert not (folder / "runs").exists()
