"""Any game, all the way: training, policy file, evaluation, and a look at what was played.

A dozen that differ are tried; EVERY_GAME=1 tries all 104 that ale-py ships, some five minutes.
"""

import io
import os
from typing import Any

import numpy as np
import pytest
from PIL import Image

import train
from config import Config
from environments.atari import games as every_game
from evaluation.protocol import Protocol, load_policy_and_game, score_games
from models.policy_file import save_policy
from reports.film import GameFilm
from screens.panel import Scene

# Without lives or FIRE, with 3 to 18 actions, screens of other heights, negative scores, and long animations.
DOZEN = ["amidar", "boxing", "breakout", "elevator_action", "freeway", "gopher", "krull", "montezuma_revenge"]
DOZEN += ["pitfall2", "pong", "skiing", "tetris"]


@pytest.mark.slow
@pytest.mark.parametrize("game", every_game() if os.environ.get("EVERY_GAME") else DOZEN)
def test_it_is_trained_saved_evaluated_and_seen(game, tmp_path):
    config = Config(
        game=game, steps=100, num_environments=4, warmup_steps=200, memory_size=1_000, batch_size=8, precision="float32"
    )
    environments = train.build_environments(config)
    agent = train.build_agent(config, environments)
    before = agent.plain_weights()
    history = agent.fit(environments, nb_steps=config.steps, verbose=0)
    assert agent.step == config.steps
    assert np.isfinite(history.history["episode_score"] if history.history else []).all()
    assert all(np.isfinite(weights).all() for weights in agent.plain_weights())
    assert any((now != then).any() for now, then in zip(agent.plain_weights(), before, strict=True))

    save_policy(tmp_path / "policy.h5", agent.plain_weights(), {"game": game})
    policy, its_game = load_policy_and_game(tmp_path / "policy.h5", None)
    assert its_game == game
    protocol = Protocol(game, 2, epsilon=0.5, max_steps=25)
    games: list[dict[str, Any]] = []
    scores = score_games(policy, protocol, games=games)
    assert scores == [ended["score"] for ended in games]

    film = GameFilm(".gif", 60)
    environment = protocol.build_environment(on_frame=film.on_frame)
    environment.set_state(games[0])
    with Image.open(io.BytesIO(film.to_bytes())) as picture:
        height, width = environment.observation_space.shape
        assert picture.size == (width, height)
    names = environment.get_action_meanings()
    panel = Scene(names, q_values=np.linspace(-1, 1, len(names)), action=len(names) - 1).panel()
    assert len(np.unique(np.asarray(panel))) > 3
