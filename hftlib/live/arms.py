"""The champion, a challenger that serves a share of the keys, and requests put together.

Both models have the same streams: every new bar goes on those of both, in the same order, so
that either can answer at any time; a bar is only kept by the one that is not asked, its
features are computed when it is. A key always meets the same arm, also after a
restart, as long as neither model's name nor version changes.

The challenger may fail without harm: whatever it raises turns it off with the reason, and its keys
are answered by the champion in the same batch. A window that the champion refuses too is the
client's fault, and turns nothing off. Where the champion fails, requests that it had no part in
are answered. Everything but `describe` runs on the model's thread.

Source: `ab_trial` for the assignment.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from hftlib.live.ab_trial import Routing
from hftlib.live.asked import Asked, View, observations_of
from hftlib.live.faults import ServiceFault
from hftlib.live.logs import log_event
from hftlib.live.outcomes import ModelRow, describe
from hftlib.live.protocols import ModelCard
from hftlib.live.requests import SymbolBody
from hftlib.live.serving import ServedModel

CHAMPION, CHALLENGER = "champion", "challenger"
MAX_KEYS = 100_000  # that are remembered, to count them
Answers = list[dict[str, Any]] | Exception


def find_mismatch(champion: ModelCard, challenger: ModelCard) -> str | None:
    """Why a model cannot challenge another; None if it can."""
    if (champion.name, champion.version) == (challenger.name, challenger.version):
        return "it is the champion itself; name another model"
    odd = sorted({*champion.symbols} ^ {*challenger.symbols})
    if odd:
        return f"symbols differ in {', '.join(odd[:10])}; train it on those of {champion.name}"
    for name in ("takes", "unit", "choices"):
        theirs, ours = getattr(champion, name), getattr(challenger, name)
        if theirs != ours:
            return f"{name} is {ours!r}; expected {theirs!r} as of {champion.name}"
    return None


class Arms:
    """The models that answer.

    Parameters
    ----------
    champion : ServedModel
    challenger : ServedModel, optional
        One that `find_mismatch` finds fit; its streams are as empty as the champion's.
    share : float
        Of the keys that the challenger serves.
    trouble : str, optional
        Why there is no challenger although one is named.
    """

    def __init__(
        self,
        champion: ServedModel,
        challenger: ServedModel | None = None,
        share: float = 0.0,
        trouble: str | None = None,
    ) -> None:
        self.champion = champion
        self.challenger = challenger
        self.trouble = trouble
        self._routing: Routing | None = None
        self._keys: dict[str, str] = {}
        self._n_keys: Counter[str] = Counter()
        self._n_predictions: Counter[str] = Counter()
        if challenger is not None:
            cards = champion.card, challenger.card
            salt = "/".join(f"{card.name}:{card.version}" for card in cards)
            self._routing = Routing({CHAMPION: 1 - share, CHALLENGER: share}, salt)

    def look(self, asked: Asked) -> None:
        """Look at the next window of a request, which is checked as a whole before the first.

        Raises
        ------
        ServiceFault
            If the request is refused.
        """
        if not asked.views:
            self._check(asked)
        number = asked.left.popleft()
        asked.views[number] = self._view(number, asked.items[number])

    def answer(self, requests: Sequence[Asked]) -> list[Answers]:
        """One list of answers a request, as `answers.SymbolAnswer`, or why it is refused."""
        views = [_attempt(self._see, asked) for asked in requests]
        rows: dict[ServedModel, Iterator[ModelRow]] = {}
        challenger = self.challenger
        if challenger is not None:
            try:
                rows[challenger] = iter(challenger.predict(observations_of(views, challenger)))
            except Exception as error:
                self._turn_off(_say(error))
        if self.challenger is None:  # also where a bar or a window of this batch turned it off
            views = [
                entry
                if isinstance(entry, Exception)
                else _attempt(partial(self._see_anew, entry), asked)
                for entry, asked in zip(views, requests, strict=True)
            ]
        broken: Exception | None = None
        try:
            rows[self.champion] = iter(self.champion.predict(observations_of(views, self.champion)))
        except Exception as error:
            broken = error
        found: list[Answers] = []
        for entry in views:
            if isinstance(entry, Exception):
                found.append(entry)
            elif broken is not None and observations_of([entry], self.champion):
                for model, answers in rows.items():  # the other's in it are nobody's
                    for _ in observations_of([entry], model):
                        next(answers)
                found.append(broken)
            else:
                found.append([self._describe(view, rows) for view in entry])
        return found

    def _describe(self, view: View, rows: dict[ServedModel, Iterator[ModelRow]]) -> dict[str, Any]:
        model, seen = view
        self._n_predictions[CHAMPION if model is self.champion else CHALLENGER] += 1
        row = None if seen.observation is None else next(rows[model])
        return describe(model.card, seen, row)

    def describe(self) -> dict[str, Any]:
        """As `answers.RoutingAnswer`."""
        challenger, routing = self.challenger, self._routing
        shares = {CHAMPION: 1.0} if challenger is None or routing is None else routing.shares
        models = {CHAMPION: self.champion, CHALLENGER: challenger}
        arms = [
            {
                "role": role,
                "model": refer(model.card),
                "share": shares[role],
                "n_keys": self._n_keys[role],
                "n_predictions": self._n_predictions[role],
            }
            for role, model in models.items()
            if model is not None
        ]
        salt = None if routing is None else hashlib.sha256(routing.salt.encode()).hexdigest()
        return {"arms": arms, "salt_sha256": salt, "trouble": self.trouble}

    def describe_challenger(self) -> dict[str, Any]:
        """As `answers.ChallengerAnswer`."""
        model = None if self.challenger is None else refer(self.challenger.card)
        return {"model": model, "trouble": self.trouble}

    def assign(self, key: str) -> str:
        """The role that serves a key."""
        known = self._keys.get(key)
        if known is not None:
            return known
        if self.challenger is None or self._routing is None:
            return CHAMPION
        return self._routing.assign(key)

    def _check(self, asked: Asked) -> None:
        models = [self._find_model(item) for item in asked.items]
        self.champion.check(asked.items, [model.card.min_rows for model in models])

    def _see(self, asked: Asked) -> list[View]:
        self._check(asked)
        views = []
        for number, item in enumerate(asked.items):
            self._remember(item.routing_key)
            if item.bars:
                self.champion.push(number, item)
                self._follow(number, item)
            known = asked.views.get(number)
            is_known = known is not None and known.model is self._find_model(item)
            views.append(known if known and is_known else self._view(number, item))
        return views

    def _remember(self, key: str) -> None:
        """Count a key of a request that is not refused."""
        if key not in self._keys and len(self._keys) < MAX_KEYS:
            self._keys[key] = role = self.assign(key)
            self._n_keys[role] += 1

    def _follow(self, number: int, item: SymbolBody) -> None:
        """The challenger's stream of an item whose bars the champion has taken in."""
        if self.challenger is not None:
            try:
                self.challenger.push(number, item)
            except Exception as error:
                self._turn_off(f"it refuses a bar that the champion takes: {_say(error)}")

    def _view(self, number: int, item: SymbolBody) -> View:
        """As the model of its key sees it; what only the challenger refuses turns it off."""
        challenger = self._find_model(item)
        if challenger is not self.champion:
            try:
                return View(challenger, challenger.view(number, item))
            except Exception as error:
                view = View(self.champion, self.champion.view(number, item))
                self._turn_off(f"it fails where the champion does not: {_say(error)}")
                return view
        return View(self.champion, self.champion.view(number, item))

    def _see_anew(self, views: Sequence[View], asked: Asked) -> list[View]:
        """As the champion sees them, where it was another that saw them."""
        return [
            view if view.model is self.champion else self._view(number, asked.items[number])
            for number, view in enumerate(views)
        ]

    def _find_model(self, item: SymbolBody) -> ServedModel:
        challenger = self.challenger
        if challenger is not None and self.assign(item.routing_key) == CHALLENGER:
            return challenger
        return self.champion

    def _turn_off(self, why: str) -> None:
        self.challenger, self.trouble = None, why
        self._keys.clear()
        self._n_keys.clear()
        log_event("error", what="challenger turned off", why=why)


def refer(card: ModelCard) -> dict[str, str]:
    """As `answers.ModelRef`."""
    return {"name": card.name, "version": card.version}


def _say(error: Exception) -> str:
    return error.message if isinstance(error, ServiceFault) else repr(error)


def _attempt(see: Callable[[Asked], list[View]], asked: Asked) -> list[View] | Exception:
    """One broken request must not spoil the others."""
    try:
        return see(asked)
    except Exception as error:
        return error
