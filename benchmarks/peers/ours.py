"""This repository's training, put together by its own train.py: the default path or the stock one.

The settings are a preset of config.py. Changed for the measurement: `warmup_steps`, exploration at its final rate from
the start, and with `--environments 8` eight games and an update every 8 steps, so that an agent step replays eight
transitions as everywhere else.
"""

import dataclasses
import functools
import statistics
import sys
import time
from pathlib import Path

from measuring import WARMUP_STEPS, Stopwatch, parser, report

sys.path.insert(0, str(Path(__file__).parents[2]))
from rich.console import Console

import console
import train
from config import PRESETS, Config
from environments.workers import Workers

PACKAGES = ("keras", "keras-rl2", "numpy", "gymnasium", "ale-py", "pillow")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--preset", choices=PRESETS, default="default")
    arguments.add_argument("--environments", type=int, help="games, and agent steps from one update to the next")
    arguments.add_argument("--workers", type=int, default=0, help="processes that the games are played in")
    given = arguments.parse_args()
    console.start_keras()
    from training.measurement import settle_by_measurement  # imports Keras
    from training.run import Run

    workers = Workers(given.workers)
    build_environments = functools.partial(train.build_environments, workers=workers)
    config = Config(**PRESETS[given.preset][1])
    if given.environments:
        config = dataclasses.replace(config, num_environments=given.environments, train_interval=given.environments)
    config = dataclasses.replace(config, warmup_steps=WARMUP_STEPS, epsilon_start=config.epsilon_end)
    run = Run(Path("runs"), config, Path("policy.h5"), config.steps)
    config = settle_by_measurement(run, None, Console(stderr=True), build_environments, train.build_agent).config
    environments = build_environments(config)
    dqn = train.build_agent(config, environments)

    import keras

    from keras_rl import rl

    class Ticker(rl.callbacks.Callback):
        def on_step_end(self, step: int, logs=None) -> None:
            stopwatch.tick()

    stopwatch = Stopwatch(given.steps)
    dqn.fit(environments, nb_steps=stopwatch.total_steps, callbacks=[Ticker()], verbose=0)
    sampling, updating = [], []
    for _ in range(50):
        started = time.perf_counter()
        batch = dqn._sample()
        sampled = time.perf_counter()
        keras.ops.convert_to_numpy(dqn.learner.update(*batch))
        sampling.append(sampled - started)
        updating.append(time.perf_counter() - sampled)
    settings = {
        **dataclasses.asdict(config),
        "workers": given.workers,
        "backend": keras.backend.backend(),
        "sample_seconds": statistics.median(sampling),
        "update_seconds": statistics.median(updating),
    }
    report(stopwatch, (keras.backend.backend(), *PACKAGES), settings)


if __name__ == "__main__":
    main()
