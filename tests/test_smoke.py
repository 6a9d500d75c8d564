"""The whole DVC pipeline on tiny budgets, in a clean copy of the tree.

`make smoke` runs it. The copy has no git, so this also shows that an exported
tree works.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from numba.core.caching import _CacheLocator

from hftlib.compute import open_kernel_cache
from hftlib.lineage import hash_path
from tests.conftest import ROOT

pytestmark = pytest.mark.smoke

TINY_BUDGET = {
    "n_envs": 4,
    "total_steps": 160,
    "control_envs": 4,
    "control_steps": 80,
    "response_steps": 80,
    "n_evaluations": 2,
}
TINY_REPLAY = {
    "total_steps": 320,
    "control_steps": 160,
    "adaptation_steps": 160,
    "n_envs": 16,
    "batch_size": 32,
    "n_warmup_steps": 64,
    "n_evaluations": 2,
}
TINY = {
    "simulation": {"n_sessions": 4, "session_minutes": 3, "n_bootstrap": 20},
    "sessions": {
        "n_games": 1_000,
        "n_leakage_games": 20,
        "n_sessions": 4,
        "games_per_session": 3,
        "n_bootstrap": 20,
    },
    "features": {"n_bootstrap": 20, "horizons_bars": [1], "horizons_snapshots": [1]},
    "datasets": {
        "book_train_end": "2024-01-02",
        "book_dev_end": "2024-01-03",
        "book_val_end": "2024-01-04",
    },
    "forecaster": {
        "n_folds": 2,
        "n_members": 2,
        "filters": [4, 4],
        "n_hidden": 4,
        "max_epochs": 1,
        "n_bootstrap": 20,
    },
    "single_agent": {"n_seeds": 2, "n_control_seeds": 2, "n_control_worlds": 2},
    "ppo": {
        "total_steps": 2_048,
        "n_envs": 16,
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 1,
        "n_evaluations": 2,
        "control_steps": 1_024,
        "adaptation_steps": 512,
    },
    "sac": TINY_REPLAY,
    "td3": TINY_REPLAY,
    "market": {"episode_steps": 20},
    "environments": {"n_paths": 50, "n_worlds": 4},
    "multi_agent": {
        "n_seeds": 2,
        "n_tuning_worlds": 4,
        "n_curve_worlds": 4,
        "n_worlds": 4,
        "risk_aversions": [0.01],
        "decays": [0.4],
        "n_bootstrap": 20,
    },
    "offline": {
        "n_seeds": 2,
        "n_updates": 20,
        "n_evaluations": 2,
        "batch_size": 32,
        "n_chains": 4,
        "chain_games": 2,
        "n_bootstrap": 20,
    },
    "tuning": {
        "n_trials": 4,
        "n_startup": 2,
        "prune_after": 5,
        "n_seeds": 1,
        "total_steps": 512,
        "n_fresh_seeds": 2,
        "n_bootstrap": 10,
    },
    "walk_forward": {
        "n_folds": 1,
        "train_bars": 250,
        "agent_schemes": ["rolling"],
        "n_seeds": 1,
        "ppo_steps": 512,
        "sac_steps": 160,
        "td3_steps": 160,
        "n_blocks": 4,
        "n_bootstrap": 20,
    },
    "portfolio_risk": {
        "first_day": "2019-01-02",
        "last_day": "2020-12-31",
        "lookback_bars": 250,
        "view_bars": 500,
        "view_scales": [1],
        "var_window_bars": 250,
        "var_refit_bars": 1_000,
        "n_bootstrap": 20,
    },
    "paper_trading": {
        "n_bars": 30,
        "book_snapshots": 20,
        "drift_bars": 30,
        "n_permutations": 99,
        "n_control_samples": 20,
    },
    "mappo": {**TINY_BUDGET, "n_steps": 20, "n_epochs": 1},
    "maddpg": {**TINY_BUDGET, "n_warmup_steps": 40, "batch_size": 16},
    "backtest": {"n_random": 5, "n_bootstrap": 20, "fee_sweep_bps": [0, 10]},
    "statistics": {"n_bootstrap": 20, "n_paths": 10},
}
AGENTS = [f"single_agent@{algo}" for algo in ("ppo", "sac", "td3")]
ENTRIES = [
    "notebooks",
    "hftlib",
    "data/raw/bars/README.md",
    "data/raw/depth/README.md",
    "data/raw/lobster/README.md",
    "data/raw/sentiment/README.md",
    "data/raw/sessions/README.md",
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".dvc/config",
]


def dvc(folder: Path, *arguments: str) -> str:
    """Run DVC; its output, or a failure with it."""
    return run(folder, "dvc", *arguments)


def run(folder: Path, module: str, *arguments: str) -> str:
    """Run a module with this environment's programs; its output, or a failure with it."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": "."}
    environment["LOKY_MAX_CPU_COUNT"] = "1"  # a process more costs seconds, a tiny task less
    command = [sys.executable, "-m", module, *arguments]
    merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lines = []
    with subprocess.Popen(command, cwd=folder, env=environment, **merged) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    output = "".join(lines)
    assert process.returncode == 0, output
    return output


