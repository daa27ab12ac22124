"""The panel beside the game, looked at pixel by pixel."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from screens.panel import BACKGROUND, BARS, CHOSEN, MARGIN, OTHERS, PANEL_SIZE, Scene, draw_panel
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


@pytest.mark.parametrize("offset", [0, 5, -10])
def test_bars_are_leads_over_the_worst_whatever_the_values_and_the_chosen_one_has_a_mark(offset):
    values = [offset + lead for lead in (0.0, 0.1, 0.3, 0.2)]
    panel = draw_panel(Scene(NAMES, q_values=values, action=2, usual_lead=0.6))
    chosen, others = pixels_of(panel, CHOSEN), pixels_of(panel, OTHERS)
    assert chosen[:, MARGIN].any()  # the mark
    assert not others[:, MARGIN].any()
    lengths = sorted({int(length) for length in others.sum(1)} - {0})
    longest = chosen[:, MARGIN + 20 :].sum(1).max()
    assert lengths[0] == 1, "the worst, a line"
    assert [round(3 * length / longest, 1) for length in lengths[1:]] == [1, 2]
    whole = draw_panel(Scene(NAMES, q_values=values, action=2))
    assert pixels_of(whole, CHOSEN)[:, MARGIN + 20 :].sum(1).max() == pytest.approx(2 * longest, abs=2)


@pytest.mark.parametrize("scale", [0.4, 0.67, 1.5, 2.0])
def test_in_another_size_it_keeps_its_places_and_letters_that_can_be_read(scale):
    scene = Scene(NAMES, q_values=[1.0, 2.0, 4.0, 3.0], action=2, max_q_values=[1.0, 2.0], score=348)
    panel = draw_panel(scene, scale)
    assert panel.size == tuple(round(scale * length) for length in PANEL_SIZE)
    assert scene.panel(scale).tobytes() == panel.tobytes()
    rows, columns = np.nonzero((np.asarray(panel) == ImageColor.getrgb(CHOSEN)).all(-1))
    assert rows.min() / scale == pytest.approx(BARS[0] + 22 + 2 * 28, abs=5)
    assert columns.min() / scale == pytest.approx(MARGIN, abs=2)
    heading = np.asarray(panel.convert("L"))[round(92 * scale) : round(113 * scale)]
    assert np.ptp(np.nonzero((heading > BACKGROUND + 40).any(1))[0]) >= 6, "the letters' height"


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
