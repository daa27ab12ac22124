"""Where a `DQNAgent` stands, so that `fit` can go on from there to the same end: its state, taken and put back.

    networks and optimizer    the values of their variables
    memory                    see `SequentialMemory.get_state`; its entries come separately, as they are many
    loop                      step and episode counters, each environment's state, the actions chosen and not yet taken,
                              Python's and NumPy's global random generators

A checkpoint's digests say whether a file is as it was written, not by whom. So what is checked here is whether the
state can be one of this agent: another network, another number of environments or another game is refused.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_rl.bridge import rl
from keras_rl.episodes import COUNTERS, require_state

if TYPE_CHECKING:
    from keras_rl.agent import DQNAgent


def get_agent_state(agent: DQNAgent) -> dict[str, Any]:
    """What `DQNAgent.get_state` returns."""
    if not agent._own_memory:
        raise TypeError("Only keras_rl.SequentialMemory can be saved and resumed, not keras-rl's own.")
    loop = agent._saved_loop or {
        "step": agent.step,
        "episodes": agent._episodes,
        "environments": [stepper.get_state() for stepper in agent._steppers],
        "chosen": [[stepper.stream, action] for stepper, action in agent._chosen],
        "random": get_random_state(),
        "metrics": list(agent.policy.metrics),
    }
    variables = {name: [np.asarray(variable.numpy()) for variable in each] for name, each in _variables(agent).items()}
    return {**variables, "memory": agent.memory.get_state(), "loop": loop}


def set_agent_state(agent: DQNAgent, state: dict[str, Any], environments: list, entries: Iterable[dict]) -> None:
    """What `DQNAgent.set_state` does; the loop's part waits in the agent until `take_up`."""
    for name, variables in _variables(agent).items():
        if [np.shape(value) for value in state[name]] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"the {name} has arrays of other shapes than this agent's")
        for variable, value in zip(variables, state[name], strict=True):
            variable.assign(np.asarray(value, variable.numpy().dtype))
    agent.memory.set_state(state["memory"], (_checked_entries(agent, part) for part in entries))
    loop = state["loop"]
    _check_loop(agent, loop, len(environments))
    played_again = []
    for environment, saved in zip(map(require_state, environments), loop["environments"], strict=True):
        if hasattr(environment, "send_state"):  # in another process: all of those at once
            environment.send_state(saved["environment"])
            played_again.append(environment)
        else:
            environment.set_state(saved["environment"])
    for environment in played_again:
        environment.receive()
    if isinstance(agent.policy, rl.policy.LinearAnnealedPolicy):
        # An update reports what the policy chose with last, and that was before.
        setattr(agent.policy.inner_policy, agent.policy.attr, float(loop["metrics"][0]))
    agent._saved_loop = loop
    agent.step = loop["step"]


def take_up(agent: DQNAgent, callbacks) -> None:
    """Puts generators and counters where `set_agent_state` was told, if it was; the environments are there already."""
    saved, agent._saved_loop = agent._saved_loop, None
    if saved is None:
        return
    if len(saved["environments"]) != len(agent._steppers):
        raise ValueError(
            f"The state is of {len(saved['environments'])} environments, but fit() got {len(agent._steppers)}."
        )
    agent.step, agent._episodes = saved["step"], saved["episodes"]
    for stepper, state in zip(agent._steppers, saved["environments"], strict=True):
        stepper.set_state(state)
        if stepper.observation is not None:
            callbacks.on_episode_begin(stepper.episode)
    agent._chosen.extend((agent._steppers[index], action) for index, action in saved["chosen"])
    set_random_state(saved["random"])


def get_random_state() -> dict[str, Any]:
    """The state of Python's and NumPy's global generators; keras-rl's policies draw from the latter."""
    version, words, gauss = random.getstate()
    return {"python": [version, list(words), gauss], "numpy": np.random.get_state(legacy=False)}


def set_random_state(state: dict[str, Any], python: Any = random, numpy: Any = np.random) -> None:
    """Puts them, or other generators of their kind, back to where `get_random_state` was called."""
    version, words, gauss = state["python"]
    python.setstate((version, tuple(words), gauss))
    numpy.set_state(state["numpy"])


def _checked_entries(agent: DQNAgent, entries: dict) -> dict:
    if entries["actions"].max(initial=0) >= agent.nb_actions:
        raise ValueError(f"an action in the replay memory is none of the {agent.nb_actions}")
    return entries


def _check_loop(agent: DQNAgent, loop: dict[str, Any], num_environments: int) -> None:
    """Refuses what `take_up` could not take up: the digests do not say who wrote a checkpoint."""
    if len(loop["environments"]) != num_environments:
        raise ValueError(f"the state is of {len(loop['environments'])} environments, not {num_environments}")
    for stream, action in loop["chosen"]:
        if stream not in range(num_environments) or action not in range(agent.nb_actions):
            raise ValueError(f"action {action} of environment {stream} does not exist")
    for saved in loop["environments"]:
        observation = saved["observation"]
        if not (observation is None or agent.memory.is_alike(observation)):
            raise ValueError("an environment's last observation is unlike those in the memory")
        if any(type(saved[name]) not in (int, float) for name in COUNTERS):
            raise ValueError("the counters of an environment are no numbers")
    if any(type(loop[name]) is not int or loop[name] < 0 for name in ("step", "episodes")):
        raise ValueError(f"the state is of step {loop['step']}, episode {loop['episodes']}")
    set_random_state(loop["random"], random.Random(), np.random.RandomState())  # now is the time to fail


def _variables(agent: DQNAgent) -> dict[str, list]:
    optimizer = agent.learner.optimizer
    return {
        "model": agent.model.variables,
        "target_model": agent.target_model.variables,
        "optimizer": optimizer.variables,
    }
