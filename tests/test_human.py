"""Keys as the joystick of the console."""

import numpy as np
import pytest

from environments.atari import AtariEnvironment
from screens.human import HumanPolicy


@pytest.mark.parametrize(
    ("game", "held", "name"),
    [
        ("breakout", set(), "NOOP"),
        ("breakout", {"left"}, "LEFT"),
        ("breakout", {"space"}, "FIRE"),
        ("breakout", {"right", "space"}, "FIRE"),  # it has no RIGHTFIRE
        ("breakout", {"up"}, "NOOP"),
        ("seaquest", {"up", "right", "space"}, "UPRIGHTFIRE"),
        ("seaquest", {"down", "left"}, "DOWNLEFT"),
        ("seaquest", {"up", "n"}, "UP"),
        ("freeway", {"up", "left"}, "UP"),  # it has no UPLEFT and no LEFT
    ],
)
def test_the_keys_that_are_held_are_the_action(game, held, name):
    names = AtariEnvironment(game=game).get_action_meanings()
    action = HumanPolicy(names, lambda: held).select_action(np.zeros(len(names)))
    assert names[action] == name
