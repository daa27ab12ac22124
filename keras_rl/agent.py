"""keras-rl's `DQNAgent` (Mnih et al. 2015), on Keras 3."""

import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np

from keras_rl import resume
from keras_rl.adapter import KerasRLEnvironment, as_keras_rl_environment
from keras_rl.bridge import clone_model, require_network, require_numbers, require_optimizer, rl
from keras_rl.callbacks import end_episode
from keras_rl.episodes import Stepper
from keras_rl.frames import FrameStacks
from keras_rl.heads import fold_head, fold_input_offset, unfold_head, with_head
from keras_rl.learner import Learner
from keras_rl.memory import SequentialMemory
from keras_rl.observations import as_array


class DQNAgent(rl.agents.dqn.DQNAgent):
    """A drop-in for keras-rl2's `DQNAgent`: the same arguments, methods, callbacks and metrics, and faster.

    It learns from replayed transitions by one compiled call an update (see `Learner`), takes environments of
    Gymnasium's interface as well as keras-rl's, and plays several side by side when given a list: their actions
    come from one call of the network. With a `keras_rl.memory.SequentialMemory` a truncated episode
    keeps its bootstrap; keras-rl's own memory has one flag for both and treats a truncation as terminal.

    Args:
        model: A Keras model of one Q-value per action, output (batch, nb_actions).
        policy: Chooses actions in training. Default: `EpsGreedyQPolicy()`.
        test_policy: Chooses actions in `test`. Default: `GreedyQPolicy()`.
        enable_double_dqn: Let the online network choose the action that the target network values (van
            Hasselt et al. 2016).
        enable_dueling_network: Replace the last layer by a state value and advantages (Wang et al. 2016).
        dueling_type: "avg": Q = V + A - mean A, "max": Q = V + A - max A, "naive": Q = V + A.
        terminal_on_life_loss: Whether `info["life_lost"]` ends the return, though not the game. It needs a
            memory that keeps the two apart.
        num_quantiles: From 2 on: replace the last layer by this many quantiles of each action's return, whose
            mean is the Q-value, and learn them all (QR-DQN, Dabney et al. 2018).
        nb_actions, memory, gamma, batch_size, nb_steps_warmup, train_interval, memory_interval,
        target_model_update, delta_clip, custom_model_objects, processor: As in keras-rl, counted in agent
            steps. `target_model_update` from 1 on is the number of steps between two copies of the network
            to the target network, below 1 the fraction of a soft update.

    Raises:
        TypeError: If the model is none of this Keras.
        ValueError: If the model's input or output or an argument does not fit.
    """

    def __init__(
        self,
        model: keras.Model,
        policy=None,
        test_policy=None,
        enable_double_dqn: bool = False,
        enable_dueling_network: bool = False,
        dueling_type: str = "avg",
        *args,
        terminal_on_life_loss: bool = False,
        num_quantiles: int = 1,
        **kwargs,
    ) -> None:
        require_network(model)
        head: dict[str, Any] = {"num_quantiles": num_quantiles}
        if enable_dueling_network:
            head["dueling_type"] = dueling_type
        if enable_dueling_network or num_quantiles != 1:
            model = with_head(model, **head)
        super().__init__(model, policy, test_policy, enable_double_dqn, False, dueling_type, *args, **kwargs)
        self.enable_dueling_network = enable_dueling_network
        self.terminal_on_life_loss = terminal_on_life_loss
        self._head = head
        self.stop_training = False
        self.pending_steps = 0  # of the tick, begun in all environments and not yet taken; 0 between two ticks
        self._own_memory = isinstance(self.memory, SequentialMemory)
        self._steppers: list[Stepper] = []
        self._chosen: deque[tuple[Stepper, int]] = deque()  # actions not yet taken, the next one first
        self._episodes = 0  # begun so far
        self._saved_loop: dict[str, Any] | None = None  # by set_state, for the next fit
        if terminal_on_life_loss and not self._own_memory:
            raise ValueError("terminal_on_life_loss needs keras_rl.memory.SequentialMemory, not keras-rl's own.")

    def compile(self, optimizer, metrics: Sequence = ()) -> None:
        """Makes the target network and the compiled update.

        Args:
            optimizer: A Keras optimizer, or its name.
            metrics: Keras metric functions or their names, reported after every update.

        Raises:
            TypeError: If the optimizer is none of this Keras.
            ValueError: If a metric has a name that Keras does not know.
        """
        optimizer = require_optimizer(optimizer)
        for metric in metrics:
            _require_metric(metric)
        self.target_model = clone_model(self.model, self.custom_model_objects)
        scale = getattr(self.processor, "process_state_batch", None)
        # Only a processor that says so can become part of the compiled call; others run before it, in NumPy.
        self._preprocess_in_learner = getattr(scale, "traceable", False)
        if self.processor is not None and not self._preprocess_in_learner:
            warnings.warn(
                f"{type(self.processor).__name__}.process_state_batch runs in NumPy, before every update. If it only "
                "does arithmetic, give it the attribute traceable = True, and it becomes part of the update.",
                stacklevel=2,
            )
        if not self._own_memory:
            warnings.warn(
                f"{type(self.memory).__module__}.{type(self.memory).__name__} builds its batches in Python; "
                "keras_rl.memory.SequentialMemory takes the same arguments and is many times faster and smaller.",
                stacklevel=2,
            )
        self.learner = Learner(
            self.model,
            self.target_model,
            optimizer,
            preprocess=scale if self._preprocess_in_learner else None,
            double_dqn=self.enable_double_dqn,
            delta_clip=self.delta_clip,
            target_model_update=self.target_model_update,
            metrics=metrics,
        )
        self._learner_metrics_names = [
            "loss",
            *(m if isinstance(m, str) else getattr(m, "__name__", None) or m.name for m in metrics),
            "mean_q",
        ]
        self.compiled = True

    def fit(
        self,
        env,
        nb_steps,
        action_repetition=1,
        callbacks=None,
        verbose=1,
        visualize=False,
        nb_max_start_steps=0,
        start_step_policy=None,
        log_interval=10000,
        nb_max_episode_steps=None,
    ) -> keras.callbacks.History:
        """Trains for `nb_steps` agent steps, counted over all environments. Arguments as in keras-rl.

        `env` may be a list of environments, as many as the memory has streams. They take their steps in turn; a
        tick is one step of each. Environments in other processes, with `send` and `receive`, take them meanwhile.
        Ctrl-C ends the training, as does whoever sets `stop_training`, before or meanwhile; that waits for the end
        of the tick. The `History` is returned all the same. After `set_state` it goes on from there, and
        `nb_steps` counts the steps before as well. Episodes are reported with their `episode_reward`, as learned
        from, and their `episode_score`, as the environment gave it.
        """
        callbacks = list(callbacks or [])
        if verbose == 1:
            callbacks.append(rl.callbacks.TrainIntervalLogger(interval=log_interval))
        elif verbose > 1:
            callbacks.append(rl.callbacks.TrainEpisodeLogger())
        environments = self._environments(env)
        callbacks = self._callback_list(environments, callbacks, visualize, {"nb_steps": nb_steps})
        start = (action_repetition, nb_max_start_steps, start_step_policy, nb_max_episode_steps)
        self._begin(environments, callbacks, *start)
        self.training = True
        self._on_train_begin()
        callbacks.on_train_begin()
        resume.take_up(self, callbacks)
        did_abort = False
        try:
            self._loop(callbacks, nb_steps=nb_steps)
        except KeyboardInterrupt:
            did_abort = True
        callbacks.on_train_end(logs={"did_abort": did_abort})
        self._on_train_end()
        self.stop_training = False
        return self.history

    def test(
        self,
        env,
        nb_episodes=1,
        action_repetition=1,
        callbacks=None,
        visualize=True,
        nb_max_episode_steps=None,
        nb_max_start_steps=0,
        start_step_policy=None,
        verbose=1,
    ) -> keras.callbacks.History:
        """Plays `nb_episodes` episodes with the test policy and learns nothing. Arguments as in keras-rl."""
        callbacks = list(callbacks or []) + ([rl.callbacks.TestLogger()] if verbose else [])
        environments = self._environments(env)
        callbacks = self._callback_list(environments, callbacks, visualize, {"nb_episodes": nb_episodes})
        start = (action_repetition, nb_max_start_steps, start_step_policy, nb_max_episode_steps)
        self._begin(environments, callbacks, *start)
        self.training = False
        self._on_test_begin()
        callbacks.on_train_begin()
        self._loop(callbacks, nb_episodes=nb_episodes)
        callbacks.on_train_end()
        self._on_test_end()
        self.stop_training = False
        return self.history

    def _loop(self, callbacks, *, nb_steps=np.inf, nb_episodes=np.inf) -> None:
        """The loop: act, step, store, learn, sync, report. Ends after either number, or when told to stop."""
        while self.pending_steps or (self.step < nb_steps and not self.stop_training):
            if not self._chosen:  # all environments have taken their step: choose the next ones, together
                for stepper in self._steppers:
                    if stepper.observation is None and self._episodes < nb_episodes:
                        self.reset_states()
                        stepper.begin_episode(self._episodes)
                        self._episodes += 1
                stepping = [stepper for stepper in self._steppers if stepper.observation is not None]
                actions = self._select_actions([self._state(p.observation, p.stream) for p in stepping])
                self._chosen.extend(zip(stepping, actions, strict=True))
                if not stepping:
                    break
            stepper, action = self._chosen[0]
            self.recent_observation, self.recent_action = stepper.observation, action
            callbacks.on_step_begin(stepper.episode_step)
            if not self.pending_steps:
                if self.stop_training:
                    break
                self._begin_tick(nb_steps)
            self._chosen.popleft()
            self.pending_steps -= 1
            step = stepper.step(action)
            terminal = step.terminated or (self.terminal_on_life_loss and step.life_lost)
            if self.step % self.memory_interval == 0 or step.episode_end:
                self._store(self.recent_observation, action, step.reward, terminal, step.episode_end, stepper.stream)
            metrics = self._learn()
            logs = {
                "action": action,
                "observation": stepper.observation,
                "reward": step.reward,
                "metrics": metrics,
                "episode": stepper.episode,
                "info": step.info,
            }
            callbacks.on_step_end(stepper.episode_step - 1, logs)
            self.step += 1
            if step.episode_end:
                # The memory's last word on an episode is the observation it ended with.
                self._store(stepper.observation, 0, 0.0, False, False, stepper.stream)
                stepper.end_episode(nb_steps=self.step if self.training else stepper.episode_step)

    def _begin_tick(self, nb_steps: float) -> None:
        """Lets the environments begin the steps that were chosen together; they are taken in turn."""
        self.pending_steps = int(min(len(self._chosen), nb_steps - self.step))
        for stepper, action in islice(self._chosen, self.pending_steps):
            stepper.begin_step(action)

    def forward(self, observation) -> int:
        """The action for `observation`, chosen by the policy. With `backward`, a step of keras-rl's own loop."""
        self.recent_observation = observation
        (self.recent_action,) = self._select_actions([self._state(observation)])
        return self.recent_action

    def backward(self, reward, terminal) -> Sequence[float]:
        """Stores what the last action led to, and learns where an update is due; returns its metrics."""
        if self.step % self.memory_interval == 0:
            self._store(self.recent_observation, self.recent_action, reward, terminal, terminal)
        return self._learn()

    def compute_batch_q_values(self, state_batch) -> np.ndarray:
        """Q-values, (batch, nb_actions) float32, of states as the memory gives them."""
        if not self.compiled:
            return super().compute_batch_q_values(state_batch)
        return require_numbers(self.learner.q_values(self._network_input(state_batch)), self.step)

    def saliency(self, state_batch) -> np.ndarray:
        """The gradient of the highest Q-value by each number of each state, of the shape of the batch, float32."""
        return self.learner.saliency(self._network_input(state_batch))

    @property
    def optimizer(self):
        """The optimizer that learns, once the agent is compiled."""
        return getattr(getattr(self, "learner", None), "optimizer", None)

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that `backward` returns: the learner's, the policy's and the processor's."""
        names = self._learner_metrics_names + list(self.policy.metrics_names)
        return names + (list(self.processor.metrics_names) if self.processor is not None else [])

    def plain_weights(self) -> list[np.ndarray]:
        """The network's weights, a dueling or quantile head folded into one dense layer.

        So is the `input_offset` of a processor that has one: what `process_state_batch` takes from scaled states. It
        goes into the first layer's bias, and the plain network's input lies in [0, 1].

        Raises:
            ValueError: For dueling_type "max", which is not linear; for an offset and a first layer with padding.
        """
        *body, kernel, bias = self.model.get_weights()
        return [*self._folded_offset(body), *fold_head(kernel, bias, **self._head)]

    def set_plain_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Takes over the weights of a plain network, as `plain_weights` gives them, and makes the target network equal.

        Raises:
            ValueError: For weights of other shapes, or dueling_type "max".
        """
        *body, kernel, bias = weights
        body = self._folded_offset(body, back=True)
        self.model.set_weights([*body, *unfold_head(kernel, bias, **self._head)])
        self.update_target_model_hard()

    def _folded_offset(self, weights: list[np.ndarray], back: bool = False) -> list[np.ndarray]:
        offset = getattr(self.processor, "input_offset", 0.0)
        if not offset:
            return weights
        first = next(layer for layer in self.model.layers if layer.weights)
        if getattr(first, "padding", "valid") != "valid":
            raise ValueError(
                f"The processor's input_offset, {offset:g}, cannot be folded into a convolution with padding "
                f'"{first.padding}"; give the layer {first.name} padding="valid".'
            )
        kernel, bias, *others = weights
        return [kernel, fold_input_offset(kernel, bias, -offset if back else offset), *others]

    def get_state(self) -> dict[str, Any]:
        """All that decides how `fit` goes on, but for the memory's entries, see `SequentialMemory.get_entries`.

        To be called between two ticks: after `fit`, or in a callback's `on_step_begin` if `pending_steps` is 0.

        Returns:
            A dict of what JSON holds, arrays and bytes.

        Raises:
            TypeError: If the memory or an environment cannot tell its state.
        """
        return resume.get_agent_state(self)

    def set_state(self, state: dict[str, Any], env, entries: Iterable[dict] = ()) -> None:
        """Goes back to where `get_state` was called; the next `fit` goes on from there, to the same end.

        Args:
            state: What `get_state` returned, of an agent built and compiled in the same way.
            env: The environment, or the list of them, that `fit` will get: they go back as well.
            entries: What the memory's `get_entries` returned meanwhile, oldest first.

        Raises:
            TypeError, ValueError, KeyError, ...: If the state is not one of such an agent. It may be set in part.
        """
        resume.set_agent_state(self, state, _as_list(env), entries)

    def _state(self, observation, stream: int = 0) -> list:
        """The last observations of a stream, oldest first, `observation` being the newest."""
        if self._own_memory:
            return self.memory.get_recent_state(observation, stream=stream)
        return self.memory.get_recent_state(observation)

    def _select_actions(self, states: list) -> list[int]:
        """One action a state, from one call of the network."""
        if not states:
            return []
        policy = self.policy if self.training else self.test_policy
        return [int(policy.select_action(q_values=q)) for q in self.compute_batch_q_values(states)]

    def _store(self, observation, action, reward, terminal, episode_end, stream: int = 0) -> None:
        if self._own_memory:
            self.memory.append(
                observation, action, reward, terminal, self.training, episode_end=episode_end, stream=stream
            )
        else:
            self.memory.append(observation, action, reward, terminal or episode_end, training=self.training)

    def _learn(self) -> Sequence[float]:
        """An update every `train_interval` steps, Q_target <- Q every `target_model_update` steps."""
        metrics: Sequence[float] = [np.nan] * len(self.metrics_names)
        if not self.training:
            return metrics
        if self.step > self.nb_steps_warmup and self.step % self.train_interval == 0:
            others = [*self.policy.metrics, *(self.processor.metrics if self.processor is not None else [])]
            metrics = UpdateMetrics(self.learner.update(*self._sample()), others)
        if self.target_model_update >= 1 and self.step % self.target_model_update == 0:
            self.update_target_model_hard()
        return metrics

    def _sample(self) -> tuple:
        """A batch as `Learner.update` takes it."""
        if self._own_memory:
            state0, action, reward, state1, discount = self.memory.sample_batch(self.batch_size, self.gamma)
        else:
            state0, action, reward, state1, terminal1 = zip(*self.memory.sample(self.batch_size), strict=True)
            action, reward = np.array(action, np.int32), np.array(reward, np.float32)
            discount = np.where(terminal1, 0.0, self.gamma).astype(np.float32)
        return self._network_input(state0), action, reward, self._network_input(state1), discount

    def _network_input(self, states):
        """States as they are where the learner scales them, else through the processor."""
        if isinstance(states, FrameStacks):
            return states if self._preprocess_in_learner else self.process_state_batch(self.memory.observations(states))
        if self.processor is None and as_array(states[0][-1]).dtype.names is not None:
            raise ValueError(
                f"The observations are {type(states[0][-1]).__name__}s of several parts; give the agent a processor "
                "that makes the network's inputs of them, such as rl.processors.MultiInputProcessor."
            )
        if self._preprocess_in_learner:
            return np.asarray(states, dtype=states[0][-1].dtype)
        return self.process_state_batch(states)

    def _environments(self, env) -> list[KerasRLEnvironment]:
        """The environments that `fit` or `test` got, each with keras-rl's interface."""
        if not self.compiled:
            raise RuntimeError("The agent is not compiled yet; call compile() before fit() or test().")
        environments = _as_list(env)
        streams = self.memory.num_streams if self._own_memory else 1
        if len(environments) > streams:
            raise ValueError(
                f"{len(environments)} environments were given, but the memory has {streams} stream(s); use "
                f"keras_rl.memory.SequentialMemory(..., num_streams={len(environments)})."
            )
        if len({id(each) for each in environments}) < len(environments):
            raise ValueError("The same environment was given twice; make one for each place in the list.")
        return [as_keras_rl_environment(each) for each in environments]

    def _begin(self, environments: list[KerasRLEnvironment], callbacks, *start) -> None:
        if self.training and self._saved_loop is None:
            self._end_open_episodes()
        self._steppers = [
            Stepper(each, stream, self.processor, callbacks, *start) for stream, each in enumerate(environments)
        ]
        self._chosen.clear()
        self.pending_steps = 0
        self._episodes = 0
        self.step = 0

    def _end_open_episodes(self) -> None:
        """Tells the memory that the games of the last `fit` end where it left them, as new ones are to begin."""
        for stepper in self._steppers:
            if stepper.observation is None or not stepper.episode_step:
                continue
            if self._own_memory:
                self.memory.end_episode(stepper.observation, stepper.stream)
            else:
                end_episode(self.memory, stepper.observation)

    def _callback_list(self, environments: list, callbacks: list, visualize: bool, params: dict):
        self.history = keras.callbacks.History()
        callbacks = callbacks + ([rl.callbacks.Visualizer()] if visualize else []) + [self.history]
        callback_list = rl.callbacks.CallbackList(callbacks)
        callback_list.set_model(self)
        callback_list._set_env(environments[0] if len(environments) == 1 else environments)
        callback_list.set_params(params)
        return callback_list


class UpdateMetrics(Sequence):
    """The metrics of an update, in the order of `metrics_names`; the first look at them waits until it is done."""

    def __init__(self, running, others: list[float]) -> None:
        self._running = running
        self._others = others

    def __getitem__(self, index):
        if self._running is not None:
            self._values = [*keras.ops.convert_to_numpy(self._running).tolist(), *self._others]
            self._running = None
        return self._values[index]

    def __len__(self) -> int:
        return len(self[:])


def _as_list(env) -> list:
    return list(env) if isinstance(env, (list, tuple)) else [env]


def _require_metric(metric) -> None:
    """Refuses what Keras does not know, with the way out."""
    try:
        found = keras.metrics.get(metric)
    except ValueError:
        found = None
    if not callable(found):
        raise ValueError(
            f'metrics holds {metric!r}, expected a function of (targets, Q-values), or the name of one: "mae", "mse".'
        )
