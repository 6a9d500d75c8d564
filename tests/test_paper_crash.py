"""A process that trades is killed again and again: no order is lost, none doubled."""

import multiprocessing
import random
import sqlite3
import time
from collections import Counter
from decimal import Decimal

import pytest

from hftlib.live.reconcile import replay_fills
from hftlib.live.store import Store, read_table
from hftlib.portfolio.positions import from_json
from tests.crash_run import VENUES, main

N_KILLS = 20


FORKS = multiprocessing.get_context("forkserver")  # imports once, then one process a run
FORKS.set_forkserver_preload(["tests.crash_run"])


def start(folder, style):
    process = FORKS.Process(target=main, args=(folder, style))
    process.start()
    return process


def n_marks(folder):
    try:
        database = sqlite3.connect(f"file:{folder / 'paper.db'}?mode=ro", uri=True)
        return database.execute("SELECT COUNT(*) FROM marks").fetchone()[0]
    except sqlite3.Error:
        return 0


def kill_at_random(folder, rng, style):
    """Start a run and kill it (-9) some moments and some microseconds later; whether it was hit."""
    before, process = n_marks(folder), start(folder, style)
    goal = before + rng.randrange(1, 8)
    while process.is_alive() and n_marks(folder) < goal:
        time.sleep(0.001)
    time.sleep(rng.random() * 0.03)
    process.kill()
    process.join()
    return process.exitcode == -9


def crash_and_finish(folder, n_kills, seed, style="take"):
    rng, n_hits = random.Random(seed), 0
    for _ in range(n_kills):
        n_hits += kill_at_random(folder, rng, style)
    process = start(folder, style)
    process.join()
    assert process.exitcode == 0
    return n_hits


def at_venues(folder):
    """Client ids and fills as the venues have them."""
    ids, fills = Counter(), []
    for name in VENUES:
        database = sqlite3.connect(folder / f"{name}.db")
        ids.update(row[0] for row in database.execute("SELECT client_id FROM orders"))
        query = "SELECT client_id, quantity, price, fee FROM events WHERE kind = 'fill'"
        fills += [(name, *row) for row in database.execute(query)]
    return ids, sorted(fills)


def check_against_whole_run(folder, whole):
    """Nothing lost, nothing doubled, and to the last digit the account of an unbroken run."""
    orders = read_table(folder / "paper.db", "orders")
    ids, fills = at_venues(folder)
    assert max(ids.values()) == 1
    assert set(ids) == set(orders["client_id"])
    columns = ["venue", "client_id", "quantity", "price", "fee"]
    ours = read_table(folder / "paper.db", "fills")[columns]
    assert sorted(map(tuple, ours.to_numpy().tolist())) == fills
    over = orders["status"].isin(["done", "rejected"])
    assert over.all() or (orders.loc[~over, "kind"] == "post_only").all()
    cash = Decimal(100_000) - sum(Decimal(q) * Decimal(p) + Decimal(f) for *_, q, p, f in fills)
    for path in (folder, whole):
        store = Store(path / "paper.db")
        assert from_json(store.get("account")) == replay_fills(store)
        assert from_json(store.get("account")).cash == cash
        store.close()
    expected = read_table(whole / "paper.db", "orders")
    assert orders.equals(expected)
    assert at_venues(whole)[1] == fills


@pytest.mark.slow
@pytest.mark.parametrize("style", ["take", "quote"])
def test_killed_twenty_times_no_order_is_lost_or_doubled(tmp_path, style):
    main(tmp_path / "whole", style)
    fills = read_table(tmp_path / "whole" / "paper.db", "fills")
    assert len(fills) > 20 and (style == "take" or fills["is_maker"].sum() > 20)
    assert crash_and_finish(tmp_path / "broken", N_KILLS, seed=1, style=style) >= 10
    check_against_whole_run(tmp_path / "broken", tmp_path / "whole")
