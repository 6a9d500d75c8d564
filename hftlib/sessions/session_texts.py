"""What fills the frames of one recorded session, a column of rows at a time."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hftlib.sessions import account as acc
from hftlib.sessions import board
from hftlib.sessions.chronicle import N_PAST, Chronicle
from hftlib.sessions.frames import (
    EVENT_FRAMES,
    LOST_TRADE,
    MESSAGE_FRAMES,
    OTHERS_TRADES,
    RECORD,
    SIDE_BET,
    Frame,
    cut_frame,
    fill_frame,
    says,
)
from hftlib.sessions.journal import Recording, Table
from hftlib.sessions.rounds import PRESALE_MS, TRADE
from hftlib.sessions.vocabulary import SIDEBET_TICKS

IntArray = npt.NDArray[np.int64]

HISTORY: Final = 10  # games listed in `gameHistory`
WINDOW: Final = 5  # ticks of `partialPrices`
LOST_SHARE: Final = 0.1  # of others' trades whose payload the recorder did not keep
MEDIAN_TRADE: Final = 0.03  # of other players, SOL

BOARD_SLOTS: Final = {
    "average": board.AVERAGE,
    "count_2x": board.COUNT_2X,
    "count_10x": board.COUNT_10X,
    "count_50x": board.COUNT_50X,
    "count_100x": board.COUNT_100X,
    "highest": board.HIGHEST_TODAY,
    "instarugs": board.INSTARUGS,
    "rugpool": board.RUGPOOL,
}
ACCOUNT_SLOTS: Final = {
    "cash": acc.CASH,
    "held_qty": acc.QTY,
    "avg_cost": acc.AVG_COST,
    "pnl": acc.PNL,
    "invested": acc.INVESTED,
    "stake": acc.STAKE,
}


@dataclass(frozen=True)
class Rows:
    """Some events or messages: their table, their numbers in it, and their arrival."""

    table: Table
    number: IntArray
    ts_us: IntArray

    def __len__(self) -> int:
        return len(self.table)

    def take(self, index: npt.NDArray[Any]) -> "Rows":
        """Some of them."""
        return Rows(self.table[index], self.number[index], self.ts_us[index])


def numbers(values: npt.ArrayLike) -> pa.Array:
    """JSON of numbers that are finite."""
    return pa.array(np.asarray(values)).cast(pa.string())


def quoted(texts: pa.Array) -> pa.Array:
    """JSON of strings that need no escape."""
    return pc.binary_join_element_wise('"', texts, '"', "")


def listed(values: npt.NDArray[np.float64], offsets: IntArray) -> pa.Array:
    """JSON lists of the numbers between offsets."""
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), numbers(values))
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


class SessionTexts:
    """JSON of a session's rows.

    Parameters
    ----------
    chronicle : Chronicle
    recording : Recording
    player_id : str
    begin_us : int
        When the client connected, since the epoch.
    rng : Generator
        Of the other players' trades, which nothing else depends on.
    """

    def __init__(
        self,
        chronicle: Chronicle,
        recording: Recording,
        player_id: str,
        begin_us: int,
        rng: np.random.Generator,
    ) -> None:
        self._chronicle, self._recording = chronicle, recording
        self._begin_us = begin_us
        self._player_id = f'"{player_id}"'
        self._uuid = f"{rng.integers(16**8):08x}-{rng.integers(16**4):04x}-4000-8000-"
        n = len(recording.events)
        self._trades = MEDIAN_TRADE * rng.lognormal(0.0, 1.5, n)
        self._trade_kinds = rng.choice(3, n, p=[0.5 - LOST_SHARE / 2] * 2 + [LOST_SHARE])
        draw = chronicle.draw
        self._prices = np.append(draw.played.prices, 1.0)  # that of the game announced
        self._starts = draw.played.offsets
        self.game_ids = pa.array(draw.game_ids[N_PAST:], pa.string())
        self._price_texts = numbers(self._prices)
        leaders = [f"p_{value:012x}" for value in rng.integers(16**12, size=len(chronicle.boards))]
        self._of_game = {
            "game_id": quoted(self.game_ids),
            "hash": quoted(pa.array(draw.hashes[N_PAST:])),
            "leader": quoted(pa.array(leaders)),
            **{name: numbers(chronicle.boards[:, k]) for name, k in BOARD_SLOTS.items()},
        }

    @cached_property
    def _records(self) -> pa.Array:
        """JSON of the last `HISTORY` games before the session and of those played."""
        draw, first = self._chronicle.draw, N_PAST - HISTORY
        offsets = draw.games.offsets[first:]
        slots = {
            "game_id": quoted(pa.array(draw.game_ids[first:-1])),
            "server_seed": quoted(pa.array(draw.server_seeds[first:-1])),
            "hash": quoted(pa.array(draw.hashes[first:-1])),
            "ended_ms": numbers(self._chronicle.ended_ms[first:]),
            "peak": numbers(draw.games.peak_multiplier[first:]),
            "all_prices": listed(draw.games.prices[offsets[0] :], offsets - offsets[0]),
        }
        return fill_frame(cut_frame(RECORD), slots.__getitem__, len(offsets) - 1)

    @property
    def played_records(self) -> pa.Array:
        """JSON of the games played, as `gameHistory` has it."""
        return self._records[HISTORY:]

    def log_rows(self, begin: int, end: int) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Raw JSON, names and game ids (null where the payload says none) of log entries."""
        log, recording = self._recording.log[begin:end], self._recording
        texts, names, games, order = [], [], [], []
        for table, is_event in ((recording.events, True), (recording.messages, False)):
            place = np.flatnonzero((log["event"] >= 0) == is_event)
            number = log["event"][place].astype(np.int64)
            number = number if is_event else -1 - number
            rows = Rows(table[number], number, log["ts_us"][place])
            kinds, frames = self._frames_of(rows, is_event)
            find = self._event_slot if is_event else self._message_slot
            for kind in np.unique(kinds).tolist():
                chosen = np.flatnonzero(kinds == kind)
                name, frame = frames[kind]
                part = rows.take(chosen)
                texts.append(fill_frame(frame, partial(find, rows=part), len(part)))
                names.append(pa.repeat(name, len(part)))
                ids = self.game_ids.take(pa.array(part.table["game"]))
                is_silent = not says(frame, "game_id")
                games.append(pa.nulls(len(part), pa.string()) if is_silent else ids)
                order.append(place[chosen])
        back = pa.array(np.argsort(np.concatenate(order), kind="stable"))
        text, name, game = (pa.concat_arrays(arrays) for arrays in (texts, names, games))
        return text.take(back), name.take(back), game.take(back)

    def _frames_of(
        self, rows: Rows, is_event: bool
    ) -> tuple[IntArray, dict[int, tuple[str, Frame]]]:
        """A code for the frame of each row, and the frames by code."""
        kinds = rows.table["kind"].astype(np.int64)
        if not is_event:
            return kinds, dict(MESSAGE_FRAMES)
        trades = {-1 - k: frame for k, frame in enumerate((*OTHERS_TRADES, LOST_TRADE))}
        kinds = np.where(kinds == TRADE, -1 - self._trade_kinds[rows.number], kinds)
        return kinds, {**EVENT_FRAMES, **trades}

    def message_ids(self, number: IntArray) -> pa.Array:
        """Ids of the trades that messages tell of, without quotes."""
        return self._ids(number + len(self._recording.events))

    def _ids(self, number: IntArray) -> pa.Array:
        digits = pc.utf8_lpad(numbers(number), 12, "0")
        return pc.binary_join_element_wise(self._uuid, digits, "")

    def _event_slot(self, name: str, rows: Rows) -> pa.Array | str:
        """JSON of one field of events."""
        events = rows.table
        if name in self._of_game:
            return self._of_game[name].take(pa.array(events["game"]))
        if name in ("connected", "n_trades"):
            return numbers(events[name])
        begins = self._starts[events["game"]]
        ends = np.append(self._starts[1:] - 1, self._starts[-1])[events["game"]]
        tick = np.maximum(events["tick"], 0).astype(np.int64)
        place = np.minimum(begins + tick, ends)
        match name:
            case "tick":
                return numbers(tick)
            case "last_tick":
                return numbers(place - begins)
            case "first_tick":
                return numbers(np.maximum(place - begins - WINDOW + 1, 0))
            case "window":
                return self._windows(place, place - begins)
            case "price":
                return self._price_texts.take(pa.array(place))
            case "timer":
                return numbers(events["timer_ms"])
            case "allows_presale":
                return pa.array(["false", "true"]).take(
                    pa.array((events["timer_ms"] <= PRESALE_MS).astype(np.int8))
                )
            case "id":
                return quoted(self._ids(rows.number))
            case "amount":
                return numbers(self._trades[rows.number])
            case "qty":
                return numbers(self._trades[rows.number] / self._prices[place])
            case _:
                return self._past_slot(name, events["game"])

    def _past_slot(self, name: str, game: IntArray) -> pa.Array:
        """What whole states, which are rare, say of former games."""
        known = self._chronicle
        if name == "history":
            records = self._records.to_pylist()
            lists = [records[g : g + HISTORY][::-1] for g in game.tolist()]
            return pa.array([f"[{','.join(each)}]" for each in lists], pa.string())
        best, games = known.best[game], known.draw.games
        if name == "highest_ms":
            return numbers(known.ended_ms[best])
        used, where = np.unique(best, return_inverse=True)
        lists = [listed(games[k], np.array([0, len(games[k])]))[0] for k in used.tolist()]
        return pa.array(lists, pa.string()).take(pa.array(where))

    def _windows(self, place: IntArray, tick: IntArray) -> pa.Array:
        """`"tick":price` of the last `WINDOW` ticks in braces."""
        parts = []
        for back in range(WINDOW - 1, -1, -1):
            is_there = pa.array(tick >= back)
            key = pc.if_else(is_there, numbers(tick - back), pa.scalar(None, pa.string()))
            price = self._price_texts.take(pa.array(np.maximum(place - back, 0)))
            parts.append(pc.binary_join_element_wise('"', key, '":', price, ""))
        inner = pc.binary_join_element_wise(*parts, ",", null_handling="skip")
        return pc.binary_join_element_wise("{", inner, "}", "")

    def _message_slot(self, name: str, rows: Rows) -> pa.Array | str:
        """JSON of one field of messages to the player."""
        messages, accounts = rows.table, rows.table["account"]
        if name in self._of_game:
            return self._of_game[name].take(pa.array(messages["game"]))
        if name in ACCOUNT_SLOTS:
            return numbers(accounts[:, ACCOUNT_SLOTS[name]])
        bet_tick = accounts[:, acc.BET_TICK].astype(np.int64)
        match name:
            case "player_id":
                return self._player_id
            case "id":
                return quoted(self.message_ids(rows.number))
            case "sent_ms":
                return numbers((self._begin_us + rows.ts_us) // 1000)
            case "pnl_percent":
                pnl, invested = accounts[:, acc.PNL], accounts[:, acc.INVESTED]
                return numbers(np.divide(100 * pnl, invested, out=0 * pnl, where=invested > 0))
            case "side_bet":
                bet = fill_frame(
                    cut_frame(SIDE_BET), partial(self._message_slot, rows=rows), len(rows)
                )
                return pc.if_else(pa.array(bet_tick >= 0), bet, "null")
            case "side_bets":
                bet = self._message_slot("side_bet", rows)
                bets = pc.binary_join_element_wise("[", bet, "]", "")
                return pc.if_else(pa.array(bet_tick >= 0), bets, "[]")
            case "bet_tick":
                return numbers(bet_tick)
            case "bet_end":
                return numbers(bet_tick + SIDEBET_TICKS)
            case "decided_end":
                return numbers(messages["since"] + SIDEBET_TICKS)
            case "profit":
                return numbers(messages["amount"] - messages["decided_stake"])
            case _:
                return numbers(messages[name])
