"""Trades a fixed account in a folder until its end, and goes on where it was: run as a script.

The venues' files lie in the same folder: what is killed is engine and venues together, at any
instruction of either.
"""

import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars, run_paper
from hftlib.live.parents import twap
from hftlib.live.store import read_table
from tests.conftest import make_bars
from tests.paper_cases import FINE, close_engine, open_engine, whole_targets

SYMBOLS = ("AAA", "BBB")
N_BARS = 60
SHALLOW = replace(FINE, level_units=4.0, n_levels=3, taker_fee_bps=1.0)
VENUES = {
    "deep": FINE,
    "near": SHALLOW,
    "slow": replace(SHALLOW, latency_ns=10**6, maker_fee_bps=-0.5),
}


def main(folder: Path, style: str = "take") -> None:
    bars = make_bars(N_BARS, SYMBOLS)
    moments = read_bars(bars)
    engine = open_engine(
        folder,
        SYMBOLS,
        whole_targets(N_BARS, 2),
        venues=VENUES,
        now_ns=moments[0].ts_ns,  # at every start, as a session does
        cash=Decimal(100_000),
        order_style=style,
    )
    if not read_table(engine.desk.store.path, "parents")["parent_id"].eq("slices").any():
        span = {"start_ns": moments[9].ts_ns, "end_ns": moments[-9].ts_ns, "n_slices": 12}
        engine.submit_parent(twap("slices", "BBB", Decimal(-60), **span))
    run_paper(engine, Recording(moments), AcceleratedClock())
    close_engine(engine)
    if engine.halted:
        sys.exit(engine.halted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
