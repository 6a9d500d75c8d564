"""Small markets with known parameters, and a book rebuilt from a tape alone."""

from collections.abc import Iterable

import numpy as np

from hftlib.market.batch import BatchMarket
from hftlib.market.book import KINDS, MESSAGE_FIELDS
from hftlib.market.flow import FlowParams
from hftlib.market.fundamental import JumpParams, OUParams
from hftlib.market.simulator import Population, Simulator
from hftlib.market.tape import ADD, DELETE, EXECUTE, REDUCE, Tape
from tests.book_audit import read_queues

FLOW = FlowParams(
    rate_hz=9.0,
    branching=(0.3, 0.25, 0.25),
    decay_hz=(10.0, 0.5, 0.01),
    news_hz=1 / 900,
    news_share=0.5,
    day_shape=0.6,
    day_tilt=0.2,
    role_shares=(0.55, 0.02, 0.08, 0.02, 0.25, 0.08),
    inside_share=0.12,
    best_share=0.1,
    behind_scale=15.0,
    behind_exponent=1.5,
    lifetime_shares=(0.62, 0.3, 0.08),
    lifetimes_s=(0.25, 10.0, 400.0),
    order_size=100.0,
    take_size=90.0,
    n_parents=2,
    parent_exponent=1.5,
    parent_pieces=3.0,
    value_threshold=6.0,
    value_noise=4.0,
    trend_s=30.0,
    trend_threshold=8.0,
    maker_spread=5.0,
    maker_skew=0.1,
    maker_information=0.3,
)
SILENT = FLOW._replace(rate_hz=1e-12)  # nobody acts: the callers are alone
JUMP = JumpParams(22_000.0, 0.0, 4e-5, 1 / 600, 0.0, 8e-4)
OU = OUParams(22_000.0, 1 / 7200, 1.2, 1 / 3600, 25.0)
AGENTS = Population(
    (1000, 100, 102, 12, 2, 10),
    entry_ms=2.0,
    response_ms=2.0,
    maker_speed=0.1,
    jitter=0.3,
    value_error=4.0,
    maker_inventory_skew=0.002,
)
SECOND = 1_000_000_000


def open_batch(n_books: int = 1, **changes) -> BatchMarket:
    return BatchMarket(
        n_books, **{"flow": FLOW, "value": JUMP, "seed": 0, "warm_up_s": 20.0, **changes}
    )


def open_simulator(**changes) -> Simulator:
    defaults = {"flow": FLOW, "value": OU, "population": AGENTS, "seed": 0, "warm_up_s": 60.0}
    return Simulator(**{**defaults, **changes})


def bits(market: BatchMarket, books: slice = slice(None)) -> list[bytes]:
    """Every bit of the state of some books."""
    return [array[books].tobytes() for array in market.lanes]


def rows(*messages: dict[str, int | str]) -> np.ndarray:
    """Messages for one book, shape (1, n, 7)."""
    out = np.zeros((1, len(messages), len(MESSAGE_FIELDS)), dtype=np.int32)
    for row, message in zip(out[0], messages, strict=True):
        for name, value in message.items():
            row[MESSAGE_FIELDS.index(name)] = KINDS.get(value, value)
    return out


def draw_messages(rng: np.random.Generator, market: BatchMarket, acks: np.ndarray) -> np.ndarray:
    """Four a book: quotes near the market, cancels of what rests, and some nonsense."""
    n = market.n_books
    m = np.zeros((n, 4, len(MESSAGE_FIELDS)), dtype=np.int32)
    m[..., 0] = rng.choice(np.arange(9), (n, 4))
    m[..., 1] = rng.choice([1, -1], (n, 4))
    m[..., 2] = 22_000 - m[..., 1] * rng.integers(-6, 12, (n, 4))
    m[..., 3] = rng.integers(1, 400, (n, 4))
    m[..., 4] = rng.integers(0, market.lanes.accounts.shape[1], (n, 4))
    m[..., 5] = rng.permuted(acks[..., 1], axis=1)
    nonsense = rng.random(m.shape) < 0.02
    m[nonsense] = rng.choice([-1, 0, 17, 2**31 - 1, -(2**31)], nonsense.sum())
    return m


def play(
    market: BatchMarket, n_steps: int, seed: int, is_delayed: bool = False
) -> list[np.ndarray]:
    """Random callers; what they were told and saw, step by step."""
    rng, seen = np.random.default_rng(seed), []
    acks = np.zeros((market.n_books, 4, 4), dtype=np.int32)
    for _ in range(n_steps):
        messages, delays = draw_messages(rng, market, acks), None
        if is_delayed:
            delays = rng.uniform(0, market.session.step_s, messages.shape[:2])
        acks = market.step(messages, delays)
        seen += [acks, market.observe()]
    return seen


class TapeBook:
    """Orders in dictionaries; every event is checked against them.

    `orders` are (order id, side, price, lots), oldest first at each price.
    """

    def __init__(self, orders: Iterable[tuple[int, int, int, int]] = ()) -> None:
        self.sides: dict[int, dict[int, dict[int, int]]] = {1: {}, -1: {}}  # price, id: lots
        for order_id, side, price, lots in orders:
            self.sides[side].setdefault(price, {})[order_id] = lots

    @classmethod
    def of_state(cls, state) -> "TapeBook":
        queues = read_queues(state)
        return cls(
            (tag, side, price, lots)
            for side, prices in queues.items()
            for price, queue in prices.items()
            for _, lots, _, tag in queue
        )

    def apply(self, kind: int, order_id: int, size: int, price: int, direction: int) -> None:
        assert size > 0
        level = self.sides[direction].setdefault(price, {})
        if kind == ADD:
            assert order_id not in level
            level[order_id] = size
            return
        left = level[order_id] - size
        if kind == EXECUTE:
            assert price == self.best(direction)[0]
            assert order_id == next(iter(level)), "not the oldest at its price"
            assert left >= 0
        else:
            assert (kind == REDUCE and left > 0) or (kind == DELETE and left == 0)
        level[order_id] = left
        if left == 0:
            del level[order_id]
        if not level:
            del self.sides[direction][price]

    def best(self, side: int) -> tuple[int, int]:
        prices = self.sides[side]
        if not prices:
            return 0, 0
        price = max(prices) if side > 0 else min(prices)
        return price, sum(prices[price].values())

    def depth(self, side: int, levels: int) -> list[tuple[int, int]]:
        prices = sorted(self.sides[side], reverse=side > 0)[:levels]
        best = [(price, sum(self.sides[side][price].values())) for price in prices]
        return best + [(0, 0)] * (levels - len(best))

    def replay(self, tape: Tape, rows: slice = slice(None)) -> None:
        """Apply events and compare the quotes that the tape shows after each."""
        columns = [column[rows].tolist() for column in vars(tape).values()]
        for row in zip(*columns, strict=True):
            self.apply(*row[1:6])
            assert (*self.best(1), *self.best(-1)) == row[6:], row
