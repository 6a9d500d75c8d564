"""Black-Litterman: a market prior and a forecaster's views, each by its certainty.

The prior is what the market's weights would need to be optimal: means δ Σ w, with an
error of covariance τ Σ. A view says that an asset's mean return per bar is `mean` with
the standard deviation `sd`. The posterior is the Bayesian mix: sd 0 gives the view, an
infinite sd the prior.

Source: Black & Litterman (1992), Financial Analysts Journal 48(5); the confidence of
Idzorek (2007) is, for a view on one asset, τ Σ_ii / (τ Σ_ii + sd²).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from skfolio.moments import EquilibriumMu
from skfolio.prior import BlackLitterman, EmpiricalPrior

from hftlib.portfolio.allocation import LONG_ONLY
from hftlib.portfolio.asset_frames import AllocationError, name_some
from hftlib.portfolio.constraints import Constraints, UnknownAssetError, check_weights
from hftlib.portfolio.moments import Covariance, anonymous, build_prior
from hftlib.portfolio.optimisation import Allocation, maximise_ratio, prepare


class ViewError(AllocationError):
    """A view without a mean or a certainty."""


class Posterior(NamedTuple):
    """`mean` return per bar by asset; `covariance` asset by asset, of a bar's returns."""

    mean: pd.Series
    covariance: pd.DataFrame


def black_litterman(
    returns: pd.DataFrame,
    views: pd.DataFrame,
    constraints: Constraints = LONG_ONLY,
    previous: pd.Series | None = None,
    *,
    market_weights: pd.Series | None = None,
    risk_aversion: float = 2.5,
    tau: float = 0.05,
    covariance: Covariance = "ledoit_wolf",
) -> Allocation:
    """The largest Sharpe ratio under the posterior; without views, the market's weights.

    Parameters
    ----------
    returns : frame of shape (n_bars, n_assets)
        Simple returns.
    views : frame indexed by asset with columns mean, sd
        Expected return per bar and its standard deviation, for some of the assets or
        none. They must be made from rows of `returns` or earlier ones.
    market_weights : series indexed by asset, optional
        Sum to 1; equal weights if None.
    risk_aversion, tau : float
        δ and τ above; 1 / n_bars is another common τ.

    Raises
    ------
    AllocationError
        As `maximum_sharpe`; `UnknownAssetError` for a view on an asset without returns;
        `ViewError` for one without a finite mean and an sd from 0.
    """
    ordered, limits = prepare(returns, constraints, previous)
    prior = _posterior_prior(ordered, views, market_weights, risk_aversion, tau, covariance)
    return maximise_ratio(returns, ordered, limits, prior, 0.0, "black_litterman")


def take_views(forecasts: pd.DataFrame, at: pd.Timestamp, sd_scale: float = 1.0) -> pd.DataFrame:
    """Views from the forecasts that were made at the close of bar `at`, none from other rows.

    A forecast is of the next bar alone, so that an older one has expired and a later one is
    not known yet.

    Parameters
    ----------
    forecasts : frame with columns symbol, ts, next_return_mean, next_return_sd
        As `schema.FORECASTS`: log returns, of which the views are the simple ones.
    at : timestamp (UTC)
    sd_scale : float
        Factor on the standard deviations, above 0; below 1 the forecasts are believed more.

    Returns
    -------
    frame indexed by symbol with columns mean, sd

    Raises
    ------
    ViewError
        If `sd_scale` is not a finite number above 0.
    """
    if not 0 < sd_scale < np.inf:
        raise ViewError(f"sd_scale is {sd_scale}; expected a finite factor above 0")
    known = forecasts[forecasts["ts"] == at].set_index("symbol")
    mean, sd = known["next_return_mean"], known["next_return_sd"]
    views = {"mean": np.expm1(mean + 0.5 * sd**2), "sd": sd_scale * sd}  # of a lognormal price
    return pd.DataFrame(views)


