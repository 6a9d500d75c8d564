"""What the benchmarks keep: figures of the other parts, results of unchanged code."""

from pathlib import Path

import numpy as np

from benchmarks import features, marl
from benchmarks.timing import Result


def test_figures_of_a_former_run_with_peers_go_when_a_part_is_measured_without():
    names = ["spread_mappo", "spread_mappo_less_peer", "market_mappo", "features"]
    figures = [{"name": name, "value": 1.0} for name in names]
    merged = marl.merge_figures(figures, "spread", [Result("spread_mappo", 2.0, "return")])
    values = {figure["name"]: figure["value"] for figure in merged}
    assert values == {"market_mappo": 1.0, "features": 1.0, "spread_mappo": 2.0}


def test_results_of_ours_depend_on_all_code_that_trains_them_those_of_the_peer_do_not():
    ours, peer = (
        {file.relative_to(Path(marl.__file__).parents[1]).as_posix() for file in found}
        for found in (marl.find_sources("ours"), marl.find_sources("peer"))
    )
    assert ours >= {"benchmarks/marl.py", "benchmarks/spread.py", "hftlib/compute.py"}
    assert ours >= {"hftlib/agents/mappo.py", "hftlib/models/networks.py"}
    assert peer == {
        f"benchmarks/{name}" for name in ("spread.py", "peer_benchmarl.py", "peers_marl.txt")
    }


def test_peer_of_the_features_runs_on_the_same_bars_without_changing_them():
    bars = features.make_bars(120, np.random.default_rng(0))
    before = bars.copy()
    assert features.n_features_of_ta(bars) > 80
    assert bars.equals(before)


def test_stream_is_timed_behind_its_history(monkeypatch):
    lengths = []
    push = features.FeatureStream.push

    def count(stream, ts, **bar):
        lengths.append(len(stream))
        return push(stream, ts, **bar)

    monkeypatch.setattr(features.FeatureStream, "push", count)
    result = features.measure_stream(30)
    assert lengths == list(range(30, 30 + features.N_PUSHES))
    assert result.value > 0
