"""The crash game's price process: replayed from a server's seed, or drawn in bulk.

A game is a list of prices, multiples of the start, one a tick of 250 ms:
`prices[0] = 1.0`, and the last one is the rug price, so that a game of
`n` prices rugs at tick `n - 1`. `prices` and `verify` follow the origin's
generator bit for bit; `play_games` and `advance` follow the same law on
counter streams, faster, and are what environments and tests use.

Source: the origin's published generator (versions v1 and v3); checked on the
real games that the tests name.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hftlib.compute import compile_kernel
from hftlib.market.draws import Stream, open_streams, uniform
from hftlib.sessions.arc4 import State, draw, open_arc4

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

RUG_CHANCE = 0.005  # per tick, whatever the age and the price
GOD_CHANCE = 0.00001  # per tick, of a god candle; none in v1
GOD_FACTOR = 10.0
GOD_CEILING = 100.0  # above this price a god candle does nothing
BIG_CHANCE = 0.125
BIG_LOW, BIG_SPAN = 0.15, 0.10
DRIFT_LOW, DRIFT_SPAN = -0.02, 0.05
NOISE = 0.005  # times the root of the price
WIDEST_ROOT = 10.0  # bound of that root; none in v1
MAX_TICKS = 5_000
RUG_SHARE = 1 - 0.98  # of the lowest price, the start included
Version = Literal["v1", "v3"]
VERSIONS = get_args(Version)
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@compile_kernel
def drift_price(price: float, kind: float, size: float, side: float, widest: float) -> float:
    """The price after an ordinary tick, from three uniform numbers in the order of drawing."""
    if kind < BIG_CHANCE:
        change = BIG_LOW + BIG_SPAN * size
        if side <= 0.5:
            change = -change
    else:
        drift = DRIFT_LOW + DRIFT_SPAN * size
        change = drift + NOISE * min(widest, math.sqrt(price)) * (2.0 * side - 1.0)
    return max(0.0, price * (1.0 + change))


@compile_kernel
def rug_price(lowest: float) -> float:
    """What a token is worth after the rug; `lowest` is the least price before it, 1.0 included."""
    return RUG_SHARE * lowest


@compile_kernel
def advance(stream: Stream, price: float) -> tuple[float, bool]:
    """One tick of a v3 game on a counter stream: the price, and whether it rugs instead.

    At a rug the price comes back as it was; the caller keeps the lowest price
    for `rug_price`, and ends the game after `MAX_TICKS`. The stream
    `open_streams(seed, k)` gives game k of `play_games(…, seed)`.
    """
    if uniform(stream) < RUG_CHANCE:
        return price, True
    if uniform(stream) < GOD_CHANCE and price <= GOD_CEILING:
        return price * GOD_FACTOR, False
    kind, size, side = uniform(stream), uniform(stream), uniform(stream)
    return drift_price(price, kind, size, side, WIDEST_ROOT), False


@compile_kernel
def _replay(state: State, is_v1: bool, out: FloatArray) -> int:
    """Fill `out` with a game's prices; returns their number."""
    widest = math.inf if is_v1 else WIDEST_ROOT
    price = lowest = out[0] = 1.0
    n = 1
    while n <= MAX_TICKS and draw(state) >= RUG_CHANCE:
        if not is_v1 and draw(state) < GOD_CHANCE and price <= GOD_CEILING:
            price *= GOD_FACTOR
        else:
            kind, size, side = draw(state), draw(state), draw(state)
            price = drift_price(price, kind, size, side, widest)
        lowest = min(lowest, price)
        out[n] = price
        n += 1
    out[n] = rug_price(lowest)
    return n + 1


@compile_kernel
def _play(streams: Stream, begin: int, prices: FloatArray, offsets: IntArray) -> int:
    """Play games from number `begin` while `prices` has room; returns the first not played."""
    for game in range(begin, len(streams)):
        at = offsets[game]
        if at + MAX_TICKS + 2 > len(prices):
            return game
        last = at + MAX_TICKS
        price = lowest = prices[at] = 1.0
        is_rug = False
        while at < last and not is_rug:
            price, is_rug = advance(streams[game], price)
            if not is_rug:
                lowest = min(lowest, price)
                at += 1
                prices[at] = price
        prices[at + 1] = rug_price(lowest)
        offsets[game + 1] = at + 2
    return len(streams)


