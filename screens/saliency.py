"""Where the network looks, over the game."""

import numpy as np
from PIL import Image

COLOUR = (0, 158, 115)  # Okabe and Ito's bluish green: few games have it
LEVELS = 4  # of it, the lowest being none: a GIF has 256 colours for all of them and the game's


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
    """An RGB picture tinted where its saliency, float32 (28, 28) in [0, 1], is high."""
    smooth = np.asarray(Image.fromarray(saliency).resize(game.size, Image.Resampling.BILINEAR))[..., None]
    share = np.minimum(np.floor(LEVELS * smooth), LEVELS - 1) / LEVELS
    colours = np.asarray(game, np.float32)
    return Image.fromarray(np.round(colours + share * (np.array(COLOUR) - colours)).astype(np.uint8))
