"""Trading bars of one instrument at a time: a Gymnasium environment and its vectorised twin.

The clock: the agent observes up to the close of bar t; its order fills at the
open of t + 1, a price it has not seen, plus costs; the account is marked at the
close of t + 1. Both classes run the same compiled kernel on the same arrays,
the single one with a batch of one, so their trajectories cannot differ.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hftlib.data.panel import BarPanel
from hftlib.envs.kernel import Market, Rules, State, observe_all, step_flat
from hftlib.features.scaling import CLIP
from hftlib.portfolio.costs import Costs, check_costs

HOLD, BUY, SELL = 0, 1, 2
N_ACCOUNT = 2  # position and exposure close every observation
POSITION_INDEX = -2

Observation = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TradingRules:
    """What does not change during an episode.

    Attributes
    ----------
    costs : Costs
        Basis points.
    window_bars : int
        Bars of features in one observation.
    episode_bars : int
        Steps after which a training episode is truncated.
    initial_cash : float
        Equity at the start, currency.
    max_weight : float
        Share of equity put into a position when it is opened, (0, 1].
    allow_short : bool
        Whether selling from flat opens a short position.
    ruin_fraction : float
        Equity at or below this share of `initial_cash` terminates.
    """

    costs: Costs
    window_bars: int = 30
    episode_bars: int = 252
    initial_cash: float = 10_000.0
    max_weight: float = 1.0
    allow_short: bool = False
    ruin_fraction: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", check_costs(self.costs))
        limits = {
            "window_bars": self.window_bars >= 1,
            "episode_bars": self.episode_bars >= 1,
            "initial_cash": self.initial_cash > 0,
            "max_weight": 0 < self.max_weight <= 1,
            "ruin_fraction": 0 <= self.ruin_fraction < 1,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)}; see TradingRules for its range")


class _Batch:
    """State of n accounts on one panel, and the moves both environments share."""

    def __init__(self, panel: BarPanel, rules: TradingRules, n_envs: int) -> None:
        window = rules.window_bars
        lengths = panel.segments[:, 1] - panel.segments[:, 0]
        if (lengths < window + 1).any():
            k = int(np.argmin(lengths))
            raise ValueError(
                f"{panel.symbols[k]} has {lengths[k]} bars; window_bars={window} needs at least "
                f"{window + 1}: use a longer split or a shorter window"
            )
        largest = float(np.abs(panel.features).max(initial=0.0))
        if largest > CLIP:
            raise ValueError(
                f"features reach {largest:.3g}; expected at most {CLIP:g} in size: "
                "scale them with features.scaling.RobustScaler"
            )
        self.panel, self.rules = panel, rules
        self.market = Market(
            np.ascontiguousarray(panel.open),
            np.ascontiguousarray(panel.close),
            np.ascontiguousarray(panel.features).reshape(-1),
        )
        self.kernel_rules = Rules(
            window * panel.n_features,
            panel.n_features,
            rules.max_weight,
            -1 if rules.allow_short else 0,
            rules.ruin_fraction * rules.initial_cash,
            rules.costs,
        )
        self.state = State.zeros(n_envs)
        self._flat = (*self.market, *self.kernel_rules[:-1], *rules.costs, *self.state)
        self.n_inputs = window * panel.n_features + N_ACCOUNT
        low, high = panel.segments[:, 0] + window - 1, panel.segments[:, 1] - 1
        self.first, self.last = low, high
        latest = np.maximum(low, high - rules.episode_bars)
        self.starts = np.concatenate(
            [np.arange(a, b + 1) for a, b in zip(low, latest, strict=True)]
        )
        self.row_segment = np.repeat(np.arange(len(lengths)), lengths)

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-CLIP, CLIP, (self.n_inputs,), np.float32)

    def begin(self, i: int, rng: np.random.Generator, segment: int | None) -> None:
        """Open account i at a random row, or at the first row of `segment` until its end."""
        if segment is None:
            row = int(self.starts[rng.integers(len(self.starts))])
            stop = min(row + self.rules.episode_bars, int(self.last[self.row_segment[row]]))
        elif isinstance(segment, int) and 0 <= segment < len(self.panel.symbols):
            row, stop = int(self.first[segment]), int(self.last[segment])
        else:
            raise ValueError(
                f"segment is {segment!r}; expected 0 to {len(self.panel.symbols) - 1} "
                f"({', '.join(self.panel.symbols)})"
            )
        self.state.ledger[i] = self.rules.initial_cash, 0.0, 0.0
        self.state.clock[i] = row, stop
        self.state.position[i] = 0

    def observe(self) -> Observation:
        """Observations now, a new array of shape (n_envs, n_inputs)."""
        out = np.empty((len(self.state.position), self.n_inputs), dtype=np.float32)
        observe_all(self.market, self.kernel_rules, self.state, out)
        return out

    def step(self, actions: npt.NDArray[np.int64]) -> tuple[Observation, int]:
        """Move by one bar; observations, and -1 or the index of the first bad action."""
        out = np.empty((len(actions), self.n_inputs), dtype=np.float32)
        bad: int = step_flat(*self._flat, actions, out)
        return out, bad

    def save_state(self) -> list[npt.NDArray[Any]]:
        return [array.copy() for array in self.state]

    def load_state(self, arrays: list[npt.NDArray[Any]]) -> None:
        for mine, saved in zip(self.state, arrays, strict=True):
            mine[...] = saved

    def info(self) -> dict[str, npt.NDArray[Any]]:
        """Copies: an info kept by the caller must not change under it."""
        state = self.state
        return {
            "row": state.clock[:, 0].copy(),
            "equity": state.equity.copy(),
            "position": state.position.copy(),
            "traded": state.flow[:, 0].copy(),
            "paid": state.flow[:, 1].copy(),
        }


class TradingEnv(gymnasium.Env[Observation, np.int64]):
    """One account, one instrument an episode.

    **Action** `Discrete(3)`: a move of the position by one notch.

    | action | from short | from flat | from long |
    |---|---|---|---|
    | 0 hold | short | flat | long |
    | 1 buy | flat | long | long |
    | 2 sell | short | short if `allow_short`, else flat | flat |

    A position is opened with `max_weight` of the equity and then left alone.

    **Observation** `Box(-10, 10, (window_bars * n_features + 2,), float32)`

    | index | name | unit | range |
    |---|---|---|---|
    | 0 … n - 3 | features of the last `window_bars` bars, oldest first | scaled | [-10, 10] |
    | n - 2 | position | sign | -1, 0, 1 |
    | n - 1 | exposure: units * close / equity | share of equity | clipped to [-10, 10] |

    **Reward** ln(equity at the close of t + 1 / equity at the close of t), so that an
    episode's rewards sum to its log growth. After a total loss
    the new equity counts as 1e-6 of the old.

    **Start** a random row (`reset(seed=…)`), or with
    `options={"segment": k}` the first row of symbol k, which then runs to its end.

    **Termination** equity at or below `ruin_fraction * initial_cash`.
    **Truncation** after `episode_bars` steps or at the last bar of the segment.

    **Info** `row` of the panel now observed, `equity`, `position`, and of the last
    step `traded` (notional at mid) and `paid` (fee, half-spread, slippage), currency.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, panel: BarPanel, rules: TradingRules) -> None:
        self._batch = _Batch(panel, rules, 1)
        self.observation_space = self._batch.observation_space  # type: ignore[assignment]
        self.action_space = spaces.Discrete(3)
        self._action = np.zeros(1, dtype=np.int64)
        self._is_running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"segment": k}` walks symbol k from start to end."""
        super().reset(seed=seed)
        segment = (options or {}).get("segment")
        self._batch.begin(0, self.np_random, segment)
        self._is_running = True
        return self._batch.observe()[0], self._info()

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Trade at the next open, then observe the next close.

        Raises
        ------
        ValueError
            If `action` is not 0, 1 or 2.
        RuntimeError
            If the episode has ended or has not begun.
        """
        if not self._is_running:
            raise RuntimeError("the episode has ended or not begun; call reset() first")
        if action not in (HOLD, BUY, SELL):
            raise ValueError(f"action is {action!r}; expected 0 (hold), 1 (buy) or 2 (sell)")
        self._action[0] = action
        state = self._batch.state
        observation, _ = self._batch.step(self._action)
        terminated, truncated = bool(state.terminated[0]), bool(state.truncated[0])
        self._is_running = not (terminated or truncated)
        return observation[0], state.reward.item(), terminated, truncated, self._info()

    def _info(self) -> dict[str, Any]:
        state = self._batch.state
        return {
            "row": state.clock.item(0),
            "equity": state.equity.item(),
            "position": state.position.item(),
            "traded": state.flow.item(0),
            "paid": state.flow.item(1),
        }


class TradingVecEnv(VectorEnv[Observation, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """`n_envs` copies of `TradingEnv` stepped by one compiled call.

    Copy i, reset with `seed`, follows `TradingEnv` reset with `seed + i` bit for
    bit. A copy that ends is reset within the same step: the observation
    returned is the first of its next episode, and the last one of the old
    episode is `info["final_obs"][i]`, valid where `info["_final_obs"][i]`; the
    other infos are those of the step that ended it.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    render_mode = None

    def __init__(self, panel: BarPanel, rules: TradingRules, n_envs: int) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs is {n_envs}; expected at least 1")
        self.num_envs = n_envs
        self._batch = _Batch(panel, rules, n_envs)
        self.single_observation_space = self._batch.observation_space
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every copy; `options={"segments": (k_0, …)}` walks symbol k_i in copy i."""
        if seed is not None or not self.generators:
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
            self.generators = [gymnasium.utils.seeding.np_random(s)[0] for s in seeds]
        segments = (options or {}).get("segments", [None] * self.num_envs)
        if len(segments) != self.num_envs:
            raise ValueError(f"{len(segments)} segments for {self.num_envs} copies; pass one each")
        for i, segment in enumerate(segments):
            self._batch.begin(i, self.generators[i], segment)
        return self._batch.observe(), self._batch.info()

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[
        Observation,
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Step every copy.

        Raises
        ------
        ValueError
            If `actions` is not an integer array of shape (n_envs,) with values 0, 1, 2.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions are {actions.dtype} of shape {actions.shape}; expected integers of "
                f"shape ({self.num_envs},)"
            )
        if not self.generators:
            raise RuntimeError("the copies have not begun; call reset() first")
        batch, state = self._batch, self._batch.state
        observation, bad = batch.step(actions.astype(np.int64))
        if bad >= 0:
            raise ValueError(f"actions[{bad}] is {actions[bad]}; expected 0, 1 or 2")
        info = batch.info()
        ended = state.terminated | state.truncated
        reward = state.reward.copy()
        terminated, truncated = state.terminated.copy(), state.truncated.copy()
        if ended.any():
            info["final_obs"], info["_final_obs"] = observation, ended
            for i in np.flatnonzero(ended):
                batch.begin(int(i), self.generators[i], None)
            observation = batch.observe()
        return observation, reward, terminated, truncated, info

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit: accounts, clocks, generators."""
        states = [generator.bit_generator.state for generator in self.generators]
        return {"accounts": self._batch.save_state(), "generators": states}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`; panel, rules and n_envs must be the same."""
        self._batch.load_state(saved["accounts"])
        self.generators = []
        for state in saved["generators"]:
            bits = np.random.PCG64()
            bits.state = state
            self.generators.append(np.random.Generator(bits))
