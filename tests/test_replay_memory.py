"""The replay memory against keras-rl's own and against a naive n-step oracle, on data that proves identity."""

import numpy as np
import pytest

from keras_rl import rl
from keras_rl.memory import SequentialMemory


def observation(number, shape=(3,), dtype=np.int64):
    """An array that says which step it is from."""
    return np.full(shape, number, dtype)


def random_history(seed, length, p_end=0.15):
    """(observation, action, reward, terminal) as keras-rl's loop appends them: after each end the last observation."""
    rng = np.random.default_rng(seed)
    entries: list[tuple] = []
    while len(entries) < length:
        terminal = bool(rng.random() < p_end)
        number = len(entries) + 1
        entries.append((observation(number), int(rng.integers(4)), float(rng.normal()), terminal))
        if terminal:
            entries.append((observation(number + 1), 0, 0.0, False))
    return entries[:length]


@pytest.mark.parametrize("window_length", [1, 2, 4])
@pytest.mark.parametrize("ignore_episode_boundaries", [False, True])
@pytest.mark.parametrize(("length", "limit"), [(60, 100), (60, 60), (137, 50)], ids=["room", "full", "wrapped"])
def test_samples_are_those_of_keras_rls_memory(window_length, ignore_episode_boundaries, length, limit):
    settings = {"window_length": window_length, "ignore_episode_boundaries": ignore_episode_boundaries}
    ours, theirs = SequentialMemory(limit, **settings), rl.memory.SequentialMemory(limit, **settings)
    history = random_history(seed=length + window_length, length=length)
    for entry in history:
        np.testing.assert_array_equal(ours.get_recent_state(entry[0]), theirs.get_recent_state(entry[0]))
        ours.append(*entry)
        theirs.append(*entry)
    assert ours.nb_entries == theirs.nb_entries == min(length, limit)
    kept = history[-limit:]
    usable = [i for i in range(window_length, ours.nb_entries - 1) if not kept[i - 1][3]]
    assert len(usable) > 20
    for mine, reference in zip(ours.sample(len(usable), usable), theirs.sample(len(usable), usable), strict=True):
        np.testing.assert_array_equal(mine.state0, reference.state0)
        np.testing.assert_array_equal(mine.state1, reference.state1)
        assert mine.action == reference.action
        assert mine.reward == pytest.approx(reference.reward, rel=1e-6)
        assert mine.terminal1 == reference.terminal1


class NaiveMemory:
    """What the n-step transitions of a list of whole episodes are, written down as plainly as can be."""

    def __init__(self, episodes, window_length, n_step, gamma):
        self.transitions = {}
        for episode in episodes:
            observations, actions, rewards, terminals = episode  # one observation more than actions
            for t in range(len(actions)):
                value, discount, steps = 0.0, 1.0, 0
                for k in range(t, min(t + n_step, len(actions))):
                    value += discount * rewards[k]
                    discount *= 0.0 if terminals[k] else gamma
                    steps += 1
                    if terminals[k]:
                        break
                self.transitions[int(observations[t][0])] = (
                    self.state(observations, t, window_length),
                    actions[t],
                    value,
                    self.state(observations, t + steps, window_length),
                    discount,
                )

    @staticmethod
    def state(observations, t, window_length):
        zero = np.zeros_like(observations[0])
        return [observations[i] if i >= 0 else zero for i in range(t - window_length + 1, t + 1)]


def random_episodes(rng, number, first):
    """Episodes that end terminal or truncated, with lives lost (terminal, but going on) on the way."""
    episodes, count = [], first
    for _ in range(number):
        length = int(rng.integers(1, 12))
        observations = [observation(count + i) for i in range(length + 1)]
        count += length + 1
        terminals = list(rng.random(length) < 0.2)
        actions, rewards = rng.integers(0, 4, length).tolist(), rng.normal(size=length).tolist()
        episodes.append((observations, actions, rewards, terminals))
    return episodes


def append_episode(memory, episode, stream):
    observations, actions, rewards, terminals = episode
    for t, action in enumerate(actions):
        end = t == len(actions) - 1
        memory.append(observations[t], action, rewards[t], terminals[t], episode_end=end, stream=stream)
    memory.append(observations[-1], 0, 0.0, False, stream=stream)


