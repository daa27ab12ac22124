"""Plays an Atari game with a trained policy, and shows it: in a window, or as a recording where there is no display.

    python play.py                                the policy in policy.h5, at the game it was trained on
    python play.py --policy other.h5 --episodes 1
    python play.py --record best.webp             keep the best of the games, too
    python play.py --terminal                     in the terminal, where there is no desktop
    python play.py --saliency                     tint what matters to the network
    python play.py --human                        play yourself, with the arrows and the space bar
    python play.py --no-window --episodes 30      only the scores

In the window and in the terminal: space or P pauses, N shows the next step, up and down change the speed, R restarts
the game, Q or Escape quits.
"""

import argparse
import contextlib
import statistics
from pathlib import Path

import console
from environments.atari import AtariEnvironment, UnknownGameError
from evaluation.protocol import build_test_agent, load_policy_and_game
from keras_h5.files import FileError
from models.policy_file import TrainedPolicy
from reports.inline import in_notebook, show_inline
from reports.recording import Recorder, free_path
from screens.panel import PANEL_SIZE
from screens.picture import picture_size
from screens.status import Status
from screens.terminal import NoTerminalError, Terminal
from screens.viewer import KEYS, KEYS_OF_A_PLAYER, Viewer
from screens.window import NoDisplayError, Window

SECONDS_BETWEEN_LINES = 5.0  # about a game that nobody sees


def play(
    policy: TrainedPolicy, game: str, arguments: argparse.Namespace, viewer: Viewer | None, recorder: Recorder | None
) -> int:
    """Plays the games, says how they went, writes the recording. Returns the exit status."""
    from keras_rl import rl
    from screens.human import HumanPolicy
    from screens.show import Restartable, Show, WatchedPolicy, points

    screen = console.screen()
    status = None if viewer else Status(screen, SECONDS_BETWEEN_LINES, transient=True)
    action_names = AtariEnvironment(game=game).get_action_meanings()
    chooser = rl.policy.GreedyQPolicy()
    if arguments.human and isinstance(viewer, Window):
        chooser, viewer.paused = HumanPolicy(action_names, viewer.held_keys), True
    test_policy = WatchedPolicy(chooser)
    show = Show(
        _title(game), arguments.episodes, test_policy, action_names, viewer, recorder, arguments.saliency, status
    )
    environment = AtariEnvironment(
        game=game,
        sticky=arguments.sticky,
        max_episode_steps=arguments.max_steps,
        on_frame=show.on_frame,
    )
    environment.reset(seed=arguments.seed)
    dqn = build_test_agent(policy, test_policy)
    exit_status = console.DONE
    try:
        with status or contextlib.nullcontext():
            # More than once if games were restarted
            while len(show.scores) < arguments.episodes and not (viewer and viewer.closed):
                dqn.test(
                    Restartable(environment, viewer),
                    nb_episodes=arguments.episodes - len(show.scores),
                    visualize=False,
                    verbose=0,
                    callbacks=[show],
                )
    except KeyboardInterrupt:
        exit_status = console.STOPPED  # what was recorded is still worth keeping
    finally:
        if viewer and not viewer.closed:
            viewer.close()
    if show.unfinished_game:
        print(show.unfinished_game)
    if len(show.scores) > 1:
        mean = statistics.fmean(show.scores)
        print(f"Mean of {len(show.scores)} games: {mean:,.1f} points, best: {points(max(show.scores))}.")
    if arguments.human and "evaluation_score" in policy.facts:
        print(f"The agent of {arguments.policy}: {policy.facts['evaluation_score']:,.1f} points on average.")
    if recorder:
        print("Writing the recording ...", flush=True)
        with Status(screen, SECONDS_BETWEEN_LINES, transient=True) as writing:
            said = recorder.save(lambda share: writing.update(f"{100 * share:.0f}% of it is written."))
        print(said or "There is nothing to record.")
        if said and in_notebook():
            show_inline(recorder.path)
    return exit_status


def main() -> int:
    """Checks everything that can be checked before TensorFlow starts, then plays."""
    arguments = _parse_arguments()
    policy, game = load_policy_and_game(arguments.policy, arguments.game)
    recorder = Recorder(arguments.record, arguments.record_seconds) if arguments.record else None
    viewer: Viewer | None = None
    if arguments.terminal:
        viewer = Terminal(console.screen())
    elif arguments.window:
        try:
            if in_notebook():
                raise NoDisplayError("this is a notebook")
            screen_shape = AtariEnvironment(game=game).observation_space.shape
            size = picture_size(screen_shape, PANEL_SIZE)
            viewer = Window(f"{_title(game)} · loading", size, played=arguments.human)
        except NoDisplayError as reason:
            if arguments.human:
                raise console.UsageError(f"--human needs a window, and {reason}; leave it out.") from None
            recorder = recorder or Recorder(free_path(Path(f"{game}.webp")), arguments.record_seconds)
            too = "and below" if in_notebook() else "--terminal shows it here"
            print(f"No window, as {reason}: the best game will be in {recorder.path} ({too}).", flush=True)
    if viewer:
        print(KEYS_OF_A_PLAYER if arguments.human else KEYS, flush=True)
    console.start_keras()
    return play(policy, game, arguments, viewer, recorder)


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
        help="write the best of the games at its speed. A .webp shows all 60 pictures a second; a .gif opens "
        "everywhere, shows 30 and takes twice the space or more; both have exactly the game's colours. A .mp4 is for "
        "video players (default: GAME.webp where no window can be opened, else none)",
    )
    add(
        "--record-seconds",
        type=console.number(float, 1, 600),
        default=120,
        metavar="S",
        help="record no more than this of a game (default: 120)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--no-window",
        dest="window",
        action="store_false",
        help="only play, and record if --record is given",
    )
    where.add_argument(
        "--terminal", action="store_true", help="show the games in this terminal, in half-block characters"
    )
    where.add_argument("--human", action="store_true", help="play yourself; the panel says what the agent would expect")
    add(
        "--saliency",
        action="store_true",
        help="tint the parts of the screen that the highest Q-value depends on most (Simonyan et al. 2014)",
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
    console.run(main, FileError, NoTerminalError, UnknownGameError)
