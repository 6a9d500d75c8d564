"""Search spaces: what each hyper-parameter may be, as plain descriptions.

A space is a mapping of a name to one of `Choice`, `Uniform`, `LogUniform` and
`IntRange`. A study and a table hold choices that are all numbers, all text or
all truth values as they are, and any others, tuples of layer sizes say, as
their `repr`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


@dataclass(frozen=True)
class Choice:
    """One of several values without an order; of any type, distinct."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.cells)) != len(self.values):
            raise ValueError(f"choices are {self.values!r}; expected at least one, all distinct")

    @property
    def cells(self) -> tuple[Any, ...]:
        """The values as a table or a study holds them."""
        kinds = {type(value) for value in self.values}
        if kinds <= {int, float} or kinds in ({str}, {bool}):
            return self.values
        return tuple(repr(value) for value in self.values)

    @property
    def distribution(self) -> CategoricalDistribution:
        """As Optuna describes it."""
        return CategoricalDistribution(self.cells)

    def decode(self, cell: Any) -> Any:
        """The value that a cell stands for."""
        return self.values[self.cells.index(cell)]


@dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    @property
    def distribution(self) -> FloatDistribution:
        """As Optuna describes it."""
        return FloatDistribution(self.low, self.high)

    def decode(self, cell: Any) -> float:
        """The value that a cell stands for."""
        return float(cell)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A number from `low`, above 0, to `high`, its logarithm uniform."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise ValueError(f"low is {self.low}; expected above 0, since it has no logarithm")

    @property
    def distribution(self) -> FloatDistribution:
        """As Optuna describes it."""
        return FloatDistribution(self.low, self.high, log=True)


@dataclass(frozen=True)
class IntRange:
    """A whole number from `low` to `high`, both included, in steps of `step`."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)
        if self.step < 1 or (self.high - self.low) % self.step:
            raise ValueError(
                f"step is {self.step}; expected a divisor of high - low = {self.high - self.low}"
            )

    @property
    def distribution(self) -> IntDistribution:
        """As Optuna describes it."""
        return IntDistribution(self.low, self.high, step=self.step)

    def decode(self, cell: Any) -> int:
        """The value that a cell stands for."""
        return int(cell)


Spec = Choice | Uniform | LogUniform | IntRange
Space = Mapping[str, Spec]


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna describes it."""
    return {name: spec.distribution for name, spec in space.items()}


def decode_settings(space: Space, cells: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name from the cells of a study or a table, which may hold more."""
    return {name: spec.decode(cells[name]) for name, spec in space.items()}


def list_grid(space: Space) -> list[dict[str, Any]]:
    """Every combination as cells, the last name varying fastest.

    Raises
    ------
    ValueError
        If a parameter is continuous: it has no points of its own.
    """
    columns = []
    for name, spec in space.items():
        if isinstance(spec, Uniform):
            raise ValueError(
                f"{name} is {spec!r}, which has no grid; name its points with Choice((…))"
            )
        columns.append(
            spec.cells
            if isinstance(spec, Choice)
            else tuple(range(spec.low, spec.high + 1, spec.step))
        )
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*columns)]


def _check_bounds(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds are {low} and {high}; expected two finite numbers, low < high")