def carry_kernels(folder: Path) -> None:
    """Take this tree's compiled kernels along, under the names that numba looks for in the copy."""
    kernels = open_kernel_cache(ROOT / "hftlib")
    for package in (ROOT / "hftlib", *(ROOT / "hftlib").glob("*/")):
        copy = folder / package.relative_to(ROOT)
        old, new = (_CacheLocator.get_suitable_cache_subpath(p / "_.py") for p in (package, copy))
        if (kernels / old).is_dir():
            shutil.copytree(kernels / old, folder / ".cache/kernels" / kernels.name / new)


def edit(folder: Path, changes: dict) -> None:
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    for section, values in changes.items():
        params[section] |= values
    file.write_text(yaml.safe_dump(params))


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([\w@]+)'", output)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> tuple[Path, str]:
    """The copy after the first run of its pipeline, and what that printed."""
    folder = tmp_path_factory.mktemp("smoke") / "project"
    for name in ENTRIES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=skip)
        else:
            shutil.copy(ROOT / name, target)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    carry_kernels(folder)
    edit(folder, TINY)
    return folder, run(folder, "hftlib.pipeline")


def test_every_stage_runs_and_writes_all_its_outputs(tree):
    folder, output = tree
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name.split("@")[0] for name in ran(output)} == set(stages)
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    outs = [out for stage in lock.values() for out in stage["outs"]]
    runs = [len(s.get("matrix", {}).get("algo", [None])) for s in stages.values()]
    assert len(ran(output)) == sum(runs)
    assert len(outs) == sum(
        n * sum(len(s.get(k, [])) for k in ("outs", "metrics", "plots"))
        for n, s in zip(runs, stages.values(), strict=True)
    )
    for out in outs:
        assert (folder / out["path"]).exists(), out["path"]
    assert not list((folder / "reports/failed").iterdir())


def test_hashes_in_the_reports_are_those_of_dvc(tree):
    folder, _ = tree
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    backtest = {dep["path"]: dep["md5"] for dep in lock["backtest"]["deps"]}
    page = (folder / "reports/51_backtest.html").read_text()
    algos = ("ppo", "sac", "td3", "mappo", "maddpg")
    for path in ("data/datasets/bars", *(f"data/models/{algo}" for algo in algos)):
        assert hash_path(folder / path) == backtest[path]
        assert backtest[path] in page


def test_the_index_links_every_report_and_all_exist(tree):
    folder, _ = tree
    links = re.findall(r'<td><a href="([^"]+)"', (folder / "reports/index.html").read_text())
    assert len(links) == 21
    for link in links:
        assert (folder / "reports" / link).is_file()


def test_metrics_are_numbers_and_the_headline_names_every_strategy(tree):
    folder, _ = tree
    for file in (folder / "reports/metrics").glob("*.json"):
        assert json.loads(file.read_text())
    table = (folder / "reports/tables/headline.txt").read_text()
    for strategy in ("ppo", "sac", "td3", "ensemble", "buy_and_hold", "do_nothing", "random"):
        assert strategy in table
    assert "headline" in dvc(folder, "metrics", "show")


