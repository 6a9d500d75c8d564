"""Many assets in one account: units, cost, profit, fees, dividends and splits, exactly.

    equity = cash + sum(units * price)
    equity - deposits = realised + unrealised + dividends - fees

hold to the last digit after any sequence of events. Amounts are `Decimal`: prices,
units and fees arrive as decimal numbers, and sums and products of those are decimals
with finitely many digits, so nothing but a division can round. There are two. The cost
of the part of a position that is closed is rounded to 1e-12 of the currency, and what
rounding left stays in the cost of the rest. Cash in lieu of a fraction of a lot is
rounded to the same, towards the payer, and booked as the sale of that fraction. Should
a product ever need more than 100 digits, an error says so. (Fractions would not round
either, but the denominator grows with each partial close; integers of a cent cannot
hold a price such as 0.00001234.)

Values are immutable and every function returns a new `Account`; `ledger` is the
compiled counterpart in floats, for one instrument and millions of steps. Floats are
taken at their shortest decimal form, 0.1 for 0.1.
"""

import decimal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

Number = Decimal | int | float | str
ZERO = Decimal(0)
QUANTUM = Decimal("1e-12")  # to which the two divisions round, currency
EXACT = decimal.Context(
    prec=100,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
SHOWN = decimal.Context(prec=28)
ROUNDING = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_EVEN)


class PositionError(ValueError):
    """An event that cannot be booked, or a stored account that contradicts itself."""


@dataclass(frozen=True)
class Position:
    """One asset of an account, in units and in currency.

    Attributes
    ----------
    units
        Signed; negative is short.
    cost
        What the open units were bought for; negative, what they were sold short for.
    realised
        Profit of closed units, before fees and dividends.
    dividends
        Received; negative if paid on a short position.
    fees
        Paid so far; a rebate is negative.
    """

    units: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    dividends: Decimal = ZERO
    fees: Decimal = ZERO

    @property
    def average_cost(self) -> Decimal | None:
        """Price at which the open units were bought or sold, 28 digits; None if there are none."""
        return None if self.units == 0 else SHOWN.divide(self.cost, self.units)

    def unrealised(self, price: Number) -> Decimal:
        """Profit of the open units at `price`."""
        with _exactly(f"value of {self.units} units"):
            return self.units * to_decimal(price, "price") - self.cost


@dataclass(frozen=True)
class Account:
    """Cash and positions by asset; `deposits` is the sum paid in less the sum taken out."""

    cash: Decimal = ZERO
    deposits: Decimal = ZERO
    positions: Mapping[str, Position] = field(default_factory=dict)

    @property
    def realised(self) -> Decimal:
        """Realised profit of all assets."""
        return _total(p.realised for p in self.positions.values())

    @property
    def dividends(self) -> Decimal:
        """Dividends of all assets."""
        return _total(p.dividends for p in self.positions.values())

    @property
    def fees(self) -> Decimal:
        """Fees of all assets."""
        return _total(p.fees for p in self.positions.values())

    def units(self, asset: str) -> Decimal:
        """Units held, 0 for an asset that was never traded."""
        return self.positions.get(asset, Position()).units

    def equity(self, prices: Mapping[str, Number]) -> Decimal:
        """Cash and the value of all positions at `prices`, of which every open asset needs one.

        Raises
        ------
        PositionError
            If the price of an open position is missing or no finite number.
        """
        with _exactly("equity"):
            return self.cash + _total(
                p.units * self._price(prices, a) for a, p in self.positions.items()
            )

    def unrealised(self, prices: Mapping[str, Number]) -> Decimal:
        """Profit of the open positions at `prices`; errors as `equity`."""
        return _total(p.unrealised(self._price(prices, a)) for a, p in self.positions.items())

    def weights(self, prices: Mapping[str, Number]) -> dict[str, float]:
        """Value of each open position as a share of equity, for `allocation`.

        Raises
        ------
        PositionError
            As `equity`, and if equity is not above 0.
        """
        equity = self.equity(prices)
        if equity <= 0:
            raise PositionError(f"equity is {equity}; expected above 0: shares of it mean nothing")
        return {
            asset: float(SHOWN.divide(position.units * self._price(prices, asset), equity))
            for asset, position in self.positions.items()
            if position.units
        }

    def _price(self, prices: Mapping[str, Number], asset: str) -> Decimal:
        if self.positions[asset].units == 0:
            return ZERO
        if asset not in prices:
            raise PositionError(
                f"no price of {asset}, of which {self.positions[asset].units} units are open"
            )
        return to_decimal(prices[asset], f"price of {asset}")


