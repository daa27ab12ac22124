import json
import subprocess
import sys
from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from environments import atari
from environments.atari import AtariEnvironment, UnknownGameError, canonical_game

NOOP, FIRE = ale_py.Action.NOOP, ale_py.Action.FIRE


def play(environment, num_steps, seed=0):
    """What happens on `num_steps` random steps, with a reset after every game."""
    actions = np.random.default_rng(seed).integers(environment.action_space.n, size=num_steps)
    events: list[tuple] = []
    for action in actions:
        observation, reward, terminated, truncated, info = environment.step(action)
        events.append((observation.tobytes(), reward, terminated, truncated, info))
        if terminated or truncated:
            observation, info = environment.reset()
            events.append((observation.tobytes(), info))
    return events


class FrameCounter:
    frames = 0

    def __call__(self, ale):
        self.frames += 1


class PayingALE:
    """ALE, but every frame brings a reward of 1."""

    def __init__(self, ale):
        self.ale = ale

    def act(self, action):
        self.ale.act(action)
        return 1

    def __getattr__(self, name):
        return getattr(self.ale, name)


class Oracle:
    """The class description of AtariEnvironment, naively: without no-ops, keeping every screen."""

    def __init__(self, environment, action_repeat, sticky):
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.loadROM(str(ale_py.roms.get_rom_path(environment.game)))
        console = environment.get_state()["console"]  # for the same random numbers
        self.ale.restoreState(ale_py.ALEState(console))
        self.ale.reset_game()
        self.action_repeat = action_repeat
        self.fire = FIRE in self.ale.getMinimalActionSet()
        if self.fire:
            self.hold(FIRE)

    def hold(self, action):
        reward, screens = 0, list[np.ndarray]()
        while len(screens) < self.action_repeat and not self.ale.game_over():
            reward += self.ale.act(action)
            screens.append(self.ale.getScreenGrayscale())
        whole = len(screens) == self.action_repeat
        return reward, np.max(screens[-2:] if whole and self.action_repeat > 1 else screens[-1:], axis=0)

    def step(self, action):
        lives = self.ale.lives()
        reward, observation = self.hold(self.ale.getMinimalActionSet()[action])
        life_lost = self.ale.lives() < lives
        if life_lost and self.fire and not self.ale.game_over():
            more, observation = self.hold(FIRE)
            reward += more
        return observation, reward, self.ale.game_over(), life_lost


@pytest.mark.parametrize("spelling", ["breakout", "Breakout", "BREAKOUT", "ALE/Breakout-v5", "Breakout-v5"])
def test_breakout_is_known_by_every_common_spelling(spelling):
    assert canonical_game(spelling) == "breakout"


@pytest.mark.parametrize(
    "spelling",
    ["space_invaders", "SpaceInvaders", "space invaders", "ALE/SpaceInvaders-v5"],
)
def test_words_of_a_name_may_be_joined_in_any_way(spelling):
    assert canonical_game(spelling) == "space_invaders"


def test_every_single_player_game_of_ale_is_known_by_its_rom_and_its_gymnasium_name():
    specs = gymnasium.registry.items()
    names = {name: spec.kwargs["game"] for name, spec in specs if name.startswith("ALE/")}
    assert len(names) > 100
    assert [canonical_game(name) for name in names] == [canonical_game(rom) for rom in names.values()]
    assert set(map(canonical_game, names)) == set(names.values())


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("brekout", "breakout"), ("ALE/Pongo-v5", "pong"), ("mspackman", "ms_pacman")]
)
def test_an_unknown_game_is_answered_with_the_nearest_names(wrong, nearest):
    with pytest.raises(UnknownGameError, match=rf"Unknown game '{wrong}': .* {nearest}\b") as error:
        AtariEnvironment(game=wrong)
    assert isinstance(error.value, ValueError)


def test_a_game_for_two_players_only_is_unknown():
    with pytest.raises(UnknownGameError):
        canonical_game("combat")