def test_the_order_book_has_one_file_of_results_and_a_table(tree):
    folder, _ = tree
    results = json.loads((folder / "reports/metrics/multi_agent.json").read_text())
    for algo in ("mappo", "maddpg"):
        for agent in ("maker", "executor", "taker"):
            verdict = results[algo][agent]["risk_adjusted_profit"]
            assert {*verdict, *verdict["difference"]} >= {"learnt", "rival", "value", "low", "high"}
            assert len(verdict["seeds"]) == TINY["multi_agent"]["n_seeds"]
            assert algo in results["strategies"][agent]
        assert set(results[algo]["control"]) == {"maker", "taker"}
        assert set(results["crossplay"]) == {"mappo", "maddpg", "classical"}
        assert f"{algo} maker" in (folder / "reports/tables/market.txt").read_text()
    assert '"market"' in (folder / "reports/index.html").read_text(), "the figure"


def test_nothing_runs_when_nothing_changed(tree):
    folder, _ = tree
    assert ran(dvc(folder, "repro")) == []


def test_saving_outputs_in_the_editor_re_runs_only_the_source_stage(tree):
    folder, _ = tree
    file = folder / "notebooks/41_single_agent.ipynb"
    saved = json.loads(file.read_text())
    saved["metadata"]["language_info"] = {"version": "3.11.7"}
    saved["cells"][1]["execution_count"] = 5
    file.write_text(json.dumps(saved))
    assert ran(dvc(folder, "repro")) == ["source"]


def test_an_edited_parameter_re_runs_only_what_depends_on_it(tree):
    folder, _ = tree
    for section, change, stages in (
        ("figures", {"width_px": 700}, ["figures"]),
        ("backtest", {"n_random": 6}, ["backtest"]),
        (
            "costs",
            {"fee_bps": 2.0},
            [
                "environments",
                *AGENTS,
                "tuning",
                "walk_forward",
                "export",
                "portfolio_risk",
                "backtest",
                "statistics",
                "paper_trading",
                "figures",
            ],
        ),
    ):
        before = (folder / "params.yaml").read_text()
        edit(folder, {section: change})
        assert sorted(ran(dvc(folder, "repro", "--dry"))) == sorted(stages)
        (folder / "params.yaml").write_text(before)


def test_training_again_gives_the_same_hashes(tree):
    folder, _ = tree
    before = (folder / "dvc.lock").read_text()
    dvc(folder, "repro", "--force", "--single-item", "single_agent@ppo")
    assert (folder / "dvc.lock").read_text() == before


def test_under_git_experiments_diffs_and_plots_work(tree, monkeypatch):
    folder, _ = tree
    for name, value in (("NAME", "t"), ("EMAIL", "t@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    shutil.copy(ROOT / ".gitignore", folder)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    (folder / ".dvc/config.local").unlink()
    for command in ("init -q", "add -A", "commit -qm all"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    assert ran(dvc(folder, "exp", "run", "-S", "figures.width_px=640")) == ["figures"]
    assert "figures.width_px" in dvc(folder, "params", "diff")
    assert dvc(folder, "metrics", "diff").strip() == "", "a figure's width moves no number"
    dvc(folder, "plots", "show", "-o", "plots")
    assert "learning_ppo" in (folder / "plots/index.html").read_text()
    shutil.rmtree(folder / ".git")
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")


def test_bad_data_stops_the_pipeline_and_leaves_all_earlier_outputs(tree):
    folder, _ = tree
    bad = folder / "data/raw/bars/bad.csv"
    bad.write_text("date,open,high,low\n2020-01-01,1,1,1\n")
    kept = {
        path: (folder / path).read_bytes()
        for path in ("data/market/bars.parquet", "reports/11_ingestion.html", "reports/index.html")
    }
    with pytest.raises(AssertionError, match=r"bad\.csv: no column close; expected ts, open"):
        dvc(folder, "repro")
    for path, content in kept.items():
        assert (folder / path).read_bytes() == content
    bad.unlink()
    assert ran(dvc(folder, "repro")) == []
