"""What was trained or chosen fold by fold, as one account: targets joined, gaps, equity table.

Each fold says what to hold in its own test span. Joined on the clock and traded by one
account from the first span to the last, the strategy pays for changing from one fold's agents or
rule to the next one's, as whoever follows it does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Rollout
from hftlib.data.folds import Fold
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules
from hftlib.evaluation.backtest import equity_table
from hftlib.evaluation.engine import Backtest, Prices, run_backtest
from hftlib.evaluation.gap import measure_gap
from hftlib.evaluation.walkforward import AnyFold, join_paths
from hftlib.schema import WALK_FORWARD, validate

FloatArray = npt.NDArray[np.float64]
ByFold = Mapping[int, FloatArray]


def join_targets(
    folds: Sequence[AnyFold], values: Mapping[int, npt.ArrayLike], n_times: int
) -> FloatArray:
    """`join_paths` of target weights, but a fold without values holds nothing.

    Returns
    -------
    array of shape (n_times, n_paths, …)
        nan where nothing is decided, which leaves positions alone.
    """
    joined = join_paths(folds, values, n_times)
    for fold in folds:
        if fold.number not in values:
            for start, path in _starts(fold):
                joined[start, path] = 0.0
    return joined


def spell_out(targets: FloatArray, folds: Sequence[AnyFold]) -> FloatArray:
    """Targets that say what is held at the first row of each tested span.

    Where nan means "as before", an account that takes a strategy over there would keep what
    it had; spelt out, it takes over the position too.

    Parameters
    ----------
    targets : array of shape (n_bars, …)
        0 is held before the first that is not nan.
    """
    flat = pd.DataFrame(targets.reshape(len(targets), -1))
    held = flat.ffill().fillna(0.0).to_numpy().reshape(targets.shape)
    rows = sorted({start for fold in folds for start, _ in _starts(fold)})
    spelt = targets.copy()
    spelt[rows] = held[rows]
    return spelt


def run_account(
    prices: Prices,
    targets: FloatArray,
    rules: TradingRules,
    names: Sequence[str] | None = None,
    earlier: FloatArray | None = None,
) -> Backtest:
    """`run_backtest` of target weights under the costs, rates and limits of the environment.

    `rules.sectors` of other symbols than these are left out; `earlier` are closes before the
    first row, for a limit on the value at risk.
    Limits to drawdown and margin, which end an episode, do not end the account.
    """
    return run_backtest(
        prices,
        targets,
        rules.costs,
        initial_cash=rules.initial_cash,
        max_leverage=rules.limits.max_leverage,
        min_trade_weight=rules.min_trade_weight / len(prices.symbols),
        ruin_fraction=rules.ruin_fraction,
        financing=rules.financing,
        strategies=names,
        risk=rules.risk,
        sectors={name: s for name, s in rules.sectors.items() if name in prices.symbols},
        var_decay=rules.var_decay,
        earlier=earlier,
    )


def bar_returns(equity: FloatArray) -> FloatArray:
    """Returns of capital that is split over members, for equity of shape (n_bars, n_members).

    Row t is earned from row t - 1 to t; row 0 is 0, so that there is one for each bar.
    """
    book = equity.mean(axis=1)
    returns = np.zeros(len(book))
    returns[1:] = book[1:] / book[:-1] - 1.0
    return returns


def add_ensemble(members: Mapping[str, ByFold]) -> dict[str, ByFold]:
    """Targets of each member, and the mean over all seeds of all members, "ensemble".

    Parameters
    ----------
    members : mapping of name to targets by fold, shape (n_rows, n_seeds, n_assets)
        The ensemble has the folds that all members have.

    Returns
    -------
    dict
        Empty without members; the ensemble's targets have shape (n_rows, n_assets).
    """
    if not members:
        return {}
    common = set.intersection(*(set(own) for own in members.values()))
    mean = {
        number: np.concatenate([own[number] for own in members.values()], axis=1).mean(axis=1)
        for number in sorted(common)
    }
    return {**members, "ensemble": mean}


def average_targets(members: Sequence[FloatArray]) -> FloatArray:
    """Mean of what all seeds of all members want on one clock; who has no value holds nothing.

    Parameters
    ----------
    members : arrays of shape (n_times, n_seeds, n_assets)

    Returns
    -------
    array of shape (n_times, n_assets)
    """
    mean: FloatArray = np.nan_to_num(np.concatenate([*members], axis=1)).mean(axis=1)
    return mean


def earn_in_training(
    prices: Prices, folds: Sequence[Fold], targets: ByFold, rules: TradingRules
) -> dict[int, FloatArray]:
    """`bar_returns` of accounts that trade training targets on their own training rows.

    Parameters
    ----------
    targets : mapping of fold number to array of shape (n_train, n_members, n_assets)
        Or (n_train, n_assets) of one member. A fold may be missing.
    """
    found = {}
    for fold in folds:
        if fold.number in targets:
            result = run_account(prices.rows(*fold.train), targets[fold.number], rules)
            found[fold.number] = bar_returns(result.equity)
    return found


def cut_returns(returns: FloatArray, folds: Sequence[Fold], start: int) -> dict[int, FloatArray]:
    """Returns of the tested span of each fold; row 0 of `returns` is `start` on the clock."""
    return {fold.number: returns[fold.test[0] - start : fold.test[1] - start] for fold in folds}


def gaps_by_fold(
    train: Mapping[str, ByFold], test: Mapping[str, ByFold], periods_per_year: float, **how: Any
) -> pd.DataFrame:
    """`measure_gap` in each fold, of the strategies that have returns in training there.

    Parameters
    ----------
    train, test : mapping of strategy to returns by fold
    how
        As `measure_gap` takes it: n_bootstrap, confidence, seed.

    Returns
    -------
    frame indexed by fold, strategy and measure
    """
    tables = {}
    for number in sorted({number for own in train.values() for number in own}):
        names = [name for name, own in train.items() if number in own]
        before, after = ({name: part[name][number] for name in names} for part in (train, test))
        tables[number] = measure_gap(before, after, periods_per_year, **how)
    return pd.concat(tables, names=["fold"])


def spans_table(schemes: Mapping[str, Sequence[Fold]], clock: pd.DatetimeIndex) -> pd.DataFrame:
    """Spans of walk-forward folds by date, for a reader: folds are counted from 1.

    Returns
    -------
    frame with columns scheme, fold, span (training or test), first, last, bars
    """
    rows = [
        (scheme, fold.number + 1, name, clock[start], clock[stop - 1], stop - start)
        for scheme, folds in schemes.items()
        for fold in folds
        for name, (start, stop) in (("training", fold.train), ("test", fold.test))
    ]
    return pd.DataFrame(rows, columns=["scheme", "fold", "span", "first", "last", "bars"])


def walk_table(
    schemes: Mapping[str, Mapping[str, Sequence[Rollout]]], panel: BarPanel
) -> pd.DataFrame:
    """Equity of each strategy as `schema.WALK_FORWARD`, the mean over its members."""
    parts = [equity_table(own, panel).assign(scheme=scheme) for scheme, own in schemes.items()]
    keys = ["strategy", "scheme", "ts"]
    table = pd.concat(parts).groupby(keys, sort=False)["equity"].mean().reset_index()
    return validate(table.astype({"scheme": "str"})[WALK_FORWARD.names], WALK_FORWARD)


def _starts(fold: AnyFold) -> list[tuple[int, int]]:
    """First row of each tested span, and its path."""
    if isinstance(fold, Fold):
        return [(fold.test[0], 0)]
    return [(start, path) for (start, _), path in zip(fold.tests, fold.paths, strict=True)]
