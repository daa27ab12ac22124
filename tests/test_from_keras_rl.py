"""docs/from_keras_rl.md: its blocks are one script that runs as it stands there."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "from_keras_rl.md").read_text()


@pytest.mark.slow
def test_every_block_runs_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "dqn_weights.h5f").exists()
    assert names["dqn"].step == 200
    assert "does not run on Keras 3" in capsys.readouterr().out
