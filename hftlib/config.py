"""Typed parameters and paths: the only reader of `params.yaml`.

Each section of the file is one frozen model; bounds are part of the types and
the description of a field is its meaning and unit. Notebooks call `load()`
and hand plain values to the library, so nothing else knows these models.
"""

import difflib
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError, model_validator

from hftlib.backends import use_backend
from hftlib.evaluation_sections import Statistics, WalkForward
from hftlib.forecast_sections import Forecaster
from hftlib.live_sections import PaperTrading
from hftlib.market_sections import (
    MADDPG,
    MAPPO,
    Environments,
    ExecutorRole,
    MakerRole,
    Market,
    MarketReward,
    MarketRisk,
    MultiAgent,
    TakerRole,
)
from hftlib.paths import Paths, project_root
from hftlib.portfolio_sections import PortfolioRisk, RiskLimits
from hftlib.sections import (
    PPO,
    SAC,
    TD3,
    Backtest,
    Base,
    Compute,
    Datasets,
    Features,
    Figures,
    Ingestion,
    Section,
    Simulation,
    SingleAgent,
    Tuning,
)
from hftlib.session_sections import Offline, Sessions
from hftlib.trading_sections import (
    Costs,
    Trading,
    TradingFinancing,
    TradingLimits,
    TradingReward,
)

PARAMS_FILE = "params.yaml"


class ParamsError(ValueError):
    """A parameter file that cannot be used; one line for each fault."""


class Params(Section):
    base: Base
    compute: Compute
    simulation: Simulation
    ingestion: Ingestion
    sessions: Sessions
    features: Features
    datasets: Datasets
    costs: Costs
    trading: Trading
    trading_limits: TradingLimits
    trading_financing: TradingFinancing
    trading_reward: TradingReward
    risk_limits: RiskLimits
    market: Market
    market_risk: MarketRisk
    market_reward: MarketReward
    maker: MakerRole
    executor: ExecutorRole
    taker: TakerRole
    environments: Environments
    forecaster: Forecaster
    single_agent: SingleAgent
    ppo: PPO
    sac: SAC
    td3: TD3
    multi_agent: MultiAgent
    mappo: MAPPO
    maddpg: MADDPG
    offline: Offline
    tuning: Tuning
    walk_forward: WalkForward
    portfolio_risk: PortfolioRisk
    backtest: Backtest
    statistics: Statistics
    paper_trading: PaperTrading
    figures: Figures

    @model_validator(mode="after")
    def _positions_within_leverage(self) -> Self:
        weight, leverage = self.trading.max_weight, self.trading_limits.max_leverage
        if weight > leverage:
            raise ValueError(
                f"trading.max_weight {weight} must not exceed "
                f"trading_limits.max_leverage {leverage}"
            )
        return self

    @property
    def trading_rules(self) -> dict[str, Any]:
        """What `TradingRules.from_values` takes."""
        return {
            "costs": self.costs.model_dump(),
            "trading": self.trading.model_dump(exclude={"uses_risk_limits"}),
            "limits": self.trading_limits.model_dump(),
            "financing": self.trading_financing.model_dump(),
            "reward": self.trading_reward.model_dump(),
            "risk": self.risk_limits.model_dump() if self.trading.uses_risk_limits else None,
        }

    @cached_property
    def paths(self) -> Paths:
        """Where every stage reads and writes."""
        return Paths(project_root())


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; refuse them instead."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                line = node.value[number][0].start_mark.line + 1
                raise ParamsError(f"line {line}: key {key!r} appears twice; keep one")
        return super().construct_mapping(node, deep)


def load(path: str | os.PathLike[str] | None = None) -> Params:
    """Read and check the parameters.

    Parameters
    ----------
    path : path, optional
        Defaults to `params.yaml` in the project's root, found from the
        working directory upwards; its section `compute` then becomes the
        backend of this process (`backends.use_backend`), in a stage as in
        JupyterLab. Any other file is only read.

    Raises
    ------
    ParamsError
        If the file is missing or malformed, or holds an unknown key, a wrong
        type or a value out of range: one line per fault with file, key,
        value and remedy.
    """
    file = Path(path) if path is not None else project_root() / PARAMS_FILE
    try:
        values = yaml.load(file.read_text(), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise ParamsError(f"{file}: no such file; restore it from git") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{file.name}: not UTF-8 text; save it as UTF-8") from None
    except ParamsError as error:
        raise ParamsError(f"{file.name}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}"
        raise ParamsError(
            f"{file.name}: not valid YAML{where}; check indentation and quotes"
        ) from None
    if not isinstance(values, dict):
        raise ParamsError(f"{file.name}: expected sections, received {type(values).__name__}")
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        lines = [_explain(file.name, fault) for fault in error.errors()]
        raise ParamsError("\n".join(lines)) from None
    if path is None:
        use_backend(params.compute.backend, params.compute.address)
    return params


def _explain(file: str, fault: Any) -> str:
    """One line for one pydantic fault."""
    parts = [str(part) for part in fault["loc"]]
    key = ".".join(parts)
    if fault["type"] == "extra_forbidden":
        known = _known_keys()
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        siblings = [name for name in known if name.rpartition(".")[0] == ".".join(parts[:-1])]
        remedy = f"did you mean {close[0]}?" if close else f"known here: {', '.join(siblings)}"
        return f"{file}: {key} is not a parameter; {remedy}"
    if fault["type"] == "missing":
        return f"{file}: {key} is missing; add it ({_meaning(parts)})"
    if fault["type"] == "model_type":
        return f"{file}: {key} = {fault['input']!r}: expected a section with its keys below it"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(fault["input"], dict):
        where = f"{key}: " if key else ""
        return f"{file}: {where}{message}; change one of them"
    return f"{file}: {key} = {fault['input']!r}: {message}; it is the {_meaning(parts)}"


def _known_keys() -> list[str]:
    keys = list(Params.model_fields)
    for name, field in Params.model_fields.items():
        keys += [f"{name}.{key}" for key in field.annotation.model_fields]  # type: ignore[union-attr]
    return keys


def _meaning(parts: list[str]) -> str:
    section = Params.model_fields.get(parts[0])
    if section is None or len(parts) < 2:
        return f"section {parts[0]}"
    return section.annotation.model_fields[parts[1]].description or parts[1]  # type: ignore[union-attr]


if __name__ == "__main__":
    try:
        load()
    except (ParamsError, FileNotFoundError) as fault:
        sys.exit(f"error: {fault}")
