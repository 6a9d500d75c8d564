"""How often do the monitors of performance cry wolf, and how soon do they see a planted fall?

Beside each the same monitor with bars taken as independent.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from hftlib.compute import derive_rng, derive_seed
from hftlib.evaluation.controls import draw_martingale
from hftlib.evaluation.drift_controls import check_samples, draw_autocorrelated
from hftlib.evaluation.monitors import Kind, first_alarm, fit_monitor


@dataclass(frozen=True)
class MonitorControl:
    """What a monitor of performance did on drawn series.

    Attributes
    ----------
    kind, law : str
        Of the monitor and of the series.
    n_reference, horizon_bars, n_samples : int
    level : float
        Chance of a false alarm within the horizon that the monitors were fitted for.
    independent, blocks : float
        False alarms with bars taken as independent, and in blocks.
    found : float
        Alarms in blocks where the mean fell by `shift` deviations at the first bar.
    delay_bars : float
        Median bars until then, 1 being the first; inf if fewer than half were found.
    shift : float
    error : float
        Monte Carlo standard error of a share whose true value is `level`.
    """

    kind: str
    law: str
    n_reference: int
    horizon_bars: int
    n_samples: int
    level: float
    independent: float
    blocks: float
    found: float
    delay_bars: float
    shift: float
    error: float

    def to_dict(self) -> dict[str, float | str | None]:
        """By name; null where most falls were missed."""
        delay = self.delay_bars if np.isfinite(self.delay_bars) else None
        return {**asdict(self), "delay_bars": delay}


def control_monitor(
    kind: Kind,
    *,
    law: Literal["garch"] | float,
    n_samples: int,
    seed: int,
    n_reference: int = 1000,
    horizon_bars: int = 250,
    shift: float = 0.5,
    level: float = 0.05,
    n_bootstrap: int = 399,
) -> MonitorControl:
    """Fit a monitor to a part of each sample, and follow the rest, as drawn and with a fall.

    Parameters
    ----------
    law : "garch" or float
        Of the series: returns of a martingale with clustered, fat-tailed moves, or normal values
        of that autocorrelation.

    Raises
    ------
    TooFewError
        If there is no sample; or as `fit_monitor`.
    """
    check_samples(n_samples)
    rng = derive_rng(seed, "control_monitor", str(law))
    n_bars = n_reference + horizon_bars
    if law == "garch":
        series = draw_martingale("garch", n_bars, n_samples, rng)
    else:
        series = draw_autocorrelated(float(law), (n_bars, n_samples), rng)
    false = {"independent": 0, "blocks": 0}
    delays = np.full(n_samples, np.inf)
    for k, values in enumerate(series.T):
        old, new = values[:n_reference], values[n_reference:]
        for name, block in (("independent", 1), ("blocks", None)):
            monitor = fit_monitor(
                old,
                kind=kind,
                horizon_bars=horizon_bars,
                seed=derive_seed(seed, "fit", k),
                false_alarm=level,
                block=block,
                n_bootstrap=n_bootstrap,
            )
            false[name] += first_alarm(monitor, new) is not None
        alarm = first_alarm(monitor, new - shift * old.std())
        delays[k] = np.inf if alarm is None else alarm + 1
    return MonitorControl(
        kind,
        str(law),
        n_reference,
        horizon_bars,
        n_samples,
        level,
        false["independent"] / n_samples,
        false["blocks"] / n_samples,
        float(np.isfinite(delays).mean()),
        float(np.median(delays)),
        shift,
        (level * (1 - level) / n_samples) ** 0.5,
    )
