"""The grey of a game's background, which the network is to see as 0."""

import numpy as np

from config import Config
from environments.atari import random_play
from processors.frames import small_grey

RANDOM_STEPS = 200


def background(config: Config) -> int:
    """The grey, 0 to 255, that counts as 0: the option's, or the median of all pixels over some steps of random play.

    Where one grey has half of the screen it is the median. Battle Zone has sky, hills and a field of many greys.

    It is always the same for a game. It has an emulator and random numbers of its own, so a training loses none.
    """
    if config.background >= 0:
        return config.background
    pixels = np.zeros(256, np.int64)  # of each grey
    for _, screen, _ in random_play(config.game, RANDOM_STEPS):
        pixels += np.bincount(small_grey(screen).ravel(), minlength=256)
    return int(np.searchsorted(np.cumsum(pixels), pixels.sum() / 2))
