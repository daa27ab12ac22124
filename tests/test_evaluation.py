"""Evaluations during a training: they keep the best policy, and the training does not notice them."""

import dataclasses

import numpy as np
import pytest

from config import Config
from evaluation.protocol import Protocol, score_games
from keras_rl import rl
from keras_rl.resume import get_random_state
from models.policy_file import TrainedPolicy
from train import build_agent, build_environments
from training.evaluator import Evaluation, Evaluator


class Agent:
    """What an `Evaluator` knows of an agent: its step and its weights, which here are the step."""

    def __init__(self):
        self.step, self.pending_steps, self.stop_training = 0, 0, False

    def plain_weights(self):
        return [np.array([self.step])]


def run(evaluator, num_steps, *, first=0, tick=1, stop=False, logs=None):
    agent = Agent()
    evaluator.set_model(agent)
    for agent.step in range(first, num_steps):
        agent.pending_steps = -agent.step % tick
        evaluator.on_step_begin(agent.step)
    agent.step, agent.pending_steps, agent.stop_training = num_steps, 0, stop
    evaluator.on_train_end(logs)


def test_the_policy_is_evaluated_at_intervals_and_at_the_end_and_the_best_is_kept():
    scores = {1: [1.0, 3.0], 2: [8.0, 6.0], 3: [4.0, 4.0]}
    heard: list[Evaluation] = []
    evaluator = Evaluator(lambda weights, number: scores[number], 10, [heard.append])
    run(evaluator, 25)
    assert heard == [Evaluation(10, scores[1]), Evaluation(20, scores[2]), Evaluation(25, scores[3])]
    assert (evaluator.number, evaluator.best, evaluator.last) == (3, heard[1], heard[2])
    assert heard[1].mean == 7
    assert evaluator.best_weights == [20], "of that step, not of the end"


def test_an_evaluation_that_is_due_in_the_middle_of_a_tick_waits_for_its_end():
    heard: list[Evaluation] = []
    run(Evaluator(lambda weights, number: [2.0], 10, [heard.append]), 45, tick=8)
    assert [evaluation.step for evaluation in heard] == [16, 24, 32, 40, 45]


def test_a_policy_with_one_lucky_game_is_not_the_highest():
    scores = {1: [20.0] * 15 + [237.0], 2: [26.0, 30.0] * 8}
    evaluator = Evaluator(lambda weights, number: scores[number], 10)
    run(evaluator, 20)
    first, second = (Evaluation(10 * number, scores[number]) for number in (1, 2))
    assert first.mean > second.mean
    assert first.standard_error == pytest.approx(217 / 16)  # 217 more in one game of 16
    assert evaluator.highest == evaluator.best == second


def test_the_newest_that_chance_may_have_put_below_the_highest_is_kept_and_a_slow_decline_is_not_followed():
    means = [100, 90, 81, 72]  # standard error of each 5: of a difference 7.07
    scores = {number: [mean - 5.0, mean + 5.0] for number, mean in enumerate(means, start=1)}
    evaluator = Evaluator(lambda weights, number: scores[number], 10)
    run(evaluator, 20)
    assert (evaluator.highest, evaluator.best) == (Evaluation(10, scores[1]), Evaluation(20, scores[2]))
    run(evaluator, 40, first=20)
    assert evaluator.best == Evaluation(20, scores[2]), "19 and 28 below the highest are too much, 9 below the last not"
    assert evaluator.best_weights == [20]


def test_a_checkpoint_from_when_the_highest_was_the_best_is_read():
    evaluator, other = (Evaluator(lambda weights, number: [2.0], 10) for _ in range(2))
    run(evaluator, 10)
    state = evaluator.get_state()
    del state["highest"]
    other.set_state(state)
    assert other.get_state() == evaluator.get_state()


def test_of_two_equally_good_policies_the_later_is_kept():
    evaluator = Evaluator(lambda weights, number: [2.0], 10)
    run(evaluator, 20)
    assert evaluator.number == 2, "the end is the second, and not evaluated twice"
    assert evaluator.best is evaluator.last


@pytest.mark.parametrize("end", [{"stop": True}, {"logs": {"did_abort": True}}])
def test_whoever_stops_a_training_need_not_wait_for_an_evaluation(end):
    heard: list[Evaluation] = []
    run(Evaluator(lambda weights, number: [2.0], 10, [heard.append]), 15, **end)
    assert heard == [Evaluation(10, [2.0])]


