"""The house rules that a reader relies on: which way imports go, and that nothing is forgotten."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Each place may import from the places named. keras_rl is keras-rl2 made to work, so it counts as a library.
ALLOWED = {
    "files.py": set(),
    "models": {"models", "files"},
    "environments": {"environments"},
    "keras_rl.py": {"models"},
    "processors": {"processors", "keras_rl"},
    "memory": {"memory", "keras_rl"},
    "agents": {"agents", "memory", "models", "keras_rl"},
    "callbacks": {"callbacks", "files", "keras_rl"},
    "screens": {"screens", "files", "keras_rl"},
    "config.py": {"console", "files"},
    "training.py": {
        "agents",
        "callbacks",
        "config",
        "console",
        "environments",
        "files",
        "models",
        "playing",
        "screens",
    },
    "playing.py": {"agents", "console", "environments", "keras_rl", "memory", "models", "processors"},
    "measurement.py": {"environments", "keras_rl", "memory", "models", "processors"},
    "console.py": set(),
    "virtual_environment.py": set(),
}
OURS = {Path(place).stem for place in ALLOWED} | {"train", "play", "evaluate"}


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
        assert set(imported(file)) & OURS <= ALLOWED[place], file


def test_only_the_learner_knows_tensorflow():
    files = [path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*.py")]
    ours = [file for file in files if not re.search(r"(^|/)(\.venv|tests/|benchmarks/)", file.as_posix())]
    assert [file.as_posix() for file in ours if "tensorflow" in set(imported(REPOSITORY / file))] == [
        "agents/learner.py"
    ]


def test_the_loop_is_at_most_60_lines():
    tree = ast.parse((REPOSITORY / "agents/dqn.py").read_text())
    (loop,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_play")
    assert len(ast.unparse(loop).splitlines()) <= 60
