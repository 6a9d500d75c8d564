import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.portfolio.costs import Costs
from hftlib.portfolio.ledger import Ledger, equity, trade
from hftlib.portfolio.risk import (
    ROUNDING,
    Order,
    RiskLimits,
    check_order,
    find_breaches,
    portfolio_var,
    propose_exits,
)
from hftlib.portfolio.risk_alerts import AlertLevels, find_alerts
from hftlib.portfolio.risk_state import DAY_NS, RiskError, build_state, mark_to_market, record_fill

PRICES = {"A": 10.0, "B": 20.0, "C": 50.0, "D": 100.0}
SECTORS = {"A": "energy", "B": "energy", "C": "technology"}
COVARIANCE = 0.02**2 * (0.7 * np.eye(4) + 0.3)
FREE = RiskLimits(max_var=math.inf)  # the others bind


def account(**changes):
    values = {
        "prices": PRICES,
        "units": {},
        "equity": 10_000.0,
        "sectors": SECTORS,
        "covariance": COVARIANCE,
    }
    return build_state(**(values | changes))


def names(breaches):
    return [breach.limit for breach in breaches]


def test_the_defaults_are_those_of_the_project():
    limits = RiskLimits()
    written = (0.02, 0.10, 1.0, 0.10, 0.30, 0.05, 0.15)
    assert written == (
        limits.max_var,
        limits.max_drawdown,
        limits.max_leverage,
        limits.max_position,
        limits.max_sector,
        limits.stop_loss,
        limits.take_profit,
    )
    assert vars(AlertLevels()) == {"drawdown": 0.05, "daily_loss": 0.02, "concentration": 0.15}


def test_an_order_within_all_limits_is_accepted_as_it_is():
    decision = check_order(Order("A", 100), account(), RiskLimits())
    assert decision == ("accept", 100, ())


def test_an_order_up_to_a_limit_exactly_is_accepted():
    # 100 units at 10 are 10 % of 10,000; in floats .1 * 3 is above .3
    assert check_order(Order("D", -10), account(), FREE).action == "accept"
    state = account(equity=3.0, prices={"A": 0.1}, sectors={}, covariance=None)
    assert check_order(Order("A", 3), state, replace(FREE, max_position=0.1)).action == "accept"


def test_a_position_is_shrunk_to_its_limit_and_the_reason_has_limit_value_and_allowed():
    decision = check_order(Order("A", 250), account(units={"A": 30}), FREE)
    assert (decision.action, decision.quantity) == ("shrink", 70.0)
    (breach,) = decision.breaches
    assert breach == ("max_position", "A", pytest.approx(0.28), 0.10)
    assert str(breach) == "max_position of A: 0.28, allowed 0.1"


def test_an_order_without_room_is_rejected():
    decision = check_order(Order("A", 1), account(units={"A": 100}), FREE)
    assert (decision.action, decision.quantity) == ("reject", 0.0)
    assert names(decision.breaches) == ["max_position"]


def test_longs_and_shorts_of_a_sector_add_up():
    limits = replace(FREE, max_position=0.25)
    decision = check_order(Order("B", -200), account(units={"A": 240}), limits)
    assert (decision.action, decision.quantity) == ("shrink", -30.0)  # 600 of 3,000 left
    assert {b.limit: b.place for b in decision.breaches} == {
        "max_position": "B",
        "max_sector": "energy",
    }


def test_an_asset_without_a_sector_has_no_sector_limit():
    limits = replace(FREE, max_position=1.0)
    assert check_order(Order("D", 90), account(), limits).action == "accept"
    assert check_order(Order("C", 90), account(), limits).quantity == 60.0


def test_leverage_counts_longs_and_shorts():
    limits = replace(FREE, max_position=1.0, max_sector=math.inf)
    state = account(units={"A": 300, "D": -50})
    decision = check_order(Order("C", 100), state, limits)
    assert (decision.action, decision.quantity) == ("shrink", 40.0)
    assert names(decision.breaches) == ["max_leverage"]


