"""The synthetic share asked for is the share delivered, and none of it is ever tested on."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.laws import LAWS
from hftlib.data.mixing import MixError, draw_companions, mix_rows
from hftlib.data.panel import PanelError
from hftlib.data.splits import SplitError, split_frame
from hftlib.features.indicators import compute_features
from hftlib.features.panels import build_datasets
from hftlib.schema import BARS, validate
from tests.conftest import make_bars

TRAIN_END = date(2010, 12, 31)
CUT = {
    "train_end": TRAIN_END,
    "validation_end": date(2011, 6, 30),
    "purge_bars": 3,
    "embargo_bars": 5,
}
ENDS = {"train": TRAIN_END, "validation": CUT["validation_end"]}
SYMBOLS = ["AAA", "BBB"]


def companions(bars: pd.DataFrame, share: float, law: str = "gbm", seed: int = 0) -> pd.DataFrame:
    return draw_companions(bars, SYMBOLS, share, law=law, train_end=TRAIN_END, seed=seed)


@pytest.fixture(scope="module")
def bars():
    return make_bars(700, ("AAA", "BBB"))


@pytest.mark.parametrize("law", LAWS)
def test_companions_are_valid_flagged_and_end_with_the_training_span(bars, law):
    drawn = companions(bars, 0.6, law)
    validate(drawn, BARS)
    assert drawn["is_synthetic"].all()
    assert drawn["symbol"].unique().tolist() == ["SYN1_AAA", "SYN1_BBB", "SYN2_AAA", "SYN2_BBB"]
    clock = bars.loc[(bars["symbol"] == "AAA") & (bars["ts"].dt.date <= TRAIN_END), "ts"]
    for _, group in drawn.groupby("symbol"):
        assert group["ts"].tolist() == clock.tolist()
    assert drawn.groupby("symbol")["close"].first().nunique() == 4


def test_companions_do_not_know_what_comes_after_training(bars):
    later = bars.copy()
    later.loc[later["ts"].dt.date > TRAIN_END, ["open", "high", "low", "close", "volume"]] *= 7
    pd.testing.assert_frame_equal(companions(later, 0.4, "garch"), companions(bars, 0.4, "garch"))


def test_companions_resemble_the_symbol_that_they_are_fitted_to():
    bars = make_bars(5_000, ("AAA", "BBB"))
    end = date(2023, 1, 1)
    drawn = draw_companions(bars, SYMBOLS, 0.5, law="gbm", train_end=end, seed=0)
    for name in SYMBOLS:
        true, found = (
            frame[frame["symbol"] == symbol]
            for frame, symbol in ((bars, name), (drawn, f"SYN1_{name}"))
        )
        deviation = np.log(true["close"]).diff().std()
        # standard error 1 %
        assert np.log(found["close"]).diff().std() == pytest.approx(deviation, rel=0.05)
        assert found["volume"].mean() == pytest.approx(true["volume"].mean(), rel=0.05)


def test_seed_and_symbol_decide_what_is_drawn(bars):
    pd.testing.assert_frame_equal(companions(bars, 0.4), companions(bars, 0.4))
    assert not companions(bars, 0.4, seed=1)["close"].equals(companions(bars, 0.4)["close"])
    few, many = companions(bars, 0.4), companions(bars, 0.6)
    pd.testing.assert_frame_equal(few, many[: len(few)])


def test_no_share_draws_nothing_and_changes_nothing(bars):
    assert validate(companions(bars, 0.0), BARS).empty
    pd.testing.assert_frame_equal(mix_rows(bars, 0.0), bars)


@settings(max_examples=60, deadline=None)
@given(
    n_real=st.integers(1, 300),
    lengths=st.lists(st.integers(1, 200), max_size=5),
    share=st.floats(0, 0.99),
)
def test_the_share_delivered_is_the_share_asked_for_to_one_row(n_real, lengths, share):
    rows = [("REAL", False)] * n_real
    for number, length in enumerate(lengths):
        rows += [(f"SYN{number}", True)] * length
    table = pd.DataFrame(rows, columns=["symbol", "is_synthetic"])
    table["row"] = np.arange(len(table))
    wanted = share / (1 - share) * n_real
    if round(wanted) > sum(lengths):
        with pytest.raises(MixError, match=rf"needs {round(wanted)} synthetic rows beside"):
            mix_rows(table, share)
        return
    mixed = mix_rows(table, share)
    n_synthetic = int(mixed["is_synthetic"].sum())
    assert abs(n_synthetic - wanted) <= 0.5 + 1e-9
    assert mixed["row"][:n_real].tolist() == list(range(n_real))
    taken = mixed[mixed["is_synthetic"]].groupby("symbol").size().tolist()
    assert taken[:-1] == lengths[: max(len(taken) - 1, 0)], "only the last symbol may be cut"
    for _, group in mixed.groupby("symbol"):
        assert (group["row"].diff().dropna() == 1).all(), "what is kept is one piece"


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_impossible_share_is_refused(bars, share):
    with pytest.raises(MixError, match=f"synthetic share is {share}; it must be at least 0"):
        companions(bars, share)
    with pytest.raises(MixError, match="it must be at least 0 and below 1"):
        mix_rows(bars, share)


def test_symbol_without_training_bars_cannot_have_companions(bars):
    with pytest.raises(MixError, match="AAA has no bar up to train_end=2009-01-01"):
        draw_companions(bars, SYMBOLS, 0.1, law="gbm", train_end=date(2009, 1, 1), seed=0)


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.7])
def test_datasets_hold_the_share_after_warm_up_and_purge(bars, share):
    mixed = pd.concat([bars, companions(bars, share)], ignore_index=True)
    made = build_datasets(mixed, compute_features(mixed), SYMBOLS, **CUT, synthetic_share=share)
    n_real = int((~made.rows["train"]["is_synthetic"]).sum())
    n_rows = len(made.panels["train"].ts)
    assert abs((n_rows - n_real) - share / (1 - share) * n_real) <= 0.5 + 1e-9
    assert made.panels["train"].symbols[:2] == ("AAA", "BBB")
    for split in ("validation", "test"):
        assert made.panels[split].symbols == ("AAA", "BBB")
        assert not made.rows[split]["is_synthetic"].any()
    plain = build_datasets(bars, compute_features(bars), SYMBOLS, **CUT)
    assert made.scaler == plain.scaler, "the scaler sees real rows only"
    np.testing.assert_array_equal(
        made.panels["train"].features[:n_real], plain.panels["train"].features
    )


def test_without_a_share_companions_stay_out(bars):
    mixed = pd.concat([bars, companions(bars, 0.5)], ignore_index=True)
    made = build_datasets(mixed, compute_features(mixed), SYMBOLS, **CUT)
    assert made.panels["train"].symbols == ("AAA", "BBB")


def test_whole_companions_keep_the_clock_of_the_real_symbols(bars):
    mixed = pd.concat([bars, companions(bars, 0.5)], ignore_index=True)
    made = build_datasets(mixed, compute_features(mixed), SYMBOLS, **CUT, synthetic_share=0.5)
    assert len(made.panels["train"].symbols) == 4
    assert len(made.panels["train"].common_clock()) > 0


def test_real_symbols_of_two_clocks_are_refused_beside_synthetic_ones(bars):
    hole = bars.drop(index=100)
    mixed = pd.concat([hole, companions(hole, 0.5)], ignore_index=True)
    with pytest.raises(PanelError, match="bars at different times"):
        build_datasets(mixed, compute_features(mixed), SYMBOLS, **CUT, synthetic_share=0.5)


def test_synthetic_rows_after_training_are_refused_by_name(bars):
    late = bars.assign(is_synthetic=bars["symbol"] == "BBB")
    with pytest.raises(SplitError) as error:
        split_frame(late, SYMBOLS, ENDS, purge_bars=1, embargo_bars=0)
    assert str(error.value).startswith("BBB is synthetic and has 335 rows after 2010-12-31, the")
    assert "synthetic rows may only train" in str(error.value)
    cut = split_frame(late, SYMBOLS, ENDS, is_control=True, purge_bars=1, embargo_bars=0)
    assert cut["test"]["symbol"].unique().tolist() == SYMBOLS


def test_a_single_synthetic_row_in_a_real_series_is_refused(bars):
    spliced = bars.copy()
    spliced.loc[650, "is_synthetic"] = True
    with pytest.raises(SplitError, match="AAA is synthetic and has 335 rows after"):
        split_frame(spliced, SYMBOLS, ENDS, purge_bars=1, embargo_bars=0)


def test_synthetic_symbols_alone_leave_no_validation(bars):
    drawn = companions(bars, 0.5)
    with pytest.raises(SplitError, match="split validation is empty: every symbol of SYN1_AAA"):
        split_frame(drawn, ["SYN1_AAA"], ENDS, purge_bars=1, embargo_bars=0)


def test_a_synthetic_symbol_cannot_be_named_among_the_real_ones(bars):
    mixed = pd.concat([bars, companions(bars, 0.5)], ignore_index=True)
    with pytest.raises(SplitError, match="SYN1_AAA is synthetic; name real symbols"):
        build_datasets(mixed, compute_features(mixed), ["AAA", "SYN1_AAA"], **CUT)
