"""Kill paper trading 100 times and check every order: `python -m benchmarks.kill_paper [N]`.

Every other run is of orders that rest.
"""

import sys
import tempfile
from pathlib import Path

from tests.crash_run import main
from tests.test_paper_crash import check_against_whole_run, crash_and_finish

STYLES = ("take", "quote")

if __name__ == "__main__":
    n_kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        n_hits, run = 0, 0
        for style in STYLES:
            main(Path(folder) / style, style)
        while n_hits < n_kills:  # a run that ends leaves nothing to kill: then the next begins
            run += 1
            style = STYLES[run % 2]
            broken = Path(folder) / f"broken-{run}"
            n_hits += crash_and_finish(broken, min(20, n_kills - n_hits), seed=run, style=style)
            check_against_whole_run(broken, Path(folder) / style)
            print(f"{n_hits} kills, {run} runs: none lost, none doubled, ledger exact ({style})")
