"""What sizing and the value at risk need of the past: volumes of the last bar, and closes."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from hftlib.live.ticks import Moment
from hftlib.portfolio.risk_covariance import decayed_covariances
from hftlib.portfolio.risk_state import FloatArray

MEMORY = 300  # closes that the covariance sees; its weights have vanished long before


class Tape:
    """The newest closes of some symbols.

    Attributes
    ----------
    volumes : dict of symbol to float
        Units traded in the last bar of each, 0 before the first.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.volumes = dict.fromkeys(symbols, 0.0)
        self._closes: deque[list[float]] = deque(maxlen=MEMORY)

    def see(self, moment: Moment) -> None:
        """Keep a moment at which targets are decided; its closes if it has those of all."""
        if not moment.decides:
            return
        self.volumes |= {tick.symbol: tick.volume for tick in moment.ticks}
        seen = {tick.symbol: tick.price for tick in moment.ticks}
        if all(symbol in seen for symbol in self.volumes):
            self._closes.append([seen[symbol] for symbol in self.volumes])

    def covariance(self) -> FloatArray | None:
        """Of one bar's returns, shape (n_symbols, n_symbols); None before there are any."""
        if len(self._closes) < 2:
            return None
        last = decayed_covariances(np.array(self._closes))[-1]
        return last if np.isfinite(last).all() else None
