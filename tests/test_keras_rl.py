"""The bridge: each repair is still needed, and with it keras-rl2's own agents work."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import keras
import numpy as np
import pytest

from keras_rl import bridge, rl
from keras_rl.bridge import as_keras_rl_environment

# What keras_rl/bridge.py says that these lines of keras-rl2 do.
CITED_LINES = {
    "rl/agents/cem.py:87": "np.array([state], dtype=object)",
    "rl/agents/ddpg.py:9": "disable_eager_execution()",
    "rl/agents/dqn.py:56": "np.array(batch, dtype=object)",
    "rl/agents/dqn.py:106": "model.output.shape",
    "rl/agents/dqn.py:164": "metrics += [mean_q]",
    "rl/agents/dqn.py:209": "self.model.save_weights(filepath, overwrite=overwrite)",
    "rl/agents/dqn.py:215": "self.model.reset_states()",
    "rl/agents/dqn.py:341": "if idx not in (1, 2)]",
    "rl/callbacks.py:9": "from tensorflow.python.keras.callbacks import",
    "rl/core.py:117": "self.step = np.int16(0)",
    "rl/core.py:131": "observation = deepcopy(env.reset())",
    "rl/core.py:176": "observation, r, done, info = env.step(action)",
    "rl/util.py:3": "import model_from_config",
    "rl/util.py:15": "clone = model_from_config",
    "rl/util.py:46": "updates.append",
    "rl/util.py:84": "class AdditionalUpdatesOptimizer",
}


def q_network(window_length=1):
    return keras.Sequential(
        [
            keras.Input((window_length, 4)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


def stock_dqn(**kwargs):
    memory = rl.memory.SequentialMemory(limit=1000, window_length=1)
    return rl.agents.dqn.DQNAgent(model=q_network(), nb_actions=2, memory=memory, nb_steps_warmup=40, **kwargs)


def test_every_cited_line_of_keras_rl2_is_what_the_bridge_says():
    cited = set(re.findall(r"rl/[\w/]+\.py:\d+", Path(bridge.__file__).read_text()))
    assert cited == set(CITED_LINES)
    package = Path(rl.core.__file__).parent
    for place, text in CITED_LINES.items():
        file, line = place.split(":")
        assert text in (package.parent / file).read_text().splitlines()[int(line) - 1], place


KERAS = tuple(map(int, keras.__version__.split(".")[:3]))


class TestEachRepairIsStillNeeded:
    """If one of these fails, the libraries have changed and the repair it names can go."""

    def test_the_stand_in_for_tensorflow(self):
        code = "import rl.util"
        stock = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "cannot import name 'model_from_config'" in stock.stderr

    def test_the_callback_list(self):
        from tensorflow.python.keras.callbacks import CallbackList

        with pytest.raises(AttributeError):
            CallbackList([keras.callbacks.History()]).set_params({})

    def test_the_step_counter(self):
        with np.errstate(over="ignore"):
            assert np.int16(32767) + 1 == -32768

    def test_arrays_of_objects(self):
        with pytest.raises(ValueError, match="Unsupported object type"):
            q_network().predict_on_batch(np.array([[np.zeros(4, np.float32)]], dtype=object))

    def test_the_output_of_a_sequential_model(self):
        with pytest.raises(AttributeError):
            _ = q_network().output

    def test_reset_states_of_a_model(self):
        assert not hasattr(q_network(), "reset_states")

    def test_soft_updates(self):
        assert not hasattr(keras.optimizers.Optimizer, "get_updates")

    @pytest.mark.skipif(KERAS < (3, 12, 4), reason="Keras refuses it since 3.12.4")
    def test_cloning_a_lambda_layer(self):
        layer = keras.layers.Lambda(lambda x: 2 * x)
        with pytest.raises(ValueError, match="Lambda"):
            keras.layers.Lambda.from_config(layer.get_config())

    def test_the_name_of_a_weights_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"weights\.h5"):
            q_network().save_weights(tmp_path / "dqn_weights.h5f")

    def test_the_names_of_a_models_metrics(self):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        assert "mae" not in model.metrics_names


def test_keras_tensorflow_and_numpy_stay_as_they_were():
    code = """
import sys
import keras, numpy as np, numpy.random, tensorflow as tf
import tensorflow.keras.models, tensorflow.keras.layers, tensorflow.keras.backend
watched = {name: sys.modules[name] for name in (
    "keras", "keras.layers", "keras.models", "keras.optimizers", "keras.callbacks", "numpy", "numpy.random",
    "tensorflow", "tensorflow.keras", "tensorflow.keras.models", "tensorflow.keras.backend")}
before = {name: dict(vars(module)) for name, module in watched.items()}
import keras_rl
from rl.agents.dqn import DQNAgent
from rl import callbacks, core, memory, policy
for name, module in watched.items():
    assert sys.modules[name] is module, name
    changed = [k for k, v in before[name].items() if vars(module).get(k) is not v]
    assert not changed, (name, changed)
