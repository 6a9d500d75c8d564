"""Replay of past transitions, uniform or by priority.

A transition is one row of numbers; what its columns mean is the learner's
business. Inserts and draws are batches: no loop runs over transitions.

Source: Schaul et al. (2016), Prioritized experience replay, arXiv 1511.05952,
the proportional variant.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SMALLEST_ERROR = 1e-6  # a transition without error keeps a chance to be drawn
BRANCHES = 16  # of a node of the tree; the fastest of 2 to 1024 for 1e5 and 1e6 leaves


class SumTree:
    """Non-negative numbers whose prefix sums are searched and changed in O(log n).

    `levels` are the sums from the root's children down to the numbers themselves,
    each of shape (n_nodes, BRANCHES). A sum is always computed anew from the
    whole of what is below it, so rounding errors do not pile up.
    """

    def __init__(self, n_leaves: int) -> None:
        n_nodes = [-(-n_leaves // BRANCHES)]
        while n_nodes[0] > 1:
            n_nodes.insert(0, -(-n_nodes[0] // BRANCHES))
        self.levels = [np.zeros((n, BRANCHES)) for n in n_nodes]

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self.levels[0].sum())

    def get(self, leaves: Slots) -> Floats:
        """Values of leaves, shape (n,)."""
        return self.levels[-1].reshape(-1)[leaves]

    def set(self, leaves: Slots, values: Floats | float) -> None:
        """Change leaves, shape (n,); of a leaf named twice the last value stays."""
        nodes = leaves
        self.levels[-1].reshape(-1)[nodes] = values
        for below, level in zip(self.levels[:0:-1], self.levels[-2::-1], strict=True):
            nodes = nodes // BRANCHES
            level.reshape(-1)[nodes] = below[nodes].sum(axis=1)

    def find(self, sums: Floats) -> Slots:
        """Leaves in which the running sum over all leaves passes `sums`, in [0, total).

        A leaf of value 0 is never found.
        """
        nodes = np.zeros(len(sums), dtype=np.int64)
        for level in self.levels:
            running = level[nodes].cumsum(axis=1)
            # Two ways of adding up differ by rounding: never beyond the last positive number.
            sums = np.minimum(sums, np.nextafter(running[:, -1], 0))
            child = (running <= sums[:, None]).sum(axis=1)
            before = np.take_along_axis(running, child[:, None] - 1, axis=1)[:, 0]
            sums = sums - np.where(child > 0, before, 0.0)
            nodes = nodes * BRANCHES + child
        return nodes


class Sample(NamedTuple):
    """A batch of transitions.

    rows : float32 array of shape (n, row_size)
    weights : float32 array of shape (n,)
        Importance weights (size * probability)^-beta over their largest. They
        multiply the loss of each transition, before any mean over the batch.
    slots : int64 array of shape (n,)
        Where the rows lie, for `set_priorities`.
    """

    rows: Rows
    weights: Rows
    slots: Slots


class ReplayBuffer:
    """A ring of rows; the newest overwrite the oldest.

    Parameters
    ----------
    capacity : most rows that it holds
    row_size : numbers in a row
    alpha : a row is drawn with a probability proportional to |error|^alpha; 0 draws uniformly

    Raises
    ------
    MemoryError
        If the rows cannot be allocated; states their memory.
    """

    def __init__(self, capacity: int, row_size: int, alpha: float = 0.0) -> None:
        if capacity < 1 or not 0 <= alpha <= 1:
            raise ValueError(
                f"capacity={capacity}, alpha={alpha}; expected at least 1, and between 0 and 1"
            )
        try:
            self.rows: Rows = np.empty((capacity, row_size), dtype=np.float32)
            self.tree = SumTree(capacity) if alpha > 0 else None
        except (MemoryError, ValueError) as error:  # numpy's words for far too much
            raise MemoryError(
                f"{capacity:,} transitions of {row_size} numbers need "
                f"{(row_size * 4 + 8) * capacity / 2**30:,.1f} GiB; lower buffer_size"
            ) from error
        self.alpha = alpha
        self.size = 0
        self._next = 0
        self._largest = 1.0  # priority of rows without an error yet

    def add(self, rows: Rows) -> None:
        """Append rows, shape (n, row_size), with the largest priority ever given."""
        capacity = len(self.rows)
        if len(rows) > capacity:
            raise ValueError(
                f"{len(rows)} transitions at once do not fit in a buffer of {capacity}; "
                "raise buffer_size to the number of copies at least"
            )
        slots = (self._next + np.arange(len(rows))) % capacity
        self.rows[slots] = rows
        if self.tree is not None:
            self.tree.set(slots, self._largest)
        self._next = (self._next + len(rows)) % capacity
        self.size = min(self.size + len(rows), capacity)

    def sample(self, n: int, beta: float, rng: np.random.Generator) -> Sample:
        """Draw `n` rows with replacement.

        By priority, one is drawn from each n-th part of their sum: the probabilities
        are as without the parts, the batches more even.

        Parameters
        ----------
        beta : how much of the bias towards large errors the weights take away; 1 takes all
        """
        if self.size == 0:
            raise ValueError("the buffer is empty; add transitions before drawing some")
        if self.tree is None:
            slots = rng.integers(self.size, size=n)
            return Sample(self.rows[slots], np.ones(n, dtype=np.float32), slots)
        total = self.tree.total
        slots = self.tree.find((np.arange(n) + rng.random(n)) * (total / n))
        weights = (self.tree.get(slots) * (self.size / total)) ** -beta
        return Sample(self.rows[slots], (weights / weights.max()).astype(np.float32), slots)

    def set_priorities(self, slots: Slots, errors: npt.NDArray[np.floating[Any]]) -> None:
        """Tell the errors of rows, shape (n,), of any sign; no effect on a uniform buffer."""
        if self.tree is None:
            return
        priorities = (np.abs(errors).astype(np.float64) + SMALLEST_ERROR) ** self.alpha
        if not np.isfinite(priorities).all():
            raise FloatingPointError("an error is not finite; lower the learning rates")
        self._largest = max(self._largest, float(priorities.max()))
        self.tree.set(slots, priorities)

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit; only what is filled.

        Tensors: torch writes them ten times as fast as arrays.
        """
        priorities = None if self.tree is None else self.tree.get(np.arange(self.size))
        return {
            "rows": torch.tensor(self.rows[: self.size]),
            "priorities": None if priorities is None else torch.from_numpy(priorities),
            "next": self._next,
            "largest": self._largest,
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state` of a buffer of the same capacity, row_size and alpha."""
        self.size = len(saved["rows"])
        self.rows[: self.size] = saved["rows"].numpy()
        if self.tree is not None:
            self.tree.set(np.arange(self.size), saved["priorities"].numpy())
        self._next, self._largest = saved["next"], saved["largest"]
