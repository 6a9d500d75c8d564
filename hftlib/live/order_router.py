"""Where an order goes: level by level to the venue that is cheapest after fees.

With fees in proportion to the notional, taking the levels of all venues in the order of their
price after fees pays the least for any quantity that they hold: no venue can offer a unit for
less that is not taken before. What one venue receives is one order, at the limit of the worst
level planned for it, so that a book which has moved on meanwhile does not fill it at a price
that was not on the plan.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from hftlib.live.broker import Quotes

BPS = Decimal("1e-4")


class Child(NamedTuple):
    """Part of an order: signed units for one venue, up to a price."""

    venue: str
    quantity: Decimal
    limit_price: Decimal


def route_order(quantity: Decimal, quotes: Sequence[Quotes]) -> tuple[Child, ...]:
    """Split a signed quantity over venues.

    Parameters
    ----------
    quotes : sequence of Quotes
        Of the side that the order takes, one a venue; the first wins a tie.

    Returns
    -------
    tuple of Child
        Best first, one a venue at most. They come to less than the quantity where the books
        hold less, and by what is below a venue's lot.

    Raises
    ------
    ValueError
        If two quotes are of one venue.
    """
    names = [quote.venue for quote in quotes]
    if len(set(names)) < len(names):
        raise ValueError(f"quotes of {names}; expected one a venue")
    side = 1 if quantity > 0 else -1
    offers = [
        (side * price * (1 + side * quote.fee_bps * BPS), k, price, units)
        for k, quote in enumerate(quotes)
        for price, units in quote.levels
    ]
    left = abs(quantity)
    taken: dict[int, tuple[Decimal, Decimal]] = {}
    for _, k, price, units in sorted(offers):
        part = min(left, units)
        part -= part % quotes[k].lot
        if part > 0:
            before = taken.get(k, (Decimal(0), price))[0]
            taken[k] = (before + part, price)
            left -= part
    return tuple(Child(names[k], side * units, price) for k, (units, price) in taken.items())


def route_quote(quantity: Decimal, quotes: Sequence[Quotes]) -> Child | None:
    """Where a signed quantity should rest: at the best price of its own side.

    Parameters
    ----------
    quotes : sequence of Quotes
        Of the side on which the order rests, without own orders.

    Returns
    -------
    Child or None
        On the venue with the best price, for that trades first; of those the one with the
        lowest fee for makers, then the shortest queue, then the first. None where there is no
        price, or the quantity is less than a lot.
    """
    side = 1 if quantity > 0 else -1
    offers = [
        (-side * quote.levels[0][0], quote.maker_fee_bps, quote.levels[0][1], k)
        for k, quote in enumerate(quotes)
        if quote.levels
    ]
    if not offers:
        return None
    chosen = quotes[min(offers)[-1]]
    units = abs(quantity) - abs(quantity) % chosen.lot
    return Child(chosen.venue, side * units, chosen.levels[0][0]) if units > 0 else None
