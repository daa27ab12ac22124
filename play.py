"""Plays an Atari game with a trained policy, and shows it: in a window, or as a recording where there is no display.

    python play.py                                the policy in policy.h5, at the game it was trained on
    python play.py --policy other.h5 --episodes 1
    python play.py --record best.webp             keep the best of the games, too
    python play.py --no-window --episodes 30      only the scores

In the window: space or P pauses, N shows the next step, up and down change the speed, R restarts the game, Q or Escape
quits.
"""

import argparse
import statistics
from pathlib import Path

import console
from environments.atari import AtariEnvironment, UnknownGameError
from models.policy_file import Policy, PolicyFileError
from playing import build_agent, load_policy_and_game
from screens.panel import PANEL_SIZE
from screens.picture import picture_size
from screens.recording import Recorder, RecordingError, free_path
from screens.window import KEYS, NoDisplayError, Window


def play(
    policy: Policy, game: str, arguments: argparse.Namespace, window: Window | None, recorder: Recorder | None
) -> int:
    """Plays the games, says how they went, writes the recording. Returns the exit status."""
    from keras_rl import rl
    from screens.show import Restartable, Show, WatchedPolicy, points

    test_policy = WatchedPolicy(rl.policy.GreedyQPolicy())
    action_names = AtariEnvironment(game=game).get_action_meanings()
    show = Show(_title(game), arguments.episodes, test_policy, action_names, window, recorder)
    environment = AtariEnvironment(
        game=game,
        sticky=arguments.sticky,
        max_episode_steps=arguments.max_steps,
        on_frame=show.on_frame,
    )
    environment.reset(seed=arguments.seed)
    dqn = build_agent(policy, test_policy)
    status = console.DONE
    try:
        # More than once if games were restarted
        while len(show.scores) < arguments.episodes and not (window and window.closed):
            dqn.test(
                Restartable(environment, window),
                nb_episodes=arguments.episodes - len(show.scores),
                visualize=False,
                verbose=0,
                callbacks=[show],
            )
    except KeyboardInterrupt:
        status = console.STOPPED  # what was recorded is still worth keeping
    if window:
        window.close()
    if show.unfinished_game:
        print(show.unfinished_game)
    if len(show.scores) > 1:
        mean = statistics.fmean(show.scores)
        print(f"Mean of {len(show.scores)} games: {mean:,.1f} points, best: {points(max(show.scores))}.")
    if recorder:
        print("Writing the recording ...", flush=True)
        print(recorder.save() or "There is nothing to record.")
    return status


def main() -> int:
    """Checks everything that can be checked before TensorFlow starts, then plays."""
    arguments = _parse_arguments()
    policy, game = load_policy_and_game(arguments.policy, arguments.game)
    path, window = arguments.record, None
    recorder = Recorder(path, arguments.record_seconds) if path else None
    if arguments.window:
        try:
            screen_shape = AtariEnvironment(game=game).observation_space.shape
            window = Window(f"{_title(game)} · loading", picture_size(screen_shape, PANEL_SIZE))
            print(KEYS, flush=True)
        except NoDisplayError as reason:
            recorder = recorder or Recorder(free_path(Path(f"{game}.gif")), arguments.record_seconds)
            print(f"No window, as {reason}: the best game will be in {recorder.path}.", flush=True)
    console.start_keras()
    return play(policy, game, arguments, window, recorder)


def _title(game: str) -> str:
    return game.replace("_", " ").title()


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__)
    add = parser.add_argument
    add("--policy", type=Path, default=Path("policy.h5"), metavar="FILE", help="(default: policy.h5)")
    add("--episodes", type=console.number(int, 1), default=3, metavar="N", help="games to play (default: 3)")
    add(
        "--record",
        type=Path,
        metavar="FILE",
        help="write the best of the games at its speed. A .gif opens everywhere and shows 30 pictures a second; a "
        ".webp shows all 60 in half the space or less; both have exactly the game's colours. A .mp4 is for video "
        "players (default: GAME.gif where no window can be opened, else none)",
    )
    add(
        "--record-seconds",
        type=console.number(float, 1, 600),
        default=120,
        metavar="S",
        help="record no more than this of a game (default: 120)",
    )
    add(
        "--no-window",
        dest="window",
        action="store_false",
        help="only play, and record if --record is given",
    )
    add(
        "--game",
        metavar="NAME",
        help="ALE game (default: the policy's own; breakout if its file says nothing)",
    )
    add(
        "--seed",
        type=console.number(int, 0, 2**31 - 1),
        metavar="S",
        help="plays the same games again (default: other games)",
    )
    add(
        "--sticky",
        type=console.number(float, 0, 1),
        default=0.0,
        metavar="P",
        help="probability that the emulator repeats the last action (default: 0; 0.25: Machado et al. 2018)",
    )
    add(
        "--max-steps",
        type=console.number(int, 1),
        default=27_000,
        metavar="N",
        help="agent steps after which a game is stopped: a greedy agent can play on for ever (default: 27,000, half "
        "an hour)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    console.run(main, PolicyFileError, RecordingError, UnknownGameError)
