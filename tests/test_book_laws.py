"""Conservation, symmetry and determinism of the matching engine on random messages."""

import numpy as np
import pytest

from hftlib.market import book as book_module
from hftlib.market import matching
from hftlib.market.book import KINDS, STATUSES, OrderBook
from hftlib.market.ladder import MAX_PRICE
from tests.book_audit import read_queues
from tests.book_cases import draw_case, make_messages, read_levels, send_in_pieces, vectors

SEEDS = range(40)
# statuses of messages that changed something
APPLIED = ("accepted", "book is full", "stopped by self-trade prevention")


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_and_cash_sum_to_zero_and_every_trade_has_a_maker_and_a_taker(seed):
    case = draw_case(np.random.default_rng(seed), 400)
    book = case.open()
    fills, acks = book.process(case.messages)
    # int64 wraps alike on both sides of a trade
    assert book.accounts[:, :2].sum(axis=0).tolist() == [0, 0]
    assert book.accounts[:, matching.MADE].sum() == book.accounts[:, matching.TOOK].sum()
    trades = fills[fills["cause"] == matching.TRADE]
    lots = trades["qty"].sum(dtype=np.int64)
    assert acks["filled"].sum(dtype=np.int64) == lots
    assert book.accounts[:, matching.LOTS].sum() == 2 * lots


@pytest.mark.parametrize("seed", SEEDS)
def test_fills_and_acknowledgements_alone_account_for_every_resting_lot(seed):
    case = draw_case(np.random.default_rng(seed), 400)
    book = case.open()
    fills, acks = book.process(case.messages)
    resting: dict[int, int] = {}  # by handle
    kinds = {code: name for name, code in KINDS.items()}
    for i, (message, ack) in enumerate(zip(case.messages, acks, strict=True)):
        filled = 0
        for fill in fills[fills["message"] == i]:
            resting[int(fill["maker"])] -= int(fill["qty"])
            filled += int(fill["qty"]) if fill["cause"] == 0 else 0
        assert filled == ack["filled"]
        kind, handle = kinds.get(int(message["kind"])), int(ack["handle"])
        named = int(message["handle"])
        if named < 0 and -1 - named < i:
            named = int(acks["handle"][-1 - named])
        applied = STATUSES[ack["status"]] in APPLIED
        left = int(ack["resting"])
        if kind in ("cancel", "modify") and applied:
            resting[named] = 0
        elif kind == "reduce" and applied:
            assert left == max(0, resting[named] - int(message["qty"]))
            resting[named] = left
        if handle > 0:
            if kind in ("limit", "post_only", "modify"):
                assert left == int(message["qty"]) - filled
            resting[handle] = left
    queues = read_queues(book.state)
    seen = {h: q for side in queues.values() for queue in side.values() for h, q, *_ in queue}
    assert seen == {handle: qty for handle, qty in resting.items() if qty > 0}


@pytest.mark.parametrize("seed", SEEDS)
def test_mirrored_messages_give_mirrored_fills(seed):
    case = draw_case(np.random.default_rng(seed), 400)
    mirrored = case.messages.copy()
    inside = (mirrored["price"] >= 1) & (mirrored["price"] <= MAX_PRICE)
    mirrored["price"][inside] = MAX_PRICE + 1 - mirrored["price"][inside]
    sided = np.abs(mirrored["side"].astype(np.int64)) == 1
    mirrored["side"][sided] *= -1
    books = case.open(), case.open()
    fills, acks = books[0].process(case.messages)
    reflected, acks_too = books[1].process(mirrored)
    reflected["price"] = MAX_PRICE + 1 - reflected["price"]
    reflected["taker_side"] *= -1
    np.testing.assert_array_equal(reflected, fills)
    np.testing.assert_array_equal(acks_too, acks)
    np.testing.assert_array_equal(books[1].accounts[:, 0], -books[0].accounts[:, 0])


@pytest.mark.parametrize("seed", SEEDS)
def test_an_array_in_pieces_gives_what_the_whole_gives_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    case = draw_case(rng, 400)
    whole, pieces = case.open(), case.open()
    fills, acks = send_in_pieces(whole, case.messages, [])
    for n_cuts in (1, 20):
        pieces = case.open()
        cuts = np.sort(rng.integers(0, len(case.messages) + 1, n_cuts)).tolist()
        again, acks_again = send_in_pieces(pieces, case.messages, cuts)
        np.testing.assert_array_equal(again, fills)
        np.testing.assert_array_equal(acks_again, acks)
        assert vectors(pieces) == vectors(whole)


@pytest.mark.parametrize("chunk", [1, 7])
def test_results_do_not_depend_on_the_room_for_fills(monkeypatch, chunk):
    # eight sweeps of 64 orders each through a buffer of 64 + chunk rows
    quotes = [{"kind": "limit", "side": -1, "price": 10 + k, "qty": 1} for k in range(64)]
    messages = make_messages(*[*quotes, {"kind": "market", "side": 1, "qty": 64}] * 8)
    expected = OrderBook(capacity=64).process(messages)
    assert len(expected[0]) == 512
    monkeypatch.setattr(book_module, "CHUNK", chunk)
    for seen, wanted in zip(OrderBook(capacity=64).process(messages), expected, strict=True):
        np.testing.assert_array_equal(seen, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_size_of_the_ladder_changes_no_result(seed):
    case = draw_case(np.random.default_rng(seed), 400)
    results = []
    for window in (8, 16, 1024):
        book = case.open(window)
        fills, acks = book.process(case.messages)
        seen = (fills.tobytes(), acks.tobytes(), book.accounts.tobytes(), read_levels(book, 99))
        results.append((seen, read_queues(book.state)))
    assert results[0] == results[1] == results[2]
