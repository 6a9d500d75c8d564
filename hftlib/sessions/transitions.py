"""Training data of captured play, for exploring, small tests and learners that take batches.

Events as plain dictionaries go through the same `stream` as whole stores, so
that what is tried on a few of them holds for millions.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from hftlib.sessions.conversion import (
    EVENT_COLUMNS,
    Conversion,
    TransitionReport,
    write_transitions,
)
from hftlib.sessions.dataset import DatasetError, TransitionDataset
from hftlib.sessions.event_rows import iso_time
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.presses import no_presses
from hftlib.sessions.reader import EventBatch
from hftlib.sessions.stream import TransitionStream
from hftlib.sessions.vocabulary import GAME_STATE, TICK_MS
from hftlib.sessions.wire import read_event

TICK: Final = FEATURE_NAMES.index("tick")


class TrainingDataGenerator:
    """Transitions of captured play, for exploring and for learners that take batches.

    Parameters
    ----------
    seed : int
        Of the batches that `get_batch` draws.

    Attributes
    ----------
    report : TransitionReport of the last `from_parquet`, None before
    """

    def __init__(self, seed: int = 0) -> None:
        self.report: TransitionReport | None = None
        self._rng = np.random.default_rng(seed)

    def from_parquet(
        self,
        ws_events_path: Path | str,
        button_events_path: Path | str,
        limit: int | None = None,
        *,
        folder: Path | None = None,
    ) -> TransitionDataset:
        """Transitions of the first `limit` wire events, those without a press included.

        Parameters
        ----------
        ws_events_path, button_events_path : Path or str
            Folders or globs of an event store.
        folder : Path, optional
            Where to write the dataset; it stays in memory by default.

        Raises
        ------
        FileNotFoundError
            If a path has no Parquet file.
        """
        if folder is not None:
            self.report = write_transitions(
                ws_events_path, folder, press_source=button_events_path, limit=limit
            )
            return TransitionDataset.open(folder)
        conversion = Conversion(ws_events_path, button_events_path, limit)
        parts = list(conversion.run())
        self.report = conversion.report()
        return TransitionDataset.from_parts(parts, conversion.list_games())

    def align_events(
        self,
        ws_events: Iterable[Mapping[str, Any]],
        button_events: Iterable[Mapping[str, Any]],
        tolerance: int = 1,
    ) -> list[dict[str, Any]]:
        """Presses with the tick that each belongs to; ticks without one are not returned.

        A press belongs to its own tick, or to the nearest one within the
        tolerance, of two the earlier; a press without such a tick is left out.

        Parameters
        ----------
        ws_events, button_events : iterables of mappings
            Flat, with game_id and tick; wire events may be wrapped, `{event_name, data}`.
            Sessions are told apart where both name them by session_id.
        tolerance : int, ticks

        Returns
        -------
        list of dict
            action (the button), game_id, tick, button_tick and the event's price,
            in the order of the presses.
        """
        if tolerance < 0:
            raise ValueError(f"tolerance={tolerance}: expected a number of ticks, at least 0")
        ticks: dict[Any, dict[int, Any]] = defaultdict(dict)
        for event in ws_events:
            _, payload = _read_event(event)
            if isinstance(payload.get("tickCount"), int):
                game = ticks[event.get("session_id"), payload.get("gameId")]
                game.setdefault(payload["tickCount"], payload.get("price"))
        offsets = sorted(range(-tolerance, tolerance + 1), key=lambda offset: (abs(offset), offset))
        samples = []
        for press in button_events:
            known = ticks[press.get("session_id"), press["game_id"]]
            near = (press["tick"] + offset for offset in offsets)
            tick = next((tick for tick in near if tick in known), None)
            if tick is not None:
                samples.append(
                    {
                        "action": press["button_id"],
                        "game_id": press["game_id"],
                        "tick": tick,
                        "button_tick": press["tick"],
                        "price": known[tick],
                    }
                )
        return samples

    def process_episode(self, ws_events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Samples of events of one session in which nothing is pressed, one a transition.

        Parameters
        ----------
        ws_events : iterable of mappings
            Flat or wrapped, with or without `ts`; without, they are a tick apart.

        Returns
        -------
        list of dict
            game_id, tick, observation, action, reward, next_observation, done, truncated
        """
        stream = TransitionStream(no_presses())
        parts = [stream.push(_to_batch(ws_events)), stream.finish()]
        dataset = TransitionDataset.from_parts(parts, stream.list_games())
        samples = dataset.batch(np.arange(len(dataset)))
        return [
            {
                "game_id": dataset.game_names[game],
                "tick": int(observation[TICK]),
                "observation": observation,
                "action": int(action),
                "reward": float(reward),
                "next_observation": next_observation,
                "done": bool(terminated),
                "truncated": bool(truncated),
            }
            for game, observation, action, reward, next_observation, terminated, truncated in zip(
                dataset.game_ids, *samples, strict=True
            )
        ]

    def get_batch(self, dataset: TransitionDataset, batch_size: int) -> dict[str, Any]:
        """Transitions drawn without replacement.

        Returns
        -------
        dict of arrays
            observations and next_observations (batch_size, 36), actions, rewards and
            dones (batch_size,); see `dataset.Batch`.

        Raises
        ------
        DatasetError
            If the dataset has fewer transitions than the batch.
        """
        if not 0 < batch_size <= len(dataset):
            raise DatasetError(
                f"batch_size={batch_size}: expected 1 to {len(dataset)}, the transitions of the "
                "dataset; record more games or take a smaller batch"
            )
        batch = dataset.batch(self._rng.choice(len(dataset), batch_size, replace=False))
        return {
            "observations": batch.observations,
            "actions": batch.actions,
            "rewards": batch.rewards,
            "next_observations": batch.next_observations,
            "dones": batch.terminated,
        }


def _read_event(event: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and payload in the wire's words; flat events without a name are gameStateUpdates."""
    name = event.get("event_name", GAME_STATE)
    _, payload = read_event({"event": name, "data": event.get("data", event)})
    return name, {} if payload is None else payload


def _to_batch(events: Iterable[Mapping[str, Any]]) -> EventBatch:
    """Rows as the store would give them, all of one session."""
    rows: dict[str, list[Any]] = {name: [] for name in EVENT_COLUMNS}
    for number, event in enumerate(events):
        name, payload = _read_event(event)
        rows["session_id"].append(str(event.get("session_id")))
        rows["ts"].append(event.get("ts", iso_time(number * TICK_MS * 1_000_000)))
        rows["event_name"].append(name)
        game_id = payload.get("gameId")
        rows["game_id"].append(game_id if isinstance(game_id, str) else None)
        rows["username"].append(None)
        rows["raw_json"].append(json.dumps({"event": name, "data": payload}))
    columns = [pa.array(values, pa.string()) for values in rows.values()]
    return EventBatch(pa.record_batch(columns, list(rows)), "", 0)
