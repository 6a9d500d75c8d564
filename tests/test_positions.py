"""The ledger of many assets: identities to the last digit, splits, storage, its float sibling."""

import json
from decimal import Decimal as D  # noqa: N817

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio import ledger
from hftlib.portfolio.positions import (
    Account,
    Position,
    PositionError,
    book_fill,
    deposit,
    from_json,
    pay_dividend,
    split_units,
    to_json,
)

ASSETS = ("a", "b", "c")


def decimals(low, high, places):
    return st.decimals(low, high, allow_nan=False, allow_infinity=False, places=places)


prices = decimals(0, 5000, 4)
fills = st.tuples(
    st.just("fill"), st.sampled_from(ASSETS), decimals(-500, 500, 3), prices, decimals(-2, 20, 2)
)
deposits = st.tuples(st.just("deposit"), decimals(-10_000, 10_000, 2))
dividends = st.tuples(st.just("dividend"), st.sampled_from(ASSETS), decimals(0, 5, 4))
splits = st.tuples(
    st.just("split"),
    st.sampled_from(ASSETS),
    st.integers(1, 20),
    st.integers(1, 20),
    prices,
    st.sampled_from(["1", "0.001", "100"]),
)
histories = st.lists(st.one_of(fills, fills, fills, deposits, dividends, splits), max_size=40)


def play(history, account=None):
    account = Account() if account is None else account
    for kind, *args in history:
        if kind == "fill":
            account = book_fill(account, *args)
        elif kind == "deposit":
            account = deposit(account, *args)
        elif kind == "dividend":
            account = pay_dividend(account, *args)
        else:
            asset, numerator, denominator, price, lot = args
            account = split_units(account, asset, numerator, denominator, price=price, lot=lot)
    return account


def bought(quantity, price, cash="10000"):
    return book_fill(deposit(Account(), cash), "a", quantity, price)


def test_a_partial_sale_realises_profit_at_the_average_cost():
    account = book_fill(bought(10, "100"), "a", 10, "110", "1.50")
    assert account.positions["a"].average_cost == 105
    account = book_fill(account, "a", -5, "120", "1.00")
    assert account.realised == 75
    assert account.positions["a"] == Position(D(15), D(1575), D(75), D(0), D("2.50"))
    assert account.cash == D("10000") - 1000 - 1100 + 600 - D("2.5")
    assert account.unrealised({"a": "121"}) == 15 * 16
    assert account.equity({"a": 121}) == account.cash + 15 * 121


def test_a_flip_closes_the_long_and_opens_a_short_at_the_fill():
    account = book_fill(bought(10, "100"), "a", -25, "90")
    assert account.realised == -100
    assert account.positions["a"].units == -15
    assert account.positions["a"].average_cost == 90
    account = book_fill(account, "a", 15, "80")
    assert account.realised == -100 + 150
    assert account.positions["a"].cost == 0
    assert account.positions["a"].average_cost is None


@given(histories, st.lists(prices, min_size=3, max_size=3))
def test_both_identities_hold_to_the_last_digit(history, quotes):
    account, marks = play(history), dict(zip(ASSETS, quotes, strict=True))
    value = sum((account.units(a) * marks[a] for a in ASSETS), D(0))
    equity = account.equity(marks)
    assert equity == account.cash + value
    assert equity - account.deposits == (
        account.realised + account.unrealised(marks) + account.dividends - account.fees
    )


@given(histories)
def test_cash_is_what_was_paid_and_received(history):
    # counted from the events alone, splits apart: those pay cash in lieu
    history = [event for event in history if event[0] != "split"]
    cash, units = D(0), dict.fromkeys(ASSETS, D(0))
    for kind, *args in history:
        if kind == "deposit":
            cash += args[0]
        elif kind == "fill":
            asset, quantity, price, fee = args
            cash -= quantity * price + fee
            units[asset] += quantity
        else:
            cash += units[args[0]] * args[1]
    account = play(history)
    assert account.cash == cash
    assert {a: account.units(a) for a in ASSETS} == units


@given(histories)
def test_the_mirrored_history_has_the_mirrored_result(history):
    def mirror(event):
        if event[0] == "fill":
            return ("fill", event[1], -event[2], event[3], -event[4])
        return ("deposit", -event[1]) if event[0] == "deposit" else event

    one, other = play(history), play([mirror(event) for event in history])
    assert (one.cash, one.realised, one.dividends, one.fees) == (
        -other.cash, -other.realised, -other.dividends, -other.fees,
    )  # fmt: skip


@given(histories)
def test_assets_do_not_touch_each_other(history):
    whole = play(history)
    for asset in ASSETS:
        alone = play([event for event in history if event[0] == "deposit" or event[1] == asset])
        assert whole.positions.get(asset) == alone.positions.get(asset)


