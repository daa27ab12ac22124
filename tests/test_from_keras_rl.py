"""docs/from_keras_rl.md: its blocks run as they stand there, with smaller numbers."""

import functools
import re
import sys
from pathlib import Path
from unittest.mock import MagicMock

import gymnasium
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "from_keras_rl.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# What a training takes hours with, by how it is called there.
SHORT = {"nb_steps": 120, "nb_steps_warmup": 60, "limit": 2000, "interval": 50, "log_interval": 60, "nb_episodes": 1}


def short(block):
    return re.sub(r"\b(\w+)=(\d+)\b", lambda m: f"{m[1]}={SHORT.get(m[1], m[2])}", block)


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    return tmp_path


def test_the_page_has_the_blocks_that_are_run_here():
    assert [block.splitlines()[0] for block in BLOCKS[:2]] == ["import keras_rl  # new"] * 2
    assert len(BLOCKS) == 5


@pytest.mark.slow
def test_the_cartpole_example_runs_whole(in_a_folder, capsys):
    names: dict = {}
    exec(short(BLOCKS[0]), names)
    assert names["dqn"].step < names["dqn"].nb_steps_warmup + 500  # test() counts anew
    assert (in_a_folder / "dqn_CartPole-v0_weights.h5f").exists()
    assert re.search(r"120/120|Training for 120 steps", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*process_state_batch runs")
def test_the_atari_example_runs_whole_in_both_modes(in_a_folder, monkeypatch, capsys):
    monkeypatch.setattr(gymnasium, "make", functools.partial(gymnasium.make, max_episode_steps=70))
    exec(short(BLOCKS[1]), {})
    written = {path.name for path in in_a_folder.iterdir()}
    assert written == {
        "dqn_BreakoutDeterministic-v4_weights.h5f",
        "dqn_BreakoutDeterministic-v4_weights_50.h5f",
        "dqn_BreakoutDeterministic-v4_weights_100.h5f",
        "dqn_BreakoutDeterministic-v4_log.json",
    }
    monkeypatch.setattr(sys, "argv", ["script.py", "--mode", "test"])
    with pytest.warns(UserWarning, match="not shown: Invalid render mode"):
        exec(short(BLOCKS[1]), {})
    assert capsys.readouterr().out.count("Episode 1: reward") == 2


@pytest.mark.slow
def test_the_other_blocks_run_in_turn(in_a_folder, monkeypatch, capsys):
    wandb = MagicMock()  # a large package, and a service, that a test need not have
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    names: dict = {}
    for block in BLOCKS[2:]:
        exec(block, names)
    assert names["dqn"].step == 400
    (first, *_) = wandb.init.return_value.log.call_args_list
    assert first.args[0]["score"] > 0
    wandb.init.return_value.finish.assert_called_once()
    assert "does not run on Keras 3" in capsys.readouterr().out