def prices(server_seed: str, game_id: str, version: str = "v3") -> list[float]:
    """Every price of the game that a server seed and an id give, the rug price last.

    Raises
    ------
    ValueError
        If the version is not of `VERSIONS`, or seed or id are not ASCII.
    """
    if version not in VERSIONS:
        raise ValueError(f"game {game_id}: version {version!r}; expected one of {VERSIONS}")
    out = np.empty(MAX_TICKS + 2)
    n = _replay(open_arc4(f"{server_seed}-{game_id}"), version == "v1", out)
    listed: list[float] = out[:n].tolist()
    return listed


class ProvablyFair(BaseModel):
    """What the server publishes after a game (the seed) and before it (its hash)."""

    model_config = ConfigDict(strict=True)

    serverSeed: str  # noqa: N815
    serverSeedHash: str  # noqa: N815


class GameRecord(BaseModel):
    """A complete game as the wire's `gameHistory` has it; other fields are ignored."""

    model_config = ConfigDict(strict=True)

    id: str
    gameVersion: Version  # noqa: N815
    prices: Annotated[list[Price], Field(min_length=2)]
    peakMultiplier: Price  # noqa: N815
    provablyFair: ProvablyFair  # noqa: N815


@dataclass(frozen=True)
class Verification:
    """What a record says against what its server seed gives.

    first_difference : int or None
        First tick at which the prices differ, or at which one of the lists has ended.
    faults : tuple of str
        One sentence a fault; empty for a fair game.
    """

    game_id: str
    is_hash_right: bool
    are_prices_right: bool
    is_rug_price_right: bool
    is_peak_right: bool
    first_difference: int | None
    faults: tuple[str, ...]

    @property
    def is_fair(self) -> bool:
        """Whether all of it holds."""
        return not self.faults


def parse_record(record: Any) -> GameRecord:
    """A game's record, checked.

    Raises
    ------
    ValueError
        Naming the first field that is missing or of a wrong type.
    """
    try:
        return GameRecord.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        name = record.get("id") if isinstance(record, dict) else None
        received = "" if first["type"] == "missing" else f"; received {first['input']!r:.80}"
        raise ValueError(
            f"record of game {name}: {field or 'record'}: {first['msg']}{received}; expected id, "
            "gameVersion, prices, peakMultiplier, provablyFair.serverSeed and .serverSeedHash, "
            "as in the wire's gameHistory"
        ) from None


def verify(game_record: Any) -> Verification:
    """Check a complete game against its server seed; prices must agree to the last bit.

    The hash is the server seed's SHA-256. The rug price is checked against the
    record's own prices, the rest against the prices that the seed gives.

    Raises
    ------
    ValueError
        If the record is malformed, see `parse_record`.
    """
    record = parse_record(game_record)
    seed, published = record.provablyFair.serverSeed, record.provablyFair.serverSeedHash
    given = prices(seed, record.id, record.gameVersion)
    pairs = enumerate(zip_longest(record.prices, given))
    first = next((tick for tick, (seen, true) in pairs if seen != true), None)
    digest = hashlib.sha256(seed.encode()).hexdigest()
    fair_rug, peak = rug_price(min(record.prices[:-1])), max(given)
    faults = {
        "hash": f"the server seed's SHA-256 is {digest}, the published hash {published}",
        "prices": f"prices differ from tick {first} on: {_at(record.prices, first)} in the record, "
        f"{_at(given, first)} from the seed",
        "rug": f"the rug price is {record.prices[-1]}, by the lowest price before it {fair_rug}",
        "peak": f"the peak is {record.peakMultiplier} in the record, {peak} from the seed",
    }
    is_right = {
        "hash": digest == published,
        "prices": first is None,
        "rug": record.prices[-1] == fair_rug,
        "peak": record.peakMultiplier == peak,
    }
    return Verification(
        game_id=record.id,
        is_hash_right=is_right["hash"],
        are_prices_right=is_right["prices"],
        is_rug_price_right=is_right["rug"],
        is_peak_right=is_right["peak"],
        first_difference=first,
        faults=tuple(fault for what, fault in faults.items() if not is_right[what]),
    )


def _at(values: list[float], tick: int | None) -> str:
    """The price at a tick in words."""
    return "nothing" if tick is None or tick >= len(values) else str(values[tick])


