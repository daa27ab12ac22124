"""Environments in processes of their own: they behave as they do here, and no process outlives its use."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from environments.atari import AtariEnvironment
from environments.workers import HERE, WorkerError, Workers, default_workers
from processors.frames import small_grey

REPOSITORY = Path(__file__).parents[1]


class Talkative(gymnasium.Env):
    """Prints, reads, observes a dict or an array of another shape than it says, and fails when told to."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def __init__(self):
        self.action_space = gymnasium.spaces.Discrete(4)
        self.drawn = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        print("reset", flush=True)
        return np.arange(3.0), {"options": options, "read": sys.stdin.readline()}

    def step(self, action):
        print("step", flush=True)
        if action == 3:
            raise LookupError("there is no such way")
        observation = [np.full(3, 0.5), {"a": np.ones(2)}, np.zeros((2, 2), np.float32)][action]
        return observation, 1.0, False, False, {"modules": sorted({"keras", "tensorflow", "rich"} & set(sys.modules))}

    def draw(self, *, number):
        return [int(self.action_space.sample()) for _ in range(number)]


class Unmade(gymnasium.Env):
    def __init__(self):
        raise FileNotFoundError("no ROM")


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"  # its parent is to fetch it


def wait_until_gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, "a worker outlives its use"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as workers:
        yield workers


@pytest.fixture
def talkative(workers):
    (environment,) = workers.environments([Talkative])
    return environment


def test_atari_games_are_the_same_there_as_here(workers):
    makers = [functools.partial(AtariEnvironment, sticky=0.25, max_of_two=bool(i), noop_max=5) for i in range(3)]
    makers[2] = functools.partial(makers[2], observe=small_grey)
    there, here = workers.environments(makers), HERE.environments(makers)
    for games in (there, here):
        for seed, game in enumerate(games):
            game.action_space.seed(seed)
    for seed, (one, other) in enumerate(zip(there, here, strict=True)):
        np.testing.assert_array_equal(one.reset(seed=seed)[0], other.reset(seed=seed)[0])
        assert one.observation_space == other.observation_space
        assert one.get_action_meanings() == other.get_action_meanings()
    for _ in range(150):
        actions = [game.action_space.sample() for game in here]
        assert [game.action_space.sample() for game in there] == actions
        for game, action in zip(there, actions, strict=True):
            game.send(action)
        for one, other, action in zip(there, here, actions, strict=True):
            (observation, *rest), (expected, *others) = one.receive(), other.step(action)
            np.testing.assert_array_equal(observation, expected)
            assert rest == others
            if rest[1]:
                np.testing.assert_array_equal(one.reset()[0], other.reset()[0])
    states = [game.get_state() for game in there]
    assert states == [game.get_state() for game in here]
    for game, state in zip(there, reversed(states), strict=True):  # all at once
        game.send_state(state)
    for game, other, state in zip(there, here, reversed(states), strict=True):
        game.receive()
        other.set_state(state)
        assert game.get_state() == state
        assert [game.action_space.sample() for _ in range(9)] == [other.action_space.sample() for _ in range(9)]


def test_observations_are_ones_own(talkative):
    first, _ = talkative.reset()
    second = talkative.step(0)[0]
    assert first.tolist() == [0, 1, 2] and second.tolist() == [0.5] * 3


def test_whatever_an_environment_observes_arrives_and_what_it_prints_and_reads_does_no_harm(talkative):
    assert talkative.reset(options={"a": 1})[1] == {"options": {"a": 1}, "read": ""}
    assert talkative.step(1)[0]["a"].tolist() == [1, 1]
    assert talkative.step(2)[0].shape == (2, 2)


def test_a_worker_knows_no_keras_and_nothing_of_the_script(talkative):
    assert talkative.step(0)[4] == {"modules": []}


def test_its_action_space_is_one_with_that_here(talkative):
    other = Talkative()
    for environment in (talkative, other):
        environment.action_space.seed(7)
    assert talkative.draw(number=5) == other.draw(number=5)
    assert [talkative.action_space.sample() for _ in range(5)] == [other.action_space.sample() for _ in range(5)]


