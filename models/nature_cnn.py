"""The Q-network of Mnih et al. (2015), "Human-level control through deep reinforcement learning", Methods."""

from functools import partial

import keras
from keras import layers


def nature_cnn(
    nb_actions: int,
    *,
    window_length: int = 4,
    input_size: tuple[int, int] = (84, 84),
) -> keras.Sequential:
    """Builds the network that looks at the last frames of a game and values every action.

    Source: Mnih et al. 2015, Methods, "Model architecture". The layer names are part of policy.h5.

    Args:
        nb_actions: number of actions of the game, at least 1.
        window_length: number of frames in one state.
        input_size: (height, width) of a frame in pixels, at least 36 each.

    Input shape:
        (batch, window_length, height, width) float32 in [0, 1], oldest frame first.

    Output shape:
        (batch, nb_actions) Q-values, unbounded.

    Raises:
        ValueError: the frames are too small for the three convolutions.

    Example:

    ```python
    model = nature_cnn(nb_actions=4)
    q_values = model.predict(states)  # (batch, 4, 84, 84) -> (batch, 4)
    ```
    """
    if min(input_size) < 36:
        raise ValueError(
            f"Frames of {input_size} pixels are too small for the convolutions; expected at least (36, 36): "
            "resize them to (84, 84), as in the paper."
        )
    # Spelled out, so that a keras.json that says channels_first or float64 does not change what the weights mean.
    convolution = partial(layers.Conv2D, activation="relu", data_format="channels_last", dtype="float32")
    dense = partial(layers.Dense, dtype="float32")
    return keras.Sequential(
        [
            keras.Input((window_length, *input_size), dtype="float32", name="frames"),  # (4, 84, 84)
            layers.Permute(
                (2, 3, 1), dtype="float32", name="frames_last"
            ),  # (84, 84, 4): frames take the place of colours
            convolution(32, kernel_size=8, strides=4, name="conv1"),  # (20, 20, 32)
            convolution(64, kernel_size=4, strides=2, name="conv2"),  # (9, 9, 64)
            convolution(64, kernel_size=3, strides=1, name="conv3"),  # (7, 7, 64)
            layers.Flatten(data_format="channels_last", dtype="float32", name="flatten"),  # (3136,)
            dense(512, activation="relu", name="hidden"),
            dense(nb_actions, activation="linear", name="q_values"),
        ],
        name="nature_cnn",
    )
