"""A family of plain trading rules over many price paths at once, for the controls.

What a researcher in search of a strategy would try first: `FAMILIES` lists the rules.
A position is decided at the close of bar t from closes up to t, and earns the return
of bar t + 1; nothing is paid. Positions are shares of equity: -1 to 1, volatility
timing 0 to 2.
"""

import numpy as np
import numpy.typing as npt

from hftlib.evaluation.samples import FloatArray, TooFewError

CROSSINGS = ((2, 10), (5, 20), (10, 50), (20, 100))  # bars of the fast and the slow mean
MOMENTUM = (5, 20, 60, 120)  # bars looked back
REVERSAL = (1, 2, 3, 10)
BREAKOUT = (10, 20, 50, 100)
VOLATILITY = (5, 10, 20, 60)
SLOW = 120  # bars of the volatility that the faster ones are compared with
MOST_EXPOSURE = 2.0
WARM_UP = 121  # bars before all rules have their history

FAMILIES = (
    ("crossing", CROSSINGS),
    ("momentum", MOMENTUM),
    ("reversal", REVERSAL),
    ("breakout", BREAKOUT),
    ("volatility", VOLATILITY),
    ("random", ("crossing", "momentum", "reversal", "breakout")),
)
NAMES = tuple(f"{family} {setting}" for family, settings in FAMILIES for setting in settings)


def play_rules(returns: npt.ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Returns of every rule on every path.

    Parameters
    ----------
    returns : array of shape (n_bars, n_paths)
        Simple returns of the price, above -1.
    rng : Generator
        Of the random rules.

    Returns
    -------
    array of shape (n_bars - WARM_UP, n_paths, n_rules)
        Simple returns, the rules in the order of `NAMES`.

    Raises
    ------
    TooFewError
        If there are not more bars than `WARM_UP`.
    """
    moves = np.asarray(returns, dtype=np.float64)
    positions = decide_positions(moves, rng)
    return positions[WARM_UP - 1 : -1] * moves[WARM_UP:, :, None]


def decide_positions(moves: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Position of each rule after each close, shape (n_bars, n_paths, n_rules).

    A crossing is long while the fast mean of closes is above the slow one, else short; momentum
    has the sign of the return looked back on, reversal the opposite; a breakout is long from a
    close above all of the last ones until one below them, then short. Volatility timing is long by
    the slow volatility over the fast. A random rule turns from long to short and back at random,
    as often as its path's first rule of the family that it is named after.
    """
    n_bars, n_paths = moves.shape
    if n_bars <= WARM_UP:
        raise TooFewError(f"plain rules: {n_bars} bars; they need more than {WARM_UP}")
    close = np.asarray(np.cumprod(1.0 + moves, axis=0), dtype=np.float64)
    squares = moves**2
    parts = [np.sign(_mean(close, fast) - _mean(close, slow)) for fast, slow in CROSSINGS]
    parts += [_side(close, bars) for bars in MOMENTUM]
    parts += [-_side(close, bars) for bars in REVERSAL]
    parts += [_breakout(close, bars) for bars in BREAKOUT]
    slow = _mean(squares, SLOW)
    for bars in VOLATILITY:
        ratio = np.sqrt(slow / np.maximum(_mean(squares, bars), 1e-30))
        parts.append(np.minimum(ratio, MOST_EXPOSURE))
    for family in range(4):
        model = parts[4 * family][WARM_UP - 1 :]
        turns = np.abs(np.diff(model, axis=0)).mean(axis=0) / 2.0
        start = rng.choice((-1.0, 1.0), n_paths)
        flips = rng.random((n_bars, n_paths)) < turns
        parts.append(start * (1.0 - 2.0 * (np.cumsum(flips, axis=0) % 2)))
    return np.stack(parts).transpose(1, 2, 0)  # in memory rule by rule, which is twice as fast


def _mean(values: FloatArray, bars: int) -> FloatArray:
    """Of the last `bars` values; of fewer at the start."""
    total = np.cumsum(values, axis=0)
    total[bars:] -= total[:-bars].copy()
    count = np.minimum(np.arange(1, len(values) + 1), bars)
    return total / count[:, None]


def _side(close: FloatArray, bars: int) -> FloatArray:
    """Sign of the move over `bars`; 0 at the start."""
    side = np.zeros_like(close)
    side[bars:] = np.sign(close[bars:] - close[:-bars])
    return side


def _breakout(close: FloatArray, bars: int) -> FloatArray:
    """1 since a close above the `bars` closes before it, -1 since one below; first 0."""
    signal = np.zeros_like(close)
    signal[bars:] += close[bars:] > _highest(close, bars)[bars - 1 : -1]
    signal[bars:] -= close[bars:] < -_highest(-close, bars)[bars - 1 : -1]
    rows = np.where(signal != 0, np.arange(len(close))[:, None], 0)
    return np.take_along_axis(signal, np.maximum.accumulate(rows, axis=0), axis=0)


def _highest(values: FloatArray, bars: int) -> FloatArray:
    """Of the last `bars` values; of fewer at the start."""
    highest, width = values.copy(), 1
    while width < bars:
        step = min(width, bars - width)
        highest[step:] = np.maximum(highest[step:], highest[:-step])
        width += step
    return highest
