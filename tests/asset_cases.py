"""Returns of many assets with known moments, and real ones."""

import numpy as np
import pandas as pd


def days(n: int) -> pd.DatetimeIndex:
    return pd.date_range("2020-01-01", periods=n, tz="UTC")


def with_moments(means, covariance, n_bars=60, names="abcdefgh") -> pd.DataFrame:
    """Returns whose sample means and covariance (ddof 1) are these, to rounding."""
    n = len(means)
    noise = np.random.default_rng(0).normal(size=(n_bars, n))
    # orthonormal columns, orthogonal to the constant
    unit = np.linalg.qr(np.column_stack([np.ones(n_bars), noise]))[0][:, 1:]
    values = unit * np.sqrt(n_bars - 1) @ np.linalg.cholesky(covariance).T + means
    return pd.DataFrame(values, index=days(n_bars), columns=list(names[:n]))


def factor_returns(n_bars: int, n_assets: int, seed: int = 1) -> pd.DataFrame:
    """Three common factors and noise of its own for each asset."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (n_bars, 3)) @ rng.normal(0.5, 0.5, (3, n_assets))
    values = factors + rng.normal(0.0004, 0.01, (n_bars, n_assets))
    names = [f"ASSET-{k:02d}/USD" for k in range(n_assets)]
    return pd.DataFrame(values, index=days(n_bars), columns=names)


def to_prices(returns: pd.DataFrame) -> pd.DataFrame:
    """Prices from 100 on, one bar more than the returns."""
    growth = np.vstack([np.ones(returns.shape[1]), np.cumprod(1 + returns.to_numpy(), axis=0)])
    return pd.DataFrame(100 * growth, index=days(len(growth)), columns=returns.columns)


def stock_prices() -> pd.DataFrame:
    """Adjusted closes of 20 stocks, 1990 to 2022."""
    from skfolio.datasets import load_sp500_dataset

    prices = load_sp500_dataset()
    return prices.set_axis(pd.to_datetime(prices.index).tz_localize("UTC"))
