"""What a run has trained, as artefacts for the service: each algorithm, and all together."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.ensemble import DEFAULT_WEIGHTS
from hftlib.agents.policy_export import Trained, export_policies
from hftlib.envs.trading_rules import TradingRules
from hftlib.features.markov import RegimeModel
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact import POLICY, Artefact, ArtefactError, ServedForecaster, write_artefact
from hftlib.paths import read_json

ENSEMBLE = "ensemble"


def find_seen_until(
    clock: npt.NDArray[np.int64], days: Sequence[str], gap_bars: int
) -> pd.Timestamp:
    """The last bar that is not unseen; the first one where all are later than `days`.

    Parameters
    ----------
    clock : array of shape (n_bars,)
        Starts of all bars, nanoseconds UTC, increasing.
    days : sequence of ISO dates
        Last ones of everything that a training, a choice or a fit was made on.
    gap_bars : int
        Bars after these that are too close to them: purge and embargo.

    Raises
    ------
    ValueError
        If no bar is left after them.
    """
    last = max(pd.Timestamp(day).tz_localize(None) for day in days).tz_localize("UTC")
    after = int(np.searchsorted(clock, (last + pd.Timedelta(days=1)).value)) + gap_bars
    if after >= len(clock):
        raise ValueError(
            f"no bar is unseen: the last is of {pd.Timestamp(clock[-1], tz='UTC').date()}, what "
            f"was trained saw {last.date()} and {gap_bars} bars more; add newer bars"
        )
    return pd.Timestamp(clock[max(after, 1) - 1], tz="UTC")


def read_forecaster(folder: Path, scaler: RobustScaler) -> ServedForecaster:
    """The newest forecaster that stage 40 left in `folder`, with the scaler of its forecasts."""
    about = read_json(folder / "manifest.json")
    graph = folder / "forecaster.onnx"
    return ServedForecaster(graph, tuple(about["channels"]), about["window"], scaler)


def export_run(
    root: Path,
    trained: Mapping[str, Sequence[Trained]],
    manifests: Mapping[str, Mapping[str, Any]],
    *,
    rules: TradingRules,
    symbols: Sequence[str],
    forecaster: Path,
    zscore_bars: int,
    regimes: Mapping[str, RegimeModel],
    git_revision: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, Artefact]:
    """Write an artefact for each algorithm, and the ensemble with `DEFAULT_WEIGHTS`.

    Parameters
    ----------
    root : folder of the artefacts
    trained : mapping of algorithm to what `read_trained` gives
    manifests : mapping of algorithm to the manifest that stage 41 left
    rules : that all were trained under
    forecaster : folder that stage 40 left
    zscore_bars : as of `build_datasets`
    regimes : by symbol
    params, metrics : values for JSON; `metrics` by algorithm

    Returns
    -------
    dict
        By the name of the artefact.

    Raises
    ------
    ArtefactError
        If an algorithm was trained under other rules, or with another scaler than the first.
    """
    first = manifests[next(iter(trained))]
    for algo in trained:
        about = manifests[algo]
        if _plain(asdict(rules)) != about["rules"]:
            raise ArtefactError(
                f"{algo} was trained under other rules than those of params.yaml; run stage 41 anew"
            )
        for part in ("scaler", "forecast_scaler"):
            if about[part] != first[part]:
                raise ArtefactError(f"{algo} has another {part} than the others; run stage 41 anew")
    served = read_forecaster(forecaster, RobustScaler(**first["forecast_scaler"]))
    found = {}
    for name, algos in {**{algo: [algo] for algo in trained}, ENSEMBLE: [*trained]}.items():
        members = {algo: trained[algo] for algo in algos}
        weights = {algo: DEFAULT_WEIGHTS[algo] for algo in algos}
        with TemporaryDirectory() as scratch:
            policy = Path(scratch) / POLICY
            graph = export_policies(policy, members, weights)
            found[name] = write_artefact(
                root,
                name,
                version=hashlib.sha256(policy.read_bytes()).hexdigest()[:8],
                policy=policy,
                graph=graph,
                scaler=RobustScaler(**first["scaler"]),
                rules=rules,
                symbols=symbols,
                git_revision=git_revision,
                forecaster=served,
                zscore_bars=zscore_bars,
                regimes={symbol: regimes[symbol] for symbol in symbols},
                params=params,
                metrics={algo: metrics[algo] for algo in algos},
            )
    return found


def _plain(values: Any) -> Any:
    """As JSON keeps it: tuples are lists."""
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return values
