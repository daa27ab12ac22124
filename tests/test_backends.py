"""What must be the same on every backend of Keras. These tests run on the one that Keras is on: see check.py --jax."""

import itertools
import json
import os
import platform

import keras
import numpy as np
import pytest
from commands import run

import console
from evaluation.protocol import build_test_agent
from keras_rl import rl
from keras_rl.bridge import clone_model
from keras_rl.learner import Learner, set_compute_dtype
from models.policy_file import TrainedPolicy, save_policy

SHAPES = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
BACKEND = keras.backend.backend()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the policy.h5 of a network that always chooses RIGHT."""
    folder = tmp_path_factory.mktemp("backends")
    weights = [part for shape in SHAPES for part in (np.zeros(shape), np.zeros(shape[-1]))]
    weights[-1] = np.array([0.0, 0, 1, 0])
    save_policy(folder / "policy.h5", weights, {"game": "breakout"})
    return folder


def nature_cnn_in_numpy(weights, states):
    """Q-values, float64, of states in [0, 1], oldest frame first (Mnih et al. 2015, Methods)."""
    x = states.transpose(0, 2, 3, 1).astype(np.float64)
    for kernel, bias, stride in zip(weights[:6:2], weights[1:6:2], (4, 2, 1), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
        x = np.maximum(np.einsum("byxchw,hwco->byxo", windows, kernel, optimize=True) + bias, 0)
    hidden = np.maximum(x.reshape(len(x), -1) @ weights[6] + weights[7], 0)
    return hidden @ weights[8] + weights[9]


def test_q_values_are_those_of_numpy_whatever_the_number_of_states():
    rng = np.random.default_rng(5)
    weights = [
        part.astype("f4")
        for shape in SHAPES
        for part in (rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), rng.normal(0, 0.1, shape[-1]))
    ]
    agent = build_test_agent(TrainedPolicy(tuple(weights), {}), rl.policy.GreedyQPolicy())
    states = rng.integers(256, size=(8, 4, 84, 84), dtype=np.uint8)
    expected = nature_cnn_in_numpy(weights, states / 255)
    assert np.ptp(expected, axis=0).min() > 0.1, "states that are told apart"
    for size in (8, 3, 1, 5):
        q_values = agent.compute_batch_q_values(list(states[:size]))
        assert q_values.dtype == np.float32
        np.testing.assert_allclose(q_values, expected[:size], atol=1e-5)


def test_a_backend_on_which_nothing_learns_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(console.UsageError, match='KERAS_BACKEND is "openvino", expected tensorflow, jax or torch'):
        console.start_keras()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="a PC's")
def test_tensorflow_computes_with_onednn_unless_a_person_says_otherwise(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    console.start_keras()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    console.start_keras()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="a PC's")
def test_the_commands_of_these_tests_compute_as_a_persons_do(tmp_path):
    """They are forked from a process that imported TensorFlow, which chose for them on a CPU with AVX2 alone."""
    chosen = run(tmp_path, "train", "--help", patch="import os; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))")
    assert chosen.stdout.splitlines()[0] == os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")


def batch_of(size, seed=0):
    rng = np.random.default_rng(seed)
    state0, state1 = rng.normal(3, 2, (2, size, 6)).astype("f4")
    action, reward = rng.integers(3, size=size).astype("i4"), rng.normal(size=size).astype("f4")
    return state0, action, reward, state1, np.full(size, 0.9, "f4")


def learner_on(*layers, optimizer=None, **kwargs):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3)])
    return Learner(model, clone_model(model), optimizer or keras.optimizers.Adam(1e-3), **kwargs)


def test_a_layer_learns_its_statistics_from_the_updates_and_nothing_else():
    learner = learner_on(keras.layers.BatchNormalization(momentum=0.5))
    batch = batch_of(50)
    for expected in (batch[0].mean(axis=0) * share for share in (0.5, 0.75)):
        learner.q_values(batch[0])
        learner.update(*batch)
        np.testing.assert_allclose(learner.model.layers[0].moving_mean.numpy(), expected, rtol=1e-4)
    assert (learner.target_model.layers[0].moving_mean.numpy() == 0).all()


def test_dropout_drops_other_units_in_each_update():
    learner = learner_on(keras.layers.Dropout(0.5), optimizer=keras.optimizers.SGD(0.0))
    losses = {float(keras.ops.convert_to_numpy(learner.update(*batch_of(20)))[0]) for _ in range(4)}
    assert len(losses) == 4


def test_an_activity_regularizer_is_part_of_the_loss():
    losses = []
    for regularizer in (None, keras.regularizers.L2(0.1)):
        hidden = keras.layers.Dense(4, activity_regularizer=regularizer)
        learner, batch = learner_on(hidden, optimizer=keras.optimizers.SGD(0.0)), batch_of(20)
        activity = batch[0] @ hidden.kernel.numpy()
        losses.append(keras.ops.convert_to_numpy(learner.update(*batch))[0])
    assert losses[1] - losses[0] == pytest.approx(0.1 * np.square(activity).sum() / 20, rel=1e-3)


def test_metrics_are_of_the_last_batch_alone():
    metrics = [keras.metrics.mean_absolute_error, keras.metrics.MeanAbsoluteError(), "mae"]
    learner = learner_on(optimizer=keras.optimizers.SGD(0.0), metrics=metrics)
    for seed in (0, 1):
        values = keras.ops.convert_to_numpy(learner.update(*batch_of(20, seed)))
        assert len(values) == 5
        np.testing.assert_allclose(values[2:4], values[1], rtol=1e-5)


def test_weights_that_were_read_stay_as_they_were_and_rates_follow_the_schedule():
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, 4, end_learning_rate=0.0)
    learner = learner_on(keras.layers.Dense(8), optimizer=keras.optimizers.Adam(rate))
    kept = [learner.model.get_weights()]
    copies = [[w.copy() for w in kept[0]]]
    for seed in range(6):
        learner.update(*batch_of(20, seed))
        kept.append(learner.model.get_weights())
        copies.append([w.copy() for w in kept[-1]])
    for weights, copy in zip(kept, copies, strict=True):
        for a, b in zip(weights, copy, strict=True):
            np.testing.assert_array_equal(a, b)
    moved = [np.abs(after[0] - before[0]).max() for before, after in itertools.pairwise(kept)]
    assert moved[0] > moved[3] > 0 and moved[4:] == [0, 0]
    assert int(learner.optimizer.iterations.numpy()) == 6


def test_bfloat16_is_for_the_arithmetic_and_the_weights_stay_float32():
    learners = [learner_on(keras.layers.Dense(64, activation="relu")) for _ in range(2)]
    set_compute_dtype(learners[1].model, "bfloat16")
    losses = [keras.ops.convert_to_numpy(learner.update(*batch_of(50)))[0] for learner in learners]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)
    assert {str(v.dtype) for v in learners[1].model.variables} == {"float32"}
    assert learners[1].q_values(batch_of(5)[0]).dtype == np.float32


@pytest.mark.slow
def test_evaluating_gives_the_same_scores_on_every_backend(folder):
    path = folder / "scores.json"
    process = run(folder, "evaluate", "--episodes", 6, "--epsilon", 0.3, "--json", path)
    assert (process.returncode, process.stderr) == (0, "")
    facts = json.loads(path.read_text())
    assert next(iter(facts["versions"])) == BACKEND
    assert facts["scores"] == [0, 0, 0, 2, 9, 9]


@pytest.mark.slow
def test_playing_works_and_is_recorded_with_what_the_network_looks_at(folder):
    words = ["--no-window", "--saliency", "--record", "game.webp", "--episodes", "1", "--max-steps", "30"]
    process = run(folder, "play", *words)
    assert (process.returncode, process.stderr) == (0, "")
    assert "Game 1 is in game.webp" in process.stdout
