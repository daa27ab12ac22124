"""Prioritised experience replay (Schaul et al. 2016): what surprised the network is drawn more often."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from memory.replay import Batch, SequentialMemory

SMALLEST_ERROR = 0.01  # added to every TD error, so that nothing is never drawn again
TYPICAL_ERROR = 0.3  # until there is one


class PrioritizedMemory(SequentialMemory):
    """Draws transition i in proportion to its priority, (|TD error| + 0.01)^alpha (section 3.3, proportional variant).

    The batch then has more of some transitions than the agent met, for which `Batch.weight` makes up in part: it is
    P(i)^-beta (section 3.4), relative to the mean of the batch, so that the learning rate keeps its meaning.

    A new transition gets the mean of all priorities, not the largest as in the paper: that would fill half of every
    batch with what is new where there is one update of 64 to every 32 steps.

    Args:
        alpha: 0: uniform, 1: in proportion to the TD error.
        beta: 0: no correction, 1: a full one.
        limit, window_length, ...: As `SequentialMemory` has them.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, *args, alpha: float = 0.6, beta: float = 0.4, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, value in {"alpha": alpha, "beta": beta}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, expected 0 to 1.")
        self.alpha = alpha
        self.beta = beta
        self._priorities = SumTree(self.limit)  # by slot
        self._ranked = self.counts  # how many of the entries have one
        self._drawn = np.zeros(0, np.int64)  # the slots of the last batch
        self._errors: Any = None  # its TD errors

    @property
    def nbytes(self) -> int:
        """Bytes that the memory takes now."""
        return super().nbytes + self._priorities.nbytes

    def sample_batch(self, batch_size: int, gamma: float) -> Batch:
        """Draws `batch_size` transitions by their priorities, with replacement.

        Raises:
            ValueError: If nothing can be drawn yet.
        """
        positions = self._draw(batch_size)
        self._drawn = self._slots(positions, 0)
        weight = self._priorities[self._drawn] ** -self.beta
        return self._gather(positions, gamma)._replace(weight=(weight / weight.mean()).astype(np.float32))

    def set_errors(self, errors) -> None:
        """Takes the TD errors of the last batch, (batch,), whose size will be its priorities.

        They are looked at when the next batch is drawn: the update that they come from may still be running.
        """
        self._errors = errors

    def get_state(self) -> dict[str, Any]:
        """What the memory knows besides its entries: what JSON holds, arrays and bytes."""
        self._take_errors()
        priorities = self._priorities[np.arange(self.limit)].astype(np.float32)
        return {**super().get_state(), "priorities": priorities, "ranked": self._ranked}

    def set_state(self, state: dict[str, Any], entries: Iterable[dict[str, Any]]) -> None:
        """Goes back to where `get_state` was called, see `SequentialMemory`."""
        super().set_state(state, entries)
        if "priorities" not in state:  # the training drew uniformly so far
            return
        priorities, ranked = state["priorities"], state["ranked"]
        if priorities.shape != (self.limit,) or not np.isfinite(priorities).all() or priorities.min() < 0:
            raise ValueError("the priorities in the replay memory are damaged")
        if ranked.shape != self._counts.shape or np.any(ranked > self._counts) or np.any(ranked < 0):
            raise ValueError("the priorities are not those of the replay memory's entries")
        self._priorities[np.arange(self.limit)] = priorities
        self._ranked = ranked.astype(np.int64)
        self._errors = None

    def get_config(self) -> dict:
        """keras-rl's description of the memory, with the new arguments."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}

    def _candidates(self, number: int) -> np.ndarray:
        self._rank()
        streams, places = np.divmod(self._priorities.draw(number, self.rng), self._capacity)
        entries = np.minimum(self._counts, self._capacity)
        oldest = (self._counts - entries)[streams]
        return (np.cumsum(entries) - entries)[streams] + (places - oldest) % self._capacity

    def _rank(self) -> None:
        """Gives their priorities to the last batch, whose TD errors are known now, and to what is new."""
        self._take_errors()
        if np.array_equal(self._ranked, self._counts):
            return
        starts = np.maximum(self._ranked, self._counts - self._capacity)
        ranked = int(np.minimum(self._ranked, self._capacity).sum())
        mean = self._priorities.total / ranked if ranked else TYPICAL_ERROR**self.alpha
        self._priorities[self._slots_between(starts, self._counts)] = mean
        self._ranked = self.counts

    def _take_errors(self) -> None:
        if self._errors is not None:
            self._priorities[self._drawn] = (np.abs(np.asarray(self._errors)) + SMALLEST_ERROR) ** self.alpha
            self._errors = None


class SumTree:
    """Weights of leaves, to draw leaves in proportion to them, in O(log size) (Schaul et al. 2016, appendix B.2.1)."""

    def __init__(self, size: int) -> None:
        depth = (size - 1).bit_length()
        self._levels = [np.zeros(2**level) for level in range(depth + 1)]  # sums of two, from the root to the leaves

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._levels[0][0])

    @property
    def nbytes(self) -> int:
        """Bytes that the tree takes."""
        return sum(level.nbytes for level in self._levels)

    def __getitem__(self, leaves: np.ndarray) -> np.ndarray:
        return self._levels[-1][leaves]

    def __setitem__(self, leaves: np.ndarray, weights: np.ndarray | float) -> None:
        self._levels[-1][leaves] = np.float32(weights)  # float32: a checkpoint keeps them so
        for parents, children in zip(self._levels[-2::-1], self._levels[:0:-1], strict=True):
            leaves = leaves >> 1
            parents[leaves] = children[2 * leaves] + children[2 * leaves + 1]

    def draw(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Leaves, (number,) int64, each with a probability in proportion to its weight."""
        nodes = np.zeros(number, np.int64)
        rest = rng.random(number) * self.total  # of the sum below each node, from its left
        for children in self._levels[1:]:
            left, right = children[2 * nodes], children[2 * nodes + 1]
            goes_right = (rest >= left) & (right > 0.0)  # rounding could lead to a leaf of no weight
            rest -= np.where(goes_right, left, 0.0)
            nodes = 2 * nodes + goes_right
        return nodes
