"""Runs every check of this repository, setting up all that they need: python3 check.py

Makes a virtual environment in .venv, installs requirements-dev.txt into it, then formats, lints, type-checks (all
without changing a file) and tests. Words after the command go to pytest: python3 check.py -m "not slow".

    python3 check.py --oldest    tests only, in .venv-oldest: the oldest versions that requirements.txt allows, on the
                                 oldest Python, if there is a Python 3.10 here
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

from tools import virtual_environment

REPOSITORY = Path(__file__).resolve().parent
OLDEST_PYTHON = "3.10"
CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy", "."])


def main() -> int:
    """Returns the exit status of the first check that fails, else 0."""
    if sys.version_info < (3, 10):  # noqa: UP036, a person may start this with anything
        print(f"This is Python {sys.version.split()[0]}; 3.10 or newer is needed.", file=sys.stderr)
        return 2
    words = sys.argv[1:]
    oldest = words[:1] == ["--oldest"]
    folder = REPOSITORY / (".venv-oldest" if oldest else ".venv")
    python = virtual_environment.python_of(folder)
    if not python.exists():
        make_environment(folder, oldest)
    install = ["pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements-dev.txt"]
    if oldest:
        constraints = folder / "oldest.txt"
        constraints.write_text(oldest_versions((REPOSITORY / "requirements.txt").read_text()))
        install += ["-c", str(constraints)]
    for command in (install, *(() if oldest else CHECKS), ["pytest", *words[oldest:]]):
        print("$ python -m", *command, flush=True)
        status = subprocess.run([python, "-m", *command], cwd=REPOSITORY).returncode
        if status:
            return status
    return 0


def make_environment(folder: Path, oldest: bool) -> None:
    """An empty virtual environment, of the oldest Python if it is to be and there is one."""
    if oldest:
        try:
            subprocess.run([virtual_environment.find_python(OLDEST_PYTHON), "-m", "venv", folder], check=True)
            return
        except FileNotFoundError as error:
            print(f"{error}; going on with {sys.version.split()[0]}.")
    venv.create(folder, with_pip=True)


def oldest_versions(requirements: str) -> str:
    """Constraints for pip: every requirement in the lowest version that it allows."""
    return "\n".join(f"{n}=={v}" for n, v in re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirements, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
