"""The house rules that a reader relies on: which way imports go, and that nothing is forgotten."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from commands import REPOSITORY, our_files

# Rooms, from the ground up: each may import from the rooms below it that are named, and from itself.
ALLOWED = {
    "keras_h5": set(),
    "keras_rl": {"keras_h5"},
    "models": {"keras_h5"},
    "processors": {"keras_rl"},
    "environments": set(),
    "console.py": set(),
    "config.py": {"console"},
    "evaluation": {"console", "environments", "keras_rl", "models", "processors"},
    "screens": {"console", "keras_rl"},
    "reports": {"console", "keras_h5", "screens"},
    "training": {
        "config",
        "console",
        "environments",
        "evaluation",
        "keras_h5",
        "keras_rl",
        "models",
        "processors",
        "reports",
        "screens",
    },
    "sweeping": {
        "config",
        "console",
        "environments",
        "evaluation",
        "keras_h5",
        "models",
        "reports",
        "screens",
        "training",
    },
}
COMMANDS = {"train", "play", "evaluate", "sweep", "compare", "check"}
OURS = {Path(place).stem for place in ALLOWED} | COMMANDS


def imported(path):
    """Top-level names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("place", ALLOWED)
def test_imports_go_one_way(place):
    path = REPOSITORY / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files
    for file in files:
        assert set(imported(file)) & OURS <= ALLOWED[place] | {Path(place).stem}, file


def test_the_rooms_have_an_order():
    """No room imports, over whatever way round, from one that imports from it."""
    order = list(ALLOWED)
    for place, below in ALLOWED.items():
        for name in below:
            lower = name if name in ALLOWED else f"{name}.py"
            assert order.index(lower) < order.index(place), (place, name)


def test_every_module_has_a_room():
    rooms = {Path(place).stem for place in ALLOWED} | COMMANDS | {"tests", "tools", "benchmarks", "docs", "examples"}
    files = our_files("*.py")
    assert {file.relative_to(REPOSITORY).parts[0].removesuffix(".py") for file in files} <= rooms


def test_only_one_file_knows_the_backends():
    files = [path.relative_to(REPOSITORY) for path in our_files("*.py")]
    ours = [file for file in files if file.parts[0] not in ("tests", "benchmarks")]
    names = {"tensorflow", "jax", "torch"}
    assert [file.as_posix() for file in ours if names & set(imported(REPOSITORY / file))] == ["keras_rl/backends.py"]


@pytest.mark.parametrize("module", ["keras_h5.layers", "environments.atari", "processors.frames", "models.policy_file"])
def test_what_a_reader_or_a_worker_imports_brings_no_keras(module):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {{'keras', 'tensorflow', 'jax', 'torch'}}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_loop_is_at_most_60_lines():
    tree = ast.parse((REPOSITORY / "keras_rl/agent.py").read_text())
    (loop,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_loop")
    assert len(ast.unparse(loop).splitlines()) <= 60
