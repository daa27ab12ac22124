"""Prioritised replay: who is drawn how often, what that counts for, and where the priorities come from."""

import keras
import numpy as np
import pytest

from agents.dqn import DQNAgent
from memory.prioritized import SMALLEST_ERROR, PrioritizedMemory, SumTree


def memory_of(number, num_streams=1, limit=None, **arguments):
    memory = PrioritizedMemory(
        limit or number, window_length=1, num_streams=num_streams, rng=np.random.default_rng(0), **arguments
    )
    for n in range(number):
        memory.append(np.array([n], np.int32), 0, 0.0, False, stream=n % num_streams)
    return memory


def drawn(memory, batch_size):
    return np.asarray(memory.sample_batch(batch_size, gamma=1.0).state0)[:, 0, 0]


class TestSumTree:
    @pytest.mark.parametrize("size", [1, 2, 3, 64, 100])
    def test_draws_in_proportion(self, size):
        rng = np.random.default_rng(1)
        weights = rng.random(size) * (rng.random(size) < 0.7) + (np.arange(size) == 0)
        tree = SumTree(size)
        tree[np.arange(size)] = weights
        counts = np.bincount(tree.draw(100_000, rng), minlength=size)
        assert len(counts) == size
        np.testing.assert_allclose(counts / 100_000, weights / weights.sum(), atol=0.01)
        assert not counts[weights == 0].any()

    def test_does_not_depend_on_the_way_to_its_weights(self):
        rng = np.random.default_rng(2)
        tree, again = SumTree(1000), SumTree(1000)
        for _ in range(50):
            tree[rng.integers(1000, size=64)] = rng.random(64)
        again[np.arange(1000)] = tree[np.arange(1000)]
        assert tree.total == again.total
        np.testing.assert_array_equal(
            tree.draw(500, np.random.default_rng(3)), again.draw(500, np.random.default_rng(3))
        )

    def test_of_a_leaf_named_twice_the_last_weight_counts(self):
        tree = SumTree(4)
        tree[np.array([1, 2, 1])] = np.array([5.0, 1.0, 3.0])
        assert tree.total == 4.0


def test_without_errors_all_are_drawn_alike_whichever_stream_and_place_they_are_in():
    memory = memory_of(90, num_streams=3, limit=61)  # rings of 20 that are full and have wrapped
    counts = np.bincount(drawn(memory, 50_000), minlength=90)
    kept = np.flatnonzero(counts)
    # Of each stream's 20 the oldest is no state, and after the newest there is no next one.
    np.testing.assert_array_equal(kept, np.arange(33, 87))
    np.testing.assert_allclose(counts[kept] / 50_000, 1 / 54, atol=0.004)


def test_draws_by_the_size_of_the_td_error_and_weighs_against_it():
    memory = memory_of(12, alpha=0.5, beta=1.0)
    batch = memory.sample_batch(400, gamma=1.0)
    places = np.asarray(batch.state0)[:, 0, 0]
    np.testing.assert_array_equal(batch.weight, np.ones(400, np.float32))
    memory.set_errors(np.where(places == 5, -4.0, 1.0) * (1 - SMALLEST_ERROR / np.where(places == 5, 4.0, 1.0)))
    batch = memory.sample_batch(50_000, gamma=1.0)
    places = np.asarray(batch.state0)[:, 0, 0]
    share = np.bincount(places, minlength=12) / 50_000
    assert share[5] == pytest.approx(2 / 11, abs=0.01)  # 4^0.5 against nine others of 1
    assert share[4] == pytest.approx(1 / 11, abs=0.01)
    weight = {place: batch.weight[places == place][0] for place in (4, 5)}
    assert weight[4] == pytest.approx(2 * weight[5])
    assert batch.weight.mean() == pytest.approx(1.0)
    assert batch.weight.dtype == np.float32


def test_what_is_new_has_the_mean_of_all_priorities():
    memory = memory_of(9, limit=20, alpha=1.0)
    memory.set_errors(np.where(drawn(memory, 300) % 2, 1.0, 3.0))
    drawn(memory, 1)
    mean = memory._priorities[np.arange(9)].mean()
    memory.append(np.array([9], np.int32), 0, 0.0, False)
    drawn(memory, 1)
    assert memory._priorities[np.array([9])][0] == pytest.approx(mean, rel=1e-6)


def test_goes_on_where_it_was():
    memory = memory_of(50, num_streams=2, limit=40)
    drawn(memory, 64)
    memory.set_errors(np.linspace(0, 5, 64))
    for n in range(50, 57):  # not ranked yet
        memory.append(np.array([n], np.int32), 0, 0.0, False, stream=n % 2)
    again = memory_of(0, num_streams=2, limit=40)
    again.set_state(memory.get_state(), [memory.get_entries()])
    for _ in range(3):
        a, b = memory.sample_batch(32, gamma=1.0), again.sample_batch(32, gamma=1.0)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        memory.set_errors(a.weight), again.set_errors(b.weight)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priorities", np.ones(39, np.float32)),
        ("priorities", np.full(40, np.nan, np.float32)),
        ("priorities", np.full(40, -1, np.float32)),
        ("ranked", np.array([26, 25])),
        ("ranked", np.array([5])),
    ],
)
def test_damaged_priorities_are_refused(name, value):
    memory = memory_of(50, num_streams=2, limit=40)
    drawn(memory, 1)
    state, entries = {**memory.get_state(), name: value}, [memory.get_entries()]
    with pytest.raises(ValueError, match="priorities"):
        memory_of(0, num_streams=2, limit=40).set_state(state, entries)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_an_exponent_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 1.5, expected 0 to 1"):
        PrioritizedMemory(10, 1, **{name: 1.5})


@pytest.mark.parametrize("num_quantiles", [1, 8])
def test_an_agent_learns_by_weight_and_gives_the_td_errors_back(num_quantiles):
    """One gradient step on a weighted batch is the weighted mean of the steps on its transitions alone."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(4)
    model = keras.Sequential([keras.Input((1, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    agent = DQNAgent(model, nb_actions=2, memory=PrioritizedMemory(100, 1), delta_clip=1.0, num_quantiles=num_quantiles)
    agent.compile(keras.optimizers.SGD(0.1))
    state0, state1 = rng.normal(size=(2, 4, 1, 3)).astype(np.float32)
    action, reward = np.array([0, 1, 1, 0], np.int32), np.array([0, 1, 2, 3], np.float32)
    discount, weight = np.full(4, 0.9, np.float32), np.array([0.5, 1.5, 0, 2], np.float32)
    before = agent.model.get_weights()
    want_errors = (
        reward + 0.9 * agent.learner.q_values(state1).max(1) - agent.learner.q_values(state0)[np.arange(4), action]
    )

    def change(*batch):
        agent.model.set_weights(before)
        agent.update_target_model_hard()
        np.asarray(agent.learner.update(*batch))
        return [after - b for after, b in zip(agent.model.get_weights(), before, strict=True)]

    whole = change(state0, action, reward, state1, discount, weight)
    np.testing.assert_allclose(np.asarray(agent.learner.td_errors), want_errors, rtol=1e-5)
    alone = [change(*(x[i : i + 1] for x in (state0, action, reward, state1, discount))) for i in range(4)]
    for index, got in enumerate(whole):
        want = sum(w * each[index] for w, each in zip(weight, alone, strict=True)) / 4
        np.testing.assert_allclose(got, want, atol=1e-6)
