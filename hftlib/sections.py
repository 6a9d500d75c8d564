"""Sections of `params.yaml`: types with their bounds; what is not the multi-agent market's.

The description of a field is its meaning and unit.
"""

from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)


def _number(value: Any) -> Any:
    """YAML 1.1 reads `3e-4` as text; accept it, but no other text and no truth value."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("expected a number") from None
    return value


def _day(value: Any) -> Any:
    """DVC cannot track YAML's own dates, so they stand in quotes."""
    if isinstance(value, date):
        raise ValueError(f'expected a date in quotes, "{value}"')
    return value


def _distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) != len(value):
        raise ValueError("expected distinct entries")
    return value


Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Day = Annotated[date, BeforeValidator(_day)]
Distinct = AfterValidator(_distinct)
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(Section):
    seed: Annotated[Integer, Field(ge=0)] = Field(
        description="root of every random generator of the project"
    )


class Compute(Section):
    backend: Literal["loky", "ray"] = Field(
        description="what runs parallel tasks: processes of this machine, or ray; needs [cluster]"
    )
    address: Annotated[str, Field(pattern=r"^([^\s:/]+:\d+)?$")] = Field(
        description="head of a ray cluster, host:port; empty for a runtime on this machine"
    )


class Simulation(Section):
    n_sessions: Annotated[Integer, Field(ge=4)] = Field(
        description="trading days of each simulator, one seed a day"
    )
    first_day: Day = Field(description="first of these days; weekends are left out")
    session_minutes: Annotated[Integer, Field(ge=2, le=390)] = Field(
        description="length of a day from 09:30, minutes"
    )
    snapshot_ms: Annotated[Integer, Field(ge=100, multiple_of=100)] = Field(
        description="interval between two book snapshots, ms"
    )
    levels: Annotated[Integer, Field(ge=5, le=50)] = Field(
        description="prices a side in a book snapshot"
    )
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples behind each interval of one session"
    )


class Span(Section):
    """What to fetch of one symbol."""

    symbol: Name = Field(description="the service's name of it")
    start: Day = Field(description="first day, UTC")
    end: Day = Field(description="last day, UTC")
    name: Name | None = Field(default=None, description="its name in our data, if another")

    @model_validator(mode="after")
    def _start_before_end(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start {self.start} must not be after end {self.end}")
        return self


class YahooSpan(Span):
    interval: Literal["1m", "2m", "5m", "15m", "1h", "1d"] = Field(
        default="1d", description="length of a bar"
    )


class ExchangeSpan(Span):
    exchange: Name = Field(description="ccxt's name of the exchange, such as binance")
    interval: Name = Field(default="1h", description="length of a candle, the exchange's name")


class Ingestion(Section):
    max_gap_bars: Annotated[Number, Field(gt=1)] = Field(
        description="a step longer than this many median bar intervals is reported as a gap"
    )
    min_bars: Annotated[Integer, Field(ge=2)] = Field(
        description="a symbol with fewer bars is flagged: too little history"
    )
    max_constant_bars: Annotated[Integer, Field(ge=1)] = Field(
        description="a longer run of bars at one price is flagged: constant prices"
    )
    max_stale_share: Annotated[Number, Field(ge=0, le=1)] = Field(
        description="a larger share of opens that repeat the close before is flagged"
    )
    max_lag_bars: Annotated[Number, Field(gt=0)] = Field(
        description="a symbol that ends more bar intervals before its source's others is delisted"
    )
    synthetic_law: Literal["gbm", "jumps", "regimes", "garch"] = Field(
        description="law of the drawn symbols that datasets.synthetic_share asks for"
    )
    yahoo: tuple[YahooSpan, ...] = Field(description="what to fetch from Yahoo; needs [sources]")
    exchanges: tuple[ExchangeSpan, ...] = Field(
        description="what to fetch from exchanges through ccxt; needs [sources]"
    )


class Features(Section):
    horizons_bars: Annotated[
        tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1), Distinct
    ] = Field(description="horizons of the information table, bars")
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples behind each interval"
    )
    horizons_snapshots: Annotated[
        tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1), Distinct
    ] = Field(description="horizons of the book features' information, snapshots")
    n_regimes: Annotated[Integer, Field(ge=2, le=4)] = Field(
        description="states of the hidden Markov model of log returns"
    )
    n_selected: Annotated[Integer, Field(ge=1)] = Field(
        description="features that training rows choose for the agents, at most"
    )
    max_correlation: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="bound on the absolute rank correlation of any two of them"
    )


