"""The log of openings: it grows, counts versions apart, and says which line is broken."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from hftlib.openings import FILE, count_openings, log_opening, read_openings

SPAN = {"stage": "51_backtest", "first": "2013-01-02", "last": "2018-12-31"}


def test_an_opening_more_is_a_line_more(tmp_path):
    log = tmp_path / "deep"
    assert read_openings(log).empty
    for strategies in ("a", "b", "a"):
        table = log_opening(log, **SPAN, strategies=strategies)
    later = {"stage": "45_walk_forward", "first": "2018-12-31", "last": "2020-01-31"}
    table = log_opening(log, **later, strategies="c")
    found = count_openings(table, SPAN["first"], SPAN["last"])
    assert (found.times, found.versions) == (4, 3)
    assert found.first == table["opened"].iloc[0]
    assert count_openings(table, "2019-01-01", "2019-12-31")[:2] == (1, 1)
    assert count_openings(table, "2000-01-01", "2012-12-31") == (0, 0, "")


def test_writers_side_by_side_lose_no_line(tmp_path):
    log = tmp_path
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: log_opening(log, **SPAN, strategies=str(k)), range(60)))
    assert count_openings(read_openings(log), SPAN["first"], SPAN["last"])[:2] == (60, 60)


@pytest.mark.parametrize("line", ["{", "[]", '{"opened": "now"}', "3"])
def test_a_broken_line_is_named(tmp_path, line):
    log = tmp_path / FILE
    log_opening(tmp_path, **SPAN, strategies="a")
    with log.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"openings.jsonl, line 2 is no opening"):
        read_openings(tmp_path)
