"""What two served models earn on bars that neither has seen, walked side by side.

Each symbol has an account of its own, kept by the environment that the artefacts name; features
are made from raw bars, as when the model is served.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from hftlib.agents.policy import play
from hftlib.data.panel import PanelError
from hftlib.envs.trading_rules import TradingRules
from hftlib.live.artefact import ArtefactError
from hftlib.live.backtest_job import PanelMaker, ServedPolicy, cut_panel
from hftlib.live.manifest import Manifest
from hftlib.portfolio.measures import simple_returns

OF_TRAINING = ("window_bars", "episode_bars", "reward")  # no account depends on these


def read_seen_until(manifest: Manifest) -> pd.Timestamp:
    """The last moment of the day until which a model was trained, tuned or chosen.

    Raises
    ------
    ArtefactError
        If its params do not name that day.
    """
    found = manifest.params.get("seen_until")
    try:
        day = date.fromisoformat(found if isinstance(found, str) else "")
    except ValueError:
        raise ArtefactError(
            f"{manifest.name}: params.seen_until is {found!r}; expected the day of the last bar "
            "that it was trained, tuned or chosen on, as 2012-12-31: export it anew with "
            "`make repro`, what it has seen cannot be known otherwise"
        ) from None
    return pd.Timestamp(day + timedelta(days=1), tz="UTC") - pd.Timedelta(1, unit="ns")


def match_rules(champion: Manifest, challenger: Manifest) -> tuple[str, ...]:
    """The symbols that both are judged on: the champion's.

    Raises
    ------
    ArtefactError
        If accounts are kept by different rules, or the challenger lacks a symbol.
    """
    keys = sorted({*champion.rules, *challenger.rules} - {*OF_TRAINING})
    differ = [
        f"{key} {old!r} and {new!r}"
        for key in keys
        if (old := champion.rules.get(key)) != (new := challenger.rules.get(key))
    ]
    if differ:
        raise ArtefactError(
            f"{champion.name} and {challenger.name} were made for different rules: "
            f"{'; '.join(differ)}. Train both under the same ones, or choose by hand with "
            "`python -m hftlib.live.models NAME`"
        )
    missing = sorted({*champion.symbols} - {*challenger.symbols})
    if missing:
        raise ArtefactError(
            f"{challenger.name} has no answer for {', '.join(missing)}, which {champion.name} "
            "serves; put them into datasets.symbols"
        )
    return champion.symbols


def count_unseen(bars: pd.DataFrame, symbols: Sequence[str], seen_until: pd.Timestamp) -> int:
    """Bars after `seen_until` of the symbol that has the fewest."""
    later = bars.loc[bars["ts"] > seen_until, "symbol"].value_counts()
    return min(int(later.get(symbol, 0)) for symbol in symbols)


def play_unseen(
    predictor: PanelMaker,
    rules: TradingRules,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    seen_until: pd.Timestamp,
) -> dict[str, pd.Series]:
    """Equity of each symbol's account, indexed by the time of the bar, UTC.

    It begins at the first unseen bar, before any order; only the features of the first
    observations look back at seen ones.

    Raises
    ------
    PanelError
        If a symbol has too few bars on which the model could act.
    """
    found = {}
    for symbol in symbols:
        panel = predictor.panel(bars[bars["symbol"] == symbol])
        start = int(np.searchsorted(panel.ts, seen_until.value, side="right"))
        first = max(0, start + 1 - rules.window_bars)
        if len(panel.ts) - first <= rules.window_bars + 1:
            raise PanelError(
                f"{symbol}: the model can act on {len(panel.ts) - start} bars after {seen_until}; "
                "bring more, or see which features are missing there"
            )
        cut = cut_panel(panel, int(panel.ts[first]), int(panel.ts[-1]))
        rollout = play(ServedPolicy(predictor), cut, rules)
        clock = pd.to_datetime(cut.ts[-len(rollout.equity) :], utc=True)
        found[symbol] = pd.Series(rollout.equity[:, 0, 0], clock)
    return found


def pair_returns(
    first: dict[str, pd.Series], second: dict[str, pd.Series]
) -> tuple[pd.Series, pd.Series]:
    """Simple returns of two models on their common bars, mean over symbols.

    A symbol without a bar at some time earns 0 there, so that its weight is always the same.
    """
    rows: tuple[dict[str, pd.Series], dict[str, pd.Series]] = ({}, {})
    for symbol in first:
        clock = first[symbol].index.intersection(second[symbol].index)
        for own, equity in zip(rows, (first[symbol], second[symbol]), strict=True):
            own[symbol] = pd.Series(simple_returns(equity[clock]), clock[1:])
    one, other = (pd.DataFrame(own).sort_index().fillna(0.0).mean(axis=1) for own in rows)
    return one, other
