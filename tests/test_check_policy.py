"""tools/check_policy.py: the ground truth about a policy.h5, without Keras."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from models.nature_cnn import nature_cnn
from models.policy_file import TrainedPolicy, save_policy

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))
from check_policy import q_values  # noqa: E402


def run(folder, *words):
    command = [sys.executable, str(REPOSITORY / "tools/check_policy.py"), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    keras.utils.set_random_seed(1)
    facts = {"game": "breakout", "actions": ["NOOP", "FIRE", "RIGHT", "LEFT"], "seed": 7}
    save_policy(folder / "policy.h5", nature_cnn(4).get_weights(), facts)
    np.save(folder / "states.npy", np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84), np.uint8))
    return folder


def test_its_q_values_are_those_of_keras(folder):
    keras.utils.set_random_seed(2)
    model = nature_cnn(6)
    model.layers[-1].bias.assign(np.arange(6.0))
    states = np.random.default_rng(1).random((5, 4, 84, 84), np.float32)
    found = q_values(TrainedPolicy(tuple(model.get_weights()), {}), states)
    np.testing.assert_allclose(found, model(states), atol=1e-4)


def test_it_says_what_is_in_the_file(folder):
    process = run(folder, "--states", "states.npy", "--json", "said.json")
    assert process.returncode == 0, process.stderr
    for part in ("1,686,180 finite float32 weights, 4 actions", "Keras 2 and 3", "NOOP, FIRE, RIGHT, LEFT", "seed"):
        assert part in process.stdout
    said = json.loads((folder / "said.json").read_text())
    states = np.load(folder / "states.npy")
    np.testing.assert_allclose(said["q_values"], keras.models.load_model(folder / "policy.h5")(states / 255), atol=1e-4)
    assert process.stdout.count("state ") == 3


def test_it_needs_neither_keras_nor_tensorflow(folder):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv.pop(), run_name='__main__')\n"
        "finally: print(sorted({'keras', 'tensorflow', 'gymnasium'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY / "tools/check_policy.py")]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert process.stdout.splitlines()[-1] == "[]", process.stderr


def test_a_model_that_keras_3_saved_itself_is_known_as_one(folder):
    nature_cnn(4).save(folder / "keras3.h5")
    assert "load_model of Keras 3 only" in run(folder, "keras3.h5").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.h5"], "none.h5 does not exist"),
        (["states.npy"], "expected a policy.h5"),
        (["--states", "policy.h5"], "is not a NumPy array file"),
        (["--states", "flat.npy"], "holds float64 of shape (3,); expected (batch, 4, 84, 84)"),
        (["--states", "bright.npy"], "between 0 and 1"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, folder):
    np.save(folder / "flat.npy", np.zeros(3))
    np.save(folder / "bright.npy", np.full((1, 4, 84, 84), 255.0))
    process = run(folder, *words)
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
