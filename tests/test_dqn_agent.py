"""DQNAgent: its update against the textbook formula in NumPy, its loop step by step, its place in keras-rl."""

import unittest.mock

import gymnasium
import keras
import numpy as np
import pytest

from keras_rl import backends
from keras_rl.agent import DQNAgent
from keras_rl.bridge import clone_model, rl
from keras_rl.learner import Learner
from keras_rl.memory import SequentialMemory

pytestmark = pytest.mark.filterwarnings("ignore:rl.memory.SequentialMemory:UserWarning")
NUM_ACTIONS, STATE_SIZE, HIDDEN, BATCH = 3, 6, 5, 7


def q_network(num_actions=NUM_ACTIONS, input_shape=(1, STATE_SIZE)):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dense(num_actions),
        ]
    )


def agent_on(memory, nb_actions=NUM_ACTIONS, model=None, compile_with="sgd", **kwargs):
    agent = DQNAgent(model=model or q_network(nb_actions), nb_actions=nb_actions, memory=memory, **kwargs)
    agent.compile(compile_with)
    return agent


class Reference:
    """One update of deep Q-learning on a network of one hidden layer, written down in float64 NumPy."""

    def __init__(self, weights, target_weights, dueling_type=None):
        self.weights = [w.astype(np.float64) for w in weights]
        self.target_weights = [w.astype(np.float64) for w in target_weights]
        self.dueling_type = dueling_type

    def forward(self, weights, x):
        w1, b1, w2, b2 = weights
        hidden = np.maximum(x @ w1 + b1, 0)
        y = hidden @ w2 + b2
        return hidden, y, self.head(y)

    def head(self, y):
        if self.dueling_type is None:
            return y
        value, advantage = y[:, :1], y[:, 1:]
        baseline = {"avg": advantage.mean(1, keepdims=True), "max": advantage.max(1, keepdims=True), "naive": 0}
        return value + advantage - baseline[self.dueling_type]

    def head_gradient(self, y, dq):
        """d loss / d y from d loss / d q."""
        if self.dueling_type is None:
            return dq
        d_advantage = dq.copy()
        if self.dueling_type == "avg":
            d_advantage -= dq.mean(1, keepdims=True)
        if self.dueling_type == "max":
            d_advantage[np.arange(len(y)), y[:, 1:].argmax(1)] -= dq.sum(1)
        return np.concatenate([dq.sum(1, keepdims=True), d_advantage], axis=1)

    def gradients(self, x0, action, reward, x1, discount, double, delta_clip):
        rows = np.arange(len(action))
        next_q = self.forward(self.target_weights, x1)[2]
        best = self.forward(self.weights, x1)[2].argmax(1) if double else next_q.argmax(1)
        y = reward + discount * next_q[rows, best]
        hidden, head_input, q = self.forward(self.weights, x0)
        error = q[rows, action] - y
        dq = np.zeros_like(q)
        dq[rows, action] = np.clip(error, -delta_clip, delta_clip) / len(action)
        dy = self.head_gradient(head_input, dq)
        d_hidden = (dy @ self.weights[2].T) * (hidden > 0)
        small = np.abs(error) < delta_clip
        with np.errstate(invalid="ignore"):
            loss = np.where(small, error**2 / 2, delta_clip * (np.abs(error) - delta_clip / 2)).mean()
        return [x0.T @ d_hidden, d_hidden.sum(0), hidden.T @ dy, dy.sum(0)], loss, q.max(1).mean()


def random_batch(seed=0):
    """Transitions with TD errors on both sides of 1, terminals (discount 0) and truncations (discount gamma)."""
    rng = np.random.default_rng(seed)
    x0, x1 = rng.normal(size=(2, BATCH, 1, STATE_SIZE)).astype(np.float32)
    action = rng.integers(NUM_ACTIONS, size=BATCH).astype(np.int32)
    reward = (3 * rng.normal(size=BATCH)).astype(np.float32)
    discount = np.where(np.arange(BATCH) % 3 == 0, 0, 0.9).astype(np.float32)
    return x0, action, reward, x1, discount


