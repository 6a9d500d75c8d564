"""One check for the settings of the bar-trading environment."""

from typing import Any


def check_ranges(settings: Any, holds: dict[str, bool]) -> None:
    """Refuse the first setting that does not hold.

    Raises
    ------
    ValueError
        Names it, its value and the class that documents its range.
    """
    for name, is_fine in holds.items():
        if not is_fine:
            kind = type(settings).__name__
            raise ValueError(f"{name} is {getattr(settings, name)!r}; see {kind} for its range")
