"""What an artefact says of itself: the fields of `manifest.json`, and what holds between them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from hftlib.envs.bar_state import EXPOSURE_LIMIT
from hftlib.envs.trading_rules import TradingRules
from hftlib.features import advice, zscore
from hftlib.features.markov import RegimeModel
from hftlib.features.regimes import HIDDEN_FEATURES
from hftlib.features.scaling import RobustScaler
from hftlib.features.sentiment import FEATURES as SENTIMENT_FEATURES
from hftlib.live.protocols import NAME

if TYPE_CHECKING:  # serving needs no torch
    from hftlib.agents.policy_export import PolicyGraph

FORMAT = 1
N_ACCOUNT = 2  # columns of position and exposure
UNIT = "target weight, signed share of equity in units of the rules' max_weight"
ZSCORES = tuple(f"{name}_z" for name in zscore.COLUMNS)

Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """Nothing unknown, nothing of another type, no nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Scaling(Part):
    """As `RobustScaler`."""

    names: tuple[Text, ...]
    median: tuple[float, ...]
    iqr: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not len(self.names) == len(self.median) == len(self.iqr):
            raise ValueError(
                f"{len(self.names)} names, {len(self.median)} medians, {len(self.iqr)} ranges; "
                "expected as many of each"
            )
        return self

    def build(self) -> RobustScaler:
        """The scaler."""
        return RobustScaler(self.names, self.median, self.iqr)


class Regime(Part):
    """As `RegimeModel`."""

    means: tuple[float, ...]
    variances: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    n_returns: int

    def build(self) -> RegimeModel:
        """The model; `RegimeError` if the numbers make none."""
        return RegimeModel.from_dict(self.model_dump())


class ForecasterPart(Part):
    """What `forecaster.onnx` takes: windows of channels, the first of them `examples.TERMS`."""

    channels: tuple[Text, ...]
    window: Count
    scaler: Scaling


class PolicyPart(Part):
    """What `policy.onnx` takes and gives; `shares` of the algorithms in the action sum to 1."""

    algos: Annotated[tuple[Text, ...], Field(min_length=1)]
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    n_seeds: tuple[Count, ...]
    feature_names: Annotated[tuple[Text, ...], Field(min_length=1)]
    window_bars: Count
    low: float
    high: float
    unit: Text = UNIT


class FileEntry(Part):
    """One file beside the manifest."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Part):
    """All about a served model but its graphs.

    Attributes
    ----------
    zscore_bars : bars of `rolling_zscores`; None without such columns.
    regimes : by symbol; only where a feature of the hidden states is used.
    symbols : those it was trained on, and answers for.
    rules : of the environment it was trained in.
    params : the sections of `params.yaml` that made it.
    metrics : on validation.
    files : by name, without the manifest.
    """

    format: Literal[1]
    name: Name
    version: Text
    kind: Literal["single_agent", "ensemble"]
    policy: PolicyPart
    scaler: Scaling
    forecaster: ForecasterPart | None
    zscore_bars: Annotated[int, Field(ge=2)] | None
    regimes: dict[str, Regime]
    symbols: Annotated[tuple[Text, ...], Field(min_length=1)]
    rules: dict[str, JsonValue]
    git_revision: str
    params: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    files: dict[str, FileEntry]

    @property
    def has_forecaster(self) -> bool:
        """Whether there is a second graph."""
        return self.forecaster is not None

    @property
    def n_inputs(self) -> int:
        """Columns of an observation."""
        return self.policy.window_bars * len(self.policy.feature_names) + N_ACCOUNT

    @property
    def bar_features(self) -> tuple[str, ...]:
        """The policy's features that come from the catalogue."""
        return tuple(name for name in self.scaler.names if name not in ZSCORES)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        policy, advised = self.policy, self.forecaster is not None
        made = self.scaler.names + ((*advice.NAMES, advice.KNOWN) if advised else ())
        if policy.feature_names != made:
            odd = sorted({*policy.feature_names} ^ {*made}) or "none, but their order"
            raise ValueError(
                f"the policy's {len(policy.feature_names)} features are not the {len(made)} that "
                f"scaler and forecaster make; they differ in {odd}"
            )
        if (self.zscore_bars is None) != (len(self.bar_features) == len(self.scaler.names)):
            raise ValueError(
                f"zscore_bars is {self.zscore_bars}, features among {', '.join(ZSCORES)}: "
                f"{len(self.scaler.names) - len(self.bar_features)}; both or none"
            )
        if self.forecaster is not None and self.forecaster.scaler.names != advice.NAMES:
            raise ValueError(
                f"the forecasts' scaler is of {self.forecaster.scaler.names}; expected "
                f"{advice.NAMES}"
            )
        if not len(policy.algos) == len(policy.shares) == len(policy.n_seeds):
            raise ValueError(
                f"{policy.algos} with shares {policy.shares} and seeds {policy.n_seeds}; expected "
                "one of each"
            )
        if not -EXPOSURE_LIMIT <= policy.low < policy.high <= EXPOSURE_LIMIT:
            raise ValueError(f"bounds of the action are {policy.low} to {policy.high}")
        return self


def describe_faults(errors: list[Any]) -> str:
    """Pydantic's errors in one line: where, and what."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}" for fault in errors[:5]
    )


def find_obstacle(
    graph: "PolicyGraph",
    scaler: RobustScaler,
    rules: TradingRules,
    regimes: Mapping[str, RegimeModel],
    symbols: Sequence[str],
) -> str | None:
    """Why a policy cannot be asked with bars, position and exposure alone; None if it can."""
    names = {*scaler.names}
    scored = sorted(names & {feature.name for feature in SENTIMENT_FEATURES})
    hidden = sorted(names & {feature.name for feature in HIDDEN_FEATURES})
    without = sorted({*symbols} - {*regimes}) if hidden else []
    if rules.is_portfolio or graph.n_assets != 1:
        return "it trades a portfolio at once; train it with is_portfolio: false"
    if rules.shows_drawdown or graph.n_account != N_ACCOUNT:
        return "it observes the drawdown too; train it with shows_drawdown: false"
    if graph.window_bars != rules.window_bars:
        return (
            f"it reads {graph.window_bars} bars, the rules {rules.window_bars}; pass the rules it "
            "was trained under"
        )
    if scored:
        return f"{', '.join(scored)} need a feed of scores; leave them out of the training"
    if without:
        return f"{', '.join(hidden)} need a regime model of {', '.join(without)}; pass it"
    return None