@pytest.mark.parametrize("double", [False, True], ids=["plain", "double"])
@pytest.mark.parametrize("dueling_type", [None, "avg", "max", "naive"])
@pytest.mark.parametrize(("delta_clip", "target_model_update"), [(1.0, 1000), (np.inf, 0.1)], ids=["hard", "soft"])
def test_an_update_is_the_textbook_formula(double, dueling_type, delta_clip, target_model_update):
    keras.utils.set_random_seed(1)
    agent = agent_on(
        rl.memory.SequentialMemory(limit=10, window_length=1),
        compile_with=keras.optimizers.SGD(0.5),
        enable_double_dqn=double,
        enable_dueling_network=dueling_type is not None,
        dueling_type=dueling_type or "avg",
        delta_clip=delta_clip,
        target_model_update=target_model_update,
    )
    # The target network lags behind: without a difference the test could not tell the two apart.
    rng = np.random.default_rng(2)
    agent.model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in agent.model.get_weights()])
    weights, target_weights = agent.model.get_weights(), agent.target_model.get_weights()
    x0, action, reward, x1, discount = batch = random_batch()

    loss, mean_q = keras.ops.convert_to_numpy(agent.learner.update(*batch))

    reference = Reference(weights, target_weights, dueling_type)
    gradients, want_loss, want_mean_q = reference.gradients(
        x0[:, 0], action, reward, x1[:, 0], discount, double, delta_clip
    )
    want = [w - 0.5 * g for w, g in zip(reference.weights, gradients, strict=True)]
    tau = target_model_update if target_model_update < 1 else 0
    want_target = [tau * w + (1 - tau) * t for w, t in zip(want, reference.target_weights, strict=True)]
    assert loss == pytest.approx(want_loss, rel=1e-5)
    assert mean_q == pytest.approx(want_mean_q, rel=1e-5)
    for found, expected in zip(agent.model.get_weights(), want, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for found, expected in zip(agent.target_model.get_weights(), want_target, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("double", [False, True], ids=["plain", "double"])
@pytest.mark.parametrize("delta_clip", [1.0, 0.3])
def test_an_update_of_quantiles_is_the_formula_of_the_paper(double, delta_clip):
    number = 5
    keras.utils.set_random_seed(1)
    agent = agent_on(
        rl.memory.SequentialMemory(limit=10, window_length=1),
        compile_with=keras.optimizers.SGD(0.5),
        enable_double_dqn=double,
        delta_clip=delta_clip,
        num_quantiles=number,
    )
    rng = np.random.default_rng(2)
    agent.model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in agent.model.get_weights()])
    weights, target_weights = agent.model.get_weights(), agent.target_model.get_weights()
    x0, action, reward, x1, discount = batch = random_batch()

    loss, mean_q = keras.ops.convert_to_numpy(agent.learner.update(*batch))

    reference = Reference(weights, target_weights)
    next_quantiles = reference.forward(reference.target_weights, x1[:, 0])[1].reshape(BATCH, NUM_ACTIONS, number)
    online_next = reference.forward(reference.weights, x1[:, 0])[1].reshape(BATCH, NUM_ACTIONS, number)
    hidden, flat, _ = reference.forward(reference.weights, x0[:, 0])
    quantiles = flat.reshape(BATCH, NUM_ACTIONS, number)
    want_loss, d_quantiles = 0.0, np.zeros_like(quantiles)
    for b in range(BATCH):
        best = (online_next if double else next_quantiles)[b].mean(axis=1).argmax()
        targets = reward[b] + discount[b] * next_quantiles[b, best]
        for i in range(number):
            for target in targets:
                u = target - quantiles[b, action[b], i]
                weight = abs((i + 0.5) / number - (u < 0)) / number
                huber = u**2 / 2 if abs(u) < delta_clip else delta_clip * (abs(u) - delta_clip / 2)
                want_loss += weight * huber / BATCH
                d_quantiles[b, action[b], i] -= weight * np.clip(u, -delta_clip, delta_clip) / BATCH
    dy = d_quantiles.reshape(BATCH, -1)
    d_hidden = (dy @ reference.weights[2].T) * (hidden > 0)
    gradients = [x0[:, 0].T @ d_hidden, d_hidden.sum(0), hidden.T @ dy, dy.sum(0)]
    assert loss == pytest.approx(want_loss, rel=1e-5)
    assert mean_q == pytest.approx(quantiles.mean(axis=2).max(axis=1).mean(), rel=1e-5)
    for found, before, gradient in zip(agent.model.get_weights(), reference.weights, gradients, strict=True):
        np.testing.assert_allclose(found, before - 0.5 * gradient, rtol=1e-5, atol=1e-6)
    assert [w.tolist() for w in agent.target_model.get_weights()] == [w.tolist() for w in target_weights]


