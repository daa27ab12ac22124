"""sweep.py as people run it: real Ray, real trainings with tiny settings, and everything killed that can be."""

import contextlib
import csv
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

import psutil
import pytest
from commands import REPOSITORY, run

import console
import sweep
from config import Config
from models.policy_file import load_policy
from sweeping.attempt import Order, attempt, attempts, unlike_machines
from sweeping.plan import Trial, plan
from sweeping.progress import last_row

OPTIONS = [
    *("--preset", "smoke", "--steps", "700", "--num-environments", "2", "--batch-size", "8", "--memory-size", "1000"),
    *("--evaluations", "0"),
]
SWEEP = ["--games", "breakout", "seaquest", "--seeds", "2", "--episodes", "1", "--checkpoint-steps", "100", *OPTIONS]
TRIALS = [f"{game}-seed{seed}" for seed in (0, 1) for game in ("breakout", "seaquest")]


def arguments_of(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["sweep.py", *map(str, words)])
    return sweep._parse_arguments()


class TestAPlan:
    def test_every_combination_is_a_trial_and_the_first_seed_comes_first(self, monkeypatch, tmp_path):
        words = ["--games", "Pong", "ALE/Breakout-v5", "--seeds", "2", "--seed", "5", "--out", tmp_path / "s"]
        words += ["--vary", "learning-rate", "5e-4", "1e-3", "--vary", "double", "on", "off", "--steps", "1000"]
        trials = plan(arguments_of(monkeypatch, *words))
        assert len(trials) == len({trial.folder for trial in trials}) == 16
        assert [trial.config.seed for trial in trials] == [5] * 8 + [6] * 8
        first = trials[0]
        assert first.folder == tmp_path / "s/runs/pong-learning-rate-0.0005-double-on-seed5"
        settings = (first.config.game, first.config.learning_rate, first.config.double, first.config.steps)
        assert settings == ("pong", 5e-4, True, 1000)
        assert {trial.config.precision for trial in trials} == {"float32"}, "no measurement decides"
        assert all(trial.config.background >= 0 for trial in trials), "as in the run's config.json"

    def test_presets_can_be_compared(self, monkeypatch, tmp_path):
        words = ["--games", "pong", "--seeds", "1", "--vary", "preset", "default", "keras-rl", "--out", tmp_path]
        trials = plan(arguments_of(monkeypatch, *words))
        assert [(trial.config.num_environments, trial.protocol.keras_rl_view) for trial in trials] == [
            (32, False),
            (1, True),
        ]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--vary", "learning-rate", "0.1"], "needs at least two values"),
            (["--vary", "learning-rate", "fast", "slow"], "'fast' is not a number"),
            (["--vary", "double", "on", "2"], "'2' is neither on nor off"),
            (["--vary", "seed", "1", "2"], "there is no such option of a training"),
            (["--vary", "gamma", "0.9", "0.90"], "a value twice"),
            (["--vary", "gamma", "0.9", "7"], "--gamma is 7"),
            (["--start-from", "nowhere.h5"], "nowhere.h5"),
        ],
    )
    def test_a_mistake_is_told_before_anything_begins(self, words, message, monkeypatch, tmp_path):
        words = ["--games", "pong", "--out", tmp_path / "s", *words]
        with pytest.raises(ValueError, match=message) as caught:
            plan(arguments_of(monkeypatch, *words))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "s").exists()

    def test_games_and_a_folder_are_needed(self, monkeypatch):
        for words in ([], ["--games", "pong"], ["--out", "x"]):
            with pytest.raises(console.UsageError, match="needs --games and a folder"):
                arguments_of(monkeypatch, *words)
        assert arguments_of(monkeypatch, "--game", "pong", "--out", "x").games == ["pong"]

    def test_a_trial_that_began_otherwise_is_not_gone_on_with(self, monkeypatch, tmp_path):
        words = ["--games", "pong", "--seeds", "1", "--out", tmp_path, "--steps", "1000"]
        (trial,) = plan(arguments_of(monkeypatch, *words))
        trial.folder.mkdir(parents=True)
        facts = {**vars(trial.config), "out": "policy.h5", "train_until_step": 1000}
        (trial.folder / "config.json").write_text(json.dumps(facts))
        assert plan(arguments_of(monkeypatch, *words)) == [trial]
        with pytest.raises(console.UsageError, match=r"began with --batch-size 64, and now it is 32"):
            plan(arguments_of(monkeypatch, *words, "--batch-size", "32"))


