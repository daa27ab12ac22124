"""Where the network looks, over the game."""

import numpy as np
from PIL import Image

COLOUR = (0, 158, 115)  # Okabe and Ito's bluish green: few games have it
# From which saliency on the background has what share of it. Few levels: a GIF has 256 colours for all of the picture.
SHARES = ((0.4, 0.3), (0.7, 0.6))


def saliency_map(gradient: np.ndarray) -> np.ndarray:
    """How much each part of the screen matters at one moment (Simonyan et al. 2014, section 3).

    A pixel that would change the highest Q-value much if it were a little brighter is where the network looks. The
    gradient's size is taken, summed over the four frames, and averaged over 3 x 3 pixels: single ones are noise.

    Args:
        gradient: of the highest Q-value of a state, float32 (4, 84, 84).

    Returns:
        float32 (28, 28), at most 1, which the part that matters most has.
    """
    size = np.abs(gradient).sum(axis=0).reshape(28, 3, 28, 3).mean(axis=(1, 3))
    return size / max(size.max(), 1e-12)


def overlay(game: Image.Image, saliency: np.ndarray) -> Image.Image:
    """An RGB picture, outlined and its background tinted where its saliency, float32 (28, 28) in [0, 1], is high.

    The background is the colour that most of the picture has; a ball or a ship on it stays as it is.
    """
    smooth = np.asarray(Image.fromarray(saliency).resize(game.size, Image.Resampling.BILINEAR))
    colours = np.asarray(game).copy()
    packed = colours @ np.array([2**16, 2**8, 1])
    values, counts = np.unique(packed, return_counts=True)
    is_background = packed == values[counts.argmax()]
    background = colours[is_background][0]
    for level, share in SHARES:
        colours[is_background & (smooth >= level)] = np.round(background + share * (np.array(COLOUR) - background))
    colours[_outline(smooth >= SHARES[0][0])] = COLOUR
    return Image.fromarray(colours)


def _outline(area: np.ndarray) -> np.ndarray:
    """The pixels of an area, bool (height, width), that have one outside beside, above or below them."""
    inner = area.copy()
    inner[1:] &= area[:-1]
    inner[:-1] &= area[1:]
    inner[:, 1:] &= area[:, :-1]
    inner[:, :-1] &= area[:, 1:]
    return area & ~inner
