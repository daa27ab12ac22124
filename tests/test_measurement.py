"""What is decided before a training of --minutes."""

import pytest

from config import Config
from training.measurement import fit_into, steps_per_game

BREAKOUT, NAME_THIS_GAME = 160, 2_300  # agent steps of a random player's game


@pytest.mark.parametrize("steps", [300_000, 1_000_000, 2_500_000])
def test_short_games_leave_all_evaluations(steps):
    config = fit_into(Config(), steps, BREAKOUT)
    assert config.evaluations == Config().evaluations
    assert 0.7 * steps < config.steps < 0.96 * steps


@pytest.mark.parametrize("steps", [400_000, 1_000_000, 2_500_000])
def test_long_games_are_played_less_often_so_that_the_time_is_kept(steps):
    config = fit_into(Config(), steps, NAME_THIS_GAME)
    played = config.evaluations * config.evaluation_games * 1.5 * NAME_THIS_GAME
    assert 1 <= config.evaluations < Config().evaluations
    assert config.steps + played <= steps and config.steps >= 0.75 * steps


def test_the_evaluation_at_the_end_stays_in_the_shortest_training():
    config = fit_into(Config(), 20_000, NAME_THIS_GAME)
    assert (config.steps, config.evaluations) == (10_000, 1)
    assert fit_into(Config(), 0, NAME_THIS_GAME).steps == 1_000


def test_a_training_without_evaluations_gets_all_of_the_time():
    config = fit_into(Config(evaluations=0), 20_000, NAME_THIS_GAME)
    assert (config.steps, config.evaluations) == (20_000, 0)


def test_how_long_a_random_player_lasts():
    assert 100 < steps_per_game("breakout") < 250
    assert steps_per_game("name_this_game", 300) == 300, "no game ends so soon"
