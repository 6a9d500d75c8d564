"""A served policy as a strategy: what it is asked, what becomes of its answers, what goes wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hftlib.live import policy_strategy
from hftlib.live.client import ServiceError
from hftlib.live.feeds import read_bars
from hftlib.live.policy_strategy import PolicyStrategy
from hftlib.live.replay import replay
from hftlib.live.strategy import AccountView
from hftlib.live.ticks import Moment, Tick
from tests.conftest import make_bars
from tests.session_run import SYMBOLS, make_plan
from tests.strategy_cases import LocalService, load_random

N = 40
FLAT = AccountView(1000.0, {}, False)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return load_random(tmp_path_factory.mktemp("strategy") / "served")


@pytest.fixture
def service(predictor):
    return LocalService(predictor)


@pytest.fixture(scope="module")
def closes():
    return [m for m in read_bars(make_bars(N, SYMBOLS)) if m.kind == "close"]


def show(strategy, moments):
    for moment in moments:
        strategy.observe(moment)


def decide(strategy, moment, account=FLAT):
    strategy.observe(moment)
    return strategy.decide(moment, account)


class Busy:
    """A service that refuses the first questions of each kind."""

    def __init__(self, service, statuses):
        self._service, self._left = service, {"predict": list(statuses), "symbols": list(statuses)}

    def _answer(self, name, *values):
        if self._left[name]:
            raise ServiceError(self._left[name].pop(0), "busy", "busy", "wait")
        return getattr(self._service, name)(*values)

    def predict(self, items):
        return self._answer("predict", items)

    def symbols(self):
        return self._answer("symbols")


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(policy_strategy.time, "sleep", slept.append)
    return slept


def test_the_policy_is_shown_what_it_holds_of_its_symbol_s_share(service, closes):
    strategy = PolicyStrategy(service, SYMBOLS)
    show(strategy, closes[:-1])
    prices = {tick.symbol: tick.price for tick in closes[-1].ticks}
    held = {"AAA": 3.0, "BBB": -2.0}
    decide(strategy, closes[-1], AccountView(1000.0, held, False))
    a, b = service.asked[-2:]
    # two symbols: each has 500 of the 1000
    assert (a["symbol"], a["position"]) == ("AAA", 1.0)
    assert a["exposure"] == pytest.approx(3 * prices["AAA"] / 500, rel=1e-15)
    assert (b["symbol"], b["position"]) == ("BBB", -1.0)
    assert b["exposure"] == pytest.approx(-2 * prices["BBB"] / 500, rel=1e-15)


@pytest.mark.parametrize("max_weight", [1.0, 0.5])
def test_an_action_is_a_weight_of_its_symbol_s_share(service, closes, max_weight):
    strategy = PolicyStrategy(service, SYMBOLS, max_weight)
    show(strategy, closes[:-1])
    targets = decide(strategy, closes[-1])
    made = {decided.symbol: decided for decided in strategy.decisions}
    assert targets == {s: made[s].action * max_weight / 2 for s in SYMBOLS}
    assert {decided.ts_ns for decided in made.values()} == {closes[-1].ticks[0].bar[0]}
    assert {decided.model for decided in made.values()} == {"random 1"}
    assert np.ptp([decided.action for decided in made.values()]) > 0


def test_bars_are_sent_once_and_only_once(service, closes):
    strategy = PolicyStrategy(service, SYMBOLS)
    show(strategy, closes[:30])
    for moment in closes[30:]:
        decide(strategy, moment)
    for symbol in SYMBOLS:
        sent = [ts for name, bars in service.sent for ts in bars if name == symbol]
        assert sent == [m.ticks[0].bar[0] for m in closes]
    # the history in one question a symbol, then both symbols in one
    assert [len(bars) for _, bars in service.sent] == [30, 30, *[1] * 20]


def test_a_history_of_several_requests_arrives_whole(service, closes, monkeypatch):
    monkeypatch.setattr(policy_strategy, "MAX_BARS", 7)
    strategy = PolicyStrategy(service, SYMBOLS)
    show(strategy, closes[:-1])
    decide(strategy, closes[-1])
    assert [len(b) for s, b in service.sent if s == "AAA"] == [7] * 5 + [4, 1]
    assert [bar.ts_ns for bar in service.bars["AAA"]] == [m.ticks[0].bar[0] for m in closes]


def test_after_an_activation_all_bars_are_sent_again_and_the_answers_are_the_same(
    predictor, closes
):
    targets = []
    for is_activated in (False, True):
        service = LocalService(predictor)
        strategy = PolicyStrategy(service, SYMBOLS)
        show(strategy, closes[:30])
        decide(strategy, closes[30])
        if is_activated:
            service.activate()
        targets.append(decide(strategy, closes[31]))
        assert len(service.bars["AAA"]) == 32
    assert targets[0] == targets[1]


def test_bars_of_one_symbol_ask_nothing_of_the_other(service, closes):
    strategy = PolicyStrategy(service, SYMBOLS)
    show(strategy, closes[:-1])
    alone = closes[-1]._replace(ticks=closes[-1].ticks[:1])
    assert set(decide(strategy, alone)) == {"AAA"}
    assert not service.bars["BBB"]


def test_while_the_model_lacks_bars_there_is_no_target_and_no_decision(service, closes):
    strategy = PolicyStrategy(service, SYMBOLS)
    assert decide(strategy, closes[0]) == {}
    assert not strategy.decisions


def test_a_moment_without_bars_asks_nothing(service):
    strategy = PolicyStrategy(service, SYMBOLS)
    assert decide(strategy, Moment(1, "quote", (Tick("AAA", 10.0),))) == {}
    assert not service.asked


def test_a_stream_that_is_ahead_or_of_another_feed_is_an_error_with_its_remedy(service, closes):
    first = PolicyStrategy(service, SYMBOLS)
    show(first, closes[:30])
    decide(first, closes[30])
    behind = PolicyStrategy(service, SYMBOLS)
    with pytest.raises(ValueError, match=r"has 31 bars .* activate the model again"):
        decide(behind, closes[0])
    other = PolicyStrategy(service, SYMBOLS)
    show(other, closes[1:35])
    with pytest.raises(ValueError, match="not those of this feed; activate the model again"):
        decide(other, closes[35])
    assert len(service.bars["AAA"]) == 31  # nothing was sent


def test_a_model_that_does_not_know_a_symbol_is_named_with_those_it_knows(service, closes):
    strategy = PolicyStrategy(service, ("CCC",))
    ticks = (closes[0].ticks[0]._replace(symbol="CCC"),)
    with pytest.raises(ValueError, match="does not know CCC; it knows AAA, BBB"):
        decide(strategy, closes[0]._replace(ticks=ticks))


@pytest.mark.parametrize("statuses", [[503], [504, 429, 0]])
def test_a_busy_or_absent_service_is_asked_again(service, closes, pauses, statuses):
    quiet = PolicyStrategy(LocalService(service.predictor), SYMBOLS)
    strategy = PolicyStrategy(Busy(service, statuses), SYMBOLS)
    for one in (quiet, strategy):
        show(one, closes[:-1])
    assert decide(strategy, closes[-1]) == decide(quiet, closes[-1])
    assert pauses == [*policy_strategy.PAUSES_S[: len(statuses)]] * 2


def test_a_service_that_stays_busy_is_an_error(service, closes, pauses):
    strategy = PolicyStrategy(Busy(service, [503] * 4), SYMBOLS)
    with pytest.raises(ServiceError, match="busy"):
        decide(strategy, closes[0])
    assert pauses == [*policy_strategy.PAUSES_S]


def test_a_refusal_is_not_asked_again(service, closes, pauses):
    strategy = PolicyStrategy(Busy(service, [422]), SYMBOLS)
    with pytest.raises(ServiceError, match="busy"):
        decide(strategy, closes[0])
    assert pauses == []


def test_a_service_that_stays_busy_halts_trading_and_says_why(service, tmp_path, pauses):
    found = replay(make_plan(tmp_path / "paper"), Busy(service, [503] * 4))
    assert found.halted.startswith("strategy: ServiceError: busy")
    assert len(found.fills) == len(found.decisions) == 0


def scramble(bars, row):
    """Other prices and volumes from a row of each symbol on."""
    rng = np.random.default_rng(9)
    parts = []
    for _, part in bars.groupby("symbol"):
        part = part.copy()
        factor = np.exp(rng.normal(0.0, 0.1, len(part) - row))
        for name in ("open", "high", "low", "close"):
            part.loc[part.index[row:], name] *= factor
        part.loc[part.index[row:], "volume"] *= factor
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_later_bars_change_no_earlier_decision(predictor, tmp_path):
    bars, row = make_bars(80, SYMBOLS), 65
    found = []
    for k, known in enumerate((bars, scramble(bars, row))):
        plan = make_plan(tmp_path / str(k), known)
        found.append(replay(plan, LocalService(predictor)))
        assert not found[-1].halted
    border = bars["ts"].iloc[row].value
    columns = ["ts_ns", "symbol", "action", "exposure"]
    a, b = (one.decisions.loc[one.decisions["ts_ns"] < border, columns] for one in found)
    assert len(a) == 2 * (row - 50)
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    a, b = (one.fills[one.fills["ts_ns"] < border] for one in found)
    assert len(a) > 10
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    # and the scramble is one: later decisions differ
    later = [one.decisions.loc[one.decisions["ts_ns"] >= border, "action"] for one in found]
    assert (later[0].to_numpy() != later[1].to_numpy()).all()


def test_the_account_s_rules_are_those_of_the_plan(predictor, tmp_path):
    plan = make_plan(tmp_path / "paper")
    half = replace(make_plan(tmp_path / "half"), max_weight=0.5)
    whole, less = (replay(one, LocalService(predictor)) for one in (plan, half))
    first = [one.fills.iloc[0] for one in (whole, less)]
    assert first[0]["symbol"] == first[1]["symbol"]
    # half the weight of the same first action; a lot of 0.001 units either way
    assert first[1]["quantity"] == pytest.approx(first[0]["quantity"] / 2, abs=0.002)
