"""The mean of a training's networks."""

import numpy as np
import pytest

from training.averaging import PolicyAverage


class Agent:
    """What a `PolicyAverage` knows of an agent: its step and its weights, which here are the step."""

    step = 0

    def plain_weights(self):
        return [np.full(2, self.step, np.float32), np.array([-self.step], np.float32)]


def run(average, num_steps, first=0):
    agent = Agent()
    average.set_model(agent)
    for agent.step in range(first, num_steps):
        average.on_step_end(agent.step)
    return [array.tolist() for array in average.weights()]


def test_before_there_is_a_mean_it_is_the_network_as_it_is():
    assert run(PolicyAverage(10, 3), 9) == [[8, 8], [-8]]


def test_the_first_networks_have_equal_shares():
    assert run(PolicyAverage(10, 3), 35) == [[19, 19], [-19]], "the mean of 9, 19 and 29"


def test_later_ones_fade():
    average = PolicyAverage(10, 2)
    mean = 9.0
    for step in range(19, 200, 10):
        mean += (step - mean) / 2
    assert np.concatenate(run(average, 200)) == pytest.approx([mean, mean, -mean])


def test_a_window_of_one_is_the_network_as_it_is():
    assert run(PolicyAverage(10, 1), 35) == [[34, 34], [-34]]


def test_what_was_handed_out_stays_as_it_was():
    average = PolicyAverage(10, 3)
    run(average, 20)
    kept = average.weights()
    before = [array.copy() for array in kept]
    run(average, 60, first=20)
    assert all((now == then).all() for now, then in zip(kept, before, strict=True))


def test_it_goes_on_where_it_was():
    whole, first, second = (PolicyAverage(10, 3) for _ in range(3))
    run(first, 25)
    second.set_state(first.get_state())
    assert run(second, 80, first=25) == run(whole, 80)
