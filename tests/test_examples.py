"""The examples as people run them, only shorter."""

import ast
import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from config import PRESETS, Config

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples/dqn_atari.py"
SHORT_TRAINING = "--preset smoke --steps 300 --num-environments 2 --evaluation-games 1"


def run(folder, *words):
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
def test_keras_rls_example_trains_saves_and_plays_on(tmp_path):
    process = run(tmp_path, "--steps", 400, "--episodes", 1)
    assert process.returncode == 0, process.stderr
    assert "Testing for 1 episodes" in process.stdout
    log = json.loads((tmp_path / "dqn_BreakoutDeterministic-v4_log.json").read_text())
    assert log["episode"] == sorted(log["episode"])
    assert np.isfinite(log["loss"]).any(), "it has learned"
    weights = tmp_path / "dqn_BreakoutDeterministic-v4_weights.h5f"
    assert weights.stat().st_size > 6_000_000
    played = run(tmp_path, "--mode", "test", "--episodes", 1, "--weights", weights)
    assert played.returncode == 0, played.stderr
    assert "Episode 1: reward:" in played.stdout


def test_keras_rls_example_has_the_numbers_of_the_preset_of_its_name():
    preset = Config(**PRESETS["keras-rl"][1])
    source = EXAMPLE.read_text()
    for number in (
        f"limit={preset.memory_size:_}",
        f"min({preset.warmup_steps:_}, args.steps // 5)",
        f"target_model_update={preset.target_update_steps:_}",
        f"train_interval={preset.train_interval}",
        f"learning_rate={preset.learning_rate}",
        f"value_min={preset.epsilon_end}",
        f"nb_steps={preset.exploration_steps:_}",
        f"default={preset.steps:_}",
    ):
        assert number in source, number


def test_keras_rls_example_builds_the_network_of_policy_h5():
    """Its layers, read from the file, have the weights that policy.h5 has."""
    calls = [node for node in ast.walk(ast.parse(EXAMPLE.read_text())) if isinstance(node, ast.Call)]
    added = [call.args[0] for call in calls if ast.unparse(call.func) == "model.add"]
    scope = {"WINDOW_LENGTH": 4, "INPUT_SHAPE": (84, 84), "nb_actions": 4, "keras": keras, **vars(keras.layers)}
    scope["Convolution2D"] = keras.layers.Conv2D
    model = keras.Sequential([eval(ast.unparse(layer), scope) for layer in added])
    shipped = keras.models.load_model(REPOSITORY / "policy.h5", compile=False)
    assert [w.shape for w in model.weights] == [w.shape for w in shipped.weights]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook's cells, run with a short training, and between them what listens to signals, and the folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(REPOSITORY / "examples/breakout.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "play.py --policy ../policy.h5" in cells[0].source
    for cell in cells:
        assert not cell.outputs, "it is stored without outputs"
        cell.source = cell.source.replace("../", f"{REPOSITORY.as_posix()}/").replace(
            "--max-steps 1000", "--max-steps 40"
        )
        cell.source = cell.source.replace("--minutes 10", SHORT_TRAINING)
    cells[2].source = cells[2].source.replace(" --record trained.gif", "")
    signals = "import signal; print([*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))])"
    before, after = (nbformat.v4.new_code_cell(signals) for _ in range(2))
    notebook.cells = [cells[0], before, cells[1], after, *cells[2:]]
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": folder}}).execute()
    return folder, [cell.outputs for cell in cells], [before.outputs[0].text, after.outputs[0].text]


def data_of(outputs):
    return [output.get("data", {}) for output in outputs]


@pytest.mark.slow
class TestTheNotebook:
    def test_it_plays_trains_and_plays_again(self, executed):
        folder, (played, _, played_again), _ = executed
        for outputs in (played, played_again):
            assert any("image/gif" in data or "<img" in data.get("text/html", "") for data in data_of(outputs))
        assert (folder / "trained.h5").exists()

    def test_the_best_game_is_shown_below_the_cell_that_plays(self, executed):
        folder, (*_, played), _ = executed
        said = "".join(output.text for output in played if output.output_type == "stream")
        assert "No window, as this is a notebook: the best game will be in breakout.webp (and below)." in said
        film = base64.b64encode((folder / "breakout.webp").read_bytes()).decode()
        assert f'src="data:image/webp;base64,{film}"' in played[-1].data["text/html"]

    def test_a_training_keeps_one_line_up_to_date_and_ends_with_its_curve(self, executed):
        _, (_, trained, *_), _ = executed
        texts = [output.data["text/plain"] for output in trained if output.output_type == "display_data"]
        progress = [text for text in texts if re.match(r" *\d+/300 ", text)]
        assert len(progress) == 1, "a line that is kept up to date"
        assert re.fullmatch(r"(?s)300/300 100\.0%  score .*\sleft\s0\ss", progress[0])
        assert max(len(line) for text in texts for line in text.splitlines()) <= 100, "nothing is out of sight"
        assert any("data:image/png;base64," in data.get("text/html", "") for data in data_of(trained))
        assert "trained.h5 is the policy of step" in "".join(texts)

    def test_a_training_leaves_the_signals_to_the_notebook(self, executed):
        *_, (before, after) = executed
        assert after == before
