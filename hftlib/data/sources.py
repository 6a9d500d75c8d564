"""Every source of bars behind one function.

A source is described by a small frozen object; `gather_bars` reads it. The
packaged prices and the user's folder need no network, and are the default
pipeline; Yahoo and exchanges need the extra `[sources]`; synthetic bars are
drawn on the spot. All come as raw tables, and `data.ingest` checks them alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hftlib.data.bars import FIELDS, RawBars, read_folder, read_packaged
from hftlib.data.exchange import ExchangeRequest, read_exchanges
from hftlib.data.laws import Law
from hftlib.data.synthetic import draw_bars
from hftlib.data.yahoo import YahooRequest, read_yahoo


@dataclass(frozen=True)
class Packaged:
    """The prices that came with the install."""


@dataclass(frozen=True)
class Folder:
    """The user's CSV and Parquet files below `path`."""

    path: Path


@dataclass(frozen=True)
class SyntheticRequest:
    """Bars drawn by a law, from 00:00 UTC of `start` on.

    The log return of a bar has `law`; the first follows a close of `start_price`.
    `interval` is pandas' name of a frequency, such as "1D", "1h", "5min".
    """

    symbol: str
    law: Law
    start: date
    n_bars: int
    seed: int
    interval: str = "1D"
    start_price: float = 100.0


Source = Packaged | Folder | YahooRequest | ExchangeRequest | SyntheticRequest


def gather_bars(sources: Sequence[Source], *, cache: Path) -> list[RawBars]:
    """Raw bars of all sources, in their order.

    Parameters
    ----------
    sources : sequence of Source
        Only a `YahooRequest` or an `ExchangeRequest` goes to the network.
    cache : path
        Folder of the answers from there.

    Raises
    ------
    SourceError
        If a file cannot be read, or a service does not answer.
    """
    raw: list[RawBars] = []
    # neighbours of one kind go together, so that a service is asked at its pace
    for _, group in groupby(sources, type):
        for part in _read_alike(list(group), cache):
            raw += part
    return raw


def _read_alike(group: list[Any], cache: Path) -> list[list[RawBars]]:
    """Sources of one kind."""
    match group[0]:
        case YahooRequest():
            return [read_yahoo(group, cache)]
        case ExchangeRequest():
            return [read_exchanges(group, cache)]
        case Folder():
            return [read_folder(source.path) for source in group]
        case SyntheticRequest():
            return [[_draw(source)] for source in group]
        case _:
            return [read_packaged() for _ in group]


def _draw(request: SyntheticRequest) -> RawBars:
    """Numbers as text that gives back their every bit."""
    clock = pd.date_range(
        request.start, periods=request.n_bars, freq=request.interval, tz="UTC", unit="ns"
    )
    rng = np.random.default_rng(request.seed)
    bars = draw_bars(
        request.law, clock, rng, symbol=request.symbol, start_price=request.start_price
    )
    frame = bars[list(FIELDS)].astype("str")
    source = str(bars["source"].iloc[0])
    return RawBars(request.symbol, source, frame.assign(line=range(2, len(frame) + 2)), "synthetic")
