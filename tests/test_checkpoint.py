"""Checkpoints: a training that is stopped or killed and goes on ends like one that never was, bit for bit."""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import filelock
import keras
import numpy as np
import pytest
from commands import REPOSITORY, Command, mistake, run

from console import UsageError
from environments.atari import AtariEnvironment
from environments.workers import HERE, WorkerError, Workers
from keras_h5 import files
from keras_rl import rl
from keras_rl.agent import DQNAgent
from keras_rl.checkpoint import Checkpointer, CheckpointError
from keras_rl.memory import SequentialMemory
from models.policy_file import load_policy
from processors.atari import AtariProcessor
from processors.frames import small_grey
from training.averaging import PolicyAverage
from training.evaluator import Evaluator
from training.monitor import TrainingMonitor

NUM_STEPS, INTERVAL, NUM_GAMES = 420, 60, 3


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it and nothing is tidied up but what `finally` does."""


class Killer(rl.callbacks.Callback):
    def __init__(self, at_step):
        super().__init__()
        self.at_step = at_step

    def on_step_end(self, step, logs=None):
        if self.model.step == self.at_step:
            raise Killed


class Stopper(Killer):
    def on_step_end(self, step, logs=None):
        if self.model.step == self.at_step:
            self.model.stop_training = True


class Training:
    """A real game or three, a small network and a memory that wraps around: everything made anew, as by a script."""

    def __init__(self, folder, warn=None, memory=SequentialMemory, interval=INTERVAL, workers=HERE):
        keras.utils.set_random_seed(5)
        observe = small_grey if workers.number else None
        maker = functools.partial(AtariEnvironment, game="breakout", sticky=0.25, observe=observe)
        self.environments = workers.environments([maker] * NUM_GAMES)
        for index, environment in enumerate(self.environments):
            environment.reset(seed=index)
            environment.action_space.seed(index)
        layers = keras.layers
        self.agent = DQNAgent(
            model=keras.Sequential(
                [
                    keras.Input((2, 84, 84)),
                    layers.AveragePooling2D(12, data_format="channels_first"),
                    layers.Flatten(),
                    layers.Dense(8, activation="relu"),
                    layers.Dense(4),
                ]
            ),
            nb_actions=4,
            memory=memory(200, 2, n_step=3, num_streams=NUM_GAMES, rng=np.random.default_rng(1)),
            policy=rl.policy.LinearAnnealedPolicy(rl.policy.EpsGreedyQPolicy(), "eps", 1.0, 0.1, 0.05, nb_steps=300),
            processor=AtariProcessor(),
            nb_steps_warmup=60,
            train_interval=4,
            batch_size=8,
            target_model_update=50,
            terminal_on_life_loss=True,
        )
        self.agent.compile(keras.optimizers.Adam(1e-2))
        self.reports: list[tuple] = []
        self.monitor = TrainingMonitor(
            25,
            [
                lambda s: self.reports.append(
                    dataclasses.astuple(dataclasses.replace(s, seconds=0.0, steps_per_second=0.0))
                )
            ],
        )
        self.average = PolicyAverage(15, 4)
        # A score that depends on nothing but the weights and the number of the evaluation.
        self.evaluator = Evaluator(
            lambda weights, n: [float(np.abs(weights[0]).sum() * (n % 3))],
            70,
            [self.monitor.on_evaluation],
            self.average.weights,
        )
        extras = {"monitor": self.monitor, "average": self.average, "evaluator": self.evaluator}
        self.checkpointer = Checkpointer(folder, interval, extras, warn)

    def run(self, *callbacks, steps=NUM_STEPS):
        step = self.checkpointer.restore(self.agent, self.environments)
        ours = [self.average, self.evaluator, self.checkpointer, self.monitor]
        self.agent.fit(self.environments, steps, callbacks=[*ours, *callbacks], verbose=0)
        return step

    def result(self):
        """Everything there is at the end, times aside."""
        state = {"agent": self.agent.get_state(), "entries": self.agent.memory.get_entries()}
        monitor = {name: value for name, value in self.monitor.get_state().items() if name != "seconds"}
        others = {"average": self.average.get_state(), "evaluator": self.evaluator.get_state()}
        return {**state, "monitor": monitor, **others}


def assert_equal(a, b, place=""):
    assert type(a) is type(b) or {type(a), type(b)} <= {list, tuple}, place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            # The same frames, though they may be cut into key frames and others in another way.
            if key not in ("key_frames", "data", "lengths", "keys"):
                assert_equal(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for index, (each, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(each, other, f"{place}/{index}")
    else:
        np.testing.assert_array_equal(a, b, err_msg=place)


def assert_same_end(training, other):
    assert_equal(training.result(), other.result())
    first, second = (t.agent.memory for t in (training, other))
    slots = list(range(sum(np.minimum(first.counts, first.capacity))))
    np.testing.assert_array_equal(first._read(slots), second._read(slots))


def assert_same_agent(training, other):
    for name in ("agent", "entries"):
        assert_equal(training.result()[name], other.result()[name])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    training = Training(tmp_path_factory.mktemp("undisturbed"))
    training.run()
    return training


def test_a_training_can_be_stopped_at_any_step_any_number_of_times(undisturbed, tmp_path):
    steps = sorted(random.Random(2).sample(range(1, NUM_STEPS), 5))
    stopped_at = None
    for step in steps:
        training = Training(tmp_path)
        assert training.run(Stopper(step)) == stopped_at
        stopped_at = training.agent.step
        assert step < stopped_at <= step + NUM_GAMES and stopped_at % NUM_GAMES == 0, "the end of the tick"
    training = Training(tmp_path)
    training.run()
    assert_same_end(training, undisturbed)


@pytest.mark.parametrize("number", [1, 5, 6], ids=["the first", "with a report due", "at the last step"])
def test_a_training_stopped_in_an_evaluation_plays_it_again_when_it_goes_on(undisturbed, tmp_path, number):
    training = Training(tmp_path)
    play = training.evaluator.play

    def stopped(weights, evaluation):
        if evaluation < number:
            return play(weights, evaluation)
        training.agent.stop_training = True
        return None

    training.evaluator.play = stopped
    training.run()
    stopped_at = -(-70 * number // NUM_GAMES) * NUM_GAMES  # the end of the tick
    assert training.agent.step == stopped_at
    assert training.evaluator.number == number - 1
    again = Training(tmp_path)
    assert again.run() == stopped_at
    assert_same_end(again, undisturbed)
    np.testing.assert_array_equal(again.reports, undisturbed.reports[-len(again.reports) :])
    assert again.reports[0][0] == {1: 75, 5: 375, 6: 420}[number]


def test_a_training_can_be_killed_at_any_step_any_number_of_times(undisturbed, tmp_path):
    for step in sorted(random.Random(3).sample(range(NUM_STEPS), 5)):
        with pytest.raises(Killed):
            Training(tmp_path).run(Killer(step))
    training = Training(tmp_path)
    assert training.run() >= NUM_STEPS - INTERVAL - NUM_STEPS % INTERVAL - INTERVAL
    assert_same_end(training, undisturbed)


def test_a_training_may_be_as_long_as_one_likes_and_be_prolonged(undisturbed, tmp_path):
    """Its end cuts a tick; the actions that were chosen then are the ones that are taken later."""
    for steps in (100, 101, 200):
        training = Training(tmp_path)
        training.run(steps=steps)
        assert training.agent.step == steps
    training = Training(tmp_path)
    assert training.run() == 200
    assert_same_agent(training, undisturbed)


def test_a_training_in_workers_is_the_same(undisturbed, tmp_path):
    with Workers(3) as workers:
        training = Training(tmp_path, workers=workers)
        training.run()
        assert_same_end(training, undisturbed)
        np.testing.assert_array_equal(training.reports, undisturbed.reports)


def test_a_training_may_go_on_with_another_number_of_workers(undisturbed, tmp_path):
    for number, step in ((1, 100), (0, 200), (2, 300)):
        with Workers(number) as workers:
            Training(tmp_path, workers=workers).run(Stopper(step))
    training = Training(tmp_path)
    assert training.run() == 303
    assert_same_end(training, undisturbed)


def test_a_worker_that_is_killed_leaves_the_checkpoint_before(undisturbed, tmp_path):
    class KillsAWorker(Killer):
        def on_step_end(self, step, logs=None):
            if self.model.step == self.at_step:
                os.kill(workers.pids[1], signal.SIGKILL)

    with Workers(2) as workers, pytest.raises(WorkerError, match=r"ended by SIGKILL, as happens when memory runs out"):
        Training(tmp_path, workers=workers).run(KillsAWorker(130))
    training = Training(tmp_path)
    assert training.run() == 2 * INTERVAL
    assert_same_end(training, undisturbed)


def test_a_checkpoint_that_is_due_in_the_middle_of_a_tick_is_written_at_its_end(undisturbed, tmp_path):
    with pytest.raises(Killed):
        Training(tmp_path, interval=50).run(Killer(2 * 50 + NUM_GAMES))
    steps = sorted(int(path.stem.split("-")[1]) for path in tmp_path.glob("*.json"))
    assert steps == [51, 102]
    training = Training(tmp_path, interval=50)
    assert training.run() == 102
    assert_same_end(training, undisturbed)


def killed_training(folder, step):
    with pytest.raises(Killed):
        Training(folder).run(Killer(step))
    return folder


@pytest.fixture(scope="module")
def killed_before_the_fourth(tmp_path_factory):
    return killed_training(tmp_path_factory.mktemp("three"), 4 * INTERVAL - 5)


@pytest.fixture(scope="module")
def killed_after_the_fourth(tmp_path_factory):
    return killed_training(tmp_path_factory.mktemp("four"), 4 * INTERVAL + 5)


@pytest.mark.parametrize(
    ("file", "moment"),  # once a file is in place, and before the next, is the same
    [
        ("replay", "before it"),
        ("replay", "half of it"),
        ("replay", "in place"),
        ("state", "half of it"),
        ("state", "in place"),
        ("manifest", "whole, not in place"),
        ("manifest", "in place"),
    ],
)
def test_a_kill_in_a_checkpoint_leaves_the_one_before(
    undisturbed, killed_before_the_fourth, tmp_path, monkeypatch, file, moment
):
    folder = shutil.copytree(killed_before_the_fourth, tmp_path / "checkpoint")
    real, files_before = files.write, itertools.count()

    def write(path, data):
        if next(files_before) != ["replay", "state", "manifest"].index(file):
            return real(path, data)
        if moment in ("half of it", "whole, not in place"):
            path.with_name(f".{path.name}.0.tmp").write_bytes(data[: len(data) // (1 + (moment == "half of it"))])
        elif moment == "in place":
            real(path, data)
        raise Killed

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(Killed):
        Training(folder).run()
    monkeypatch.undo()
    training = Training(folder)
    assert training.run() == INTERVAL * (4 if (file, moment) == ("manifest", "in place") else 3)
    assert_same_end(training, undisturbed)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "changed":
        data[len(data) // 2] ^= 1
    path.unlink() if how == "gone" else path.write_bytes(data[: len(data) // 2] if how == "cut" else data)


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
@pytest.mark.parametrize("kind", ["checkpoint", "state", "replay"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(
    undisturbed, killed_after_the_fourth, tmp_path, kind, how
):
    folder = shutil.copytree(killed_after_the_fourth, tmp_path / "checkpoint")
    (newest,) = folder.glob(f"{kind}-{4 * INTERVAL}.*")
    damage(newest, how)
    warnings: list[Exception] = []
    training = Training(folder, warn=warnings.append)
    assert training.run() == 3 * INTERVAL
    assert_same_end(training, undisturbed)
    assert len(warnings) == int((kind, how) != ("checkpoint", "gone"))
    assert all(isinstance(w, CheckpointError) and f"checkpoint-{4 * INTERVAL}.json" in str(w) for w in warnings)


def test_checkpoints_that_are_all_damaged_are_refused_with_the_reasons(tmp_path):
    with pytest.raises(Killed):
        Training(tmp_path).run(Killer(2 * INTERVAL + 5))
    for path in tmp_path.glob("state-*"):
        damage(path, "cut")
    with pytest.raises(CheckpointError, match=r"state-120\.safetensors has .* bytes, expected .*state-60\.safetensors"):
        Training(tmp_path).run()


def test_a_checkpoint_of_another_network_or_memory_is_refused(tmp_path):
    Training(tmp_path).run(steps=60)
    training = Training(tmp_path)
    training.agent.memory = SequentialMemory(200, 2, num_streams=NUM_GAMES + 1)
    with pytest.raises(CheckpointError, match="stream"):
        training.run()
    training = Training(tmp_path)
    training.agent.model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    with pytest.raises(CheckpointError, match="the model has arrays of other shapes"):
        training.run()


def test_only_what_is_new_is_written_and_what_is_overwritten_goes(tmp_path):
    training = Training(tmp_path)
    sizes = []

    class Watcher(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            if self.model.step % INTERVAL == 0 and self.model.step:
                names = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
                (newest,) = tmp_path.glob(f"replay-{self.model.step}.*")
                sizes.append((newest.stat().st_size, names.count("replay"), names.count("state")))

    training.run(Watcher(), steps=15 * INTERVAL)
    new, replay_files, state_files = zip(*sizes, strict=True)
    assert max(new) < 84 * 84 * (2 * NUM_GAMES + 10)  # not 200 frames: key frames, and little beside
    assert max(replay_files) == 5  # four hold the ring, and one belongs to the checkpoint before
    assert max(state_files) == 2


def test_what_cannot_tell_its_state_is_named(tmp_path):
    training = Training(tmp_path)

    class Stateless:
        def __getattr__(self, name):
            if name in ("get_state", "set_state"):
                raise AttributeError(name)
            return getattr(training.environments[0], name)

        def reset(self):
            return training.environments[0].reset()[0]

        def step(self, action):
            return (*training.environments[0].step(action)[:3], {})

    with pytest.raises(TypeError, match="Stateless has no get_state"):
        training.agent.fit(Stateless(), 100, callbacks=[training.checkpointer], verbose=0)
    training.agent._own_memory = False
    with pytest.raises(TypeError, match=r"SequentialMemory"):
        training.agent.get_state()


def test_keras_rls_loggers_work_in_a_resumed_training(tmp_path, capsys):
    Training(tmp_path).run(Stopper(100))
    training = Training(tmp_path)
    training.checkpointer.restore(training.agent, training.environments)
    callbacks = [training.checkpointer, training.monitor]
    training.agent.fit(training.environments, NUM_STEPS, callbacks=callbacks, verbose=2)
    assert f"{NUM_STEPS}: episode: " in capsys.readouterr().out


def test_a_disk_that_is_full_does_not_end_a_training(undisturbed, tmp_path, monkeypatch):
    """Files over a limit fail for real, half written, as on a full disk."""
    resource = pytest.importorskip("resource", reason="needs a POSIX limit on file sizes")
    warnings: list[Exception] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Disk(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            full = INTERVAL < self.model.step < 5 * INTERVAL
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000 if full else limits[0], limits[1]))

    training = Training(tmp_path, warn=warnings.append)
    try:
        training.run(Disk())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [type(warning) for warning in warnings] == [OSError] * 4
    assert_same_end(training, undisturbed)
    again = Training(tmp_path)
    assert again.run() == NUM_STEPS
    assert_same_end(again, undisturbed)


def test_an_evaluation_that_was_made_up_for_after_the_last_step_is_in_a_checkpoint(tmp_path):
    """Ctrl-C broke the last evaluation off; it is played when the training is resumed, where no step is left."""
    training = Training(tmp_path)
    training.evaluator.play = lambda weights, number: [1.0] if number < 6 else None
    training.run()
    assert training.agent.step == NUM_STEPS and not training.evaluator.has_evaluated(NUM_STEPS)
    made_up_for = Training(tmp_path)
    assert made_up_for.run() == NUM_STEPS
    assert made_up_for.evaluator.has_evaluated(NUM_STEPS)
    longer = Training(tmp_path)
    assert longer.run() == NUM_STEPS
    assert longer.evaluator.last == made_up_for.evaluator.last
    assert longer.evaluator.number == 6
    assert len(list(tmp_path.glob("checkpoint-*.json"))) == len(list(tmp_path.glob("state-*"))) == 2


def test_a_network_that_is_no_numbers_any_more_replaces_no_checkpoint(tmp_path):
    class Breaker(Killer):
        def on_step_end(self, step, logs=None):
            if self.model.step == self.at_step:
                self.model.model.set_weights([weights * np.nan for weights in self.model.model.get_weights()])

    with pytest.raises(FloatingPointError, match="no finite numbers"):
        Training(tmp_path).run(Breaker(2 * INTERVAL - 1))
    assert sorted(path.name.split(".")[0] for path in tmp_path.iterdir()) == [
        f"{part}-{INTERVAL}" for part in ("checkpoint", "replay", "state")
    ]


def test_only_its_own_files_are_removed(tmp_path):
    mine = ["thesis.txt", "replay-of-the-game.safetensors", "state-1.json.bak", ".checkpoint-1.json.swp"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".state-60.safetensors.0a1b2c3d.tmp").write_text("left by a kill")
    Training(tmp_path).run(steps=4 * INTERVAL)
    left = {path.name for path in tmp_path.iterdir()}
    assert set(mine) <= left
    assert not [name for name in left if name.endswith(".tmp")]


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    theirs, link = tmp_path / "theirs", tmp_path / "checkpoint"
    theirs.mkdir()
    (theirs / "state-1.safetensors").write_text("theirs")
    link.symlink_to(theirs)
    training = Training(link)
    with pytest.raises(CheckpointError, match="symbolic link"):
        training.run()
    with pytest.raises(OSError, match="symbolic link"):
        training.agent.fit(training.environments, 2 * INTERVAL, callbacks=[training.checkpointer], verbose=0)
    assert [path.name for path in theirs.iterdir()] == ["state-1.safetensors"]


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_manifest_from_elsewhere_is_refused(tmp_path):
    def signed(text):
        return f"{hashlib.blake2b(text.encode(), digest_size=32).hexdigest()}\n{text}"

    for text in (
        "[" * 100_000,
        '{"state": 1e999}',
        '{"state": {"name": "../state", "size": -1, "digest": ""}, "replay": []}',
        " " * 2**25,
    ):
        (tmp_path / "checkpoint-60.json").write_text(signed(text))
        with pytest.raises(CheckpointError):
            Training(tmp_path).run()
    (tmp_path / "checkpoint-60.json").unlink()
    os.mkfifo(tmp_path / "checkpoint-60.json")
    with pytest.raises(CheckpointError, match="not a file"):
        Training(tmp_path).run()


WORDS = ["--preset", "smoke", "--steps", "300", "--num-environments", "2", "--batch-size", "8", "--run", "a"]
WORDS += ["--evaluation-games", "1", "--out", "policy.h5"]


def train(folder, *words, patch=""):
    """train.py with a checkpoint every 100 steps, a report every 50, and changed by `patch`."""
    imports = "import os, signal\nfrom training import session\nfrom training.evaluator import Evaluator\n"
    patch = patch.replace("KILL", "os.kill(os.getpid(), signal.SIGKILL)")
    return run(
        folder,
        "train",
        *words,
        *("--checkpoint-steps", "100"),
        patch=f"{imports}session.REPORT_INTERVAL_STEPS = 50\n{patch}",
    )


@pytest.fixture(scope="module")
def undisturbed_300(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed_300")
    ended = train(folder, *WORDS, "--workers", "0")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def killed_at_250(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed_at_250")
    patch = (
        "evaluate = Evaluator.on_step_end\n"
        "def on_step_end(self, step, logs=None):\n"
        "    evaluate(self, step, logs)\n"
        "    if self.model.step == 250: KILL\n"
        "Evaluator.on_step_end = on_step_end\n"
    )
    ended = train(folder, *WORDS, "--workers", "0", patch=patch)
    assert ended.returncode == -9, ended.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes each, which on JAX compile anew
class TestResumingTrainPy:
    def test_killed_and_resumed_it_writes_the_same_policy(self, tmp_path, undisturbed_300, killed_at_250):
        folder = shutil.copytree(killed_at_250, tmp_path / "killed")
        kept = json.loads((folder / "runs/a/config.json").read_text())
        assert kept.pop("keras_rl_views") == 0.25
        (folder / "runs/a/config.json").write_text(json.dumps({**kept, "mixed_views": True}))  # as before the share
        resumed = train(folder, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert "Done: 300 agent steps, 100 of them" in resumed.stdout
        assert (folder / "policy.h5").read_bytes() == (undisturbed_300 / "policy.h5").read_bytes()
        timeless = [
            [[*row.split(",")[:1], *row.split(",")[3:]] for row in (f / "runs/a/metrics.csv").read_text().splitlines()]
            for f in (undisturbed_300, folder)
        ]
        assert timeless[0] == timeless[1] and len(timeless[0]) == 7

        done = train(folder, "--resume")
        assert done.returncode == 0 and "runs/a has done its 300 steps, and policy.h5 is its policy" in done.stdout
        changed = ["--keras-rl-views", "0.5", "--learning-rate", "1e-5", "--n-step", "1"]
        longer = train(folder, "--resume", "runs/a", "--steps", "350", *changed)
        assert longer.returncode == 0 and "Done: 350 agent steps, 50 of them" in longer.stdout
        facts = load_policy(folder / "policy.h5").facts
        assert facts["config"]["learning_rate"] == 1e-5
        assert facts["changes"] == [{"keras_rl_views": 0.5, "n_step": 1, "learning_rate": 1e-5, "step": 300}]

    def test_killed_before_the_last_policy_is_written_it_writes_it_when_resumed(self, tmp_path):
        words = [*WORDS, "--steps", "351", "--evaluations", "2"]
        assert train(tmp_path, *words, patch="train.build_environments = lambda *_, **__: KILL").returncode == -9
        # Nothing was lost yet, so the same command begins again.
        patch = "session.Training._save_at_first = lambda *arguments: KILL"
        assert train(tmp_path, *words, patch=patch).returncode == -9

        class Recorder:
            memory, counts = SimpleNamespace(counts=None), None

            def set_state(self, state, *others):
                self.state, self.step = state, 351

        evaluator = Recorder()
        Checkpointer(tmp_path / "runs/a/checkpoint", 1, {"evaluator": evaluator}).restore(Recorder(), None)
        assert evaluator.state["last"]["step"] == 351, "a training that is extended knows its last evaluation"

        (tmp_path / ".policy.h5.0.tmp").write_bytes(b"left by a process that was killed")
        os.utime(tmp_path / ".policy.h5.0.tmp", (0, 0))
        resumed = train(tmp_path, "--resume")
        assert resumed.returncode == 0 and "Done: 351 agent steps, 0 of them" in resumed.stdout, resumed.stderr
        assert load_policy(tmp_path / "policy.h5").facts["steps"] == 351
        assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.h5", "runs"]

    @pytest.mark.parametrize(
        "die",
        [
            # in the last evaluation, once it is played, in the last curve, before and after the last policy
            "play = session.Training._play\n"
            "def die(self, weights, number):\n    number == 2 and KILL\n    return play(self, weights, number)\n"
            "session.Training._play = die",
            "session.Training._draw = lambda self: self.evaluator.number == 2 and KILL",
            "session.Training._save_at_first = lambda *arguments: KILL",
            "session.Training._which_policy = lambda *arguments: KILL",
        ],
        ids=["evaluation", "curve", "policy", "words"],
    )
    def test_killed_at_an_end_that_is_also_a_save_it_ends_as_one_that_was_not(
        self, tmp_path, die, undisturbed_300, killed_at_250
    ):
        folder = shutil.copytree(killed_at_250, tmp_path / "killed")
        assert train(folder, "--resume", patch=die).returncode == -9
        resumed = train(folder, "--resume")
        if "which_policy" in die:  # all was done
            assert resumed.returncode == 0 and "has done its 300 steps" in resumed.stdout
        else:
            assert resumed.returncode == 0, resumed.stderr
        for name in ("policy.h5", "runs/a/best.h5"):
            assert (folder / name).read_bytes() == (undisturbed_300 / name).read_bytes(), name

    def test_it_starts_from_the_policy_that_was_there_and_not_from_its_own(self, tmp_path, undisturbed_300):
        """It writes policy.h5, from which it started, and no checkpoint: there was no room. Then it is killed."""
        words = [*WORDS, "--run", "b", "--steps", "200", "--evaluations", "0", "--learning-rate", "0.01"]
        words += ["--start-from", "policy.h5"]
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        for folder in (whole, killed):
            folder.mkdir()
            shutil.copy(undisturbed_300 / "policy.h5", folder)
        assert train(whole, *words).returncode == 0
        no_checkpoint = (
            "def save(self): raise OSError('No space left on device')\nsession.Checkpointer.save = save\n"
            "report = session.TrainingMonitor.on_step_end\n"
            "def on_step_end(self, step, logs):\n"
            "    report(self, step, logs)\n"
            "    if self.model.step == 150: KILL\n"
            "session.TrainingMonitor.on_step_end = on_step_end\n"
        )
        assert train(killed, *words, patch=no_checkpoint).returncode == -9
        assert load_policy(killed / "policy.h5").facts["run"] == "b"
        resumed = train(killed, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert (whole / "policy.h5").read_bytes() == (killed / "policy.h5").read_bytes()

    def test_a_training_that_diverges_ends_with_status_3_and_keeps_what_was_sound(self, tmp_path):
        words = [*WORDS, "--evaluations", "0", "--train-interval", "4"]
        breaks = (
            "report = session.TrainingMonitor.on_step_end\n"
            "def on_step_end(self, step, logs):\n"
            "    report(self, step, logs)\n"
            "    if self.model.step == 140:\n"
            "        model = self.model.model\n"
            "        model.set_weights([weights * float('nan') for weights in model.get_weights()])\n"
            "session.TrainingMonitor.on_step_end = on_step_end\n"
        )
        ended = train(tmp_path, *words, patch=breaks)
        assert ended.returncode == 3, ended.stderr
        assert re.search(r"^The training has diverged after .*, and ends\. .* no finite numbers?", ended.stdout, re.M)
        assert "runs/a --learning-rate 0.00025" in ended.stdout
        assert "Not saved" not in ended.stdout
        assert load_policy(tmp_path / "policy.h5").facts["steps"] == 100
        resumed = train(tmp_path, "--resume", "runs/a", "--learning-rate", "0.00025")
        assert resumed.returncode == 0 and "200 of them" in resumed.stdout, resumed.stderr

    def test_whatever_goes_wrong_with_what_accompanies_it_the_policy_is_saved(self, tmp_path):
        breaks = (
            "def wrong(*arguments, **others): raise TypeError('of ours')\n"
            "session.draw_learning_curve = session.GameFilm = wrong\n"
            "session.TensorBoardFile.add_picture = wrong\n"
        )
        ended = train(tmp_path, *WORDS, "--steps", "100", "--evaluations", "1", patch=breaks)
        assert ended.returncode == 0, ended.stderr
        assert "of ours" in ended.stdout and "Traceback" not in ended.stderr
        assert load_policy(tmp_path / "policy.h5").facts["finished"] is True

    def test_killed_while_it_measures_the_machine_it_leaves_no_folder(self, tmp_path):
        die = "from training import measurement\nmeasurement.settle_by_measurement = lambda *_: KILL"
        assert train(tmp_path, "--minutes", "5", patch=die).returncode == -9
        assert list(tmp_path.iterdir()) == []

    def test_two_processes_cannot_train_in_one_folder(self, tmp_path):
        first = Command(tmp_path, "train", *WORDS, "--steps", "100000")
        while not (tmp_path / "runs/a/config.json").exists():
            time.sleep(0.1)
        second = train(tmp_path, "--resume", "runs/a")
        impatient = train(tmp_path, "--resume", "runs/a", "--wait-for-lock", "0.5")
        command = [sys.executable, "-u", str(REPOSITORY / "train.py"), "--resume", "runs/a", "--batch-size", "5"]
        with subprocess.Popen(
            [*command, "--wait-for-lock", "60"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as third:
            assert third.stdout and "waiting up to 1 min" in third.stdout.readline()
            first.process.kill()
            said = third.communicate(timeout=60)[1]
        first.wait()
        assert second.returncode == 2
        assert "Another process is training in runs/a" in second.stderr
        assert "Another process is training in runs/a; waiting up to" in impatient.stdout
        assert impatient.returncode == 2 and "still training in runs/a" in impatient.stderr
        assert third.returncode == 2 and "--batch-size was 8" in said, "the lock became free, and it read the run"
        with filelock.FileLock(tmp_path / "runs/a/.lock").acquire(timeout=0):
            pass  # a killed process leaves no lock behind


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "runs/none"], "give the folder of a run"),
        (["--resume", "--batch-size", "64"], "--batch-size was 32 when runs/a began"),
        (["--resume", "--steps", "10"], "give more, or none"),
        (["--resume", "--minutes", "3"], "--minutes does not go with --resume"),
        (["--resume", "--run", "b"], "--run does not go with --resume"),
        (["--resume", "--preset", "nature"], "--preset does not go with --resume"),
        (["--resume", "runs/broken"], "is not one that train.py wrote"),
        (["--resume", "runs/odd"], "is not one that train.py wrote"),
    ],
)
def test_what_does_not_go_with_resume_is_refused(tmp_path, words, message):
    from config import PRESETS, Config
    from training.run import Run

    run = Run(tmp_path / "runs/a", Config(**PRESETS["smoke"][1]), Path("policy.h5"), 4_000)
    for name in ("broken", "odd", "a"):
        run.folder.with_name(name).mkdir(parents=True)
    (tmp_path / "runs/broken/config.json").write_text("{")
    (tmp_path / "runs/odd/config.json").write_text('{"out": "x.h5", "train_until_step": 5, "steps": "many"}')
    run.write()
    assert message in mistake(tmp_path, "train", *words)


def test_what_was_changed_when_a_run_was_resumed_is_remembered_in_order(tmp_path, monkeypatch):
    from config import PRESETS, Config
    from train import _parse_arguments
    from training.run import Run, resumed_run

    changes = ({"learning_rate": 1e-5, "step": 1400},)
    config = dataclasses.replace(Config(**PRESETS["smoke"][1]), learning_rate=1e-5)
    Run(tmp_path, config, tmp_path / "policy.h5", 4_000, changes).write()
    words = ["--resume", str(tmp_path), "--learning-rate", "1e-4", "--gamma", "0.99"]  # the latter as it was
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    run = resumed_run(_parse_arguments())
    assert (run.config.learning_rate, run.changes) == (1e-4, (*changes, {"learning_rate": 1e-4}))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"out": "x.h5", "train_until_step": 1e999}', id="infinite"),
        pytest.param("[" * 100_000, id="nested"),
        pytest.param('{"out": "x.h5", "train_until_step": -5}', id="negative"),
        pytest.param(f'{{"out": "x.h5", "train_until_step": {10**300}}}', id="steps that are many"),
        pytest.param(f'{{"out": "x.h5", "train_until_step": 5000, "steps": {10**300}}}', id="very many"),
        pytest.param(f'{{"out": "x.h5", "train_until_step": 4000000, "memory_size": {10**300}}}', id="memory"),
        pytest.param('{"out": "x.h5", "train_until_step": true}', id="true"),
        pytest.param('{"out": "a\\u0000b.h5", "train_until_step": 4000000}', id="a null"),
        pytest.param('{"out": "x.h5", "train_until_step": 4000000, "game": "[/x]"}', id="markup"),
        pytest.param(f'{{"out": "x.h5", "train_until_step": 4000000, "game": "{"x" * 50_000}"}}', id="long game"),
        pytest.param(" " * 10**6, id="large"),
        pytest.param(None, id="pipe"),
    ],
)
def test_a_config_from_elsewhere_is_refused_in_a_sentence(tmp_path, monkeypatch, text):
    from keras_h5.files import FileError
    from train import _parse_arguments
    from training.run import resumed_run

    if text is None:
        os.mkfifo(tmp_path / "config.json")
    else:
        (tmp_path / "config.json").write_text(text)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", str(tmp_path)])
    with pytest.raises((UsageError, FileError)) as refusal:
        resumed_run(_parse_arguments())
    assert len(str(refusal.value)) < 600 and "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../elsewhere"])
def test_a_name_that_is_no_folder_in_runs_is_refused(tmp_path, monkeypatch, name):
    from train import _parse_arguments
    from training.run import new_run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", f"--run={name}"])
    with pytest.raises(UsageError, match="plain name"):
        new_run(_parse_arguments())


def test_two_runs_that_nobody_named_get_two_folders_and_one_that_never_began_none(tmp_path, monkeypatch):
    from train import _parse_arguments
    from training.run import new_run, sole_owner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--preset", "smoke"])
    run = new_run(arguments := _parse_arguments())
    with sole_owner(run, arguments) as first, sole_owner(run, arguments) as second:
        first.write()
        assert second.folder == run.folder.with_name(f"{run.folder.name}-2")
        assert second.folder.is_dir()
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / run.folder]


def test_without_any_run_resume_says_so(tmp_path):
    assert "There is no run in runs to resume" in mistake(tmp_path, "train", "--resume")
