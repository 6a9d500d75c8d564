"""No order that breaks a limit ever reaches a broker: checked by books that the test keeps."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hftlib.live.broker import Ack, BrokerError, Event, Quotes
from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars, run_paper
from hftlib.live.paper import PaperEngine
from hftlib.live.paper_rules import PaperRules
from hftlib.live.parents import twap
from hftlib.live.store import Store, read_table
from hftlib.live.target_orders import SizingRules
from hftlib.live.ticks import Moment, Tick
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_covariance import decayed_covariances
from tests.conftest import make_bars
from tests.paper_cases import NO_LIMITS, Table, close_engine, open_engine

SYMBOLS = ("AAA", "BBB", "CCC")
SECTORS = {"AAA": "tech", "BBB": "tech"}
CASH = 10_000.0
LIMITS = RiskLimits(
    **vars(NO_LIMITS)
    | {
        "max_position": 0.4,
        "max_leverage": 0.8,
        "max_sector": 0.5,
        "max_daily_trades": 6,
        "max_daily_volume": 1.5,
        "max_drawdown": 0.08,
        "max_daily_loss": 0.05,
        "stop_loss": 0.04,
        "take_profit": 0.06,
    }
)
BREAKER = BreakerRules(max_drawdown=0.06, max_daily_loss=0.04, max_losses=2, max_age_ns=10**18)
STEP = 4 * 3600 * 10**9  # six moments a day


class Ledger:
    """The test's own account, in floats, which judges orders apart from the library."""

    def __init__(self):
        self.units, self.cash = dict.fromkeys(SYMBOLS, 0.0), CASH
        self.marks, self.open, self.peak, self.day = {}, {}, CASH, -1
        self.day_equity = self.last = CASH
        self.traded, self.volume, self.n_sent = set(), 0.0, 0

    @property
    def equity(self):
        return self.cash + sum(n * self.marks[s] for s, n in self.units.items() if n)

    def begin(self, moment):
        day = moment.ts_ns // (86_400 * 10**9)
        if day != self.day:
            self.day, self.day_equity = day, self.last
            self.traded, self.volume = set(), 0.0

    def mark(self, moment):
        self.marks |= {tick.symbol: tick.price for tick in moment.ticks}
        self.last = self.equity
        self.peak = max(self.peak, self.last)

    def fill(self, order, quantity, price):
        self.units[order.symbol] += quantity
        self.cash -= quantity * price
        self.traded.add(order.client_id)
        self.volume += abs(quantity) * price
        self.last = self.equity
        self.peak = max(self.peak, self.last)

    def judge(self, order):
        """Whether all that may trade, this order too, can break a limit; reductions cannot."""
        self.n_sent += 1
        name, quantity = order.symbol, float(order.quantity)
        side = 1 if quantity > 0 else -1
        ahead = {s: [0.0, 0.0] for s in SYMBOLS}
        volume = self.volume + abs(quantity) * self.marks[name]
        for other, left in self.open.values():
            ahead[other.symbol][left < 0] += left
            volume += abs(left) * max(self.marks[other.symbol], float(other.limit_price))
        base = self.units[name] + ahead[name][side < 0]
        if base * side < 0 and abs(quantity) <= abs(base) * (1 + 1e-9):
            return
        slack = 1 + 1e-6
        worth = {
            s: max(abs(self.units[s] + up), abs(self.units[s] + down)) * self.marks.get(s, 0.0)
            for s, (up, down) in ahead.items()
        }
        worth[name] = abs(base + quantity) * self.marks[name]
        equity = self.equity
        assert worth[name] <= LIMITS.max_position * equity * slack
        assert sum(worth.values()) <= LIMITS.max_leverage * equity * slack
        if name in SECTORS:
            assert worth["AAA"] + worth["BBB"] <= LIMITS.max_sector * equity * slack
        assert len(self.traded | {*self.open}) + 1 <= LIMITS.max_daily_trades
        assert volume <= LIMITS.max_daily_volume * self.day_equity * slack
        assert 1 - equity / self.peak <= LIMITS.max_drawdown * slack
        assert 1 - equity / self.day_equity <= LIMITS.max_daily_loss * slack


