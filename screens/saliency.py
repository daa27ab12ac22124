"""Where the network looks, over the game."""

import numpy as np
from PIL import Image, ImageFilter

COLOUR = (0, 158, 115)  # Okabe and Ito's bluish green: few games have it
LEVELS = 4  # of it, the lowest being none: a GIF has 256 colours for all of them and the game's
DECAY = 0.98  # a step: what is bright is so compared with the last seconds, and not with this moment alone


class Saliency:
    """Maps from the gradient of the highest Q-value (Simonyan et al. 2014, section 3), one a step.

    A pixel that would change the value much if it were a little brighter is where the network looks. The gradient's
    size is taken, summed over the four frames and smoothed over some two pixels.
    """

    def __init__(self) -> None:
        self._highest = 0.0

    def map(self, gradient: np.ndarray) -> np.ndarray:
        """From the gradient of a state, float32 (4, 84, 84), to float32 (84, 84) in [0, 1]."""
        size = np.abs(gradient).sum(axis=0)
        smooth = np.asarray(Image.fromarray(size.astype(np.float32)).filter(ImageFilter.GaussianBlur(2)))
        self._highest = max(DECAY * self._highest, float(smooth.max()), 1e-12)
        return smooth / self._highest


def overlay(screen: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """Tints an RGB screen, uint8 (height, width, 3), where its saliency, (84, 84) in [0, 1], is high."""
    size = screen.shape[1], screen.shape[0]
    smooth = np.asarray(Image.fromarray(saliency).resize(size, Image.Resampling.BILINEAR))[..., None]
    share = np.minimum(np.floor(LEVELS * smooth), LEVELS - 1) / LEVELS
    return np.round(screen + share * (np.array(COLOUR) - screen)).astype(np.uint8)
