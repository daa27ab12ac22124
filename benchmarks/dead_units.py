"""How many of the network's units die in its first updates, with a game's background as it is and counted as 0.

    python benchmarks/dead_units.py pong name_this_game breakout

For each game a memory is filled by random play, and a new network learns from it with the default settings, once
with `--background 0` and once with the grey that train.py finds. A rectified unit is dead if it is 0 in all of 256
states. The rank is the number of singular values of the hidden layer's output that make up 99% of their sum.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
import train
from config import Config
from environments.atari import UnknownGameError, canonical_game
from training.background import background

STATES = 256
LAYERS = ("conv1", "conv2", "conv3", "hidden")


def main() -> int:
    """Prints a table, a row for each game and background."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("games", nargs="+", metavar="GAME")
    parser.add_argument("--updates", type=console.number(int, 1), default=500, metavar="N", help="(default: 500)")
    parser.add_argument(
        "--steps", type=console.number(int, 1_000), default=20_000, metavar="N", help="random steps (default: 20,000)"
    )
    parser.add_argument("--seed", type=console.number(int, 0), default=1, metavar="N", help="(default: 1)")
    given = parser.parse_args()
    console.start_keras()
    print("| game | background | dead: first, second, third, hidden layer | rank | deviation of Q over states |")
    print("|---|---|---|---|---|", flush=True)
    for game in map(canonical_game, given.games):
        sizes = {"warmup_steps": given.steps, "memory_size": given.steps}
        config = Config(game=game, seed=given.seed, precision="float32", epsilon_start=1.0, epsilon_end=1.0, **sizes)
        found = background(config)
        for grey in sorted({0, found}):
            dead, rank, deviation = learned(dataclasses.replace(config, background=grey), given.updates)
            shares = ", ".join(f"{100 * share:.0f}%" for share in dead)
            grey_words = "black" if not found else f"{found}, {'counts as 0' if grey else 'as it is'}"
            print(f"| {game} | {grey_words} | {shares} | {rank} | {deviation:.4f} |", flush=True)
    return console.DONE


def learned(config: Config, updates: int) -> tuple[list[float], int, float]:
    """The share of dead units of each layer after so many updates, the rank and the deviation of the Q-values."""
    import keras

    environments = train.build_environments(config)
    dqn = train.build_agent(config, environments)
    dqn.fit(environments, nb_steps=config.warmup_steps - config.num_environments, verbose=0)  # no update yet
    updates_between_copies = config.target_update_steps // config.train_interval
    for number in range(1, updates + 1):
        dqn.learner.update(*dqn._sample())
        if number % updates_between_copies == 0:
            dqn.update_target_model_hard()
    batch = dqn.memory.sample_batch(STATES, config.gamma)
    states = dqn.processor.process_state_batch(np.asarray(batch.state0))
    outputs = keras.Model(dqn.model.inputs[0], [dqn.model.get_layer(name).output for name in LAYERS])(states)
    units = [keras.ops.convert_to_numpy(output).reshape(-1, output.shape[-1]) for output in outputs]
    singular_values = np.linalg.svd(units[-1], compute_uv=False)
    share = np.cumsum(singular_values) / max(singular_values.sum(), 1e-12)
    q_values = dqn.learner.q_values(np.asarray(batch.state0))
    dead = [float((values.max(axis=0) <= 0).mean()) for values in units]
    return dead, int((share < 0.99).sum()) + 1, float(q_values.mean(axis=1).std())


if __name__ == "__main__":
    console.run(main, UnknownGameError)
