"""Parent orders are worked: what is due is routed, checked, written and sent, or rests.

With the style "take" an order is sent for what the books hold, and is over at once. With "quote"
it rests, post-only, at the best price of its own side, until the parent is over: a target at the
next decision, an order of a person at its end. Where the best price has moved, what rests is
withdrawn, and replaced once the venue has said that it is gone: an order that may still fill is
never replaced, so that nothing trades twice. With a latency that is a moment later.
"""

from decimal import Decimal

from hftlib.live.desk import Desk
from hftlib.live.order_router import Child, route_order, route_quote
from hftlib.live.parents import Parent
from hftlib.live.ticks import Moment


def _rests(desk: Desk, parent: Parent) -> bool:
    return desk.rules.order_style == "quote" and parent.purpose in ("target", "parent")


def end_parents(desk: Desk, moment: Moment, now_ns: int) -> None:
    """Withdraw what rests of parents that are over: at the next decision, or past their end."""
    store = desk.store
    with store.transaction():
        for parent in store.active_parents():
            is_now = parent.algorithm == "now"
            if _rests(desk, parent) and (
                moment.decides if is_now else moment.ts_ns >= parent.end_ns
            ):
                left = parent.quantity - store.progress(parent.parent_id)[0]
                status = "cancelled" if left else "done"
                reason = f"{left} had not traded" if left else ""
                store.set_parent(parent.parent_id, status=status, reason=reason)
    active = {parent.parent_id for parent in store.active_parents()}
    resting = [
        client_id
        for client_id, order in desk.open_orders.items()
        if order.request.kind == "post_only"
        and order.cancel_ns is None
        and order.parent_id not in active
    ]
    desk.withdraw(resting, now_ns)


def work_parents(desk: Desk, cursor_ns: int, now_ns: int) -> None:
    """Send what is due of each parent order at `cursor_ns`; halted, of those that flatten.

    What rests is left where it would be put again, and withdrawn elsewhere; it is replaced as
    soon as the venue has said that it is gone. Nothing is written twice for one moment.
    """
    store = desk.store
    for parent in store.active_parents():
        if parent.purpose == "flatten":
            _flatten(desk, parent, cursor_ns, now_ns)
            continue
        if desk.is_stopped:
            continue
        done, waiting = store.progress(parent.parent_id)
        if done == parent.quantity:
            store.set_parent(parent.parent_id, status="done")
            continue
        if store.was_worked(parent.parent_id, cursor_ns):
            continue
        rests = _rests(desk, parent)
        if rests:
            _move_quotes(desk, parent, now_ns)
            done, waiting = store.progress(parent.parent_id)
        due = parent.due(cursor_ns) - done - waiting
        if due * parent.quantity <= 0:
            if rests:  # looked at: a restart in the next moment must not move it by that one's book
                store.set_parent(parent.parent_id, worked_ns=cursor_ns)
            continue
        children = _route(desk, parent.symbol, due, rests=rests)
        with store.transaction():
            if parent.algorithm == "now" and not rests:
                left = due - sum((child.quantity for child in children), Decimal(0))
                reason = _say_why(desk, parent.symbol, left) if left else ""
                store.set_parent(parent.parent_id, status="done", reason=reason)
            made = desk.write(parent, children, "post_only" if rests else "ioc", cursor_ns, now_ns)
        desk.send(made, now_ns)
        desk.collect(now_ns)


def _smallest_lot(desk: Desk, symbol: str) -> Decimal:
    return min(broker.quotes(symbol, 1).lot for broker in desk.brokers.values())


def _say_why(desk: Desk, symbol: str, left: Decimal) -> str:
    """Why units of a parent went nowhere: what is below a lot never trades."""
    lot = _smallest_lot(desk, symbol)
    return f"{left} is below a lot of {lot}" if abs(left) < lot else f"{left} found no quotes"


def _flatten(desk: Desk, parent: Parent, cursor_ns: int, now_ns: int) -> None:
    """Close what is held and not being closed; over when nothing is held that can be traded.

    What is held counts, not what was held when it was asked for: an order that was on its way
    then may have traded since, and a book that was too thin is asked again at the next moment.
    """
    store, symbol = desk.store, parent.symbol
    held = desk.account.units(symbol)
    due = -held - desk.open_units(symbol, -1 if held > 0 else 1)
    if due * held < 0 and not store.was_worked(parent.parent_id, cursor_ns):
        children = _route(desk, symbol, due, rests=False)
        with store.transaction():
            made = desk.write(parent, children, "ioc", cursor_ns, now_ns)
        desk.send(made, now_ns)
        desk.collect(now_ns)
    left = desk.account.units(symbol)
    lot = _smallest_lot(desk, symbol)
    is_open = any(o.request.symbol == symbol for o in desk.open_orders.values())
    if abs(left) < lot and not is_open:
        reason = f"{left} is below a lot" if left else ""
        store.set_parent(parent.parent_id, status="done", reason=reason)


def _route(desk: Desk, symbol: str, quantity: Decimal, *, rests: bool) -> tuple[Child, ...]:
    """Parts of signed units; none of a symbol that has had no price."""
    if symbol not in desk.marks:
        return ()
    if rests:
        child = find_quote(desk, symbol, quantity)
        return () if child is None else (child,)
    side = 1 if quantity > 0 else -1
    return route_order(quantity, [b.quotes(symbol, side) for b in desk.brokers.values()])


def find_quote(desk: Desk, symbol: str, quantity: Decimal) -> Child | None:
    """Where signed units should rest, by the orders of others."""
    ours = [
        (order.venue, order.request.limit_price, abs(order.left))
        for order in desk.open_orders.values()
        if order.request.symbol == symbol and order.request.kind == "post_only"
    ]
    quotes = []
    for name, broker in desk.brokers.items():
        seen = broker.quotes(symbol, -1 if quantity > 0 else 1)
        levels = []
        for price, units in seen.levels:
            lefts = (left for venue, at, left in ours if (venue, at) == (name, price))
            mine = sum(lefts, Decimal(0))
            if units != mine:  # less than ours: ours has not arrived
                levels.append((price, units - mine if units > mine else units))
        quotes.append(seen._replace(levels=tuple(levels)))
    return route_quote(quantity, quotes)


def _move_quotes(desk: Desk, parent: Parent, now_ns: int) -> None:
    """Withdraw what rests at another price or venue than it would now."""
    child = find_quote(desk, parent.symbol, parent.quantity)
    if child is None:
        return
    place = child.venue, child.limit_price
    elsewhere = [
        client_id
        for client_id, order in desk.open_orders.items()
        if order.parent_id == parent.parent_id
        and order.cancel_ns is None
        and (order.venue, order.request.limit_price) != place
    ]
    desk.withdraw(elsewhere, now_ns)
