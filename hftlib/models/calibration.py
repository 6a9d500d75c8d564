"""Intervals that cover as often as they say: split-conformal prediction.

Errors on a validation span, in standard deviations of the forecast, tell how
wide an interval must be. If validation and test days were exchangeable the
coverage would be exact; markets change, so it is measured again on the test span.

Source: Lei et al. (2018), Distribution-free predictive inference for regression,
JASA 113(523), section 5.2.
"""

import math

import numpy as np
import numpy.typing as npt


def fit_margin(
    mean: npt.ArrayLike, sd: npt.ArrayLike, outcome: npt.ArrayLike, coverage: float
) -> float:
    """Half the width of the interval, in standard deviations of the forecast.

    Parameters
    ----------
    mean, sd, outcome : arrays of shape (n,)
        Forecasts and outcomes of a span that the forecaster was not trained on.
    coverage : float
        Share of outcomes that the interval is to hold, (0, 1).

    Raises
    ------
    ValueError
        If there are too few outcomes for the coverage: n of them allow up to n / (n + 1).
    """
    centre, scale, seen = (np.asarray(values, dtype=np.float64) for values in (mean, sd, outcome))
    scores = np.sort(np.abs(seen - centre) / scale)
    rank = math.ceil((len(scores) + 1) * coverage)
    if not 0 < coverage < 1 or rank > len(scores):
        raise ValueError(
            f"coverage {coverage} from {len(scores)} outcomes; expected a share in (0, 1) of at "
            f"most {len(scores) / (len(scores) + 1):.3f}; lengthen the validation span"
        )
    return float(scores[rank - 1])