@pytest.mark.parametrize("dueling", [False, True], ids=["plain", "dueling"])
@pytest.mark.parametrize("num_quantiles", [1, 5])
def test_a_policy_of_any_head_is_saved_as_a_plain_network_with_the_same_q_values(num_quantiles, dueling):
    memory = rl.memory.SequentialMemory(limit=10, window_length=1)
    agent = agent_on(memory, num_quantiles=num_quantiles, enable_dueling_network=dueling)
    agent.learner.update(*random_batch())
    plain = q_network()
    plain.set_weights(agent.plain_weights())
    states = random_batch()[0]
    np.testing.assert_allclose(plain(states), agent.learner.q_values(states), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone has it")
def test_fused_adam_is_keras_adam_to_rounding(monkeypatch):
    fused = unittest.mock.Mock(wraps=backends._apply_fused_adam)
    monkeypatch.setattr(backends, "_apply_fused_adam", fused)
    keras.utils.set_random_seed(3)
    model = q_network()
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, 5, end_learning_rate=0.001)
    finals = []
    for extras in ({}, {"clipvalue": 1e9}):  # a clip that clips nothing keeps Keras' own kernels
        learned, target = clone_model(model), clone_model(model)
        learner = Learner(learned, target, keras.optimizers.Adam(rate, epsilon=1e-4, **extras))
        for seed in range(8):
            learner.update(*random_batch(seed))
        assert int(learner.optimizer.iterations) == 8
        finals.append([*learned.get_weights(), *(v.numpy() for v in learner.optimizer.variables[2:])])
        assert fused.call_count == 1, "it is traced for one of the two"
    for fused_values, reference in zip(*finals, strict=True):
        np.testing.assert_allclose(fused_values, reference, rtol=2e-5, atol=1e-7)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX rounds to 32 bits unless it is told otherwise")
def test_a_network_of_other_numbers_learns_with_keras_adam():
    keras.config.set_dtype_policy("float64")
    try:
        model = q_network()
        learner = Learner(model, clone_model(model), keras.optimizers.Adam(1e-2))
    finally:
        keras.config.set_dtype_policy("float32")
    before = model.get_weights()
    learner.update(*random_batch())
    assert all(weights.dtype == np.float64 for weights in before)
    assert any(np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True))


def test_regularisation_of_the_layers_is_part_of_the_loss():
    losses = []
    for regularizer in (None, keras.regularizers.L2(0.01)):
        model = keras.Sequential([keras.Input((1, STATE_SIZE)), keras.layers.Flatten()])
        model.add(keras.layers.Dense(NUM_ACTIONS, kernel_initializer="ones", kernel_regularizer=regularizer))
        learner = Learner(model, clone_model(model), keras.optimizers.SGD(0.0))
        losses.append(keras.ops.convert_to_numpy(learner.update(*random_batch()))[0])
    assert losses[1] == pytest.approx(losses[0] + 0.01 * STATE_SIZE * NUM_ACTIONS, rel=1e-5)


class ScriptedEnvironment(gymnasium.Env):
    """Episodes of a fixed length that count their steps: observation = [episode, step, ...], reward = step.

    They end terminal or truncated; a life is lost at `life_lost_at`.
    """

    observation_space = gymnasium.spaces.Box(0, 1000, (STATE_SIZE,), np.float32)
    action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)

    def __init__(self, length=5, truncates=False, life_lost_at=None, first_episode=0):
        self.length, self.truncates, self.life_lost_at = length, truncates, life_lost_at
        self.episode, self.actions = first_episode - 1, []

    def observe(self):
        return np.array([self.episode, self.count, 0, 0, 0, 1], np.float32)

    def reset(self, *, seed=None, options=None):
        self.episode, self.count = self.episode + 1, 0
        return self.observe(), {"life_lost": False}

    def step(self, action):
        self.actions.append(action)
        self.count += 1
        over = self.count == self.length
        info = {"life_lost": self.count == self.life_lost_at}
        return self.observe(), float(self.count), over and not self.truncates, over and self.truncates, info


