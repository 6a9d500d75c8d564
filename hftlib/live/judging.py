"""One contest between the champion and a challenger: which bars, what came of it, in words.

The bars are those after both models' `seen_until`, and after the contest that made one of them the
champion: that contest chose it, and on the same bars it would be judged by its luck. So no bar
promotes twice. The look is logged before it is taken.
"""

import hashlib
from typing import NamedTuple

import pandas as pd

from hftlib import openings
from hftlib.evaluation.champion import Decision
from hftlib.evaluation.superiority import LEAST_BARS
from hftlib.live.artefact import Artefact, load_artefact
from hftlib.live.backtest_job import read_rules
from hftlib.live.challenges import judge
from hftlib.live.models import Champion, name_version
from hftlib.live.predictor import Predictor
from hftlib.live.unseen import (
    count_unseen,
    match_rules,
    pair_returns,
    play_unseen,
    read_seen_until,
)
from hftlib.paths import Paths


class Judged(NamedTuple):
    """A decision, None where too few bars are unseen, and lines that account for it."""

    decision: Decision | None
    account: list[str]


def judge_challenger(
    paths: Paths, champion: Champion, challenger: Artefact, *, level: float, seed: int
) -> Judged:
    """Play both on the bars that neither has seen, and decide.

    Raises
    ------
    ValueError, OSError
        If the two cannot be compared, or bars or journal cannot be read.
    """
    artefacts = load_artefact(paths.served, champion.name), challenger
    manifests = [one.manifest for one in artefacts]
    names = champion.name, name_version(challenger.manifest)
    symbols = match_rules(*manifests)
    seen = max(*map(read_seen_until, manifests), *find_choices(champion, names))
    bars = pd.read_parquet(paths.bars)
    missing = LEAST_BARS + 1 - count_unseen(bars, symbols, seen)
    if missing > 0:
        more = f"{missing} more bar{'s' if missing > 1 else ''}"
        return Judged(None, [f"Span        too short: {more} after {seen:%Y-%m-%d} are needed"])
    first, last = seen + pd.Timedelta(1, unit="ns"), bars["ts"].max()
    openings.log_opening(
        paths.tracking,
        stage="retrain",
        first=str(first.date()),
        last=str(last.date()),
        strategies=hashlib.sha256(" ".join(names).encode()).hexdigest(),
    )
    walks = (
        play_unseen(Predictor(one), read_rules(one.manifest.rules), bars, symbols, seen)
        for one in artefacts
    )
    decision, rank = judge(
        *pair_returns(*walks), names, paths.tracking, seen_until=seen, level=level, seed=seed
    )
    return Judged(decision, describe(decision, rank, symbols))


def find_choices(champion: Champion, names: tuple[str, str]) -> list[pd.Timestamp]:
    """Last bars of the contests that one of `names` won."""
    decisions = [one.decision for one in champion.reigns if one.name in names]
    return [pd.Timestamp(str(one["last"])) for one in decisions if one.get("promote")]


def describe(decision: Decision, rank: int, symbols: tuple[str, ...]) -> list[str]:
    """The decision in lines."""
    found = decision.comparison
    gap = "undefined"
    if found is not None:
        value, low, high = (1e4 * x for x in vars(found.difference).values())
        gap = f"{value:+.2f} bp a bar, 95 % interval [{low:.2f}, {high:.2f}]"
    first, last = f"{decision.first:%Y-%m-%d}", f"{decision.last:%Y-%m-%d}"
    return [
        f"Span        {first} to {last}, {decision.n_bars} bars of {', '.join(symbols)}",
        f"Difference  {gap}",
        f"Level       {decision.level:.3g} for contest {rank} of this champion",
        *(
            f"{'Met' if one.is_met else 'Not met':<11} {one.name}: {one.text}"
            for one in decision.reasons
        ),
    ]
