"""Ten features of the clock and the calendar, in UTC.

Known when the bar begins. A cycle is a sine and a cosine, so that its end lies
beside its start. On daily bars the two of the hour are constant, and scale to 0.
"""

import numpy as np
import pandas as pd

from hftlib.features.feature import BarSeries, Feature, FloatArray, lagged_difference

T = "temporal"
HOUR_NS = 3_600_000_000_000


def _stamps(bars: BarSeries) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(bars.ts, tz="UTC")


def _day_angle(bars: BarSeries) -> FloatArray:
    return 2 * np.pi * (bars.ts % (24 * HOUR_NS)) / (24 * HOUR_NS)


def _week_angle(bars: BarSeries) -> FloatArray:
    return 2 * np.pi * bars.shared(_stamps).day_of_week.to_numpy() / 7


def _month_angle(bars: BarSeries) -> FloatArray:
    stamps = bars.shared(_stamps)
    return 2 * np.pi * (stamps.day.to_numpy() - 1) / stamps.days_in_month.to_numpy()


def _year_angle(bars: BarSeries) -> FloatArray:
    return 2 * np.pi * (bars.shared(_stamps).day_of_year.to_numpy() - 1) / 366


def _turn_of_month(bars: BarSeries) -> FloatArray:
    stamps = bars.shared(_stamps)
    day, last = stamps.day.to_numpy(), stamps.days_in_month.to_numpy()
    return ((day <= 3) | (day >= last - 1)).astype(np.float64)


def _time_gap(bars: BarSeries) -> FloatArray:
    """Positive after a weekend, a night or a hole in the data."""
    elapsed = lagged_difference(bars.ts / HOUR_NS, 1)
    return np.log(elapsed / pd.Series(elapsed).rolling(20).median().to_numpy())


FEATURES = (
    *(
        Feature(
            f"{name}_{wave.__name__}",
            T,
            f"{wave.__name__}(2 pi {formula})",
            "-",
            "[-1, 1]",
            0,
            lambda b, wave=wave, angle=angle: wave(b.shared(angle)),  # type: ignore[misc]
        )
        for name, formula, angle in (
            ("hour", "time of day / 24 h", _day_angle),
            ("weekday", "days since Monday / 7", _week_angle),
            ("month_day", "(day of the month - 1) / days in the month", _month_angle),
            ("year_day", "(day of the year - 1) / 366", _year_angle),
        )
        for wave in (np.sin, np.cos)
    ),
    Feature(
        "turn_of_month",
        T,
        "1 on the last two and the first three days of a month",
        "-",
        "flag",
        0,
        _turn_of_month,
    ),
    Feature(
        "time_gap",
        T,
        "ln(time since the bar before / its 20-bar median)",
        "20",
        "log ratio",
        20,
        _time_gap,
    ),
)