class Whimsical:
    """A broker that fills what and when it likes, at prices of its own; it judges what it gets."""

    def __init__(self, name, ledger, draw):
        self.name, self.ledger, self.draw, self.told, self.seen = name, ledger, draw, [], set()

    def submit(self, order):
        assert order.client_id not in self.seen
        self.ledger.judge(order)
        self.seen.add(order.client_id)
        self.ledger.open[order.client_id] = (order, float(order.quantity))
        self._trade(order.client_id)
        return Ack(order.client_id, False)

    def _trade(self, client_id):
        order, left = self.ledger.open[client_id]
        share = self.draw(st.sampled_from([0, 0, 1, 2, 4])) / 4
        units = round(left * share * 10) / 10
        if units:
            price = round(self.ledger.marks[order.symbol] * self.draw(st.floats(0.99, 1.01)), 2)
            self.ledger.open[client_id] = (order, left - units)
            self.ledger.fill(order, units, price)
            self._tell(client_id, "fill", Decimal(str(units)), Decimal(str(price)))
        if share == 1 or self.draw(st.booleans()):
            del self.ledger.open[client_id]
            self._tell(client_id, "done")

    def _tell(self, client_id, kind, units=Decimal(0), price=Decimal(0)):
        self.told.append(Event(len(self.told) + 1, client_id, kind, 0, units, price))

    def cancel(self, client_id, sent_ns):
        if client_id in self.ledger.open and self.draw(st.booleans()):
            del self.ledger.open[client_id]
            self._tell(client_id, "done")

    def knows(self, client_id):
        return client_id in self.seen

    def events(self, after):
        return self.told[after:]

    def quotes(self, symbol, side):
        mark = Decimal(str(self.ledger.marks[symbol]))
        return Quotes(self.name, ((mark, Decimal(30)),), Decimal(1), Decimal("0.1"))

    def advance(self, moment):
        self.ledger.begin(moment)
        for client_id in [i for i in self.ledger.open if i in self.seen]:
            self._trade(client_id)
        if self.name == "b":
            self.ledger.mark(moment)


n_sent = []


@settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    max_examples=30,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), n=st.integers(3, 14), style=st.sampled_from(["take", "quote"]))
def test_no_order_that_breaks_a_limit_reaches_a_broker(tmp_path_factory, data, n, style):
    ledger = Ledger()
    brokers = [Whimsical(name, ledger, data.draw) for name in "ab"]
    weight = st.sampled_from([-2.0, -0.5, -0.1, 0.0, 0.1, 0.3, 0.5, 1.0, float("nan")])
    targets = data.draw(st.lists(st.tuples(*[weight] * 3), min_size=n, max_size=n))
    moves = data.draw(st.lists(st.tuples(*[st.floats(0.95, 1.05)] * 3), min_size=n, max_size=n))
    prices, moments = [100.0, 50.0, 20.0], []
    for k, move in enumerate(moves):
        prices = [round(p * m, 2) for p, m in zip(prices, move, strict=True)]
        ticks = tuple(Tick(s, p) for s, p in zip(SYMBOLS, prices, strict=True))
        moments.append(Moment((k + 1) * STEP, "quote", ticks))
    store = Store(tmp_path_factory.mktemp("paper") / "paper.db")
    store.database.execute("PRAGMA synchronous = OFF")  # nothing is killed here
    rules = PaperRules(SYMBOLS, limits=LIMITS, breaker=BREAKER, sectors=SECTORS, order_style=style)
    engine = PaperEngine(store, brokers, Table(SYMBOLS, targets), rules)
    parent = twap("p", "CCC", Decimal(400), start_ns=0, end_ns=n * STEP, n_slices=5)
    engine.submit_parent(parent)
    run_paper(engine, Recording(moments), AcceleratedClock())
    assert not engine.halted or engine.halted.startswith(("risk", "ledger"))
    account = engine.desk.account
    assert {s: float(account.units(s)) for s in SYMBOLS} == {
        s: round(u, 6) for s, u in ledger.units.items()
    }
    n_sent.append(ledger.n_sent)
    store.close()