def test_the_value_at_risk_of_one_asset_is_a_multiple_of_its_deviation():
    state = account(units={"D": 40})
    assert portfolio_var(state, 0.95) == pytest.approx(0.4 * 0.02 * 1.6448536)
    limits = replace(FREE, max_position=1.0, max_var=0.02)
    # 60.79 units of 100 are .02 / (.02 * 1.645) of the equity
    assert check_order(Order("D", 30), state, limits).quantity == 20.0
    assert check_order(Order("D", 20), state, limits).action == "accept"


def test_a_hedge_is_accepted_although_the_value_at_risk_is_above_its_limit():
    limits = RiskLimits(max_var=0.001, max_position=1.0)
    state = account(units={"D": 40})
    decision = check_order(Order("C", -8), state, limits)
    after = record_fill(state, "C", -8, 50.0)
    assert portfolio_var(after, 0.95) < portfolio_var(state, 0.95)
    assert decision.action == "accept"
    assert names(check_order(Order("C", 8), state, limits).breaches) == ["max_var"]


def test_a_position_that_hedges_another_can_be_closed():
    limits = RiskLimits(max_var=0.005, max_position=1.0)
    state = account(units={"C": -31, "D": 12}, covariance=0.02**2 * (0.1 * np.eye(4) + 0.9))
    assert portfolio_var(state, 0.95) < 0.005
    assert check_order(Order("D", -12), state, limits).action == "accept"
    assert portfolio_var(record_fill(state, "D", -12, 100.0), 0.95) > 0.005


def test_daily_trades_and_volume_end_opening():
    state = account(trades_today=100)
    assert names(check_order(Order("A", 1), state, FREE).breaches) == ["max_daily_trades"]
    state = account(volume_today=19_500.0)
    decision = check_order(Order("A", 100), state, FREE)
    assert (decision.quantity, names(decision.breaches)) == (50.0, ["max_daily_volume"])


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"peak_equity": 12_000.0}, "max_drawdown"),
        ({"day_equity": 10_400.0, "peak_equity": 10_400.0}, "max_daily_loss"),
        ({"trades_today": 100}, "max_daily_trades"),
        ({"volume_today": 30_000.0}, "max_daily_volume"),
        ({"is_halted": True}, "halt"),
        ({"units": {"A": 250, "B": -100}}, "max_position"),
        ({"covariance": 100 * COVARIANCE, "units": {"A": 50, "C": -30}}, "max_var"),
    ],
)
def test_after_any_breach_positions_can_be_closed_but_not_opened(changes, limit):
    state = account(**({"units": {"A": 100, "B": -50}} | changes))
    for k, symbol in enumerate("AB"):
        held = state.units[k]
        for quantity in (-held, -held / 2, -0.1 * np.sign(held)):
            assert check_order(Order(symbol, quantity), state, RiskLimits())[:2] == (
                "accept",
                quantity,
            )
    assert limit in names(check_order(Order("A", 10), state, RiskLimits()).breaches)
    assert check_order(Order("A", 10), state, RiskLimits()).action == "reject"


def test_an_order_through_zero_is_cut_to_what_closes_when_nothing_may_be_opened():
    state = account(units={"A": 33.5}, is_halted=True)
    decision = check_order(Order("A", -90), state, FREE)
    assert (decision.action, decision.quantity) == ("shrink", -33.5)
    assert str(decision.breaches[0]).startswith("a circuit breaker is open")


def test_an_order_through_zero_is_cut_to_the_limit_of_the_other_side():
    decision = check_order(Order("A", -500), account(units={"A": 50}), FREE)
    assert (decision.action, decision.quantity) == ("shrink", -150.0)


def test_checks_do_not_change_the_state_and_mirrored_accounts_get_mirrored_answers():
    units = {"A": 40, "B": -30, "C": 10}
    long, short = account(units=units), account(units={k: -v for k, v in units.items()})
    for symbol in PRICES:
        for quantity in (5.0, 80.0, -300.0):
            one = check_order(Order(symbol, quantity), long, RiskLimits())
            other = check_order(Order(symbol, -quantity), short, RiskLimits())
            assert (one.action, one.quantity) == (other.action, -other.quantity)
    assert long.units.tolist() == [40, -30, 10, 0]


