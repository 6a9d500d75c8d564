"""Reference matching engine: what `hftlib.market.book` promises, in dicts and lists.

Slow and plain on purpose: a side maps each price to a list of orders, oldest
first; the best price is a minimum or a maximum; what a list can hold is
counted by looking. It is written from the documentation and shares nothing
with the kernels.

An order's name is the number of the message that opened it.
"""

from dataclasses import dataclass
from typing import NamedTuple

MAX_PRICE = 2**30
MAX_LOTS = 2**31 - 1
BUY, SELL = 1, -1


@dataclass(slots=True)
class Order:
    name: int
    side: int
    price: int
    qty: int
    owner: int
    tag: int


class Fill(NamedTuple):
    message: int
    maker: int
    maker_tag: int
    maker_owner: int
    price: int
    qty: int
    taker_side: int
    cause: int


class Ack(NamedTuple):
    status: str
    order: int | None = None
    filled: int = 0
    resting: int = 0


@dataclass(slots=True)
class Account:
    position: int = 0
    cash: int = 0
    made: int = 0
    took: int = 0
    lots: int = 0


class ReferenceBook:
    def __init__(self, capacity: int, self_trade: str, n_owners: int) -> None:
        self.capacity, self.self_trade = capacity, self_trade
        self.sides: dict[int, dict[int, list[Order]]] = {BUY: {}, SELL: {}}
        self.orders: dict[int, Order] = {}
        self.accounts = [Account() for _ in range(n_owners)]
        self.n_refused = 0

    def submit(
        self,
        message: int,
        kind: str | None,
        side: int,
        price: int,
        qty: int,
        owner: int,
        target: int | None,
        tag: int,
    ) -> tuple[list[Fill], Ack]:
        """Apply one message; `target` is the name of the order to cancel, reduce or modify."""
        fault = self.find_fault(kind, side, price, qty, owner, target)
        if fault is not None:
            return [], Ack(fault)
        if kind == "cancel":
            self.take_out(self.orders[target])
            return [], Ack("accepted")
        if kind == "reduce":
            return [], self.shrink(self.orders[target], qty)
        if kind == "modify":
            old = self.orders[target]
            if price == old.price and qty <= old.qty:
                return [], self.shrink(old, old.qty - qty)
            self.take_out(old)
            return self.enter(Order(message, old.side, price, qty, owner, old.tag), "limit")
        return self.enter(Order(message, side, price, qty, owner, tag), kind)

    def find_fault(self, kind, side, price, qty, owner, target) -> str | None:
        """The first thing wrong with the message itself."""
        opens = kind in ("limit", "market", "ioc", "fok", "post_only")
        if kind is None:
            return "unknown kind of message"
        if opens and side not in (BUY, SELL):
            return "side is neither 1 nor -1"
        if kind not in ("market", "cancel", "reduce") and not 1 <= price <= MAX_PRICE:
            return "price is outside [1, 2**30] ticks"
        if kind != "cancel" and qty <= 0:
            return "size is not positive"
        if not 0 <= owner < len(self.accounts):
            return "owner has no account"
        if opens:
            return None
        if target not in self.orders:
            return "no such order"
        if self.orders[target].owner != owner:
            return "order belongs to another owner"
        return None

    def enter(self, order: Order, kind: str) -> tuple[list[Fill], Ack]:
        """An order trades as its kind allows; what is left of a limit order rests."""
        if kind == "post_only" and self.reachable(order, kind):
            return [], Ack("post-only order would trade")
        if kind == "fok" and not self.can_fill(order):
            return [], Ack("fill-or-kill order cannot be filled")
        wanted = order.qty
        fills, stopped = self.trade(order, kind)
        filled = wanted - order.qty
        if stopped:
            return fills, Ack("stopped by self-trade prevention", None, filled)
        if order.qty == 0 or kind not in ("limit", "post_only"):
            return fills, Ack("accepted", None, filled)
        lots = sum(resting.qty for resting in self.orders.values() if resting.side == order.side)
        if len(self.orders) == self.capacity or lots + order.qty > MAX_LOTS:
            self.n_refused += 1
            return fills, Ack("book is full", None, filled)
        self.orders[order.name] = order
        self.sides[order.side].setdefault(order.price, []).append(order)
        return fills, Ack("accepted", order.name, filled, order.qty)

    def trade(self, taker: Order, kind: str) -> tuple[list[Fill], bool]:
        """Match best price first, oldest first; whether self-trade prevention ended it."""
        fills = []
        while taker.qty > 0 and (makers := self.reachable(taker, kind)):
            maker = makers[0]
            if self.is_own(taker, maker):
                if self.self_trade == "cancel_incoming":
                    return fills, True
                qty, cause = maker.qty, 1
                self.take_out(maker)
            else:
                qty, cause = min(taker.qty, maker.qty), 0
                taker.qty -= qty
                self.settle(taker, maker, qty)
                self.shrink(maker, qty)
            fills.append(
                Fill(
                    taker.name,
                    maker.name,
                    maker.tag,
                    maker.owner,
                    maker.price,
                    qty,
                    taker.side,
                    cause,
                )
            )
        return fills, False

    def reachable(self, taker: Order, kind: str) -> list[Order]:
        """Orders at the best price of the other side, if the taker's limit reaches it."""
        prices = self.prices(-taker.side)
        if not prices:
            return []
        best = prices[0]
        reaches = best <= taker.price if taker.side == BUY else best >= taker.price
        return self.sides[-taker.side][best] if reaches or kind == "market" else []

    def can_fill(self, taker: Order) -> bool:
        """Whether others' orders within the limit, in their order, fill all of it."""
        left = taker.qty
        for price in self.prices(-taker.side):
            if price > taker.price if taker.side == BUY else price < taker.price:
                return False
            for maker in self.sides[-taker.side][price]:
                if self.is_own(taker, maker):
                    if self.self_trade == "cancel_incoming":
                        return False
                    continue
                left -= maker.qty
                if left <= 0:
                    return True
        return False

    def is_own(self, taker: Order, maker: Order) -> bool:
        return self.self_trade != "allow" and taker.owner != 0 and taker.owner == maker.owner

    def settle(self, taker: Order, maker: Order, qty: int) -> None:
        value = maker.price * qty
        bought, sold = (taker, maker) if taker.side == BUY else (maker, taker)
        self.accounts[bought.owner].position += qty
        self.accounts[bought.owner].cash -= value
        self.accounts[sold.owner].position -= qty
        self.accounts[sold.owner].cash += value
        self.accounts[maker.owner].made += value
        self.accounts[taker.owner].took += value
        for owner in (maker.owner, taker.owner):
            self.accounts[owner].lots += qty

    def shrink(self, order: Order, qty: int) -> Ack:
        """Take lots off an order, which keeps its place; it goes when none are left."""
        order.qty -= min(qty, order.qty)
        if order.qty == 0:
            self.take_out(order)
            return Ack("accepted")
        return Ack("accepted", order.name, 0, order.qty)

    def take_out(self, order: Order) -> None:
        del self.orders[order.name]
        queue = self.sides[order.side][order.price]
        queue.remove(order)
        if not queue:
            del self.sides[order.side][order.price]

    def prices(self, side: int) -> list[int]:
        """Prices with orders, best first."""
        return sorted(self.sides[side], reverse=side == BUY)

    def depth(self, side: int, levels: int) -> list[list[int]]:
        """Best prices and their lots, filled up with zeros."""
        queues = self.sides[side]
        best = [[p, sum(order.qty for order in queues[p])] for p in self.prices(side)[:levels]]
        return best + [[0, 0]] * (levels - len(best))