@pytest.mark.parametrize("n_step", [1, 3, 5])
@pytest.mark.parametrize("num_streams", [1, 3])
@pytest.mark.parametrize("limit", [2000, 120], ids=["room", "wrapped"])
def test_n_step_transitions_are_those_of_a_naive_oracle(n_step, num_streams, limit):
    rng = np.random.default_rng([n_step, num_streams, limit])
    memory = SequentialMemory(limit, window_length=4, n_step=n_step, num_streams=num_streams, rng=rng)
    oracle = {}
    for stream in range(num_streams):
        episodes = random_episodes(rng, 40, first=1 + 10_000 * stream)
        for episode in episodes:
            append_episode(memory, episode, stream)
        oracle.update(NaiveMemory(episodes, 4, n_step, gamma=0.9).transitions)
    batch = memory.sample_batch(3000, gamma=0.9)
    seen = set()
    for state0, action, reward, state1, discount in zip(*map(np.asarray, batch[:5]), strict=True):
        number = int(state0[-1, 0])
        want0, want_action, want_reward, want1, want_discount = oracle[number]
        seen.add(number)
        np.testing.assert_array_equal(state0, want0)
        assert action == want_action
        assert reward == pytest.approx(want_reward, rel=1e-5, abs=1e-6)
        assert discount == pytest.approx(want_discount, rel=1e-6)
        if want_discount:
            np.testing.assert_array_equal(state1, want1)
    assert {number // 10_000 for number in seen} == set(range(num_streams))
    assert len(seen) > 0.5 * min(limit, len(oracle)) - 20 * num_streams


def test_a_memory_goes_on_with_returns_of_another_number_of_steps():
    rng = np.random.default_rng(4)
    episodes = random_episodes(rng, 30, first=1)
    three, one, restored = (
        SequentialMemory(150, window_length=4, n_step=n_step, rng=np.random.default_rng(5)) for n_step in (3, 1, 1)
    )
    for memory in (three, one):
        for episode in episodes:
            append_episode(memory, episode, 0)
    restored.set_state(three.get_state(), [three.get_entries()])
    for mine, theirs in zip(restored.sample_batch(500, 0.9), one.sample_batch(500, 0.9), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def test_every_transition_is_drawn_equally_often():
    memory = SequentialMemory(64, window_length=1, rng=np.random.default_rng(0))
    for number in range(40):
        memory.append(observation(number), 0, 0.0, False)
    drawn = np.asarray(memory.sample_batch(38_000, gamma=0.9).state0)[:, 0, 0]
    counts = np.bincount(drawn, minlength=40)
    assert counts[0] == counts[39] == 0
    assert np.all(np.abs(counts[1:39] - 1000) < 5 * np.sqrt(1000))


def noise(rng, shape=(84, 84)):
    return rng.integers(256, size=shape, dtype=np.uint8)


def still_frames(rng, number):
    """A background of noise that stays, on which a small sprite moves."""
    frames = np.tile(noise(rng), (number, 1, 1))
    for i, frame in enumerate(frames):
        frame[40:44, i % 80 : i % 80 + 4] = 255
    return list(frames)


HISTORIES = {
    "noise": lambda rng: [noise(rng) for _ in range(200)],
    "still": lambda rng: still_frames(rng, 200),
    "cuts": lambda rng: [frame for _ in range(20) for frame in still_frames(rng, 10)],
    "noise and blank": lambda rng: [noise(rng) if i % 2 else np.full((84, 84), i, np.uint8) for i in range(200)],
    "large": lambda rng: list(np.tile(noise(rng, (250, 160, 3)), (200, 1, 1, 1))),  # more than LZ4's window
    "float": lambda rng: list(np.tile(rng.normal(size=(84, 84)), (200, 1, 1))),
}


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("limit", [300, 90], ids=["room", "wrapped"])
def test_frames_come_back_bit_for_bit_whether_they_compress_or_not(history, limit):
    frames = HISTORIES[history](np.random.default_rng(1))
    memory = SequentialMemory(limit, window_length=2)
    for frame in frames:
        memory.append(frame, 0, 0.0, False)
    kept = frames[-limit:]
    places = range(2, len(kept) - 1)
    for index, experience in zip(places, memory.sample(len(places), places), strict=True):
        assert experience.state0[-1].dtype == kept[0].dtype
        np.testing.assert_array_equal(experience.state0, kept[index - 1 : index + 1])
        np.testing.assert_array_equal(experience.state1, kept[index : index + 2])


def test_its_size_is_never_more_than_the_frames_and_a_hundred_bytes_each():
    for history in HISTORIES:
        frames = HISTORIES[history](np.random.default_rng(2))
        memory = SequentialMemory(200, window_length=1)
        for frame in frames:
            memory.append(frame, 0, 0.0, False)
        assert memory.nbytes <= sum(frame.nbytes + 100 for frame in frames), history


def test_what_stands_still_is_kept_once():
    memory = SequentialMemory(200, window_length=1)
    empty = memory.nbytes
    for frame in still_frames(np.random.default_rng(2), 200):
        memory.append(frame, 0, 0.0, False)
    key_frames = 4 * (84 * 84 + 33)  # of 64 frames each
    assert key_frames < memory.nbytes - empty < key_frames + 200 * 100


def test_observations_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="expected numbers"):
        SequentialMemory(10, window_length=1).append(np.array([None]), 0, 0.0, False)


def test_nothing_is_stored_when_not_training():
    memory = SequentialMemory(10, window_length=2)
    memory.append(observation(5), 0, 0.0, False, training=False)
    assert memory.nb_entries == 0
    np.testing.assert_array_equal(memory.get_recent_state(observation(6)), [observation(5), observation(6)])


def test_the_same_generator_draws_the_same_batches():
    batches = []
    for _ in range(2):
        memory = SequentialMemory(50, window_length=2, rng=np.random.default_rng(3))
        for entry in random_history(seed=4, length=80):
            memory.append(*entry)
        batches.append([memory.sample_batch(8, gamma=0.9) for _ in range(5)])
    for first, second in zip(*batches, strict=True):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_np_random_seed_makes_the_default_generator_repeatable():
    draws = []
    for _ in range(2):
        np.random.seed(7)
        draws.append(SequentialMemory(10, window_length=1).rng.integers(1 << 30))
    assert draws[0] == draws[1]


def test_an_empty_memory_says_that_it_needs_a_longer_warm_up():
    memory = SequentialMemory(100, window_length=4, n_step=3)
    for number in range(7):
        memory.append(observation(number), 0, 0.0, False)
    with pytest.raises(ValueError, match="longer warm-up"):
        memory.sample_batch(1, gamma=0.9)
    memory.append(observation(7), 0, 0.0, False)
    np.testing.assert_array_equal(
        np.asarray(memory.sample_batch(1, gamma=0.9).state0)[0], [observation(number) for number in (1, 2, 3, 4)]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 100, "window_length": 0}, "window_length is 0"),
        ({"limit": 100, "window_length": 4, "n_step": 0}, "n_step is 0"),
        ({"limit": 20, "window_length": 4, "n_step": 3, "num_streams": 8}, "at least 64"),
    ],
)
def test_impossible_sizes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SequentialMemory(**settings)


