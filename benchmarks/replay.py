"""Measures replay memories, filled with real frames: what they take, and how long it takes to draw a batch of 64.

    python benchmarks/replay.py                          everything, about half an hour
    python benchmarks/replay.py --only ours --sizes 1000000
    python benchmarks/replay.py --growth                 what a training step costs with a full memory

Frames come from 20,000 agent steps of each game, played at random and, for Breakout, by policy.h5 as well; larger
memories get them again and again, which none of the memories can take advantage of. Linux only.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import throughput

import console
from environments.atari import AtariEnvironment

# The seven games of Mnih et al. 2013, and three in which a lot moves.
GAMES = (
    "breakout",
    "beam_rider",
    "enduro",
    "pong",
    "qbert",
    "seaquest",
    "space_invaders",
    "ms_pacman",
    "asteroids",
    "riverraid",
)
TRAINED = "breakout, policy.h5"
RECORDED_STEPS = 20_000
MEMORIES = {"ours": None, "keras_rl2": "keras_rl2.txt", "sb3": "sb3.txt"}
PEERS_GAME = "breakout"  # uncompressed memories take the same for every game
LARGEST = {"ours": 10**9, "keras_rl2": 10**6, "sb3": 10**5}  # a million states of SB3's are 28.2 GB


def main() -> int:
    """Records, fills, prints."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--only", choices=MEMORIES, metavar="NAME", help=f"one memory of {', '.join(MEMORIES)}")
    parser.add_argument("--games", nargs="+", default=[*GAMES, TRAINED], metavar="GAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--growth", action="store_true", help="compare training steps at 50,000 and 1,000,000 frames")
    given = parser.parse_args()
    console.start_keras()
    if given.growth:
        print(growth())
        return console.DONE
    print("| memory | game | frames | resident | bytes a frame | append | draw 64 |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for game in given.games:
            recording = Path(folder, "recording.npz")
            record(game, recording)
            for name in [given.only] if given.only else MEMORIES:
                for size in sorted(given.sizes):
                    if size <= LARGEST[name] and (name == "ours" or game == PEERS_GAME):
                        print(f"| {name} | {game} | {size:,} {measure(name, size, recording)}", flush=True)
    return console.DONE


def record(game: str, file: Path) -> None:
    """Plays a game and writes its frames, and where the episodes ended."""
    from keras_rl import rl
    from models.policy_file import load_policy
    from processors.atari import AtariProcessor

    environment, processor = AtariEnvironment(game=game.split(",")[0]), AtariProcessor()
    model = load_policy(Path(__file__).parents[1] / "policy.h5").build_model() if game == TRAINED else None
    policy = rl.policy.EpsGreedyQPolicy(0.05)
    frames: list[np.ndarray] = []
    ends: list[bool] = []
    environment.action_space.seed(0)
    observation, _ = environment.reset(seed=0)
    while len(frames) < RECORDED_STEPS:
        frames.append(processor.process_observation(observation))
        if model is None or len(frames) < 4:
            action = environment.action_space.sample()
        else:
            action = policy.select_action(
                model.predict_on_batch(processor.process_state_batch(np.array([frames[-4:]])))[0]
            )
        observation, _, terminated, truncated, _ = environment.step(action)
        ends.append(terminated or truncated)
        if ends[-1]:
            observation, _ = environment.reset()
    np.savez(file, frames=np.array(frames), ends=np.array(ends))


def measure(name: str, size: int, recording: Path) -> str:
    """The rest of a row: a memory filled in a process of its own."""
    peers, requirements = throughput.FOLDER / "peers", MEMORIES[name]
    python = throughput.environment(peers / requirements) if requirements else sys.executable
    printed = throughput.run([str(python), str(peers / "replay_memory.py"), name, str(size), str(recording)])
    result = json.loads(printed.splitlines()[-1])
    return (
        f"| {result['bytes'] / 1e6:,.0f} MB | {result['bytes'] / size:,.0f} | {1e6 * result['append_seconds']:.1f} us "
        f"| {1e3 * result['sample_seconds']:.2f} ms |"
    )


def growth(sizes: tuple[int, int] = (50_000, 1_000_000), steps: int = 400, rounds: int = 30) -> str:
    """Trains beside memories of two sizes, full, in turn: agent steps per second with each, and the ratio."""
    import train
    from config import Config

    agents = {}
    with tempfile.TemporaryDirectory() as folder:
        record("breakout", Path(folder, "recording.npz"))
        with np.load(Path(folder, "recording.npz")) as recording:
            frames, ends = recording["frames"], recording["ends"]
    for size in sizes:
        config = Config(memory_size=size, warmup_steps=1_000, precision="bfloat16")
        environments = train.build_environments(config)
        dqn = train.build_agent(config, environments)
        for step in range(size):
            at = step // config.num_environments % len(frames)
            dqn.memory.append(frames[at], 0, 0.0, bool(ends[at]), stream=step % config.num_environments)
        dqn.nb_steps_warmup = -1
        dqn.fit(environments, nb_steps=500, verbose=0)
        agents[size] = dqn, environments
    speeds: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size, (dqn, environments) in agents.items():
            started = time.perf_counter()
            dqn.fit(environments, nb_steps=steps, verbose=0)
            speeds[size].append(steps / (time.perf_counter() - started))
    small, large = (np.array(speeds[size]) for size in sizes)
    ratio = np.median(small) / np.median(large)
    # What chance does to it: the same of resampled rounds.
    rng = np.random.default_rng(0)
    drawn = [rng.integers(rounds, size=rounds) for _ in range(2_000)]
    low, high = np.percentile([np.median(small[i]) / np.median(large[i]) for i in drawn], [2.5, 97.5])
    return (
        f"{np.median(small):.0f} steps/s at {sizes[0]:,} frames, {np.median(large):.0f} at {sizes[1]:,}: a step costs "
        f"{ratio:.3f} times as much (95% interval {low:.3f} to {high:.3f}, {rounds} rounds of {steps} steps in turn)."
    )


if __name__ == "__main__":
    try:
        console.run(main)
    except throughput.PeerError as error:
        sys.exit(str(error))
