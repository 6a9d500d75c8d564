"""Speed of lightmatchingengine on the messages that `benchmarks` hands over.

Runs in the peers' interpreter, which has no `hftlib`: `python
peer_order_book.py FILE`, FILE being an `.npz` with `kind`, `side`, `price`,
`qty`, `handle` of each message as in `hftlib.market.book` and `traded`, the
lots that they trade. Prints one JSON line. The package has limit orders and
cancels; what an immediate-or-cancel order leaves is cancelled at once. It
cannot cancel an order that has filled, so those are asked for their lots first.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from lightmatchingengine.lightmatchingengine import LightMatchingEngine, Order, Side

PACKAGE = "lightmatchingengine"
LIMIT, IOC, CANCEL = 1, 3, 6
SYMBOL = "SYNTHETIC"


def run_messages(messages: list[tuple[int, int, int, int, int]]) -> tuple[float, int]:
    """Messages a second and lots traded."""
    engine = LightMatchingEngine()
    opened: list[Order | None] = []
    traded = 0
    start = time.perf_counter()
    for kind, side, price, qty, handle in messages:
        order = None
        if kind == CANCEL:
            resting = opened[-1 - handle]
            if resting.leaves_qty > 0:
                engine.cancel_order(resting.order_id, SYMBOL)
        else:
            order, _ = engine.add_order(SYMBOL, price, qty, Side.BUY if side > 0 else Side.SELL)
            traded += order.cum_qty
            if kind == IOC and order.leaves_qty > 0:
                engine.cancel_order(order.order_id, SYMBOL)
        opened.append(order)
    return len(messages) / (time.perf_counter() - start), traded


def main() -> None:
    """Warm up, measure once, print."""
    with np.load(sys.argv[1]) as data:
        columns = [data[name].tolist() for name in ("kind", "side", "price", "qty", "handle")]
        expected = int(data["traded"])
    messages = list(zip(*columns, strict=True))
    run_messages(messages[:1_000])
    speed, traded = run_messages(messages)
    if traded != expected:
        sys.exit(f"{PACKAGE} traded {traded} lots, expected {expected}")
    print(json.dumps({"peer": f"{PACKAGE} {version(PACKAGE)}", "speed": speed}))


if __name__ == "__main__":
    main()
