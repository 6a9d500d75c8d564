"""The kill switch: halts trading until a person resumes it.

A halt cancels open orders and keeps positions, for an order sent on what is known to be wrong
may do more harm than a position; one that flattens closes them as well. It is kept in the store
and in a file that a full disk cannot refuse, and ends only where both can be written again.

Other threads ask, which stops at once what opens and is in the file at once; the engine's thread
does what was asked, in the order in which it was asked.
"""

import threading
from contextlib import suppress

from hftlib.live.desk import Desk
from hftlib.live.planning import add_flattening, drop_parents
from hftlib.live.reconcile import reconcile
from hftlib.live.store_tables import StoreError


class KillSwitch:
    """The switch of one desk, as it was left.

    Attributes
    ----------
    reason : str
        Why trading is halted; "" if it is not.
    asked : str
        Why another thread asked for a halt that has not begun; "" if none did.
    who : str
        Who asked for the end of a halt, from another thread; "" if nobody did, or if a halt was
        asked for later.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk, self._store = desk, desk.store
        self.reason: str = self._store.get("halted", "") or self._store.read_halt()
        self.asked = self.who = self._told = ""
        self._flattens, self._lock = False, threading.Lock()
        desk.is_stopped = bool(self.reason)

    def ask(self, reason: str, *, flatten: bool = False) -> None:
        """From another thread: nothing opens from now on, nor after a restart.

        A disk that refuses the reason leaves it in memory. What a process that dies before the
        halt begins forgets is the flattening: ask again.
        """
        with self._lock:
            self._desk.is_stopped, self.who = True, ""
            self.asked = self.asked or reason
            self._flattens = self._flattens or flatten
            with suppress(StoreError):
                self._store.write_halt(self.reason or self.asked)

    def ask_resume(self, who: str) -> None:
        """From another thread: trade again, unless a halt is asked for before this is done."""
        with self._lock:
            self.who = who

    def obey(self, now_ns: int) -> None:
        """Do what other threads asked for; errors as `resume`."""
        with self._lock:
            asked, flatten, who = self.asked, self._flattens, self.who
            self.reason, self.asked = self.reason or asked, ""
            self._flattens, self.who = False, ""
        if asked:
            self.halt(asked, now_ns, flatten=flatten)
        if who and self.reason:
            self.resume(who, now_ns)

    def halt(self, reason: str, now_ns: int, *, flatten: bool = False) -> None:
        """Cancel, and open nothing; `flatten` closes positions when they can be traded next.

        Halted already, it stays so for the first reason; what is being closed is closed once.
        """
        self.reason, self._desk.is_stopped = self.reason or reason, True
        failures = self._desk.cancel_all(now_ns)
        with suppress(StoreError):
            self._store.write_halt(self.reason)
        with suppress(StoreError), self._store.transaction():
            self._store.put("halted", self.reason)
            if reason != self._told:  # a feed that goes on may repeat what is wrong
                self._store.alert(now_ns, "halt", reason)
            drop_parents(self._store, "halted")
            for failure in failures:
                self._store.alert(now_ns, "cancel failed", failure)
            if flatten:
                add_flattening(self._desk, now_ns)
        self._told = reason

    def resume(self, who: str, now_ns: int) -> None:
        """Trade again; `who` decided so is written down.

        A halt that was asked for before is over with it, one that is asked for meanwhile holds.
        What flattens goes on until the position is closed.

        Raises
        ------
        LedgerError
            If books and venues contradict each other.
        BrokerError
            If a venue does not answer.
        RiskError
            If an order that was never sent cannot be checked.
        StoreError
            If the disk is still full.
        """
        self.who = ""
        self.obey(now_ns)
        reconcile(self._desk, now_ns)
        with self._store.transaction():
            if not self._store.get("halted", ""):  # a full disk kept the halt from doing this
                drop_parents(self._store, "halted")
            self._store.put("halted", "")
            self._store.alert(now_ns, "resume", f"by {who}, after: {self.reason}")
        with self._lock:
            if not self.asked:
                self._store.write_halt("")
                self._desk.is_stopped = False
            self.reason = self._told = ""
