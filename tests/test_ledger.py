import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio.costs import Costs, check_costs, fee, fill_price, impact
from hftlib.portfolio.ledger import Ledger, book_fill, equity, trade

prices = st.floats(0.01, 1e5)
quantities = st.floats(-1e4, 1e4)
rates = st.floats(0, 100)
FREE = Costs(0.0, 0.0, 0.0)


def test_a_buy_pays_fee_half_spread_and_slippage():
    costs = Costs(fee_bps=10, spread_bps=20, slippage_bps=5)
    ledger = trade(Ledger(1000.0, 0.0, 0.0), costs, 100.0, 2.0)
    # fill at 100 * (1 + 10 bp + 5 bp) = 100.15; fee 10 bp of 200.30
    assert ledger.cash == pytest.approx(1000 - 200.30 - 0.2003, abs=1e-9)
    assert (ledger.units, ledger.fees) == (2.0, pytest.approx(0.2003, abs=1e-9))


def test_buying_and_selling_at_one_mid_costs_the_same_either_way_round():
    costs = Costs(fee_bps=0.0, spread_bps=8.0, slippage_bps=3.0)
    assert fill_price(costs, 50.0, 1.0) - 50.0 == pytest.approx(
        50.0 - fill_price(costs, 50.0, -1.0)
    )


def test_an_order_for_nothing_books_nothing():
    ledger = Ledger(5.0, 1.0, 0.5)
    assert trade(ledger, Costs(10, 10, 10), 3.0, 0.0) == ledger


@given(st.lists(st.tuples(quantities, prices), max_size=40), prices, rates, rates)
def test_equity_is_cash_plus_inventory_less_fees_after_any_fills(fills, mid, fee_bps, spread_bps):
    costs = Costs(fee_bps, spread_bps, 1.0)
    ledger = Ledger(10_000.0, 0.0, 0.0)
    paid = units = charged = 0.0
    for quantity, price in fills:
        filled = fill_price(costs, price, quantity)
        paid += quantity * filled
        units += quantity
        charged += abs(quantity * filled) * fee_bps * 1e-4
        ledger = trade(ledger, costs, price, quantity)
    gross = sum(abs(q * p) for q, p in fills) + abs(units * mid) + 10_000
    # 40 sums of doubles: far below a cent on any account, so compare relative to what was traded
    assert ledger.fees == pytest.approx(charged, abs=1e-12 * gross)
    assert equity(ledger, mid) == pytest.approx(
        10_000 - paid + units * mid - charged, abs=1e-12 * gross
    )


@given(quantities, prices, rates, rates, rates)
def test_costs_never_pay_the_trader(quantity, mid, fee_bps, spread_bps, slippage_bps):
    costs = Costs(fee_bps, spread_bps, slippage_bps)
    start = Ledger(1_000.0, 3.0, 0.0)
    after = trade(start, costs, mid, quantity)
    assert equity(after, mid) <= equity(start, mid) + 1e-9 * (abs(quantity) * mid + 1)


@given(quantities, prices)
def test_a_round_trip_without_costs_changes_nothing(quantity, mid):
    ledger = trade(trade(Ledger(100.0, 0.0, 0.0), FREE, mid, quantity), FREE, mid, -quantity)
    assert ledger.cash == pytest.approx(100.0, abs=1e-9 * (1 + abs(quantity) * mid))
    assert ledger.units == 0.0


def test_book_fill_moves_cash_units_and_fees():
    assert book_fill(Ledger(10.0, 1.0, 0.1), -1.0, 4.0, 0.2) == Ledger(
        13.8, 0.0, pytest.approx(0.3)
    )


def test_fee_ignores_the_sign_of_the_notional():
    assert fee(Costs(5, 0, 0), -200.0) == fee(Costs(5, 0, 0), 200.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("quantity", "volume", "moved"),
    [(100.0, 10_000.0, 0.001), (-400.0, 10_000.0, 0.002), (5.0, 0.0, 0.01), (0.0, 0.0, 0.0)],
)
def test_impact_grows_with_the_root_of_the_share_of_volume(quantity, volume, moved):
    # 100 bp for all of a bar's volume, so for a hundredth of it a tenth
    assert impact(Costs(0.0, 0.0, 0.0, 100.0), quantity, volume) == pytest.approx(moved)
    assert impact(FREE, quantity, volume) == 0.0


def test_impact_never_makes_a_price_negative():
    costs = Costs(0.0, 0.0, 0.0, 9_000.0)
    assert fill_price(costs, 100.0, -1e9, impact(costs, -1e9, 1.0)) == pytest.approx(50.0)


def test_spread_and_slippage_that_reach_half_the_price_are_refused():
    with pytest.raises(ValueError, match="lower one of them"):
        check_costs(Costs(0.0, 6_000.0, 2_000.0))


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, 10_000.0])
def test_an_impossible_rate_is_refused_by_name(rate):
    with pytest.raises(ValueError, match="spread_bps is"):
        check_costs(Costs(1.0, rate, 1.0))
