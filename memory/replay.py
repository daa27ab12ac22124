"""Replay memory (Lin 1992; Mnih et al. 2015): the agent's experience, from which it learns in random order."""

import sys
from typing import NamedTuple

import lz4.block
import numpy as np

from keras_rl import rl


class Batch(NamedTuple):
    """Transitions in arrays, as the learner takes them."""

    state0: np.ndarray  # (batch, window_length, *observation), oldest observation first
    action: np.ndarray  # (batch,) int32
    reward: np.ndarray  # (batch,) float32, r_1 + gamma r_2 + ... over at most n_step steps
    state1: np.ndarray  # like state0, the state after those steps
    discount: np.ndarray  # (batch,) float32, what max Q(state1) counts for: gamma^steps, 0 after a terminal


class SequentialMemory(rl.memory.SequentialMemory):
    """keras-rl's `SequentialMemory` in a fraction of its memory and time.

    Single observations are kept once, compressed (LZ4) where that makes them smaller, in a ring that drops the
    oldest; states of `window_length` observations are put together when a batch is drawn. Everything of
    keras-rl's memory is here with the same results: `append`, `sample`, `get_recent_state`, `nb_entries`. New:

    - An episode's end and a terminal state are two things. A lost life may end the return (`terminal`) while
      the game goes on (`episode_end=False`); a time limit ends the episode, but not the return.
    - `sample_batch` gives arrays, with n-step returns (Sutton & Barto 2018, section 7.1).
    - `num_streams` environments that are played side by side share the memory, each in a ring of its own.

    Args:
        limit: Number of observations kept, over all streams.
        window_length: Number of observations in a state.
        ignore_episode_boundaries: Let a state reach back into the episode before.
        n_step: Number of rewards in a return.
        num_streams: Number of environments that append in turn.
        rng: Draws the batches. Default: one seeded from NumPy's global generator, as keras-rl's policies are.

    Raises:
        ValueError: If a number is out of range, or an observation has another shape or dtype than the first.
    """

    def __init__(
        self,
        limit: int,
        window_length: int,
        ignore_episode_boundaries: bool = False,
        *,
        n_step: int = 1,
        num_streams: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        # keras-rl's own __init__ would make its four deques; only the parent's is wanted.
        super(rl.memory.SequentialMemory, self).__init__(window_length, ignore_episode_boundaries)
        for name, value in {
            "window_length": window_length,
            "n_step": n_step,
            "num_streams": num_streams,
        }.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        smallest = num_streams * (window_length + n_step + 1)
        if limit < smallest:
            raise ValueError(
                f"limit is {limit}, expected at least {smallest} for {num_streams} stream(s) of states of "
                f"{window_length} observations and {n_step}-step returns."
            )
        self.limit = limit
        self.n_step = n_step
        self.num_streams = num_streams
        self.rng = np.random.default_rng(np.random.randint(2**31)) if rng is None else rng
        self._capacity = limit // num_streams  # of one stream, whose slots are [stream, stream + 1) * capacity
        self._counts = np.zeros(num_streams, np.int64)  # appended ever
        self._recent = [rl.memory.Memory(window_length, ignore_episode_boundaries) for _ in range(num_streams)]
        self._shape: tuple[int, ...] = ()  # of an observation, like its dtype: the first one's
        self._dtype: np.dtype | None = None
        self._nbytes = 0
        self._frames: list[bytes] = [b""] * limit
        self._actions = np.zeros(limit, np.int32)
        self._rewards = np.zeros(limit, np.float32)
        self._terminals = np.zeros(limit, np.bool_)
        self._episode_ends = np.zeros(limit, np.bool_)

    @property
    def nb_entries(self) -> int:
        """Number of observations kept now."""
        return int(np.minimum(self._counts, self._capacity).sum())

    @property
    def nbytes(self) -> int:
        """Bytes that the memory takes now."""
        arrays = (self._actions, self._rewards, self._terminals, self._episode_ends)
        return sum(map(sys.getsizeof, self._frames)) + sys.getsizeof(self._frames) + sum(a.nbytes for a in arrays)

    def append(self, observation, action, reward, terminal, training=True, *, episode_end=None, stream=0) -> None:
        """Stores: in `observation`, `action` gave `reward`, and the next state was `terminal` or not.

        After an entry with `episode_end`, one more is expected that holds the episode's last observation; its
        other values are ignored.

        Args:
            observation: Array of the same shape and dtype every time.
            action: Index of the action.
            reward: As the agent is to learn it (clipped, for Atari).
            terminal: Whether the return ends here.
            training: If False, only the recent state is kept up to date, nothing is stored.
            episode_end: Whether the episode ends here. Default: when it is terminal, as in keras-rl.
            stream: Index of the environment.
        """
        episode_end = bool(terminal) if episode_end is None else episode_end
        observation = np.asarray(observation)
        self._recent[stream].append(observation, action, reward, episode_end)
        if not training:
            return
        slot = stream * self._capacity + int(self._counts[stream] % self._capacity)
        self._frames[slot] = self._encode(observation)
        self._actions[slot] = action
        self._rewards[slot] = reward
        self._terminals[slot] = terminal
        self._episode_ends[slot] = episode_end
        self._counts[stream] += 1

    def get_recent_state(self, current_observation, stream: int = 0) -> list[np.ndarray]:
        """The last `window_length` observations of the episode, oldest first, zeros before its start."""
        return self._recent[stream].get_recent_state(current_observation)

    def sample_batch(self, batch_size: int, gamma: float) -> Batch:
        """Draws `batch_size` transitions uniformly, with replacement.

        Raises:
            ValueError: If nothing can be drawn yet.
        """
        return self._gather(self._draw(batch_size), gamma)

    def sample(self, batch_size, batch_idxs=None):
        """keras-rl's form of a batch: a list of `Experience(state0, action, reward, state1, terminal1)`.

        Args:
            batch_size: Number of transitions.
            batch_idxs: Their places, counted from the oldest entry (of the first stream). Default: drawn.
                Where there is no transition to take, another is drawn.

        Raises:
            ValueError: If nothing can be drawn yet, or the returns are over several steps, which need
                `sample_batch` and its gamma.
        """
        if self.n_step > 1:
            raise ValueError(f"sample() gives 1-step transitions, n_step is {self.n_step}; use sample_batch().")
        positions = self._draw(batch_size) if batch_idxs is None else np.array(batch_idxs, np.int64)
        if len(positions) != batch_size:
            raise ValueError(f"{len(positions)} batch_idxs were given for a batch_size of {batch_size}.")
        unusable = ~self._is_transition(positions)
        positions[unusable] = self._draw(int(unusable.sum()))
        batch = self._gather(positions, gamma=1.0)
        return [
            rl.memory.Experience(list(s0), int(a), float(r), list(s1), d == 0.0)
            for s0, a, r, s1, d in zip(*batch, strict=True)
        ]

    def get_config(self) -> dict:
        """keras-rl's description of the memory, with the new arguments."""
        config = super().get_config()
        return {**config, "n_step": self.n_step, "num_streams": self.num_streams}

    def _encode(self, observation: np.ndarray) -> bytes:
        if self._dtype is None:
            self._shape, self._dtype, self._nbytes = observation.shape, observation.dtype, observation.nbytes
        if observation.shape != self._shape or observation.dtype != self._dtype:
            raise ValueError(
                f"Got an observation of shape {observation.shape}, {observation.dtype}; "
                f"the first one was {self._shape}, {self._dtype}. All must be alike."
            )
        raw = observation.tobytes()
        packed = lz4.block.compress(raw, store_size=False)
        return packed if len(packed) < len(raw) else raw

    def _decode(self, frame: bytes) -> np.ndarray:
        if len(frame) != self._nbytes:
            frame = lz4.block.decompress(frame, uncompressed_size=self._nbytes)
        return np.frombuffer(frame, self._dtype).reshape(self._shape)

    # A position counts the entries kept, stream by stream, each from its oldest: [0, nb_entries).

    def _slots(self, positions: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """Where the entries `steps` after those at `positions` (-: before) lie in the arrays."""
        streams, offsets = self._locate(positions)
        oldest = np.maximum(self._counts - self._capacity, 0)[streams]
        return streams * self._capacity + (oldest + offsets + steps) % self._capacity

    def _locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The stream of each position, and its offset from that stream's oldest entry."""
        ends = np.cumsum(np.minimum(self._counts, self._capacity))
        streams = np.searchsorted(ends, positions, side="right")
        starts = np.concatenate([[0], ends[:-1]])
        return streams, positions - starts[streams]

    def _is_transition(self, positions: np.ndarray) -> np.ndarray:
        """Whether a transition starts at each position: its state is known in full, so are its n steps, and it
        is not an episode's last observation, after which comes the next episode."""
        streams, offsets = self._locate(positions)
        entries = np.minimum(self._counts, self._capacity)[streams]
        # Like keras-rl: of the oldest entry it is unknown whether an episode starts there.
        known = (offsets >= self.window_length) & (offsets + self.n_step < entries)
        return known & ~self._episode_ends[self._slots(positions, -1)]

    def _draw(self, number: int) -> np.ndarray:
        positions = np.zeros(0, np.int64)
        while len(positions) < number:
            if not len(positions) and not self._can_draw():
                raise ValueError(
                    f"The replay memory holds {self.nb_entries} observations, too few for a transition of "
                    f"{self.window_length} + {self.n_step} in one of {self.num_streams} stream(s); use a longer "
                    "warm-up."
                )
            drawn = self.rng.integers(self.nb_entries, size=number - len(positions))
            positions = np.concatenate([positions, drawn[self._is_transition(drawn)]])
        return positions

    def _can_draw(self) -> bool:
        entries = self.nb_entries
        # Short memories are looked through; in a long one, episodes of a single step aside, there is always one.
        return entries > 10_000 or bool(self._is_transition(np.arange(entries)).any())

    def _gather(self, positions: np.ndarray, gamma: float) -> Batch:
        reward = np.zeros(len(positions), np.float32)
        discount = np.ones(len(positions), np.float32)
        steps = np.zeros(len(positions), np.int64)  # summed up so far
        going = np.ones(len(positions), np.bool_)  # neither terminal nor at the episode's end yet
        for step in range(self.n_step):
            slots = self._slots(positions, step)
            reward += np.where(going, discount * self._rewards[slots], np.float32(0))
            discount = np.where(going, discount * np.float32(gamma), discount)
            discount = np.where(going & self._terminals[slots], np.float32(0), discount)
            steps += going
            going &= ~(self._terminals[slots] | self._episode_ends[slots])
        state0, state1 = self._states(positions, steps)
        return Batch(state0, self._actions[self._slots(positions, 0)], reward, state1, discount)

    def _states(self, positions: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states at `positions` and `steps` later; an observation that both hold is decoded once."""
        window = self.window_length
        state0 = np.zeros((len(positions), window, *self._shape), self._dtype)
        state1 = np.zeros_like(state0)
        offsets = np.arange(1 - window, self.n_step + 1)  # from the newest observation of state0
        slots = self._slots(positions[:, None], offsets).tolist()
        firsts = (window - 1 - self._reach_back(positions)).tolist()
        for row, (first, shift) in enumerate(zip(firsts, steps.tolist(), strict=True)):
            for column in range(first, window + shift):
                frame = self._decode(self._frames[slots[row][column]])
                if column < window:
                    state0[row, column] = frame
                if column >= shift:
                    state1[row, column - shift] = frame
        return state0, state1

    def _reach_back(self, positions: np.ndarray) -> np.ndarray:
        """How many observations before each position belong to its state, 0 to window_length - 1."""
        if self.ignore_episode_boundaries:
            return np.full(len(positions), self.window_length - 1)
        reach = np.zeros(len(positions), np.int64)
        inside = np.ones(len(positions), np.bool_)
        for offset in range(1, self.window_length):
            # The entry after an episode's end holds its last observation: neither belongs to the next episode.
            inside &= ~self._episode_ends[self._slots(positions, -offset - 1)]
            reach += inside
        return reach
