"""What the network sees and expects, drawn as a panel beside the game."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL_SIZE = (360, 630)  # width, height in pixels, at full size
STEPS_PER_SECOND = 15  # agent steps of four frames
CHART_SECONDS = 10
MARGIN = 9
# Okabe and Ito's colours, which the colour-blind tell apart.
CHOSEN, OTHERS = "#E69F00", "#56B4E9"
BACKGROUND, RULE, LABEL, TEXT = 17, 68, 170, 238  # greys
BARS, CHART = (232, 478), (512, 600)  # top and bottom in pixels
ROW_HEIGHT = 28
SMALLEST_TEXT = 10  # pixels: smaller letters cannot be read, whatever the size of the panel
SMALLEST_LEAD = 0.01  # that a whole bar stands for: what is smaller is noise, and looks it


@dataclass(frozen=True)
class Scene:
    """A moment of a game, as the agent has it before its next action.

    Attributes:
        action_names: of the actions, in the order of the Q-values.
        state: uint8 (4, 84, 84), the oldest frame first.
        q_values: one for each action; empty before the first decision.
        action: number of the action chosen.
        max_q_values: the highest Q-value of each of the last steps, the newest last.
        usual_lead: of the best action over the worst, in nine of ten of the last steps at most: a whole bar.
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
    usual_lead: float = 0.0
    score: float = 0.0
    lives: int | None = None
    num_steps: int = 0
    saliency: np.ndarray | None = None
    _panels: dict[float, Image.Image] = field(default_factory=dict, repr=False, compare=False)

    @property
    def leads(self) -> list[float]:
        """How much better than the worst action each one is: the whole of what decides."""
        return [float(q - min(self.q_values)) for q in self.q_values]

    @property
    def whole_bar(self) -> float:
        """The lead that a whole bar stands for."""
        return max(self.usual_lead, SMALLEST_LEAD, *self.leads, 0.0)

    def panel(self, scale: float = 1.0) -> Image.Image:
        """`draw_panel` of it: that takes longer than all else, and one panel goes with four frames."""
        if scale not in self._panels:
            self._panels[scale] = draw_panel(self, scale)
        return self._panels[scale]


class Pen:
    """Draws on a picture of another size in the coordinates of the full one; letters stay legible."""

    def __init__(self, picture: Image.Image, scale: float) -> None:
        self._pen = ImageDraw.Draw(picture)
        self.scale = scale

    def font(self, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The one that comes with Pillow, `size` pixels high at full size."""
        return _font(max(SMALLEST_TEXT, round(size * self.scale)))

    def width(self, text: str, size: float) -> float:
        """Of a text, at full size."""
        return self._pen.textlength(text, self.font(size)) / self.scale

    def text(self, left: float, top: float, text: str, grey: int, size: float, anchor: str = "la") -> None:
        """Writes; where `left` and `top` are in the text says Pillow's anchor."""
        self._pen.text(self.at(left, top), text, grey, self.font(size), anchor=anchor)

    def rectangle(self, left: float, top: float, right: float, bottom: float, **colours) -> None:
        """Draws a rectangle of at least one pixel."""
        (x0, y0), (x1, y1) = self.at(left, top), self.at(right, bottom)
        self._pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), **colours)

    def polygon(self, *points: tuple[float, float], fill: str) -> None:
        """Fills a polygon."""
        self._pen.polygon([self.at(*point) for point in points], fill)

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Draws a line through the points."""
        self._pen.line([self.at(*point) for point in points], colour, width=max(1, round(2 * self.scale)))

    def at(self, left: float, top: float) -> tuple[int, int]:
        """The pixel."""
        return round(left * self.scale), round(top * self.scale)


def panel_size(scale: float = 1.0) -> tuple[int, int]:
    """(width, height) in pixels of a panel of another size."""
    return round(PANEL_SIZE[0] * scale), round(PANEL_SIZE[1] * scale)


def draw_panel(scene: Scene, scale: float = 1.0) -> Image.Image:
    """An RGB image of `panel_size`, in 16 greys and two colours: a GIF has only 256 for them and the game's."""
    greys = Image.new("L", panel_size(scale), BACKGROUND)
    pen = Pen(greys, scale)
    _write_numbers(pen, scene)
    pen.text(MARGIN, 92, "Network input: four 84 x 84 frames", LABEL, 14)
    for number, frame in enumerate(scene.state):
        left = MARGIN + number * (84 + 2)
        picture, size = Image.fromarray(frame), round(84 * scale)
        greys.paste(picture if scale == 1 else picture.resize((size, size), Image.Resampling.BOX), pen.at(left, 114))
        seconds = (len(scene.state) - 1 - number) / STEPS_PER_SECOND
        pen.text(left + 42, 200, f"-{seconds:.2f} s" if seconds else "now", LABEL, 12, "ma")
    bars = _write_actions(pen, scene)
    curve = _write_chart(pen, scene.max_q_values)

    panel = greys.point([round(grey / 17) * 17 for grey in range(256)]).convert("RGB")
    pen = Pen(panel, scale)
    for number, bar in enumerate(bars):
        pen.rectangle(*bar, fill=CHOSEN if number == scene.action else OTHERS)
        if number == scene.action:  # a mark as well, for those who see no colours
            middle = (bar[1] + bar[3]) / 2
            pen.polygon((MARGIN, middle - 5), (MARGIN, middle + 5), (MARGIN + 8, middle), fill=CHOSEN)
    if len(curve) > 1:
        pen.line(curve, OTHERS)
    return panel


