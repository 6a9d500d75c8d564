"""From a window of book snapshots to the next slice of a parent order.

What is served is the executor of the multi-agent market: it sees three levels of the book, what
was traded, the time left, and of its own what remains and the price and lots of the order it has
in the book. All of that a client knows (no place in a queue and no hidden state is among it),
and `envs.execution_view` makes the observation with the functions of the training.

A window is a whole task: one snapshot a decision, the first at the arrival of the parent order,
the newest now; the time left follows from their number. Snapshots are without the client's own
order, as the agent sees them. Parent orders are at most as large as that of the training.

The answer is the order that should stand now: lots with their sign, and its limit as a distance
from the mid of the newest snapshot, positive above it; rounded to whole ticks down to buy and up
to sell. One at the price of the order in the book keeps that one, and its place, cut to the lots
if it has more; any other replaces it, and 0 lots cancel it. The rule of the environment holds
for the last decision: all that remains goes as a market order.

The policy is the mean of the seeds' actions. It was trained in simulated books alone; nothing is
known of how it does in others.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.envs.desk import lots_of
from hftlib.envs.execution_view import OwnOrder, observe_execution
from hftlib.envs.roles import N_LEVELS, NO_SIZE, MarketError
from hftlib.live.artefact import ArtefactError
from hftlib.live.book_artefact import BookArtefact
from hftlib.live.book_manifest import UNIT
from hftlib.live.graphs import Graph
from hftlib.live.protocols import ModelCard, Prediction, SymbolState
from hftlib.live.symbol_state import ObservationError

STATE = ("side", "remaining_lots")  # a request must say these; the order in the book may be none
OWN = (*STATE, "resting_price", "resting_lots")  # columns of the frame, read of its last row


def _columns(side: str) -> tuple[str, ...]:
    deeper = range(2, N_LEVELS + 1)
    prices = f"best_{side}", *(f"{side}_px_{k}" for k in deeper)
    return *prices, *(f"{side}_qty_{k}" for k in (1, *deeper))


BOOK = _columns("bid") + _columns("ask")  # prices, lots; in the order of `observe_execution`


class BookPredictor:
    """A loaded artefact of an executor, ready to answer; not for several threads at a time.

    Raises `ArtefactError` if the graph does not take or give what the manifest says.
    """

    def __init__(self, artefact: BookArtefact) -> None:
        about = self.manifest = artefact.manifest
        self.role, self.market = about.build_role(), about.build_market()
        self._names = about.observation
        shape = {"observation": [len(self._names)]}
        try:
            self._policy = Graph(artefact.policy, shape, ("action", "spread"))
        except ValueError as fault:
            raise ArtefactError(f"{about.name}: {fault}") from fault

    @property
    def card(self) -> ModelCard:
        """What it is."""
        about, most = self.manifest, float(self.role.parent_lots)
        return ModelCard(
            about.name,
            about.version,
            about.kind,
            about.symbols,
            about.observation,
            1,
            -most,
            most,
            UNIT,
            takes="book",
            git_revision=about.git_revision,
            metrics=about.metrics,
            state=STATE,
        )

    def open_state(self, symbol: str) -> SymbolState:
        """There are no streams of books; raises `ObservationError`."""
        raise ObservationError(f"{self.manifest.name} has no stream of {symbol}; send snapshots")

    def warm_up(self) -> None:
        """Answer for a made-up book, so that no client waits for compilation."""
        lots = [10] * N_LEVELS
        bids, asks = [1000 - k for k in range(N_LEVELS)], [1001 + k for k in range(N_LEVELS)]
        book: dict[str, Any] = dict(zip(BOOK, [*bids, *lots, *asks, *lots], strict=True))
        book |= dict(zip(OWN, (1, 1, 0, 0), strict=True))
        book |= {"symbol": self.manifest.symbols[0], "ts": 0}
        self.predict(self.observe(pd.DataFrame([book]), 0.0, 0.0)[None])

    def observe(
        self, rows: pd.DataFrame, position: float, exposure: float
    ) -> npt.NDArray[np.float32]:
        """Observation of the last of `rows`, shape (n_inputs,), that of the environment.

        Parameters
        ----------
        rows : frame as `schema.snapshots`, with the columns of `OWN`
            One symbol, from the arrival of the parent order on, a row a decision. `traded_qty` and
            the columns of `OWN` are read of the last row: side 1 or -1, lots, ticks.
        position, exposure : number
            Of models of bars; 0 here.

        Raises
        ------
        ObservationError
            If a column or value is missing, a book is not sound, snapshots are not one a
            decision, or the own order does not fit the role.
        """
        if position != 0 or exposure != 0:
            raise ObservationError(
                f"position is {position} and exposure {exposure}; {self.manifest.name} reads "
                "neither: leave them at 0 and say side and remaining_lots"
            )
        self._check_symbol(rows)
        books = self._read_books(rows)
        self._check_times(rows["ts"].to_numpy(np.int64))
        newest = rows.iloc[-1]
        wanted = OWN if len(rows) == 1 else (*OWN, "traded_qty")
        lacking = [name for name in wanted if name not in rows or pd.isna(newest[name])]
        if lacking:
            raise ObservationError(
                f"the newest snapshot has no {', '.join(lacking)}, which {self.manifest.name} "
                "observes; send it"
            )
        traded = 0 if len(rows) == 1 else int(newest["traded_qty"])
        if traded < 0:
            raise ObservationError(f"traded_qty is {traded}; expected 0 or more lots")
        own = OwnOrder(*(int(newest[name]) for name in OWN))
        try:
            return observe_execution(self.role, self.market, books, traded, own)
        except MarketError as fault:
            raise ObservationError(f"{self.manifest.name}: {fault}") from fault

    def predict(self, observations: npt.NDArray[np.floating]) -> Prediction:
        """The orders that should stand, for observations of shape (n, n_inputs).

        Returns
        -------
        Prediction
            `action` (n,): lots with their sign, whole, at most what remains. `spread` (n,): the
            seeds' standard deviation of the slice before it is rounded and cut, lots; None of one
            seed. `limit_ticks` (n,): nan where there is no limit, hence for 0 lots and for the
            market order of the last decision.

        Raises
        ------
        ObservationError
            If the shape is another, or a value is nan or infinite.
        """
        role, values = self.role, np.ascontiguousarray(observations, dtype=np.float32)
        action, spread = self.run_graph(values)
        side, remaining, time_left = (
            values[:, self._names.index(name)].astype(np.float64)
            for name in ("side", "remaining", "time_left")
        )
        left = np.rint(remaining * role.parent_lots)
        slices = np.array([lots_of(float(one), role.max_slice) for one in action[:, 1]])
        is_last = np.rint(time_left * self.market.episode_steps) <= 1
        lots = np.where(is_last, left, np.minimum(slices, left))
        limit = np.where(is_last | (lots == 0), np.nan, side * action[:, 0] * role.reach_ticks)
        doubt = np.where(is_last, 0.0, spread[:, 1] * role.max_slice / (1.0 - NO_SIZE))
        is_single = self.manifest.n_seeds == 1
        return Prediction(side * lots, None if is_single else doubt, limit_ticks=limit)

    def run_graph(
        self, observations: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and spread of the seeds' actions as the role has them, two of shape (n, 2)."""
        values = np.ascontiguousarray(observations, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(self._names) or not len(values):
            raise ObservationError(
                f"observations have shape {values.shape}; expected (n, {len(self._names)}), as "
                "observe() makes them"
            )
        if not np.isfinite(values).all():
            raise ObservationError("an observation is not finite; make them with observe()")
        # a row alone goes through another product, whose sums have another order
        rows = values if len(values) > 1 else values.repeat(2, axis=0)
        action, spread = self._policy.run(observation=rows)
        n = len(values)
        return action[:n].astype(np.float64), spread[:n].astype(np.float64)

    def _check_symbol(self, rows: pd.DataFrame) -> None:
        found = list(rows["symbol"].unique())
        if len(found) != 1 or found[0] not in self.manifest.symbols:
            raise ObservationError(
                f"snapshots are of {found}; expected one of {', '.join(self.manifest.symbols)}"
            )

    def _read_books(self, rows: pd.DataFrame) -> npt.NDArray[np.int64]:
        """The books, shape (n, 2, 2, N_LEVELS): side; prices and lots."""
        lacking = [name for name in BOOK if name not in rows or rows[name].isna().any()]
        if lacking:
            raise ObservationError(
                f"snapshots lack {', '.join(lacking)}; send {N_LEVELS} levels of both sides, with "
                "0 for price and size of an empty one"
            )
        books = rows[list(BOOK)].to_numpy(np.int64).reshape(-1, 2, 2, N_LEVELS)
        price, lots = books[:, :, 0], books[:, :, 1]
        is_full = price > 0
        # worse level by level: an empty level ends the side
        worse = np.where(is_full, price * np.array([[-1], [1]]), np.iinfo(np.int64).max)
        is_ordered = (worse[..., 1:] > worse[..., :-1]) | ~is_full[..., 1:]
        is_sound = is_ordered.all(axis=(1, 2)) & (is_full == (lots > 0)).all(axis=(1, 2))
        is_sound &= (price >= 0).all(axis=(1, 2)) & (lots >= 0).all(axis=(1, 2))
        is_sound &= ~is_full[:, :, 0].all(axis=1) | (price[:, 0, 0] < price[:, 1, 0])
        if not is_sound.all():
            k = int(np.argmin(is_sound))
            found = dict(zip(BOOK, books[k].ravel().tolist(), strict=True))
            raise ObservationError(
                f"snapshot {k} is no book: {found}"
                "; expected prices that get worse level by level, and lots where there is a price"
            )
        return books

    def _check_times(self, ts: npt.NDArray[np.int64]) -> None:
        step_ns = self.market.decision_ms * 1e6
        late = np.abs((ts - ts[0]) - step_ns * np.arange(len(ts)))
        if (late > step_ns / 2).any():
            k = int(np.argmax(late > step_ns / 2))
            raise ObservationError(
                f"snapshot {k} is {(int(ts[k]) - int(ts[0])) / 1e6:g} ms after the first; expected "
                f"one every {self.market.decision_ms:g} ms, from the arrival of the parent order on"
            )
