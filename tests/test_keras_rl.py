"""The bridge: each repair is still needed, and with it keras-rl2's own agents work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import keras
import numpy as np
import pytest

from keras_rl import DQNAgent, SequentialMemory, bridge, rl

# What keras_rl/ says that these lines of keras-rl2 do.
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
    "rl/callbacks.py:76": "callback.on_batch_begin(step, logs=logs)",
    "rl/callbacks.py:86": "callback.on_batch_end(step, logs=logs)",
    "rl/callbacks.py:273": "[logs['info'][k] for k in self.info_names]",
    "rl/callbacks.py:353": "with open(self.filepath, 'w')",
    "rl/callbacks.py:360": "self.env.render(mode='human')",
    "rl/core.py:107": "'nb_steps': nb_steps,",
    "rl/core.py:117": "self.step = np.int16(0)",
    "rl/core.py:123": "while self.step < nb_steps:",
    "rl/core.py:131": "observation = deepcopy(env.reset())",
    "rl/core.py:176": "observation, r, done, info = env.step(action)",
    "rl/core.py:181": "if not np.isreal(value):",
    "rl/core.py:237": "return history",
    "rl/memory.py:38": "np.random.random_integers",
    "rl/policy.py:167": "action = np.argmax(q_values)",
    "rl/util.py:3": "import model_from_config",
    "rl/util.py:15": "clone = model_from_config",
    "rl/util.py:46": "updates.append",
    "rl/util.py:76": "import tensorflow as tf",
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
    texts = [path.read_text() for path in Path(bridge.__file__).parent.glob("*.py")]
    cited = set(re.findall(r"rl/[\w/]+\.py:\d+", "".join(texts)))
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


AGENTS = {"ours": DQNAgent, "stock": rl.agents.dqn.DQNAgent}
both_agents = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
without_hints = pytest.mark.filterwarnings("ignore:.*builds its batches", "ignore:.*process_state_batch runs")


def compiled(agent, model=None, memory=None, **kwargs):
    memory = memory or rl.memory.SequentialMemory(limit=1000, window_length=1)
    dqn = agent(model=model or q_network(), nb_actions=2, memory=memory, **{"nb_steps_warmup": 20, **kwargs})
    dqn.compile(keras.optimizers.Adam(1e-3))
    return dqn


class InfoWrapper(gymnasium.Wrapper):
    """Puts into `info` what `values` says for each step, counted over all episodes."""

    def __init__(self, values):
        super().__init__(gymnasium.make("CartPole-v1", max_episode_steps=8))
        self.values, self.steps = values, 0

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        return observation, reward, terminated, truncated, {**info, **self.values(self.steps)}


INFOS = {
    "values that are no numbers": lambda n: {"a": None, "b": "text", "c": [1], "d": {"e": 1}, "f": np.ones(2, np.int8)},
    "numbers of all kinds": lambda n: {"a": 1, "b": 1.0, "c": np.float32(1), "d": np.array(1.0), "e": True},
    "a key that comes": lambda n: {"bonus": 3.0} if n > 13 else {},
    "a key that goes": lambda n: {"bonus": 3.0} if n < 13 else {},
    "a key now and then": lambda n: {"bonus": 3.0} if n % 5 == 0 else {},
    "a number, then none": lambda n: {"bonus": 3.0 if n < 13 else None},
}


@both_agents
@without_hints
@pytest.mark.parametrize("values", INFOS.values(), ids=INFOS)
def test_info_may_hold_anything_at_any_time(agent, values, capsys):
    dqn = compiled(agent, nb_steps_warmup=1000)
    for verbose in (1, 2):
        dqn.fit(InfoWrapper(values), nb_steps=40, verbose=verbose, log_interval=10)
    printed = capsys.readouterr().out
    bonus = re.findall(r"bonus: ([\d.]+)", printed)
    assert set(bonus) <= {"3.000"}  # the mean of those that are there
    assert bool(bonus) == ("bonus" in values(5) | values(20))


def keras_callbacks(folder):
    monitored = {"monitor": "episode_reward", "mode": "max"}
    return {
        "EarlyStopping": keras.callbacks.EarlyStopping(**monitored, patience=1, restore_best_weights=True),
        "ModelCheckpoint": keras.callbacks.ModelCheckpoint(folder / "best.keras", **monitored, save_best_only=True),
        "ModelCheckpoint of steps": keras.callbacks.ModelCheckpoint(
            folder / "{batch}.weights.h5", save_freq=10, save_weights_only=True
        ),
        "ReduceLROnPlateau": keras.callbacks.ReduceLROnPlateau(**monitored, patience=0, factor=0.5),
        "LearningRateScheduler": keras.callbacks.LearningRateScheduler(lambda episode: 1e-4 * (episode + 1)),
        "ProgbarLogger": keras.callbacks.ProgbarLogger(),
        "CSVLogger": keras.callbacks.CSVLogger(folder / "log.csv"),
        "TerminateOnNaN": keras.callbacks.TerminateOnNaN(),
        "BackupAndRestore": keras.callbacks.BackupAndRestore(folder / "backup"),
    }


@both_agents
@without_hints
def test_keras_own_callbacks_find_in_an_agent_what_they_look_for(agent, tmp_path):
    dqn = compiled(agent, nb_steps_warmup=30)
    for name, callback in keras_callbacks(tmp_path).items():
        history = dqn.fit(
            gymnasium.make("CartPole-v1", max_episode_steps=8), nb_steps=40, verbose=0, callbacks=[callback]
        )
        ended = len(history.history["episode_reward"])
        if name == "EarlyStopping":
            assert (dqn.step < 40) == (callback.stopped_epoch > 0)
            assert not dqn.stop_training
        if name == "LearningRateScheduler":
            episodes_begun = ended + (dqn.step > sum(history.history["nb_episode_steps"]))
            assert float(dqn.optimizer.learning_rate) == pytest.approx(1e-4 * episodes_begun)
    saved = keras.models.load_model(tmp_path / "best.keras")
    assert [w.shape for w in saved.get_weights()] == [w.shape for w in q_network().get_weights()]
    assert list(tmp_path.glob("*.weights.h5"))


@both_agents
@without_hints
def test_whoever_sets_stop_training_ends_the_training_and_the_next_one_begins_anew(agent):
    class Stop(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            self.model.stop_training = self.model.step == 9

    dqn = compiled(agent)
    dqn.fit(gymnasium.make("CartPole-v1"), nb_steps=50, verbose=0, callbacks=[Stop()])
    assert dqn.step == 10
    dqn.fit(gymnasium.make("CartPole-v1"), nb_steps=25, verbose=0)
    assert dqn.step == 25


@both_agents
@without_hints
def test_weights_set_on_an_agent_are_its_target_networks_too(agent):
    dqn = compiled(agent)
    dqn.set_weights([weights + 1 for weights in dqn.get_weights()])
    for online, target in zip(dqn.get_weights(), dqn.target_model.get_weights(), strict=True):
        np.testing.assert_array_equal(online, target)


@both_agents
@without_hints
@pytest.mark.parametrize("memory", [SequentialMemory, rl.memory.SequentialMemory], ids=["our memory", "stock memory"])
def test_no_transition_leads_from_one_training_into_the_next(agent, memory):
    class Numbered(rl.core.Env):
        """Its observations count on, by 100 from one game to the next; no game ends by itself."""

        action_space = gymnasium.spaces.Discrete(2)
        count = 0

        def reset(self):
            Numbered.count += 100 - Numbered.count % 100
            return np.full(4, Numbered.count / 1e4)

        def step(self, action):
            Numbered.count += 1
            return np.full(4, Numbered.count / 1e4), 0.0, False, {}

        def close(self):
            pass

    dqn = compiled(agent, memory=memory(limit=1000, window_length=1), nb_steps_warmup=1000)
    for _ in range(5):
        dqn.fit(Numbered(), nb_steps=8, verbose=0)
    batch = dqn.memory.sample(200, np.arange(200) % (dqn.memory.nb_entries - 2) + 1)
    moves = {(round(e.state0[0][0] * 1e4), round(e.state1[0][0] * 1e4)) for e in batch}
    assert all(after - before == 1 for before, after in moves)
    assert len({before // 100 for before, _ in moves}) == 5


class Shop(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1, 1, (4,))

    def reset(self, *, seed=None, options=None):
        self.money = 100.0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.money += 1
        return np.zeros(4, np.float32), float(action), self.money > 105, False, {}


@both_agents
@without_hints
def test_a_callback_looks_into_its_environment_and_changes_it(agent):
    class Look(rl.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            self.seen = (self.env.money, self.env.unwrapped, self.env.spec)
            self.env.money = 1000.0

    look, shop = Look(), Shop()
    history = compiled(agent).fit(shop, nb_steps=20, verbose=0, callbacks=[look])
    assert look.seen[1:] == (shop, None)
    assert set(history.history["nb_episode_steps"]) == {2}  # the second step finds the money


@both_agents
@without_hints
def test_what_cannot_be_shown_is_said_once_and_the_test_goes_on(agent):
    with pytest.warns(UserWarning, match="not shown: .*render_mode") as caught:
        history = compiled(agent).test(Shop(), nb_episodes=2, verbose=0)
    assert len(history.history["episode_reward"]) == 2
    assert len([each for each in caught if "not shown" in str(each.message)]) == 1


def test_several_environments_are_not_shown_and_the_test_goes_on():
    dqn = compiled(DQNAgent, memory=SequentialMemory(limit=100, window_length=1, num_streams=2))
    with pytest.warns(UserWarning, match="only a single environment can be shown"):
        dqn.test([Shop(), Shop()], nb_episodes=2, verbose=0)
    shop = Shop()
    with pytest.raises(ValueError, match="The same environment was given twice"):
        dqn.fit([shop, shop], nb_steps=10)


SENTENCES = {
    "no input shape": (
        lambda: keras.Sequential([keras.layers.Dense(2)]),
        ValueError,
        "does not know the shape of its input",
    ),
    "two outputs": (
        lambda: keras.Model(x := keras.Input((1, 4)), [keras.layers.Flatten()(x), keras.layers.Dense(2)(x)]),
        ValueError,
        "has 2 outputs, expected one",
    ),
    "another library's": (lambda: object(), TypeError, "is a builtins.object, expected one of Keras 3"),
}


@both_agents
@pytest.mark.parametrize("case", SENTENCES)
def test_models_that_no_agent_can_use_are_refused_in_a_sentence(agent, case):
    make, error, sentence = SENTENCES[case]
    with pytest.raises(error, match=sentence):
        compiled(agent, model=make())


@both_agents
@without_hints
def test_optimizers_and_metrics_that_are_none_are_refused_in_a_sentence(agent):
    dqn = compiled(agent)
    for optimizer in (None, "adamm", object()):
        with pytest.raises(TypeError, match=r'expected one of Keras 3.*or its name.*"adam"'):
            dqn.compile(optimizer)


@without_hints
def test_a_metric_of_classes_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="metrics holds 'acc', expected a function"):
        compiled(DQNAgent).compile("adam", metrics=["acc"])


@both_agents
@without_hints
def test_a_network_that_has_diverged_ends_the_training_in_a_sentence(agent):
    dqn = compiled(agent, policy=rl.policy.EpsGreedyQPolicy())
    dqn.set_weights([np.full_like(weights, np.nan) for weights in dqn.get_weights()])
    with pytest.raises(FloatingPointError, match="no finite numbers at step 0: the training has diverged"):
        dqn.fit(gymnasium.make("CartPole-v1"), nb_steps=30, verbose=0)


@both_agents
@without_hints
def test_a_network_of_several_inputs_learns_from_lists_with_both_memories(agent):
    class Car(Shop):
        def reset(self, *, seed=None, options=None):
            super().reset()
            return [np.zeros(3), np.ones(2)], {}

        def step(self, action):
            _, *others = super().step(action)
            return [np.zeros(3), np.ones(2)], *others

    for memory in (SequentialMemory, rl.memory.SequentialMemory):
        inputs = [keras.Input((2, 3)), keras.Input((2, 2))]
        flat = keras.layers.Flatten()(keras.layers.Concatenate()(inputs))
        dqn = compiled(
            agent,
            model=keras.Model(inputs, keras.layers.Dense(2)(flat)),
            memory=memory(limit=100, window_length=2),
            processor=rl.processors.MultiInputProcessor(2),
            batch_size=4,
        )
        before = dqn.get_weights()
        dqn.fit(Car(), nb_steps=30, verbose=0)
        assert any((a != b).any() for a, b in zip(before, dqn.get_weights(), strict=True))
    if agent is DQNAgent:
        model = keras.Sequential([keras.Input((1, 4)), keras.layers.Flatten(), keras.layers.Dense(2)])
        with pytest.raises(ValueError, match="The observations are lists of several parts; give the agent a processor"):
            compiled(agent, model=model).fit(Car(), nb_steps=10, verbose=0)


@both_agents
@without_hints
def test_weights_and_logs_go_into_a_folder_that_is_made(agent, tmp_path):
    dqn = compiled(agent)
    log = rl.callbacks.FileLogger(str(tmp_path / "logs" / "today" / "log.json"))
    dqn.fit(gymnasium.make("CartPole-v1", max_episode_steps=5), nb_steps=12, verbose=0, callbacks=[log])
    dqn.save_weights(tmp_path / "SavedWeights" / "10k" / "dqn.h5f")
    dqn.load_weights(tmp_path / "SavedWeights" / "10k" / "dqn.h5f")
    assert (tmp_path / "logs" / "today" / "log.json").exists()


def test_rl_utils_functions_work():
    from rl.util import clone_model, clone_optimizer, huber_loss

    network = q_network()
    for mine, theirs in zip(clone_model(network).get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert float(clone_optimizer(keras.optimizers.SGD(0.25, clipnorm=1.0)).learning_rate) == 0.25
    losses = keras.ops.convert_to_numpy(huber_loss(np.array([0.0, 3.0]), np.zeros(2), 1.0))
    np.testing.assert_allclose(losses, [0, 2.5])
    too_few = rl.memory.SequentialMemory(10, window_length=1)
    for number in range(4):
        too_few.append(number, 0, 0.0, False)
    with pytest.warns(UserWarning, match="Not enough entries"):
        assert len(too_few.sample(20)) == 20


def run_python(code, folder, **environment):
    return subprocess.run(
        [sys.executable, "-c", code] if isinstance(code, str) else [sys.executable, *code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
    )


def test_keras_rl_imported_before_is_put_right(tmp_path):
    code = """
