"""Prints, as a line of JSON, how fast this machine can multiply matrices and how much of that an agent step needs.

The floating-point operations are those of the Nature CNN's convolutions and matrix products, a multiplication and an
addition counted as two; biases, ReLU, Adam, the replay memory and the emulator are not counted.
"""

import json
import math
import sys
import time
from pathlib import Path

import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1]))
from models.nature_cnn import nature_cnn

REPLAYED_PER_STEP = 8  # transitions learned from per agent step: batch 32 every 4 steps, or 64 every 8
BREAKOUT_ACTIONS = 4
MATRIX_SIZE = 2048
SECONDS = 2.0


def flops_per_second(dtype: tf.DType) -> float:
    """Operations per second of the fastest product of two square matrices within `SECONDS`."""
    matrix = tf.cast(tf.random.normal((MATRIX_SIZE, MATRIX_SIZE)), dtype)
    fastest, end = math.inf, time.perf_counter() + SECONDS
    while (started := time.perf_counter()) < end:
        tf.linalg.matmul(matrix, matrix).numpy()
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * MATRIX_SIZE**3 / fastest


def flops_per_step() -> int:
    """Operations of one agent step: acting on one state, and its share of an update."""
    layers = [layer for layer in nature_cnn(BREAKOUT_ACTIONS).layers if layer.weights]
    # Each output position of a convolution, and the only one of a dense layer, uses every weight of the kernel once.
    forward = [2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1]) for layer in layers]
    backward = 2 * sum(forward) - forward[0]  # by the weights and by the input; nobody needs the first layer's input's
    return sum(forward) + REPLAYED_PER_STEP * (2 * sum(forward) + backward)


if __name__ == "__main__":
    rates = {dtype.name: flops_per_second(dtype) for dtype in (tf.float32, tf.bfloat16)}
    print(json.dumps({"flops_per_step": flops_per_step(), "flops_per_second": rates}))