def transitions_of(memory):
    """{(episode, step): (reward, (episode, step) afterwards, discount)} of everything that can be drawn."""
    batch = memory.sample_batch(2000, gamma=0.5)
    return {
        tuple(s0[-1, :2].astype(int).tolist()): (float(r), tuple(s1[-1, :2].astype(int).tolist()), float(d))
        for s0, _, r, s1, d in zip(*map(np.asarray, batch[:5]), strict=True)
    }


@pytest.mark.parametrize(("truncates", "last_discount"), [(False, 0.0), (True, 0.5)], ids=["terminal", "truncated"])
def test_a_terminal_ends_the_bootstrap_and_a_truncation_does_not(truncates, last_discount):
    agent = agent_on(SequentialMemory(500, window_length=1), nb_steps_warmup=10**9)
    agent.fit(ScriptedEnvironment(length=4, truncates=truncates), nb_steps=200, verbose=0)
    transitions = transitions_of(agent.memory)
    for (episode, step), (reward, after, discount) in transitions.items():
        assert reward == step + 1
        assert after == (episode, step + 1)
        assert discount == (last_discount if step == 3 else 0.5)
    assert {step for _, step in transitions} == {0, 1, 2, 3}


@pytest.mark.parametrize("terminal_on_life_loss", [False, True])
def test_a_life_loss_ends_the_return_but_not_the_game(terminal_on_life_loss):
    memory = SequentialMemory(500, window_length=2, n_step=3)
    agent = agent_on(
        memory,
        model=q_network(input_shape=(2, STATE_SIZE)),
        nb_steps_warmup=10**9,
        terminal_on_life_loss=terminal_on_life_loss,
    )
    history = agent.fit(ScriptedEnvironment(length=8, life_lost_at=4), nb_steps=400, verbose=0)
    assert set(history.history["nb_episode_steps"]) == {8}
    transitions = transitions_of(memory)
    reward, _, discount = transitions[3, 2]
    if terminal_on_life_loss:
        assert (reward, discount) == (3 + 0.5 * 4, 0.0)
    else:
        assert (reward, discount) == (3 + 0.5 * 4 + 0.25 * 5, 0.125)
    batch = memory.sample_batch(1000, gamma=0.5)
    state0 = np.asarray(batch.state0)
    after_loss = state0[state0[:, -1, 1] == 4]
    assert np.all(after_loss[:, 0, 1] == 3), "the state reaches back over the lost life"


def test_environments_side_by_side_keep_their_transitions_apart():
    memory = SequentialMemory(600, window_length=1, num_streams=3)
    agent = agent_on(memory, nb_steps_warmup=10**9)
    environments = [ScriptedEnvironment(length=3 + i, first_episode=100 * i) for i in range(3)]
    history = agent.fit(environments, nb_steps=301, verbose=0)
    assert agent.step == 301
    assert [len(e.actions) for e in environments] == [101, 100, 100]
    assert all(after == (episode, step + 1) for (episode, step), (_, after, _) in transitions_of(memory).items())
    assert set(history.history["nb_episode_steps"]) == {3, 4, 5}


