"""What a person sees of a game, drawn as one picture."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from screens.saliency import overlay

FRAMES_PER_SECOND = 60  # of the emulator, as the NTSC console has them

# A television shows the 160 wide pixels of a line on a screen of 4:3. Whole numbers keep every pixel the same size.
PIXEL_SIZE = (5, 3)  # width, height
LUMINANCE = (299, 587, 114)  # thousandths of R, G and B (ITU-R 601)


def picture_size(screen_shape: Sequence[int], panel_size: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """(width, height) in pixels of the picture of a screen whose shape begins with (height, width), and of a panel."""
    width, height = screen_shape[1] * PIXEL_SIZE[0], screen_shape[0] * PIXEL_SIZE[1]
    return width + panel_size[0], max(height, panel_size[1])


def brightest(screens: Iterable[np.ndarray]) -> Image.Image:
    """One picture of screens that follow each other, uint8 (height, width, 3) each, RGB, the newest last.

    Many games draw a sprite on every other frame only. Where a picture stands for two frames, both have to be in it:
    of two pixels the brighter one is taken, as a whole, so that no colour appears that the game does not have.
    """
    *others, screen = screens
    for other in others:
        screen = np.where((other @ LUMINANCE > screen @ LUMINANCE)[..., None], other, screen)
    return Image.fromarray(screen)


def draw(
    screens: Sequence[np.ndarray],
    panel: Image.Image | None = None,
    saliency: np.ndarray | None = None,
    scale: float = 1.0,
) -> Image.Image:
    """The picture of one screen or of several, see `brightest`, with the panel to its right.

    Args:
        screens: uint8 (height, width, 3) each, RGB, the newest last.
        panel: RGB, of any size.
        saliency: float32 (28, 28) in [0, 1], to show in the game.
        scale: of the game; where pixels cannot all be of one size, their edges are smooth.

    Returns:
        An RGB image of `picture_size` if the scale is 1.
    """
    game = brightest(screens)
    if saliency is not None:
        game = overlay(game, saliency)
    width, height = picture_size(screens[-1].shape)
    whole = math.ceil(scale)
    game = game.resize((whole * width, whole * height), Image.Resampling.NEAREST)
    if scale != whole:
        game = game.resize((round(scale * width), round(scale * height)), Image.Resampling.BOX)
    if panel is None:
        return game
    picture = Image.new("RGB", (game.width + panel.width, max(game.height, panel.height)), panel.getpixel((0, 0)))
    picture.paste(game)
    picture.paste(panel, (game.width, 0))
    return picture
