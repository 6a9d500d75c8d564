"""From fills to round trips, and what they say of a strategy.

A fill against the position closes the oldest lot first (FIFO), as `backtesting.py` books
it; `vectorbt` reports average entry prices instead, with the same total. Fees are
shared out by units. What is still open is marked at the last close, so that

    profits of trades, closed and open = change of equity + financing.

Source of the capacity: the square-root law of `portfolio.costs`.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.compute import compile_kernel
from hftlib.evaluation.engine import Backtest
from hftlib.portfolio import measures

TRADE = np.dtype(
    [
        ("strategy", "i8"),
        ("asset", "i8"),
        ("side", "i8"),  # 1 long, -1 short
        ("quantity", "f8"),  # units, positive
        ("entry_row", "i8"),
        ("exit_row", "i8"),  # that of the last close if open
        ("entry_price", "f8"),  # of the fills: spread, slippage and impact are in it
        ("exit_price", "f8"),  # the last close if open
        ("fees", "f8"),  # currency, of both ends
        ("profit", "f8"),  # currency, after fees
        ("is_open", "?"),
    ]
)
LOT = np.dtype([("row", "i8"), ("quantity", "f8"), ("price", "f8"), ("fee", "f8")])
Records = npt.NDArray[np.void]


@compile_kernel
def _write(trade, fill, side, lot, quantity, row, price, unit_fee, is_open):  # type: ignore[no-untyped-def]
    """One trade: `quantity` of a lot that leaves at `price`, with the exit's fee a unit."""
    trade.strategy = fill.strategy
    trade.asset = fill.asset
    trade.side = side
    trade.quantity = quantity
    trade.entry_row = lot.row
    trade.exit_row = row
    trade.entry_price = lot.price
    trade.exit_price = price
    trade.fees = quantity * (lot.fee + unit_fee)
    trade.profit = side * quantity * (price - lot.price) - trade.fees
    trade.is_open = is_open


@compile_kernel
def _match(fills, last_close, last_row, lots, trades):  # type: ignore[no-untyped-def]
    """Write trades of fills sorted by strategy and asset; how many.

    The position is summed as the ledger sums it: when it is exactly 0, or has changed
    sides, all lots are closed, whatever rounding has left in them.
    """
    n = first = end = 0
    held = 0.0
    for k in range(len(fills)):
        fill = fills[k]
        size = abs(fill.quantity)
        unit_fee = fill.fee / size
        before, held = held, held + fill.quantity
        side = 1 if before > 0.0 else -1
        if before * fill.quantity < 0.0:
            closes_all = held * before <= 0.0
            left = size
            while first < end and (closes_all or left > 0.0):
                lot = lots[first]
                part = lot.quantity if closes_all else min(lot.quantity, left)
                _write(trades[n], fill, side, lot, part, fill.row, fill.price, unit_fee, False)
                n += 1
                left -= part
                lot.quantity -= part
                if lot.quantity == 0.0:
                    first += 1
            opened = abs(held) if closes_all else 0.0
        else:
            opened = size
        if opened > 0.0:
            lot = lots[end]
            lot.row = fill.row
            lot.quantity = opened
            lot.price = fill.price
            lot.fee = unit_fee
            end += 1
        is_last = k + 1 == len(fills)
        if not is_last:
            after = fills[k + 1]
            is_last = after.strategy != fill.strategy or after.asset != fill.asset
        if is_last:
            side = 1 if held > 0.0 else -1
            while first < end:
                lot = lots[first]
                price = last_close[fill.asset]
                _write(trades[n], fill, side, lot, lot.quantity, last_row, price, 0.0, True)
                n += 1
                first += 1
            held = 0.0
            first = end = 0
    return n


def match_fills(fills: Records, last_close: npt.NDArray[np.float64], last_row: int) -> Records:
    """Round trips of fills, first in, first out.

    Parameters
    ----------
    fills : array with the fields strategy, asset, row, quantity, price, fee
        As `engine_kernel.FILL`; those of one strategy and asset in time order, quantities not 0,
        from a flat start.
    last_close : float64 array of shape (n_assets,)
        Marks what is open.
    last_row : int

    Returns
    -------
    array of TRADE
        By strategy, asset and exit; open ones last.

    Raises
    ------
    ValueError
        If a quantity is 0 or not finite.
    """
    bad = np.flatnonzero(~(np.isfinite(fills["quantity"]) & (fills["quantity"] != 0)))
    if bad.size:
        raise ValueError(
            f"fill {bad[0]} has quantity {fills['quantity'][bad[0]]}; expected signed units, not 0"
        )
    order = np.lexsort((fills["row"], fills["asset"], fills["strategy"]))
    # each closing empties a lot or a fill, and each lot is opened by a fill
    trades = np.zeros(2 * len(fills), dtype=TRADE)
    lots = np.zeros(len(fills), dtype=LOT)
    n = _match(fills[order], last_close, last_row, lots, trades)
    return trades[:n].copy()


