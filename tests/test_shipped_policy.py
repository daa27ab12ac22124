"""The policy.h5 of this repository: what a person gets who clones it and types `python play.py`."""

from pathlib import Path

import keras
import numpy as np

from environments.atari import AtariEnvironment
from evaluation.protocol import build_test_agent
from keras_rl import rl
from models.policy_file import load_policy

PATH = Path(__file__).parents[1] / "policy.h5"


def test_keras_opens_it_without_being_told_anything_and_gives_the_same_q_values():
    states = np.random.default_rng(0).random((5, 4, 84, 84), np.float32)
    expected = load_policy(PATH, nb_actions=4).build_model()(states)
    np.testing.assert_allclose(keras.models.load_model(PATH)(states), expected, rtol=1e-6)


def test_it_plays_breakout_far_better_than_random_play():
    environment = AtariEnvironment(game="breakout")
    environment.reset(seed=1)
    dqn = build_test_agent(load_policy(PATH), rl.policy.GreedyQPolicy())
    history = dqn.test(environment, nb_episodes=2, nb_max_episode_steps=1_000, visualize=False, verbose=0).history
    assert min(history["episode_score"]) >= 20, "random play scores 1.7"
