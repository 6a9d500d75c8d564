"""Intervals that cover as often as they say: split-conformal prediction.

Errors on days before the test span, in standard deviations of the forecast, tell
how wide an interval must be. If those days and the test's were exchangeable,
a share of at least the coverage would be guaranteed. Here the guarantee is approximate:
markets change, early stopping chose its epoch on the validation days (so the
intervals are slightly narrow), earlier folds' days have errors of other ensembles, and
symbols of one day err together. Coverage is measured again on the test span.

Source: Lei et al. (2018), Distribution-free predictive inference for regression,
JASA 113(523), section 5.2.
"""

import math

import numpy as np
import numpy.typing as npt


def fit_margin(scores: npt.NDArray[np.float64], coverage: float) -> float:
    """Half the width of the interval, in standard deviations of the forecast.

    Parameters
    ----------
    scores : array of shape (n,)
        |outcome - mean| / sd on days that the forecaster was not trained on; finite.
    coverage : float
        Share of outcomes that the interval is to hold, (0, 1).

    Raises
    ------
    ValueError
        If a score is not finite, or there are too few for the coverage: n allow n / (n + 1).
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite; leave out days without an outcome")
    rank = math.ceil((len(scores) + 1) * coverage)
    if not 0 < coverage < 1 or rank > len(scores):
        raise ValueError(
            f"coverage {coverage} from {len(scores)} outcomes; expected a share in (0, 1) of at "
            f"most {len(scores) / (len(scores) + 1):.3f}; lengthen the validation span"
        )
    return float(np.sort(scores)[rank - 1])
