"""The stream: bit for bit the batch, bar after bar; a bar that is none changes nothing."""

import numpy as np
import pandas as pd
import pytest

from hftlib.features.feature import FeatureError
from hftlib.features.indicators import CATALOGUE, FEATURE_NAMES, compute_features
from hftlib.features.stream import FeatureStream
from tests.conftest import make_bars
from tests.test_indicators import MODEL, compute_all, scores

COLUMNS = ["open", "high", "low", "close", "volume"]


def push(stream: FeatureStream, bars: pd.DataFrame, row: int) -> dict[str, float]:
    return stream.push(bars["ts"][row], **bars.loc[row, COLUMNS].to_dict())


def test_newest_row_is_that_of_the_batch_to_the_last_bit():
    bars = make_bars(200)
    known = scores(bars)
    stream = FeatureStream("AAA", regime=MODEL, scores=known)
    batch = compute_all(bars, known)
    seen = [push(stream, bars, row) for row in range(15)]
    stream.extend(bars[15:185])
    seen += [push(stream, bars, row) for row in range(185, 200)]
    assert list(seen[0]) == [feature.name for feature in CATALOGUE]
    rows = [*range(15), *range(185, 200)]
    expected = batch.loc[rows, list(seen[0])].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.DataFrame(seen), expected, check_exact=True)
    assert len(stream) == 200


def test_stream_without_model_and_scores_has_the_features_of_bars():
    assert list(push(FeatureStream("AAA"), make_bars(1), 0)) == list(FEATURE_NAMES)


def test_scores_of_another_symbol_are_passed_over():
    bars = make_bars(30)
    stream = FeatureStream("BBB", scores=scores(bars))
    stream.extend(bars[:29])
    assert np.isnan(push(stream, bars, 29)["sentiment"])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"close": np.nan}, "close of AAA is nan"), ({"ts": 5}, "ts of AAA does not increase")],
)
def test_bar_that_is_none_is_refused_and_forgotten(change, message):
    bars = make_bars(40)
    stream = FeatureStream("AAA")
    stream.extend(bars[:20])
    bad = bars.loc[20, ["ts", *COLUMNS]].to_dict()
    bad |= {name: bars["ts"][5] if name == "ts" else value for name, value in change.items()}
    with pytest.raises(FeatureError, match=message):
        stream.push(bad.pop("ts"), **bad)
    assert len(stream) == 20
    expected = compute_features(bars[:21]).iloc[-1][list(FEATURE_NAMES)]
    assert pd.Series(push(stream, bars, 20)).equals(expected.astype(float))


def test_stamp_without_a_time_zone_is_refused():
    with pytest.raises(FeatureError, match="2020-01-01 00:00:00 has no time zone"):
        FeatureStream("AAA").push(
            pd.Timestamp("2020-01-01"), open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0
        )


def test_stamp_of_another_zone_is_the_same_moment():
    bars = make_bars(25)
    stream = FeatureStream("AAA")
    stream.extend(bars[:24])
    local = bars["ts"][24].tz_convert("America/New_York")
    last = stream.push(local, **bars.loc[24, COLUMNS].to_dict())
    expected = compute_features(bars).iloc[-1][list(last)].astype(float)
    assert pd.Series(last).equals(expected)
