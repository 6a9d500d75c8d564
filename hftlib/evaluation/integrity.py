"""Does a way of splitting rows find a signal where there is none?

The crash game's hazard is constant: nothing in a game's past says when it rugs. Whether it
does within `SIDEBET_TICKS` ticks is still "predicted" with ease when rows of one game lie in
training and in test. Features that hardly change within a game (its high and low so far, the
level of its price, the board, its name) tell which game it is, its training rows tell when it
rugs, and the tick does the rest. With whole games held out the area under the ROC curve
is that of a coin.

Both figures are shown side by side; the split by row runs only where it is asked for by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from hftlib.compute import derive_rng, derive_seed
from hftlib.evaluation.statistics import Estimate
from hftlib.sessions.game import Games
from hftlib.sessions.grouping import check_split, split_by_game
from hftlib.sessions.vocabulary import SIDEBET_TICKS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PAST_NAMES = ("tick", "price", "high", "low", "mean", "volatility", "change_1", "change_10")
SMALLEST_PRICE = 1e-12  # a price may fall to 0


class Classifier(Protocol):
    """What is fitted, in the words of scikit-learn."""

    def fit(self, X: Any, y: Any) -> Any:
        """Learn labels of shape (n,) from features of shape (n, n_features)."""

    def predict_proba(self, X: Any) -> Any:
        """Chances of both labels, shape (n, 2)."""


class Past(NamedTuple):
    """What was known at every tick before a rug, games one after the other.

    features : array of shape (n, 8)
        `PAST_NAMES`, all of prices up to the tick: tick, price, its high, low and mean so far,
        the standard deviation of its relative changes so far, its change over the last one and
        ten ticks as a share.
    """

    features: FloatArray
    tick: IntArray
    rug_tick: IntArray
    game: IntArray


@dataclass(frozen=True)
class LeakageReport:
    """Area under the ROC curve of the same model on the same rows, split in two ways."""

    by_row: Estimate
    by_game: Estimate
    base_rate: float
    n_rows: int
    n_games: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON; undefined numbers are null."""
        return vars(self) | {name: getattr(self, name).to_dict() for name in ("by_row", "by_game")}


def label_rugs(tick: IntArray, rug_tick: IntArray, horizon: int = SIDEBET_TICKS) -> BoolArray:
    """Whether the game of each row rugs within `horizon` ticks: what a side bet is on.

    Parameters
    ----------
    tick, rug_tick : arrays of shape (n,)

    Raises
    ------
    ValueError
        If a row is not before its game's rug; names it.
    """
    left = np.subtract(rug_tick, tick)
    if (left <= 0).any():
        row = int(np.argmax(left <= 0))
        raise ValueError(
            f"row {row} is at tick {tick[row]} of a game that rugs at {rug_tick[row]}; "
            "leave out the rug and what follows it"
        )
    return left <= horizon


def describe_past(games: Games) -> Past:
    """Features of the past at every tick of complete games; ticks that were not seen are left out.

    Raises
    ------
    ValueError
        If no game is complete.
    """
    parts = []
    for game in np.flatnonzero(games.is_complete).tolist():
        prices = games[game][:-1]
        tick = np.flatnonzero(np.isfinite(prices))
        if len(tick):
            parts.append((game, games.rug_tick[game], tick, prices[tick]))
    if not parts:
        raise ValueError(f"none of {len(games)} games is complete; a label needs the rug")
    lengths = [len(tick) for _, _, tick, _ in parts]
    return Past(
        features=np.concatenate([_describe(tick, prices) for _, _, tick, prices in parts]),
        tick=np.concatenate([tick for _, _, tick, _ in parts]),
        rug_tick=np.repeat([rug for _, rug, _, _ in parts], lengths),
        game=np.repeat([game for game, _, _, _ in parts], lengths),
    )