@dataclass(frozen=True)
class Games:
    """Many games, their prices one after the other.

    prices : array of shape (n_prices,)
        nan where a tick was not seen; the last of a complete game is its rug price.
    offsets : array of shape (n_games + 1,)
        Game k is `prices[offsets[k]:offsets[k + 1]]`, from tick 0.
    first_tick : array of shape (n_games,)
        First tick seen; 0 for a game seen from its start.
    is_complete : array of shape (n_games,)
        Whether the rug was seen; otherwise the game was alive at its last price.
    """

    prices: FloatArray
    offsets: IntArray
    first_tick: IntArray
    is_complete: BoolArray

    @classmethod
    def from_lists(
        cls, prices: Sequence[npt.ArrayLike], is_complete: npt.ArrayLike | None = None
    ) -> "Games":
        """Games from one list of prices each, all of them complete if nothing is said.

        Raises
        ------
        ValueError
            If a list has fewer than two prices, ends with nan or begins with neither
            nan nor 1.0, or `is_complete` is of another length.
        """
        lists = [np.asarray(one, dtype=np.float64) for one in prices]
        complete = np.ones(len(lists), dtype=np.bool_)
        if is_complete is not None:
            complete = np.asarray(is_complete, dtype=np.bool_)
        if complete.shape != (len(lists),):
            raise ValueError(f"is_complete has shape {complete.shape}; expected ({len(lists)},)")
        for k, one in enumerate(lists):
            if one.ndim != 1 or len(one) < 2 or math.isnan(one[-1]):
                raise ValueError(
                    f"game {k}: expected a list of two prices or more, the last one seen; "
                    f"received {one}"
                )
            if not (math.isnan(one[0]) or one[0] == 1.0):
                raise ValueError(
                    f"game {k} begins with {one[0]}; expected 1.0 at tick 0, or nan if not seen"
                )
        return cls(
            prices=np.concatenate(lists) if lists else np.empty(0),
            offsets=np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)]),
            first_tick=np.array([np.argmax(~np.isnan(one)) for one in lists], dtype=np.int64),
            is_complete=complete,
        )

    def __len__(self) -> int:
        """Number of games."""
        return len(self.is_complete)

    def __getitem__(self, game: int) -> FloatArray:
        """The prices of one game, a view."""
        if not 0 <= game < len(self):
            raise IndexError(f"game {game} of {len(self)}")
        return self.prices[self.offsets[game] : self.offsets[game + 1]]

    @property
    def last_tick(self) -> IntArray:
        """Tick of the last price, shape (n_games,): of the rug where the game is complete."""
        return np.diff(self.offsets) - 1

    @property
    def rug_tick(self) -> IntArray:
        """Tick of the rug, shape (n_games,); -1 where it was not seen."""
        return np.where(self.is_complete, self.last_tick, -1)

    @property
    def peak_multiplier(self) -> FloatArray:
        """Highest price seen, shape (n_games,)."""
        return np.fmax.reduceat(self.prices, self.offsets[:-1])


def play_games(n_games: int, seed: int, first: int = 0) -> Games:
    """Games `first` to `first + n_games - 1` of the seed, by the law of v3.

    Game k depends on `seed` and k alone, whatever the batch. Takes 8 bytes a
    tick, about 1.6 kB a game.

    Raises
    ------
    ValueError
        If `n_games` or `first` is negative, or the seed no whole number of 64 bits.
    """
    if n_games < 0 or first < 0:
        raise ValueError(f"n_games={n_games}, first={first}: expected numbers of at least 0")
    streams = open_streams(seed, np.arange(first, first + n_games, dtype=np.uint64))
    offsets = np.zeros(n_games + 1, dtype=np.int64)
    # a game has 201 prices in the mean, 199.5 the standard deviation: six of those to spare
    flat = np.empty(int(201 * n_games + 1_200 * math.sqrt(n_games)) + MAX_TICKS + 2)
    played = _play(streams, 0, flat, offsets)
    while played < n_games:
        flat = np.concatenate([flat[: offsets[played]], np.empty(len(flat))])
        played = _play(streams, played, flat, offsets)
    return Games(
        prices=flat[: offsets[-1]],
        offsets=offsets,
        first_tick=np.zeros(n_games, dtype=np.int64),
        is_complete=np.ones(n_games, dtype=np.bool_),
    )


def simulated_seed(seed: int, number: int, day: date) -> tuple[str, str]:
    """Server seed (64 hexadecimal digits) and game id of one simulated game.

    The id is `YYYYMMDD-` and 16 digits. Both depend on `seed` and `number`, only
    the id's first part on the day; they come from SHA-256, as the origin's do
    from its server.
    """
    secret, name = (
        hashlib.sha256(f"hftlib {what} {seed} {number}".encode()).hexdigest()
        for what in ("server seed", "game id")
    )
    return secret, f"{day:%Y%m%d}-{name[:16]}"
