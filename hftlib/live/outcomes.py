"""What a model gave, as the answer for one symbol."""

import math
from typing import Any, NamedTuple

import numpy as np

from hftlib.live.protocols import FloatArray, ModelCard, Prediction


class Seen(NamedTuple):
    """A symbol of a request with the model's view of it; None while rows are missing."""

    symbol: str
    ts_ns: int
    n_rows: int
    observation: FloatArray | None


class ModelRow(NamedTuple):
    """One row of a `Prediction`; None for what the model does not give."""

    action: float
    spread: float | None
    probabilities: list[float] | None
    forecast_mean: float | None
    forecast_sd: float | None
    limit_ticks: float | None


def split_rows(prediction: Prediction, n: int) -> list[ModelRow]:
    """A prediction of n observations row by row; a value that is not finite is None.

    Raises
    ------
    ValueError
        If an array has not n rows.
    """

    def flat(values: FloatArray | None) -> list[float | None]:
        if values is None:
            return [None] * n
        numbers = np.asarray(values, np.float64).reshape(n).tolist()
        return [x if math.isfinite(x) else None for x in numbers]

    choices = prediction.probabilities
    columns = (
        np.asarray(prediction.action, np.float64).reshape(n).tolist(),
        flat(prediction.spread),
        [None] * n if choices is None else np.asarray(choices, np.float64).tolist(),
        flat(prediction.forecast_mean),
        flat(prediction.forecast_sd),
        flat(prediction.limit_ticks),
    )
    return [ModelRow(*row) for row in zip(*columns, strict=True)]


def describe(card: ModelCard, seen: Seen, row: ModelRow | None) -> dict[str, Any]:
    """As `answers.SymbolAnswer`; `row` is None where the model could not be asked yet."""
    answer: dict[str, Any] = {
        "symbol": seen.symbol,
        "ts_ns": seen.ts_ns,
        "action": None,
        "limit_ticks": None,
        "missing_rows": 0,
        "probabilities": None,
        "confidence": None,
        "uncertainty": None,
        "forecast": None,
        "model": {"name": card.name, "version": card.version},
    }
    if row is None:
        answer["missing_rows"] = max(0, card.min_rows - seen.n_rows)
        return answer
    answer["action"] = row.action
    answer["limit_ticks"] = row.limit_ticks
    answer["uncertainty"] = row.spread
    if row.probabilities is not None:
        answer["probabilities"] = dict(zip(card.choices, row.probabilities, strict=True))
        answer["confidence"] = max(row.probabilities)
    elif row.spread is not None:
        # half the range is the largest deviation that actions within the bounds can have
        answer["confidence"] = min(1.0, max(0.0, 1 - 2 * row.spread / (card.high - card.low)))
    if row.forecast_mean is not None:
        answer["forecast"] = {"mean": row.forecast_mean, "sd": row.forecast_sd}
    return answer