def test_it_goes_on_where_it_was():
    def scores(weights, number):
        return [float(number % 3)]

    whole, first, second = (Evaluator(scores, 10) for _ in range(3))
    run(whole, 60)
    run(first, 35, stop=True)
    second.set_state(first.get_state())
    run(second, 60, first=35)
    assert second.get_state() == whole.get_state()


def test_a_training_does_not_notice_that_it_is_evaluated():
    config = Config(
        steps=400,
        num_environments=2,
        warmup_steps=100,
        memory_size=1_000,
        batch_size=8,
        target_update_steps=100,
        precision="float32",
        num_quantiles=4,
    )
    ends = []
    for evaluated in (False, True):
        environments = build_environments(config)
        agent = build_agent(config, environments)
        protocol = Protocol("breakout", 2, epsilon=0.5, max_steps=30)
        evaluator = Evaluator(lambda weights, _: score_games(TrainedPolicy(tuple(weights), {}), protocol), 150)  # noqa: B023
        history = agent.fit(environments, config.steps, callbacks=[evaluator] * evaluated, verbose=0).history
        assert evaluator.number == (3 if evaluated else 0)
        ends.append((agent.get_state(), history))
    (state, history), (evaluated_state, evaluated_history) = ends
    assert str(state) == str(evaluated_state)  # counters, generators, games
    for name in ("model", "target_model", "optimizer"):
        for a, b in zip(state[name], evaluated_state[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert history == evaluated_history


def test_games_leave_the_random_generators_as_they_were():
    config = Config(num_environments=1, precision="float32")
    policy = TrainedPolicy(tuple(build_agent(config, build_environments(config)).plain_weights()), {})
    before = str(get_random_state())
    protocol = Protocol("breakout", 3, epsilon=0.9, max_steps=20, seed=5)
    scores = score_games(policy, protocol)
    assert str(get_random_state()) == before
    assert score_games(policy, protocol) == scores
    assert len(scores) == 3


def test_in_keras_rls_view_nobody_presses_fire():
    """Of Breakout a policy that never does sees no ball, and its games last until they are stopped."""
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = tuple(np.zeros(s, np.float32) for shape in shapes for s in (shape, shape[-1:]))  # NOOP for ever
    protocol = Protocol("breakout", 2, epsilon=0.0, max_steps=500)
    steps = []
    for view in (False, True):

        class Count(rl.callbacks.Callback):
            def on_train_end(self, logs=None):
                steps.append(self.model.step)

        score_games(TrainedPolicy(weights, {}), dataclasses.replace(protocol, keras_rl_view=view), [Count()])
    assert steps[0] < 800, "five balls each, missed at once"
    assert steps[1] == 1000


def test_games_that_are_stopped_before_one_has_ended_have_no_scores():
    class Stop(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            self.model.stop_training = True

    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = tuple(np.zeros(s, np.float32) for shape in shapes for s in (shape, shape[-1:]))
    assert score_games(TrainedPolicy(weights, {}), Protocol("breakout", 2), [Stop()]) == []


def test_games_are_played_by_the_protocol():
    """Of a hundred actions with epsilon 0.5, about half are the greedy one."""
    taken = []

    class Look(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            taken.append(logs["action"])

    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = [np.zeros(s, np.float32) for shape in shapes for s in (shape, shape[-1:])]
    weights[-1][2] = 1.0
    score_games(TrainedPolicy(tuple(weights), {}), Protocol("breakout", 4, epsilon=0.5, max_steps=50), [Look()])
    assert len(taken) == 200
    assert 0.5 < np.mean(np.array(taken) == 2) < 0.75, "half of the random actions in four are greedy too"


def test_a_game_that_stands_still_ends_and_the_protocol_says_so():
    """Of Breakout without FIRE nothing ever happens."""
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = tuple(np.zeros(s, np.float32) for shape in shapes for s in (shape, shape[-1:]))  # NOOP for ever
    protocol = Protocol("breakout", 2, epsilon=0.0, keras_rl_view=True, max_idle_steps=100)
    games: list[dict] = []
    assert score_games(TrainedPolicy(weights, {}), protocol, games=games) == [0.0, 0.0]
    assert [game["num_steps"] for game in games] == [100, 100]
    assert "at most 27,000 steps of 4 frames and 100 without a reward, seed 0" in str(protocol)
    assert "without a reward" not in str(Protocol("breakout", 2))
