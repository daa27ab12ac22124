"""A person in the agent's place."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_rl import rl

# What is held down, in the order in which ALE's names have it: UPRIGHTFIRE.
JOYSTICK = {"up": "UP", "down": "DOWN", "right": "RIGHT", "left": "LEFT", "space": "FIRE"}


class HumanPolicy(rl.policy.Policy):
    """Chooses what the person's keys say, whatever the Q-values are.

    Args:
        action_names: of the game's actions, ALE's, in the order of the Q-values.
        held_keys: names of the keys that are down.
    """

    def __init__(self, action_names: Sequence[str], held_keys: Callable[[], set[str]]) -> None:
        super().__init__()
        self.action_names = list(action_names)
        self.held_keys = held_keys

    def select_action(self, q_values: np.ndarray) -> int:
        held = self.held_keys()
        parts = [name for key, name in JOYSTICK.items() if key in held]
        # A game without UPFIRE gets FIRE; one without it UP.
        for wanted in ("".join(parts), *reversed(parts)):
            if wanted in self.action_names:
                return self.action_names.index(wanted)
        return self.action_names.index("NOOP")
