"""What the network sees and expects, drawn as a panel beside the game."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL_SIZE = (360, 630)  # width, height in pixels
STEPS_PER_SECOND = 15  # agent steps of four frames
CHART_SECONDS = 10
MARGIN = 9
# Okabe and Ito's colours, which the colour-blind tell apart.
CHOSEN, OTHERS = "#E69F00", "#56B4E9"
BACKGROUND, RULE, LABEL, TEXT = 17, 68, 170, 238  # greys
BARS, CHART = (232, 478), (512, 600)  # top and bottom in pixels
ROW_HEIGHT = 28


@dataclass(frozen=True)
class Scene:
    """A moment of a game, as the agent has it before its next action.

    Attributes:
        action_names: of the actions, in the order of the Q-values.
        state: uint8 (4, 84, 84), the oldest frame first.
        q_values: one for each action; empty before the first decision.
        action: number of the action chosen.
        max_q_values: the highest Q-value of each of the last steps, the newest last.
        score: raw score in points.
        lives: that are left; None in a game without lives.
        num_steps: agent steps so far.
        saliency: float32 (28, 28) from 0 to 1, how much each part of the screen matters to the network, see
            `screens.saliency`; None if nobody asked.
    """

    action_names: Sequence[str]
    state: np.ndarray = field(default_factory=lambda: np.zeros((4, 84, 84), np.uint8))
    q_values: np.ndarray | Sequence[float] = ()
    action: int = 0
    max_q_values: Sequence[float] = ()
    score: float = 0.0
    lives: int | None = None
    num_steps: int = 0
    saliency: np.ndarray | None = None

    @functools.cached_property
    def panel(self) -> Image.Image:
        """`draw_panel` of it: that takes longer than all else, and one panel goes with four frames."""
        return draw_panel(self)


def draw_panel(scene: Scene) -> Image.Image:
    """An RGB image of `PANEL_SIZE`, in 16 greys and two colours: a GIF has only 256 for them and the game's."""
    greys = Image.new("L", PANEL_SIZE, BACKGROUND)
    pen = ImageDraw.Draw(greys)
    right = PANEL_SIZE[0] - MARGIN
    _write_numbers(pen, scene)
    pen.text((MARGIN, 92), "Network input: four 84 x 84 frames", LABEL, _font(14))
    for number, frame in enumerate(scene.state):
        left = MARGIN + number * (84 + 2)
        greys.paste(Image.fromarray(frame), (left, 114))
        seconds = (len(scene.state) - 1 - number) / STEPS_PER_SECOND
        pen.text((left + 42, 200), f"-{seconds:.2f} s" if seconds else "now", LABEL, _font(12), anchor="ma")

    low, high = min(0.0, *scene.q_values, 0.0), max(1e-6, *scene.q_values, 0.0)
    row_height = min(ROW_HEIGHT, (BARS[1] - BARS[0] - 22) // max(1, len(scene.action_names)))
    font = _font(min(15, row_height - 2))
    name_width = max(pen.textlength(name, font) for name in scene.action_names)
    bars_left, bars_right = MARGIN + 14 + name_width + 8, right - 62
    zero = bars_left - low / (high - low) * (bars_right - bars_left)
    pen.text((MARGIN, BARS[0]), "Q-values: reward to come, discounted", LABEL, _font(14))
    bars = []
    for number, (name, q_value) in enumerate(zip(scene.action_names, scene.q_values, strict=False)):
        top = BARS[0] + 22 + number * row_height
        middle = top + row_height / 2
        pen.text((MARGIN + 14, middle), name, TEXT, font, anchor="lm")
        pen.text((right, middle), f"{q_value:.3f}", TEXT, font, anchor="rm")
        end = zero + q_value / (high - low) * (bars_right - bars_left)
        bars.append((min(zero, end), top + 2, max(zero, end), top + row_height - 3))

    curve = _write_chart(pen, scene.max_q_values)
    panel = greys.point([round(grey / 17) * 17 for grey in range(256)]).convert("RGB")
    pen = ImageDraw.Draw(panel)
    for number, bar in enumerate(bars):
        pen.rectangle(bar, CHOSEN if number == scene.action else OTHERS)
        if number == scene.action:  # a mark as well, for those who see no colours
            middle = (bar[1] + bar[3]) / 2
            pen.polygon([(MARGIN, middle - 5), (MARGIN, middle + 5), (MARGIN + 8, middle)], CHOSEN)
    if len(curve) > 1:
        pen.line(curve, OTHERS, width=2)
    return panel


def _write_numbers(pen: ImageDraw.ImageDraw, scene: Scene) -> None:
    numbers = {
        "score, points": f"{scene.score:,.0f}",
        "lives": "-" if scene.lives is None else f"{scene.lives}",
        "agent steps": f"{scene.num_steps:,}",
    }
    for left, (label, number) in zip((MARGIN, 140, 240), numbers.items(), strict=True):
        pen.text((left, 12), label, LABEL, _font(14))
        pen.text((left, 32), number, TEXT, _font(30))


def _write_chart(pen: ImageDraw.ImageDraw, values: Sequence[float]) -> list[tuple[float, float]]:
    """Writes the axes of the chart of Q (max), and returns its points in pixels."""
    right = PANEL_SIZE[0] - MARGIN
    left, (top, bottom) = MARGIN + 44, CHART
    pen.text((MARGIN, top - 26), f"Highest Q-value, last {CHART_SECONDS} s", LABEL, _font(14))
    pen.rectangle((left, top, right, bottom), outline=RULE)
    pen.text((left, bottom + 5), f"-{CHART_SECONDS} s", LABEL, _font(12))
    pen.text((right, bottom + 5), "now", LABEL, _font(12), anchor="ra")
    if not values:
        return []
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01  # never flat
    pen.text((left - 6, top), f"{high:.2f}", LABEL, _font(12), anchor="rt")
    pen.text((left - 6, bottom), f"{low:.2f}", LABEL, _font(12), anchor="rb")
    last = CHART_SECONDS * STEPS_PER_SECOND - 1
    return [
        (
            right - 1 - age / last * (right - left - 2),
            bottom - 2 - (value - low) / (high - low) * (bottom - top - 4),
        )
        for age, value in enumerate(reversed(values))
    ]


_fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that comes with Pillow; `size` in pixels."""
    if size not in _fonts:
        _fonts[size] = ImageFont.load_default(size)
    return _fonts[size]
