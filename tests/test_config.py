"""Options, presets and their limits."""

import dataclasses

import numpy as np
import pytest

from config import PRESETS, Config, add_options, config_from, options_of
from console import ArgumentParser, UsageError
from environments.atari import AtariEnvironment
from train import build_environments


def parse(*words):
    parser = ArgumentParser("")
    add_options(parser)
    return config_from(parser.parse_args(words))


def test_without_options_the_defaults_hold():
    assert parse() == Config()


def test_an_option_overrides_the_preset_and_the_preset_the_default():
    config = parse("--preset", "keras-rl", "--batch-size", "16")
    assert (config.batch_size, config.train_interval, config.gamma) == (16, 4, 0.99)


@pytest.mark.parametrize("words", [["--double"], ["--no-terminal-on-life-loss"]])
def test_switches_go_both_ways(words):
    config = parse(*words)
    assert (config.double, config.terminal_on_life_loss) == (words == ["--double"], words == ["--double"])


@pytest.mark.parametrize("text", ["200000", "200_000", "200,000", "2e5"])
def test_whole_numbers_may_be_written_in_many_ways(text):
    assert parse("--steps", text).steps == 200_000


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset):
    assert isinstance(parse("--preset", preset), Config)


def test_the_keras_rl_preset_has_the_numbers_of_keras_rls_example():
    """examples/dqn_atari.py of keras-rl2 1.0.5, read off by hand."""
    config = parse("--preset", "keras-rl")
    example = {
        "steps": 1_750_000,
        "memory_size": 1_000_000,
        "warmup_steps": 50_000,
        "gamma": 0.99,
        "target_update_steps": 10_000,
        "train_interval": 4,
        "delta_clip": 1.0,
        "learning_rate": 0.00025,
        "epsilon_start": 1.0,
        "epsilon_end": 0.1,
        "batch_size": 32,
        "num_environments": 1,
        "n_step": 1,
        "double": False,
        "dueling": False,
        "terminal_on_life_loss": False,
        "log_rewards": False,
        "life_loss_penalty": 0.0,
        "keras_rl_views": 1.0,
        "background": 0,
    }
    assert {name: getattr(config, name) for name in example} == example
    assert round(config.exploration_fraction * config.steps) == 1_000_000


@pytest.mark.parametrize(
    ("preset", "as_seen_by_keras_rl"),
    [("keras-rl", [True]), ("nature", [False]), ("default", [False, False, False, True])],
)
def test_the_games_of_a_preset_look_as_its_source_sees_them(preset, as_seen_by_keras_rl):
    """keras-rl's example: the last frame as it is, FIRE left to the agent. Else: the maximum of two, FIRE pressed."""
    number = str(len(as_seen_by_keras_rl))
    games = build_environments(parse("--preset", preset, "--seed", "1", "--num-environments", number))
    for index, (game, is_raw) in enumerate(zip(games, as_seen_by_keras_rl, strict=True)):
        twin = AtariEnvironment(game="breakout", max_of_two=not is_raw, press_fire=not is_raw)
        other = AtariEnvironment(game="breakout", max_of_two=is_raw, press_fire=not is_raw)
        for environment in (twin, other):
            environment.reset(seed=1_000 + index)
        assert game.get_state()["frames"] == twin.get_state()["frames"], "FIRE, or nobody's"
        screens = [[e.step(action)[0] for action in [1, *[2, 3] * 10]] for e in (game, twin, other)]
        np.testing.assert_array_equal(screens[0], screens[1])
        assert not np.array_equal(screens[0], screens[2]), "what it is to tell apart differs"


def test_a_short_training_shortens_its_warm_up():
    assert parse("--steps", "1_000_000").first_update_step == 10_000
    assert parse("--steps", "20_000").first_update_step == 2_000
    assert parse("--steps", "1").first_update_step == 256  # a state and a return for each of 32 games


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "keras_rl"], "did you mean keras-rl?"),
        (["--preset", "zzz"], "There is no preset 'zzz'"),
        (["--steps", "0"], "--steps is 0; it has to be at least 1."),
        (["--gamma", "1.5"], "--gamma is 1.5; it has to be between 0 and 1."),
        (["--sticky", "-0.1"], "--sticky is -0.1"),
        (["--learning-rate", "0"], "--learning-rate is 0"),
        (["--precision", "float8"], "it is one of auto, float32, bfloat16"),
        (["--memory-size", "1000", "--batch-size", "2000"], "need at least 2,000"),
        (["--warmup-steps", "100", "--num-environments", "20"], "need at least 160"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(words, message):
    with pytest.raises(UsageError) as error:
        parse(*words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words", [["--steps", "many"], ["--steps", "1.5"], ["--steps", "1e400"], ["--gamma", "x"], ["--gamma", "nan"]]
)
def test_what_is_no_number_is_refused_by_the_parser(words):
    with pytest.raises(UsageError, match="number"):
        parse(*words)


def test_every_option_has_a_help_text_and_no_percent_sign_breaks_it():
    parser = ArgumentParser("")
    add_options(parser)
    text = parser.format_help()
    for field in dataclasses.fields(Config):
        assert field.metadata["help"]
        assert "--" + field.name.replace("_", "-") in text


@pytest.mark.parametrize("preset", PRESETS)
def test_the_words_that_make_a_training_again_do(preset):
    config = Config(**{**PRESETS[preset][1], "seed": 3, "log_rewards": False, "keras_rl_views": 0.5})
    words = options_of(dataclasses.asdict(config))
    assert words is not None
    assert parse(*words) == config


def test_settings_from_before_the_share_of_views_and_the_penalty_are_understood():
    settings = dataclasses.asdict(Config())
    del settings["keras_rl_views"], settings["life_loss_penalty"]
    no_penalty = ["--life-loss-penalty", "0.0"]
    assert options_of({**settings, "mixed_views": True}) == no_penalty
    assert options_of({**settings, "mixed_views": False}) == ["--keras-rl-views", "0.0", *no_penalty]


def test_there_are_none_for_the_settings_of_another_version():
    assert options_of({"game": "breakout", "steps": 5}) is None