def test_attributes_are_found_there(talkative):
    assert talkative.drawn == []
    assert not hasattr(talkative, "get_state")
    with pytest.raises(AttributeError, match="'Talkative' object has no attribute 'something'"):
        talkative.something  # noqa: B018


def test_what_an_environment_raises_is_raised_here_and_it_lives_on(talkative):
    with pytest.raises(LookupError, match="no such way") as caught:
        talkative.step(3)
    assert 'raise LookupError("there is no such way")' in str(caught.value.__cause__)
    assert talkative.step(0)[1] == 1


def test_a_step_that_nobody_received_is_forgotten(talkative):
    talkative.send(3)
    assert talkative.reset()[0].tolist() == [0, 1, 2]
    talkative.send(1)
    with pytest.raises(RuntimeError, match="between two ticks"):
        talkative.get_state()
    talkative.receive()
    with pytest.raises(RuntimeError, match=r"send\(\) before receive\(\)"):
        talkative.receive()


def test_what_a_maker_raises_is_raised_here(workers):
    with pytest.raises(FileNotFoundError, match="no ROM"):
        workers.environments([Unmade])


def test_a_maker_that_only_the_script_knows_is_refused(workers):
    with pytest.raises(TypeError, match="a function of a module"):
        workers.environments([lambda: Talkative()])


def test_without_room_for_observations_it_says_how_much_is_needed(workers):
    resource = pytest.importorskip("resource", reason="needs a POSIX limit on file sizes")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # stands for a full /dev/shm
    try:
        with pytest.raises(WorkerError, match="no room for 128 bytes"):
            workers.environments([Talkative] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_shared_memory_leaves_no_file(workers):
    before = set(Path("/dev/shm").glob("workers-*"))
    workers.environments([Talkative] * 2)
    assert set(Path("/dev/shm").glob("workers-*")) <= before


def test_a_worker_that_dies_is_named_and_closing_leaves_none():
    workers = Workers(2)
    environments = workers.environments([Talkative] * 4)
    os.kill(workers.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended by SIGKILL"):
        environments[2].step(0)
    assert environments[1].step(0)[1] == 1
    pids = workers.pids
    workers.close()
    wait_until_gone(pids)


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_outlives_a_process_that_is_killed(name):
    """Its workers know the end of a pipe. Ctrl-C is sent to the whole group, as a terminal does."""
    script = (
        "import time; from environments.workers import Workers; import gymnasium, functools\n"
        "workers = Workers(2)\n"
        "workers.environments([functools.partial(gymnasium.make, 'CartPole-v1')] * 2)\n"
        "print(*workers.pids, flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # even if these tests do not listen to it
    )
    assert process.stdout
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    os.killpg(process.pid, getattr(signal, name))
    _, errors = process.communicate(timeout=20)
    wait_until_gone(pids)
    assert errors.count("Traceback") == (name == "SIGINT"), "of the process itself alone"


def test_a_script_needs_no_guard_and_is_not_run_by_its_workers(tmp_path):
    script = (
        "import functools, gymnasium\nfrom environments.workers import Workers\nprint('script')\n"
        "with Workers(2) as workers:\n"
        "    (env,) = workers.environments([functools.partial(gymnasium.make, 'CartPole-v1')])\n"
        "    print(env.reset(seed=1)[0].shape, env.step(1)[1])\n"
    )
    (tmp_path / "script.py").write_text(script)
    command, environment = [sys.executable, str(tmp_path / "script.py")], {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("script\n(4,) 1.0\n", "")


def test_processes_that_the_system_refuses_are_refused_in_words(monkeypatch):
    def refuse(*args, **kwargs):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(WorkerError, match=r"Of 500 workers 0 can be started \(Resource temporarily unavailable\)"):
        Workers(500)


@pytest.mark.parametrize(("cores", "expected"), [(1, (0, 0)), (2, (1, 1)), (4, (3, 2)), (64, (8, 2))])
def test_the_default_leaves_a_core_to_the_network(cores, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert (default_workers(32), default_workers(2)) == expected
