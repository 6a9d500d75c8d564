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
    names: Sequence[str] | None = None,
    *,
    regimes: Mapping[str, RegimeModel] | None = None,
    sentiment: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Features of every symbol in `bars`.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Any number of symbols, each in time order; index without duplicates.
    names : sequence of str, optional
        Only these, in this order; all of the catalogue that can be had by default.
    regimes : mapping of symbol to model, optional
        For the features of the hidden states, nan for a symbol without a
        model. A model fitted on rows that are evaluated later leaks.
    sentiment : frame as from `read_sentiment`, optional
        For the features of sentiment, nan for a symbol without scores.

    Returns
    -------
    frame of shape (n_bars, 2 + n_features)
        `symbol`, `ts` and the features as float64, in the order of `bars`; nan
        in each feature's warm-up, so throughout a symbol shorter than that.

    Raises
    ------
    FeatureError
        If a price is missing, not positive or infinite, or if time does not
        increase within a symbol; names the symbol and the bar. If a name is
        unknown, or asks for hidden states or sentiment without `regimes` or
        `sentiment`.
    """
    lacking: dict[Feature, str] = {}
    if regimes is None:
        lacking |= dict.fromkeys(HIDDEN_FEATURES, "regimes")
    if sentiment is None:
        lacking |= dict.fromkeys(SENTIMENT_FEATURES, "sentiment")
    if names is None:
        features = tuple(feature for feature in CATALOGUE if feature not in lacking)
    else:
        features = find_features(names)
        for feature in features:
            if feature in lacking:
                raise FeatureError(
                    f"{feature.name} needs {lacking[feature]}=, which is not given; give it, or "
                    "leave the feature out of names"
                )
    parts = []
    for symbol, group in bars.groupby("symbol", sort=False):
        model = None if regimes is None else regimes.get(symbol)
        scores = None if sentiment is None else sentiment[sentiment["symbol"] == symbol]
        columns = compute_columns(BarSeries.from_frame(group, model, scores), features)
        filled = {feature.name: columns.get(feature.name, np.nan) for feature in features}
        parts.append(pd.DataFrame(filled, group.index))
    values = pd.concat(parts).loc[bars.index]
    return pd.concat([bars[["symbol", "ts"]], values], axis=1).reset_index(drop=True)


def compute_columns(
    series: BarSeries, features: Sequence[Feature] = CATALOGUE
) -> dict[str, FloatArray]:
    """Those features that the series has the ingredients of, shape (n_bars,) each."""
    hidden = HIDDEN_FEATURES if series.regime is None else ()
    scored = SENTIMENT_FEATURES if series.scores is None else ()
    return evaluate(series, [f for f in features if f not in (*hidden, *scored)])