def test_the_last_whole_line_of_the_metrics_counts(tmp_path):
    path = tmp_path / "metrics.csv"
    assert last_row(path) == {}
    path.write_text("step,score\n")
    assert last_row(path) == {}
    path.write_text("step,score\n" + "".join(f"{step},{step / 2}\n" for step in range(3000)) + "3000,15")
    assert last_row(path) == {"step": 2999, "score": 1499.5}


def test_machines_that_differ_are_told(tmp_path):
    alike = {"host": "a", "processor": "X", "cores": 1, "versions": {"numpy": "2"}}
    (tmp_path / "attempts.json").write_text(json.dumps([alike, {**alike, "host": "b"}]))
    assert unlike_machines(tmp_path) == ""
    (tmp_path / "attempts.json").write_text(json.dumps([alike, {**alike, "host": "b", "processor": "Y"}]))
    assert unlike_machines(tmp_path) == "moved between machines that differ: a (X), b (Y)"


def test_without_ray_it_says_what_to_install_and_reports_all_the_same(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(REPOSITORY / "sweep.py")]
    words = ["--games", "pong", "--seeds", "1", "--out", "s"]
    process = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 2
    expected = "sweep.py: A sweep needs Ray, which is not installed; install it: python -m pip install -r "
    assert process.stderr == f"{expected}requirements-cluster.txt\n"
    process = subprocess.run([*command, "--report", "s"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.startswith("sweep.py: There is no run in s;")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a symbolic link")
def test_an_attempt_that_fails_says_why(tmp_path):
    config = Config(steps=600, num_environments=2, batch_size=8, precision="float32")
    trial = Trial(tmp_path / "runs/a", config, 1, 0.05)
    order = Order("token", 1, 100, {})
    assert "every machine needs it under this path" in attempt(trial, order).words
    trial.folder.mkdir(parents=True)
    (trial.folder / "checkpoint").symlink_to(tmp_path)
    outcome = attempt(trial, order)
    assert not outcome.is_done and not outcome.is_final
    assert outcome.words.startswith("train.py ended with status 2: train.py: ") and "symbolic link" in outcome.words
    assert "symbolic link" in trial.log.read_text()
    (facts,) = attempts(trial.folder)
    assert (facts["token"], facts["phase"], facts["host"]) == ("token", "ended", socket.gethostname())


# --- With Ray: one sweep whose worker, machine and driver are killed; then a disk that is full.


def environment():
    """Of Ray's processes: with a token of this test's own."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return {**os.environ, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", **token}


TOKEN = secrets.token_hex(32)


@contextlib.contextmanager
def in_background(command, log, **settings):
    """A process and all that it has started, until the end of the block."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, env=environment(), stdout=out, stderr=out, start_new_session=True, **settings
        )
    try:
        yield process
    finally:
        family = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


def ray_node(folder, *words):
    """`ray start`, with one core."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    return in_background([*command, "--node-ip-address=127.0.0.1", *words], folder / "ray.log")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(folder, *words):
    """sweep.py in a folder."""
    command = [sys.executable, str(REPOSITORY / "sweep.py"), "--out", "s", *SWEEP, *words]
    return in_background(command, folder / "sweep.log", cwd=folder)


def trainings(folder):
    """The processes that train in a folder, by the name of their run."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if "leash.py" in line and str(folder) in line:
                found |= {name: process for name in TRIALS if f"{name}/policy.h5" in line}
    return found


def until(condition, seconds=400):
    """Waits until there is something, and returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def newest_checkpoint(folder, name):
    """The step of it, 0 if there is none."""
    checkpoints = (folder / "s/runs" / name / "checkpoint").glob("checkpoint-*.json")
    return max((int(path.stem.removeprefix("checkpoint-")) for path in checkpoints), default=0)


def begun(folder, name, after=0):
    """The process that trains a run, in the middle of it: there is a checkpoint to go on from, and much to do."""
    return trainings(folder).get(name) if after < newest_checkpoint(folder, name) <= 500 else None


@contextlib.contextmanager
def paused(training):
    """It stays where it is during the block, however fast the machine is."""
    training.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            training.resume()


def one_begun(folder):
    """The name and the process of a training that is in the middle."""
    return next(((name, process) for name in TRIALS if (process := begun(folder, name))), None)


def result(run):
    """All that a run has come to, but for times."""
    with open(run / "metrics.csv", newline="") as file:
        rows = [
            {k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in csv.DictReader(file)
        ]
    return {"policy.h5": (run / "policy.h5").read_bytes(), "metrics": rows}


@contextlib.contextmanager
def full_disk(run):
    """A file system of 4 MB there: no room for a policy. Without the right to mount one, a checkpoint that is none."""
    run.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", run]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    checkpoint, aside = run / "checkpoint", run / "aside"
    if not mounted:
        if checkpoint.exists():
            checkpoint.rename(aside)
        checkpoint.symlink_to(run)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", run], check=True)
        else:
            checkpoint.unlink()
            if aside.exists():
                aside.rename(checkpoint)


def evaluations(folder):
    """When each trial that is done was done."""
    paths = {name: folder / f"s/runs/{name}/evaluation.json" for name in TRIALS}
    return {name: path.stat().st_mtime_ns for name, path in paths.items() if path.exists()}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What happened to a sweep of two games and two seeds that was interrupted in every way."""
    pytest.importorskip("ray")
    if sys.platform != "linux":
        pytest.skip("looks for processes as Linux has them")
    folder = tmp_path_factory.mktemp("story")
    story = {"folder": folder}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:  # sockets need short names
        address = f"127.0.0.1:{free_port()}"
        head = ["--head", f"--port={address.split(':')[1]}", f"--temp-dir={short}", "--include-dashboard=false"]
        with ray_node(folder, *head) as first:
            until(lambda: "Ray runtime started" in (folder / "ray.log").read_text())
            with ray_node(folder, f"--address={address}") as second, started(folder, "--address", address) as driver:
                on_first, on_second = _hold_one_on_each(folder, [first, second])
                story["worker"] = _kill(on_first, 0)
                story["node"] = _kill(on_second, 1)
                _, training = until(lambda: evaluations(folder) and one_begun(folder))
                with paused(training):
                    story["trainings"] = list(trainings(folder).values())
                    driver.kill()
                story["orphans"] = psutil.wait_procs(story["trainings"], timeout=200)[1]
    story["done before"] = evaluations(folder)
    victim = story["victim"] = next(name for name in reversed(TRIALS) if name not in story["done before"])
    with full_disk(folder / "s/runs" / victim), started(folder, "--tries", "1") as driver:
        story["status on a full disk"] = driver.wait(1500)
    story["said on a full disk"] = (folder / "sweep.log").read_text()
    step = newest_checkpoint(folder, victim)
    with started(folder) as driver:
        with paused(until(lambda: begun(folder, victim, step))):
            driver.send_signal(signal.SIGINT)
            until(lambda: "Stopping: every training" in (folder / "sweep.log").read_text())
        story["status after Ctrl-C"] = driver.wait(400)
        story["left by Ctrl-C"] = trainings(folder)
    for status in ("status in the end", "status of doing nothing"):
        with started(folder) as driver:
            story[status] = driver.wait(1500)
    story["said"] = (folder / "sweep.log").read_text()
    return story


def _hold_one_on_each(folder, nodes):
    """The names and processes of a training on each node, stopped in the middle of it, so that none ends before."""
    held = {}

    def all_held():
        for name in TRIALS:
            with contextlib.suppress(psutil.NoSuchProcess):
                if training := begun(folder, name):
                    parents = {parent.pid for parent in training.parents()}
                    for node in nodes:
                        if node.pid in parents and node.pid not in held:
                            training.suspend()
                            held[node.pid] = name, training
        return len(held) == len(nodes)

    until(all_held)
    return [held[node.pid] for node in nodes]


def _kill(held, generation):
    """Kills the Ray worker (0) of a training that is held, or its node (1), and lets the training go on."""
    name, training = held
    training.parents()[generation].kill()  # a training's parent is the worker, whose parent is the node
    training.resume()
    gone, _ = psutil.wait_procs([training], timeout=200)
    assert gone, "the training has outlived the process that it belonged to"
    return name


@pytest.mark.slow
@pytest.mark.timeout(3000)
class TestASweepThatIsInterruptedInEveryWay:
    def test_no_training_outlives_the_driver(self, story):
        assert story["trainings"] and story["orphans"] == []

    def test_what_was_done_is_not_done_again(self, story):
        assert story["done before"].items() <= evaluations(story["folder"]).items() and story["done before"]

    def test_a_disk_that_is_full_fails_one_trial_and_the_others_go_on(self, story):
        victim, said = story["victim"], story["said on a full disk"]
        assert story["status on a full disk"] == console.TRIAL_FAILED, said
        assert f"{victim}: failed for good." in said and f"Its log is {story['folder']}/s/runs/{victim}/log.txt" in said
        assert said.count("failed for good") == 1
        assert "Done: 3 of 4 trials. The same command tries those that failed again." in said

    def test_ctrl_c_stops_all_trials_saved(self, story):
        assert story["status after Ctrl-C"] == console.STOPPED, story["said"]
        assert story["left by Ctrl-C"] == {}
        assert "Stopping: every training is saved" in story["said"]
        log = (story["folder"] / "s/runs" / story["victim"] / "log.txt").read_text()
        assert "Stopping: the training is saved as it is now." in log and "Stopped: " in log

    def test_the_same_command_ends_all_and_then_has_nothing_to_do(self, story):
        folder, said = story["folder"], story["said"]
        assert (story["status in the end"], story["status of doing nothing"]) == (console.DONE, console.DONE), said
        assert said.count(" at a time.") == 4, "the last time Ray was not even started"
        assert "Traceback" not in said
        for name in TRIALS:
            report = json.loads((folder / f"s/runs/{name}/evaluation.json").read_text())
            assert len(report["scores"]) == 1 and report["policy_facts"]["steps_of_training"] == 700
        with open(folder / "s/table.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sorted(row["run"] for row in rows) == sorted(TRIALS)
        assert all(row["score"] and row["steps"] == row["of"] == "700" for row in rows)
        assert (folder / "s/report.html").exists() and (folder / "s/curves.png").exists()
        assert not list(folder.rglob("*.tmp"))

    @pytest.mark.parametrize("killed", ["worker", "node"])
    def test_a_trial_whose_worker_or_machine_was_killed_ends_like_an_undisturbed_twin(self, story, killed, tmp_path):
        name = story[killed]
        folder = story["folder"] / "s/runs" / name
        assert "$ python train.py --resume" in (folder / "log.txt").read_text()
        assert len({each["token"] for each in attempts(folder)}) >= 2
        game, seed = name.split("-seed")
        words = ["--game", game, "--seed", seed, "--run", name, "--out", "policy.h5", "--workers", "0", *OPTIONS]
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        assert run(tmp_path, "train", *words, **threads).returncode == 0
        (tmp_path / "policy.h5").rename(tmp_path / "runs" / name / "policy.h5")
        assert result(folder) == result(tmp_path / "runs" / name)
        assert load_policy(folder / "policy.h5").facts["finished"] is True
