"""A recording replayed through a running service, and held against the training's environment."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import play
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.live.feeds import run_paper
from hftlib.live.policy_strategy import Decided, PolicyService, PolicyStrategy
from hftlib.live.predictor import Predictor
from hftlib.live.session import STORE, SessionPlan, open_engine
from hftlib.live.store import read_table

Float32Array = npt.NDArray[np.float32]
AMOUNTS = ("quantity", "price", "fee", "mark", "asked", "allowed", "equity", "cash", "fees")


class Replay(NamedTuple):
    """What came of a recording; each a frame, amounts as numbers, times in nanoseconds UTC.

    Attributes
    ----------
    decisions : columns of `Decided`
    fills, parents, checks, marks, alerts : as the account's file has them
    halted : why trading was halted, "" if it was not
    """

    decisions: pd.DataFrame
    fills: pd.DataFrame
    parents: pd.DataFrame
    checks: pd.DataFrame
    marks: pd.DataFrame
    alerts: pd.DataFrame
    halted: str

    @property
    def equity(self) -> pd.Series:
        """At closes, indexed by time, UTC."""
        closes = self.marks[self.marks["kind"] == "close"]
        return pd.Series(
            closes["equity"].to_numpy(), pd.to_datetime(closes["ts_ns"], utc=True), name="equity"
        )


def replay(plan: SessionPlan, service: PolicyService) -> Replay:
    """Trade a plan from its beginning to its end, or until trading is halted.

    Raises
    ------
    FileExistsError
        If the plan's folder has an account already.
    """
    if (plan.folder / STORE).exists():
        raise FileExistsError(f"{plan.folder} has an account; replay into an empty folder")
    strategy = PolicyStrategy(service, plan.rules.symbols, plan.max_weight)
    engine, venues = open_engine(plan, strategy)
    try:
        run_paper(engine, plan.feed(), plan.clock(plan.first_ns), start_ns=plan.first_ns)
        halted = engine.halted
    finally:
        engine.desk.store.close()
        for venue in venues:
            venue.close()
    names = ("fills", "parents", "checks", "marks", "alerts")
    tables = {name: _numbers(read_table(plan.folder / STORE, name)) for name in names}
    decisions = pd.DataFrame(list(strategy.decisions), columns=Decided._fields)
    return Replay(decisions=decisions, halted=halted, **tables)


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    own = [name for name in AMOUNTS if name in table]
    return table.assign(**{name: table[name].astype(float) for name in own})


class _Listener:
    """A served policy in the environment; keeps what it sees and says."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.seen: list[tuple[Float32Array, Float32Array]] = []

    def act(self, observations: Float32Array) -> Float32Array:
        action = np.asarray(self._predictor.predict(observations).action, np.float32)
        self.seen.append((observations[:, -1].copy(), action[:, 0]))
        return action


def decide_in_environment(
    predictor: Predictor, panel: BarPanel, rules: TradingRules
) -> tuple[pd.DataFrame, pd.Series]:
    """What a model decides in `TradingEnv`, on one symbol from a panel's first window on.

    Returns
    -------
    frame with columns ts_ns, symbol, action, exposure
    series indexed by time, UTC
        Equity at closes as a multiple of its start.
    """
    listener = _Listener(predictor)
    rollout = play(listener, panel, rules)
    ts = panel.ts[rules.window_bars - 1 :]
    exposure, action = (np.concatenate(values) for values in zip(*listener.seen, strict=True))
    n = len(action)
    decisions = pd.DataFrame({"ts_ns": ts[:n], "symbol": panel.symbols[0], "action": action})
    equity = rollout.total_equity[:, 0]
    index = pd.to_datetime(ts[: len(equity)], utc=True)
    return decisions.assign(exposure=exposure), pd.Series(equity, index, name="equity")


