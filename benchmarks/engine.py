"""Speed of the matching engine on a mixed stream of orders, cancels and executions.

Orders rest for an exponential time at a geometric distance from a mid that
walks; aggressive orders take about a sixth of them first.
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.timing import Result, compare_speeds, time_call
from hftlib.market.book import KINDS, MESSAGE, OrderBook

N_ADDS = 300_000
LIFE_MESSAGES = 400  # mean number of orders that arrive while one rests
TAKERS_PER_ADD = 0.12
# ABIDES's order book by itself, measured once on a shared two-core machine
ABIDES_ORDERS_PER_S = 32_000


def make_stream(n_adds: int, rng: np.random.Generator) -> npt.NDArray[np.void]:
    """Messages in the order of their random times: each order is cancelled if it is not taken."""
    n_takers = int(n_adds * TAKERS_PER_ADD)
    added = np.arange(n_adds, dtype=np.float64)
    cancelled = added + rng.exponential(LIFE_MESSAGES, n_adds) + 0.5
    taken = rng.random(n_takers) * n_adds
    order = np.argsort(np.concatenate([added, cancelled, taken]), kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    mid = 10_000 + np.cumsum(rng.choice([-1, 0, 1], n_adds, p=[0.005, 0.99, 0.005]))

    messages = np.zeros(len(order), dtype=MESSAGE)
    adds, cancels, takers = np.split(messages, [n_adds, 2 * n_adds])
    adds["kind"], adds["side"] = KINDS["limit"], rng.choice([-1, 1], n_adds)
    adds["price"] = mid - adds["side"] * rng.geometric(0.1, n_adds)
    adds["qty"] = rng.integers(1, 10, n_adds)
    cancels["kind"], cancels["handle"] = KINDS["cancel"], -1 - place[:n_adds]
    takers["kind"], takers["side"] = KINDS["ioc"], rng.choice([-1, 1], n_takers)
    takers["price"] = mid[taken.astype(np.int64)] + 20 * takers["side"]
    takers["qty"] = rng.integers(1, 10, n_takers)
    return messages[order]


def measure_engine(peers: str | None) -> list[Result]:
    """One book against ABIDES's figure, and against a peer on the same messages.

    The peer gets one Python call a message and must trade the same lots.
    """
    stream = make_stream(N_ADDS, np.random.default_rng(5))
    fills, _ = OrderBook().process(stream)

    def speed() -> float:
        OrderBook().process(stream)  # the peer's run has emptied the caches
        return len(stream) / time_call(lambda: OrderBook().process(stream))

    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        columns = {name: stream[name] for name in ("kind", "side", "price", "qty", "handle")}
        np.savez(task, traded=fills["qty"].sum(), **columns)
        compared = compare_speeds(speed, "order_book", peers, task)
    value, peer, ratio = compared.value, compared.peer, compared.ratio
    one = None if peer is None else 1.0
    return [
        Result("engine", value, "messages/s", peer, compared.peer_value, 10_000_000),
        Result("engine_over_abides", value / ABIDES_ORDERS_PER_S, "times", target=100),
        Result("engine_over_peer", ratio, "times", peer, one),
    ]
