"""A bright background must not kill the network, and policy.h5 must not know of the mend."""

import json

import keras
import numpy as np
import pytest

import train
from config import PRESETS, Config
from console import UsageError
from keras_rl.heads import fold_input_offset
from models.nature_cnn import nature_cnn
from models.policy_file import TrainedPolicy
from processors.atari import AtariProcessor
from training.background import background
from training.run import new_run, resumed_run

SMALL = {"precision": "float32", "memory_size": 5_000, "num_environments": 2, "warmup_steps": 100, "seed": 1}


def build(game, **settings):
    config = Config(game=game, **{**SMALL, **settings})
    environments = train.build_environments(config)
    return train.build_agent(config, environments), environments


def random_states(number=8):
    return np.random.default_rng(0).integers(0, 256, (number, 4, 84, 84), dtype=np.uint8)


@pytest.mark.parametrize(
    ("game", "grey"), [("pong", 87), ("Breakout", 0), ("name_this_game", 41), ("qbert", 0), ("battle_zone", 97)]
)
def test_the_background_is_the_median_grey_and_finding_it_draws_no_random_number(game, grey):
    np.random.seed(5)
    before = str(np.random.get_state())
    assert background(Config(game=game)) == background(Config(game=game, seed=7)) == grey
    assert str(np.random.get_state()) == before


@pytest.mark.parametrize("preset", ["keras-rl", "nature"])
def test_what_was_published_has_none(preset):
    assert background(Config(game="pong", **PRESETS[preset][1])) == 0


def test_a_network_sees_pongs_field_as_zero():
    agent, environments = build("pong")
    frame = agent.processor.process_observation(environments[0].reset(seed=1)[0])
    assert np.mean(agent.processor.process_state_batch(frame) == 0) > 0.7


@pytest.mark.parametrize("head", [{}, {"dueling": True, "num_quantiles": 1}], ids=["quantiles", "dueling"])
def test_the_policy_has_the_q_values_of_the_network_that_learned(head):
    agent, _ = build("pong", **head)
    generator = np.random.default_rng(1)
    agent.model.set_weights([w + generator.normal(0, 0.01, w.shape) for w in agent.model.get_weights()])
    policy = TrainedPolicy(tuple(agent.plain_weights()), {}).build_model()
    states = random_states()
    q_values = agent.compute_batch_q_values(states)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(policy(states.astype(np.float32) / 255)), q_values, rtol=1e-4, atol=1e-5
    )
    unfolded = keras.ops.convert_to_numpy(policy(agent.processor.process_state_batch(states)))
    assert np.abs(unfolded - q_values).max() > 0.01, "the states tell the two apart"


def test_weights_that_are_taken_over_come_back():
    agent, other = build("pong")[0], build("pong", seed=2)[0]
    plain = agent.plain_weights()
    other.set_plain_weights(plain)
    for there, back in zip(plain, other.plain_weights(), strict=True):
        np.testing.assert_allclose(back, there, rtol=1e-5, atol=1e-6)
    states = random_states()
    q_values = agent.compute_batch_q_values(states)
    np.testing.assert_allclose(other.compute_batch_q_values(states), q_values, rtol=1e-4, atol=1e-5)


def test_a_convolution_with_padding_cannot_hide_it():
    agent, _ = build("pong")
    agent.model.get_layer("conv1").padding = "same"
    with pytest.raises(ValueError, match=r'input_offset, 0\.341176, cannot be folded .* padding "same"; give .* conv1'):
        agent.plain_weights()


def test_an_offset_folds_into_a_convolution_and_back():
    model = nature_cnn(2)
    generator = np.random.default_rng(2)
    kernel, bias = (generator.normal(size=np.shape(w)).astype(np.float32) for w in model.get_weights()[:2])
    states = generator.random((3, 4, 84, 84), np.float32)
    first = keras.Model(model.inputs[0], model.get_layer("conv1").output)
    first.set_weights([kernel, bias])
    expected = keras.ops.convert_to_numpy(first(states - np.float32(0.3)))
    folded = fold_input_offset(kernel, bias, 0.3)
    first.set_weights([kernel, folded])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(first(states)), expected, atol=1e-4)
    np.testing.assert_allclose(fold_input_offset(kernel, folded, -0.3), bias, atol=1e-5)


class AsBefore(AtariProcessor):
    """What scaled states when nothing was taken from them."""

    def process_state_batch(self, batch):
        return keras.ops.cast(batch, "float32") * np.float32(1 / 255)

    process_state_batch.traceable = True  # type: ignore[attr-defined]


def test_ten_updates_of_breakout_stay_the_same_bit_for_bit(monkeypatch):
    weights = []
    for processor in (AtariProcessor, AsBefore):
        monkeypatch.setattr("processors.atari.AtariProcessor", processor)
        agent, environments = build("breakout", train_interval=2, batch_size=8)
        assert type(agent.processor) is processor
        agent.fit(environments, nb_steps=122, verbose=0)
        assert int(keras.ops.convert_to_numpy(agent.optimizer.iterations)) >= 10
        weights.append(agent.model.get_weights())
        weights[-1] += agent.plain_weights()
    for now, before in zip(*weights, strict=True):
        assert now.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("game", "layer", "updates", "few", "many"),
    [("pong", "conv1", 30, 0.1, 0.3), ("battle_zone", "hidden", 100, 0.45, 0.5)],
)
def test_units_live_after_the_first_updates(game, layer, updates, few, many):
    dead = {}
    for grey in (0, -1):
        agent, environments = build(game, background=grey, steps=2_000_000, warmup_steps=1_000, batch_size=32)
        agent.fit(environments, nb_steps=1_200, verbose=0)
        for _ in range(updates):
            agent.learner.update(*agent._sample())
        looked_at = keras.Model(agent.model.inputs[0], agent.model.get_layer(layer).output)
        states = agent.memory.observations(agent.memory.sample_batch(32, 0.99)[0])
        outputs = keras.ops.convert_to_numpy(looked_at(agent.processor.process_state_batch(states)))
        dead[grey] = np.mean(outputs.reshape(-1, outputs.shape[-1]).max(axis=0) <= 0)
    assert dead[-1] <= few < many <= dead[0], dead


def arguments(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    return train._parse_arguments()


def test_a_run_keeps_the_background_that_it_began_with(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    begun = new_run(arguments(monkeypatch, "--game", "pong"))
    assert begun.config.background == 87
    begun.folder.mkdir(parents=True)
    begun.write()
    monkeypatch.setattr("training.run.background", None)  # the emulator might have changed since
    assert resumed_run(arguments(monkeypatch, "--resume")).config == begun.config
    with pytest.raises(UsageError, match=r"--background was 87 when .* began and cannot change"):
        resumed_run(arguments(monkeypatch, "--resume", "--background", "0"))
    settings = json.loads((begun.folder / "config.json").read_text())
    del settings["background"]  # as written before there was one
    (begun.folder / "config.json").write_text(json.dumps(settings))
    assert resumed_run(arguments(monkeypatch, "--resume")).config.background == 0
