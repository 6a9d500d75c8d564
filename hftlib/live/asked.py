"""A request on its way through the models: its items, and what was seen of its windows."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hftlib.live.outcomes import Seen
from hftlib.live.requests import SymbolBody
from hftlib.live.serving import ServedModel


class View(NamedTuple):
    """What a model saw of one item."""

    model: ServedModel
    seen: Seen


class Asked:
    """One request.

    Attributes
    ----------
    items : sequence of SymbolBody
    views : dict of int to View
        By the item's place: of windows, which no stream changes, before the rest is looked at.
    left : deque of int
        Places of the windows that are to be looked at.
    """

    def __init__(self, items: Sequence[SymbolBody]) -> None:
        self.items = items
        self.views: dict[int, View] = {}
        self.left = deque(k for k, item in enumerate(items) if item.is_window)

    def __len__(self) -> int:
        """Items."""
        return len(self.items)


def observations_of(views: Iterable[Sequence[View] | Exception], model: ServedModel) -> list[Any]:
    """What one model has to answer, in the order of the requests."""
    return [
        view.seen.observation
        for entry in views
        if not isinstance(entry, Exception)
        for view in entry
        if view.model is model and view.seen.observation is not None
    ]