def _write_numbers(pen: Pen, scene: Scene) -> None:
    numbers = {
        "score, points": f"{scene.score:,.0f}",
        "lives": "-" if scene.lives is None else f"{scene.lives}",
        "agent steps": f"{scene.num_steps:,}",
    }
    for left, (label, number) in zip((MARGIN, 140, 240), numbers.items(), strict=True):
        pen.text(left, 12, label, LABEL, 14)
        pen.text(left, 32, number, TEXT, 30)
    if scene.saliency is not None:
        pen.text(MARGIN, 70, "Green: what the highest Q-value depends on most", LABEL, 14)


def _write_actions(pen: Pen, scene: Scene) -> list[tuple[float, float, float, float]]:
    """Writes names and Q-values of the actions; returns the bars: left, top, right, bottom.

    The Q-values of a moment are nearly equal, as all of the future is in each. What decides is how far one is ahead of
    the worst, and that is what a bar shows.
    """
    right = PANEL_SIZE[0] - MARGIN
    row_height = min(ROW_HEIGHT, (BARS[1] - BARS[0] - 22) // max(1, len(scene.action_names)))
    size = min(15, row_height - 2)
    pen.text(MARGIN, BARS[0], f"Lead over the worst, whole bar {scene.whole_bar:.2f}", LABEL, 14)
    pen.text(right, BARS[0], "Q-value", LABEL, 14, "ra")
    bars_left = MARGIN + 14 + max(pen.width(name, size) for name in scene.action_names) + 8
    bars_width = right - 62 - bars_left
    bars: list[tuple[float, float, float, float]] = []
    for number, (name, q_value) in enumerate(zip(scene.action_names, scene.q_values, strict=False)):
        top = BARS[0] + 22 + number * row_height
        pen.text(MARGIN + 14, top + row_height / 2, name, TEXT, size, "lm")
        pen.text(right, top + row_height / 2, f"{q_value:.3f}", TEXT, size, "rm")
        end = bars_left + scene.leads[number] / scene.whole_bar * bars_width
        bars.append((bars_left, top + 2, end, top + row_height - 3))
    return bars


def _write_chart(pen: Pen, values: Sequence[float]) -> list[tuple[float, float]]:
    """Writes the axes of the chart of Q (max), and returns its points."""
    right = PANEL_SIZE[0] - MARGIN
    left, (top, bottom) = MARGIN + 44, CHART
    pen.text(MARGIN, top - 26, f"Highest Q-value (reward to come), last {CHART_SECONDS} s", LABEL, 14)
    pen.rectangle(left, top, right, bottom, outline=RULE)
    pen.text(left, bottom + 5, f"-{CHART_SECONDS} s", LABEL, 12)
    pen.text(right, bottom + 5, "now", LABEL, 12, "ra")
    if not values:
        return []
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01  # never flat
    pen.text(left - 6, top, f"{high:.2f}", LABEL, 12, "rt")
    pen.text(left - 6, bottom, f"{low:.2f}", LABEL, 12, "rb")
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
