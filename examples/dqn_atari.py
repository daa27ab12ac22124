"""keras-rl's examples/dqn_atari.py, line by line, on Keras 3 and Gymnasium.

    python examples/dqn_atari.py                             train as keras-rl did: 1,750,000 steps, hours
    python examples/dqn_atari.py --steps 4000 --episodes 1   a minute, to see that it runs
    python examples/dqn_atari.py --mode test                 play with the weights that a training wrote

The comments that begin with "was:" show what keras-rl's file has in that place. Everything else is as it was there.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed after `pip install .`
import keras_rl  # noqa: F401  # isort: skip  # new: before anything of rl

import gymnasium as gym  # was: import gym
import keras  # was: import keras.backend as K
import numpy as np
from keras.layers import Activation, Convolution2D, Dense, Flatten, Permute
from keras.models import Sequential
from keras.optimizers import Adam
from PIL import Image
from rl.callbacks import FileLogger, ModelIntervalCheckpoint
from rl.core import Processor
from rl.policy import EpsGreedyQPolicy, LinearAnnealedPolicy

from keras_rl import DQNAgent, SequentialMemory  # was: from rl.agents.dqn, from rl.memory

INPUT_SHAPE = (84, 84)
WINDOW_LENGTH = 4


class AtariProcessor(Processor):
    """Frames become 84 x 84 grey bytes, states floats in [0, 1], rewards lie in [-1, 1]."""

    def process_observation(self, observation):
        """Shrinks an RGB frame."""
        img = Image.fromarray(observation)
        img = img.resize(INPUT_SHAPE).convert("L")
        return np.array(img).astype("uint8")

    def process_state_batch(self, batch):
        """Scales here, and not above: the memory keeps bytes."""
        return batch.astype("float32") / 255.0

    def process_reward(self, reward):
        """Clips."""
        return np.clip(reward, -1.0, 1.0)


parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["train", "test"], default="train")
parser.add_argument("--env-name", type=str, default="BreakoutDeterministic-v4")
parser.add_argument("--weights", type=str, default=None)
parser.add_argument("--steps", type=int, default=1_750_000)  # new
parser.add_argument("--episodes", type=int, default=10)  # new
args = parser.parse_args()

# The environment.
env = gym.make(args.env_name)
np.random.seed(123)
keras.utils.set_random_seed(123)  # new: the weights do not come from NumPy any more
env.seed(123)  # type: ignore[attr-defined]
nb_actions = env.action_space.n  # type: ignore[attr-defined]

# The network of Mnih et al. (2015).
model = Sequential()
model.add(keras.Input((WINDOW_LENGTH, *INPUT_SHAPE)))  # was: input_shape=... of the first layer
model.add(Permute((2, 3, 1)))
model.add(Convolution2D(32, (8, 8), strides=(4, 4)))
model.add(Activation("relu"))
model.add(Convolution2D(64, (4, 4), strides=(2, 2)))
model.add(Activation("relu"))
model.add(Convolution2D(64, (3, 3), strides=(1, 1)))
model.add(Activation("relu"))
model.add(Flatten())
model.add(Dense(512))
model.add(Activation("relu"))
model.add(Dense(nb_actions))
model.add(Activation("linear"))
model.summary()  # was: print(model.summary())

# Memory, processor, policy and agent.
memory = SequentialMemory(limit=1_000_000, window_length=WINDOW_LENGTH)
processor = AtariProcessor()
policy = LinearAnnealedPolicy(
    EpsGreedyQPolicy(), attr="eps", value_max=1.0, value_min=0.1, value_test=0.05, nb_steps=1_000_000
)
dqn = DQNAgent(
    model=model,
    nb_actions=nb_actions,
    policy=policy,
    test_policy=policy,  # new: with value_test, or a beginner that never presses FIRE would play for half an hour
    memory=memory,
    processor=processor,
    nb_steps_warmup=min(50_000, args.steps // 5),  # was: 50000; a short training is to learn, too
    gamma=0.99,
    target_model_update=10_000,
    train_interval=4,
    delta_clip=1.0,
)
dqn.compile(Adam(learning_rate=0.00025), metrics=["mae"])  # was: lr=

name = args.env_name
weights_filename = args.weights or f"dqn_{name}_weights.h5f"
if args.mode == "train":
    callbacks = [ModelIntervalCheckpoint(f"dqn_{name}_weights_{{step}}.h5f", interval=250_000)]
    callbacks += [FileLogger(f"dqn_{name}_log.json", interval=100)]
    dqn.fit(env, callbacks=callbacks, nb_steps=args.steps, log_interval=10_000)
    dqn.save_weights(weights_filename, overwrite=True)
    dqn.test(env, nb_episodes=args.episodes, visualize=False)
else:
    dqn.load_weights(weights_filename)
    dqn.test(env, nb_episodes=args.episodes, visualize=False)  # was: True
