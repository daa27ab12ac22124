"""docs/from_keras_rl.md: its blocks are one script that runs as it stands there."""

import re
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "from_keras_rl.md").read_text()


@pytest.mark.slow
def test_every_block_runs_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wandb = MagicMock()  # a large package, and a service, that a test need not have
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "dqn_weights.h5f").exists()
    assert names["dqn"].step == 400
    (first, *_) = wandb.init.return_value.log.call_args_list
    assert first.args[0]["score"] > 0
    wandb.init.return_value.finish.assert_called_once()
    assert "does not run on Keras 3" in capsys.readouterr().out
