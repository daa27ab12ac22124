"""Where the network looks: the gradient against differences, and what is tinted."""

import numpy as np
import pytest
from PIL import Image

from evaluation.protocol import build_test_agent
from keras_rl import rl
from models.policy_file import TrainedPolicy
from screens.picture import draw
from screens.saliency import COLOUR, overlay, saliency_map


@pytest.fixture(scope="module")
def policy():
    rng = np.random.default_rng(5)
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = []
    for shape in shapes:
        weights += [rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype("f4"), np.zeros(shape[-1], "f4")]
    return TrainedPolicy(tuple(weights), {})


def test_it_is_the_gradient_of_the_highest_q_value(policy):
    agent, model = build_test_agent(policy, rl.policy.GreedyQPolicy()), policy.build_model()
    states = np.random.default_rng(1).integers(0, 256, (2, 4, 84, 84), np.uint8)
    gradients = agent.saliency(states)
    assert gradients.shape == states.shape
    for state, gradient in zip(states / 255, gradients, strict=True):
        step = 1e-3 * gradient / np.linalg.norm(gradient)
        above, below = np.asarray(model(np.stack([state + step, state - step]).astype("f4"))).max(axis=1)
        assert (above - below) / 2e-3 == pytest.approx(np.linalg.norm(gradient), rel=0.02)


def test_the_map_is_1_where_the_gradient_is_largest_whatever_its_sign():
    gradient = np.full((4, 84, 84), 0.01, "f4")
    gradient[1, 30:33, 60:63] = -2
    saliency = saliency_map(gradient)
    assert saliency.shape == (28, 28)
    assert np.argwhere(saliency == 1).tolist() == [[10, 20]]
    assert saliency[saliency < 1].max() < 0.05


def test_a_network_that_looks_nowhere_gives_zeros():
    assert (saliency_map(np.zeros((4, 84, 84), "f4")) == 0).all()


def test_what_matters_is_outlined_and_tinted_and_nothing_else_in_few_colours():
    screen = np.full((210, 160, 3), 200, np.uint8)
    saliency = np.zeros((28, 28), "f4")
    saliency[10, 20] = 1
    tinted = np.asarray(overlay(Image.fromarray(screen), saliency))
    rows, columns = np.nonzero((tinted != screen).any(axis=-1))
    assert 10 / 28 * 210 - 8 < rows.min() < rows.max() < 11 / 28 * 210 + 8
    assert 20 / 28 * 160 - 6 < columns.min() < columns.max() < 21 / 28 * 160 + 6
    assert tinted[rows.min(), columns[rows.argmin()]].tolist() == list(COLOUR)
    middle = tinted[int(10.5 / 28 * 210), int(20.5 / 28 * 160)].astype(int)
    assert (np.abs(middle - COLOUR) < np.abs(200 - np.array(COLOUR)) / 2).all()
    assert len(np.unique(tinted.reshape(-1, 3), axis=0)) <= 4
    assert np.array_equal(np.asarray(overlay(Image.fromarray(screen), np.zeros((28, 28), "f4"))), screen)


def test_a_ball_in_the_midst_of_it_stays_as_it_is():
    screen = np.zeros((210, 160, 3), np.uint8)
    screen[100:104, 80:82] = ball = (200, 72, 72)
    shown = np.asarray(overlay(Image.fromarray(screen), np.ones((28, 28), "f4")))
    assert (shown[100:104, 80:82] == ball).all()
    assert (shown[99, 80] != 0).any()


def test_the_picture_shows_it():
    screen, saliency = np.zeros((210, 160, 3), np.uint8), np.ones((28, 28), "f4")
    picture = np.asarray(draw([screen], saliency=saliency))
    assert np.array_equal(picture[::3, ::5], np.asarray(overlay(Image.fromarray(screen), saliency)))
