"""Runs every check of this repository, setting up all that they need: python3 check.py

Makes a virtual environment in .venv, installs requirements-dev.txt into it, then formats, lints, type-checks (all
without changing a file) and tests. Words after the command go to pytest: python3 check.py -m "not slow".
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
ENVIRONMENT = REPOSITORY / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> int:
    """Returns the exit status of the first check that fails, else 0."""
    if sys.version_info < (3, 10):  # noqa: UP036, a person may start this with anything
        print(f"This is Python {sys.version.split()[0]}; 3.10 or newer is needed.", file=sys.stderr)
        return 2
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    for command in (
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements-dev.txt"],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "ruff", "check", "."],
        ["-m", "mypy", "."],
        ["-m", "pytest", *sys.argv[1:]],
    ):
        print("$ python", *command, flush=True)
        status = subprocess.run([PYTHON, *command], cwd=REPOSITORY).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
