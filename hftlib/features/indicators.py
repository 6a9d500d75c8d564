"""The catalogue of bar features, and the table of their values.

Rules for every feature: `features.feature`. Those that need bars alone are
`FEATURES`; the hidden states need a model fitted on training rows, sentiment a
score file, and their columns are there only with it. The parabolic stop and
the other state machines run from a symbol's first bar on, so a table begins
where the data begin.
"""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hftlib.features import bands, candles, momentum, price_action, temporal, trends, turnover
from hftlib.features.feature import BarSeries, Feature, FeatureError, FloatArray, evaluate
from hftlib.features.markov import RegimeModel
from hftlib.features.regimes import FEATURES as RULED_REGIMES
from hftlib.features.regimes import HIDDEN_FEATURES
from hftlib.features.sentiment import FEATURES as SENTIMENT_FEATURES

FEATURES = (
    *momentum.FEATURES,
    *trends.FEATURES,
    *bands.FEATURES,
    *turnover.FEATURES,
    *price_action.FEATURES,
    *candles.FEATURES,
    *temporal.FEATURES,
    *RULED_REGIMES,
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
CATALOGUE = (*FEATURES, *HIDDEN_FEATURES, *SENTIMENT_FEATURES)
KNOWN_AT = {"temporal": "start of the bar", "sentiment": "start of the bar"}


def find_features(names: Sequence[str]) -> tuple[Feature, ...]:
    """Features by name, in the order asked for.

    Raises
    ------
    FeatureError
        If a name is unknown; the message names the nearest one.
    """
    known = {feature.name: feature for feature in CATALOGUE}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else "indicators.CATALOGUE lists them"
            raise FeatureError(f"{name} is not a feature; {remedy}")
    return tuple(known[name] for name in names)


def describe_features(features: Sequence[Feature] = CATALOGUE) -> pd.DataFrame:
    """The documentation: one row a feature.

    Returns
    -------
    frame with columns feature, family, formula, window, unit, known at, warm-up
        `window` and `warm-up` in bars; a value is never known later than at the
        close of its own bar, so the lag is 0 bars throughout.
    """
    rows = [
        (
            feature.name,
            feature.family,
            feature.formula,
            feature.window,
            feature.unit,
            KNOWN_AT.get(feature.family, "close of the bar"),
            feature.warmup,
        )
        for feature in features
    ]
    columns = ["feature", "family", "formula", "window", "unit", "known at", "warm-up"]
    return pd.DataFrame(rows, columns=columns)


def compute_features(
    bars: pd.DataFrame,
    *,
    regimes: Mapping[str, RegimeModel] | None = None,
    sentiment: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Features of every symbol in `bars`.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Any number of symbols, each in time order; index without duplicates.
    regimes : mapping of symbol to model, optional
        Adds the features of the hidden states, nan for a symbol without a
        model. A model fitted on rows that are evaluated later leaks.
    sentiment : frame as from `read_sentiment`, optional
        Adds the features of sentiment, nan for a symbol without scores.

    Returns
    -------
    frame of shape (n_bars, 2 + n_features)
        `symbol`, `ts` and the features as float64, in the order of `bars`; nan
        in each feature's warm-up, so throughout a symbol shorter than that.

    Raises
    ------
    FeatureError
        If a price is missing, not positive or infinite, or if time does not
        increase within a symbol; names the symbol and the bar.
    """
    hidden = () if regimes is None else HIDDEN_FEATURES
    scored = () if sentiment is None else SENTIMENT_FEATURES
    names = [feature.name for feature in (*FEATURES, *hidden, *scored)]
    parts = []
    for symbol, group in bars.groupby("symbol", sort=False):
        model = None if regimes is None else regimes.get(symbol)
        scores = None if sentiment is None else sentiment[sentiment["symbol"] == symbol]
        columns = compute_columns(BarSeries.from_frame(group, model, scores))
        table = pd.DataFrame({name: columns.get(name, np.nan) for name in names}, group.index)
        parts.append(table)
    values = pd.concat(parts).loc[bars.index]
    return pd.concat([bars[["symbol", "ts"]], values], axis=1).reset_index(drop=True)


def compute_columns(series: BarSeries) -> dict[str, FloatArray]:
    """All features that the series has the ingredients of, shape (n_bars,) each."""
    hidden = () if series.regime is None else HIDDEN_FEATURES
    scored = () if series.scores is None else SENTIMENT_FEATURES
    return evaluate(series, (*FEATURES, *hidden, *scored))
