"""The circuit breaker of a desk: it looks at the account, and what rests is withdrawn if it opens.

Everything is written in the file; both are called by the engine's thread.
"""

from hftlib.live.desk import Desk
from hftlib.live.planning import drop_parents
from hftlib.portfolio.breakers import update_breaker


def watch_account(desk: Desk, *, now_ns: int, data_ns: int) -> None:
    """Let the breaker look at the account; `data_ns` is the time of the newest moment."""
    desk.breaker = update_breaker(
        desk.breaker,
        desk.rules.breaker,
        now_ns=now_ns,
        data_ns=min(data_ns, now_ns),
        drawdown=desk.standing.drawdown,
        daily_loss=desk.standing.daily_loss,
    )
    desk.store.put("breaker", desk.breaker.to_dict())
    heed_breaker(desk, now_ns)


def heed_breaker(desk: Desk, now_ns: int) -> None:
    """When the breaker has opened, by the clock or by a trade: say so, and cancel."""
    store, breaker = desk.store, desk.breaker
    if breaker.n_trips == store.get("trips", 0):
        return
    with store.transaction():
        store.put("trips", breaker.n_trips)
        store.alert(now_ns, "breaker", f"opened: {breaker.reason}")
        drop_parents(store, "circuit breaker")
        for failure in desk.cancel_all(now_ns):
            store.alert(now_ns, "cancel failed", failure)
