"""A backtest of a served model on the recorded bars, as a process of its own.

Reads a request as JSON from standard input (`model`, `split`, `symbols`), writes the
result as JSON to standard output; a fault goes to standard error with exit code 1.
Features are made by the served predictor from the raw bars, accounts are kept by
the environment it was trained in: under the rules of its manifest, whatever `params.yaml`
says by now. A look at the test span is logged, as in the reports.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib import openings
from hftlib.agents.policy import Policy, play
from hftlib.config import ParamsError, load
from hftlib.data.panel import BarPanel, PanelError
from hftlib.envs.rewards import RewardSettings
from hftlib.envs.trading_rules import Financing, Limits, TradingRules
from hftlib.evaluation.backtest import average
from hftlib.live.artefact import load_artefact
from hftlib.live.predictor import Predictor
from hftlib.live.protocols import ModelError, Prediction
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.measures import periods_per_year
from hftlib.portfolio.risk import RiskLimits


class PanelMaker(Protocol):
    """What a backtest needs of a predictor."""

    def panel(self, bars: pd.DataFrame) -> BarPanel:
        """Bars of one symbol as the policy sees them."""

    def predict(self, observations: npt.NDArray[np.float32]) -> Prediction:
        """Actions."""


class ServedPolicy:
    """A predictor as a policy of the environment."""

    def __init__(self, predictor: PanelMaker) -> None:
        self._predictor = predictor

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Actions of shape (n, 1)."""
        action = np.asarray(self._predictor.predict(observations).action, np.float32)
        return action.reshape(len(observations), 1)


class _BuyAndHold:
    """The largest position the rules allow, always."""

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.ones((len(observations), 1), np.float32)


def read_rules(values: Mapping[str, Any]) -> TradingRules:
    """Rules as a manifest writes them: the fields by name, costs as a list.

    Raises
    ------
    ModelError
        If a field is missing, unknown or out of range.
    """
    try:
        risk = values["risk"]
        parts = {
            "costs": Costs(*values["costs"]),
            "limits": Limits(**values["limits"]),
            "financing": Financing(**values["financing"]),
            "reward": RewardSettings(**values["reward"]),
            "risk": None if risk is None else RiskLimits(**risk),
        }
        return TradingRules(**{**values, **parts})
    except (KeyError, TypeError, ValueError) as fault:
        raise ModelError(
            f"the manifest's rules are none of this code's environment: {fault}; export the "
            "model again"
        ) from fault


def run_backtest(
    predictor: PanelMaker,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    rules: TradingRules,
    first_ns: int,
    last_ns: int,
) -> dict[str, Any]:
    """Per symbol what the model and buy-and-hold earned between two times.

    Parameters
    ----------
    bars : frame as `schema.BARS`
        From the first one on, for features look back.
    first_ns, last_ns : int
        Start of the first and last bar traded, nanoseconds UTC, both included.

    Returns
    -------
    dict
        `{symbol: {first, last, n_bars, model, buy_and_hold}}`, the last two as
        `evaluation.backtest.average`.

    Raises
    ------
    ValueError
        If a symbol has no bars, or too few in the span.
    """
    found: dict[str, Any] = {}
    for symbol in symbols:
        own = bars[(bars["symbol"] == symbol) & (bars["ts"] <= pd.Timestamp(last_ns, tz="UTC"))]
        if not len(own):
            raise PanelError(f"there are no bars of {symbol}; ask for one of the recorded symbols")
        panel = cut_panel(predictor.panel(own), first_ns, last_ns)
        if len(panel.ts) <= rules.window_bars + 1:
            raise PanelError(
                f"{symbol} has {len(panel.ts)} bars in the span; expected more than "
                f"{rules.window_bars + 1}"
            )
        per_year = periods_per_year(panel.ts)
        played: dict[str, Policy] = {
            "model": ServedPolicy(predictor),
            "buy_and_hold": _BuyAndHold(),
        }
        found[symbol] = {
            "first": str(pd.Timestamp(panel.ts[0], tz="UTC")),
            "last": str(pd.Timestamp(panel.ts[-1], tz="UTC")),
            "n_bars": len(panel.ts),
        } | {name: average([play(one, panel, rules)], per_year) for name, one in played.items()}
    return found


def cut_panel(panel: BarPanel, first_ns: int, last_ns: int) -> BarPanel:
    """The rows of a panel of one symbol between two times."""
    start, stop = np.searchsorted(panel.ts, [first_ns, last_ns + 1])
    rows: dict[str, Any] = {
        name: None if values is None else values[start:stop]
        for name, values in vars(panel).items()
        if name in ("ts", "open", "close", "features", "volume", "forecast", "uncertainty")
    }
    return replace(panel, segments=np.array([[0, stop - start]]), **rows)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The result of one request on the project's bars and models."""
    params = load()
    paths, dates = params.paths, params.datasets
    served = Path(os.environ.get("HFTLIB_MODELS") or paths.served)
    predictor = Predictor(load_artefact(served, request["model"]))
    rules = read_rules(predictor.manifest.rules)
    bars = pd.read_parquet(paths.bars)
    is_test = request["split"] == "test"
    before = dates.validation_end if is_test else dates.train_end
    first = pd.Timestamp(before + timedelta(days=1), tz="UTC").value
    after = pd.Timestamp(dates.validation_end + timedelta(days=1), tz="UTC").value
    last = int(pd.Timestamp(bars["ts"].max()).value) if is_test else after - 1
    symbols = request["symbols"] or predictor.card.symbols
    if is_test:
        judged = f"{predictor.card.name} {predictor.card.version}"
        openings.log_opening(
            paths.tracking,
            stage="live_backtest",
            first=str(pd.Timestamp(first, tz="UTC").date()),
            last=str(pd.Timestamp(last, tz="UTC").date()),
            strategies=hashlib.sha256(judged.encode()).hexdigest(),
        )
    return run_backtest(predictor, bars, symbols, rules, first, last)


def main() -> int:
    """One request from standard input."""
    try:
        result = answer(json.load(sys.stdin))
    except (ValueError, OSError, ParamsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
