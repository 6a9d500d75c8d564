"""Drift of a served model's features in the shape in which it is shown."""

from dataclasses import replace

import numpy as np
import orjson
import pandas as pd
import pytest

from hftlib.live.drift_watch import N_SHOWN, feature_frame, watch_drift
from tests.conftest import make_panel

TESTS = {"seed": 3, "n_permutations": 199, "level": 0.05}
NAMES = tuple(f"f{k}" for k in range(8))


@pytest.fixture(scope="module")
def panel():
    return make_panel(600, n_features=8)


def frame_of(panel, rows):
    return feature_frame(dict.fromkeys(panel.symbols, panel), NAMES).iloc[rows]


def test_symbols_stand_side_by_side_at_their_own_bars(panel):
    frame = feature_frame(dict.fromkeys(panel.symbols, panel), ("f2", "f0"))
    assert list(frame) == ["S0 f2", "S0 f0", "S1 f2", "S1 f0"]
    assert frame.index.name == "ts" and len(frame) == 600
    np.testing.assert_array_equal(frame["S1 f2"], panel.features[600:, 2].astype(np.float64))


def test_only_bars_that_all_symbols_have_are_rows(panel):
    ts = panel.ts.copy()
    ts[600:] += 100 * (ts[1] - ts[0])  # the second symbol begins a hundred bars later
    later = replace(panel, ts=ts)
    frame = feature_frame(dict.fromkeys(panel.symbols, later), ("f0",))
    assert frame.index.tolist() == panel.ts[100:600].tolist()
    np.testing.assert_array_equal(frame["S0 f0"], panel.features[100:600, 0].astype(np.float64))
    np.testing.assert_array_equal(frame["S1 f0"], panel.features[600:1100, 0].astype(np.float64))


def test_a_planted_shift_is_found_and_its_column_is_shown_first(panel):
    reference, current = frame_of(panel, slice(0, 450)), frame_of(panel, slice(450, 600))
    report, shown = watch_drift(reference, current, **TESTS)
    assert not report.is_drift and not shown["is_drift"]
    moved = current.assign(**{"S1 f5": current["S1 f5"] + 2.0})
    report, shown = watch_drift(reference, moved, **TESTS)
    assert shown["is_drift"]
    first = shown["columns"][0]
    assert first["name"] == "S1 f5"
    assert first["ks_p"] == report.columns["ks_p"].min()
    assert first["psi"] > 1.0 and first["ks"] > 0.5


def test_what_is_shown_is_plain_and_short(panel):
    reference, current = frame_of(panel, slice(0, 450)), frame_of(panel, slice(450, 600))
    report, shown = watch_drift(reference, current, **TESTS)
    assert list(shown) == ["is_drift", "level", "mmd_p", "n_current", "ts_ns", "columns"]
    assert len(report.columns) == 16 and len(shown["columns"]) == N_SHOWN == 12
    p_values = [row["ks_p"] for row in shown["columns"]]
    assert p_values == sorted(p_values)
    assert set(shown["columns"][0]) == {"name", "psi", "ks", "ks_p"}
    assert (shown["n_current"], shown["ts_ns"]) == (150, int(panel.ts[599]))
    assert orjson.loads(orjson.dumps(shown)) == shown


def test_equal_seeds_show_equal_drift(panel):
    reference, current = frame_of(panel, slice(0, 450)), frame_of(panel, slice(450, 600))
    assert (
        watch_drift(reference, current, **TESTS)[1] == watch_drift(reference, current, **TESTS)[1]
    )


def test_columns_that_never_move_in_training_are_left_out(panel):
    reference, current = frame_of(panel, slice(0, 450)), frame_of(panel, slice(450, 600))
    still = reference.assign(**{"S0 f1": 0.0})
    report, _ = watch_drift(still, current, **TESTS)
    assert "S0 f1" not in report.columns.index and len(report.columns) == 15
    pd.testing.assert_index_equal(
        report.columns.index.sort_values(),
        pd.Index([name for name in reference if name != "S0 f1"]).sort_values(),
        check_names=False,
    )
