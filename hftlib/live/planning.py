"""What is to be traded: targets into parent orders.

Everything here is written inside the engine's transaction; nothing is sent (see `working`).
"""

from collections.abc import Mapping
from decimal import Decimal

from hftlib.live.desk import Desk
from hftlib.live.parents import Parent, Purpose
from hftlib.live.store import Store
from hftlib.live.strategy import AccountView, Strategy, ask_targets, find_exits
from hftlib.live.target_orders import size_targets
from hftlib.live.ticks import Moment


def decide(desk: Desk, strategy: Strategy, moment: Moment) -> None:
    """Keep the strategy's targets, and the exits that are due, until they can be traded."""
    symbols = desk.rules.symbols
    units = {symbol: float(desk.account.units(symbol)) for symbol in symbols}
    view = AccountView(float(desk.equity), units, desk.breaker.is_halted)
    exits = find_exits(desk.account, desk.marks, desk.standing.equity, desk.rules.limits)
    desk.store.put("targets", ask_targets(strategy, moment, view, symbols))
    desk.store.put("exits", exits)


def make_parents(desk: Desk, moment: Moment, volumes: Mapping[str, float]) -> None:
    """Make parent orders of what was decided, at the prices of a moment.

    None of a symbol whose position is being closed by the kill switch.

    Parameters
    ----------
    volumes : mapping of symbol to float
        Units traded in the last bar, of every symbol of the rules.
    """
    store = desk.store
    targets, exits = store.get("targets", {}), store.get("exits", [])
    drop_targets(store)
    shown = {tick.symbol for tick in moment.ticks} - find_flattening(store)
    symbols = [symbol for symbol in desk.marks if symbol in shown]
    quantities = size_targets(
        targets,
        symbols=symbols,
        units=[_expect_units(desk, symbol) for symbol in symbols],
        marks=[desk.marks[symbol] for symbol in symbols],
        volumes=[volumes[symbol] for symbol in symbols],
        equity=desk.standing.equity,
        closes_all_of=exits,
        rules=desk.rules.sizing,
    )
    for symbol, quantity in quantities.items():
        purpose: Purpose = "exit" if symbol in exits else "target"
        add_parent(store, symbol, Decimal(str(quantity)), purpose, moment.ts_ns)


def _expect_units(desk: Desk, symbol: str) -> float:
    """Units held once all open orders have traded."""
    return float(desk.account.units(symbol) + desk.open_units(symbol))


def add_parent(store: Store, symbol: str, quantity: Decimal, purpose: Purpose, now_ns: int) -> None:
    """An order to be sent at once; its time and purpose name it."""
    name = f"{now_ns}-{symbol}-{purpose}"
    store.add_parent(Parent(name, symbol, quantity, "now", purpose, 0, 0))


def drop_targets(store: Store) -> None:
    """Forget what was decided and cannot be traded: the next decision is of newer prices."""
    store.put("targets", {})
    store.put("exits", [])


def find_flattening(store: Store) -> set[str]:
    """Symbols whose positions are being closed by the kill switch."""
    return {p.symbol for p in store.active_parents() if p.purpose == "flatten"}


def add_flattening(desk: Desk, now_ns: int) -> None:
    """Orders that close each position, and what open orders may still make of one; each once."""
    busy = find_flattening(desk.store)
    for symbol in desk.rules.symbols:
        quantity = desk.account.units(symbol) or desk.open_units(symbol)
        if quantity and symbol not in busy:
            add_parent(desk.store, symbol, -quantity, "flatten", now_ns)


def follow_volumes(store: Store, moment: Moment) -> None:
    """Let POV parents see what others traded."""
    for parent in store.active_parents():
        if parent.algorithm == "pov":
            units = next((t.volume for t in moment.ticks if t.symbol == parent.symbol), 0.0)
            store.follow_volume(parent, units if units > 0 else 0.0)


def drop_parents(store: Store, reason: str) -> None:
    """Cancel all parents but those that flatten."""
    for parent in store.active_parents():
        if parent.purpose != "flatten":
            store.set_parent(parent.parent_id, status="cancelled", reason=reason)


def submit_parent(desk: Desk, parent: Parent) -> None:
    """Write a person's order down; `ValueError` if its symbol is unknown or its name taken."""
    names = desk.store.database.execute("SELECT parent_id FROM parents").fetchall()
    if parent.symbol not in desk.rules.symbols or (parent.parent_id,) in names:
        raise ValueError(
            f"parent {parent.parent_id} of {parent.symbol!r}; expected a new name and one of "
            f"{', '.join(desk.rules.symbols)}"
        )
    desk.store.add_parent(parent)
