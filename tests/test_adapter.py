"""The adapter: what an environment speaks is seen in what it returns."""

import copy
import warnings
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest

from keras_rl import rl
from keras_rl.adapter import KerasRLEnvironment, as_keras_rl_environment, is_number

TWO_ACTIONS = gymnasium.spaces.Discrete(2)


class Counter:
    """An environment of no library. Its observation is the number of steps, and 0; the third step is its last."""

    action_space = TWO_ACTIONS
    level = 1

    def __init__(self, five_values: bool, reset_info: bool) -> None:
        self.five_values, self.reset_info = five_values, reset_info

    def reset(self):
        self.steps = 0
        return (np.zeros(2), {"fresh": 1}) if self.reset_info else np.zeros(2)

    def step(self, action):
        self.steps += 1
        observation, over = np.array([self.steps, 0.0]), self.steps == 3
        return (observation, 1.0, False, over, {"n": 1}) if self.five_values else (observation, 1.0, over, {"n": 1})


class OldWrapper(gymnasium.Wrapper):
    """What most public scripts write around a Gymnasium environment."""

    def reset(self, **kwargs):
        observation, _ = self.env.reset(**kwargs)
        return observation

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, info


@pytest.mark.parametrize("five_values", [True, False])
@pytest.mark.parametrize("reset_info", [True, False])
def test_reset_and_step_are_looked_at_each_for_itself(five_values, reset_info):
    env = as_keras_rl_environment(Counter(five_values, reset_info))
    for _ in range(2):
        np.testing.assert_array_equal(env.reset(), np.zeros(2))
        steps = [env.step(0) for _ in range(3)]
        assert [done for *_, done, _ in steps] == [False, False, True]
        assert [observation[0] for observation, *_ in steps] == [1, 2, 3]
        truncated = [info.get("TimeLimit.truncated") for *_, info in steps]
        assert truncated == ([False, False, True] if five_values else [None] * 3)


def test_an_observation_of_two_numbers_is_one_observation():
    env = as_keras_rl_environment(OldWrapper(gymnasium.make("MountainCar-v0")))
    assert env.reset().shape == (2,)
    assert env.step(1)[0].shape == (2,)


def test_a_tuple_of_two_observations_is_one_observation():
    class Pair(Counter):
        def reset(self):
            return np.zeros(2), np.ones(2)

    assert len(as_keras_rl_environment(Pair(False, False)).reset()) == 2


def test_what_it_returned_first_it_has_to_return_ever_after():
    counter = Counter(five_values=False, reset_info=False)
    env = as_keras_rl_environment(counter)
    env.reset()
    env.step(0)
    counter.five_values = counter.reset_info = True
    with pytest.raises(ValueError, match=r"Counter.step\(\) returned 5 values, but 4 values before"):
        env.step(0)
    with pytest.raises(ValueError, match=r"Counter.reset\(\) returned an observation and a dict, but an"):
        env.reset()


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ((1, 2, 3), r"returned 3 value\(s\), expected Gymnasium's"),
        (None, r"returned 1 value\(s\)"),
        ((0, np.array([1.0]), False, {}), r"reward \[1\.\], of shape \(1,\); expected one number: return float"),
        ((0, np.ones(4), np.ones(4), np.ones(4), {}), r"of shape \(4,\)"),
        ((0, None, False, {}), "reward None"),
    ],
)
def test_what_is_no_step_is_refused_in_a_sentence(returned, sentence):
    class Odd(Counter):
        def step(self, action):
            return returned

    with pytest.raises(ValueError, match=sentence):
        as_keras_rl_environment(Odd(False, False)).step(0)


@pytest.mark.parametrize("info", [None, [], [{}], "text"])
def test_an_info_that_is_no_dict_becomes_an_empty_one(info):
    class Odd(Counter):
        def step(self, action):
            return 0, 1.0, False, info

    assert as_keras_rl_environment(Odd(False, False)).step(0)[-1] == {}


