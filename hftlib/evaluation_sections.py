"""Sections of `params.yaml` about training anew as time goes by, and the tests of all results."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hftlib.sections import Distinct, Integer, Number, Section


class WalkForward(Section):
    n_folds: Annotated[Integer, Field(ge=1)] = Field(
        description="test spans of equal length from datasets.train_end on"
    )
    train_bars: Annotated[Integer, Field(ge=1)] = Field(
        description="length of a training span that rolls; bars"
    )
    agent_schemes: Annotated[
        tuple[Literal["anchored", "rolling"], ...], Field(min_length=1), Distinct
    ] = Field(description="training spans of the agents; rules are chosen on both kinds")
    n_seeds: Annotated[Integer, Field(ge=1)] = Field(
        description="trainings of each algorithm in each fold"
    )
    ppo_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of one training of PPO"
    )
    sac_steps: Annotated[Integer, Field(ge=1)] = Field(description="the same of SAC")
    td3_steps: Annotated[Integer, Field(ge=1)] = Field(description="the same of TD3")
    n_blocks: Annotated[Integer, Field(ge=3)] = Field(
        description="parts of the development span in the combinatorial folds"
    )
    n_test_blocks: Annotated[Integer, Field(ge=2)] = Field(
        description="of these tested at a time, in every combination"
    )
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="stationary-bootstrap samples behind each interval"
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(description="level of the intervals")

    @model_validator(mode="after")
    def _some_block_is_left_to_train_on(self) -> Self:
        if self.n_test_blocks >= self.n_blocks:
            raise ValueError(
                f"n_test_blocks {self.n_test_blocks} must be below n_blocks {self.n_blocks}"
            )
        return self


class Statistics(Section):
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples behind each test and interval"
    )
    level: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        description="of the tests: chance of a false discovery; intervals have the rest"
    )
    n_paths: Annotated[Integer, Field(ge=10)] = Field(
        description="price paths of each law in the negative control, samples of each edge in the "
        "positive one"
    )
    information_coefficients: Annotated[
        tuple[Annotated[Number, Field(ge=0, lt=1)], ...], Field(min_length=1), Distinct
    ] = Field(description="planted correlations of a position with the next return; 0 is no edge")
