"""Facts of several sessions drawn together into one verdict a source."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

from hftlib.market.realism import CONFIDENCE, RULES, Band, Fact


class Verdict(TypedDict):
    """One fact of one source.

    value is the mean over the sessions where it can be measured; low and high
    bound that mean by Student's t, or are the bootstrap's of a single session.
    passes says whether that mean is in the band; None where no session shows
    the fact, False where it is undefined. Of `sessions` that show the fact,
    `passing` hold by themselves.
    """

    value: float | None
    low: float | None
    high: float | None
    band: list[float | None]
    passes: bool | None
    sessions: int
    passing: int


def pool_facts(sessions: Sequence[Mapping[str, Fact]]) -> dict[str, Verdict]:
    """Verdicts by fact, in the order of `RULES`.

    Raises
    ------
    ValueError
        If there is no session.
    """
    if not sessions:
        raise ValueError("expected the facts of at least one session, received none")
    verdicts: dict[str, Verdict] = {}
    for name, rule in RULES.items():
        facts = [facts[name] for facts in sessions]
        judged = [fact.passes for fact in facts if fact.passes is not None]
        values = np.array([fact.value for fact in facts if fact.value is not None])
        mean = float(values.mean()) if len(values) else None
        low, high = facts[0].low, facts[0].high
        if len(sessions) > 1:
            low, high = _interval(values)
        band = Band(rule.row, rule.low, rule.high)
        holds = mean is not None and band.contains(mean)
        verdicts[name] = Verdict(
            value=mean,
            low=low,
            high=high,
            band=[rule.low, rule.high],
            passes=holds if judged else None,
            sessions=len(judged),
            passing=sum(judged),
        )
    return verdicts


def _interval(values: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Student's interval of a mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None, None
    reach = student.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - reach), float(values.mean() + reach)


def tabulate_verdicts(verdicts: Mapping[str, Mapping[str, Verdict]]) -> pd.DataFrame:
    """Verdicts of several sources as text: rows are facts, columns their band and the sources.

    A cell is the value, a cross where it is outside the band, and how many
    sessions are in it by themselves where not all are.
    """
    table = pd.DataFrame(index=pd.Index(RULES, name="fact"))
    table["band"] = [Band(rule.row, rule.low, rule.high).text for rule in RULES.values()]
    for source, facts in verdicts.items():
        table[source] = [_show(facts[name]) for name in RULES]
    return table


def _show(verdict: Verdict) -> str:
    if verdict["passes"] is None:
        return "not measured"
    value = "undefined" if verdict["value"] is None else f"{verdict['value']:.3g}"
    if verdict["passing"] < verdict["sessions"]:
        value = f"{value} ({verdict['passing']} of {verdict['sessions']})"
    return value if verdict["passes"] else f"{value} ✗"
