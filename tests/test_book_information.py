"""Information of book features, verdicts over sessions, stylised curves and figures of books."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hftlib import bookplots
from hftlib.features.book_information import measure_information
from hftlib.market.curves import SIGN, TAIL, UP, stylised_curves
from hftlib.market.realism import RULES, Band, Fact, measure_realism, ou_snapshots
from hftlib.market.verdicts import pool_facts, tabulate_verdicts
from hftlib.schema import snapshots as snapshot_schema
from hftlib.schema import validate

LEVELS = 5


def make_session(n_rows: int = 3_000, seed: int = 0, session: str = "2024-01-02") -> pd.DataFrame:
    """A mid that steps towards the thinner side of the book, by the size of the next imbalance."""
    rng = np.random.default_rng(seed)
    bid_qty, ask_qty = rng.integers(1, 100, (2, n_rows))
    push = np.sign(bid_qty - ask_qty) * (rng.random(n_rows) < 0.8)
    mid = 10_000 + np.concatenate([[0], np.cumsum(push[:-1])]).astype(int)
    columns = {
        "symbol": "X",
        "source": "made",
        "session": session,
        "ts": np.arange(n_rows) * 10**9,
        "best_bid": mid - 1,
        "best_ask": mid + 1,
        "bid_qty_1": bid_qty,
        "ask_qty_1": ask_qty,
        "last_px": mid,
        "traded_qty": 0,
    }
    for k in range(2, LEVELS + 1):
        columns |= {f"bid_px_{k}": mid - k, f"ask_px_{k}": mid + k}
        columns |= {f"bid_qty_{k}": 50, f"ask_qty_{k}": 50}
    schema = snapshot_schema(LEVELS)
    types = {column.name: column.dtype for column in schema.columns}
    return validate(pd.DataFrame(columns)[schema.names].astype(types), schema)


def measured(*frames, seed=0):
    rng = np.random.default_rng(seed)
    table = measure_information(frames, ["imbalance", "spread", "bid_qty_1"], [1, 5], rng)
    return table.set_index(["feature", "horizon"])


def test_the_feature_that_moves_the_mid_has_the_information_and_only_at_its_horizon():
    table = measured(make_session())
    assert table.loc[("imbalance", 1), "ic"] > 0.7
    # the sign of the imbalance decides four moves in five: .44 nats of three equal classes
    assert 0.3 < table.loc[("imbalance", 1), "mi"] < 0.6
    assert table.loc[("imbalance", 1), "floor"] < 0.05
    assert table.loc[("imbalance", 5), "ic"] < table.loc[("imbalance", 1), "ic"]
    assert np.isnan(table.loc[("spread", 1), "ic"]), "a constant has no rank correlation"


def test_a_price_level_has_no_information_on_a_walk_however_its_rows_resemble_their_neighbours():
    rng = np.random.default_rng(0)
    frame = make_session(20_000)
    shuffled = rng.permutation(frame[["bid_qty_1", "ask_qty_1"]].to_numpy())
    frame[["bid_qty_1", "ask_qty_1"]] = shuffled
    table = measure_information([frame], ["best_bid", "imbalance"], [20], rng)
    assert (table["mi"] < table["floor"] + 0.05).all()


def test_rank_information_is_that_of_scipy():
    frame = make_session(500)
    mid = (frame["best_bid"] + frame["best_ask"]) / 2
    ahead = mid.shift(-1) / mid - 1
    ours = measured(frame).loc[("bid_qty_1", 1), "ic"]
    theirs = spearmanr(frame["bid_qty_1"][ahead.notna()], ahead[ahead.notna()])[0]
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_mirrored_book_has_the_same_rank_information():
    frame = make_session()
    mirrored = frame.copy()
    deeper = [f"{what}_{k}" for k in range(2, LEVELS + 1) for what in ("px", "qty")]
    for level in ("qty_1", *deeper):
        mirrored[f"bid_{level}"] = frame[f"ask_{level}"]
        mirrored[f"ask_{level}"] = frame[f"bid_{level}"]
    for side, k in ((side, k) for side in ("bid", "ask") for k in range(2, LEVELS + 1)):
        mirrored[f"{side}_px_{k}"] = 20_000 - mirrored[f"{side}_px_{k}"]
    mirrored["best_bid"] = 20_000 - frame["best_ask"]
    mirrored["best_ask"] = 20_000 - frame["best_bid"]
    # the simple return is not exactly odd in the mid, so a few ranks may change
    ours, theirs = (measured(f).loc[("imbalance", 1), "ic"] for f in (frame, mirrored))
    assert ours == pytest.approx(theirs, abs=0.01)


def test_pooling_gives_means_over_sessions_and_students_interval():
    frames = [make_session(seed=k, session=f"2024-01-0{k + 2}") for k in range(3)]
    pooled = measured(*frames).loc[("imbalance", 1)]
    values = [measured(frame).loc[("imbalance", 1), "ic"] for frame in frames]
    assert pooled["sessions"] == 3
    assert pooled["ic"] == pytest.approx(np.mean(values))
    reach = 4.302652729 * np.std(values, ddof=1) / np.sqrt(3)  # t with 2 degrees of freedom
    assert pooled["high"] - pooled["ic"] == pytest.approx(reach, rel=1e-6)


def fact(name: str, value: float | None, passes: bool | None) -> Fact:
    rule = RULES[name]
    return Fact(name, value, value, value, Band(rule.row, rule.low, rule.high), passes)


def facts(sign_acf: float | None, passes: bool | None) -> dict[str, Fact]:
    others = {name: fact(name, 1.0, True) for name in RULES}
    return others | {"sign_acf": fact("sign_acf", sign_acf, passes)}


def test_a_source_holds_a_fact_if_the_mean_over_its_sessions_does_and_says_how_many_do():
    verdict = pool_facts([facts(0.5, True), facts(0.2, False), facts(None, None)])["sign_acf"]
    assert verdict["value"] == pytest.approx(0.35)
    assert (verdict["passes"], verdict["passing"], verdict["sessions"]) == (True, 1, 2)
    assert verdict["low"] < 0.35 < verdict["high"]
    low = pool_facts([facts(0.35, True), facts(0.2, False)])["sign_acf"]
    assert (low["passes"], low["passing"]) == (False, 1)
    assert pool_facts([facts(0.5, True)])["sign_acf"]["low"] == 0.5, "one session: its bootstrap"


def test_a_fact_that_is_undefined_in_every_session_does_not_hold():
    verdict = pool_facts([facts(None, False), facts(None, False)])["sign_acf"]
    assert (verdict["passes"], verdict["value"]) == (False, None)


def test_a_fact_that_no_session_shows_is_neither_passed_nor_failed():
    verdict = pool_facts([facts(None, None), facts(None, None)])["sign_acf"]
    assert verdict["passes"] is None
    assert verdict["value"] is None
    with pytest.raises(ValueError, match="at least one session"):
        pool_facts([])


def test_the_table_marks_what_does_not_hold():
    table = tabulate_verdicts(
        {"good": pool_facts([facts(0.5, True)]), "bad": pool_facts([facts(0.2, False)])}
    )
    assert list(table.index) == list(RULES)
    assert table.loc["sign_acf", "good"] == "0.5"
    assert table.loc["sign_acf", "bad"] == "0.2 (0 of 1) ✗"
    assert table.loc["sign_acf", "band"] == "> 0.3"


def test_curves_of_a_tape_without_trades_leave_out_what_needs_them():
    tape = ou_snapshots(20_000, np.random.default_rng(0))
    curves = stylised_curves(tape)
    assert TAIL.title in set(curves["panel"])
    assert SIGN.title not in set(curves["panel"])
    up = curves[curves["panel"] == UP.title]
    detail = measure_realism(tape, n_bootstrap=20, seed=0)["imbalance_rise"].detail
    assert list(up["y"]) == pytest.approx(list(detail.values()))


def test_the_depth_profile_is_the_mean_of_what_the_snapshots_show():
    frame = make_session(2)
    profile = bookplots.depth_table(frame, 3)
    assert profile[-1] == frame["bid_qty_1"].mean()
    assert profile[1] == frame["ask_qty_1"].mean()
    assert profile[-2] == profile[2] == 50
    assert 0 not in profile.index, "no order rests at the mid"


def test_the_heat_map_shows_each_level_at_its_price():
    frame = make_session(3)
    trades = pd.DataFrame({"ts": [10**9], "direction": [-1], "price": [10_001], "size": [4]})
    figure = bookplots.heatmap_figure(frame, trades, 0.01, reach_ticks=12)
    heat = figure.data[0]
    row = list(np.round(heat.y, 2)).index(round(frame["best_bid"][1] * 0.01, 2))
    assert 10 ** heat.z[row][1] == pytest.approx(frame["bid_qty_1"][1])
    assert [trace.name for trace in figure.data[1:]] == [
        "best bid",
        "best ask",
        "trade, buyer first",
        "trade, seller first",
    ]
