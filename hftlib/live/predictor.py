"""From raw bars of a symbol to an action: one path, that of the training.

Features, z-scores, scaling, the forecaster's windows and the forecasts' columns come from
the functions that made the training's panels (`features`, `models.examples`), and an observation
is laid out as `envs.kernel` writes it: it equals that of `TradingEnv` to the last bit, given bars
from the same first one on. A history that begins later gives slightly different values of
exponential means, which forget, and of the parabolic stop.

`SymbolState` takes bars one by one and keeps the rows that an observation shows; it computes a
new row from its whole history, as the batch does. No answer depends on its batch.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.features import advice
from hftlib.features.feature import FeatureError
from hftlib.features.indicators import compute_features, find_features
from hftlib.features.targets import HAR_DAYS
from hftlib.features.zscore import rolling_zscores
from hftlib.live.artefact import Artefact, ArtefactError
from hftlib.live.graphs import Graph, forecast_bars, open_forecaster
from hftlib.live.protocols import ModelCard, Prediction
from hftlib.live.symbol_state import History, ObservationError, SymbolState
from hftlib.models.examples import TERMS

Float32Array = npt.NDArray[np.float32]


class Predictor:
    """A loaded artefact, ready to answer; not for several threads at a time.

    Raises `ArtefactError` if its features are not those of this code's catalogue, or a graph does
    not take what the manifest says.
    """

    def __init__(self, artefact: Artefact) -> None:
        about = self.manifest = artefact.manifest
        self.scaler, self.symbols = about.scaler.build(), about.symbols
        part = about.forecaster
        self._channels = () if part is None else part.channels[len(TERMS) :]
        try:
            self.regimes = {name: model.build() for name, model in about.regimes.items()}
            features = find_features([*about.bar_features, *self._channels])
            policy = {"observation": [about.n_inputs]}
            self._policy = Graph(artefact.policy, policy, ("action", "spread"))
            self._forecaster = None
            if part is not None and artefact.forecaster is not None:
                self._forecaster = open_forecaster(artefact.forecaster, part.window, part.channels)
        except ValueError as fault:
            raise ArtefactError(f"{about.name}: {fault}; or train it on this code") from fault
        self._names = tuple(dict.fromkeys(feature.name for feature in features))
        whole = max(
            1 + max((feature.warmup for feature in features), default=0), about.zscore_bars or 0
        )
        if part is not None:
            whole = max(whole, HAR_DAYS[-1] + 1) + part.window - 1
        self.min_rows = whole + self.window_bars - 1

    @property
    def card(self) -> ModelCard:
        """What it is."""
        about = self.manifest
        return ModelCard(
            about.name,
            about.version,
            about.kind,
            about.symbols,
            about.policy.feature_names,
            self.min_rows,
            about.policy.low,
            about.policy.high,
            about.policy.unit,
            git_revision=about.git_revision,
            metrics=about.metrics,
        )

    @property
    def window_bars(self) -> int:
        """Bars that an observation shows."""
        return self.manifest.policy.window_bars

    def open_state(self, symbol: str) -> SymbolState:
        """An empty history of one of the model's symbols."""
        return SymbolState(self, History(self.check_symbol(symbol)))

    def check_symbol(self, symbol: str) -> str:
        """The symbol, if the model was trained on it."""
        if symbol not in self.symbols:
            raise ObservationError(
                f"{symbol!r} is not among the symbols of {self.manifest.name}: "
                f"{', '.join(self.symbols)}; ask for one of them, or train a model on it"
            )
        return symbol

    def panel(self, bars: pd.DataFrame, n_last: int | None = None) -> BarPanel:
        """Bars of one symbol as the policy sees them, ready for `TradingEnv`.

        Parameters
        ----------
        bars : frame as `schema.BARS`, from the first bar of the history on
            `source` and `is_synthetic` are not read.
        n_last : int, optional
            Only the last so many rows, though computed from all.

        Returns
        -------
        BarPanel
            Rows with a nan feature are left out, as in training. A row has a forecast if the
            forecaster's window before it is whole.

        Raises
        ------
        ObservationError
            If bars are of no or several symbols or of one that is unknown, a price is missing,
            infinite or not positive, a volume infinite or negative, time does not increase, or no
            row has every feature; names symbol, bar and field.
        """
        history = History.from_frame(bars)
        self.check_symbol(history.symbol)
        return self.build_panel(history, n_last)

    def build_panel(self, history: History, n_last: int | None) -> BarPanel:
        """As `panel`, of a history that has been checked."""
        about = self.manifest
        bars = history.frame()
        try:
            features = compute_features(bars, self._names, regimes=self.regimes)
        except FeatureError as fault:
            raise ObservationError(f"{about.name}: {fault}") from fault
        rows = pd.concat([bars, features[list(about.bar_features)]], axis=1)
        if about.zscore_bars is not None:
            rows = pd.concat([rows, rolling_zscores(bars, about.zscore_bars)], axis=1)
        names = list(self.scaler.names)
        known = rows[names].notna().all(axis=1)
        rows = rows[known] if n_last is None else rows[known].tail(n_last)
        if not len(rows):
            raise self._too_short(history)
        panel = BarPanel.from_frame(rows, self.scaler.transform(rows[names]), names)
        part, graph = about.forecaster, self._forecaster
        if part is None or graph is None:
            return panel
        own = features[["symbol", "ts", *self._channels]]
        forecasts = forecast_bars(graph, bars, own, part.window, int(rows.index[0]))
        return advice.add_forecasts(panel, forecasts, part.scaler.build())

    def observe(self, rows: pd.DataFrame, position: float, exposure: float) -> Float32Array:
        """Observation of the last of `rows`, shape (n_inputs,).

        Parameters
        ----------
        rows : as `panel`, at least `min_rows`
        position : number
            Of which the sign is read: what is held is long, none or short.
        exposure : number
            Units held times close over equity, signed.

        Raises
        ------
        ObservationError
            As `panel`; if there are too few rows, the last one has a feature missing, or position
            and exposure contradict each other.
        """
        history = History.from_frame(rows)
        self.check_symbol(history.symbol)
        observation = SymbolState(self, history).observe(position, exposure)
        if observation is None:
            raise self._too_short(history)
        return observation

    def predict(self, observations: npt.NDArray[np.floating]) -> Prediction:
        """Actions for observations of shape (n, n_inputs).

        Returns
        -------
        Prediction
            `action` of shape (n, 1) and its `spread`, None of a single policy; forecasts of the
            next log return, of shape (n,), as the policy saw them, hence within the scaler's
            bounds; nan without one, None of a model without forecaster.

        Raises
        ------
        ObservationError
            If the shape is another, or a value is nan or infinite.
        """
        about, n_inputs = self.manifest, self.manifest.n_inputs
        values = np.ascontiguousarray(observations, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != n_inputs or not len(values):
            raise ObservationError(
                f"observations have shape {values.shape}; expected (n, {n_inputs}): "
                f"{about.policy.window_bars} bars of {len(about.policy.feature_names)} features, "
                "position and exposure. Make them with observe()"
            )
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise ObservationError(
                f"observations[{row}, {column}] is {values[row, column]}; expected finite numbers, "
                "as observe() makes them"
            )
        # a row alone goes through another product, whose sums have another order
        rows = values if len(values) > 1 else values.repeat(2, axis=0)
        action, spread = (answer[: len(values)] for answer in self._policy.run(observation=rows))
        is_single = sum(about.policy.n_seeds) == 1
        mean, sd = self._read_forecasts(values)
        return Prediction(action, None if is_single else spread, None, mean, sd)

    def _read_forecasts(
        self, observations: Float32Array
    ) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None]:
        """Mean and deviation of the next return out of the newest bar of observations."""
        about = self.manifest
        if about.forecaster is None:
            return None, None
        names, scaler = about.policy.feature_names, about.forecaster.scaler
        start = (about.policy.window_bars - 1) * len(names)
        newest = observations[:, start : start + len(names)].astype(np.float64)
        is_known = newest[:, names.index(advice.KNOWN)] > 0
        found = []
        for name in ("forecast_next_return", "forecast_next_return_sd"):
            k = scaler.names.index(name)
            values = newest[:, names.index(name)] * scaler.iqr[k] + scaler.median[k]
            found.append(np.where(is_known, values, np.nan))
        return found[0], found[1]

    def _too_short(self, history: History) -> ObservationError:
        return ObservationError(
            f"{history.symbol} has {len(history)} bars, and {self.manifest.name} needs "
            f"{self.min_rows} with price and volume before its first action; send a longer history"
        )