@given(st.lists(decimals(-50, 50, 2), min_size=1, max_size=60), prices)
def test_a_position_that_is_closed_leaves_no_cost_behind(quantities, price):
    account = play([("fill", "a", q, "33.3333", 0) for q in quantities])
    account = book_fill(account, "a", -account.units("a"), price)
    assert account.positions["a"].cost == 0
    assert account.cash == account.realised


def test_ten_thousand_partial_sales_stay_exact_and_short():
    account = bought("1000.001", "0.00001234", cash="0")
    for _ in range(10_000):
        account = book_fill(account, "a", "-0.07", "0.00001301")
    position = account.positions["a"]
    assert account.cash == D("-0.01234001234") + 10_000 * D("0.0000009107")
    assert account.cash + position.cost == position.realised
    assert len(str(position.cost)) < 20
    # each sale rounds its cost by at most half of 1e-12
    exact = D("300.001") * D("0.00001234")
    assert abs(position.cost - exact) <= 10_000 * D("5e-13")


def test_a_forward_split_keeps_the_value():
    account = split_units(bought(10, "300"), "a", 3, 1, price="100")
    assert account.units("a") == 30
    assert account.positions["a"].cost == 3000
    assert account.cash == 7000
    assert account.equity({"a": "100"}) == 10_000


def test_a_reverse_split_pays_cash_in_lieu_of_the_fraction():
    # 1 for 10 of 37 units: 3 units, and .7 of one at 50
    account = split_units(bought(37, "4"), "a", 1, 10, price="50")
    assert account.units("a") == 3
    assert account.cash == 10_000 - 148 + 35
    assert account.realised == 35 - D("148") * 7 / 37
    assert account.equity({"a": "50"}) == 10_000 - 148 + D("3.7") * 50


def test_a_short_position_pays_the_cash_in_lieu():
    account = split_units(bought(-10, "3"), "a", 1, 3, price="9.30")
    assert account.units("a") == -3
    # a third of a unit at 9.30
    assert account.cash == 10_000 + 30 - D("3.1")


def test_a_holding_below_one_new_unit_is_paid_out_whole():
    account = split_units(bought(4, "2"), "a", 1, 10, price="20")
    assert account.positions["a"] == Position(D(0), D(0), D(0), D(0), D(0))
    assert account.cash == 10_000


@given(decimals(-1000, 1000, 0), st.integers(1, 20), st.integers(1, 20), prices)
def test_a_split_at_a_fair_price_loses_less_than_the_last_digit(units, num, den, price):
    before = book_fill(Account(), "a", units, "7")
    after = split_units(before, "a", num, den, price=price)
    exact = units * num * price / den
    value = after.equity({"a": price}) - before.cash
    assert abs(value - exact) <= D("1e-12")
    assert after.units("a") == int(after.units("a"))
    assert abs(after.units("a")) <= abs(units) * num / den


def test_fractions_of_a_unit_survive_where_the_lot_allows_them():
    account = split_units(bought(7, "3"), "a", 3, 2, price="2", lot="0.1")
    assert account.units("a") == D("10.5")
    assert account.realised == 0


def test_dividends_are_received_on_longs_and_paid_on_shorts():
    account = book_fill(bought(10, "100"), "b", -4, "50")
    account = pay_dividend(pay_dividend(account, "a", "0.25"), "b", "1.1")
    assert account.positions["a"].dividends == D("2.5")
    assert account.positions["b"].dividends == D("-4.4")
    assert account.dividends == D("-1.9")
    assert account.realised == 0


def test_money_paid_in_is_no_profit():
    account = deposit(deposit(Account(), "100.10"), "-0.10")
    assert (account.cash, account.deposits) == (100, 100)
    assert account.realised == 0


def test_weights_are_shares_of_equity():
    account = book_fill(bought(10, "100"), "b", -20, "50")
    account = book_fill(book_fill(account, "c", 1, 5), "c", -1, 5)
    assert account.weights({"a": 100, "b": 50}) == {"a": 0.1, "b": -0.1}
    with pytest.raises(PositionError, match="equity is -"):
        account.weights({"a": 0, "b": 1000})


@given(histories)
def test_an_account_survives_json(history):
    account = play(history)
    again = from_json(json.loads(json.dumps(to_json(account))))
    assert again == account
    assert to_json(again) == to_json(account)  # every digit, trailing zeros too


