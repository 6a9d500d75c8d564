"""Have rows that depend on each other changed their law? PSI, Kolmogorov-Smirnov and MMD by blocks.

The textbook p-values of these statistics count rows as independent. Features of bars are not:
with an autocorrelation of .9 a hundred rows say what five independent ones would. So
the statistics are compared with what they would be had the label "current" fallen on other
blocks of consecutive rows: the pooled rows stay in place, whole blocks swap their label,
and dependence within a block survives. All columns share the labels, so that
their dependence on each other survives too, and one draw serves all three statistics.

Source: Smirnov (1948), Annals of Mathematical Statistics 19(2); Gretton et al. (2012), Journal of
Machine Learning Research 13, for MMD; Yurdakul & Naranjo (2020), Journal of Risk Model Validation
14(4), for the law of the PSI; Künsch (1989), Annals of Statistics 17(3), for blocks; Westfall &
Young (1993), Resampling-based multiple testing, for the correction.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist, pdist
from scipy.stats import rankdata

from hftlib.evaluation.samples import ConstantError, FloatArray, varies

BoolArray = npt.NDArray[np.bool_]
N_FOR_BANDWIDTH = 500  # rows, evenly spaced, whose median distance is the kernel's width
ROWS_AT_ONCE = 500


class BlockTest(NamedTuple):
    """A statistic of each of k columns, and its p-values from the same blocks.

    Attributes
    ----------
    value : array of shape (k,)
    p_value : array of shape (k,)
        Of the column alone.
    corrected : array of shape (k,)
        For the number of columns, family-wise: the share of draws in which any column is as far
        out, in standard deviations of its own draws.
    """

    value: FloatArray
    p_value: FloatArray
    corrected: FloatArray


def draw_labels(
    n_reference: int, n_current: int, block: int, n_draws: int, rng: np.random.Generator
) -> BoolArray:
    """Which of the pooled rows are called current: the true ones first, then by blocks.

    Rows are taken as a circle, cut from a random place into blocks of `block` rows; blocks in
    random order are current until there are `n_current` rows, the last one cut short.

    Returns
    -------
    array of shape (1 + n_draws, n_reference + n_current)
        `n_current` true values in each row; in the first row they come last.

    Raises
    ------
    ValueError
        If `block` is not between 1 and `n_current`.
    """
    if not 1 <= block <= n_current:
        raise ValueError(f"block={block}; expected 1 to the {n_current} current rows")
    n = n_reference + n_current
    labels = np.zeros((1 + n_draws, n), dtype=np.bool_)
    labels[0, n_reference:] = True
    starts = np.arange(0, n, block)
    for label in labels[1:]:
        first = rng.permutation(starts)[: n_current // block + 2]
        rows = (first[:, None] + np.arange(block)).ravel()
        rows = rows[(rows < n) & (rows < np.repeat(first + block, block))][:n_current]
        label[(rows + rng.integers(n)) % n] = True
    return labels


def stability(pooled: FloatArray, labels: BoolArray, n_bins: int) -> FloatArray:
    """PSI for each row of labels and column of pooled rows, shape (n_labels, k).

    Bins are those of the true reference, the first row of labels.
    """
    if n_bins < 2:
        raise ValueError(f"n_bins={n_bins}; expected at least 2, as a rule 10")
    reference = pooled[~labels[0]]
    if not varies(reference).all():
        k = int(np.argmin(varies(reference)))
        raise ConstantError(f"column {k} of the reference has one value; leave it out")
    weights = labels.astype(np.float64)
    n_current = labels[0].sum()
    n_reference = labels.shape[1] - n_current
    out = np.empty((len(labels), pooled.shape[1]))
    for k, column in enumerate(pooled.T):
        edges = np.unique(
            np.quantile(reference[:, k], np.arange(1, n_bins) / n_bins, method="inverted_cdf")
        )
        bins = np.searchsorted(edges, column, side="left")
        member = (bins[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
        total = member.sum(axis=0)
        member, total = member[:, total > 0], total[total > 0]
        current = weights @ member
        c = np.maximum(current, 0.5) / n_current
        r = np.maximum(total - current, 0.5) / n_reference
        out[:, k] = ((c - r) * np.log(c / r)).sum(axis=1)
    return out


def kolmogorov_distance(pooled: FloatArray, labels: BoolArray) -> FloatArray:
    """Largest gap of the two distribution functions, shape (n_labels, k)."""
    n_current = labels[0].sum()
    step = np.where(labels, 1.0 / n_current, -1.0 / (labels.shape[1] - n_current))
    out = np.empty((len(labels), pooled.shape[1]))
    for k, column in enumerate(pooled.T):
        order = np.argsort(column, kind="stable")
        last = np.append(np.diff(column[order]) > 0, True)  # of the rows of one value
        out[:, k] = np.abs(np.cumsum(step[:, order], axis=1)[:, last]).max(axis=1)
    return out


def mean_discrepancy(pooled: FloatArray, labels: BoolArray) -> FloatArray:
    """Squared maximum mean discrepancy of all columns together, shape (n_labels, 1).

    Of ranks in [0, 1], so that neither units nor outliers weigh, with a Gaussian kernel whose
    width is the median distance. The biased estimate: never negative.
    """
    n_current = labels[0].sum()
    weight = np.where(labels, 1.0 / n_current, -1.0 / (labels.shape[1] - n_current))
    ranks = (rankdata(pooled, axis=0) - 0.5) / len(pooled)
    some = ranks[np.linspace(0, len(ranks) - 1, min(len(ranks), N_FOR_BANDWIDTH)).astype(int)]
    width = float(np.median(pdist(some)))
    total = np.zeros((len(labels), 1))
    for first in range(0, len(ranks), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        kernel = np.exp(-cdist(ranks[part], ranks, "sqeuclidean") / (2.0 * width**2))
        total[:, 0] += ((weight[:, part] @ kernel) * weight).sum(axis=1)
    return total


def judge(values: FloatArray) -> BlockTest:
    """P-values of statistics of shape (1 + n_draws, k), the true ones in the first row.

    The truth counts as one of the draws, so no p-value is 0.
    """
    p = (values >= values[0] - 1e-12).mean(axis=0)
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    largest = scaled.max(axis=1)
    corrected = (largest[:, None] >= scaled[0] - 1e-12).mean(axis=0)
    return BlockTest(values[0], p, corrected)
