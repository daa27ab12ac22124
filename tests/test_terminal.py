"""The game in characters: every one of them looked at."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from screens.panel import Scene
from screens.terminal import HalfBlocks, NoTerminalError, Terminal


def terminal(columns=80, rows=24, **options: Any):
    options = {"force_terminal": True, "color_system": "truecolor", **options}
    return Console(file=io.StringIO(), width=columns, height=rows, **options)


def test_a_character_is_two_pixels_and_equal_neighbours_are_one_run():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    pixels[2:4, 3:7] = 7
    console = terminal()
    lines = list(console.render_lines(HalfBlocks(pixels), pad=False))
    assert len(lines) == 3
    for number, line in enumerate(lines):
        cells = [segment.style for segment in line for _ in segment.text]
        assert set("".join(segment.text for segment in line)) == {"▀"}
        assert [tuple(style.color.triplet) for style in cells] == [tuple(p) for p in pixels[2 * number].tolist()]
        assert [tuple(style.bgcolor.triplet) for style in cells] == [tuple(p) for p in pixels[2 * number + 1].tolist()]
    assert [len(line) for line in lines] == [9, 6, 9]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (48, 16), (200, 50), (60, 80)])
def test_it_fits_with_the_title_and_the_cursor_beneath(columns, rows):
    viewer = Terminal(terminal(columns, rows))
    scene = Scene(["NOOP", "FIRE", "RIGHT", "LEFT"], q_values=[1.0, 2.0, -3.0, 0.5], action=1, score=12, lives=3)
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, 3), np.uint8)
    lines = viewer._console.render_lines(viewer.draw([screen], scene), pad=False)
    text = ["".join(segment.text for segment in line) for line in lines]
    viewer.close()
    assert len(text) <= rows - 2
    assert max(map(len, text)) <= columns
    blocks = sum(line.count("▀") for line in text)
    assert blocks > 0.3 * columns * rows or rows > columns or columns > 3 * rows
    if columns >= 80:
        whole = "\n".join(text)
        assert "score" in whole
        assert "12" in whole
        assert "▶" in next(line for line in text if "FIRE" in line)
        assert "-3.00" in whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"force_terminal": False}, "needs a terminal with colours; record the games with --record"),
        ({"color_system": None}, "needs a terminal with colours"),
        ({"columns": 40}, "has 40 columns and 24 rows; --terminal needs at least 48 and 16"),
        ({"rows": 10}, "has 80 columns and 10 rows"),
    ],
)
def test_where_it_cannot_be_seen_it_says_what_to_do(options, words):
    with pytest.raises(NoTerminalError, match=words):
        Terminal(terminal(**options))