def trade_one_target(folder, price, submit=None):
    """All of the account into AAA, at venues that fill all at a multiple of the mark."""
    ledger = Ledger()
    draw = iter([4, price, True] * 9)
    brokers = [Whimsical(name, ledger, lambda strategy: next(draw)) for name in "ab"]
    if submit is not None:
        brokers[0].submit = submit
    rules = PaperRules(SYMBOLS, limits=LIMITS, breaker=BREAKER)
    store = Store(folder / "paper.db")
    engine = PaperEngine(store, brokers, Table(SYMBOLS, [[1.0, np.nan, np.nan]]), rules)
    ticks = tuple(Tick(s, p) for s, p in zip(SYMBOLS, (100.0, 50.0, 20.0), strict=True))
    engine.step(Moment(STEP, "quote", ticks), STEP)
    orders = read_table(store.path, "orders")
    store.close()
    return engine, orders


def test_a_part_is_checked_again_once_the_one_before_it_has_lost_money(tmp_path):
    engine, orders = trade_one_target(tmp_path, 1.01)
    assert engine.halted == ""
    # 30 units at 101 leave an equity of 9,970, of which 40 % are 39.88 units at 100
    assert list(orders["quantity"].astype(float)) == [30.0, 9.8]


def test_what_is_written_is_within_the_limits_before_anything_is_sent(tmp_path):
    def fail(order):
        raise BrokerError("a: connection lost")

    engine, orders = trade_one_target(tmp_path, 1.0, submit=fail)
    assert engine.halted == "venue: a: connection lost"
    assert list(orders["quantity"].astype(float)) == [30.0, 10.0]
    assert set(orders["status"]) == {"new"}


def test_the_property_was_tried_on_orders():
    assert not n_sent or sum(n_sent) > len(n_sent)


def test_nothing_is_opened_before_the_value_at_risk_is_known_and_then_up_to_its_limit(tmp_path):
    symbols, bars = SYMBOLS[:2], make_bars(30, SYMBOLS[:2])
    targets = np.full((30, 2), np.nan)
    targets[0] = targets[20] = [2.0, -1.0]
    limits = RiskLimits(**vars(NO_LIMITS) | {"max_var": 0.01})
    engine = open_engine(tmp_path, symbols, targets, limits=limits, sizing=SizingRules())
    moments = read_bars(bars)
    run_paper(engine, Recording(moments[:40]), AcceleratedClock())
    checks = read_table(tmp_path / "paper.db", "checks")
    assert list(checks["action"]) == ["reject"] * 2
    assert not any(float(engine.desk.account.units(s)) for s in symbols)
    run_paper(engine, Recording(moments[40:43]), AcceleratedClock())
    closes = bars.pivot(index="ts", columns="symbol", values="close").to_numpy()[:21]
    covariance = decayed_covariances(closes)[-1]
    values = [float(engine.desk.account.units(s)) * engine.desk.marks[s] for s in symbols]
    risk = 1.6448536269514722 * np.sqrt(values @ covariance @ values) / engine.desk.standing.equity
    # lots of .001 units and fees of 2 bps of the notional lie between
    assert 0.0099 < risk < 0.01001
    assert "shrink" in set(read_table(tmp_path / "paper.db", "checks")["action"])
    close_engine(engine)


@pytest.mark.parametrize(
    ("sold_at", "phase", "reason"), [(110.0, "closed", ""), (90.0, "open", "loss when half open")]
)
def test_half_open_one_trade_decides_whether_the_breaker_closes(tmp_path, sold_at, phase, reason):
    second = 10**9
    rules = BreakerRules(
        max_drawdown=0.5, max_daily_loss=0.5, max_losses=1, max_age_ns=100 * second,
        cooldown_ns=60 * second,
    )  # fmt: skip
    wanted = [1.0, 0.0, 1.0, 1.0, 0.0]
    engine = open_engine(tmp_path, ("AAA",), np.array([wanted]).T, breaker=rules)
    seen = []
    for at, price in ((1, 100.0), (2, 90.0), (3, 100.0), (63, 100.0), (64, sold_at)):
        engine.step(Moment(at * second, "quote", (Tick("AAA", price),)), at * second)
        seen.append((engine.desk.breaker.phase, float(engine.desk.account.units("AAA"))))
    assert seen[:4] == [("closed", 1.0), ("open", 0.0), ("open", 0.0), ("half_open", 1.0)]
    assert (engine.desk.breaker.phase, engine.desk.breaker.reason) == (phase, reason)
    assert engine.desk.account.units("AAA") == 0 and engine.halted == ""
    alerts = list(read_table(tmp_path / "paper.db", "alerts")["text"])
    close_engine(engine)
    assert alerts == ["opened: losses in a row"] + [f"opened: {reason}"] * (phase == "open")
