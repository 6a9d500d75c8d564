"""Laws of the board: what it says is what its last hundred games were."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hftlib.sessions import board

PEAKS = st.lists(st.floats(1.0, 500.0), min_size=1, max_size=250)


def play(games, *, rug_tick=50, income=0.5):
    """A board after games with these peaks."""
    (row,), (ring,) = board.open_boards(1)
    for peak in games:
        board.close_game(row, ring, peak, rug_tick, income)
    return row


@given(PEAKS)
def test_statistics_are_those_of_the_last_hundred_games(peaks):
    row = play(peaks)
    last = np.array(peaks[-board.RING :])
    counts = [np.count_nonzero(last >= level) for level in (2, 10, 50, 100)]
    assert row[board.COUNT_2X : board.COUNT_100X + 1].tolist() == counts
    # the ring is summed in another order: the last digits may differ
    np.testing.assert_allclose(row[board.AVERAGE], last.mean(), rtol=1e-12)
    assert row[board.HIGHEST_TODAY] == max(peaks)
    assert row[board.N_GAMES] == len(peaks)


def test_statistics_do_not_depend_on_what_left_the_ring():
    tail = list(np.linspace(1, 120, board.RING))
    early, late = play([7.0] * board.RING + tail), play([300.0] * board.RING + tail)
    assert early[: board.HIGHEST_TODAY].tolist() == late[: board.HIGHEST_TODAY].tolist()


def test_a_new_day_forgets_the_highest_peak_alone():
    row = play([3.0, 12.0])
    before = row.copy()
    board.begin_day(row)
    assert row[board.HIGHEST_TODAY] == 0
    row[board.HIGHEST_TODAY] = before[board.HIGHEST_TODAY]
    np.testing.assert_array_equal(row, before)


def test_only_instarugs_feed_the_rugpool():
    row = play([1.0] * 5, rug_tick=board.INSTARUG_TICKS + 1)
    assert row[board.RUGPOOL] == row[board.INSTARUGS] == 0
    row = play([1.0] * 5, rug_tick=board.INSTARUG_TICKS)
    assert row[board.RUGPOOL] == 2.5
    assert row[board.INSTARUGS] == 5


def test_rugpool_is_paid_out_at_its_threshold():
    row = play([1.0] * 19, rug_tick=1)
    assert row[board.RUGPOOL] == 9.5
    row = play([1.0] * 20, rug_tick=1)
    assert row[board.RUGPOOL] == row[board.INSTARUGS] == 0