def to_decimal(value: Number, name: str) -> Decimal:
    """`value` as a finite decimal; a float at its shortest form.

    Raises
    ------
    PositionError
        If it is no finite number.
    """
    try:
        # numpy's scalars print as np.float64(…) under repr, not under str
        found = value if isinstance(value, Decimal) else Decimal(str(value))
    except decimal.InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise PositionError(f"{name} is {value!r}; expected a finite number")
    return found


def deposit(account: Account, amount: Number) -> Account:
    """Pay `amount` in; negative takes it out."""
    paid = to_decimal(amount, "amount")
    with _exactly(f"deposit of {paid}"):
        return replace(account, cash=account.cash + paid, deposits=account.deposits + paid)


def book_fill(
    account: Account, asset: str, quantity: Number, price: Number, fee: Number = 0
) -> Account:
    """Book a fill of signed `quantity` at `price`; `fee` is in currency, negative for a rebate.

    A fill against the position closes it in part at its average cost, or closes it and
    opens the other side with the rest.

    Raises
    ------
    PositionError
        If a number is not finite, the price is negative, or an amount needs over 100 digits.
    """
    traded, paid = to_decimal(quantity, "quantity"), to_decimal(fee, "fee")
    at = to_decimal(price, "price")
    if at < 0:
        raise PositionError(f"price of {asset} is {at}; expected at least 0")
    with _exactly(f"fill of {traded} {asset} at {at}"):
        old = account.positions.get(asset, Position())
        new = _trade(old, traded, at)
        cash = account.cash - traded * at - paid
        return _with(account, asset, replace(new, fees=old.fees + paid), cash)


def pay_dividend(account: Account, asset: str, per_unit: Number) -> Account:
    """Book a cash dividend of `per_unit` on the open units; a short position pays it.

    Raises
    ------
    PositionError
        If `per_unit` is negative or no finite number.
    """
    rate = to_decimal(per_unit, "per_unit")
    if rate < 0:
        raise PositionError(f"dividend of {asset} is {rate} a unit; expected at least 0")
    with _exactly(f"dividend of {rate} on {asset}"):
        old = account.positions.get(asset, Position())
        received = old.units * rate
        new = replace(old, dividends=old.dividends + received)
        return _with(account, asset, new, account.cash + received)


def split_units(
    account: Account,
    asset: str,
    numerator: int,
    denominator: int,
    *,
    price: Number,
    lot: Number = 1,
) -> Account:
    """Turn every `denominator` units into `numerator`; 1 for 10 is a reverse split.

    The cost stays. What is left over below one `lot` (the smallest tradable quantity)
    is sold at `price`, that after the split, and paid out as cash in lieu; a short
    position pays it.

    Raises
    ------
    PositionError
        If the ratio is not of two whole numbers above 0, the price is negative, or the
        lot is not above 0.
    """
    if not (isinstance(numerator, int) and isinstance(denominator, int)) or (
        min(numerator, denominator) < 1
    ):
        raise PositionError(
            f"split of {asset} is {numerator} for {denominator}; expected whole numbers from 1"
        )
    at, step = to_decimal(price, "price"), to_decimal(lot, "lot")
    if at < 0 or step <= 0:
        raise PositionError(f"price {at}, lot {step}; expected a price from 0 and a lot above 0")
    with _exactly(f"split of {asset}"):
        old = account.positions.get(asset, Position())
        # Counted in 1 / denominator of a unit, all of this is exact.
        whole = old.units * numerator
        rest = whole % (step * denominator)  # has the sign of whole
        units = (whole - rest) / denominator
        lieu = _divide(rest * at, Decimal(denominator), decimal.ROUND_DOWN)
        gone = _divide(old.cost * rest, whole) if units else old.cost
        new = replace(old, units=units, cost=old.cost - gone, realised=old.realised + (lieu - gone))
        return _with(account, asset, new, account.cash + lieu)