# --- whatever is sent, the limits hold

SYMBOLS = list(PRICES)
quantities = st.one_of(st.floats(-400, 400), st.integers(-400, 400).map(float))
limit_sets = st.builds(
    RiskLimits,
    max_var=st.sampled_from([0.005, 0.02, math.inf]),
    max_leverage=st.floats(0.3, 2.0),
    max_position=st.floats(0.05, 0.6),
    max_sector=st.floats(0.1, 0.8),
    max_daily_trades=st.integers(1, 8),
    max_daily_volume=st.floats(0.2, 3.0),
)
steps = st.lists(
    st.tuples(st.sampled_from(SYMBOLS), quantities, st.floats(-0.2, 0.2), st.booleans()),
    min_size=1,
    max_size=12,
)


def broken(state, limits):
    """Limits on what is held that the account itself breaks."""
    sizes = abs(state.weights)
    sectors = {s for s in state.sectors if s}
    found = {(f"position {s}", w) for s, w in zip(state.symbols, sizes, strict=True)}
    found |= {
        (f"sector {s}", sum(w for w, o in zip(sizes, state.sectors, strict=True) if o == s))
        for s in sectors
    }
    found |= {("leverage", sizes.sum()), ("var", portfolio_var(state, limits.var_level))}
    allowed = {"p": limits.max_position, "s": limits.max_sector, "l": limits.max_leverage}
    allowed["v"] = limits.max_var
    return {name: value for name, value in found if value > allowed[name[0]] * (1 + 2 * ROUNDING)}


@settings(max_examples=150)
@given(limit_sets, steps, st.sampled_from([1.0, 0.1, 7.0]))
def test_no_accepted_order_breaks_a_limit(limits, orders, lot_size):
    state = account(lot_size=lot_size)
    for number, (symbol, quantity, move, is_next_day) in enumerate(orders):
        k = state.row(symbol)
        before = broken(state, limits)
        held = state.units[k]
        decision = check_order(Order(symbol, quantity), state, limits)
        sent = decision.quantity
        assert abs(sent) <= abs(quantity)
        assert sent * quantity >= 0
        assert (decision.action == "accept") == (sent == quantity)
        assert (decision.action == "reject") == (sent == 0 != quantity)
        after = record_fill(state, symbol, sent, float(state.prices[k]))
        reduces = abs(after.units[k]) <= abs(held) and after.units[k] * held >= 0
        for name, value in broken(after, limits).items():
            if name == "var" and reduces:
                continue  # a position that hedged another may be closed
            assert name in before, "it was kept before"
            # what prices had broken before has not become worse
            assert value <= before[name] * (1 + 2 * ROUNDING)
        if not reduces:
            assert after.trades_today <= limits.max_daily_trades
            volume = limits.max_daily_volume * after.day_equity
            assert after.volume_today <= volume * (1 + 2 * ROUNDING)
        # again in the same state: the same
        again = check_order(Order(symbol, sent), state, limits)
        assert (again.action, again.quantity) == ("accept", sent)
        if decision.action != "accept" and abs(sent) + lot_size <= abs(quantity):
            more = math.copysign(abs(sent) + lot_size, quantity)
            assert find_breaches(Order(symbol, more), state, limits), "one lot more would do"
        value = after.units @ after.prices
        price = float(after.prices[k]) * (1 + move)
        moved = after.equity + after.units[k] * (price - after.prices[k])
        assert np.isfinite(value)
        if moved <= 100:
            return
        ts_ns = after.ts_ns + (DAY_NS if is_next_day else number)
        state = mark_to_market(after, ts_ns=ts_ns, prices={symbol: price}, equity=moved)


# --- the state