def demonstrate_leakage(
    features: npt.ArrayLike,
    labels: BoolArray,
    games: npt.NDArray[Any],
    *,
    n_folds: int = 5,
    make_model: Callable[[int], Classifier] | None = None,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> LeakageReport:
    """Cross-validate one model by row and by game.

    Parameters
    ----------
    features : array of shape (n_rows, n_features)
    labels : bool array of shape (n_rows,)
    games : array of shape (n_rows,)
        The game of each row, as code or text.
    n_folds : int
        At most the number of games.
    make_model : function from a seed to a Classifier, optional
        Gradient boosting by default.

    Returns
    -------
    LeakageReport
        Intervals by bootstrap over games, of predictions out of fold; the models are not fitted
        anew.

    Raises
    ------
    ValueError
        If lengths differ, labels are not bool, or there are fewer games than folds.
    """
    x = np.asarray(features)
    if labels.dtype != np.bool_ or not len(x) == len(labels) == len(games):
        raise ValueError(
            f"{len(x)} rows, {len(labels)} labels of {labels.dtype} and {len(games)} games; "
            "expected as many of each, labels bool"
        )
    make = _make_boosting if make_model is None else make_model
    _, group = np.unique(games, return_inverse=True)
    rng = derive_rng(seed, "integrity", "folds")
    by_row = rng.permutation(len(x)) % n_folds
    by_game = np.empty(len(x), dtype=np.int64)
    shares = {str(k): 1 / n_folds for k in range(n_folds)}
    for name, rows in split_by_game(group, shares, rng).items():
        by_game[rows] = int(name)
    found = {}
    for kind, folds in (("by_row", by_row), ("by_game", by_game)):
        scores = predict_out_of_fold(
            x, labels, games, folds, make, seed=seed, allows_leak=kind == "by_row"
        )
        found[kind] = estimate_auc(
            scores, labels, group, folds, n_bootstrap=n_bootstrap, confidence=confidence, seed=seed
        )
    n_games = int(group.max()) + 1
    return LeakageReport(**found, base_rate=float(labels.mean()), n_rows=len(x), n_games=n_games)


def predict_out_of_fold(
    features: npt.NDArray[Any],
    labels: BoolArray,
    games: npt.NDArray[Any],
    folds: IntArray,
    make_model: Callable[[int], Classifier],
    *,
    seed: int = 0,
    allows_leak: bool = False,
) -> FloatArray:
    """Chances of the label from models that have not seen the row, shape (n_rows,).

    Parameters
    ----------
    folds : array of shape (n_rows,)
        Rows of one number are held out together.
    allows_leak : bool
        Do not refuse folds that cut through games: to show what they do, and for nothing else.

    Raises
    ------
    LeakError
        If a game lies in two folds and `allows_leak` is false.
    """
    scores = np.empty(len(labels))
    for fold in np.unique(folds):
        test = folds == fold
        if not allows_leak:
            parts = {"training": np.flatnonzero(~test), "test": np.flatnonzero(test)}
            check_split(games, parts)
        model = make_model(derive_seed(seed, "integrity", int(fold)))
        model.fit(features[~test], labels[~test])
        scores[test] = model.predict_proba(features[test])[:, 1]
    return scores


def estimate_auc(
    scores: FloatArray,
    labels: BoolArray,
    games: IntArray,
    folds: IntArray,
    *,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Chance that a positive scores above a negative of its fold, ties counting half.

    Rows of different folds are not compared: a fold with few positives has models that were
    trained on more of them, which would push the pooled area below one half.

    Parameters
    ----------
    scores, labels : arrays of shape (n_rows,)
    games : array of shape (n_rows,)
        Codes from 0; the bootstrap draws all rows of a game together.
    folds : array of shape (n_rows,)

    Returns
    -------
    Estimate
        nan where no fold has both labels.
    """
    parts = []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        rows = rows[np.argsort(scores[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(scores[rows], prepend=-np.inf) > 0)
        parts.append((labels[rows], games[rows], starts))
    n_games = int(games.max()) + 1
    rng = derive_rng(seed, "integrity", "bootstrap")
    counts = rng.multinomial(n_games, np.full(n_games, 1 / n_games), size=n_bootstrap)
    point = _find_auc(parts, np.ones(n_games))
    samples = np.array([_find_auc(parts, own.astype(np.float64)) for own in counts])
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return Estimate(point, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Estimate(point, float(low), float(high))


def _find_auc(parts: Sequence[tuple[BoolArray, IntArray, IntArray]], weights: FloatArray) -> float:
    """The area with a weight for each game.

    A part is a fold's labels and games in the order of its scores, and where runs of equal
    scores start.
    """
    wins = pairs = 0.0
    for labels, games, starts in parts:
        positive = np.add.reduceat(weights[games] * labels, starts)
        negative = np.add.reduceat(weights[games] * ~labels, starts)
        wins += float(positive @ (np.cumsum(negative) - negative / 2))
        pairs += float(positive.sum() * negative.sum())
    return wins / pairs if pairs > 0 else float("nan")


def _describe(tick: IntArray, prices: FloatArray) -> FloatArray:
    """`PAST_NAMES` of one game, shape (n, 8)."""
    n = np.arange(1, len(prices) + 1)
    before = prices[np.maximum(n - 2, 0)]
    changes = (prices - before) / np.maximum(before, SMALLEST_PRICE)
    mean = np.cumsum(changes) / n
    spread = np.sqrt(np.maximum(np.cumsum(changes**2) / n - mean**2, 0.0))
    earlier = prices[np.maximum(n - 11, 0)]
    columns = (
        tick,
        prices,
        np.maximum.accumulate(prices),
        np.minimum.accumulate(prices),
        np.cumsum(prices) / n,
        spread,
        changes,
        (prices - earlier) / np.maximum(earlier, SMALLEST_PRICE),
    )
    return np.stack(columns, axis=1)


def _make_boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(early_stopping=False, random_state=seed)
