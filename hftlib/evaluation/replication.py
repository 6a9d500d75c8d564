"""Published tables, run again.

Source: Avellaneda and Stoikov (2008), High-frequency trading in a limit order
book, Quantitative Finance 8(3), tables 1 and 2.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.making import avellaneda_stoikov_quotes
from hftlib.envs.arrivals import ArrivalParams, ArrivalPaths, simulate_arrivals

FloatArray = npt.NDArray[np.float64]
MEASURES = ("spread", "profit", "profit_sd", "inventory_sd")
# by gamma and quotes, each with its 1,000 paths
PUBLISHED = {
    (0.1, "inventory"): (1.49, 65.0, 6.6, 2.9),
    (0.1, "symmetric"): (1.49, 68.4, 12.7, 8.4),
    (0.01, "inventory"): (1.35, 68.8, 8.7, 5.1),
}


def replicate_avellaneda_stoikov(risk_aversion: float, n_paths: int, seed: int) -> pd.DataFrame:
    """Run the paper's market with quotes that heed the inventory, and with symmetric ones.

    Returns
    -------
    frame with columns gamma, strategy, measure, value, low, high, published, z
        Four rows for each strategy. low and high are 3 standard errors away from the value; z is
        the distance from the published one in standard errors, nan where none is known. For the
        spread, which does not vary, it is nan too.
    """
    params, rng = ArrivalParams(), np.random.default_rng(seed)
    quotes = partial(_inventory_quotes, risk_aversion, params)
    runs = {"inventory": simulate_arrivals(quotes, params, n_paths, rng)}
    half = runs["inventory"].spread.mean() / 2
    fixed = partial(_symmetric_quotes, half)
    runs["symmetric"] = simulate_arrivals(fixed, params, n_paths, rng)
    rows = []
    for strategy, paths in runs.items():
        published = PUBLISHED.get((risk_aversion, strategy), (np.nan,) * 4)
        for measure, known, (value, error) in zip(
            MEASURES, published, _measure(paths), strict=True
        ):
            z = (value - known) / error if error > 0 else np.nan
            bounds = value - 3 * error, value + 3 * error
            rows.append((risk_aversion, strategy, measure, value, *bounds, known, z))
    columns = ["gamma", "strategy", "measure", "value", "low", "high", "published", "z"]
    return pd.DataFrame(rows, columns=columns)


def _inventory_quotes(
    risk_aversion: float, params: ArrivalParams, t: float, inventory: FloatArray
) -> tuple[FloatArray, FloatArray]:
    return avellaneda_stoikov_quotes(
        inventory,
        params.horizon - t,
        risk_aversion=risk_aversion,
        sigma=params.sigma,
        decay=params.decay,
    )


def _symmetric_quotes(
    half_spread: float, t: float, inventory: FloatArray
) -> tuple[FloatArray, FloatArray]:
    distance = np.full(len(inventory), half_spread)
    return distance, distance


def _measure(paths: ArrivalPaths) -> list[tuple[float, float]]:
    """Values of `MEASURES`, each with its standard error."""
    return [
        (float(paths.spread.mean()), 0.0),
        (float(paths.profit.mean()), float(paths.profit.std() / np.sqrt(len(paths.profit)))),
        _deviation(paths.profit),
        _deviation(paths.inventory),
    ]


def _deviation(values: FloatArray) -> tuple[float, float]:
    """Standard deviation, and its standard error whatever the distribution."""
    sd = values.std()
    kurtosis = (((values - values.mean()) / sd) ** 4).mean()
    return float(sd), float(sd * np.sqrt((kurtosis - 1) / (4 * len(values))))
