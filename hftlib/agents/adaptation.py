"""Online adaptation: a trained agent goes on learning on new bars, or is left as it was.

The newest part of the new bars is held out. Training starts from the agent's
weights, on the rest of the new bars and on stretches of old ones, so that what
is rare lately is not forgotten. If the held-out part then goes worse than
before, or training diverges, the old weights stay.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftlib.agents.online import train_agent
from hftlib.agents.online_policy import Design, LearntPolicy, Weights
from hftlib.agents.online_record import evaluate_policy, score_of
from hftlib.agents.online_settings import OnlineSettings
from hftlib.data.panel import OPTIONAL, BarPanel
from hftlib.envs.trading_rules import TradingRules

logger = logging.getLogger(__name__)
COLUMNS = ("ts", "open", "close", "features")


@dataclass(frozen=True)
class AdaptationRules:
    """How far an adaptation may go; defaults are cautious.

    Attributes
    ----------
    holdout_share : float
        Of the new bars of each symbol, (0, 1): its last ones, from which nothing is learnt.
    old_share : float
        Of the bars trained on, [0, 1): drawn from the old ones.
    old_stretch_bars : int
        Length of one such stretch.
    tolerance : float
        Fall of the annual Sharpe ratio on the held-out bars that is accepted.
    """

    holdout_share: float = 0.3
    old_share: float = 0.3
    old_stretch_bars: int = 63
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "holdout_share": 0 < self.holdout_share < 1,
            "old_share": 0 <= self.old_share < 1,
            "old_stretch_bars": self.old_stretch_bars >= 1,
            "tolerance": self.tolerance >= 0,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; see AdaptationRules for its range"
                )


@dataclass(frozen=True)
class Adaptation:
    """What came of one adaptation.

    Attributes
    ----------
    weights : dict of arrays
        The new ones, or the very arrays that came in.
    is_kept : bool
        Whether they are the new ones.
    before, after : float
        Annual Sharpe ratio on the held-out bars, 0 of an account that never trades; `after` is nan
        if training diverged.
    reason : str
        In words, for a log.
    n_new_bars, n_old_bars, n_held_out : int
        Rows trained on, new and old, and rows that judged.
    """

    weights: Weights
    is_kept: bool
    before: float
    after: float
    reason: str
    n_new_bars: int
    n_old_bars: int
    n_held_out: int


def adapt_agent(
    weights: Weights,
    design: Design,
    new: BarPanel,
    old: BarPanel,
    rules: TradingRules,
    settings: OnlineSettings,
    seed: int,
    limits: AdaptationRules | None = None,
    *,
    scratch: Path | None = None,
) -> Adaptation:
    """Go on training on new bars, with a rollback.

    Parameters
    ----------
    weights, design : of the agent, as in `online.Trained`
    new, old : BarPanel
        The agent's features, scaled by its scaler; all of `new` is later than its training.
    rules : TradingRules
        Those it was trained with.
    settings : OnlineSettings
        Those it was trained with, but for a small learning rate and few steps; for SAC and TD3
        `n_warmup_steps=0`, since random actions would teach nothing new. `patience` is not used:
        the held-out bars cannot both choose and judge.
    seed : int
        Fixes the draw of old bars and the training.
    limits : AdaptationRules, optional
    scratch : folder, optional
        For checkpoints, see `online.train_agent`.

    Returns
    -------
    Adaptation

    Raises
    ------
    ValueError
        If the features differ from those of the agent, a symbol has too few new bars, or the
        agent holds a portfolio.
    """
    limits = AdaptationRules() if limits is None else limits
    if rules.is_portfolio:
        raise ValueError(
            "an agent that holds a portfolio cannot be adapted: stretches of old bars would be "
            "further assets; train it anew, or use is_portfolio=False"
        )
    for name, panel in (("the agent for the new bars", new), ("the agent for the old bars", old)):
        design.check_features(panel.feature_names, name)
    lesson, exam = split_new_bars(new, limits.holdout_share, rules.window_bars + 1)
    rng = np.random.default_rng(seed)
    n_new = len(lesson.ts)
    n_wanted = round(n_new * limits.old_share / (1 - limits.old_share))
    stretch = max(limits.old_stretch_bars, rules.window_bars + 1)
    mixed = add_old_bars(lesson, old, n_wanted, stretch, rng) if n_wanted else lesson
    with torch.random.fork_rng(devices=[]):
        policy = LearntPolicy(weights, design)
    before = score_of(evaluate_policy(policy, "held out", exam, rules, 0))
    after, learnt = float("nan"), weights
    try:
        steady = replace(settings, patience=None)
        trained = train_agent(mixed, exam, rules, steady, seed, start=weights, scratch=scratch)
    except FloatingPointError as error:
        is_kept, reason = False, f"rolled back: {error}"
    else:
        learnt = trained.weights
        with torch.random.fork_rng(devices=[]):
            policy = LearntPolicy(learnt, design)
        after = score_of(evaluate_policy(policy, "held out", exam, rules, trained.step))
        is_kept = after >= before - limits.tolerance
        verb = "kept" if is_kept else "rolled back"
        reason = (
            f"{verb}: Sharpe ratio on {len(exam.ts)} held-out bars {before:.2f} before, "
            f"{after:.2f} after, tolerance {limits.tolerance:g}"
        )
    logger.info(reason)
    return Adaptation(
        weights=learnt if is_kept else weights,
        is_kept=is_kept,
        before=before,
        after=after,
        reason=reason,
        n_new_bars=n_new,
        n_old_bars=len(mixed.ts) - n_new,
        n_held_out=len(exam.ts),
    )


def split_new_bars(
    panel: BarPanel, holdout_share: float, least_bars: int
) -> tuple[BarPanel, BarPanel]:
    """The first bars of every symbol, and its last ones; neither shorter than `least_bars`.

    Raises
    ------
    ValueError
        If a symbol is too short for both; names it.
    """
    pieces: list[list[tuple[str, int, int]]] = [[], []]
    for symbol, (start, stop) in zip(panel.symbols, panel.segments.tolist(), strict=True):
        n_bars = stop - start
        n_held = max(round(n_bars * holdout_share), least_bars)
        if n_bars - n_held < least_bars:
            raise ValueError(
                f"{symbol} has {n_bars} new bars; expected at least {2 * least_bars}, half of them "
                "held out: wait for more, or use a shorter window"
            )
        pieces[0].append((symbol, start, stop - n_held))
        pieces[1].append((symbol, stop - n_held, stop))
    return cut_panel(panel, pieces[0]), cut_panel(panel, pieces[1])


def add_old_bars(
    lesson: BarPanel, old: BarPanel, n_bars: int, stretch_bars: int, rng: np.random.Generator
) -> BarPanel:
    """The lesson and stretches of old bars, about `n_bars` in all, as further symbols.

    Stretches start at random rows, may overlap, and never cross two symbols.

    Raises
    ------
    ValueError
        If no symbol has as many old bars as a stretch.
    """
    lengths = old.segments[:, 1] - old.segments[:, 0]
    starts = np.concatenate(
        [np.arange(a, b - stretch_bars + 1) for a, b in old.segments if b - a >= stretch_bars]
        or [np.empty(0, dtype=np.int64)]
    )
    if not len(starts):
        raise ValueError(
            f"the longest symbol has {lengths.max()} old bars; a stretch needs {stretch_bars}: "
            "pass more, or set old_share=0"
        )
    first = rng.choice(starts, size=max(1, round(n_bars / stretch_bars)))
    pieces = [(f"old {k}", int(row), int(row) + stretch_bars) for k, row in enumerate(first)]
    return join_panels(lesson, cut_panel(old, pieces))


def cut_panel(panel: BarPanel, pieces: list[tuple[str, int, int]]) -> BarPanel:
    """Stretches of rows, each a symbol of the name given."""
    rows = np.concatenate([np.arange(start, stop) for _, start, stop in pieces])
    ends = np.cumsum([stop - start for _, start, stop in pieces])
    columns: dict[str, Any] = {}
    for name in (*COLUMNS, *OPTIONAL):
        values = getattr(panel, name)
        columns[name] = None if values is None else values[rows]
    return BarPanel(
        symbols=tuple(name for name, _, _ in pieces),
        segments=np.stack([np.append(0, ends[:-1]), ends], axis=1),
        feature_names=panel.feature_names,
        **columns,
    )


def join_panels(one: BarPanel, two: BarPanel) -> BarPanel:
    """The symbols of both; an optional column only if both have it."""
    columns: dict[str, Any] = {}
    for name in (*COLUMNS, *OPTIONAL):
        pair = [getattr(panel, name) for panel in (one, two)]
        columns[name] = None if any(part is None for part in pair) else np.concatenate(pair)
    return BarPanel(
        symbols=(*one.symbols, *two.symbols),
        segments=np.concatenate([one.segments, two.segments + len(one.ts)]),
        feature_names=one.feature_names,
        **columns,
    )
