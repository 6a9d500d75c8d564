"""A market whose book is written out, and in which only the agents and a script act.

Actions in the units of an order are turned into numbers in [-1, 1] here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hftlib.envs import (
    Executor,
    Maker,
    MarketSettings,
    MarketVecEnv,
    RewardWeights,
    RiskLimits,
    Taker,
)
from hftlib.envs.backends import SimulatedBooks
from hftlib.market.batch import BatchMarket
from hftlib.market.book import ACK_FIELDS, FILL_FIELDS, KINDS
from hftlib.market.fundamental import JumpParams
from hftlib.market.matching import process
from tests.book_audit import read_queues
from tests.markets import SILENT

MAKER, EXECUTOR, TAKER = Maker(), Executor(parent_lots=200), Taker()
MID = 10_000
BIDS = ((9_999, 50), (9_998, 60), (9_997, 70), (9_990, 1000))
ASKS = ((10_001, 50), (10_002, 60), (10_003, 70), (10_010, 1000))
PLAIN = RewardWeights(0.0, 0.0, 0.0, 0.0)  # rewards are profit
UNIT = 0.01  # currency, of one tick of one lot
STEP_MS = 100.0

Entry = tuple[float, str, int, int, int]  # seconds into the step, kind, side, price, lots


@dataclass(frozen=True)
class Still:
    """Orders of somebody else that rest at the start, and what is sent in a step's course."""

    bids: Sequence[tuple[int, int]] = BIDS
    asks: Sequence[tuple[int, int]] = ASKS
    script: Mapping[int, Sequence[Entry]] = field(default_factory=dict)  # by step, from 0

    def build(self, n_worlds, n_agents, decision_s, n_steps):
        def open_market(n_books):
            return BatchMarket(
                n_books,
                flow=SILENT._replace(news_hz=1e-12),
                value=JumpParams(float(MID), 0.0, 0.0, 0.0, 0.0, 0.0),
                seed=0,
                step_ms=1000.0 * decision_s,
                warm_up_s=0.0,
                n_owners=n_agents + 1,
            )

        return StillBooks(open_market, n_worlds, self)


def message_rows(entries: Sequence[Entry]) -> np.ndarray:
    rows = [(KINDS[kind], side, price, qty, 0, 0, 0) for _, kind, side, price, qty in entries]
    return np.array(rows, dtype=np.int32).reshape(-1, 7)


class StillBooks(SimulatedBooks):
    def __init__(self, open_market, n_worlds, plan):
        super().__init__(open_market, n_worlds)
        self.plan, self.steps = plan, 0

    def open(self, first_world, episode):
        super().open(first_world, episode)
        self.steps = 0
        for b in range(self._market.n_books):
            self.fill_book(b)

    def open_one(self, b, world, episode):
        super().open_one(b, world, episode)
        self.fill_book(b)

    def fill_book(self, b):
        lanes = self._market.lanes
        sides = (1, self.plan.bids), (-1, self.plan.asks)
        rows = message_rows([(0.0, "limit", s, *level) for s, book in sides for level in book])
        acks = np.zeros((len(rows), len(ACK_FIELDS)), dtype=np.int32)
        fills = np.zeros((2000, len(FILL_FIELDS)), dtype=np.int32)
        if len(rows):
            process(lanes.state[b], lanes.accounts[b], rows, np.int64(0), acks, fills)

    def step(self, messages, delays_s):
        n = messages.shape[0]
        entries = self.plan.script.get(self.steps, ())
        extra = np.repeat(message_rows(entries)[None], n, axis=0)
        late = np.repeat(np.array([e[0] for e in entries])[None], n, axis=0).reshape(n, -1)
        self.steps += 1
        both = np.concatenate([messages, extra], axis=1)
        acks = super().step(both, np.concatenate([delays_s, late], axis=1))
        return np.ascontiguousarray(acks[:, : messages.shape[1]])


def open_still(roles, n_envs=1, *, bids=BIDS, asks=ASKS, script=None, reward=PLAIN, **settings):
    """A `MarketVecEnv` on such a book, reset; `settings` are those of all sections."""
    limits = {k: v for k, v in settings.items() if k in RiskLimits.__dataclass_fields__}
    market = {k: v for k, v in settings.items() if k in MarketSettings.__dataclass_fields__}
    others = {k: v for k, v in settings.items() if k not in limits and k not in market}
    env = MarketVecEnv(
        roles,
        n_envs,
        market=MarketSettings(**{"decision_ms": STEP_MS, "episode_steps": 20, **market}),
        risk=RiskLimits(**{"max_position_value": 1e9, **limits}),
        reward=reward,
        books=Still(bids, asks, script or {}),
        **others,
    )
    env.reset(seed=0)
    return env


def open_executor(side, **changes):
    """A market with an executor that has to buy or to sell."""
    env = open_still({"executor": changes.pop("role", EXECUTOR)}, **changes)
    seed = 0
    while np.sign(env.accounts()["parent"][0, 0]) != side:
        seed += 1
        env.reset(seed=seed)
    return env


def accounts_of(env) -> np.ndarray:
    """Accounts in the books, owner 0 first, shape (n_envs, n_agents + 1, 5)."""
    return env._books._market.lanes.accounts


def orders_of(env, owner, b=0) -> dict[int, tuple[int, int]]:
    """Price and lots of an agent's orders by side."""
    queues = read_queues(env._books._market.lanes.state[b])
    return {
        side: (price, lots)
        for side, prices in queues.items()
        for price, queue in prices.items()
        for _, lots, who, _ in queue
        if who == owner
    }


def queue_of(env, side, price, b=0) -> list[tuple[int, int]]:
    """Owner and lots of the orders at a price, oldest first."""
    queues = read_queues(env._books._market.lanes.state[b])
    return [(owner, lots) for _, lots, owner, _ in queues[side].get(price, [])]


def size_of(lots, largest):
    return -1.0 if lots == 0 else -0.8 + 1.8 * lots / largest


def quote(role, bid=0.5, ask=0.5, *, bid_lots=0, ask_lots=0, skew=0.0) -> np.ndarray:
    """A maker's action: distances and skew in ticks, shape (1, 5)."""
    offsets = [2.0 * (ticks - 0.5) / role.max_offset_ticks - 1.0 for ticks in (bid, ask)]
    sizes = [size_of(lots, role.max_size) for lots in (bid_lots, ask_lots)]
    shift = skew / role.max_skew_ticks if skew else 0.0
    return np.array([[*offsets, *sizes, shift]])


def work(role, ticks=0.0, lots=0) -> np.ndarray:
    """An executor's action: ticks through the mid, shape (1, 2)."""
    return np.array([[ticks / role.reach_ticks, size_of(lots, role.max_slice)]])


def trade(role, lots=0) -> np.ndarray:
    """A taker's action: signed lots, shape (1, 1)."""
    return np.array([[np.sign(lots) * (0.2 + 0.8 * abs(lots) / role.max_size)]])


def idle() -> np.ndarray:
    """A taker's action: none."""
    return np.zeros((1, 1))
