import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from environments.atari import AtariEnvironment
from keras_rl import rl
from processors.atari import AtariProcessor


def pattern(*shape):
    """A uint8 array without any symmetry: gradients with a fine texture."""
    y, x, c = np.indices((*shape, 1, 1)[:3])
    return ((3 * y + 7 * x + 29 * c + x * y // 5) % 256).astype(np.uint8).reshape(shape)


def sha256(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_it_is_keras_rls_processor():
    assert isinstance(AtariProcessor(), rl.core.Processor)


@pytest.mark.parametrize(
    ("frame", "goldens"),
    [
        (pattern(210, 160), ["42dcc6e1173a0ed38d96a5d203be6fee36041b38529cfdd79050c18283f8ecd3"]),
        (
            pattern(250, 160),
            [
                "3ffc5c2a560d30dcabf0ea767ccb6eabbda59411a5c374e59bbb479872d33d4e",
                # Pillow 12, the last for Python 3.10, rounds some of these pixels one grey level otherwise.
                "983c61ad95f72451d582b84188869695f5b81d1380457360bc1d5918bee4b4aa",
            ],
        ),
        (pattern(210, 160, 3), ["6e14dafac9af9963460c5ea32bb2b965103879f61f4a6b9844e1cd475a334b7b"]),
    ],
    ids=["grey", "tall", "rgb"],
)
def test_preprocessing_stays_what_every_policy_file_was_trained_with(frame, goldens):
    processed = AtariProcessor().process_observation(frame)
    assert (processed.shape, processed.dtype) == ((84, 84), np.uint8)
    assert sha256(processed) in goldens


def test_a_breakout_frame_stays_what_every_policy_file_was_trained_with():
    environment = AtariEnvironment(game="breakout", noop_max=0)
    environment.reset(seed=1)
    for step in range(60):
        observation = environment.step(step // 5 % 4)[0]
    processed = AtariProcessor().process_observation(observation)
    assert sha256(processed) == "61dc2eb28174e01b53a04ec087e0e8306954ee191a0bec54260c27fc7c2d5788"


@pytest.mark.parametrize("game", ["breakout", "seaquest", "ms_pacman"])
def test_a_frame_in_colour_gives_the_same_as_ales_own_grey(game):
    environment = AtariEnvironment(game=game, action_repeat=1, render_mode="rgb_array")
    environment.reset(seed=1)
    for step in range(20):
        observation = environment.step(step % environment.action_space.n)[0]
        processed = AtariProcessor().process_observation(observation)
        screen = environment.render()
        assert screen is not None
        assert np.array_equal(processed, AtariProcessor().process_observation(screen))
    assert len(np.unique(processed)) > 5


def test_a_grey_frame_may_have_a_channel_axis():
    frame = pattern(210, 160)
    processed = AtariProcessor().process_observation(frame)
    assert np.array_equal(processed, AtariProcessor().process_observation(frame[..., None]))


def test_a_grey_frame_in_rgb_is_that_frame():
    frame = pattern(210, 160)
    processed = AtariProcessor().process_observation(frame)
    assert np.array_equal(processed, AtariProcessor().process_observation(np.stack([frame] * 3, axis=-1)))


def test_nothing_is_flipped_or_transposed():
    frame = np.zeros((210, 160), np.uint8)
    frame[: 210 // 2, : 160 // 4] = 200
    processed = AtariProcessor().process_observation(frame)
    assert processed[:41, :20].min() == 200
    assert processed[43:].max() == processed[:, 22:].max() == 0


def test_a_frame_of_the_right_size_is_left_alone():
    frame = pattern(84, 84)
    assert np.array_equal(AtariProcessor().process_observation(frame), frame)


def test_a_frame_is_seen_as_by_keras_rls_example():
    environment = AtariEnvironment(game="breakout", max_of_two=False, render_mode="rgb_array")
    environment.reset(seed=1)
    for _ in range(30):
        observation = environment.step(0)[0]
    screen = environment.render()
    assert screen is not None
    example = Image.fromarray(screen).resize((84, 84)).convert("L")  # examples/dqn_atari.py
    difference = AtariProcessor().process_observation(observation).astype(int) - np.asarray(example)
    assert np.abs(difference).max() <= 2, "rounding"


@pytest.mark.parametrize(
    "frame",
    [
        pattern(210, 160).astype(np.float32),
        pattern(210, 160).astype(np.int64),
        pattern(210, 160, 4),
        pattern(210, 160, 2),
        pattern(210, 160)[0],
        np.zeros((0, 160), np.uint8),
        np.zeros((1, 210, 160, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.dtype}{frame.shape}",
)
def test_what_is_no_frame_is_refused_with_its_dtype_and_shape(frame):
    with pytest.raises(ValueError) as error:
        AtariProcessor().process_observation(frame)
    assert str(error.value).endswith(f"this one is {frame.dtype} of shape {frame.shape}.")


@pytest.mark.parametrize(("reward", "counted"), [(0, 0.0), (1, 1.0), (7.0, 3.0), (np.float64(-3), -2.0)])
def test_or_count_by_their_logarithm(reward, counted):
    processed = AtariProcessor(log_rewards=True).process_reward(reward)
    assert (processed, type(processed)) == (counted, float)


@pytest.mark.parametrize(("reward", "clipped"), [(7.0, 1.0), (0.5, 0.5), (0, 0.0), (np.float64(-200), -1.0)])
def test_rewards_are_clipped_to_one(reward, clipped):
    processed = AtariProcessor().process_reward(reward)
    assert (processed, type(processed)) == (clipped, float)


@pytest.mark.parametrize(
    ("info", "counted"),
    [({"life_lost": True}, -1.5), ({"life_lost": False}, 1.0), ({}, 1.0)],
    ids=["lost", "kept", "unknown"],
)
def test_a_lost_life_costs_the_penalty(info, counted):
    step = (pattern(84, 84), 4.0, False, info)
    observation, reward, done, same_info = AtariProcessor(life_loss_penalty=2.5).process_step(*step)
    assert (observation.shape, reward, done, same_info) == ((84, 84), counted, False, info)
    assert AtariProcessor().process_step(*step)[1] == 1.0, "by default there is none"


def test_states_are_scaled_to_one_exactly_once():
    states = np.arange(256, dtype=np.uint8).reshape(2, 2, 8, 8)
    scaled = AtariProcessor().process_state_batch(states)
    assert (scaled.dtype, scaled.shape) == (np.float32, states.shape)
    np.testing.assert_allclose(scaled, states / 255, rtol=1e-6)
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_keras_rls_batches_of_lists_are_states_too():
    frames = pattern(8, 84, 84)
    states = [[frames[0], frames[1], frames[2], frames[3]], [frames[4], frames[5], frames[6], frames[7]]]
    expected = AtariProcessor().process_state_batch(frames.reshape(2, 4, 84, 84))
    for batch in (states, np.array(states, dtype=object)):
        scaled = AtariProcessor().process_state_batch(batch)
        assert (type(scaled), scaled.dtype) == (np.ndarray, np.float32)
        assert np.array_equal(scaled, expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_states_scaled_in_the_learner_are_those_scaled_in_numpy_bit_for_bit(compiled):
    states = np.arange(256, dtype=np.uint8).reshape(2, 2, 8, 8)
    scale = AtariProcessor().process_state_batch
    scaled = (tf.function(scale) if compiled else scale)(tf.constant(states))
    assert keras.ops.is_tensor(scaled)
    assert scaled.dtype == tf.float32
    assert scaled.numpy().tobytes() == scale(states).tobytes()


def test_scaling_says_that_it_can_be_compiled_and_an_override_does_not():
    class Override(AtariProcessor):
        def process_state_batch(self, batch):
            return np.asarray(batch) / 2

    class Heir(AtariProcessor):
        pass

    processors = AtariProcessor(), Heir(), Override()
    marks = [getattr(processor.process_state_batch, "traceable", False) for processor in processors]
    assert marks == [True, True, False]
