"""What is different on Windows and macOS, as far as Linux can pretend to be them."""

import ast
import os

import pytest
from commands import REPOSITORY, our_files
from rich.console import Console

from keras_h5 import files
from screens.terminal import NoTerminalError, Terminal

PROGRAMS = [path for path in our_files("*.py") if path.relative_to(REPOSITORY).parts[0] not in ("tests", "benchmarks")]
UNIX_MODULES = {
    "crypt",
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}
UNIX_NAMES = {"fork", "getuid", "killpg", "mkfifo", "setsid", "uname", "alarm", "setitimer", "pause"}
UNIX_SIGNALS = {"SIGKILL", "SIGALRM", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTSTP"}


def names_in(path):
    """Modules imported, and attributes of modules called os or signal."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("os", "signal"):
            yield node.attr


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_nothing_needs_what_only_unix_has(path):
    assert not set(names_in(path)) & (UNIX_MODULES | UNIX_NAMES | UNIX_SIGNALS)


def test_a_terminal_without_block_characters_is_refused_in_a_sentence(tmp_path):
    with open(tmp_path / "screen", "w", encoding="cp1252") as screen:
        console = Console(file=screen, force_terminal=True, color_system="256", width=100, height=40)
        with pytest.raises(NoTerminalError, match="cp1252"):
            Terminal(console)


def test_a_file_that_another_program_has_open_stays_as_it_is(tmp_path, monkeypatch):
    """Windows does not replace it."""

    def replace(*_):
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    (tmp_path / "policy.h5").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="being used by another process"):
        files.write(tmp_path / "policy.h5", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["policy.h5"]
    assert (tmp_path / "policy.h5").read_bytes() == b"old"
