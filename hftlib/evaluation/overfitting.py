"""How likely is the strategy that looked best to be a poor one? Combinatorially symmetric CV.

The span is cut into blocks; every way to take half of them is once the sample on
which the best strategy is chosen, the other half the sample on which it is
judged. Sharpe ratios of all halves come from block sums of the returns and their
squares, as two matrix products; the second half of a split is the first of
another, so each is computed once.

Source: Bailey, Borwein, López de Prado & Zhu (2017), The probability of backtest
overfitting, Journal of Computational Finance 20(4).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.samples import FloatArray, TooFewError, check_returns

MOST_BLOCKS = 20  # 184,756 splits; 22 blocks have 705,432
LEAST_BARS = 2  # of a block


@dataclass(frozen=True)
class Overfitting:
    """What became of the chosen strategy in each of the splits.

    Attributes
    ----------
    probability : float
        Of backtest overfitting: share of splits in which the chosen strategy is in the lower half
        of all, its logit at or below 0.
    probability_of_loss : float
        Share of splits in which it loses where it is judged.
    slope : float
        Of its ratio there by its ratio where it was chosen, least squares; below 0 the better
        a past, the worse the future. nan where the latter does not vary.
    logits : array of shape (n_splits,)
        Log odds of its relative rank, rank / (n_strategies + 1), among all where it is judged.
    in_sample, out_of_sample : arrays of shape (n_splits,)
        Its Sharpe ratio per period where it was chosen and where it is judged.
    chosen : array of shape (n_splits,)
        Its column.
    n_left_out : int
        Oldest bars that are in no block, since blocks are equally long.
    """

    probability: float
    probability_of_loss: float
    slope: float
    logits: FloatArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    chosen: npt.NDArray[np.int64]
    n_left_out: int

    def to_dict(self) -> dict[str, float | None]:
        """The measures without the splits; None for nan."""
        return {
            "pbo": self.probability,
            "probability_of_loss": self.probability_of_loss,
            "slope": self.slope if np.isfinite(self.slope) else None,
            "splits": len(self.logits),
        }


def cross_validate(
    returns: npt.ArrayLike, n_blocks: int = 16, names: Sequence[Hashable] | None = None
) -> Overfitting:
    """Choose by Sharpe ratio on half the blocks, judge on the others, in all ways.

    Parameters
    ----------
    returns : array of shape (n_bars, n_strategies)
        Of **all** that was tried on one clock, not only of the good ones. A strategy that does not
        vary in a half, since it did not trade there, has ratio 0 in it.
    n_blocks : int
        Even, 2 to 20. 16 give 12,870 splits.
    names : sequence, optional
        Of the strategies, for the errors.

    Raises
    ------
    TooFewError
        If there are fewer than 2 strategies, or than 2 bars a block.
    UndefinedError, ConstantError
        If a return is not finite, or a strategy's do not vary.
    ValueError
        If `n_blocks` is odd or out of bounds, or the shape is another.
    """
    if n_blocks % 2 or not 2 <= n_blocks <= MOST_BLOCKS:
        raise ValueError(f"n_blocks is {n_blocks}; expected an even number, 2 to {MOST_BLOCKS}")
    test = "probability of backtest overfitting"
    values = check_returns(returns, n_least=LEAST_BARS * n_blocks, test=test, names=names)
    if values.ndim != 2 or values.shape[1] < 2:
        raise TooFewError(f"{test}: one strategy; it needs all that were tried, at least 2")
    n_left_out = len(values) % n_blocks
    ratios = _ratios_of_halves(values[n_left_out:], n_blocks)
    # in lexicographic order the complement of the k-th half is the k-th from the end
    judged = ratios[::-1]
    chosen = ratios.argmax(axis=1)
    rows = np.arange(len(ratios))
    first, second = ratios[rows, chosen], judged[rows, chosen]
    below = (judged < second[:, None]).sum(axis=1)
    equal = (judged == second[:, None]).sum(axis=1)
    rank = below + (equal + 1) / 2  # the mean rank of those that tie
    logits = np.log(rank / (values.shape[1] + 1 - rank))
    centred = first - first.mean()
    spread = float(centred @ centred)
    is_flat = np.ptp(first) <= 1e-12 * np.abs(first).max()
    return Overfitting(
        float((logits <= 0).mean()),
        float((second < 0).mean()),
        float("nan") if is_flat else float(centred @ second) / spread,
        logits,
        first,
        second,
        chosen,
        n_left_out,
    )


def _ratios_of_halves(values: FloatArray, n_blocks: int) -> FloatArray:
    """Sharpe ratio per period of each strategy in each half, shape (n_splits, n_strategies)."""
    halves = np.zeros((len(list(combinations(range(n_blocks), n_blocks // 2))), n_blocks))
    for row, members in enumerate(combinations(range(n_blocks), n_blocks // 2)):
        halves[row, list(members)] = 1.0
    n_bars, n_strategies = values.shape
    mean = values.mean(axis=0)
    centred = values - mean  # squares of what is left lose no digits
    blocks = centred.reshape(n_blocks, n_bars // n_blocks, n_strategies)
    n = n_bars // 2
    sums = halves @ blocks.sum(axis=1)
    variance = (halves @ (blocks**2).sum(axis=1) - sums**2 / n) / (n - 1)
    least = np.maximum(1e-15, 1e-12 * np.abs(values).max(axis=0)) ** 2
    has_ratio = variance > np.maximum(least, 1e-14 * (centred**2).mean(axis=0))
    return np.where(has_ratio, (mean + sums / n) / np.sqrt(np.where(has_ratio, variance, 1)), 0.0)