def black_litterman_posterior(
    returns: pd.DataFrame,
    views: pd.DataFrame,
    *,
    market_weights: pd.Series | None = None,
    risk_aversion: float = 2.5,
    tau: float = 0.05,
    covariance: Covariance = "ledoit_wolf",
) -> Posterior:
    """Posterior moments; arguments and errors as `black_litterman`."""
    ordered, _ = prepare(returns, LONG_ONLY, None)
    prior = _posterior_prior(ordered, views, market_weights, risk_aversion, tau, covariance)
    found = prior.fit(anonymous(ordered)).return_distribution_
    names = list(ordered.columns)
    mean = pd.Series(found.mu, index=names, name="mean").reindex(returns.columns)
    matrix = pd.DataFrame(found.covariance, index=names, columns=names)
    return Posterior(mean, matrix.loc[list(returns.columns), list(returns.columns)])


def _posterior_prior(
    ordered: pd.DataFrame,
    views: pd.DataFrame,
    market_weights: pd.Series | None,
    risk_aversion: float,
    tau: float,
    covariance: Covariance,
) -> EmpiricalPrior | BlackLitterman:
    for name, value in (("risk_aversion", risk_aversion), ("tau", tau)):
        if not 0 < value < np.inf:
            raise AllocationError(f"{name} is {value}; expected a finite number above 0")
    assets = list(ordered.columns)
    _check_views(views, assets)
    weights = None
    if market_weights is not None:
        unknown = [str(a) for a in market_weights.index if a not in set(assets)]
        if unknown or len(market_weights) != len(assets):
            raise UnknownAssetError(
                f"market_weights are of {len(market_weights)} assets"
                f"{f', among them {name_some(unknown)}' if unknown else ''}; expected the "
                f"{len(assets)} of the returns"
            )
        anywhere = Constraints(lower=-np.finfo(float).max, upper=np.finfo(float).max)
        weights = check_weights(market_weights.reindex(assets), anywhere).to_numpy()
    equilibrium = EquilibriumMu(
        risk_aversion=risk_aversion,
        weights=weights,
        covariance_estimator=build_prior(ordered, covariance).covariance_estimator,
    )
    prior = build_prior(ordered, covariance, equilibrium)
    held = views[np.isfinite(views["sd"])].sort_index()
    if held.empty:
        return prior
    position = {asset: k for k, asset in enumerate(assets)}
    columns = [position[asset] for asset in held.index]
    variance = prior.fit(anonymous(ordered)).return_distribution_.covariance.diagonal()[columns]
    certainty = tau * variance / (tau * variance + held["sd"].to_numpy() ** 2)
    return BlackLitterman(
        views=[f"a{k} == {mean:.17g}" for k, mean in zip(columns, held["mean"], strict=True)],
        view_confidences=certainty,
        prior_estimator=prior,
        tau=tau,
    )


def _check_views(views: pd.DataFrame, assets: list[str]) -> None:
    if not {"mean", "sd"} <= set(views.columns):
        raise ViewError(f"views have columns {list(views.columns)}; expected mean and sd")
    unknown = [str(asset) for asset in views.index if asset not in set(assets)]
    if unknown:
        raise UnknownAssetError(
            f"views name {name_some(unknown)}, of which there are no returns; expected some of "
            f"{name_some(assets)}"
        )
    twice = [str(asset) for asset in views.index[views.index.duplicated()]]
    if twice:
        raise ViewError(f"{name_some(twice)} has several views; expected one an asset: merge them")
    wrong = views.index[~(np.isfinite(views["mean"]) & (views["sd"] >= 0))]
    if len(wrong):
        raise ViewError(
            f"view on {wrong[0]} is {views.loc[wrong[0], 'mean']} with sd "
            f"{views.loc[wrong[0], 'sd']}; expected a finite mean and an sd from 0: leave the "
            "view out where the forecaster has none"
        )
