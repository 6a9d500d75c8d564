"""The matching engine against the reference of `tests.reference_book`, message by message."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.market import ladder, matching
from hftlib.market.book import ACK, FILL, KINDS, MESSAGE, MESSAGE_FIELDS, SELF_TRADE, STATUSES
from hftlib.market.ladder import MAX_LOTS, MAX_PRICE
from tests.book_audit import read_queues
from tests.book_cases import LARGEST, SMALLEST, Case, draw_case
from tests.reference_book import ReferenceBook

N_LEVELS = 6  # of depth, compared after each message
NAMES = {code: name for name, code in KINDS.items()}


def as_int64(value: int) -> int:
    """What is left of an integer in 64 bits: 2**30 ticks x 2**31 lots fit only three times."""
    return (value + 2**63) % 2**64 - 2**63


class Comparison:
    """Reference and engine side by side; handles are translated into names of orders."""

    def __init__(self, case: Case) -> None:
        n = len(case.messages)
        self.rows = case.messages.view(np.int32).reshape(n, len(MESSAGE))
        # what an earlier use might have left: the handle of the first order
        self.acks = np.full((n, len(ACK)), case.capacity, dtype=np.int32)
        self.fills = np.zeros((case.capacity, len(FILL)), dtype=np.int32)
        self.depth = np.zeros((4, N_LEVELS), dtype=np.int32)
        self.engine = case.open()
        self.reference = ReferenceBook(case.capacity, case.self_trade, case.n_owners)
        self.answers: list[int | None] = []  # order that each acknowledgement names
        self.named: dict[int, int] = {}  # handle -> name

    def advance(self, i: int) -> list[tuple]:
        """Apply message i to both and compare all that can be seen; its fills."""
        state, accounts = self.engine.state, self.engine.accounts
        rows = self.rows[: i + 1]
        _, n_fills = matching.process(state, accounts, rows, i, self.acks, self.fills)
        fills, ack = self.submit_to_reference(i)
        if ack.order == i:
            handle = int(self.acks[i, matching.A_HANDLE])
            assert handle > 0
            assert handle not in self.named, "a handle named two orders"
            self.named[handle] = i

        status, handle, filled, resting = self.acks[i].tolist()
        order = self.named[handle] if handle != 0 else None
        assert (STATUSES[status], order, filled, resting) == ack
        seen = self.fills[:n_fills].tolist()
        assert [(message, self.named[maker], *rest) for message, maker, *rest in seen] == fills
        assert accounts.tolist() == [
            [as_int64(value) for value in astuple(account)] for account in self.reference.accounts
        ]
        assert self.engine.n_refused == self.reference.n_refused
        for side, columns in ((1, self.depth[:2]), (-1, self.depth[2:])):
            ladder.read_depth(state, side, *columns)
            assert columns.T.tolist() == self.reference.depth(side, N_LEVELS)
        self.compare_queues()
        return fills

    def submit_to_reference(self, i: int):
        kind, side, price, qty, owner, handle, tag = self.rows[i].tolist()
        if handle >= 0:
            target = self.named.get(handle)
        else:
            target = self.answers[-1 - handle] if -1 - handle < i else None
        fills, ack = self.reference.submit(i, NAMES.get(kind), side, price, qty, owner, target, tag)
        self.answers.append(ack.order)
        return fills, ack

    def compare_queues(self) -> None:
        """Every order of every queue, in order."""
        seen = {
            side: {
                price: [(self.named[handle], *rest) for handle, *rest in queue]
                for price, queue in queues.items()
            }
            for side, queues in read_queues(self.engine.state).items()
        }
        assert seen == {
            side: {
                price: [(order.name, order.qty, order.owner, order.tag) for order in queue]
                for price, queue in queues.items()
            }
            for side, queues in self.reference.sides.items()
        }


def compare(case: Case) -> dict[str, np.ndarray]:
    """Compare engine and reference after every message; counts of what happened."""
    comparison = Comparison(case)
    fills = [fill for i in range(len(case.messages)) for fill in comparison.advance(i)]
    statuses = comparison.acks[:, matching.A_STATUS]
    kinds = case.messages["kind"][statuses == matching.ACCEPTED]
    return {
        "kinds": np.bincount(kinds, minlength=len(KINDS) + 1)[1:],
        "statuses": np.bincount(statuses, minlength=len(STATUSES)),
        "self-trades": np.array(sum(fill.cause for fill in fills)),
        "recentred": np.array(comparison.engine.state[ladder.N_RECENTRED]),
        "far": np.array(comparison.engine.state[ladder.N_FAR]),
    }


def fuzz(seed: int, n_messages: int) -> None:
    """Compare random books; fails as well if something hardly ever happened in them."""
    rng = np.random.default_rng(seed)
    counts: dict[str, np.ndarray] = {}
    sent = 0
    while sent < n_messages:
        case = draw_case(rng, int(rng.integers(1, 600)))
        sent += len(case.messages)
        counts = {name: count + counts.get(name, 0) for name, count in compare(case).items()}
    for name, count in counts.items():
        assert count.min() >= 20, f"{name}: {count}"


def test_random_books_agree_with_the_reference_message_by_message():
    fuzz(seed=0, n_messages=30_000)


@pytest.mark.slow
def test_a_million_random_messages_agree_with_the_reference():
    fuzz(seed=1, n_messages=1_000_000)


int32 = st.integers(SMALLEST, LARGEST)
# few values, so that orders meet, handles hit and capacity ends
message = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(list(NAMES)),
        "side": st.sampled_from([-1, 1]),
        "price": st.integers(90, 110) | st.sampled_from([1, 2, 60, 200, 5_000, MAX_PRICE]),
        "qty": st.integers(1, 9) | st.sampled_from([MAX_LOTS, MAX_LOTS - 3, 2**30]),
        "owner": st.integers(0, 2),
        "handle": st.integers(-30, 40),
        "tag": st.integers(0, 3),
    }
)
garbage = st.fixed_dictionaries(
    {
        name: int32 | st.integers(-3, 12) | st.sampled_from([SMALLEST, LARGEST, 2**30, 2**30 + 1])
        for name in MESSAGE_FIELDS
    }
)


@st.composite
def cases(draw, of_what):
    rows = draw(st.lists(of_what, max_size=40))
    messages = np.zeros(len(rows), MESSAGE)
    for name in MESSAGE_FIELDS:
        messages[name] = [row[name] for row in rows]
    return Case(
        messages=messages,
        window=draw(st.sampled_from([8, 16, 1024])),
        capacity=draw(st.sampled_from([2, 4, 8, 32])),
        self_trade=draw(st.sampled_from(list(SELF_TRADE))),
        n_owners=draw(st.integers(1, 3)),
    )


@settings(max_examples=1_000)
@given(cases(message))
def test_any_messages_agree_with_the_reference(case):
    compare(case)


@settings(max_examples=500)
@given(cases(garbage | message))
def test_any_32_bits_in_any_field_agree_with_the_reference(case):
    compare(case)
