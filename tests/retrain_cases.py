"""Served models that always hold the same share, and a project folder to retrain in."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hftlib.agents.policy_export import export_policies
from hftlib.envs import TradingRules
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact import Artefact, write_artefact
from hftlib.paths import Paths
from tests.conftest import ROOT, make_bars
from tests.served_cases import DESIGN, RULES, draw_weights

SYMBOLS = ("AAA", "BBB")
NAMES = ("rsi_14", "return_1", "doji")
SEEN = "2010-03-31"  # bar 90 of `make_bars`, which begin on 2010-01-01


def write_holder(
    root: Path,
    name: str,
    share: float,
    *,
    seen_until: object = SEEN,
    rules: TradingRules = RULES,
    symbols: tuple[str, ...] = SYMBOLS,
    weights: int | None = None,
) -> Artefact:
    """A policy that holds `share` of the equity whatever it sees, or a random one of that seed."""
    design = replace(DESIGN, feature_names=NAMES, window_bars=rules.window_bars)
    drawn = draw_weights(design, 0 if weights is None else weights)
    if weights is None:
        drawn["action_net.weight"][:] = 0.0
        drawn["action_net.bias"][:] = share
    scratch = root.parent / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return write_artefact(
        root,
        name,
        version="1",
        policy=scratch / "policy.onnx",
        graph=export_policies(scratch / "policy.onnx", {"ppo": [(drawn, design)]}),
        scaler=RobustScaler(NAMES, (0.0,) * 3, (50.0, 0.02, 1.0)),
        rules=rules,
        symbols=symbols,
        git_revision="",
        params={} if seen_until is None else {"seen_until": seen_until},
    )


def make_project(root: Path, drift: float = 0.0, n_bars: int = 300) -> Paths:
    """A folder with parameters and bars of two symbols that rise by `drift` a bar."""
    (root / "dvc.yaml").touch()
    shutil.copy(ROOT / "params.yaml", root)
    paths = Paths(root)
    bars = make_bars(n_bars, SYMBOLS)
    growth = np.tile(np.exp(drift * np.arange(n_bars)), len(SYMBOLS))
    for column in ("open", "high", "low", "close"):
        bars[column] *= growth
    paths.bars.parent.mkdir(parents=True)
    bars.to_parquet(paths.bars)
    return paths


def read_lines(path: Path) -> list[dict[str, object]]:
    """Rows of a journal."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def run_service(**settings: str) -> Iterator[dict[str, Any]]:
    """The service of the working directory as a process; what it logged until it served."""
    environment = os.environ | {"PORT": "0", "PYTHONPATH": str(ROOT)} | settings
    command = [sys.executable, "-m", "hftlib.live.service"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        try:
            events: dict[str, Any] = {}
            deadline = time.monotonic() + 60
            while "serving" not in events and time.monotonic() < deadline:
                event = json.loads(process.stderr.readline())
                events[event["event"]] = event
            yield events
        finally:
            process.terminate()
            process.stderr.close()
