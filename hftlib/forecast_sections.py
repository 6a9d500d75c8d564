"""Section of `params.yaml` about the forecaster."""

from typing import Annotated

from pydantic import Field

from hftlib.sections import Day, Integer, Number, Section


class Forecaster(Section):
    window_bars: Annotated[Integer, Field(ge=8)] = Field(description="bars that a forecast reads")
    first_test_day: Day = Field(
        description="first day with a forecast; about four years of bars should come before it"
    )
    n_folds: Annotated[Integer, Field(ge=2)] = Field(
        description="walk-forward folds, each with networks of its own"
    )
    validation_bars: Annotated[Integer, Field(ge=20)] = Field(
        description="bars before each test span that stop the training and calibrate intervals"
    )
    n_members: Annotated[Integer, Field(ge=2)] = Field(description="networks of an ensemble")
    n_control_members: Annotated[Integer, Field(ge=1)] = Field(
        description="networks of an ensemble trained on shuffled outcomes"
    )
    filters: Annotated[
        tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1, max_length=5)
    ] = Field(description="channels of each convolution; each halves the length of the window")
    n_hidden: Annotated[Integer, Field(ge=1)] = Field(description="units of the LSTM")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="share of the LSTM's inputs and of the context left out in training"
    )
    return_weight: Annotated[Number, Field(ge=0)] = Field(
        description="weight in the loss of next return and direction; that of log variance is 1"
    )
    learning_rate: Annotated[Number, Field(gt=0)] = Field(description="AdamW's step size")
    weight_decay: Annotated[Number, Field(ge=0)] = Field(description="AdamW's decay a step size")
    batch_size: Annotated[Integer, Field(ge=2)] = Field(description="windows of a gradient step")
    max_epochs: Annotated[Integer, Field(ge=1)] = Field(description="passes over training at most")
    patience: Annotated[Integer, Field(ge=1)] = Field(
        description="epochs without a better validation loss after which training stops"
    )
    max_gradient: Annotated[Number, Field(gt=0)] = Field(
        description="norm to which a longer gradient is cut"
    )
    coverage: Annotated[Number, Field(ge=0.5, lt=1)] = Field(
        description="share of outcomes that the calibrated intervals are to hold"
    )
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="stationary-bootstrap samples behind each interval of a measure"
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(
        description="level of the intervals of measures"
    )
