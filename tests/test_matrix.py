"""Both agents, both memories, four games and three interfaces: each pair of them trains for some steps."""

import itertools

import gymnasium
import keras
import numpy as np
import pytest

from keras_rl import DQNAgent, SequentialMemory, rl

STEPS = 24


class OldWrapper(gymnasium.Wrapper):
    """Gymnasium with the interface of Gym, as public scripts have it."""

    def reset(self, **kwargs):
        return self.env.reset(**kwargs)[0]

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, info


class OwnClass:
    """No wrapper and no library's class, with the interface of Gym."""

    def __init__(self, env):
        self.inside = OldWrapper(env)
        self.action_space = env.action_space

    def reset(self):
        return self.inside.reset()

    def step(self, action):
        return self.inside.step(action)


class Coarse(rl.core.Processor):
    """Every tenth pixel of a screen."""

    def process_observation(self, observation):
        return observation[::10, ::10, 0]


GAMES = {"CartPole-v1": (4,), "Taxi": (), "MountainCar-v0": (2,), "BreakoutDeterministic-v4": (21, 16)}
INTERFACES = {"Gymnasium": lambda env: env, "old wrapper": OldWrapper, "own class": OwnClass}


AGENTS = {"our agent": DQNAgent, "stock agent": rl.agents.dqn.DQNAgent}
MEMORIES = {"our memory": SequentialMemory, "stock memory": rl.memory.SequentialMemory}
# Each two of agent with memory, game and interface meet in one of these.
COMBINATIONS = [
    (*pair, game, list(INTERFACES)[(row + column) % len(INTERFACES)])
    for row, pair in enumerate(itertools.product(AGENTS, MEMORIES))
    for column, game in enumerate(GAMES)
]


@pytest.mark.parametrize(("agent", "memory", "game", "interface"), COMBINATIONS)
@pytest.mark.filterwarnings("ignore:.*builds its batches", "ignore:.*process_state_batch runs")
def test_it_trains(agent, memory, game, interface):
    env = INTERFACES[interface](gymnasium.make(game, max_episode_steps=10))
    nb_actions = env.action_space.n
    layers = [keras.Input((2, *GAMES[game])), keras.layers.Flatten(), keras.layers.Dense(nb_actions)]
    dqn = AGENTS[agent](
        model=keras.Sequential(layers),
        nb_actions=nb_actions,
        memory=MEMORIES[memory](limit=100, window_length=2),
        processor=Coarse() if "Breakout" in game else None,
        nb_steps_warmup=20,
        batch_size=4,
    )
    dqn.compile("adam")
    before = dqn.model.get_weights()
    history = dqn.fit(env, nb_steps=STEPS, verbose=0)
    assert dqn.step == STEPS
    assert history.history["nb_episode_steps"][0] <= 10
    # An entry for each step, one for each episode's last observation, and one where fit has left a game.
    assert dqn.memory.nb_entries - STEPS - len(history.history["nb_steps"]) in (0, 1)
    assert any((a != b).any() for a, b in zip(before, dqn.get_weights(), strict=True))
    assert all(np.isfinite(weights).all() for weights in dqn.get_weights())
