"""Paper trading: a feed's moments in, orders on simulated venues out, state that survives a kill.

One moment: venues move with the market; their events are booked; the account is marked; limits
and breaker are looked at; targets are decided at closes and traded at the next open, as in
`evaluation.engine`. What was decided is one transaction with the place in the feed, and orders
are written before they are sent (`desk`), so that a process killed at any instruction goes on
where it was: no order lost, none doubled.

Whatever is wrong halts trading and says why: a stale, unordered or future moment, a price that is
none, a silent feed, a full disk, a venue that does not answer, books that contradict each other,
a strategy that fails. Halted, open orders are cancelled and nothing is opened until a person
calls `resume`; of the moments that are still traded then what is on its way is booked, positions
are marked, and closed if the halt was to flatten.

Fills differ from those of the backtest where a book differs from a cost model: prices are whole
ticks, quantities whole lots, an order walks the levels and may find too few. With a deep book and
small lots they are the same, which a test shows.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from hftlib.live.booking import LedgerError
from hftlib.live.breaker_watch import heed_breaker, watch_account
from hftlib.live.broker import Broker, BrokerError
from hftlib.live.desk import Desk
from hftlib.live.kill_switch import KillSwitch
from hftlib.live.paper_rules import PaperRules
from hftlib.live.parents import Parent
from hftlib.live.planning import (
    decide,
    drop_targets,
    follow_volumes,
    make_parents,
    submit_parent,
)
from hftlib.live.reconcile import reconcile
from hftlib.live.standing import mark
from hftlib.live.store import Store
from hftlib.live.store_tables import StoreError
from hftlib.live.strategy import Strategy, StrategyError, show_moment
from hftlib.live.tape import Tape
from hftlib.live.ticks import Moment, find_fault
from hftlib.live.working import end_parents, work_parents
from hftlib.portfolio.positions import PositionError
from hftlib.portfolio.risk_state import RiskError

TROUBLES = {
    StoreError: "disk",
    BrokerError: "venue",
    LedgerError: "ledger",
    RiskError: "risk",
    PositionError: "ledger",
    StrategyError: "strategy",
}


class PaperEngine:
    """One account, its strategy and its venues.

    Parameters
    ----------
    store : Store
    brokers : sequence of Broker
        With names of their own; the first is preferred at equal prices.
    now_ns : int
        The clock, for the reconciliation; for a recording the time of its first moment. It is
        never before the last moment that was traded.

    Attributes
    ----------
    switch : KillSwitch
    cursor_ns : int
        Time of the last moment that was traded.
    on_moment : callable
        Is shown each moment that the strategy is shown.
    on_change : callable
        Is called after each step and beat, with whether trading was halted or resumed.
    """

    def __init__(
        self,
        store: Store,
        brokers: Sequence[Broker],
        strategy: Strategy,
        rules: PaperRules,
        *,
        now_ns: int | None = None,
    ) -> None:
        self.desk = Desk(store, brokers, rules)
        self.strategy, self.rules, self._store = strategy, rules, store
        self.cursor_ns: int = store.get("cursor", 0)
        self.switch, self._tape = KillSwitch(self.desk), Tape(rules.symbols)
        self.has_traded = False
        self.on_moment: Callable[[Moment], None] = lambda moment: None
        self.on_change: Callable[[bool], None] = lambda at_once: None
        self._now_ns = self._data_ns = max(self.cursor_ns, now_ns or 0)
        try:
            # the moment after the cursor may have been begun
            self._now_ns = self._data_ns = max(self._now_ns, self.desk.booked_ns())
            reconcile(self.desk, self._now_ns)
            if self.halted:
                self.desk.cancel_all(self._now_ns)
            if store.get("works", False):
                work_parents(self.desk, self.cursor_ns, self._now_ns)
        except tuple(TROUBLES) as error:
            self.halt_for(error)

    def observe(self, moment: Moment) -> None:
        """Show the strategy a moment of the past, and remember its closes."""
        self._tape.see(moment)
        try:
            show_moment(self.strategy, moment)
        except StrategyError as error:
            self.halt_for(error)
        else:
            self.on_moment(moment)

    def observe_late(self, moment: Moment) -> None:
        """Show the strategy what came after its moment, and say so."""
        self.observe(moment)
        names = ", ".join(tick.symbol for tick in moment.ticks)
        with suppress(StoreError):
            self._store.alert(self._now_ns, "late", f"{names} at {moment.ts_ns}: not traded")

    def step(self, moment: Moment, now_ns: int) -> None:
        """Trade one moment; what is wrong halts, and is not raised."""
        self._now_ns = now_ns
        self.obey(now_ns)
        fault = find_fault(
            moment,
            last_ns=self.cursor_ns,
            now_ns=now_ns,
            symbols=self.rules.symbols,
            tolerance_ns=self.rules.tolerance_ns,
        )
        if fault:
            self.halt(f"feed: {fault}")
            return
        try:
            self._trade(moment, max(now_ns, moment.ts_ns))
        except tuple(TROUBLES) as error:
            self.halt_for(error)
        self.on_change(False)

    def beat(self, now_ns: int) -> None:
        """Look at the clock while the feed is silent."""
        self._now_ns = now_ns
        self.obey(now_ns)
        silent_ns = now_ns - self._data_ns
        if silent_ns > self.rules.dead_after_ns and not self.halted:
            self.halt(f"feed: silent for {silent_ns / 1e9:g} s; look at the source, then resume")
            return
        try:
            self.desk.collect(now_ns)
            if self.cursor_ns:
                watch_account(self.desk, now_ns=now_ns, data_ns=self._data_ns)
        except tuple(TROUBLES) as error:
            self.halt_for(error)
        self.on_change(False)

    def _trade(self, moment: Moment, now_ns: int) -> None:
        desk, store = self.desk, self._store
        for broker in desk.brokers.values():
            broker.advance(moment)
        # a new day begins before its first fills are booked, so that they count in it
        desk.standing = mark(desk.standing, moment.ts_ns, desk.standing.equity)
        desk.collect(now_ns)
        self.observe(moment)
        fresh = {tick.symbol: tick.price for tick in moment.ticks}
        known = desk.marks | fresh
        desk.marks = {symbol: known[symbol] for symbol in self.rules.symbols if symbol in known}
        desk.standing = mark(desk.standing, moment.ts_ns, float(desk.equity))
        self._data_ns = moment.ts_ns
        if np.isfinite(self.rules.limits.max_var):
            desk.covariance = self._tape.covariance()
        is_stale = now_ns - moment.ts_ns > self.rules.breaker.max_age_ns
        works = moment.trades and not is_stale
        end_parents(desk, moment, now_ns)
        with store.transaction():
            watch_account(desk, now_ns=now_ns, data_ns=self._data_ns)
            if not self.halted and not is_stale:
                if moment.decides:
                    decide(desk, self.strategy, moment)
                if moment.trades:
                    make_parents(desk, moment, self._tape.volumes)
            elif self.halted and moment.trades:
                drop_targets(store)
            if moment.decides:
                follow_volumes(store, moment)
            store.put("standing", asdict(desk.standing))
            store.put("marks", desk.marks)
            store.put("cursor", moment.ts_ns)
            store.put("works", works)
            amounts = {"equity": desk.equity, "cash": desk.account.cash, "fees": desk.account.fees}
            store.add("marks", ts_ns=moment.ts_ns, kind=moment.kind, **amounts)
        self.cursor_ns, self.has_traded = moment.ts_ns, True
        if works:
            work_parents(desk, self.cursor_ns, now_ns)
            heed_breaker(desk, now_ns)

    def submit_parent(self, parent: Parent) -> None:
        """Work a TWAP, VWAP or POV order from the next moment on; errors as `planning`'s."""
        submit_parent(self.desk, parent)

    @property
    def halted(self) -> str:
        """Why trading is halted; "" if it is not."""
        return self.switch.reason

    @property
    def is_asked(self) -> bool:
        """Whether another thread asked for something that has not been done."""
        return bool(self.switch.asked or self.switch.who)

    def ask_halt(self, reason: str, *, flatten: bool = False) -> None:
        """The kill switch from another thread: at once nothing opens, at the next call it halts."""
        self.switch.ask(reason, flatten=flatten)

    def ask_resume(self, who: str) -> None:
        """The end of a halt from another thread, at the next call; a refusal is an alert."""
        self.switch.ask_resume(who)

    def obey(self, now_ns: int) -> None:
        """Do what other threads asked for, at once."""
        if not self.is_asked:
            return
        self._now_ns, who = max(self._now_ns, now_ns), self.switch.who
        try:
            self.switch.obey(self._now_ns)
        except tuple(TROUBLES) as error:
            with suppress(StoreError):
                self._store.alert(self._now_ns, "resume refused", f"asked by {who}: {error}")
        self.on_change(True)

    def halt(self, reason: str, *, flatten: bool = False) -> None:
        """The kill switch: cancel, and open nothing until `resume`; `flatten` closes positions."""
        self.switch.halt(reason, self._now_ns, flatten=flatten)
        self.on_change(True)

    def halt_for(self, error: Exception) -> None:
        """Halt because of an error."""
        what = next(name for kind, name in TROUBLES.items() if isinstance(error, kind))
        self.halt(f"{what}: {error}")

    def resume(self, who: str) -> None:
        """Trade again, because `who` decided so; errors as `KillSwitch.resume`."""
        self.switch.resume(who, self._now_ns)
        self.on_change(True)