class Recorder(rl.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls, self.updates, self.logs = [], [], []

    def on_episode_begin(self, episode, logs=None):
        self.calls.append(("episode_begin", episode))

    def on_step_begin(self, step, logs=None):
        self.calls.append(("step_begin", step))

    def on_action_begin(self, action, logs=None):
        self.calls.append(("action_begin", action))

    def on_action_end(self, action, logs=None):
        self.calls.append(("action_end", action))

    def on_step_end(self, step, logs=None):
        self.calls.append(("step_end", step))
        self.logs.append(logs)
        if not np.isnan(logs.get("metrics", [np.nan])[0]):
            self.updates.append(self.model.step)

    def on_episode_end(self, episode, logs=None):
        self.calls.append(("episode_end", episode))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"action_repetition": 2},
        {"nb_max_episode_steps": 2},
        {"nb_max_start_steps": 4},
        {"nb_max_start_steps": 4, "start_step_policy": lambda observation: 2, "action_repetition": 2},
    ],
)
@pytest.mark.parametrize("is_test", [False, True])
def test_callbacks_are_called_as_by_keras_rl(arguments, is_test):
    """Against keras-rl2's own loop, on an agent that always takes action 1."""
    recorders = []
    for make in (rl.agents.dqn.DQNAgent, DQNAgent):
        policy = rl.policy.GreedyQPolicy()  # draws no random numbers
        memory = rl.memory.SequentialMemory(limit=100, window_length=1)
        agent = make(model=q_network(), nb_actions=NUM_ACTIONS, memory=memory, policy=policy, nb_steps_warmup=10**9)
        agent.compile("sgd", metrics=["mae"])
        agent.model.set_weights([np.zeros_like(w) for w in agent.model.get_weights()[:-1]] + [np.array([0.0, 1, 0])])
        recorder, environment = Recorder(), ScriptedEnvironment(length=7)
        environment.action_space.seed(0)  # for start steps without a policy
        np.random.seed(0)  # for their number
        length = {"nb_episodes": 3, "visualize": False} if is_test else {"nb_steps": 17}
        play = agent.test if is_test else agent.fit
        history = play(environment, **length, **arguments, callbacks=[recorder], verbose=0)
        recorders.append((recorder, history, agent))
    (stock, stock_history, stock_agent), (ours, our_history, our_agent) = recorders
    assert ours.calls == stock.calls
    assert our_agent.metrics_names == stock_agent.metrics_names
    for a, b in zip(ours.logs, stock.logs, strict=True):
        assert a.keys() - {"metrics"} == b.keys() - {"metrics"}  # in a test keras-rl's own has none
        assert (a["action"], a["reward"], a["episode"]) == (b["action"], b["reward"], b["episode"])
        assert a["info"] == b["info"]
        np.testing.assert_array_equal(a["observation"], b["observation"])
    for name, values in stock_history.history.items():
        assert our_history.history[name] == pytest.approx(values)


def test_updates_and_target_copies_come_at_their_steps():
    agent = agent_on(
        SequentialMemory(500, window_length=1), nb_steps_warmup=20, train_interval=4, target_model_update=10
    )
    recorder, copies = Recorder(), []
    copy = agent.update_target_model_hard

    def record_and_copy():
        copies.append(agent.step)
        copy()

    agent.update_target_model_hard = record_and_copy
    agent.fit(ScriptedEnvironment(), nb_steps=60, callbacks=[recorder], verbose=0)
    assert recorder.updates == list(range(24, 60, 4))
    assert copies == list(range(0, 60, 10))


class WeightsReader(rl.callbacks.Callback):
    """Reads what an update writes, at once after it was started."""

    def __init__(self):
        super().__init__()
        self.norms, self.losses = [], []

    def on_step_end(self, step, logs=None):
        self.norms.append([float(np.abs(w).sum()) for w in self.model.model.get_weights()])
        self.losses.append(logs["metrics"][0])


