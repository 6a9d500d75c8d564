"""Paper trading beside the service: a thread that trades what the service answers.

It asks the service over HTTP like any other client, so that what is traded is what is served. Its
state is in files: a process that ends, however it ends, goes on from there at the next start, and
is halted then if it was. Halted, it waits until somebody resumes.
"""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftlib.live.book_venue import BookVenue
from hftlib.live.client import ServiceClient
from hftlib.live.clock import Clock
from hftlib.live.feeds import Feed, run_paper
from hftlib.live.logs import log_event
from hftlib.live.monitor import PaperMonitor
from hftlib.live.paper import TROUBLES, PaperEngine
from hftlib.live.paper_rules import PaperRules
from hftlib.live.policy_strategy import PolicyStrategy
from hftlib.live.store import Store
from hftlib.live.strategy import Strategy
from hftlib.live.venue_rules import VenueRules

STORE = "paper.db"
LOOK_S = 20.0  # between two looks for drift


@dataclass(frozen=True)
class SessionPlan:
    """What is traded, where, and how.

    Attributes
    ----------
    name : str
        For people.
    folder : Path
        Of the account's and the venues' files.
    rules : PaperRules
    venues : mapping of name to VenueRules
        In the order of preference at equal prices.
    feed : callable
        Opens the feed from its beginning.
    clock : callable
        Takes the time at which trading begins, or goes on; gives the clock.
    first_ns : int
        Earlier moments are shown to the strategy and not traded.
    last_ns : int, optional
        Time of the last moment; None for a feed without end. An account that has got there begins
        anew, unless it is halted; the folder `<folder>.ended` keeps the one before.
    max_weight : float
        Of the rules that the model was trained under.
    speed : float, optional
        Seconds of the recording in one of ours; None for real time.
    """

    name: str
    folder: Path
    rules: PaperRules
    venues: Mapping[str, VenueRules]
    feed: Callable[[], Feed]
    clock: Callable[[int], Clock]
    first_ns: int
    last_ns: int | None = None
    max_weight: float = 1.0
    speed: float | None = None


def open_engine(plan: SessionPlan, strategy: Strategy) -> tuple[PaperEngine, list[BookVenue]]:
    """The account and its venues as the files of the folder have them, new where there are none.

    Raises
    ------
    StoreError
        If another process trades on them.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    store = Store(plan.folder / STORE)
    venues = [
        BookVenue(name, plan.folder / f"{name}.db", plan.rules.symbols, rules)
        for name, rules in plan.venues.items()
    ]
    now_ns = max(plan.first_ns, store.get("cursor", 0))
    return PaperEngine(store, venues, strategy, plan.rules, now_ns=now_ns), venues


def open_again(plan: SessionPlan, strategy: Strategy) -> PaperEngine:
    """As `open_engine`, but an account that has got to the plan's end begins anew."""
    engine, venues = open_engine(plan, strategy)
    if plan.last_ns is None or engine.cursor_ns < plan.last_ns or engine.halted:
        return engine
    engine.desk.store.close()
    for venue in venues:
        venue.close()
    before = plan.folder.with_name(f"{plan.folder.name}.ended")
    shutil.rmtree(before, ignore_errors=True)
    plan.folder.rename(before)  # all of it at once: an account and its venues belong together
    return open_engine(plan, strategy)[0]


