"""What the service answers, for its OpenAPI document; a test holds real answers against these."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """No key is left unsaid."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelRef(Answer):
    """Which model answered."""

    name: str
    version: str


class ForecastAnswer(Answer):
    """The next bar's log return."""

    mean: float
    sd: float | None


class SymbolAnswer(Answer):
    """What the policy says about one symbol."""

    symbol: str
    ts_ns: int = Field(description="start of the newest row, nanoseconds since 1970, UTC")
    action: float | None = Field(description="in the unit of `/model/info`; null while rows miss")
    limit_ticks: float | None = Field(
        description="limit price of an action that is an order, less the mid; null without a limit"
    )
    missing_rows: int = Field(description="rows before the first action")
    probabilities: dict[str, float] | None = Field(description="of discrete actions, else null")
    confidence: float | None = Field(
        description="largest probability, or 1 - spread / half the range of actions, or null"
    )
    uncertainty: float | None = Field(
        description="standard deviation of the action over the model's seeds; null for one seed"
    )
    forecast: ForecastAnswer | None
    model: ModelRef = Field(description="which answered: the champion or its challenger")


class OneAnswer(SymbolAnswer):
    """Answer of `/predict`."""

    latency_ms: float = Field(description="from the first byte read to the answer written")
    request_id: str


class BatchAnswer(Answer):
    """Answer of `/predict/batch`, in the order of the items."""

    predictions: list[SymbolAnswer]
    model: ModelRef = Field(description="the champion")
    latency_ms: float
    request_id: str


class HealthAnswer(Answer):
    """The process lives."""

    status: Literal["alive"]
    uptime_s: float


class ChallengerAnswer(Answer):
    """The second model; both are null where the settings name none."""

    model: ModelRef | None
    trouble: str | None = Field(description="why the one that is named does not answer, or null")


class ReadyAnswer(Answer):
    """The service answers predictions."""

    status: Literal["ready"]
    model: ModelRef
    challenger: ChallengerAnswer


class ArmAnswer(Answer):
    """One of the models that answer."""

    role: Literal["champion", "challenger"]
    model: ModelRef
    share: float = Field(description="of the keys")
    n_keys: int = Field(description="different ones since the activation, at most 100,000")
    n_predictions: int = Field(description="symbols answered since the activation")


class RoutingAnswer(Answer):
    """Which model answers whom."""

    arms: list[ArmAnswer]
    salt_sha256: str | None = Field(
        description="of what assigns keys to arms; another one is another trial"
    )
    trouble: str | None = Field(description="why the challenger does not answer, or null")


class CardAnswer(Answer):
    """A model."""

    role: Literal["champion", "challenger"]
    challenger: ChallengerAnswer
    name: str
    version: str
    kind: str
    takes: Literal["bars", "book"]
    min_rows: int
    low: float
    high: float
    unit: str
    choices: list[str]
    symbols: list[str]
    features: list[str]
    git_revision: str
    metrics: dict[str, Any]
    state: list[str] = Field(description="what a request must say of the client's own order")


class ModelsAnswer(Answer):
    """Registered models."""

    active: str | None
    models: list[str]


class SymbolStatus(Answer):
    """Stream of one symbol."""

    symbol: str
    n_rows: int
    last_ts_ns: int | None


class SymbolsAnswer(Answer):
    """Symbols of the active model."""

    symbols: list[SymbolStatus]


class JobAnswer(Answer):
    """A backtest."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled", "timed_out"]
    request: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    submitted_ns: int
    seconds: float | None = Field(description="that it ran")
