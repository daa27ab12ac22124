"""CleanRL's dqn_atari.py: its hyper-parameters, and its wrappers and replay buffer, those of Stable-Baselines3.

The package on the registry, cleanrl 0.4.8 of 2021, holds a script for the old `gym`, so the loop is written anew here,
in CleanRL's order: act, step, store, learn, sync. Changed for the measurement: `learning_starts`, and exploration
at its final rate from the start. Left out: TensorBoard.
"""

import random
from typing import Any

import ale_py
import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from measuring import WARMUP_STEPS, Stopwatch, parser, report
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

PACKAGES = ("torch", "stable-baselines3", "numpy", "gymnasium", "ale-py", "opencv-python-headless")
LEARNING_RATE = 1e-4
GAMMA = 0.99
EPSILON = 0.01
BATCH_SIZE = 32
TRAIN_FREQUENCY = 4
TARGET_NETWORK_FREQUENCY = 1_000
BUFFER_SIZE = 1_000_000


def make_environment() -> gymnasium.Env:
    """The game behind CleanRL's wrappers: (4, 84, 84) uint8, rewards clipped, a lost life ends the episode."""
    env: Any = wrappers.RecordEpisodeStatistics(gymnasium.make("BreakoutNoFrameskip-v4"))
    env = atari_wrappers.MaxAndSkipEnv(atari_wrappers.NoopResetEnv(env, noop_max=30), skip=4)
    env = atari_wrappers.FireResetEnv(atari_wrappers.EpisodicLifeEnv(env))
    env = wrappers.ResizeObservation(atari_wrappers.ClipRewardEnv(env), (84, 84))
    return wrappers.FrameStackObservation(wrappers.GrayscaleObservation(env), 4)


def make_network() -> nn.Sequential:
    """The Nature CNN: states scaled to [0, 1] -> Q-values of Breakout's four actions."""
    convolutions = (nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3))
    return nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 4))


def make_buffer(envs: SyncVectorEnv) -> ReplayBuffer:
    """CleanRL's million states of four frames are 28 GB of address space; half as many where that is refused."""
    size = BUFFER_SIZE
    while True:
        try:
            spaces = envs.single_observation_space, envs.single_action_space
            return ReplayBuffer(size, *spaces, "cpu", optimize_memory_usage=True, handle_timeout_termination=False)
        except MemoryError:
            size //= 2


def train(envs: SyncVectorEnv, buffer: ReplayBuffer, stopwatch: Stopwatch) -> None:
    """The loop."""
    network, target = make_network(), make_network()
    target.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    observation, _ = envs.reset(seed=0)
    for step in range(stopwatch.total_steps):
        if random.random() < EPSILON:
            action = envs.action_space.sample()
        else:
            with torch.no_grad():
                action = network(torch.as_tensor(observation) / 255.0).argmax(dim=1).numpy()
        following, reward, terminated, truncated, info = envs.step(action)
        last = following.copy()
        for index in np.flatnonzero(truncated):
            last[index] = info["final_obs"][index]
        buffer.add(observation, last, action, reward, terminated, [info])
        observation = following
        if step > WARMUP_STEPS and step % TRAIN_FREQUENCY == 0:
            batch = buffer.sample(BATCH_SIZE)
            with torch.no_grad():
                next_q = target(batch.next_observations / 255.0).amax(dim=1)
                y = batch.rewards.flatten() + GAMMA * next_q * (1 - batch.dones.flatten())
            q = network(batch.observations / 255.0).gather(1, batch.actions).squeeze(1)
            loss = nn.functional.mse_loss(q, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step > WARMUP_STEPS and step % TARGET_NETWORK_FREQUENCY == 0:
            target.load_state_dict(network.state_dict())
        stopwatch.tick()


def main() -> None:
    given = parser(__doc__).parse_args()
    random.seed(0)
    torch.manual_seed(0)
    gymnasium.register_envs(ale_py)
    envs = SyncVectorEnv([make_environment], autoreset_mode=AutoresetMode.SAME_STEP)
    buffer = make_buffer(envs)
    stopwatch = Stopwatch(given.steps)
    train(envs, buffer, stopwatch)
    settings = {name.lower(): value for name, value in globals().items() if name.isupper() and name != "PACKAGES"}
    settings |= {"buffer_size": buffer.buffer_size, "num_environments": 1, "precision": "float32"}
    report(stopwatch, PACKAGES, settings)


if __name__ == "__main__":
    main()