def test_a_state_of_plain_values_survives_json_and_decides_alike():
    plain = {
        "prices": PRICES,
        "units": {"A": 40.0, "C": -5.0},
        "equity": 10_000.0,
        "peak_equity": 10_300.0,
        "day_equity": 10_100.0,
        "entry_prices": {"A": 9.0},
        "trades_today": 3,
        "volume_today": 900.0,
        "sectors": SECTORS,
        "covariance": COVARIANCE.tolist(),
        "lot_size": 1.0,
        "is_halted": False,
        "ts_ns": 5 * DAY_NS,
    }
    one, two = build_state(**plain), build_state(**json.loads(json.dumps(plain)))
    for symbol in PRICES:
        for quantity in (-200.0, -3.0, 10.0, 400.0):
            order = Order(symbol, quantity)
            assert check_order(order, one, RiskLimits()) == check_order(order, two, RiskLimits())
    assert one.drawdown == pytest.approx(300 / 10_300)
    assert one.daily_loss == pytest.approx(100 / 10_100)
    assert one.weights.tolist() == pytest.approx([0.04, 0.0, -0.025, 0.0])
    np.testing.assert_array_equal(one.entry_prices, [9.0, np.nan, 50.0, np.nan])


def test_a_state_built_from_the_ledger_is_the_one_that_records_the_fills():
    costs = Costs(fee_bps=5, spread_bps=10, slippage_bps=0)
    ledger, state = Ledger(10_000.0, 0.0, 0.0), account()
    for quantity, mid in ((60.0, 10.0), (-20.0, 10.5), (-70.0, 9.0)):
        value = equity(ledger, mid)
        state = mark_to_market(state, ts_ns=state.ts_ns + 1, prices={"A": mid}, equity=value)
        fees, cash = ledger.fees, ledger.cash
        ledger = trade(ledger, costs, mid, quantity)
        paid = ledger.fees - fees
        price = (cash - ledger.cash - paid) / quantity
        state = record_fill(state, "A", quantity, price, paid)
        assert state.equity == pytest.approx(equity(ledger, mid), abs=1e-8)
        assert state.units[0] == ledger.units
    assert state.entry_prices[0] == pytest.approx(9.0 * (1 - 5e-4))  # turned round at the last
    assert state.trades_today == 3


def test_adding_averages_the_entry_price_and_reducing_keeps_it():
    state = record_fill(record_fill(account(), "A", 10, 10.0), "A", 30, 12.0)
    assert state.entry_prices[0] == pytest.approx(11.5)
    state = record_fill(state, "A", -25, 20.0)
    assert state.entry_prices[0] == pytest.approx(11.5)
    assert np.isnan(record_fill(state, "A", -15, 20.0).entry_prices[0])
    assert record_fill(state, "A", 0.0, 20.0) is state


def test_a_new_day_starts_its_counters_from_the_last_equity():
    state = account(trades_today=9, volume_today=50.0, day_equity=9_000.0, ts_ns=DAY_NS - 1)
    same = mark_to_market(state, ts_ns=DAY_NS - 1, prices={"A": 11.0}, equity=9_900.0)
    assert (same.trades_today, same.day_equity, same.peak_equity) == (9, 9_000.0, 10_000.0)
    next_day = mark_to_market(same, ts_ns=DAY_NS, prices={}, equity=9_800.0)
    assert (next_day.trades_today, next_day.volume_today) == (0, 0.0)
    assert next_day.daily_loss == pytest.approx(100 / 9_900)
    assert next_day.prices[0] == 11.0


# --- exits and alerts


def test_exits_are_proposed_at_stop_loss_and_take_profit_and_always_accepted():
    state = account(
        units={"A": 10, "B": -5, "C": 4, "D": -2},
        entry_prices={"A": 10 / 0.95, "B": 20 / 1.05, "C": 50 / 1.15, "D": 100 / 0.86},
        is_halted=True,
    )
    exits = propose_exits(state, RiskLimits())
    assert [(e.order.symbol, e.reason) for e in exits] == [
        ("A", "stop_loss"),
        ("B", "stop_loss"),
        ("C", "take_profit"),
    ]
    assert [e.change for e in exits] == pytest.approx([-0.05, -0.05, 0.15])
    for proposed in exits:
        assert check_order(proposed.order, state, RiskLimits()).action == "accept"
        state = record_fill(state, *proposed.order, float(state.prices[state.row("A")]))
    assert state.units.tolist() == [0, 0, 0, -2]