def test_an_update_beside_the_emulators_gives_the_weights_of_one_that_is_waited_for():
    weights = []
    for callbacks in [], [WeightsReader()]:
        keras.utils.set_random_seed(3)
        memory = SequentialMemory(900, window_length=1, num_streams=3, rng=np.random.default_rng(0))
        agent = agent_on(memory, compile_with="adam", nb_steps_warmup=20, train_interval=2, target_model_update=15)
        environments = [ScriptedEnvironment(length=3 + i, first_episode=100 * i) for i in range(3)]
        agent.fit(environments, nb_steps=200, callbacks=callbacks, verbose=0)
        weights.append(agent.model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    (reader,) = callbacks
    updates = ~np.isnan(reader.losses)
    changes = np.any(np.diff(reader.norms, axis=0), axis=1)
    np.testing.assert_array_equal(changes, updates[1:])


def test_metrics_of_an_update_are_a_sequence_like_any_other():
    recorder = Recorder()
    agent = agent_on(SequentialMemory(500, window_length=1), nb_steps_warmup=10)
    agent.fit(ScriptedEnvironment(), nb_steps=30, callbacks=[recorder], verbose=0)
    rows = [logs["metrics"] for logs in recorder.logs]
    assert np.array(rows).shape == (30, 2)
    assert list(rows[-1]) == [rows[-1][0], rows[-1][1]] == rows[-1][:]
    assert len(rows[-1]) == 2 and all(isinstance(value, float) for value in rows[-1])


def test_what_cannot_take_the_fast_path_is_said_and_works():
    class Halver(rl.core.Processor):
        def process_state_batch(self, batch):
            return np.asarray(batch) / 2

    agent = DQNAgent(
        model=q_network(),
        nb_actions=NUM_ACTIONS,
        memory=rl.memory.SequentialMemory(500, window_length=1),
        processor=Halver(),
        nb_steps_warmup=10,
    )
    with pytest.warns(UserWarning) as warnings:
        agent.compile("sgd")
    said = [str(each.message).split()[0] for each in warnings if each.category is UserWarning]
    assert [word for word in said if word != "Explicitly"] == [  # which JAX says of 64-bit numbers that it rounds
        "Halver.process_state_batch",
        "rl.memory.SequentialMemory",
    ]
    agent.fit(ScriptedEnvironment(), nb_steps=30, verbose=0)


def test_training_logs_name_every_metric():
    policy = rl.policy.LinearAnnealedPolicy(rl.policy.EpsGreedyQPolicy(), "eps", 1.0, 0.1, 0.05, nb_steps=100)
    agent = DQNAgent(
        model=q_network(),
        nb_actions=NUM_ACTIONS,
        memory=SequentialMemory(500, window_length=1),
        policy=policy,
        nb_steps_warmup=10,
    )
    agent.compile("adam", metrics=["mae"])
    recorder = Recorder()
    agent.fit(ScriptedEnvironment(), nb_steps=51, callbacks=[recorder], verbose=0)
    assert agent.metrics_names == ["loss", "mae", "mean_q", "mean_eps"]
    assert len(recorder.logs[-1]["metrics"]) == 4
    assert recorder.logs[-1]["metrics"][3] == pytest.approx(1 - 0.9 * 50 / 100)


@pytest.mark.parametrize("verbose", [1, 2])
def test_keras_rls_own_loggers_print(verbose, capsys, tmp_path):
    agent = agent_on(SequentialMemory(500, window_length=1), nb_steps_warmup=10)
    path = tmp_path / "log.json"
    checkpoint = rl.callbacks.ModelIntervalCheckpoint(str(tmp_path / "weights_{step}.h5f"), interval=20)
    callbacks = [rl.callbacks.FileLogger(str(path), interval=1), checkpoint]
    agent.fit(ScriptedEnvironment(), nb_steps=40, callbacks=callbacks, verbose=verbose, log_interval=20)
    assert "mean_q" in capsys.readouterr().out
    assert '"episode_score"' in path.read_text()
    assert (tmp_path / "weights_20.h5f").exists()
    assert (tmp_path / "weights_40.h5f").exists()


class TimesTwo(rl.core.Processor):
    """A processor in NumPy, as keras-rl's users write them."""

    def process_state_batch(self, batch):
        assert isinstance(batch, np.ndarray)
        return batch.astype("float32") * 2

    def process_reward(self, reward):
        return np.clip(reward, -1, 1)


def test_a_numpy_processor_works_and_clips_what_is_learned_but_not_the_score():
    agent = agent_on(SequentialMemory(500, window_length=1), processor=TimesTwo(), nb_steps_warmup=10)
    state = [np.arange(STATE_SIZE, dtype=np.float32)]
    expected = agent.model.predict_on_batch(2 * np.array([state]))[0]
    np.testing.assert_allclose(agent.compute_q_values(state), expected, rtol=1e-6)
    history = agent.fit(ScriptedEnvironment(length=4), nb_steps=40, verbose=0)
    assert set(history.history["episode_reward"]) == {4.0}
    assert set(history.history["episode_score"]) == {1.0 + 2 + 3 + 4}


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    finals = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        memory = SequentialMemory(500, window_length=1, n_step=2, num_streams=2, rng=np.random.default_rng(5))
        agent = agent_on(memory, nb_steps_warmup=20, compile_with="adam", target_model_update=30)
        agent.fit([ScriptedEnvironment(), ScriptedEnvironment(length=7)], nb_steps=200, verbose=0)
        finals.append(agent.model.get_weights())
    for a, b in zip(*finals, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_test_plays_whole_episodes_greedily_and_learns_nothing():
    agent = agent_on(SequentialMemory(500, window_length=1), policy=rl.policy.EpsGreedyQPolicy(eps=1.0))
    before, environment = agent.model.get_weights(), ScriptedEnvironment(length=6)
    agent.model.set_weights([np.zeros_like(w) for w in before[:-1]] + [np.array([0.0, 0, 1])])
    history = agent.test(environment, nb_episodes=3, visualize=False, verbose=0)
    assert history.history["nb_steps"] == [6, 6, 6]
    assert environment.actions == [2] * 18
    assert agent.memory.nb_entries == 0


def test_visualize_renders_every_action_of_a_gymnasium_environment():
    environment = ScriptedEnvironment(length=6)
    environment.render = lambda: environment.actions.append("render")  # type: ignore[method-assign]
    agent = agent_on(SequentialMemory(500, window_length=1))
    agent.test(environment, nb_episodes=1, visualize=True, verbose=0)
    assert environment.actions[1::2] == ["render"] * 6


def test_a_test_can_be_limited_to_a_number_of_steps():
    agent = agent_on(SequentialMemory(500, window_length=1))
    history = agent.test(
        ScriptedEnvironment(length=60), nb_episodes=2, nb_max_episode_steps=9, visualize=False, verbose=0
    )
    assert history.history["nb_steps"] == [9, 9]


class StopAt(rl.callbacks.Callback):
    def __init__(self, step, error=None):
        super().__init__()
        self.at, self.error = step, error

    def on_step_end(self, step, logs=None):
        if self.model.step == self.at:
            if self.error:
                raise self.error
            self.model.stop_training = True


@pytest.mark.parametrize(("error", "steps"), [(None, 13), (KeyboardInterrupt(), 12)], ids=["callback", "ctrl-c"])
def test_training_can_be_stopped(error, steps):
    agent = agent_on(SequentialMemory(500, window_length=1))
    history = agent.fit(ScriptedEnvironment(), nb_steps=1000, callbacks=[StopAt(12, error)], verbose=0)
    assert agent.step == steps
    assert history.history["nb_episode_steps"] == [5, 5]


def test_keras_rls_forward_and_backward_train_step_by_step():
    agent = agent_on(SequentialMemory(500, window_length=1), nb_steps_warmup=5)
    agent.training = True
    before = [w.copy() for w in agent.model.get_weights()]
    for agent.step in range(20):
        action = agent.forward(np.full(STATE_SIZE, agent.step, np.float32))
        assert action in range(NUM_ACTIONS)
        metrics = agent.backward(1.0, terminal=False)
    assert np.isfinite(metrics).all()
    assert any((a != b).any() for a, b in zip(before, agent.model.get_weights(), strict=True))


def test_weights_go_through_any_file_name_and_reach_the_target_network(tmp_path):
    agent, other = (agent_on(SequentialMemory(10, window_length=1)) for _ in range(2))
    agent.save_weights(tmp_path / "dqn_weights.h5f")
    other.load_weights(tmp_path / "dqn_weights.h5f")
    for model in (other.model, other.target_model):
        for a, b in zip(model.get_weights(), agent.model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dueling_type", ["avg", "naive"])
def test_a_dueling_head_folds_into_plain_weights_with_the_same_q_values(dueling_type):
    agent = agent_on(SequentialMemory(10, window_length=1), enable_dueling_network=True, dueling_type=dueling_type)
    plain = q_network()
    plain.set_weights(agent.plain_weights())
    states = np.random.default_rng(6).normal(size=(9, 1, STATE_SIZE)).astype(np.float32)
    np.testing.assert_allclose(plain(states), agent.compute_batch_q_values(states), rtol=1e-5, atol=1e-6)


def test_a_functional_model_of_two_inputs_trains_through_a_multi_input_processor():
    a, b = keras.Input((1, 2)), keras.Input((1, 3))
    x = keras.layers.Concatenate()([keras.layers.Flatten()(a), keras.layers.Flatten()(b)])
    model = keras.Model([a, b], keras.layers.Dense(2)(x))

    class TwoInputs(ScriptedEnvironment):
        def observe(self):
            return np.zeros(2, np.float32), np.ones(3, np.float32)

    memory = rl.memory.SequentialMemory(limit=100, window_length=1)
    agent = agent_on(
        memory,
        nb_actions=2,
        model=model,
        processor=rl.processors.MultiInputProcessor(nb_inputs=2),
        nb_steps_warmup=8,
        batch_size=4,
    )
    before = model.get_weights()
    agent.fit(TwoInputs(length=20), nb_steps=30, verbose=0)
    assert (model.get_weights()[0] != before[0]).any()


class TestMistakes:
    def test_fit_before_compile(self):
        agent = DQNAgent(model=q_network(), nb_actions=NUM_ACTIONS, memory=SequentialMemory(10, window_length=1))
        with pytest.raises(RuntimeError, match=r"call compile\(\)"):
            agent.fit(ScriptedEnvironment(), nb_steps=1)

    def test_more_environments_than_streams(self):
        agent = agent_on(SequentialMemory(100, window_length=1))
        with pytest.raises(ValueError, match="num_streams=2"):
            agent.fit([ScriptedEnvironment(), ScriptedEnvironment()], nb_steps=1)

    def test_a_model_with_another_number_of_outputs(self):
        with pytest.raises(ValueError, match="invalid shape"):
            agent_on(SequentialMemory(10, window_length=1), nb_actions=4, model=q_network(3))

    def test_life_loss_with_a_memory_that_cannot_keep_it_apart(self):
        with pytest.raises(ValueError, match="terminal_on_life_loss"):
            agent_on(rl.memory.SequentialMemory(limit=10, window_length=1), terminal_on_life_loss=True)

    def test_an_unknown_dueling_type(self):
        with pytest.raises(ValueError, match="expected"):
            agent_on(SequentialMemory(10, window_length=1), enable_dueling_network=True, dueling_type="mean")

    def test_no_quantiles(self):
        with pytest.raises(ValueError, match="num_quantiles is 0, expected 1 or more"):
            agent_on(SequentialMemory(10, window_length=1), num_quantiles=0)

    def test_no_action_repetition(self):
        with pytest.raises(ValueError, match="action_repetition"):
            agent_on(SequentialMemory(10, window_length=1)).fit(ScriptedEnvironment(), nb_steps=1, action_repetition=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Not enough entries")  # keras-rl's short warm-up
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the seed that solves it is TensorFlow's")
def test_keras_rls_cartpole_example_solves_cartpole():
    """examples/dqn_cartpole.py of keras-rl2, moved to Gymnasium: the same network, memory, policy and settings."""
    keras.utils.set_random_seed(123)
    env = gymnasium.make("CartPole-v0", disable_env_checker=True)
    env.reset(seed=123)
    model = keras.Sequential([keras.Input((1, 4)), keras.layers.Flatten()])
    for _ in range(3):
        model.add(keras.layers.Dense(16, activation="relu"))
    model.add(keras.layers.Dense(2, activation="linear"))
    dqn = DQNAgent(
        model=model,
        nb_actions=2,
        memory=rl.memory.SequentialMemory(limit=50000, window_length=1),
        nb_steps_warmup=10,
        target_model_update=1e-2,
        policy=rl.policy.BoltzmannQPolicy(),
    )
    dqn.compile(keras.optimizers.Adam(learning_rate=1e-3), metrics=["mae"])
    for _ in range(30):  # of 1,000 steps each; a few are enough, how many depends on the processor's last bits
        dqn.fit(env, nb_steps=1000, verbose=0)
        scores = dqn.test(env, nb_episodes=10, visualize=False, verbose=0).history["episode_reward"]
        if np.mean(scores) >= 195:
            break
    assert np.mean(scores) >= 195, "CartPole-v0 counts as solved from a mean of 195 on"