def to_json(account: Account) -> dict[str, Any]:
    """The account in plain JSON types; amounts are strings, which keep every digit."""
    return {
        "cash": str(account.cash),
        "deposits": str(account.deposits),
        "positions": {
            asset: {name: str(value) for name, value in vars(position).items()}
            for asset, position in account.positions.items()
        },
    }


def from_json(stored: Mapping[str, Any]) -> Account:
    """The account that `to_json` wrote.

    Raises
    ------
    PositionError
        If a field is missing, unknown or no number, or cash and costs do not add up to
        deposits and results.
    """
    try:
        positions = {
            asset: Position(**{k: _stored(v, f"{asset}.{k}") for k, v in fields.items()})
            for asset, fields in stored["positions"].items()
        }
        account = Account(
            _stored(stored["cash"], "cash"), _stored(stored["deposits"], "deposits"), positions
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise PositionError(
            f"stored account has a missing or unknown field ({error}); expected cash, deposits "
            "and positions of units, cost, realised, dividends, fees"
        ) from error
    with _exactly("stored account"):
        costs = sum((p.cost for p in positions.values()), ZERO)
        gap = account.cash + costs - account.deposits - (
            account.realised + account.dividends - account.fees
        )  # fmt: skip
    if gap != 0:
        raise PositionError(
            f"stored account is off by {gap}: cash and cost of positions should equal deposits, "
            "realised profit and dividends less fees; restore an earlier one"
        )
    return account


def _trade(old: Position, traded: Decimal, price: Decimal) -> Position:
    """The position after a fill, fees apart; inside `_exactly`."""
    if old.units * traded >= 0:
        return replace(old, units=old.units + traded, cost=old.cost + traded * price)
    closed = traded if abs(traded) <= abs(old.units) else -old.units
    gone = old.cost if closed == -old.units else _divide(old.cost * -closed, old.units)
    opened = traded - closed
    return replace(
        old,
        units=old.units + traded,
        cost=old.cost - gone + opened * price,
        realised=old.realised - closed * price - gone,
    )


def _divide(value: Decimal, divisor: Decimal, rounding: str = decimal.ROUND_HALF_EVEN) -> Decimal:
    """`value / divisor` rounded to `QUANTUM`."""
    quotient = ROUNDING.divide(value, divisor)
    return quotient.quantize(QUANTUM, rounding=rounding, context=ROUNDING)


def _with(account: Account, asset: str, position: Position, cash: Decimal) -> Account:
    return replace(account, cash=cash, positions={**account.positions, asset: position})


def _stored(value: Any, name: str) -> Decimal:
    if not isinstance(value, str):
        raise PositionError(f"{name} is {value!r}; expected a number written as a string")
    return to_decimal(value, name)


def _total(amounts: Iterable[Decimal]) -> Decimal:
    with _exactly("sum over the assets"):
        return sum(amounts, ZERO)


@contextmanager
def _exactly(what: str) -> Iterator[None]:
    """Arithmetic of 100 digits in which rounding is an error that names what was booked."""
    try:
        with decimal.localcontext(EXACT):
            yield
    except ArithmeticError as error:
        raise PositionError(
            f"{what} needs more than {EXACT.prec} digits; round the price or quantity"
        ) from error