def test_a_stored_account_that_was_tampered_with_is_refused():
    stored = to_json(book_fill(bought(10, "100"), "a", -3, "110", 1))
    for path in (("cash",), ("deposits",), ("positions", "a", "realised")):
        edited = json.loads(json.dumps(stored))
        place = edited
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = str(D(place[path[-1]]) + D("0.01"))
        with pytest.raises(PositionError, match=r"off by -?0\.01"):
            from_json(edited)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({}, "missing or unknown field"),
        ({"cash": "0", "deposits": "0", "positions": {"a": {"lots": "1"}}}, "unknown field"),
        ({"cash": "0", "deposits": "0", "positions": []}, "unknown field"),
        ({"cash": 0.1, "deposits": "0", "positions": {}}, "cash is 0.1; expected a number written"),
        ({"cash": "NaN", "deposits": "0", "positions": {}}, "cash is 'NaN'"),
    ],
)
def test_a_stored_account_of_another_form_is_refused(stored, message):
    with pytest.raises(PositionError, match=message):
        from_json(stored)


def rounded(low, high):
    return st.floats(low, high).map(lambda value: round(value, 6))


@given(st.lists(st.tuples(rounded(-100, 100), rounded(0.01, 1000), rounded(0, 5)), max_size=50))
def test_the_float_ledger_agrees_on_cash_units_and_fees(trades):
    account, floats = deposit(Account(), 1_000_000.0), ledger.Ledger(1_000_000.0, 0.0, 0.0)
    for quantity, price, charge in trades:
        account = book_fill(account, "a", quantity, price, charge)
        floats = ledger.book_fill(floats, quantity, price, charge)
    # each of the 50 float additions rounds cash of up to 6e6 by at most 5e-10
    assert float(account.cash) == pytest.approx(floats.cash, abs=1e-9 * (1 + len(trades)))
    assert float(account.units("a")) == pytest.approx(floats.units, abs=1e-9)
    assert float(account.fees) == pytest.approx(floats.fees, abs=1e-9)
    assert float(account.equity({"a": 50.0})) == pytest.approx(
        ledger.equity(floats, 50.0), abs=1e-9 * (1 + len(trades))
    )


def test_the_float_ledger_agrees_to_a_billionth_on_ordinary_fills():
    rng = np.random.default_rng(0)
    account, floats = deposit(Account(), 1000), ledger.Ledger(1000.0, 0.0, 0.0)
    for _ in range(1000):
        quantity, price = float(rng.integers(-5, 6)), round(float(rng.uniform(1, 20)), 2)
        account = book_fill(account, "a", quantity, price, 0.01)
        floats = ledger.book_fill(floats, quantity, price, 0.01)
    assert float(account.cash) == pytest.approx(floats.cash, abs=1e-9)
    assert float(account.units("a")) == pytest.approx(floats.units, abs=1e-9)
    assert float(account.fees) == pytest.approx(floats.fees, abs=1e-9)


def test_numbers_of_numpy_and_floats_are_taken_at_their_shortest_form():
    account = book_fill(Account(), "a", np.int64(3), np.float64(0.1), np.float32(0.5))
    assert account.cash == D("-0.8")


def test_booking_leaves_the_old_account_as_it_was():
    old = bought(10, "100")
    stored = to_json(old)
    split_units(pay_dividend(book_fill(old, "a", -3, 90), "a", 1), "a", 2, 1, price=50)
    assert to_json(old) == stored


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: book_fill(a, "a", "nan", 1), "quantity is 'nan'; expected a finite number"),
        (lambda a: book_fill(a, "a", 1, float("inf")), "price is inf"),
        (lambda a: book_fill(a, "a", 1, -0.01), "price of a is -0.01; expected at least 0"),
        (lambda a: book_fill(a, "a", 1, 1, "ten"), "fee is 'ten'"),
        (lambda a: book_fill(a, "a", "1e120", 1), "fill of 1E.120 a at 1 needs more than 100"),
        (lambda a: deposit(a, None), "amount is None"),
        (lambda a: pay_dividend(a, "a", -1), "dividend of a is -1 a unit"),
        (lambda a: split_units(a, "a", 0, 1, price=1), "split of a is 0 for 1"),
        (lambda a: split_units(a, "a", 1.5, 1, price=1), "split of a is 1.5 for 1"),
        (lambda a: split_units(a, "a", 2, 1, price=1, lot=0), "lot above 0"),
        (lambda a: split_units(a, "a", 2, 1, price=-1), "expected a price from 0"),
        (lambda a: a.equity({"b": 1}), "no price of a, of which 10 units are open"),
        (lambda a: a.unrealised({"a": np.nan}), "price of a is nan"),
    ],
)
def test_what_cannot_be_booked_is_refused_by_name(call, message):
    with pytest.raises(PositionError, match=message):
        call(bought(10, "100"))
