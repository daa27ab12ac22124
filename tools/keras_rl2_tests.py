"""Runs keras-rl2's own tests on Keras 3: with its own agents through the bridge, and with ours in their place.

    python tools/keras_rl2_tests.py            both, and a table
    python tools/keras_rl2_tests.py --of FILE  keras-rl2's source distribution, if it is here already

The tests come with the source distribution, which pip fetches. DDPGAgent and NAFAgent do not run on Keras 3; a test of
theirs counts as refused where it ends in the sentence that says so.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DISTRIBUTION = "keras-rl2==1.0.5"
IMPOSSIBLE = {"test_clone_optimizer": "not on Keras 3, whose SGD takes clipnorm or clipvalue, not both"}
WHOSE = {"stock": "keras-rl2's agent and memory", "ours": "keras_rl.DQNAgent and SequentialMemory"}


def main() -> int:
    """Returns 0 if every test passes or is refused with a sentence, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, metavar="FILE", help=f"the source distribution of {DISTRIBUTION}")
    parser.add_argument("--whose", choices=WHOSE, help="of one only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tests = unpack(arguments.of or fetch(Path(folder)), Path(folder))
        results = {whose: run(tests, whose) for whose in ([arguments.whose] if arguments.whose else WHOSE)}
    names = list(dict.fromkeys(name for outcomes in results.values() for name in outcomes))
    print("| test | " + " | ".join(WHOSE[whose] for whose in results) + " |")
    print("|---|" + "---|" * len(results))
    for name in names:
        print(f"| {name} | " + " | ".join(outcomes.get(name, "missing") for outcomes in results.values()) + " |")
    outcomes = [outcomes.get(name, "missing") for outcomes in results.values() for name in names]
    return 0 if outcomes and set(outcomes) <= {"passed", "refused", *IMPOSSIBLE.values()} else 1


def fetch(folder: Path) -> Path:
    """The source distribution, downloaded by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"]
    subprocess.run([*command, folder, DISTRIBUTION], check=True)
    return next(folder.glob("*.tar.gz"))


def unpack(distribution: Path, folder: Path) -> Path:
    """The folder that holds the package `tests`."""
    with tarfile.open(distribution) as archive:
        members = [member for member in archive.getmembers() if "/tests/" in member.name]
        archive.extractall(folder, members, filter="data")
    return next(folder.glob("*/tests")).parent


def run(folder: Path, whose: str) -> dict[str, str]:
    """The outcome of every test, by name."""
    report = folder / f"{whose}.txt"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tools")]),
        "KERAS_RL2_TESTS": f"{whose} {report}",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "keras_rl2_tests", "-p", "no:cacheprovider", "tests"]
    subprocess.run(command, cwd=folder, env=environment)
    lines = report.read_text().splitlines() if report.exists() else []
    return dict(line.split("\t") for line in lines)


# What follows is the plugin that the tests run with.


def pytest_configure(config: pytest.Config) -> None:
    """Imports the bridge before any test does, and puts our agent and memory in place of keras-rl2's."""
    import keras_rl

    if os.environ["KERAS_RL2_TESTS"].startswith("ours"):
        keras_rl.rl.memory.SequentialMemory = keras_rl.SequentialMemory
        keras_rl.rl.agents.dqn.DQNAgent = keras_rl.DQNAgent


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> None:
    """Notes how a test ended."""
    if call.when != "call":
        return
    outcome = "passed"
    if call.excinfo is not None:
        refused = "does not run on Keras 3" in str(call.excinfo.value)
        outcome = IMPOSSIBLE.get(item.name, "refused" if refused else f"failed: {call.excinfo.typename}")
    with Path(os.environ["KERAS_RL2_TESTS"].split(" ", 1)[1]).open("a") as report:
        report.write(f"{item.nodeid.removeprefix('tests/rl/')}\t{outcome}\n")


if __name__ == "__main__":
    sys.exit(main())
