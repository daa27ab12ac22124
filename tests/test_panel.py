"""The panel beside the game, looked at pixel by pixel."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from screens.panel import BARS, CHOSEN, MARGIN, OTHERS, PANEL_SIZE, Scene, draw_panel
from screens.picture import draw

NAMES = ["NOOP", "FIRE", "RIGHT", "LEFT"]


def pixels_of(panel, colour):
    """Whether each pixel has the colour, of the part with the bars."""
    return (np.asarray(panel)[slice(*BARS)] == ImageColor.getrgb(colour)).all(-1)


def test_the_frames_are_there_in_16_greys_the_oldest_first():
    state = np.stack([np.full((84, 84), grey, np.uint8) for grey in (0, 80, 160, 255)])
    panel = np.asarray(draw_panel(Scene(NAMES, state)))
    assert [panel[150, MARGIN + 40 + 86 * number].tolist() for number in range(4)] == [
        [grey] * 3 for grey in (0, 85, 153, 255)
    ]


def test_the_chosen_bar_has_its_own_colour_and_a_mark_and_lengths_go_with_the_values():
    panel = draw_panel(Scene(NAMES, q_values=[1.0, 2.0, 4.0, 3.0], action=2))
    chosen, others = pixels_of(panel, CHOSEN), pixels_of(panel, OTHERS)
    assert chosen[:, MARGIN].any()  # the mark
    assert not others[:, MARGIN].any()
    lengths = sorted({int(length) for length in others.sum(1)} - {0})
    longest = chosen[:, MARGIN + 20 :].sum(1).max()
    assert [round(4 * length / longest, 1) for length in lengths] == [1, 2, 3]


@pytest.mark.parametrize("q_values", [[], [0.0] * 18, [-2.0] * 18, np.linspace(-1e6, 1e6, 18)])
def test_any_values_of_as_many_actions_as_there_are_stay_within_it(q_values):
    panel = draw_panel(Scene(["DOWNRIGHTFIRE"] * 18, q_values=q_values, max_q_values=[max(q_values, default=0)] * 150))
    assert panel.size == PANEL_SIZE
    assert len(panel.getcolors() or range(999)) <= 18
    edges = np.asarray(panel)[[0, 479, -1]]
    assert (edges == edges[0, 0]).all()


def test_it_stands_to_the_right_of_the_game():
    panel = draw_panel(Scene(NAMES))
    picture = draw([np.full((250, 160, 3), 200, np.uint8)], panel)
    assert picture.size == (800 + 360, 750)
    assert picture.crop((800, 0, 1160, 630)).tobytes() == panel.tobytes()
    assert picture.crop((0, 0, 800, 750)).getcolors() == [(800 * 750, (200, 200, 200))]
    assert isinstance(picture, Image.Image)