def list_trades(result: Backtest) -> pd.DataFrame:
    """Round trips of a backtest, one row each.

    Returns
    -------
    frame
        Columns strategy, symbol, entry_ts, exit_ts (NaT if open), side, quantity (units),
        entry_price, exit_price (the last close if open), fees, profit (currency, after all
        costs; financing belongs to the account), return (profit over what was paid for the
        entry), bars_held, is_open.
    """
    prices = result.prices
    trades = match_fills(result.fills, prices.close[-1], len(prices.ts) - 1)
    exits = pd.Series(prices.times(trades["exit_row"]))
    return pd.DataFrame(
        {
            "strategy": pd.Series(np.array(result.strategies)[trades["strategy"]], dtype="str"),
            "symbol": pd.Series(np.array(prices.symbols)[trades["asset"]], dtype="str"),
            "entry_ts": prices.times(trades["entry_row"]),
            "exit_ts": exits.mask(trades["is_open"]),
            "side": trades["side"],
            "quantity": trades["quantity"],
            "entry_price": trades["entry_price"],
            "exit_price": trades["exit_price"],
            "fees": trades["fees"],
            "profit": trades["profit"],
            "return": trades["profit"] / (trades["quantity"] * trades["entry_price"]),
            "bars_held": trades["exit_row"] - trades["entry_row"],
            "is_open": trades["is_open"],
        }
    )


def summarise_trades(
    result: Backtest, periods_per_year: float, *, min_trades: int = 10
) -> pd.DataFrame:
    """One row a strategy; statistics of trades are of the closed ones.

    Returns
    -------
    frame indexed by strategy
        n_trades and n_open; win_rate (share of winners among those that win or lose),
        profit_factor, expectancy (mean profit, currency), mean_return and bars_held (mean), all
        nan with fewer than `min_trades` closed trades, the factor also without a loser;
        turnover_per_year (traded notional over equity); capacity (currency); reason, what
        explains each nan, empty without one.
    """
    trades = list_trades(result)
    closed = trades[~trades["is_open"]]
    rows = []
    with np.errstate(divide="ignore", invalid="ignore"):
        turnover = (result.traded[1:] / result.equity[:-1]).mean(axis=0) * periods_per_year
    for k, strategy in enumerate(result.strategies):
        own = closed[closed["strategy"] == strategy]
        capacity, reason = estimate_capacity(result, k)
        reasons = [f"capacity: {reason}"] if reason else []
        row = {
            "n_trades": len(own),
            "n_open": int((trades["is_open"] & (trades["strategy"] == strategy)).sum()),
            "win_rate": measures.win_rate(own["profit"]),
            "profit_factor": measures.profit_factor(own["profit"]),
            "expectancy": own["profit"].mean(),
            "mean_return": own["return"].mean(),
            "bars_held": own["bars_held"].mean(),
        }
        if len(own) < max(min_trades, 1):
            row = {name: value if name.startswith("n_") else np.nan for name, value in row.items()}
            reasons.insert(0, f"trades: {len(own)} closed, {max(min_trades, 1)} needed")
        elif np.isnan(row["profit_factor"]):
            reasons.insert(0, "profit_factor: no trade lost")
        row |= {"turnover_per_year": turnover[k], "capacity": capacity}
        rows.append(row | {"reason": "; ".join(reasons)})
    return pd.DataFrame(rows, index=pd.Index(result.strategies, name="strategy"))


def estimate_capacity(result: Backtest, strategy: int = 0) -> tuple[float, str]:
    """Capital, held constant, at which square-root impact eats the strategy's mean return.

    Let r be the return of a bar before impact and i the share of equity paid for impact, by an
    account of equity E. Orders grow with the capital C, and what they cost in proportion to
    C^1.5, so that at C the bar earns r - i * sqrt(C / E). The mean is 0 at

        C = (sum r / sum(i / sqrt(E)))^2;

    4/9 of it earns most in currency. Where `costs.IMPACT_LIMIT` binds the estimate is too low.

    Returns
    -------
    capital : float
        Currency; 0 if the strategy loses even before impact.
    reason : str
        Why it is nan: nothing was traded, or no impact was charged. Otherwise empty.
    """
    fills = result.fills[result.fills["strategy"] == strategy]
    if not len(fills):
        return np.nan, "nothing was traded"
    paid = np.bincount(fills["row"], fills["impact"], len(result.equity))[1:]
    if not paid.any():
        return np.nan, "no impact was charged; set impact_bps and give volumes"
    equity = result.equity[:, strategy]
    if (equity <= 0).any():
        return np.nan, "the account was ruined"
    earned = float(((np.diff(equity) + paid) / equity[:-1]).sum())
    eaten = float((paid / equity[:-1] ** 1.5).sum())
    return max(earned, 0.0) ** 2 / eaten**2, ""
