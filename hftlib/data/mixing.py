"""Synthetic symbols beside the real ones: whole symbols, flagged, only ever trained on.

A real series is never touched. `draw_companions` adds symbols that live on a
real symbol's training clock; `mix_rows` then keeps as many of their rows as
make the share that was asked for. `splits.split_frame` refuses what would bring
one of them into validation or test.
"""

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from hftlib.compute import derive_rng
from hftlib.data.laws import fit_law
from hftlib.data.synthetic import VolumeLaw, draw_bars

PREFIX = "SYN"


class MixError(ValueError):
    """A share that cannot be, or that the rows cannot give."""


def draw_companions(
    bars: pd.DataFrame,
    symbols: Sequence[str],
    share: float,
    *,
    law: str,
    train_end: date,
    seed: int,
) -> pd.DataFrame:
    """Synthetic symbols, as many as `mix_rows` may need for `share`, and no bar of the real ones.

    Each is fitted to the training bars of one of `symbols` (law, share of the
    variance in the gaps, mean volume), starts at its first close and has its
    training clock; they are called SYN1_<symbol>, SYN2_<symbol>, ...

    Parameters
    ----------
    bars : frame as `schema.BARS`
        Each symbol in time order.
    symbols : sequence of str
        The real symbols that are trained on.
    share : float in [0, 1)
        Synthetic rows as a share of all training rows.
    law : str
        One of `laws.LAWS`.
    train_end : date
        Last day (UTC) that is fitted to and drawn.
    seed : int

    Returns
    -------
    frame as `schema.BARS`
        No rows if `share` is 0.

    Raises
    ------
    MixError
        If the share is outside [0, 1), or a symbol has no training bar.
    LawError
        If the law cannot be fitted.
    """
    parts = [bars.iloc[:0]]
    for number in range(1, math.ceil(_ratio(share)) + 1):
        for symbol in symbols:
            train = bars[(bars["symbol"] == symbol) & (bars["ts"].dt.date <= train_end)]
            if train.empty:
                raise MixError(f"{symbol} has no bar up to train_end={train_end} to be fitted to")
            name = f"{PREFIX}{number}_{symbol}"
            close = np.log(train["close"].to_numpy())
            gaps = np.log(train["open"].to_numpy()[1:]) - close[:-1]
            returns = np.diff(close)
            fitted = fit_law(law, returns)
            mean_volume = train["volume"].mean()
            parts.append(
                draw_bars(
                    fitted,
                    pd.DatetimeIndex(train["ts"]),
                    derive_rng(seed, "companion", name),
                    symbol=name,
                    start_price=float(train["close"].iloc[0]),
                    gap_share=float(min(gaps.var() / returns.var(), 0.9)),
                    volume=VolumeLaw(float(mean_volume) if mean_volume > 0 else 1.0),
                )
            )
    return pd.concat(parts, ignore_index=True)


def mix_rows(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Keep all real rows and as many synthetic ones as make `share` of the whole, to the row.

    Whole symbols are taken as they come; of the last one, its latest rows.

    Parameters
    ----------
    rows : frame with columns symbol, is_synthetic and any others
        Training rows, each symbol in time order.
    share : float in [0, 1)

    Returns
    -------
    frame
        Real rows first; n_synthetic is share * n_rows, rounded to a row.

    Raises
    ------
    MixError
        If the share is outside [0, 1), or there are too few synthetic rows.
    """
    is_synthetic = rows["is_synthetic"].to_numpy(dtype=bool)
    real, drawn = rows[~is_synthetic], rows[is_synthetic]
    wanted = round(_ratio(share) * len(real))
    if wanted > len(drawn):
        raise MixError(
            f"a synthetic share of {share} needs {wanted} synthetic rows beside {len(real)} real "
            f"ones, but there are {len(drawn)}; draw companions for that share"
        )
    kept = [real]
    for _, group in drawn.groupby("symbol", sort=False):
        n_rows = min(wanted, len(group))
        if n_rows:
            kept.append(group.iloc[len(group) - n_rows :])
        wanted -= n_rows
    return pd.concat(kept, ignore_index=True)


def _ratio(share: float) -> float:
    """Synthetic rows for each real one."""
    if not 0 <= share < 1:
        raise MixError(f"synthetic share is {share}; it must be at least 0 and below 1")
    return share / (1 - share)