class Datasets(Section):
    symbols: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] = Field(
        description="symbols that are cut into splits; all of one bar interval"
    )
    train_end: Day = Field(description="last day of the training split")
    validation_end: Day = Field(description="last day of validation; the test split follows")
    purge_bars: Annotated[Integer, Field(ge=1)] = Field(
        description="rows dropped before a boundary: no label may reach across, so >= horizon"
    )
    embargo_bars: Annotated[Integer, Field(ge=0)] = Field(
        description="rows dropped after a boundary, against slow-decaying dependence"
    )
    synthetic_share: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="share of the training rows that are drawn by ingestion.synthetic_law"
    )
    zscore_bars: Annotated[Integer, Field(ge=2)] | None = Field(
        description="open, high, low, close and volume join the features as deviations from their "
        "mean over this many bars; null leaves them out"
    )
    leak_horizon_bars: Annotated[Integer, Field(ge=2)] = Field(
        description="label horizon of the leakage demonstration, bars"
    )
    book_train_end: Day = Field(description="last day of the book's training split")
    book_dev_end: Day = Field(description="last day of its development split")
    book_val_end: Day = Field(description="last day of its validation; the test split follows")
    book_window: Annotated[Integer, Field(ge=1)] = Field(
        description="snapshots in one window of the book's tensors"
    )
    book_horizon: Annotated[Integer, Field(ge=1)] = Field(
        description="horizon of the book's label, snapshots"
    )
    book_purge: Annotated[Integer, Field(ge=0)] = Field(
        description="snapshots dropped before a boundary of the book's splits"
    )
    book_embargo: Annotated[Integer, Field(ge=0)] = Field(
        description="snapshots dropped after such a boundary"
    )

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        for names in (
            ("train_end", "validation_end"),
            ("book_train_end", "book_dev_end", "book_val_end"),
        ):
            for before, after in pairwise(names):
                if getattr(self, before) >= getattr(self, after):
                    raise ValueError(
                        f"{before} {getattr(self, before)} must be before "
                        f"{after} {getattr(self, after)}"
                    )
        return self


class SingleAgent(Section):
    n_seeds: Annotated[Integer, Field(ge=2)] = Field(description="independent trainings")
    n_control_seeds: Annotated[Integer, Field(ge=2)] = Field(
        description="trainings of each control (oracle feature; shuffled returns)"
    )
    n_control_worlds: Annotated[Integer, Field(ge=1)] = Field(
        description="validation spans that each of these policies then walks through"
    )
    logs_tensorboard: Annotated[bool, Field(strict=True)] = Field(
        description="write .cache/tensorboard/<algo>, for tensorboard --logdir .cache/tensorboard"
    )


class Online(Section):
    """What a single-agent algorithm may spend; the fields of its settings follow."""

    control_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of one control training"
    )
    adaptation_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of the adaptation to new bars"
    )
    total_steps: Annotated[Integer, Field(ge=1)] = Field(description="environment steps a seed")
    n_envs: Annotated[Integer, Field(ge=1)] = Field(description="copies of the environment")
    batch_size: Annotated[Integer, Field(ge=2)] = Field(description="transitions a gradient step")
    learning_rate: Annotated[Number, Field(gt=0)] = Field(description="Adam step size")
    gamma: Annotated[Number, Field(gt=0, le=1)] = Field(description="discount a bar")
    reward_scale: Annotated[Number, Field(gt=0)] = Field(
        description="factor on log returns, so that values are of order one"
    )
    hidden: Annotated[tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1)] = Field(
        description="units of each hidden layer"
    )
    extractor: Literal["mlp", "lstm", "attention"] = Field(
        description="what reads the window: mlp as one long vector, lstm or attention as time"
    )
    extractor_width: Annotated[Integer, Field(ge=8, multiple_of=8)] = Field(
        description="columns into which lstm and attention turn the window"
    )
    patience: Annotated[Integer, Field(ge=1)] | None = Field(
        description="points of the learning curve without a better Sharpe ratio on validation "
        "before training ends and the best weights are taken; null takes the last ones"
    )
    n_evaluations: Annotated[Integer, Field(ge=2)] = Field(description="points of a learning curve")

    def settings(self) -> dict[str, Any]:
        """The algorithm's own settings by name."""
        return self.model_dump(exclude={"control_steps", "adaptation_steps"})


class PPO(Online):
    n_steps: Annotated[Integer, Field(ge=2)] = Field(description="steps of a copy per update")
    n_epochs: Annotated[Integer, Field(ge=1)] = Field(description="passes over each rollout")
    gae_lambda: Annotated[Number, Field(ge=0, le=1)] = Field(description="GAE's lambda")
    clip_range: Annotated[Number, Field(gt=0)] = Field(description="PPO's clipping range")
    entropy_weight: Annotated[Number, Field(ge=0)] = Field(description="entropy bonus")
    shares_value_network: Annotated[bool, Field(strict=True)] = Field(
        description="actor and critic are one network but for the last layer (mlp), or have one "
        "extractor (lstm, attention)"
    )

    @model_validator(mode="after")
    def _batch_divides_rollout(self) -> Self:
        rollout = self.n_envs * self.n_steps
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must divide n_envs * n_steps = {rollout}"
            )
        return self


