"""Whether a policy's values are too high: the value of each state beside the return that really followed it.

    python benchmarks/values.py policy.h5 --games 20 --epsilon 0.02

The value of a state is its highest Q-value. The return is the discounted sum of the rewards as the policy learned
from them, up to the lost life or the end of the game. A value supposes that the best action is always taken, so the
random actions have a part in the difference (van Hasselt et al. 2016, figure 3). Each game counts in the row of the
score that it had in that state; a game that was cut short counts up to there. The correlation of values and returns in
a row says how well the values tell its states apart.
"""

import dataclasses
import sys
from collections import deque
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
from config import Config, up_to_date
from environments.atari import UnknownGameError
from evaluation.protocol import Protocol, load_policy_and_game, score_games
from keras_h5 import files


def main() -> int:
    """Prints a table, a row for each range of scores."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("policy", type=Path, metavar="FILE")
    parser.add_argument("--games", type=console.number(int, 1), default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--epsilon", type=console.number(float, 0), default=0.02, metavar="X", help="(default: 0.02)")
    parser.add_argument("--range", type=console.number(int, 1), default=50, metavar="POINTS", help="(default: 50)")
    given = parser.parse_args()
    console.start_keras()
    policy, game = load_policy_and_game(given.policy, None)
    if "config" not in policy.facts:
        raise console.UsageError(f"{given.policy} does not say how it learned; give one that train.py saved.")
    known = {field.name for field in dataclasses.fields(Config)}  # a policy may be older than an option's end
    config = Config(**{name: value for name, value in up_to_date(policy.facts["config"]).items() if name in known})
    scores, values, returns = played(policy, config, Protocol(game, given.games, given.epsilon))
    print("| score | states | value | return | value - return | correlation |\n|---|---|---|---|---|---|")
    rows = scores // given.range
    for row in np.unique(rows):
        chosen = rows == row
        value, later = values[chosen].mean(), returns[chosen].mean()
        words = f"{given.range * row:,.0f} to {given.range * (row + 1) - 1:,.0f}"
        correlation = f"{np.corrcoef(values[chosen], returns[chosen])[0, 1]:.2f}" if chosen.sum() > 1 else ""
        print(f"| {words} | {chosen.sum():,} | {value:.2f} | {later:.2f} | {value - later:+.2f} | {correlation} |")
    return console.DONE


def played(policy, config: Config, protocol: Protocol) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The score before each step of all the games, the value of its state and the return that followed."""
    from keras_rl import rl
    from processors.atari import AtariProcessor

    chosen: deque[float] = deque()  # values of the states that are yet to be stepped from
    games: list[list[tuple[float, float, bool]]] = [[] for _ in range(protocol.episodes)]

    class Valuing(rl.policy.EpsGreedyQPolicy):
        def select_action(self, q_values):
            chosen.append(float(q_values.max()))
            return super().select_action(q_values)

    class Recorder(rl.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.test_policy = Valuing(protocol.epsilon)

        def on_step_end(self, step, logs):
            info = logs["info"]
            games[logs["episode"]].append((info["score"], chosen.popleft(), bool(info["life_lost"])))

    score_games(policy, protocol, [Recorder()])
    processor = AtariProcessor(config.log_rewards)
    columns = []
    for game in games:
        scores, values, lives_lost = (np.array(column) for column in zip(*game, strict=True))
        gained = np.array([processor.process_reward(points) for points in np.diff(scores, prepend=0.0)])
        rewards = gained - config.life_loss_penalty * lives_lost
        returns, later = np.empty(len(game)), 0.0
        for step in reversed(range(len(game))):
            ends = lives_lost[step] and config.terminal_on_life_loss
            later = returns[step] = rewards[step] + config.gamma * (0.0 if ends else later)
        columns.append((np.concatenate([[0.0], scores[:-1]]), values, returns))
    scores, values, returns = (np.concatenate(column) for column in zip(*columns, strict=True))
    return scores, values, returns


if __name__ == "__main__":
    console.run(main, UnknownGameError, files.FileError)