def test_what_is_no_single_environment_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"Got str 'CartPole-v1', expected an environment.*gymnasium\.make"):
        as_keras_rl_environment("CartPole-v1")
    vector = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(TypeError, match="VectorEnv is a vector environment; expected a single one"):
        as_keras_rl_environment(vector)
    vector.close()


def test_everything_else_is_read_from_the_environment_and_set_there():
    counter = Counter(False, False)
    env = as_keras_rl_environment(counter)
    assert (env.level, env.action_space) == (1, TWO_ACTIONS)
    env.level = 2
    assert counter.level == 2
    assert not hasattr(env, "nothing")
    assert copy.deepcopy(env).level == 2
    wrapped: Any = gymnasium.make("CartPole-v1")
    env = as_keras_rl_environment(wrapped)
    assert (env.env, env.unwrapped, env.spec) == (wrapped.env, wrapped.unwrapped, wrapped.spec)
    assert as_keras_rl_environment(env) is env


def test_render_gets_a_mode_only_if_it_takes_one():
    class Old(Counter):
        def render(self, mode="human", close=False):
            return mode

    class New(Counter):
        def render(self):
            return "frame"

    assert as_keras_rl_environment(Old(False, False)).render(mode="rgb_array") == "rgb_array"
    assert as_keras_rl_environment(New(False, False)).render(mode="rgb_array") == "frame"


def test_an_environment_stays_open_when_its_adapter_goes():
    closed = []

    class Closing(Counter):
        def close(self):
            closed.append(True)

    KerasRLEnvironment(Closing(False, False)).reset()
    assert not closed


def test_numbers_are_told_from_what_is_none():
    numbers = [True, 1, 1.5, np.float32(1), np.int8(1), np.bool_(True), np.array(2.0)]
    others: list = [None, "1", [1], {}, np.ones(1), np.ones((2, 2)), np.array("1"), np.array(None)]
    assert all(map(is_number, numbers))
    assert not any(map(is_number, others))


class TestWhatGymHad:
    def test_seed_makes_episodes_repeat(self):
        env: Any = gymnasium.make("CartPole-v1")
        first = [env.seed(7), env.reset()[0]]
        again = [env.seed(7), env.reset()[0]]
        assert first[0] == again[0] == [7]
        np.testing.assert_array_equal(first[1], again[1])
        assert (env.reset()[0] != again[1]).any()

    def test_the_number_of_actions_is_a_python_int(self):
        space: Any = gymnasium.make("CartPole-v1").action_space
        assert type(space.n) is int
        assert copy.deepcopy(space).n == space.n == 2
        assert space == gymnasium.spaces.Discrete(2)
        assert space.contains(space.sample())

    @pytest.mark.parametrize(
        ("name", "frameskip"), [("ALE/Breakout-v5", 4), ("BreakoutDeterministic-v4", 4), ("BreakoutNoFrameskip-v4", 1)]
    )
    def test_atari_games_have_their_names_of_then(self, name, frameskip):
        env: Any = gymnasium.make(name)
        env.reset()
        before = env.unwrapped.ale.getEpisodeFrameNumber()
        env.step(0)
        assert env.unwrapped.ale.getEpisodeFrameNumber() - before == frameskip

    def test_the_deterministic_games_repeat_no_action_by_chance(self):
        specs = [gymnasium.spec(f"PongDeterministic-{version}") for version in ("v0", "v4")]
        assert [spec.kwargs["repeat_action_probability"] for spec in specs] == [0.25, 0.0]


def test_an_environment_of_keras_rls_own_class_works_as_ever():
    class Old(rl.core.Env):
        def reset(self):
            return np.zeros(2)

        def step(self, action):
            return np.ones(2), 1.0, True, {}

        def close(self):
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = as_keras_rl_environment(Old())
        assert [env.reset().tolist(), env.step(0)[2]] == [[0, 0], True]


def test_frames_differ_from_step_to_step_where_the_game_moves():
    env = as_keras_rl_environment(gymnasium.make("BreakoutDeterministic-v4"))
    frames = [env.reset(), *(env.step(1)[0] for _ in range(3))]
    assert all((a != b).any() for a, b in pairwise(frames))