assert tf.executing_eagerly()
assert int(tf.constant(1) + 1) == 2
assert np.int16 is not int
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[1])


class CountingEnvironment(rl.core.Env):
    """Never ends; its observation is the number of steps taken."""

    action_space = gymnasium.spaces.Discrete(2)

    def reset(self):
        self.steps = 0
        return self.steps

    def step(self, action):
        self.steps += 1
        return self.steps, 1.0, False, {}

    def close(self):
        pass


class IdleAgent(rl.core.Agent):
    compiled = True

    def forward(self, observation):
        return 0

    def backward(self, reward, terminal):
        return []

    def reset_states(self):
        pass


def test_keras_rls_own_loop_counts_beyond_32767_steps():
    agent = IdleAgent()
    agent.fit(CountingEnvironment(), nb_steps=33_000, verbose=0)
    assert agent.step == 33_000
    assert type(agent.step) is int


def test_metrics_of_one_agent_do_not_leak_into_the_next():
    for _ in range(2):
        agent = stock_dqn()
        agent.compile("adam")
        assert agent.metrics_names == ["loss", "mean_q"]


@pytest.mark.parametrize(
    "settings",
    [
        {"target_model_update": 10},
        {"target_model_update": 0.01, "enable_double_dqn": True},
        {"target_model_update": 0.01, "enable_dueling_network": True, "delta_clip": 1.0},
    ],
    ids=["hard", "soft-double", "soft-dueling"],
)
def test_keras_rls_own_dqn_agent_trains(settings):
    agent = stock_dqn(policy=rl.policy.BoltzmannQPolicy(), **settings)
    agent.compile(keras.optimizers.Adam(1e-3), metrics=["mae"])
    assert agent.metrics_names == ["loss", "mae", "mean_q"]
    before = [w.copy() for w in agent.model.get_weights()]
    history = agent.fit(gymnasium.make("CartPole-v1", max_episode_steps=40), nb_steps=80, verbose=0)
    assert sum(history.history["nb_episode_steps"]) <= 80
    assert all((a != b).any() for a, b in zip(before, agent.model.get_weights(), strict=True) if a.ndim == 2)
    targets = agent.target_model.get_weights()
    assert all(np.isfinite(t).all() for t in targets)
    assert any((t != b).any() for t, b in zip(targets, before, strict=True))


def test_a_soft_update_moves_the_target_after_each_step_of_the_optimizer():
    agent = stock_dqn(target_model_update=0.25)
    agent.compile(keras.optimizers.SGD(0.1))
    old_target = agent.target_model.get_weights()
    x = np.ones((1, 1, 4), np.float32)
    inputs = [x, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)]
    agent.trainable_model.train_on_batch(inputs, [np.zeros(1), np.ones((1, 2))])
    expected = [0.25 * w + 0.75 * t for w, t in zip(agent.model.get_weights(), old_target, strict=True)]
    for new, want in zip(agent.target_model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(new, want, rtol=1e-6, atol=1e-7)


def test_keras_rls_own_sarsa_and_cem_agents_train_and_save(tmp_path):
    sarsa = rl.agents.SARSAAgent(model=q_network(), nb_actions=2, nb_steps_warmup=10)
    sarsa.compile("adam", metrics=["mae"])
    sarsa.fit(gymnasium.make("CartPole-v1"), nb_steps=30, verbose=0)
    cem = rl.agents.CEMAgent(
        model=q_network(),
        nb_actions=2,
        memory=rl.memory.EpisodeParameterMemory(limit=100, window_length=1),
        batch_size=3,
        nb_steps_warmup=10,
        train_interval=2,
    )
    cem.compile()
    cem.fit(gymnasium.make("CartPole-v1"), nb_steps=100, verbose=0)
    for agent in (sarsa, cem):
        path = tmp_path / "weights.h5f"
        agent.save_weights(path, overwrite=True)
        saved = agent.model.get_weights()
        agent.model.set_weights([np.zeros_like(w) for w in saved])
        agent.load_weights(path)
        for loaded, want in zip(agent.model.get_weights(), saved, strict=True):
            np.testing.assert_array_equal(loaded, want)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            agent.save_weights(path)


def test_agents_that_cannot_run_on_keras_3_say_so():
    for agent in (rl.agents.DDPGAgent, rl.agents.NAFAgent):
        with pytest.raises(NotImplementedError, match="does not run on Keras 3"):
            agent.compile(object.__new__(agent), "adam")


def test_a_gymnasium_environment_gets_the_interface_of_keras_rl():
    env = as_keras_rl_environment(gymnasium.make("CartPole-v1", max_episode_steps=3))
    assert env.reset().shape == (4,)
    steps = [env.step(action) for action in (0, 1, 0)]
    assert [done for _, _, done, _ in steps] == [False, False, True]
    assert [info["TimeLimit.truncated"] for *_, info in steps] == [False, False, True]
    assert as_keras_rl_environment(env) is env
