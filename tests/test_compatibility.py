"""tools/compatibility.py, with this Python in the place of a cell: what it finds, and that it finds differences."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from models.nature_cnn import nature_cnn
from models.policy_file import TrainedPolicy, load_policy, save_policy
from tools import virtual_environment

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import compatibility

CELL = compatibility.Cell("here", "3.11", "keras")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_policy_that_ships_opens_in_keras_2_and_the_keras_rl2_of_its_time(name="tensorflow-2.0"):
    """The others of docs/compatibility.md take minutes and gigabytes: python tools/compatibility.py."""
    (cell,) = (cell for cell in compatibility.CELLS if cell.name == name)
    try:
        virtual_environment.find_python(cell.python)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    path = compatibility.REPOSITORY / "policy.h5"
    result = compatibility.try_cell(cell, path, load_policy(path))
    assert (result.problem, result.disagrees) == ("", False)
    assert len(result.differences) == 3 + cell.rl


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.setattr(virtual_environment, "make", lambda *_: Path(sys.executable))
    monkeypatch.setattr(virtual_environment, "find_python", lambda version: sys.executable)
    keras.utils.set_random_seed(1)
    save_policy(tmp_path / "policy.h5", nature_cnn(4).get_weights(), {})
    return tmp_path / "policy.h5"


@pytest.mark.slow
def test_a_cell_opens_the_file_in_every_way_and_what_it_saves_is_read(policy):
    result = compatibility.try_cell(CELL, policy, load_policy(policy))
    assert not result.problem
    assert not result.disagrees
    assert list(result.differences) == compatibility.WAYS[:3]
    assert list(result.saved) == ["model.save"]
    assert result.versions["keras"] == keras.__version__
    assert f"| here | {sys.version.split()[0]} | {keras.__version__} | TensorFlow" in compatibility.table([result])


@pytest.mark.slow
def test_a_cell_with_other_q_values_disagrees(policy):
    weights = [array.copy() for array in load_policy(policy).weights]
    weights[-1] += 0.001
    result = compatibility.try_cell(CELL, policy, TrainedPolicy(tuple(weights), {}))
    assert result.disagrees
    assert max(result.differences.values()) == pytest.approx(0.001, rel=0.1)


def test_a_cell_whose_program_fails_disagrees(policy):
    result = compatibility.try_cell(
        compatibility.Cell("none", "3.11", "", "no_such_keras"), policy, load_policy(policy)
    )
    assert result.disagrees
    assert "No module named 'no_such_keras'" in compatibility.table([result])


def test_a_cell_that_cannot_be_installed_is_said_and_is_no_disagreement(policy, monkeypatch):
    def make(*_):
        raise subprocess.CalledProcessError(1, "pip", stderr="Looking\nNo matching distribution found\n")

    monkeypatch.setattr(virtual_environment, "make", make)
    result = compatibility.try_cell(CELL, policy, load_policy(policy))
    assert not result.disagrees
    assert "not installed: No matching distribution found" in compatibility.table([result])


def test_a_python_that_is_missing_is_said():
    with pytest.raises(FileNotFoundError, match=r"no Python 3\.99"):
        virtual_environment.find_python("3.99")


@pytest.mark.parametrize("values", [np.full((2, 4), np.nan), np.zeros((2, 3))], ids=["nan", "shape"])
def test_what_is_no_q_value_is_infinitely_far(values):
    assert compatibility.difference(values, np.zeros((2, 4))) == np.inf


def test_a_virtual_environment_is_made_once(tmp_path, monkeypatch):
    commands = []
    run = subprocess.run

    def record(command, **kwargs):
        commands.append(command)
        if "venv" in command:
            return run([*command, "--without-pip"], **kwargs)

    monkeypatch.setattr(subprocess, "run", record)
    python = virtual_environment.make(tmp_path / "cell", "keras numpy")
    assert run([python, "-c", ""]).returncode == 0
    assert [*map(str, commands[-1])][-2:] == ["keras", "numpy"]
    assert virtual_environment.make(tmp_path / "cell", "keras numpy") == python
    assert len(commands) == 2


def test_a_virtual_environment_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(command, **kwargs):
        (tmp_path / "cell").mkdir()
        raise subprocess.CalledProcessError(1, command, stderr="disk full")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        virtual_environment.make(tmp_path / "cell", "keras")
    assert not (tmp_path / "cell").exists()