class OffPolicy(Online):
    """What SAC and TD3 share."""

    tau: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="step of the target networks toward the learnt ones, each update"
    )
    buffer_size: Annotated[Integer, Field(ge=1)] = Field(description="transitions kept")
    n_warmup_steps: Annotated[Integer, Field(ge=0)] = Field(
        description="environment steps of random actions before the first update"
    )
    steps_per_update: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps for one update of all networks"
    )

    @model_validator(mode="after")
    def _copies_and_updates_fit(self) -> Self:
        few, many = sorted((self.n_envs, self.steps_per_update))
        if many % few:
            raise ValueError(
                f"steps_per_update {self.steps_per_update} must be a divisor or a multiple of "
                f"n_envs {self.n_envs}"
            )
        if self.buffer_size < self.n_envs:
            raise ValueError(
                f"buffer_size {self.buffer_size} must be at least n_envs {self.n_envs}"
            )
        return self


class SAC(OffPolicy):
    initial_entropy_weight: Annotated[Number, Field(gt=0)] = Field(
        description="weight of the entropy at first; then it is learnt"
    )


class TD3(OffPolicy):
    policy_delay: Annotated[Integer, Field(ge=1)] = Field(
        description="updates of the critics for one of the actor"
    )
    noise_scale: Annotated[Number, Field(ge=0)] = Field(
        description="sd of the exploration noise; actions reach from -1 to 1"
    )
    target_noise: Annotated[Number, Field(ge=0)] = Field(
        description="sd of the noise on target actions"
    )
    target_noise_clip: Annotated[Number, Field(ge=0)] = Field(description="bound of that noise")


class Tuning(Section):
    method: Literal["grid", "random", "tpe"] = Field(description="how the next trial is chosen")
    n_trials: Annotated[Integer, Field(ge=4)] = Field(
        description="trials of the study; a grid tries all of its points"
    )
    n_workers: Annotated[Integer, Field(ge=1)] = Field(
        description="processes that share the study; TPE repeats itself with one only"
    )
    n_startup: Annotated[Integer, Field(ge=1)] = Field(
        description="random trials before TPE models the space"
    )
    prune_after: Annotated[Integer, Field(ge=1)] = Field(
        description="finished trials before the first may be given up early"
    )
    n_seeds: Annotated[Integer, Field(ge=1)] = Field(description="trainings of a trial")
    total_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of one of them"
    )
    n_fresh_seeds: Annotated[Integer, Field(ge=2)] = Field(
        description="trainings of the best and of the present parameters at the end"
    )
    learning_rate: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Distinct] = Field(
        min_length=2, description="lowest and highest Adam step size tried; points of a grid"
    )
    entropy_weight: Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Distinct] = Field(
        min_length=2, description="lowest and highest entropy bonus tried; points of a grid"
    )
    gamma: Annotated[tuple[Annotated[Number, Field(gt=0, le=1)], ...], Distinct] = Field(
        min_length=1, description="discounts a bar that are tried"
    )
    hidden: Annotated[tuple[tuple[Annotated[Integer, Field(ge=1)], ...], ...], Distinct] = Field(
        min_length=1, description="hidden layers that are tried"
    )
    n_bootstrap: Annotated[Integer, Field(ge=10)] = Field(
        description="draws of trials behind the intervals of the importance"
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(description="level of the intervals")

    @model_validator(mode="after")
    def _ranges_have_two_ends(self) -> Self:
        for name in ("learning_rate", "entropy_weight"):
            if self.method != "grid" and len(getattr(self, name)) != 2:
                raise ValueError(f"{name} needs a lowest and a highest value with {self.method}")
        return self


class Backtest(Section):
    ensemble_lookback_bars: Annotated[Integer, Field(ge=2)] = Field(
        description="recent results on paper that the rolling ensemble weighs its members by, bars"
    )
    n_random: Annotated[Integer, Field(ge=2)] = Field(description="copies of the random trader")
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="stationary-bootstrap samples behind each interval"
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(description="level of the intervals")
    fee_sweep_bps: Annotated[
        tuple[Annotated[Number, Field(ge=0, lt=10_000)], ...], Field(min_length=2), Distinct
    ] = Field(description="fees of the cost sweep, bp of traded notional")
    capacity_impact_bps: Annotated[Number, Field(gt=0, lt=10_000)] = Field(
        description="adverse move assumed for an order of a whole day's volume, bp of mid"
    )


class Figures(Section):
    width_px: Annotated[Integer, Field(ge=200, le=4000)] = Field(description="SVG width")
    height_px: Annotated[Integer, Field(ge=150, le=4000)] = Field(description="SVG height")