class PaperSession:
    """One thread of paper trading; a `protocols.PaperView`.

    Parameters
    ----------
    plan : SessionPlan
    watch : callable, optional
        Takes the time of the last moment that was traded; what it returns is shown as drift.
        Called now and then, by a thread of its own.
    """

    def __init__(
        self, plan: SessionPlan, watch: Callable[[int], Mapping[str, Any]] | None = None
    ) -> None:
        self._plan, self._watch = plan, watch
        self._engine: PaperEngine | None = None
        self._monitor: PaperMonitor | None = None
        self._strategy: PolicyStrategy | None = None
        self._asked = self._who = ""  # a halt before there is an engine; who resumes
        self._flattens = self._waits = False
        self._changed = threading.Condition()
        self._state = "opening"

    def start(self, address: str, token: str) -> None:
        """Begin to trade against the service at `address`."""
        for work in (self._trade, self._look):
            threading.Thread(target=work, args=(address, token), daemon=True).start()

    def snapshot(self) -> Mapping[str, Any]:
        """As `PaperMonitor.snapshot`; hardly anything before the account is open.

        `session` has a `state` too: opening, running (also while halted), ended, or failed and
        why, after which nothing is traded until the process is started anew.
        """
        about = {"name": self._plan.name, "speed": self._plan.speed, "state": self._state}
        if self._monitor is None:
            return {"ts_ns": 0, "halted": self._asked, "session": about, "model": None}
        return {**self._monitor.snapshot(), "session": about}

    def halt(self, reason: str, flatten: bool = False) -> None:
        """The kill switch; a process that is started anew is still halted.

        A recording waits while it is halted, unless `flatten` asks for positions to be closed.
        """
        with self._changed:
            self._who = ""
            self._flattens = self._flattens or flatten
            if self._engine is None:
                self._asked = reason
                return
            self._engine.ask_halt(reason, flatten=flatten)
            self._changed.notify_all()

    def resume(self, who: str) -> None:
        """Trade again after a halt; `who` decided so is written down. Nothing if not halted."""
        with self._changed:
            if not self.snapshot()["halted"]:
                return
            if self._engine is not None and not self._waits:
                self._engine.ask_resume(who)
                return
            self._who = who
            self._changed.notify_all()

    def _trade(self, address: str, token: str) -> None:
        """A thread that dies says why, in the log and to who looks."""
        try:
            self._trade_plan(ServiceClient(address, token))
        except Exception as error:
            self._state = f"failed: {error}"
            log_event("error", what="paper trading", why=repr(error))

    def _trade_plan(self, service: ServiceClient) -> None:
        plan = self._plan
        self._strategy = PolicyStrategy(service, plan.rules.symbols, plan.max_weight)
        engine = open_again(plan, self._strategy)
        monitor = PaperMonitor(engine, model=self._name_model)
        feed, clock = plan.feed(), plan.clock(max(plan.first_ns, engine.cursor_ns))
        with self._changed:
            if self._asked:
                engine.ask_halt(self._asked, flatten=self._flattens)
            self._engine, self._monitor = engine, monitor
        while True:
            self._state = "running"
            goes_on, self._flattens = plan.last_ns is None or self._flattens, False
            run_paper(engine, feed, clock, start_ns=plan.first_ns, stops_at_halt=not goes_on)
            if feed.next_ns() is None:
                self._state = "ended"
                log_event("paper_ended", equity=float(engine.desk.equity))
            self._wait(engine, clock)

    def _wait(self, engine: PaperEngine, clock: Clock) -> None:
        """Until somebody resumes, or wants positions closed; a refusal is said, and asked again."""
        with self._changed:
            while True:
                self._waits = True
                self._changed.wait_for(lambda: self._who or self._flattens or engine.is_asked)
                self._waits = False
                engine.obey(clock.now_ns())
                if self._flattens:
                    return
                who, self._who = self._who, ""
                if not who:
                    continue
                try:
                    return engine.resume(who)
                except tuple(TROUBLES) as error:
                    engine.halt_for(error)
                    log_event("error", what="resume", why=repr(error))

    def _look(self, address: str, token: str) -> None:
        """Look for drift while bars come; trading goes on where that fails."""
        seen_ns = 0
        while self._watch is not None:
            time.sleep(LOOK_S)
            monitor = self._monitor
            cursor_ns = 0 if monitor is None else int(monitor.snapshot()["ts_ns"])
            if monitor is not None and cursor_ns > seen_ns:
                seen_ns = cursor_ns
                try:
                    monitor.set_drift(self._watch(cursor_ns))
                except Exception as error:
                    log_event("error", what="drift", why=repr(error))

    def _name_model(self) -> dict[str, str] | None:
        """Who decided last."""
        if self._strategy is None or not self._strategy.decisions:
            return None
        name, _, version = self._strategy.decisions[-1].model.rpartition(" ")
        return {"name": name, "version": version}