import rl, rl.callbacks, rl.core, rl.memory
before = rl
try:
    import rl.agents.dqn
except ImportError:
    pass
import keras_rl
from rl.agents.dqn import DQNAgent
assert before.callbacks.CallbackList is keras_rl.rl.callbacks.CallbackList is rl.callbacks.CallbackList
rl.memory.SequentialMemory = keras_rl.SequentialMemory  # as people do, and ours has to bear it
import gymnasium, keras
model = keras.Sequential([keras.Input((1, 4)), keras.layers.Flatten(), keras.layers.Dense(2)])
memory = rl.memory.SequentialMemory(limit=100, window_length=1)
dqn = DQNAgent(model=model, nb_actions=2, memory=memory, nb_steps_warmup=10)
dqn.compile("adam")
dqn.fit(gymnasium.make("CartPole-v1"), nb_steps=12, verbose=0)
print("trained", dqn.step)
"""
    result = run_python(code, tmp_path)
    assert result.stdout.endswith("trained 12\n"), result.stderr


def test_a_file_called_rl_is_named(tmp_path):
    (tmp_path / "rl.py").write_text("")
    result = run_python("import keras_rl", tmp_path)
    assert re.search(r"ImportError: `import rl` has to find keras-rl2, but finds .*rl\.py; give that", result.stderr)


def test_a_script_has_files_of_its_own_beside_it(tmp_path):
    names = ["models", "memory", "agents", "processors", "training", "files", "config", "environments", "evaluation"]
    for name in [*names, "adapter", "callbacks", "observations", "frames", "learner", "checkpoint", "heads", "resume"]:
        (tmp_path / f"{name}.py").write_text(f"own = {name!r}\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import models, memory, agents, callbacks\n"
        "from keras_rl import DQNAgent, SequentialMemory\n"
        "assert [models.own, memory.own, agents.own, callbacks.own] == ['models', 'memory', 'agents', 'callbacks']\n"
        "print('imported', SequentialMemory.__module__)\n"
    )
    library = tmp_path / "installed"
    for package in ("keras_rl", "keras_h5"):  # what pip installs, and nothing else of this repository
        shutil.copytree(Path(__file__).parents[1] / package, library / package)
    result = run_python([str(script)], tmp_path, PYTHONPATH=str(library))
    assert result.stdout.endswith("imported keras_rl.memory\n"), result.stderr
