"""Parent orders worked in a recorded order book, each on its own account and venues."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, run_paper
from hftlib.live.paper_rules import PaperRules
from hftlib.live.parents import Parent
from hftlib.live.session import STORE, SessionPlan, open_engine
from hftlib.live.store import read_table
from hftlib.live.strategy import AccountView
from hftlib.live.ticks import Moment
from hftlib.live.venue_rules import VenueRules

Style = Literal["take", "quote"]


class _Idle:
    """Wants nothing, so that only the parent order trades."""

    def observe(self, moment: Moment) -> None:
        pass

    def decide(self, moment: Moment, account: AccountView) -> dict[str, float]:
        return {}


def work_parents(
    folder: Path,
    moments: Sequence[Moment],
    parents: Mapping[tuple[str, Style], Parent],
    rules: PaperRules,
    venues: Mapping[str, VenueRules],
) -> pd.DataFrame:
    """What each parent order cost in the same market, bought and sold.

    Both sides are counted together, so that a market which moves one way does not look like a gain.

    Parameters
    ----------
    folder : of the accounts' files
    moments : of one symbol's book
    parents : by name and by order style, "take" or "quote"
    rules : of which the order style is replaced

    Returns
    -------
    frame indexed by order and style
        done: share of the units that traded; fills; resting: share of the units that traded as
        maker; slippage_bps: mean price against the mid at the start, above 0 is worse; fee_bps;
        cost_bps: both; nan where nothing traded.

    Raises
    ------
    RuntimeError
        If trading was halted.
    """
    found = {}
    for (name, style), parent in parents.items():
        sides = []
        for side in (1, -1):
            own = replace(parent, quantity=side * abs(parent.quantity))
            at = folder / f"{name}-{style}-{side}"
            sides.append(_work(at, moments, own, replace(rules, order_style=style), venues))
        found[name, style] = _measure(pd.concat(sides), parent.quantity)
    return pd.DataFrame(found).T.rename_axis(["order", "style"])


def _work(
    folder: Path,
    moments: Sequence[Moment],
    parent: Parent,
    rules: PaperRules,
    venues: Mapping[str, VenueRules],
) -> pd.DataFrame:
    """The fills of one parent order, with the mid at the start as `arrival`."""
    plan = SessionPlan(
        name=parent.parent_id,
        folder=folder,
        rules=rules,
        venues=venues,
        feed=partial(Recording, moments),
        clock=AcceleratedClock,
        first_ns=moments[0].ts_ns,
    )
    engine, opened = open_engine(plan, _Idle())
    try:
        engine.submit_parent(parent)
        run_paper(engine, plan.feed(), plan.clock(plan.first_ns))
        if engine.halted:
            raise RuntimeError(f"{parent.parent_id} in {folder.name} was halted: {engine.halted}")
    finally:
        engine.desk.store.close()
        for venue in opened:
            venue.close()
    fills = read_table(folder / STORE, "fills")
    return fills.assign(arrival=moments[0].ticks[0].price)


def _measure(fills: pd.DataFrame, quantity: Decimal) -> dict[str, float]:
    units, price, fee = (fills[name].astype(float) for name in ("quantity", "price", "fee"))
    size = units.abs()
    notional, worse = float((size * price).sum()), float((units * (price - fills["arrival"])).sum())
    per = 1e4 / notional if notional else np.nan
    rested = float(size[fills["is_maker"] == 1].sum())
    return {
        "done": float(size.sum()) / (2 * abs(float(quantity))),
        "fills": float(len(fills)),
        "resting": rested / float(size.sum()) if len(fills) else np.nan,
        "slippage_bps": worse * per,
        "fee_bps": float(fee.sum()) * per,
        "cost_bps": (worse + float(fee.sum())) * per,
    }
