"""Section of `params.yaml` about the tests of what the other stages found."""

from typing import Annotated

from pydantic import Field

from hftlib.sections import Distinct, Integer, Number, Section


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