def compare_decisions(replayed: pd.DataFrame, simulated: pd.DataFrame) -> dict[str, float]:
    """Decisions of the same bars; the environment ends a bar earlier, at whose close nobody trades.

    Returns
    -------
    dict
        decisions: that both have; only_one: that one has alone, but for that bar; action,
        exposure: largest absolute differences; changes: mean absolute change of the action from
        bar to bar, so that a policy which never moves is told.
    """
    keys = ["ts_ns", "symbol"]
    shown = replayed[replayed["ts_ns"] <= simulated["ts_ns"].max()]
    both = shown.merge(simulated, on=keys, how="outer", suffixes=("", "_env"), indicator=True)
    shared = both[both["_merge"] == "both"]
    moved = replayed.groupby("symbol")["action"].diff().abs()
    return {
        "decisions": len(shared),
        "only_one": len(both) - len(shared),
        "action": float((shared["action"] - shared["action_env"]).abs().max()),
        "exposure": float((shared["exposure"] - shared["exposure_env"]).abs().max()),
        "changes": float(moved.mean()),
    }


def ask_again(
    predictor: Predictor, panels: Mapping[str, BarPanel], decisions: pd.DataFrame
) -> npt.NDArray[np.float64]:
    """Actions of a model in this process for what a replay saw, in the order of its decisions.

    Parameters
    ----------
    panels : by symbol, as `Predictor.panel` of all bars

    Raises
    ------
    ValueError
        If a bar of the decisions is not in its panel, or fewer bars than a window are before it.
    """
    window = predictor.window_bars
    rows = []
    for decided in decisions.itertuples():
        panel = panels[str(decided.symbol)]
        end = int(np.searchsorted(panel.ts, decided.ts_ns)) + 1
        if end > len(panel.ts) or panel.ts[end - 1] != decided.ts_ns or end < window:
            raise ValueError(f"the panel of {decided.symbol} has no window up to {decided.ts_ns}")
        account = np.array([np.sign(decided.exposure), decided.exposure], dtype=np.float32)
        rows.append(np.concatenate([panel.features[end - window : end].ravel(), account]))
    answers = predictor.predict(np.stack(rows))
    return np.asarray(answers.action, dtype=np.float64).reshape(len(rows))


def summarise_fills(replayed: Replay) -> pd.DataFrame:
    """Costs by venue, and of all.

    Returns
    -------
    frame indexed by venue
        fills; notional; share of it; slippage_bps of the notional, price against the mark at
        which the order was decided to be sent, above 0 is worse; fee_bps; cost_bps, both.
    """
    fills = replayed.fills.assign(
        notional=replayed.fills["quantity"].abs() * replayed.fills["price"]
    )
    fills["slippage"] = fills["quantity"] * (fills["price"] - fills["mark"])
    own = ["notional", "slippage", "fee"]
    sums = fills.groupby("venue")[own].sum()
    sums.insert(0, "fills", fills.groupby("venue").size())
    sums.loc["all"] = sums.sum()
    table = pd.DataFrame({"fills": sums["fills"].astype(int), "notional": sums["notional"]})
    table["share"] = sums["notional"] / sums.loc["all", "notional"]
    table["slippage_bps"] = 1e4 * sums["slippage"] / sums["notional"]
    table["fee_bps"] = 1e4 * sums["fee"] / sums["notional"]
    table["cost_bps"] = table["slippage_bps"] + table["fee_bps"]
    return table


def count_checks(replayed: Replay) -> pd.DataFrame:
    """What the risk engine made of orders: numbers by action and by the limit that was behind it.

    Returns
    -------
    frame indexed by limit, columns shrink and reject; "none" for orders that passed, column accept
    """
    checks = replayed.checks
    limit = checks["reasons"].str.split(":").str[0].replace("", "none")
    return pd.crosstab(limit.rename("limit"), checks["action"])


def quantiles_ms(decisions: pd.DataFrame) -> dict[str, float]:
    """Milliseconds of the questions, each counted once however many symbols it had."""
    seconds = decisions.drop_duplicates("ts_ns")["seconds"]
    values: dict[str, Any] = (1e3 * seconds.quantile([0.5, 0.9, 0.99, 1.0])).to_dict()
    return {f"p{100 * q:g}": float(v) for q, v in values.items()}