def test_an_observation_of_another_shape_is_refused():
    memory = SequentialMemory(10, window_length=1)
    memory.append(observation(1), 0, 0.0, False)
    with pytest.raises(ValueError, match="All must be of one shape"):
        memory.append(observation(1, shape=(4,)), 0, 0.0, False)


def test_sample_refuses_n_step_returns_which_need_gamma():
    with pytest.raises(ValueError, match="sample_batch"):
        SequentialMemory(100, window_length=1, n_step=2).sample(4)


def test_a_memory_for_playing_alone_may_hold_one_observation():
    memory = SequentialMemory(limit=1, window_length=4)
    for number in range(3):
        memory.append(observation(number), 0, 0.0, False)
    assert memory.nb_entries == 1
    with pytest.raises(ValueError, match=r"1 observations of at most 1, too few.*a larger limit"):
        memory.sample(1)


def test_rewards_are_what_they_were_in_float32():
    memory = SequentialMemory(10, window_length=1)
    for number in range(4):
        memory.append(observation(number), 0, 0.4, False)
    assert memory.sample(1)[0].reward == 0.4  # as with keras-rl's memory: NumPy compares in float32


@pytest.mark.parametrize("late", [0, 12], ids=["first", "later, in a full ring"])
def test_observations_of_a_wider_dtype_widen_the_memory(late):
    memory, reference = SequentialMemory(10, window_length=2), rl.memory.SequentialMemory(10, window_length=2)
    entries = [observation(number) for number in range(late + 1)]
    entries += [observation(number + 0.5, dtype=np.float64) for number in range(3)]
    entries += [observation(number, dtype=np.uint8) for number in range(3)]
    with pytest.warns(UserWarning, match="int64 and float64 are kept as float64"):
        for entry in entries:
            memory.append(entry, 1, 1.0, False)
            reference.append(entry, 1, 1.0, False)
    positions = range(2, memory.nb_entries - 1)
    assert len(positions) > 3
    for mine, theirs in zip(
        memory.sample(len(positions), positions), reference.sample(len(positions), positions), strict=True
    ):
        np.testing.assert_array_equal(mine.state0, theirs.state0)
        np.testing.assert_array_equal(mine.state1, theirs.state1)
        assert mine.state0[0].dtype == np.float64
    restored = SequentialMemory(10, window_length=2)
    restored.set_state(memory.get_state(), [memory.get_entries()])
    np.testing.assert_array_equal(restored.sample(1, [3])[0].state1, memory.sample(1, [3])[0].state1)


