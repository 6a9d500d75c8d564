"""Served models on disk: a folder of graphs and a manifest, checked at every load.

Nothing in an artefact can run code when it is read: graphs are ONNX without files of
their own, the rest is JSON. A name is a plain word, a path never leaves the root, a link
is never followed, a file that nobody expects is refused, and what is used are the very bytes
that were hashed. Hashes tell damage and mix-ups; who may write into the root can write new ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hftlib.envs.trading_rules import TradingRules
from hftlib.features.markov import RegimeModel
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact_files import (
    FORECASTER,
    MANIFEST,
    POLICY,
    ArtefactError,
    check_name,
    list_artefacts,
    read_artefact,
    write_files,
)
from hftlib.live.manifest import FORMAT, UNIT, Manifest, find_obstacle

__all__ = [
    "FORECASTER",
    "MANIFEST",
    "POLICY",
    "Artefact",
    "ArtefactError",
    "ServedForecaster",
    "check_name",
    "list_artefacts",
    "load_artefact",
    "write_artefact",
]

if TYPE_CHECKING:  # serving needs no torch
    from hftlib.agents.policy_export import PolicyGraph


@dataclass(frozen=True)
class Artefact:
    """A manifest and the graphs whose hashes it names; `forecaster` is None without one."""

    manifest: Manifest
    policy: bytes
    forecaster: bytes | None

    def describe(self) -> dict[str, Any]:
        """What a table of artefacts says of it."""
        policy = self.manifest.policy
        return {
            "version": self.manifest.version,
            "members": ", ".join(
                f"{n} x {algo} at {share:.0%}"
                for algo, share, n in zip(policy.algos, policy.shares, policy.n_seeds, strict=True)
            ),
            "features": len(policy.feature_names),
            "window": policy.window_bars,
            "action": f"{policy.low:g} to {policy.high:g}",
            "KiB": round(sum(file.bytes for file in self.manifest.files.values()) / 1024),
            "sha256 of the policy": self.manifest.files[POLICY].sha256[:12],
        }


class ServedForecaster(NamedTuple):
    """Graph of `models.export`, its channels and window, and the scaler of its forecasts."""

    path: Path
    channels: tuple[str, ...]
    window: int
    scaler: RobustScaler


def write_artefact(
    root: Path,
    name: str,
    *,
    version: str,
    policy: Path,
    graph: "PolicyGraph",
    scaler: RobustScaler,
    rules: TradingRules,
    symbols: Sequence[str],
    git_revision: str,
    forecaster: ServedForecaster | None = None,
    zscore_bars: int | None = None,
    regimes: Mapping[str, RegimeModel] | None = None,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Artefact:
    """Write the folder `root / name`, in the place of one that is there, and load it.

    Parameters
    ----------
    policy, graph : file and answer of `export_policies`
    scaler : of the policy's features but the forecasts, as stage 21 fitted it
    rules : of the environment that the policy was trained in
    symbols : those of the training
    zscore_bars : as of `build_datasets`
    regimes : by symbol, for features of the hidden states
    params, metrics : values for JSON, none of them nan

    Raises
    ------
    ArtefactError
        If the name is no name, or policy, scaler, forecaster and rules do not fit together.
    """
    check_name(name)
    obstacle = find_obstacle(graph, scaler, rules, regimes or {}, symbols)
    if obstacle is not None:
        raise ArtefactError(f"{name} cannot be served: {obstacle}")
    sources = {POLICY: policy} | ({} if forecaster is None else {FORECASTER: forecaster.path})
    low, high = graph.low[0], graph.high[0]
    described = graph._asdict() | {"low": low, "high": high, "unit": UNIT}
    for key in ("n_assets", "n_account"):
        del described[key]
    about = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "kind": "ensemble" if len(graph.algos) > 1 else "single_agent",
        "policy": described,
        "scaler": scaler.to_dict(),
        "forecaster": forecaster
        and {
            "channels": forecaster.channels,
            "window": forecaster.window,
            "scaler": forecaster.scaler.to_dict(),
        },
        "zscore_bars": zscore_bars,
        "regimes": {symbol: model.to_dict() for symbol, model in (regimes or {}).items()},
        "symbols": tuple(symbols),
        "rules": asdict(rules),
        "git_revision": git_revision,
        "params": dict(params or {}),
        "metrics": dict(metrics or {}),
    }
    write_files(root, name, about, sources, Manifest)
    return load_artefact(root, name)


def load_artefact(root: Path, name: str) -> Artefact:
    """The artefact of a name, every byte of it checked; for models of bars.

    Raises
    ------
    ArtefactError
        If the name is no name or there is no such folder; if the folder or a file of it is a link
        or leads out of `root`; if there is a file too many, above all one that may run code, or
        too few; if a file is not the one that the manifest names; if the manifest is not one.
    """
    manifest, graphs = read_artefact(root, name, Manifest)
    return Artefact(manifest, graphs[POLICY], graphs.get(FORECASTER))
