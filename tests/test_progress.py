"""The display of a training in terminals of several widths, in one that cannot move its cursor, and in a log."""

import io
import re
from typing import Any

import pyte
import pytest
from rich.console import Console

from screens.status import Status
from training.monitor import Snapshot
from training.progress import ProgressDisplay

SNAPSHOT = Snapshot(
    step=498_500,
    seconds=844.0,
    steps_per_second=612.3,
    episodes=1_204,
    score=12.3,
    best_score=48.0,
    evaluation=17.1,
    epsilon=0.123,
    loss=0.0123,
    mean_q=1.234,
)


def terminal(columns, rows=24, **options: Any) -> Any:
    return Console(file=io.StringIO(), width=columns, height=rows, **{"force_terminal": True, **options})


def seen(console: Any):
    """The lines on the screen."""
    screen = pyte.Screen(console.width, console.height)
    pyte.Stream(screen).feed(console.file.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.mark.parametrize(("columns", "rows"), [(40, 24), (60, 24), (80, 24), (120, 30), (40, 6), (26, 10)])
def test_what_matters_most_is_there_whole_and_nothing_is_cut(columns, rows):
    console = terminal(columns, rows)
    with ProgressDisplay(4_000_000, console) as display:
        display(SNAPSHOT)
    text = "\n".join(seen(console))
    assert "12.5%" in text
    assert "…" not in text or columns < 30
    assert re.search(r"score +12\.3, last 100", text)
    wanted = {"evaluation": "17.1", "left": "1 h 35 min", "epsilon": "0.123"}
    for name, value in wanted.items() if rows > 6 else ():
        assert re.search(rf"{name} +{re.escape(value)}", text) or columns < 30, name
    assert ("mean Q" in text) == (columns >= 80)
    assert len(seen(console)) <= min(7, rows)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = terminal(80)
    with ProgressDisplay(4_000_000, console, seconds_between_lines=0) as display:
        display(SNAPSHOT)
        display(SNAPSHOT)
    lines = console.file.getvalue().splitlines()
    assert [line[:24] for line in lines] == ["Starting ...", "  498,500/4,000,000  12.", "  498,500/4,000,000  12."]
    assert "evaluation 17.1" in lines[1]


def test_in_a_log_a_line_comes_now_and_then_and_at_the_end():
    console: Any = Console(file=io.StringIO(), width=80)
    with ProgressDisplay(498_501, console, seconds_between_lines=1e9) as display:
        for step in (498_000, 498_500, 498_501):
            display(Snapshot(**{**vars(SNAPSHOT), "step": step}))
    assert [line[:9] for line in console.file.getvalue().splitlines()] == ["498,000/4", "498,501/4"]


def test_a_few_steps_without_an_update_before_a_stop_are_no_speed():
    """The rest of that interval was an evaluation that somebody broke off."""
    console: Any = Console(file=io.StringIO(), width=80)
    stopped = {"step": 498_504, "steps_per_second": 0.04, "loss": float("nan")}
    with ProgressDisplay(4_000_000, console, seconds_between_lines=0) as display:
        display(SNAPSHOT)
        display(Snapshot(**{**vars(SNAPSHOT), **stopped}))
    assert "612 steps/s  left 1 h 35 min" in console.file.getvalue().splitlines()[-1]


def test_a_terminal_that_becomes_narrower_keeps_nothing_of_what_was_drawn_before():
    """It breaks a line of 70 in two when it is 40 wide: one more row has to be erased."""
    console = terminal(80)
    with Status(console, 0) as status:
        status.update("x" * 70)
        console.file = io.StringIO()
        console.size = (40, 24)
        status.update("y" * 30)
        assert console.file.getvalue().count("\x1b[1A") == 1
        console.file = io.StringIO()
        status.update("z" * 30)
        assert "\x1b[1A" not in console.file.getvalue()


def test_an_evaluation_says_how_far_it_is_below_numbers_that_stay():
    console = terminal(80)
    with ProgressDisplay(4_000_000, console) as display:
        display.say_meanwhile("Evaluation 1 of 10: 0 of 16 games over, 20 steps")
        assert seen(console)[-1].startswith("Evaluation 1 of 10")
        display(SNAPSHOT)
        display.say_meanwhile("Evaluation 1 of 10: 5 of 16 games over, 9,200 steps")
        lines = seen(console)
        assert "score" in "".join(lines) and lines[-1] == "Evaluation 1 of 10: 5 of 16 games over, 9,200 steps"
        display(SNAPSHOT)
    assert "Evaluation 1 of 10" not in "".join(seen(console))
