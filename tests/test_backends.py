"""Keras on JAX, as if TensorFlow were not installed. Needs JAX, which is in no requirements: pip install jax."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.policy_file import save_policy

REPOSITORY = Path(__file__).parents[1]
WITHOUT_TENSORFLOW = f"""
import runpy, sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing)
sys.path.insert(0, {str(REPOSITORY)!r})
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="needs JAX: pip install jax"),
]


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
    program = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(REPOSITORY / script)]
    if backend == "tensorflow":
        program = [sys.executable, str(REPOSITORY / script)]
    # JAX asks for TensorFlow's messages, in the environment, wherever it is imported.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [*program, *words],
        cwd=folder,
        env=environment | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_evaluating_gives_the_same_scores_as_on_tensorflow(folder):
    scores = []
    for backend in ("tensorflow", "jax"):
        path = folder / f"{backend}.json"
        process = run(folder, backend, "evaluate.py", "--episodes", "3", "--epsilon", "0.3", "--json", str(path))
        assert (process.returncode, process.stderr) == (0, "")
        facts = json.loads(path.read_text())
        assert backend in facts["versions"]
        scores.append(facts["scores"])
    assert scores[0] == scores[1]


def test_playing_works_and_is_recorded(folder):
    words = ["--no-window", "--record", "game.webp", "--episodes", "1", "--max-steps", "30"]
    process = run(folder, "jax", "play.py", *words)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Game 1 is in game.webp" in process.stdout


@pytest.mark.parametrize(
    ("words", "what"), [(["train.py", "--preset", "smoke"], "Training"), (["play.py", "--saliency"], "--saliency")]
)
def test_what_needs_tensorflow_says_so_in_one_sentence(folder, words, what):
    process = run(folder, "jax", *words, *(["--no-window"] if words[0] == "play.py" else []))
    assert process.returncode == 2
    sentence = (
        f"{words[0]}: {what} needs Keras on TensorFlow, and this is Keras on jax; set KERAS_BACKEND=tensorflow.\n"
    )
    assert process.stderr == sentence
    assert not (folder / "runs").exists()
