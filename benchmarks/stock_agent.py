"""Our agent and memory against keras-rl2's, both through the bridge: agent steps a second of CPU, measured in turn.

    python benchmarks/stock_agent.py --entries 100000 --rounds 5

Both have the settings of keras-rl's Atari example: Breakout, a batch of 32 every 4 steps, float32, one game. A round is
one call of `fit` for each, the memory holding so many entries before. Seconds are those of all threads of the process.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras_rl
from keras_rl import rl
from models.nature_cnn import nature_cnn

STEPS = 400  # of a round; the first 4 are not learned from


class AtariProcessor(rl.core.Processor):
    """keras-rl's example, without the resize, which is the same for both."""

    def process_observation(self, observation):
        """A part of the screen, 84 x 84 bytes."""
        return observation[20:188:2, 38:122, 1].copy()

    def process_state_batch(self, batch):
        """Scales to [0, 1]."""
        return batch.astype("float32") / 255.0

    def process_reward(self, reward):
        """Clips."""
        return np.clip(reward, -1.0, 1.0)


def build(agent, memory, entries: int):
    """A compiled agent whose memory holds as many random observations."""
    dqn = agent(
        model=nature_cnn(4),
        nb_actions=4,
        memory=memory(limit=1_000_000, window_length=4),
        processor=AtariProcessor(),
        policy=rl.policy.EpsGreedyQPolicy(0.1),
        nb_steps_warmup=4,
        target_model_update=10_000,
        train_interval=4,
        delta_clip=1.0,
    )
    dqn.compile(keras.optimizers.Adam(0.00025), metrics=["mae"])
    frame = np.random.default_rng(0).integers(256, size=(84, 84), dtype=np.uint8)
    for number in range(entries):
        frame = np.roll(frame, 1)
        dqn.memory.append(frame, number % 4, 0.0, number % 500 == 499)
    return dqn


def main() -> None:
    """Prints a table of agent steps a second of CPU, and their ratio."""
    import gymnasium

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000, help="in the memory before (default: 100000)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    agents = {
        "ours": build(keras_rl.DQNAgent, keras_rl.SequentialMemory, arguments.entries),
        "stock": build(rl.agents.dqn.DQNAgent, rl.memory.SequentialMemory, arguments.entries),
    }
    print("| round | ours | stock | ratio |\n|---|---|---|---|")
    for number in range(arguments.rounds + 1):
        speeds = {}
        for name, dqn in agents.items():
            env = gymnasium.make("BreakoutDeterministic-v4")
            start = time.process_time()
            dqn.fit(env, nb_steps=STEPS, verbose=0)
            np.asarray(dqn.get_weights()[-1])  # an update may still be running
            speeds[name] = STEPS / (time.process_time() - start)
        if number:  # the first compiles
            print(
                f"| {number} | {speeds['ours']:.1f} | {speeds['stock']:.1f} | {speeds['ours'] / speeds['stock']:.2f} |"
            )


if __name__ == "__main__":
    main()
