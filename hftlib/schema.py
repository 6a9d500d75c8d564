"""Columns, types and units of the tables that pass between stages.

A `Schema` is a list of columns; `validate` refuses a table that departs from
it and says how. It checks shape only: whether the *values* make a market is
`data.ingest`'s question.
"""

from dataclasses import dataclass

import pandas as pd


class SchemaError(ValueError):
    """A table with missing, surplus or wrongly typed columns."""


@dataclass(frozen=True)
class Column:
    """One column: name, pandas dtype, meaning with unit."""

    name: str
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Schema:
    """A table: its columns in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]


UTC = "datetime64[ns, UTC]"

BARS = Schema(
    "bars",
    (
        Column("symbol", "str", "instrument"),
        Column("source", "str", "package or file it came from"),
        Column("ts", UTC, "start of the bar"),
        Column("open", "float64", "first price of the bar, quote currency"),
        Column("high", "float64", "highest price of the bar"),
        Column("low", "float64", "lowest price of the bar"),
        Column("close", "float64", "last price of the bar"),
        Column("volume", "float64", "traded units; nan where the source has none"),
        Column("is_synthetic", "bool", "drawn by a model, not traded; only ever trained on"),
    ),
)

QUARANTINE = Schema(
    "quarantine",
    (
        Column("symbol", "str", "instrument"),
        Column("source", "str", "package or file it came from"),
        Column("line", "int64", "line in the file, its header being line 1"),
        Column("reason", "str", "the first check that failed"),
        Column("ts", "str", "as written in the file"),
        Column("open", "str", "as written in the file"),
        Column("high", "str", "as written in the file"),
        Column("low", "str", "as written in the file"),
        Column("close", "str", "as written in the file"),
        Column("volume", "str", "as written in the file"),
    ),
)

FORECASTS = Schema(
    "forecasts",
    (
        Column("symbol", "str", "instrument"),
        Column("ts", UTC, "start of the bar at whose close the forecast is made"),
        Column("fold", "int64", "whose networks made it; they saw earlier bars only"),
        Column("log_variance_mean", "float64", "of the next bar's log Garman-Klass variance"),
        Column("log_variance_sd", "float64", "its standard deviation"),
        Column("log_variance_low", "float64", "lower bound of the calibrated interval"),
        Column("log_variance_high", "float64", "upper bound"),
        Column("next_return_mean", "float64", "of the next bar's log return, close to close"),
        Column("next_return_sd", "float64", "its standard deviation"),
        Column("next_return_low", "float64", "lower bound of the calibrated interval"),
        Column("next_return_high", "float64", "upper bound"),
        Column("up_probability", "float64", "that the next close is above this one"),
    ),
)

EQUITY = Schema(
    "equity",
    (
        Column("strategy", "str", "strategy"),
        Column("member", "int64", "seed or copy of the strategy"),
        Column("ts", UTC, "start of the bar whose close marks the equity"),
        Column("equity", "float64", "summed over symbols, as a multiple of the start"),
    ),
)

WALK_FORWARD = Schema(
    "walk_forward",
    (
        Column("strategy", "str", "strategy"),
        Column("scheme", "str", "how training spans begin: anchored, rolling; none for yardsticks"),
        Column("ts", UTC, "start of the bar whose close marks the equity"),
        Column(
            "equity",
            "float64",
            "one account over all folds, a multiple of the start; of seeds the mean",
        ),
    ),
)

ROLLOUTS = Schema(
    "rollouts",
    (
        Column("strategy", "str", "strategy"),
        Column("member", "int64", "seed or copy of the strategy"),
        Column("symbol", "str", "instrument"),
        Column("ts", UTC, "start of the bar whose close marks the equity"),
        Column("position", "int8", "-1 short, 0 flat, 1 long, after the bar's open"),
        Column("exposure", "float64", "position at the close, signed share of equity"),
        Column("equity", "float64", "cash + units * close, currency"),
        Column("traded", "float64", "traded notional of the bar, currency"),
        Column("paid", "float64", "fee, half-spread and slippage of the bar, currency"),
    ),
)

TRADES = Schema(
    "trades",
    (
        Column("strategy", "str", "strategy"),
        Column("symbol", "str", "instrument"),
        Column("entry_ts", UTC, "start of the bar at whose open it was entered"),
        Column("exit_ts", UTC, "start of the bar at whose open it was left; NaT if open"),
        Column("side", "int64", "1 long, -1 short"),
        Column("quantity", "float64", "units, positive"),
        Column("entry_price", "float64", "paid; spread, slippage and impact are in it"),
        Column("exit_price", "float64", "received; the last close if open"),
        Column("fees", "float64", "of both ends, currency"),
        Column("profit", "float64", "after all costs, currency"),
        Column("return", "float64", "profit over what was paid for the entry"),
        Column("bars_held", "int64", "bars from entry to exit"),
        Column("is_open", "bool", "still open at the last close"),
        Column("member", "int64", "seed or copy of the strategy"),
    ),
)

FILLS = Schema(
    "fills",
    (
        Column("strategy", "str", "strategy"),
        Column("ts", UTC, "start of the bar at whose open it was filled"),
        Column("symbol", "str", "instrument"),
        Column("quantity", "float64", "signed units"),
        Column("price", "float64", "paid"),
        Column("mid", "float64", "the open"),
        Column("fee", "float64", "currency"),
        Column("slippage", "float64", "half the spread and slippage, currency"),
        Column("impact", "float64", "currency"),
        Column("member", "int64", "seed or copy of the strategy"),
    ),
)

ORDERS = Schema(
    "orders",
    (
        Column("strategy", "str", "method of allocation"),
        Column("ts", UTC, "bar at whose open it came to the limits"),
        Column("symbol", "str", "instrument"),
        Column("action", "str", "accept, shrink, reject or exit"),
        Column("asked", "float64", "signed units"),
        Column("allowed", "float64", "signed units"),
        Column("limit", "str", "field of RiskLimits that bound it; empty if accepted"),
    ),
)

WEIGHTS = Schema(
    "weights",
    (
        Column("strategy", "str", "method of allocation"),
        Column("rule", "str", "when it decides"),
        Column("ts", UTC, "bar of the decision; traded one bar later"),
        Column("symbol", "str", "instrument"),
        Column("weight", "float64", "target, share of equity"),
    ),
)

RISK = Schema(
    "risk",
    (
        Column("series", "str", "whose returns"),
        Column("ts", UTC, "bar of the return; the forecast was made before it"),
        Column("model", "str", "a key of portfolio.var_models.MODELS"),
        Column("level", "float64", "confidence"),
        Column("return", "float64", "simple return of the bar"),
        Column(
            "value_at_risk", "float64", "forecast loss, share, positive; nan without a forecast"
        ),
        Column("expected_shortfall", "float64", "forecast mean loss beyond it, share"),
    ),
)

MESSAGES = Schema(
    "messages",
    (
        Column("symbol", "str", "instrument"),
        Column("source", "str", "simulator or file it came from"),
        Column("session", "str", "trading day, YYYY-MM-DD"),
        Column("ts", "int64", "nanoseconds UTC"),
        Column("type", "int8", "LOBSTER event code, 1 to 7"),
        Column("order_id", "int64", "identity of the resting order; 0 where hidden"),
        Column("size", "int32", "lots"),
        Column("price", "int32", "ticks"),
        Column("direction", "int8", "+1 a buy order rests, -1 a sell order"),
    ),
)


def snapshots(levels: int) -> Schema:
    """Book snapshots with `levels` prices a side; an empty level has price 0 and size 0."""
    columns = [
        Column("symbol", "str", "instrument"),
        Column("source", "str", "simulator or file it came from"),
        Column("session", "str", "trading day, YYYY-MM-DD"),
        Column("ts", "int64", "nanoseconds UTC"),
        Column("best_bid", "int32", "ticks"),
        Column("best_ask", "int32", "ticks"),
        Column("bid_qty_1", "int32", "lots at the best bid"),
        Column("ask_qty_1", "int32", "lots at the best ask"),
    ]
    for k in range(2, levels + 1):
        for side in ("bid", "ask"):
            columns.append(Column(f"{side}_px_{k}", "int32", f"ticks, {side} level {k}"))
            columns.append(Column(f"{side}_qty_{k}", "int32", f"lots, {side} level {k}"))
    columns += [
        Column("last_px", "int32", "ticks of the last trade; 0 before the first"),
        Column("traded_qty", "int32", "lots traded since the snapshot before"),
    ]
    return Schema("snapshots", tuple(columns))


def validate(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return `frame` unchanged if it has exactly the schema's columns and types.

    Raises
    ------
    SchemaError
        Names every missing, surplus and wrongly typed column.
    """
    faults = [f"missing {name}" for name in schema.names if name not in frame.columns]
    faults += [f"surplus {name}" for name in frame.columns if name not in schema.names]
    for column in schema.columns:
        if column.name in frame.columns and str(frame[column.name].dtype) != column.dtype:
            received = frame[column.name].dtype
            faults.append(f"{column.name} is {received}, expected {column.dtype}")
    if faults:
        raise SchemaError(f"{schema.name}: {'; '.join(faults)}")
    return frame


def empty(schema: Schema) -> pd.DataFrame:
    """A table of the schema with no rows."""
    return pd.DataFrame({c.name: pd.Series([], dtype=c.dtype) for c in schema.columns})
