"""Virtual environments for what does not belong into that of this project: peers of a benchmark, other Kerases."""

from __future__ import annotations  # check.py imports this, and tells an older Python that it is too old

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find_python(version: str) -> str:
    """An interpreter of this version, on the PATH or among those of pyenv.

    Raises:
        FileNotFoundError: there is none.
    """
    on_path = shutil.which(f"python{version}")
    # pyenv puts a stand-in on the PATH for every version that it has, switched on or not.
    if on_path and subprocess.run([on_path, "--version"], capture_output=True).returncode == 0:
        return on_path
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for python in root.glob(f"versions/{version}.*/bin/python"):
        return str(python)
    raise FileNotFoundError(f"there is no Python {version} here")


def python_of(folder: Path) -> Path:
    """The Python of the virtual environment in a folder, be it there or not."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(folder: Path, requirements: str, python: str | Path = sys.executable) -> Path:
    """Makes a virtual environment that holds these requirements, if it is not there: whole or not at all.

    Args:
        folder: where it is, or is to be; what else is there is replaced.
        requirements: what pip is to install, separated by white space.
        python: the interpreter that it is for.

    Returns:
        Its own Python.

    Raises:
        subprocess.CalledProcessError: it cannot be made; `stderr` says why.
    """
    done = folder / "installed.txt"
    own_python = python_of(folder)
    if done.exists() and done.read_text() == requirements:
        return own_python
    install = [str(own_python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        venv = [str(python), "-m", "venv", "--clear", str(folder)]
        subprocess.run(venv, check=True, capture_output=True, text=True)
        subprocess.run([*install, *requirements.split()], check=True, capture_output=True, text=True)
        done.write_text(requirements)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return own_python
