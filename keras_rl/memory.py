"""Replay memory (Lin 1992; Mnih et al. 2015): the agent's experience, from which it learns in random order."""

import dataclasses
import math
import operator
import sys
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import lz4.block
import numpy as np

from keras_rl.bridge import rl
from keras_rl.frames import FrameStacks, FrameWriter, aligned_empty, cut
from keras_rl.observations import as_array, as_parts

LARGEST_OBSERVATION = 2**22  # bytes that a saved one may have
COLUMNS = ("actions", "rewards", "terminals", "episode_ends")


class Batch(NamedTuple):
    """Transitions, as the learner takes them."""

    state0: FrameStacks
    action: np.ndarray  # (batch,) int32
    reward: np.ndarray  # (batch,) float32, r_1 + gamma r_2 + ... over at most n_step steps
    state1: FrameStacks  # after those steps, of the same frames
    discount: np.ndarray  # (batch,) float32, what max Q(state1) counts for: gamma^steps, 0 after a terminal


class SequentialMemory(rl.memory.SequentialMemory):
    """keras-rl's `SequentialMemory` in a fraction of its memory and time.

    Single observations are kept once, in a ring that drops the oldest; states of `window_length` observations
    are put together when a batch is drawn. An observation is compressed (LZ4) against a key frame, one before it
    that is kept as it is: what has not moved since costs next to nothing. Everything of keras-rl's memory is here
    with the same results: `append`, `sample`, `get_recent_state`, `nb_entries`. New:

    - An episode's end and a terminal state are two things. A lost life may end the return (`terminal`) while
      the game goes on (`episode_end=False`); a time limit ends the episode, but not the return.
    - `sample_batch` gives what the learner takes, with n-step returns (Sutton & Barto 2018, section 7.1).
    - `num_streams` environments that are played side by side share the memory, each in a ring of its own.

    Observations may differ in dtype, and may be lists or dicts of arrays, for a network of several inputs.

    Args:
        limit: Number of observations kept, over all streams.
        window_length: Number of observations in a state.
        ignore_episode_boundaries: Let a state reach back into the episode before.
        n_step: Number of rewards in a return.
        num_streams: Number of environments that append in turn.
        rng: Draws the batches. Default: one seeded from NumPy's global generator, as keras-rl's policies are.

    Raises:
        ValueError: If a number is out of range, or an observation has another shape than the first.
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
        rl.memory.Memory.__init__(self, window_length, ignore_episode_boundaries)
        for name, value in {
            "window_length": window_length,
            "n_step": n_step,
            "num_streams": num_streams,
        }.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        # A memory with keras-rl's arguments alone may be as small as keras-rl's: scripts that only play make one of 1.
        smallest = num_streams * (window_length + n_step + 1) if num_streams > 1 or n_step > 1 else 1
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
        self._example: Any = None  # an observation of several parts, if they are that
        self._frames: list[bytes] = [b""] * limit
        self._keys: list[bytes | None] = [None] * limit  # what a frame is compressed against; None: it is not
        self._writers = [FrameWriter() for _ in range(num_streams)]
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
        keys = {id(key): sys.getsizeof(key) for key in self._keys if key is not None}
        frames = sum(sys.getsizeof(frame) for frame in self._frames if id(frame) not in keys)
        lists = sys.getsizeof(self._frames) + sys.getsizeof(self._keys)
        return frames + sum(keys.values()) + lists + sum(array.nbytes for array in arrays)

    def append(self, observation, action, reward, terminal, training=True, *, episode_end=None, stream=0) -> None:
        """Stores: in `observation`, `action` gave `reward`, and the next state was `terminal` or not.

        After an entry with `episode_end`, one more is expected that holds the episode's last observation; its
        other values are ignored.

        Args:
            observation: Array of the same shape every time, or a list or dict of such.
            action: Index of the action.
            reward: As the agent is to learn it (clipped, for Atari).
            terminal: Whether the return ends here.
            training: If False, only the recent state is kept up to date, nothing is stored.
            episode_end: Whether the episode ends here. Default: when it is terminal, as in keras-rl.
            stream: Index of the environment.
        """
        episode_end = bool(terminal) if episode_end is None else episode_end
        array = as_array(observation)
        if training:
            array = self._admit(array, observation)
        self._recent[stream].append(array if array.dtype.names is None else observation, action, reward, episode_end)
        if not training:
            return
        slot = stream * self._capacity + int(self._counts[stream] % self._capacity)
        self._frames[slot], self._keys[slot] = self._writers[stream].write(array.tobytes())
        self._actions[slot] = action
        self._rewards[slot] = reward
        self._terminals[slot] = terminal
        self._episode_ends[slot] = episode_end
        self._counts[stream] += 1

    def end_episode(self, observation, stream: int = 0) -> None:
        """Ends the episode of a stream with its last entry, of which `append` was not told, as nobody goes on with it.

        Args:
            observation: The one that the entry's action led to.
            stream: Index of the environment.
        """
        if self._counts[stream]:
            last = stream * self._capacity + int((self._counts[stream] - 1) % self._capacity)
            self._episode_ends[last] = self._recent[stream].recent_terminals[-1] = True
            self.append(observation, 0, 0.0, False, episode_end=False, stream=stream)

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
        states = map(self.observations, (batch.state0, batch.state1))
        return [
            rl.memory.Experience(list(s0), int(a), r, list(s1), bool(d == 0.0))
            for s0, s1, a, r, d in zip(*states, batch.action, batch.reward, batch.discount, strict=True)
        ]

    def observations(self, states: FrameStacks) -> Any:
        """Drawn states as a processor takes them: (batch, window_length, *observation), or lists of lists of parts."""
        array = np.asarray(states)
        if self._example is None:
            return array
        return [[as_parts(record, self._example) for record in state] for state in array]

    @property
    def counts(self) -> np.ndarray:
        """Number of entries ever appended, (num_streams,) int64."""
        return self._counts.copy()

    @property
    def capacity(self) -> int:
        """Number of entries that one stream keeps."""
        return self._capacity

    def get_entries(self, since: np.ndarray | None = None) -> dict[str, Any]:
        """The entries appended since `counts` was `since` that are still kept, for `set_state`: arrays.

        Args:
            since: (num_streams,) int64. Default: all entries.
        """
        starts = np.maximum(self._counts - self._capacity, 0 if since is None else since)
        slots = self._slots_between(starts, self._counts)
        frames, keys = [self._frames[slot] for slot in slots], [self._keys[slot] for slot in slots]
        key_frames = list({id(key): key for key in keys if key is not None}.values())
        place = {id(key): index for index, key in enumerate(key_frames)}
        data = [b"" if id(frame) in place else frame for frame in frames]
        return {
            "starts": starts,
            "ends": self.counts,
            "key_frames": b"".join(key_frames),
            "data": b"".join(data),
            "lengths": np.array([len(each) for each in data], np.int32),  # 0: the frame is the key frame itself
            "keys": np.array(
                [place.get(id(frame if key is None else key), -1) for frame, key in zip(frames, keys, strict=True)],
                np.int32,
            ),
            **{name: getattr(self, f"_{name}")[slots] for name in COLUMNS},
        }

    def get_state(self) -> dict[str, Any]:
        """What the memory knows besides its entries: what JSON holds, arrays and bytes.

        Raises:
            TypeError: If the observations are lists or dicts.
        """
        if self._example is not None:
            raise TypeError("A memory of observations of several parts cannot be saved; only one of arrays can.")
        return {
            "counts": self.counts,
            "random": self.rng.bit_generator.state,
            "shape": list(self._shape),
            "dtype": self._dtype and self._dtype.str,
            "recent": [
                [list(recent.recent_observations), [bool(end) for end in recent.recent_terminals]]
                for recent in self._recent
            ],
            "writers": [dataclasses.asdict(writer) for writer in self._writers],
        }

    def set_state(self, state: dict[str, Any], entries: Iterable[dict[str, Any]]) -> None:
        """Goes back to where `get_state` was called.

        Args:
            state: What it returned, of a memory with the same arguments; `n_step` may differ.
            entries: What `get_entries` returned up to then: everything that was still kept, oldest first.

        Raises:
            ValueError: If the state is not one of such a memory, or entries are missing.
        """
        counts = state["counts"]
        if counts.shape != self._counts.shape or counts.dtype != np.int64 or counts.min() < 0:
            raise ValueError(f"the memory has {self.num_streams} stream(s), the state {counts.size}")
        if state["dtype"] is not None:
            self._shape, self._dtype = tuple(state["shape"]), np.dtype(state["dtype"])
            self._nbytes = math.prod(self._shape) * self._dtype.itemsize
            if self._dtype.hasobject or not 0 <= self._nbytes <= LARGEST_OBSERVATION:
                raise ValueError(f"the memory holds observations of shape {self._shape}, {self._dtype}")
        oldest, self._counts = np.maximum(counts - self._capacity, 0), np.zeros_like(counts)
        for part in entries:
            if np.any(part["starts"] > np.maximum(self._counts, oldest)) or np.any(part["ends"] > counts):
                raise ValueError("entries of the replay memory are missing")
            self._put(part)
        if np.any(self._counts != counts):
            raise ValueError("entries of the replay memory are missing")
        self.rng.bit_generator.state = state["random"]
        for recent, (observations, ends) in zip(self._recent, state["recent"], strict=True):
            if not all(map(self.is_alike, observations)) or not set(map(type, ends)) <= {bool}:
                raise ValueError("the last observations are unlike the others")
            recent.recent_observations.clear()
            recent.recent_observations.extend(observations)
            recent.recent_terminals.clear()
            recent.recent_terminals.extend(ends)
        self._writers = [FrameWriter(**writer) for writer in state["writers"]]
        if len(self._writers) != self.num_streams or not all(w.is_sound(self._nbytes) for w in self._writers):
            raise ValueError("the key frames are not those of such a memory")

    def _put(self, part: dict[str, Any]) -> None:
        """Puts back what `get_entries` returned, and reads every frame once, to be sure."""
        starts, ends, lengths, keys = part["starts"], part["ends"], part["lengths"], part["keys"]
        if np.any(starts < 0) or np.any(ends < starts) or np.any(ends - starts > self._capacity):
            raise ValueError("the replay memory is of another size")
        slots = self._slots_between(starts, ends)
        columns = [part[name] for name in COLUMNS]
        sizes = {len(slots), len(lengths), len(keys), *map(len, columns)}
        key_frames = cut(part["key_frames"], [self._nbytes] * (len(part["key_frames"]) // max(1, self._nbytes)))
        data = cut(part["data"], lengths.tolist())
        if len(sizes) > 1 or np.any(keys >= len(key_frames)) or np.any(keys < np.where(lengths == 0, 0, -1)):
            raise ValueError("entries of the replay memory do not fit together")
        for slot, frame, key in zip(slots.tolist(), data, keys.tolist(), strict=True):
            if not frame:
                self._frames[slot], self._keys[slot] = key_frames[key], None
                continue
            self._frames[slot], self._keys[slot] = frame, None if key < 0 else key_frames[key]
            raw = frame if key < 0 else lz4.block.decompress(frame, self._nbytes, False, key_frames[key])
            if len(raw) != self._nbytes:
                raise ValueError("an observation in the replay memory is incomplete")
        if not np.isfinite(part["rewards"]).all() or part["actions"].min(initial=0) < 0:
            raise ValueError("actions or rewards in the replay memory are damaged")
        for name, column in zip(COLUMNS, columns, strict=True):
            getattr(self, f"_{name}")[slots] = column
        self._counts = ends.copy()

    def _slots_between(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Where the entries from `starts` to `ends`, counted from the first ever, lie; stream by stream."""
        return np.concatenate(
            [
                stream * self._capacity + np.arange(start, end) % self._capacity
                for stream, (start, end) in enumerate(zip(starts, ends, strict=True))
            ]
        )

    def get_config(self) -> dict:
        """keras-rl's description of the memory, with the new arguments."""
        config = super().get_config()
        return {**config, "n_step": self.n_step, "num_streams": self.num_streams}

    def is_alike(self, observation: Any) -> bool:
        """Whether an observation has the shape and dtype of those in the memory."""
        return isinstance(observation, np.ndarray) and (observation.shape, observation.dtype) == (
            self._shape,
            self._dtype,
        )

    def _admit(self, array: np.ndarray, observation: Any) -> np.ndarray:
        """The observation in the memory's dtype, which the first one sets and a wider one widens."""
        if self._dtype is None:
            self._shape, self._dtype, self._nbytes = array.shape, array.dtype, array.nbytes
            self._example = None if array.dtype.names is None else observation
        if self.is_alike(array):
            return array
        try:
            dtype = np.result_type(self._dtype, array.dtype)
        except TypeError:  # records with other fields
            dtype = None
        if dtype is None or array.shape != self._shape:
            raise ValueError(
                f"Got an observation of shape {array.shape}, {array.dtype}; the first one was {self._shape}, "
                f"{self._dtype}. All must be of one shape."
            )
        if dtype != self._dtype:
            warnings.warn(
                f"Observations of {self._dtype} and {array.dtype} are kept as {dtype}; reset() and step() had better "
                "return one dtype.",
                stacklevel=4,
            )
            self._widen(dtype)
        return array.astype(dtype)

    def _widen(self, dtype: np.dtype) -> None:
        """Keeps all observations in another dtype from now on."""
        ends = self._counts
        starts = np.maximum(ends - self._capacity, 0)
        slots = self._slots_between(starts, ends).tolist()
        frames: Any = self._read([*slots, slots[0]])[1:-1].astype(dtype) if slots else []
        self._dtype, self._nbytes = dtype, math.prod(self._shape) * dtype.itemsize
        self._writers = [FrameWriter() for _ in range(self.num_streams)]
        for slot, frame in zip(slots, frames, strict=True):
            self._frames[slot], self._keys[slot] = self._writers[slot // self._capacity].write(frame.tobytes())
        if self._example is None:
            for recent in self._recent:
                observations = [observation.astype(dtype) for observation in recent.recent_observations]
                recent.recent_observations.extend(observations)  # in place of the same number

    def _read(self, slots: list[int]) -> np.ndarray:
        """Zeros, which stand for what was before an episode, and then the observations in two or more slots."""
        size, decompress, pick = self._nbytes, lz4.block.decompress, operator.itemgetter(*slots)
        observations = aligned_empty((1 + len(slots), *self._shape), self._dtype)
        observations[0] = 0
        to, end = observations.data.cast("B"), size
        for frame, key in zip(pick(self._frames), pick(self._keys), strict=True):
            start, end = end, end + size
            to[start:end] = frame if key is None else decompress(frame, size, False, key)
        return observations

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
                    f"The replay memory holds {self.nb_entries} observations of at most {self.limit}, too few for a "
                    f"transition of {self.window_length} + {self.n_step} in one of {self.num_streams} stream(s); use a "
                    "longer warm-up, or a larger limit."
                )
            drawn = self.rng.integers(self.nb_entries, size=number - len(positions))
            positions = np.concatenate([positions, drawn[self._is_transition(drawn)]])
        return positions

    def _can_draw(self) -> bool:
        entries = self.nb_entries
        # Short memories are looked through; in a long one, episodes of a single step aside, there is always one.
        return entries > 10_000 or bool(self._is_transition(np.arange(entries)).any())

    def _gather(self, positions: np.ndarray, gamma: float) -> Batch:
        window, n = self.window_length, self.n_step
        slots = self._slots(positions[:, None], np.arange(-window, n + 1))  # (batch, window + n + 1)
        newest = slots[:, window]  # the newest observation of state0
        episode_ends = self._episode_ends[slots]
        terminals = self._terminals[slots[:, window:-1]]  # (batch, n), as are the next three
        stops = terminals | episode_ends[:, window:-1]
        going = np.ones_like(stops)
        going[:, 1:] = ~np.logical_or.accumulate(stops[:, :-1], axis=1)
        rewards = self._rewards[slots[:, window:-1]]
        reward = (rewards * going) @ (gamma ** np.arange(n)).astype(np.float32)
        steps = going.sum(axis=1)
        discount = np.where((terminals & going).any(axis=1), 0.0, gamma**steps).astype(np.float32)

        frames = self._read(slots[:, 1:].ravel().tolist())
        row_length = window + n  # of the frames of one transition
        rows = np.arange(1, 1 + len(positions) * row_length, dtype=np.int32).reshape(-1, row_length)
        if not self.ignore_episode_boundaries:
            # The entry after an episode's end holds its last observation: neither belongs to the next episode.
            before = np.logical_or.accumulate(episode_ends[:, : window - 1][:, ::-1], axis=1)[:, ::-1]
            rows[:, : window - 1][before] = 0
        index1 = np.take_along_axis(rows, steps[:, None] + np.arange(window), axis=1)
        return Batch(
            FrameStacks(frames, rows[:, :window]),
            self._actions[newest],
            reward,
            FrameStacks(frames, index1),
            discount,
        )