def test_alerts_name_what_is_above_its_level():
    state = account(units={"A": -160, "C": 20}, peak_equity=11_000.0, day_equity=10_100.0, ts_ns=7)
    assert find_alerts(state, AlertLevels()) == (
        (7, "drawdown", "account", pytest.approx(1 / 11), 0.05),
        (7, "concentration", "A", 0.16, 0.15),
    )
    assert find_alerts(account(), AlertLevels()) == ()


# --- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prices": PRICES | {"A": 0.0}}, "price of 'A' is 0"),
        ({"prices": PRICES | {"A": math.nan}}, "price of 'A' is nan"),
        ({"prices": PRICES | {"A": math.inf}}, "price of 'A' is inf"),
        ({"prices": PRICES | {"A": -1.0}}, "price of 'A' is -1"),
        ({"units": {"A": math.nan}}, "units of 'A' is nan"),
        ({"units": {"Z": 1.0}}, "units of 'Z' is given, but no price"),
        ({"entry_prices": {"A": 0.0}}, "price of 'A' is 0"),
        ({"sectors": {"Z": "energy"}}, "sector of 'Z'"),
        ({"equity": -1.0}, "equity is -1"),
        ({"equity": 0.0}, "equity is 0"),
        ({"equity": math.nan}, "equity is nan"),
        ({"peak_equity": 9_000.0}, "peak_equity 9000.0 is below"),
        ({"day_equity": math.inf}, "day_equity is inf"),
        ({"trades_today": -1}, "trades_today is -1"),
        ({"volume_today": math.nan}, "volume_today nan"),
        ({"lot_size": 0.0}, "lot_size is 0"),
        ({"covariance": np.eye(3)}, r"shape \(3, 3\)"),
        ({"covariance": -np.eye(4)}, "no covariance"),
        ({"covariance": np.full((4, 4), np.nan)}, "no covariance"),
        ({"covariance": np.triu(np.ones((4, 4)))}, "no covariance"),
    ],
)
def test_accounts_that_cannot_be_are_named(changes, message):
    with pytest.raises(RiskError, match=message):
        account(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_order(Order("Z", 1), account(), FREE), "'Z' is not known"),
        (lambda: check_order(Order("A", math.nan), account(), FREE), "quantity of A is nan"),
        (lambda: check_order(Order("A", -math.inf), account(), FREE), "quantity of A is -inf"),
        (lambda: check_order(Order("A", 1), account(covariance=None), RiskLimits()), "max_var"),
        (lambda: portfolio_var(account(covariance=None), 0.95), "no covariance"),
        (lambda: record_fill(account(), "A", 1, 0.0), "at 0.0"),
        (lambda: record_fill(account(), "A", math.inf, 1.0), "fill of inf"),
        (lambda: record_fill(account(), "A", 1, 10.0, 20_000.0), "after the fill is -10000"),
        (
            lambda: mark_to_market(account(ts_ns=5), ts_ns=4, prices={}, equity=1.0),
            "4 is before 5",
        ),
        (lambda: mark_to_market(account(), ts_ns=1, prices={"Z": 1.0}, equity=1.0), "'Z'"),
        (lambda: mark_to_market(account(), ts_ns=1, prices={"A": 0.0}, equity=1.0), "price of 'A'"),
        (lambda: mark_to_market(account(), ts_ns=1, prices={}, equity=-1.0), "equity is -1"),
        (lambda: RiskLimits(max_leverage=0.0), "max_leverage is 0"),
        (lambda: RiskLimits(stop_loss=math.nan), "stop_loss is nan"),
        (lambda: RiskLimits(var_level=1.0), "var_level is 1"),
        (lambda: AlertLevels(drawdown=-0.1), "drawdown is -0.1"),
    ],
)
def test_orders_clocks_and_limits_that_cannot_be_are_named(call, message):
    with pytest.raises(RiskError, match=message):
        call()
