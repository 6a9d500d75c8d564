"""What one running service holds: its model, its queue, its clients, its jobs."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from hftlib.live.arms import Arms, find_mismatch, refer
from hftlib.live.asked import Asked
from hftlib.live.batching import Batcher
from hftlib.live.faults import ServiceFault
from hftlib.live.hub import Hub
from hftlib.live.jobs import Job, JobQueue
from hftlib.live.logs import log_event
from hftlib.live.metrics_http import Metrics
from hftlib.live.protocols import ModelStore, PaperView
from hftlib.live.requests import BodyReader, SymbolBody
from hftlib.live.serving import ServedModel, warm_up
from hftlib.live.settings import ServiceSettings

PAPER_INTERVAL_S = 1.0


class Runtime:
    """Parts of the service, wired; see `service.create_app`."""

    def __init__(
        self,
        store: ModelStore,
        settings: ServiceSettings,
        paper: PaperView | None,
        clock: Callable[[], int],
    ) -> None:
        self.store = store
        self.settings = settings
        self.paper = paper
        self.metrics = Metrics()
        self.hub = Hub(settings, self.metrics, clock)
        self.jobs = JobQueue(settings, self._on_job)
        self.bodies = BodyReader(settings.predict_limit_s)
        self.arms: Arms | None = None
        self.trouble = "the model is being loaded"
        self.started_s = time.monotonic()
        self._clock = clock
        self._paper_s = -math.inf
        self._batcher = self._make_batcher()
        self._paper_task: asyncio.Task[None] | None = None
        self._activation = asyncio.Lock()

    def _make_batcher(self) -> Batcher:
        settings = self.settings
        return Batcher(
            self._answer,
            lambda asked: self.find_arms().look(asked),
            max_waiting=settings.max_waiting,
            max_windows=settings.max_windows,
            max_batch=settings.max_batch,
            limit_s=settings.predict_limit_s,
            on_batch=self.metrics.batch.observe,
        )

    async def start(self) -> None:
        """Load the model and begin to work."""
        self._batcher.start()
        self.jobs.start()
        if self.paper is not None:
            self._paper_task = asyncio.create_task(self._show_paper(self.paper))
        try:
            names = await asyncio.to_thread(self.store.names)
            name = self.settings.model if self.settings.model else min(names, default="")
            if not name:
                self.trouble = "no model is registered; export one and activate it"
            else:
                await self.activate(name)
        except (ServiceFault, OSError) as fault:
            self.trouble = str(fault)
            log_event("error", what="no model at start", why=self.trouble)

    async def stop(self) -> None:
        """End everything that was begun."""
        self.hub.close()
        if self._paper_task is not None:
            self._paper_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._paper_task
        await self.jobs.stop()
        await self._batcher.stop()
        self.bodies.close()

    @property
    def model(self) -> ServedModel | None:
        """The champion."""
        return None if self.arms is None else self.arms.champion

    def find_arms(self) -> Arms:
        """The models that answer.

        Raises
        ------
        ServiceFault
            503 if none is loaded.
        """
        if self.arms is None:
            said = f"no model is active: {self.trouble}"
            raise ServiceFault(503, "no_model", said, "activate one of `/models`", retry_after_s=5)
        return self.arms

    def active(self) -> ServedModel:
        """The champion; a `ServiceFault` as `find_arms`."""
        return self.find_arms().champion

    async def activate(self, name: str) -> ServedModel:
        """Load a registered model and put it in the place of the active one.

        Requests are answered by the old one while the new one is loaded; one that fails
        to load changes nothing. The streams of the new one are empty.

        Raises
        ------
        ServiceFault
            404 if the name is not registered, 409 if the model cannot be served.
        """
        async with self._activation:
            names = await asyncio.to_thread(self.store.names)
            if name not in names:
                said = f"no model {name!r} is registered"
                raise ServiceFault(404, "unknown_model", said, "`/models` lists those that are")
            try:
                champion = await self._load(name)
            except (ValueError, OSError) as error:
                log_event("error", what="activation", model=name, why=str(error))
                remedy = "export it again; the active model is unchanged"
                raise ServiceFault(409, "broken_model", str(error), remedy) from error
            challenger, trouble = await self._load_challenger(champion)
            arms = Arms(champion, challenger, self.settings.challenger_share, trouble)
            await self._batcher.call(lambda: setattr(self, "arms", arms))
        self.metrics.name_model(champion.card.name, champion.card.version)
        reference = refer(champion.card)
        log_event("activated", **reference)
        self.hub.publish("model", reference)
        return champion

    async def _load(self, name: str) -> ServedModel:
        predictor = await asyncio.to_thread(self.store.load, name)
        await asyncio.to_thread(warm_up, predictor)
        limits = self.settings.max_ahead_s, self.settings.max_age_s
        return ServedModel(predictor, self._clock, *limits)

    async def _load_challenger(
        self, champion: ServedModel
    ) -> tuple[ServedModel | None, str | None]:
        """The challenger that the settings name, or why there is none."""
        name = self.settings.challenger
        if not name:
            return None, None
        trouble: str | None
        try:
            model = await self._load(name)
            trouble = find_mismatch(champion.card, model.card)
        except Exception as error:  # the champion is served whatever ails the other
            trouble = str(error)
        if trouble is not None:
            trouble = f"challenger {name} is off: {trouble}"
            log_event("warning", what="no challenger", why=trouble)
            return None, trouble
        return model, None

    def admit(self, n_windows: int) -> None:
        """Refuse windows for which there is no room, as `Batcher.admit`."""
        self._batcher.admit(n_windows)

    async def predict(self, items: Sequence[SymbolBody]) -> tuple[Arms, list[dict[str, Any]]]:
        """The models that answered, and an answer for every item."""
        self.active()
        self.metrics.waiting.set(self._batcher.n_waiting)
        asked = Asked(items)
        arms, found = await self._batcher.submit(asked, len(asked.left))
        for name, count in Counter(one["model"]["name"] for one in found).items():
            self.metrics.predictions.labels(name).inc(count)
        if len(self.hub):
            for item, one in zip(items, found, strict=True):
                if item.bars:
                    bar = item.bars[-1]
                    price = {"close": bar.close, "volume": bar.volume}
                    self.hub.publish("prediction", {**one, **price})
        return arms, found

    def _answer(self, requests: Sequence[Asked]) -> list[Any]:
        """On the worker thread; the models cannot change meanwhile."""
        arms = self.find_arms()
        return [
            entry if isinstance(entry, Exception) else (arms, entry)
            for entry in arms.answer(requests)
        ]

    def _on_job(self, job: Job) -> None:
        self.metrics.jobs.labels(job.status).inc()
        self.hub.publish("backtest", {"id": job.id, "status": job.status})

    async def _show_paper(self, paper: PaperView) -> None:
        while True:
            if len(self.hub):
                snapshot = self._look_at(paper)
                if snapshot is not None:
                    self.hub.publish("paper", snapshot)
            await asyncio.sleep(PAPER_INTERVAL_S)

    def scrape(self) -> bytes:
        """All counters; paper trading is looked at once a second, however often they are asked."""
        if self.paper is not None and time.monotonic() - self._paper_s >= PAPER_INTERVAL_S:
            self._look_at(self.paper)
        return self.metrics.text()

    def _look_at(self, paper: PaperView) -> Mapping[str, Any] | None:
        """What is shown of paper trading, measured; None if the engine fails to show it."""
        self._paper_s = time.monotonic()
        try:
            snapshot = paper.snapshot()
        except Exception as error:  # stream and counters must outlive a fault of the engine
            self.metrics.forget_paper()
            log_event("error", what="paper.snapshot", why=repr(error))
            return None
        try:
            self.metrics.show_paper(snapshot)
        except (TypeError, ValueError, AttributeError) as error:
            log_event("error", what="paper.metrics", why=repr(error))
        return snapshot


def runtime_of(request: Request) -> Runtime:
    """The parts of the service that a request came to."""
    runtime: Runtime = request.app.state.runtime
    return runtime
