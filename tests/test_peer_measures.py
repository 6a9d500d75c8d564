"""Our measures against quantstats 0.0.86 and empyrical-reloaded 0.7.1 on 20 years of the S&P 500.

Constants as `python -m benchmarks.measures --peers PYTHON` printed them.
"""

import numpy as np
import pytest

from benchmarks.measures import load_returns, measure_returns
from hftlib.portfolio import measures

RETURNS = load_returns().to_numpy()
OURS = measure_returns(RETURNS)
# both packages, to the digits on which they agree with each other
BOTH = {
    "sharpe": 0.282739229044607,
    "sortino": 0.398614029856397,
    "max_drawdown": 0.567753877503056,
    "calmar": 0.064104438050839,
    "tail_ratio": 0.934621609932949,
}


@pytest.mark.parametrize("name", BOTH)
def test_measures_that_are_defined_alike_agree(name):
    assert len(RETURNS) == 5030
    assert OURS[name] == pytest.approx(BOTH[name], abs=1e-9)


def test_value_at_risk_is_an_observed_loss_where_peers_interpolate_or_assume_a_normal_law():
    assert OURS["value_at_risk"] == pytest.approx(0.018648495498241, abs=1e-12)
    assert -OURS["value_at_risk"] in RETURNS
    # empyrical: linear between two returns
    assert -np.percentile(RETURNS, 5) == pytest.approx(0.018643329744495, abs=1e-12)
    # quantstats: 1.645 standard deviations of a normal law
    normal = 1.6448536269514722 * RETURNS.std(ddof=1) - RETURNS.mean()
    assert normal == pytest.approx(0.019574527500688, abs=1e-12)


def test_shortfall_counts_the_last_return_in_part_where_peers_count_it_whole():
    # 5,030 * .05 = 251.5 returns: ours weighs the 252nd by a half
    ordered = np.sort(RETURNS)
    assert OURS["expected_shortfall"] == pytest.approx(0.028629073156618, abs=1e-12)
    by_hand = -(ordered[:251].sum() + 0.5 * ordered[251]) / 251.5
    assert OURS["expected_shortfall"] == pytest.approx(by_hand, abs=1e-15)
    # empyrical, and quantstats with method="historical": the plain mean of 252
    assert -ordered[:252].mean() == pytest.approx(0.028609270423169, abs=1e-12)


def test_where_the_tail_is_a_whole_number_of_returns_all_shortfalls_agree():
    whole = RETURNS[:5020]  # 251 in the tail
    tail = np.sort(whole)[:251]
    assert measures.expected_shortfall(whole, 0.95) == pytest.approx(-tail.mean(), abs=1e-15)