def test_the_module_needs_no_keras_and_ale_prints_no_banner():
    code = (
        "import sys; from environments.atari import AtariEnvironment; AtariEnvironment().reset(seed=1);"
        "assert not {'keras', 'tensorflow', 'PIL'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_console_is_switched_on_once_and_only_when_it_is_needed(monkeypatch):
    """It takes 0.1 to 0.2 s each time, and a training has 32."""
    AtariEnvironment(game="pong")  # what its cartridge has is known from now on
    switched_on, power_on = list[tuple](), atari._power_on

    def counted(*words):
        switched_on.append(words)
        return power_on(*words)

    monkeypatch.setattr(atari, "_power_on", counted)
    environment, other = (AtariEnvironment(game="pong") for _ in range(2))
    assert switched_on == []
    environment.reset(seed=3)
    environment.reset()
    assert switched_on == [("pong", 0.0, 3)]
    other.set_state(environment.get_state())
    assert len(switched_on) == 2
    assert play(other, 20) == play(environment, 20)


@pytest.mark.filterwarnings("ignore:.*the `seed` function")  # which keras_rl gives back to all environments
@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_nothing_to_object_to():
    check_env(AtariEnvironment(), skip_render_check=True)


@pytest.mark.parametrize(
    ("game", "num_actions", "shape"),
    [
        ("breakout", 4, (210, 160)),
        ("freeway", 3, (210, 160)),  # no FIRE, no lives
        ("ms_pacman", 9, (210, 160)),  # no FIRE
        ("pong", 6, (210, 160)),
        ("seaquest", 18, (210, 160)),
        ("tennis", 18, (210, 160)),
        ("journey_escape", 16, (230, 160)),
        ("air_raid", 6, (250, 160)),
        ("carnival", 6, (214, 160)),
    ],
)
def test_games_of_all_kinds_are_played(game, num_actions, shape):
    environment = AtariEnvironment(game=game)
    observation, info = environment.reset(seed=0)
    assert environment.action_space == gymnasium.spaces.Discrete(num_actions)
    assert environment.get_action_meanings()[0] == "NOOP"
    assert environment.observation_space.shape == shape
    assert observation in environment.observation_space
    observations = set()
    for action in range(num_actions):
        observation, reward, terminated, truncated, after = environment.step(action)
        assert observation in environment.observation_space
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        assert after.keys() == info.keys() == {"lives", "life_lost", "score"}
        observations.add(observation.tobytes())
    assert len(observations) > 1


def test_breakouts_actions_have_the_order_of_the_policy_file():
    assert AtariEnvironment().get_action_meanings() == ["NOOP", "FIRE", "RIGHT", "LEFT"]


@pytest.mark.parametrize(
    ("game", "action_repeat", "sticky"),
    [
        ("breakout", 1, 0.0),
        ("breakout", 2, 0.0),
        ("breakout", 4, 0.0),
        ("breakout", 4, 0.25),
        ("ms_pacman", 4, 0.25),
    ],
)
def test_a_whole_game_is_that_of_a_naive_oracle(game, action_repeat, sticky):
    environment = AtariEnvironment(game=game, action_repeat=action_repeat, sticky=sticky, noop_max=0)
    environment.reset(seed=1)
    oracle = Oracle(environment, action_repeat, sticky)
    random = np.random.default_rng(5)
    score, terminated, num_life_losses = 0, False, 0
    while not terminated:
        action = int(random.integers(environment.action_space.n))
        observation, reward, terminated, truncated, info = environment.step(action)
        expected, expected_reward, over, life_lost = oracle.step(action)
        assert np.array_equal(observation, expected)
        assert (reward, terminated, info["life_lost"]) == (expected_reward, over, life_lost)
        score += expected_reward
        num_life_losses += life_lost
        assert info["score"] == score
        assert not truncated
    assert score > 0
    assert num_life_losses >= 3


def test_sprites_drawn_on_every_other_frame_are_always_seen():
    """Space Invaders' shots flicker; the oracle above would agree with itself if they did not."""
    environment = AtariEnvironment(game="space_invaders", noop_max=0)
    environment.reset(seed=1)
    screen = environment._ale.getScreenGrayscale
    assert any((environment.step(1)[0] != screen()).any() for _ in range(50))


def test_the_last_frame_may_be_seen_as_it_is():
    """As in keras-rl's example; the maximum is that of the last frame and the one before."""
    frames = []
    environment = AtariEnvironment(max_of_two=False, on_frame=lambda ale: frames.append(ale.getScreenGrayscale()))
    both = AtariEnvironment()
    environment.reset(seed=1)
    both.reset(seed=1)
    for step in range(100):
        action = step // 3 % 4
        seen, maximum = environment.step(action)[0], both.step(action)[0]
        np.testing.assert_array_equal(seen, frames[-1])
        np.testing.assert_array_equal(maximum, np.maximum(frames[-2], frames[-1]))


@pytest.mark.parametrize("action_repeat", [1, 4])
def test_an_observation_is_not_overwritten_by_later_steps(action_repeat):
    environment = AtariEnvironment(action_repeat=action_repeat)
    first, _ = environment.reset(seed=1)
    second = environment.step(2)[0]
    kept = first.copy(), second.copy()
    play(environment, 20)
    np.testing.assert_array_equal((first, second), kept)


@pytest.mark.parametrize("game", ["breakout", "freeway"])
def test_the_first_observation_shows_nothing_of_the_game_before(game):
    environment = AtariEnvironment(game=game, noop_max=0, press_fire=False)
    first, _ = environment.reset(seed=1)
    play(environment, 20)
    np.testing.assert_array_equal(environment.reset(seed=1)[0], first)


def test_no_op_starts_are_frames_drawn_from_one_to_the_most():
    counter = FrameCounter()
    environment = AtariEnvironment(noop_max=3, press_fire=False, on_frame=counter)
    environment.reset(seed=0)
    counts = []
    for _ in range(45):
        counter.frames = 0
        environment.reset()
        counts.append(counter.frames)
    assert np.unique(counts).tolist() == [1, 2, 3]
    assert min(np.bincount(counts)[1:]) > 7  # of 15 expected


def test_no_op_starts_can_be_switched_off():
    counter = FrameCounter()
    AtariEnvironment(noop_max=0, press_fire=False, on_frame=counter).reset(seed=0)
    assert counter.frames == 0


def test_a_game_that_ends_among_the_no_ops_is_begun_again():
    counter = FrameCounter()
    environment = AtariEnvironment(game="assault", noop_max=1000, press_fire=False, on_frame=counter)
    environment.reset(seed=29)  # draws 935 no-ops, but left alone the game is over after 642; then draws 51
    assert (counter.frames, environment._ale.getEpisodeFrameNumber()) == (642 + 51, 51)
    assert not environment.step(0)[2]


def test_fire_is_pressed_at_the_start_and_after_every_life_so_that_the_game_goes_on():
    counter = FrameCounter()
    environment = AtariEnvironment(noop_max=0, on_frame=counter)
    environment.reset(seed=1)
    assert counter.frames == 4
    lives, frames, terminated, moved_after_loss = [], [], False, []
    while not terminated:
        counter.frames = 0
        _, _, terminated, _, info = environment.step(0)
        frames.append(counter.frames)
        if info["life_lost"] and not terminated:
            lives.append(info["lives"])
            following = {environment.step(0)[0].tobytes() for _ in range(12)}
            moved_after_loss.append(len(following) > 6)  # the ball falls, though nobody does anything
            assert frames[-1] == 8
            frames[-1] = 4
    assert lives == [4, 3, 2, 1]
    assert moved_after_loss == [True] * 4
    assert (info["lives"], info["life_lost"]) == (0, True)
    assert set(frames[:-1]) == {4}
    assert 1 <= frames[-1] <= 4


def test_every_frame_of_a_step_counts_those_of_fire_included():
    counter = FrameCounter()
    environment: Any = AtariEnvironment(noop_max=0, on_frame=counter)
    environment.reset(seed=1)
    environment._ale = PayingALE(environment._ale)
    rewards, terminated = [], False
    while not terminated:
        _, reward, terminated, _, info = environment.step(0)
        rewards.append(reward)
    assert rewards.count(8) == 4
    assert info["score"] == sum(rewards) == counter.frames - 4
    assert counter.frames == environment._ale.getEpisodeFrameNumber()


def test_without_fire_breakout_waits_for_ever():
    environment = AtariEnvironment(press_fire=False)
    environment.reset(seed=1)
    environment.step(0)
    assert len({environment.step(0)[0].tobytes() for _ in range(60)}) == 1
    assert environment.step(0)[4]["lives"] == 5


def test_a_truncated_game_is_neither_terminated_nor_a_lost_life():
    environment = AtariEnvironment(max_episode_steps=3)
    environment.reset(seed=1)
    ends = [environment.step(0)[2:] for _ in range(3)]
    assert [end[:2] for end in ends] == [(False, False), (False, False), (False, True)]
    assert not ends[-1][2]["life_lost"]


def test_a_game_in_which_nothing_happens_any_more_is_truncated_and_what_happens_starts_the_count_again():
    def ends(**limits):
        """Steps, points and lives of a game of Breakout in which nobody moves, until it ends."""
        environment = AtariEnvironment(noop_max=0, press_fire=False, **limits)
        environment.reset(seed=1)
        events = [environment.step(1 if step in (10, 30) else 0)[1:] for step in range(30)]  # two balls, one after
        while not (events[-1][1] or events[-1][2]):  # the other
            events.append(environment.step(0)[1:])
        return environment, [any((reward, info["life_lost"])) for reward, _, _, info in events], events[-1][1:3]

    environment, happened, end = ends(max_idle_steps=200)
    assert end == (False, True)
    assert any(happened) and not any(happened[-200:]) and len(happened) > 230
    assert happened[-201], "the count begins with the last thing that happened"
    assert environment.get_state()["num_idle_steps"] == 200
    assert len(ends(max_episode_steps=1_000)[1]) == 1_000, "by default it lasts"
    again = AtariEnvironment(noop_max=0, press_fire=False, max_idle_steps=200)
    older = {name: value for name, value in environment.get_state().items() if name != "num_idle_steps"}
    again.set_state(older)
    assert again.get_state() == {**older, "num_idle_steps": 0}


def test_a_lost_life_is_not_the_end_and_the_last_one_is_both():
    environment = AtariEnvironment(noop_max=0)
    environment.reset(seed=1)
    ends: list[tuple] = []
    while not ends or not ends[-1][1]:
        _, _, terminated, truncated, info = environment.step(0)
        ends.append((info["life_lost"], terminated, truncated))
    assert sorted(set(ends)) == [(False, False, False), (True, False, False), (True, True, False)]

    environment = AtariEnvironment(noop_max=0, max_episode_steps=len(ends))
    environment.reset(seed=1)
    for end in ends:  # the cap falls on the step that ends the game, which stays a termination
        _, _, terminated, truncated, info = environment.step(0)
        assert (info["life_lost"], terminated, truncated) == end


def test_a_game_without_lives_never_loses_one():
    environment = AtariEnvironment(game="pong")
    environment.reset(seed=1)
    events = play(environment, 100)
    assert {event[-1]["lives"] for event in events} == {0}
    assert not any(event[-1]["life_lost"] for event in events)
    assert any(event[1] for event in events)


def test_stepping_needs_a_game_that_has_begun_and_is_not_over():
    environment = AtariEnvironment(max_episode_steps=1)
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(0)
    environment.reset(seed=1)
    environment.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(0)


@pytest.mark.parametrize("action", [-1, 4])
def test_an_action_that_does_not_exist_is_refused(action):
    environment = AtariEnvironment()
    environment.reset(seed=1)
    with pytest.raises(ValueError, match=f"Action {action} is not one of breakout's 4 actions"):
        environment.step(action)


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_seed_repeats_the_game_and_the_games_after_it(sticky):
    one, other = AtariEnvironment(sticky=sticky), AtariEnvironment(sticky=sticky)
    assert one.reset(seed=7)[0].tobytes() == other.reset(seed=7)[0].tobytes()
    events = play(one, 300)
    assert sum(event[2] for event in events if len(event) == 5) >= 1
    assert events == play(other, 300)
    one.reset(seed=7)  # also in an environment that has been played in
    assert events == play(one, 300)


@pytest.mark.parametrize("game", ["berzerk", "space_war"])
def test_a_seed_repeats_the_game_even_where_a_reset_alone_does_not_clear_the_console(game):
    environment = AtariEnvironment(game=game, noop_max=0)
    environment.reset(seed=1)
    events = play(environment, 60)
    environment.reset()
    assert events != play(environment, 60)
    environment.reset(seed=1)
    assert events == play(environment, 60)


@pytest.mark.parametrize(("sticky", "num_games"), [(0.0, 3), (0.25, 4)])
def test_other_seeds_give_other_games(sticky, num_games):
    environment = AtariEnvironment(game="space_invaders", sticky=sticky)
    games = set()
    for seed in range(4):  # without sticky actions two of them draw the same number of no-ops
        environment.reset(seed=seed)
        games.add(tuple(event[0] for event in play(environment, 60)))
    assert len(games) == num_games


def test_without_a_seed_games_differ():
    counts = []
    for _ in range(4):
        counter = FrameCounter()
        AtariEnvironment(noop_max=1000, press_fire=False, on_frame=counter).reset()
        counts.append(counter.frames)
    assert len(set(counts)) > 1  # but for one time in 1000 ** 3


@pytest.mark.parametrize(
    ("game", "sticky", "action_repeat"),
    [
        ("breakout", 0.0, 4),
        ("breakout", 0.9, 1),
        ("berzerk", 0.25, 4),
        # ALE's own state of a game under way, restored, goes on otherwise here:
        ("qbert", 0.25, 4),
        ("tic_tac_toe_3d", 0.25, 4),
        ("yars_revenge", 0.25, 1),
    ],
)
def test_a_restored_environment_goes_on_bit_for_bit_through_the_ends_of_games(game, sticky, action_repeat):
    def new():
        return AtariEnvironment(game=game, sticky=sticky, action_repeat=action_repeat, max_episode_steps=100)

    environment = new()
    environment.reset(seed=3)
    play(environment, 101)
    state = environment.get_state()
    events = play(environment, 220, seed=5)
    assert sum(event[2] or event[3] for event in events if len(event) == 5) >= 2

    fresh = new()
    fresh.set_state(state)
    assert events == play(fresh, 220, seed=5)
    environment.set_state(state)
    assert events == play(environment, 220, seed=5)


def test_a_restored_environment_knows_how_many_lives_there_were():
    environment, fresh = AtariEnvironment(), AtariEnvironment()
    environment.reset(seed=1)
    info = {"life_lost": False}
    while not info["life_lost"]:
        state = environment.get_state()
        info = environment.step(0)[4]
    fresh.set_state(state)
    assert fresh.step(0)[4] == info


@pytest.mark.parametrize("num_games", [0, 2])
@pytest.mark.parametrize("game", ["breakout", "berzerk"])
def test_a_state_taken_before_the_first_frame_of_a_game_is_one_too(game, num_games):
    def new():
        return AtariEnvironment(game=game, sticky=0.25, noop_max=0, press_fire=False)

    environment, fresh = new(), new()
    for _ in range(num_games):
        environment.reset()
    fresh.set_state(environment.get_state())
    if not num_games:
        environment.reset(), fresh.reset()
    assert play(environment, 30) == play(fresh, 30)


def test_a_state_taken_between_games_is_one_too():
    environment = AtariEnvironment(max_episode_steps=5)
    environment.reset(seed=3)
    play(environment, 4)
    environment.step(0)
    fresh = AtariEnvironment(max_episode_steps=5)
    fresh.set_state(environment.get_state())
    with pytest.raises(gymnasium.error.ResetNeeded):
        fresh.step(0)
    assert environment.reset()[0].tobytes() == fresh.reset()[0].tobytes()
    assert play(environment, 50) == play(fresh, 50)


def test_a_state_goes_on_in_another_process_after_a_trip_through_json():
    environment = AtariEnvironment(sticky=0.25)
    environment.reset(seed=3)
    play(environment, 50)
    state = {key: x.hex() if isinstance(x, bytes) else x for key, x in environment.get_state().items()}
    code = (
        "import json, sys; from environments.atari import AtariEnvironment; state = json.load(sys.stdin);"
        "state.update({key: bytes.fromhex(state[key]) for key in ('console', 'frames')});"
        "environment = AtariEnvironment(sticky=0.25); environment.set_state(state);"
        "print(*(int(environment.step(i % 4)[0].sum()) for i in range(60)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, input=json.dumps(state), capture_output=True, text=True)
    assert result.stdout.split() == [str(environment.step(i % 4)[0].sum()) for i in range(60)], result.stderr


def test_the_state_of_another_game_is_refused():
    state = AtariEnvironment(game="pong").get_state()
    with pytest.raises(ValueError, match="The state is one of pong, but this environment plays breakout"):
        AtariEnvironment().set_state(state)


def test_sticky_actions_repeat_the_action_of_the_frame_before_a_quarter_of_the_time():
    environment = AtariEnvironment(sticky=0.25, action_repeat=1, press_fire=False)
    environment.reset(seed=1)
    right, left = 2, 3
    executed, stuck = None, []
    position = environment._ale.getRAM()[70]  # of Breakout's paddle, from the right
    for step in range(3000):
        action = left if position < 60 else right if position > 110 else (right, left)[step % 2]
        environment.step(action)
        before, position = position, environment._ale.getRAM()[70]
        previous, executed = executed, right if position < before else left
        if action != previous:
            stuck.append(executed == previous)
    assert len(stuck) > 1500
    assert 0.21 < np.mean(stuck) < 0.29  # three and a half standard deviations


def test_with_sticky_one_nothing_but_no_ops_reaches_the_game():
    stuck, idle = AtariEnvironment(sticky=1.0), AtariEnvironment(press_fire=False)
    stuck.reset(seed=1), idle.reset(seed=1)
    for _ in range(30):
        np.testing.assert_array_equal(stuck.step(2)[0], idle.step(0)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sticky": -0.1}, "sticky is -0.1"),
        ({"sticky": 1.1}, "sticky is 1.1"),
        ({"action_repeat": 0}, "action_repeat is 0, but must be at least 1"),
        ({"noop_max": -1}, "noop_max is -1, but must be at least 0"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0, but must be at least 1"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
    ],
)
def test_arguments_out_of_range_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        AtariEnvironment(**arguments)
    assert str(error.value).count(". ") == 0


def test_on_frame_sees_every_frame_played():
    seen = []
    environment = AtariEnvironment(noop_max=0, on_frame=lambda ale: seen.append(ale.getEpisodeFrameNumber()))
    environment.reset(seed=1)
    for _ in range(3):
        environment.step(0)
    assert seen == list(range(1, 4 + 3 * 4 + 1))


def test_render_gives_the_screen_in_colour_when_asked_to():
    environment = AtariEnvironment(render_mode="rgb_array")
    environment.reset(seed=1)
    image = environment.render()
    assert image is not None
    assert (image.shape, image.dtype) == ((210, 160, 3), np.uint8)
    assert (image.max(axis=-1) != image.min(axis=-1)).any()
    assert AtariEnvironment().render() is None


def test_a_state_is_taken_by_a_new_environment_whatever_bytes_stand_behind_its_texts():
    """In the ones of Amidar and Krull some of them look like text."""
    for game in ("amidar", "krull", "elevator_action"):
        played = AtariEnvironment(game=game)
        for seed in range(4):
            played.reset(seed=seed if seed % 2 else None)
            for _ in range(25):
                played.step(played.action_space.sample())
            again = AtariEnvironment(game=game)
            again.set_state(played.get_state())
            assert np.array_equal(again._ale.getRAM(), played._ale.getRAM())


def test_a_state_whose_text_says_that_it_is_longer_than_it_is_is_refused():
    state = AtariEnvironment().get_state()
    console = state["console"]
    place = console.index(b"System") - 4
    for length in (7, 2**31 - 1):
        damaged = console[:place] + length.to_bytes(4, "little") + console[place + 4 :]
        with pytest.raises(ValueError, match="console is not one of breakout"):
            AtariEnvironment().set_state({**state, "console": damaged})
