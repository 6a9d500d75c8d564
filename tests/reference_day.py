"""A recorded day with own orders, kept in plain lists: what `data.injection` must do, slowly."""

from dataclasses import dataclass

from hftlib.data.history import O_ADD, O_CANCEL, O_EXECUTE, O_SURFACE
from hftlib.data.replay import History
from hftlib.market.book import KINDS

END = 10**15
NAMES = {code: name for name, code in KINDS.items()}


@dataclass(eq=False)
class Order:
    owner: int
    side: int
    price: int
    qty: int
    tag: int
    number: int  # of history's order; of the next one when an own order joined
    is_blind: bool = False
    left: int = 0  # in history


class ListMarket:
    """What `HistoricalMarket` promises, with orders in lists, oldest first."""

    def __init__(self, history: History, has_impact: bool) -> None:
        self.history, self.has_impact = history, has_impact
        self.book: list[Order] = []
        self.own = self.book if has_impact else []
        self.by_number: dict[int, Order] = {}
        self.by_message: dict[int, Order] = {}
        self.row = self.n_seen = 0
        self.fills: list[tuple[int, ...]] = []
        self.counts = [0, 0, 0]  # ignored, trimmed, lost

    def queue(self, orders: list[Order], side: int) -> list[Order]:
        return sorted((o for o in orders if o.side == side), key=lambda o: -side * o.price)

    def fill(self, message: int, maker: Order | None, side: int, price: int, qty: int) -> None:
        owner, tag = (maker.owner, maker.tag) if maker else (0, 0)
        if message >= 0 or owner > 0:
            self.fills.append((self.ts, message, tag if owner else 0, owner, price, qty, side))
        if maker:
            maker.qty -= qty
            if maker.qty == 0:
                (self.own if maker in self.own else self.book).remove(maker)

    def meet(self, orders, message, owner, side, limit, qty) -> int:
        for maker in self.queue(orders, -side):
            if qty == 0 or side * (limit - maker.price) < 0:
                break
            if owner > 0 and maker.owner == owner:
                self.fills.append(
                    (self.ts, message, maker.tag, owner, maker.price, maker.qty, side)
                )
                orders.remove(maker)
                continue
            part = min(qty, maker.qty)
            self.fill(message, maker, side, maker.price, part)
            qty -= part
        return qty

    def serve(self, side: int, price: int, number: int, qty: int) -> int:
        """A taker of history meets strangers at better prices, then those before `number`."""
        for maker in self.queue(self.own, side):
            place = maker.number if maker.owner else maker.number + 1
            stranger = maker.owner > 0 or maker.left == 0
            better = side * (maker.price - price) > 0
            if qty > 0 and stranger and (better or (maker.price == price and place <= number)):
                part = min(qty, maker.qty)
                self.fill(-1, maker, -side, maker.price, part)
                qty -= part
        return qty

    def play(self, op: list[int]) -> None:
        kind, number, side, price, qty, left = op
        if kind in (O_ADD, O_SURFACE):
            rests = self.meet(self.own, -1, 0, side, price, qty)
            rests = rests if self.has_impact else qty
            self.counts[1] += rests < qty
            self.n_seen = number + 1
            order = Order(0, side, price, rests, 0, number, left=qty)
            self.by_number[number] = order
            if rests:
                self.book.append(order)
            if kind == O_SURFACE:
                for own in [
                    o for o in self.own if o.is_blind and (o.side, o.price) == (side, price)
                ]:
                    self.own.remove(own)
                    self.own.append(own)
                    own.number, own.is_blind = self.n_seen, False
        elif kind in (O_CANCEL, O_EXECUTE):
            budget = qty
            if kind == O_EXECUTE:
                budget = self.serve(side, price, number, qty)
            budget = budget if self.has_impact else qty
            order = self.by_number[number]
            order.left = left
            rests = order.qty if order in self.book else 0
            self.counts[0] += rests == 0
            self.counts[1] += 0 < rests < qty
            part = min(rests, budget)
            if kind == O_CANCEL and left == 0:
                part = rests
            elif kind == O_EXECUTE:
                self.counts[2] += budget - part
            order.qty -= part
            if rests and order.qty == 0:
                self.book.remove(order)
        else:
            ahead = [o.number for o in self.book if o.owner == 0 and o.left > 0]
            ahead = [n for n in ahead if self.by_number[n].price == price]
            ahead = [n for n in ahead if self.by_number[n].side == side]
            self.serve(side, price, min(ahead, default=10**9), qty)

    def receive(self, number: int, m) -> None:
        kind = NAMES[int(m["kind"])]
        side, price, qty, owner = (int(m[name]) for name in ("side", "price", "qty", "owner"))
        order = self.by_message.get(-1 - int(m["handle"]))
        order = order if order in self.own and order.owner == owner else None
        tag = int(m["tag"])
        if kind in ("cancel", "reduce", "modify"):
            if order is None:
                return
            if kind == "modify" and (price != order.price or qty > order.qty):
                self.own.remove(order)
                kind, side, tag = "limit", order.side, order.tag
            else:
                order.qty = {"cancel": 0, "reduce": order.qty - qty, "modify": qty}[kind]
                if order.qty <= 0:
                    self.own.remove(order)
                elif kind != "cancel":
                    self.by_message[number] = order
                return
        limit = price if kind != "market" else (2**31 if side > 0 else 1)
        offers = self.queue(self.book, -side)
        if not self.has_impact:
            offers = offers + self.queue(self.own, -side)
        offers = [o for o in offers if side * (limit - o.price) >= 0]
        if kind == "post_only" and offers:
            return
        if kind == "fok" and sum(o.qty for o in offers if o.owner != owner) < qty:
            return
        if not self.has_impact:
            shown: dict[int, int] = {}
            for o in self.queue(self.book, -side):
                if side * (limit - o.price) >= 0:
                    shown[o.price] = shown.get(o.price, 0) + o.qty
            for at, lots in shown.items():
                qty = self.meet(self.own, number, owner, side, at - side, qty) if qty else 0
                part = min(qty, lots)
                if part:
                    self.fill(number, None, side, at, part)
                    qty -= part
        if qty:
            qty = self.meet(self.own, number, owner, side, limit, qty)
        if qty and kind in ("limit", "post_only"):
            worst = self.history.reach[self.row - 1, 0 if side > 0 else 1] if self.row else 0
            blind = self.row == 0 or side * (int(worst) - price) > 0
            order = Order(owner, side, price, qty, tag, self.n_seen, blind)
            self.own.append(order)
            self.by_message[number] = order

    def run(self, messages, arrives: list[int]) -> None:
        h = self.history
        for number in range(len(messages) + 1):
            until = arrives[number] if number < len(messages) else END
            while self.row < len(h) and h.ts[self.row] <= until:
                self.ts = int(h.ts[self.row])
                for op in h.ops[h.first_op[self.row] : h.first_op[self.row + 1]].tolist():
                    self.play(op)
                self.row += 1
            if number < len(messages):
                self.ts = until
                self.receive(number, messages[number])

    def depth(self, levels: int) -> list[list[int]]:
        rows = []
        for side in (1, -1):
            lots: dict[int, int] = {}
            for o in self.queue(self.book, side):
                lots[o.price] = lots.get(o.price, 0) + o.qty
            pairs = [*lots.items(), *[(0, 0)] * levels][:levels]
            rows += [[price for price, _ in pairs], [n for _, n in pairs]]
        return rows
