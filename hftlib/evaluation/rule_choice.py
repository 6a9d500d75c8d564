"""Choose among rules on the training rows of a fold, and judge the choice on the tested ones."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.engine import Backtest
from hftlib.evaluation.walkforward import AnyFold, test_rows, train_rows
from hftlib.portfolio import measures

FloatArray = npt.NDArray[np.float64]


def choose_rule(
    result: Backtest, targets: FloatArray, periods_per_year: float, fold: AnyFold
) -> dict[str, npt.NDArray[Any]]:
    """The candidate with the best Sharpe ratio in training, and what it does when tested.

    A function for `fold_runs.run_folds`, with all but the fold filled in by
    `functools.partial`. The return of row t is earned from its last close to its own, on
    positions decided a bar or more before: `horizon_bars` of the folds must be at least the
    latency, and the rules causal.

    Parameters
    ----------
    result : Backtest
        Of all candidates over the whole clock.
    targets : array of shape (n_bars, n_candidates, n_assets)
        What it was run with.

    Returns
    -------
    dict
        `chosen`, the candidate; `train_sharpe` and `test_sharpe` of shape (n_candidates,), nan of
        one that did not trade; `train_returns`, `test_returns` of the chosen one, one for each
        row; `targets` of shape (n_tested, n_assets), to be joined and run as one account, so that
        changing from one rule to another is paid for. nan among the targets would keep the
        position of the rule before: spell them out first (`fold_accounts.spell_out`).

    Raises
    ------
    ValueError
        If no candidate traded in training.
    """
    returns = np.concatenate([np.zeros_like(result.equity[:1]), result.returns])
    rows = {"train": train_rows(fold), "test": test_rows(fold)}
    sharpe = {name: measures.sharpe(returns[own], periods_per_year) for name, own in rows.items()}
    if np.isnan(sharpe["train"]).all():
        raise ValueError(
            f"none of {len(result.strategies)} candidates traded on the {len(rows['train'])} "
            "training rows; give more rows, or rules with a shorter warm-up"
        )
    chosen = int(np.nanargmax(sharpe["train"]))
    return {
        "chosen": np.array(chosen),
        "train_sharpe": sharpe["train"],
        "test_sharpe": sharpe["test"],
        "train_returns": returns[rows["train"], chosen],
        "test_returns": returns[rows["test"], chosen],
        "targets": targets[rows["test"], chosen],
    }