def parts(number, kind):
    image, speed = np.full((2, 3), number, np.uint8), np.full(2, number / 4)
    nested = {"image": image, "car": {"speed": speed, "gear": number}}
    return {"list": [image, speed], "tuple": (image, speed), "dict": nested}[kind]


def assert_same(mine, theirs):
    assert type(mine) is type(theirs) or not isinstance(theirs, (list, tuple, dict))
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        mine, theirs = list(mine.values()), list(theirs.values())
    if isinstance(theirs, (list, tuple)):
        for a, b in zip(mine, theirs, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_observations_of_several_parts_are_those_of_keras_rls_memory(kind):
    memory, reference = SequentialMemory(10, window_length=1), rl.memory.SequentialMemory(10, window_length=1)
    for number in range(14):
        for each in (memory, reference):
            assert_same(each.get_recent_state(parts(number, kind)), [parts(number, kind)])
            each.append(parts(number, kind), number % 3, float(number), number == 8)
    positions = [1, 2, 3, 6, 7]
    for mine, theirs in zip(memory.sample(5, positions), reference.sample(5, positions), strict=True):
        assert_same(mine.state0, theirs.state0)
        assert_same(mine.state1, theirs.state1)
        assert mine[1:3] == theirs[1:3]


def test_states_of_several_parts_begin_with_zeros():
    memory = SequentialMemory(10, window_length=3)
    for number in range(6):
        memory.append(parts(number + 1, "list"), 0, 0.0, number == 3)
    state = memory.sample(1, [3])[0].state0
    assert_same(state, [parts(number, "list") for number in (2, 3, 4)])
    state0 = memory.observations(memory._gather(np.array([3]), 1.0).state0)
    assert_same(state0[0], state)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ([np.zeros(3), np.zeros(2)], [np.zeros(3), np.zeros(4)], "All must be of one shape"),
        ({"a": 1}, {"b": 1}, "All must be of one shape"),
        (np.zeros(3), [np.zeros(3), np.zeros(2)], "All must be of one shape"),
        ("text", None, "Got the observation 'text', expected numbers, or a list or dict of them"),
        (None, None, "Got the observation 'None'"),
    ],
)
def test_observations_that_nothing_can_be_made_of_are_refused(first, second, sentence):
    memory = SequentialMemory(10, window_length=1)
    with pytest.raises(ValueError, match=sentence):
        for each in (first, second):
            memory.append(each, 0, 0.0, False)


def test_a_memory_of_parts_says_that_it_cannot_be_saved():
    memory = SequentialMemory(10, window_length=1)
    memory.append({"a": 1}, 0, 0.0, False)
    with pytest.raises(TypeError, match="several parts cannot be saved"):
        memory.get_state()


def test_an_ended_episode_leads_into_no_other():
    memory = SequentialMemory(100, window_length=2)
    for game in range(5):
        for step in range(4):
            memory.append(observation(10 * game + step), 0, 1.0, False)
        memory.end_episode(observation(10 * game + 4))
    seen = set()
    for _ in range(50):
        for each in memory.sample(20):
            games = {int(each.state0[-1][0]) // 10, int(each.state1[-1][0]) // 10}
            assert len(games) == 1
            assert int(each.state1[-1][0]) - int(each.state0[-1][0]) == 1
            assert not each.terminal1
            seen.add(int(each.state1[-1][0]))
    assert {14, 24, 34, 44} <= seen  # the last observations are learned from
    empty = SequentialMemory(100, window_length=2)
    empty.end_episode(observation(1))  # nothing has begun
    assert empty.nb_entries == 0
