"""Trading bars: a Gymnasium environment and its vectorised twin.

The clock: the agent observes up to the close of bar t; its order fills at the
open of t + 1, a price it has not seen, plus costs; the account is marked at the
close of t + 1. Both classes run the same compiled kernel on the same arrays,
the single one with a batch of one, so their trajectories cannot differ.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hftlib.barplots import episode_figure
from hftlib.data.panel import BarPanel
from hftlib.envs.accounts import Accounts, Observation
from hftlib.envs.bar_risk import copy_refusals
from hftlib.envs.bar_state import EMPTY, RUNNING, TIME
from hftlib.envs.trading_rules import TradingRules

HOLD, BUY, SELL = 0, 1, 2
MOVES = (HOLD, BUY, SELL)
REPORTED = (
    "row", "equity", "position", "exposure", "traded", "paid", "financing", "end", "reward",
)  # fmt: skip
POSITION_INDEX = -2  # of one symbol; the exposure closes the observation


class TradingEnv(gymnasium.Env[Observation, Any]):
    """One account: one symbol an episode, or all symbols of a panel (`rules.is_portfolio`).

    **Action**, discrete: `Discrete(3)`, of a portfolio `MultiDiscrete([3, …])`: a move of
    each position by one notch.

    | action | from short | from flat | from long |
    |---|---|---|---|
    | 0 hold | short | flat | long |
    | 1 buy | flat | long | long |
    | 2 sell | short | short if `allow_short`, else flat | flat |

    A position is opened with `max_weight` of the equity and then left alone.

    **Action**, continuous: `Box(-1 if allow_short else 0, 1, (n_assets,), float32)`: target
    weight of each asset in units of `max_weight`. Changes up to `min_trade_weight` of the
    equity are not traded.

    Together, positions asked for beyond `limits.max_leverage` are scaled down to it. With
    `rules.risk` each order then passes those limits (`envs.bar_risk`), and a position beyond its
    stop loss or take profit at a close is closed at the next open, whatever the action.

    **Observation** `Box(-10, 10, (n_assets * (window_bars * n_features + 2),), float32)`, one
    longer with `shows_drawdown`

    | from the left | what | unit | range |
    |---|---|---|---|
    | each asset | features of the last `window_bars` bars, oldest first | scaled | [-10, 10] |
    | one, if shown | fall of the equity from its highest close | share of that | [0, 10] |
    | each asset | position | sign | -1, 0, 1 |
    | each asset | exposure: units * close / equity | share of equity | clipped to [-10, 10] |

    **Reward** by default ln(equity at the close of t + 1 / equity at the close of t), so that
    an episode's rewards sum to its log growth. After a total loss
    the new equity counts as 1e-6 of the old. Others: `rewards.RewardSettings`.

    **Start** a random row (`reset(seed=…)`), or with
    `options={"segment": k}` the first row of symbol k, which then runs to its end; a portfolio
    has the one segment 0.

    **Termination** equity at or below `ruin_fraction * initial_cash`; a drawdown of
    `limits.max_drawdown`; a margin call: equity below `limits.maintenance_fraction` of long
    plus short at a close, upon which the next step closes all positions at the
    open, costs included, whatever its action.
    **Truncation** after `episode_bars` steps or at the last bar of the segment.

    **Info** `row` of the panel now observed (of a portfolio, that of its first symbol), `equity`,
    `position` (sign; one for each asset of a portfolio), `exposure` (long less short, share of
    equity), `end` (why the episode ended, an index of `bar_state.REASONS`), and of the last step
    `reward_terms` (by name; they sum to the reward), `traded` (notional at mid), `paid` (fee,
    half-spread, slippage, impact) and `financing` (borrowing and interest), currency. With
    `rules.risk` also `n_cut` (orders shrunk or rejected), `refused` (their notional at mid that was
    not traded, currency) and `n_exits` (positions closed by stop loss or take profit).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["plotly"]}  # type: ignore[misc]

    def __init__(
        self, panel: BarPanel, rules: TradingRules, render_mode: str | None = None
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; expected None or 'plotly'")
        self.render_mode = render_mode
        self._path: list[tuple[int, float, npt.NDArray[np.float64]]] = []
        self._accounts = Accounts(panel, rules, 1)
        self.observation_space = self._accounts.observation_space  # type: ignore[assignment]
        self.action_space = self._accounts.action_space
        self._is_single_choice = isinstance(self.action_space, spaces.Discrete)
        self._terms = rules.reward.terms
        self._has_plain_reward = rules.reward.kind == "simple"
        self._is_portfolio = rules.is_portfolio
        self._guard = self._accounts.guard
        self._reported = self._accounts.records[list(REPORTED)]  # a view
        self._is_running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"segment": k}` walks symbol k from start to end."""
        super().reset(seed=seed)
        segment = (options or {}).get("segment")
        self._accounts.begin([0], [self.np_random], [segment])
        self._is_running = True
        self._path = []
        if self.render_mode is not None:
            self._record()
        return self._accounts.observe()[0], self._report()[1]

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Trade at the next open, then observe the next close.

        Raises
        ------
        ValueError
            If `action` is not in the action space; nothing has moved then.
        RuntimeError
            If the episode has ended or has not begun.
        """
        if not self._is_running:
            raise RuntimeError("the episode has ended or not begun; call reset() first")
        if self._is_single_choice:
            if action not in MOVES:
                raise ValueError(f"action is {action!r}; expected 0 (hold), 1 (buy) or 2 (sell)")
        else:
            action = self._accounts.check_actions(np.asarray(action)[None], 1)[0]
        observation, bad = self._accounts.step(action)
        if bad >= 0:
            raise ValueError(f"action[{bad}] is {action[bad]}; {self._accounts.expected}")
        if self.render_mode is not None:
            self._record()
        reward, info = self._report()
        end = info["end"]
        self._is_running = end == RUNNING
        return observation[0], reward, RUNNING < end < TIME, end == TIME, info

    def render(self) -> go.Figure:
        """Price, positions, equity and drawdown of the episode so far.

        Raises
        ------
        RuntimeError
            Without `render_mode="plotly"`, or before the first reset.
        """
        if self.render_mode is None or not self._path:
            raise RuntimeError(
                f"render_mode is {self.render_mode!r} and {len(self._path)} bars were seen; make "
                "the environment with render_mode='plotly' and call reset() first"
            )
        accounts, panel = self._accounts, self._accounts.panel
        rows, equity, units = (np.array(values) for values in zip(*self._path, strict=True))
        names: Sequence[str] = panel.symbols
        if not self._is_portfolio:
            names = [panel.symbols[int((panel.segments[:, 1] <= rows[0]).sum())]]
        at = rows[:, None] + accounts.offsets
        ts = pd.DatetimeIndex(pd.to_datetime(panel.ts[rows], utc=True))
        prices = pd.DataFrame(panel.close[at], ts, names)
        weights = prices * units / np.maximum(equity, EMPTY)[:, None]
        return episode_figure(prices, weights, pd.Series(equity, ts))

    def _record(self) -> None:
        """Remember this bar for `render`."""
        record = self._accounts.records[0]
        self._path.append((record["row"], record["equity"], self._accounts.units[0].copy()))

    def _report(self) -> tuple[float, dict[str, Any]]:
        """Reward and info of the last step."""
        row, equity, position, exposure, traded, paid, financing, end, reward = self._reported.item(
            0
        )
        if self._has_plain_reward:
            terms = {"growth": reward}
        else:
            terms = dict(zip(self._terms, self._accounts.terms(), strict=False))
        if self._is_portfolio:
            position = self._accounts.position()[0]
        info = {
            "row": row,
            "equity": equity,
            "position": position,
            "exposure": exposure,
            "traded": traded,
            "paid": paid,
            "financing": financing,
            "end": end,
            "reward_terms": terms,
        }
        if self._guard is not None:
            info |= {name: v.item(0) for name, v in copy_refusals(self._guard).items()}
        return reward, info


class TradingVecEnv(VectorEnv[Observation, npt.NDArray[Any], npt.NDArray[Any]]):
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
        self._accounts = Accounts(panel, rules, n_envs)
        self.single_observation_space = self._accounts.observation_space
        self.single_action_space = self._accounts.action_space
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
        self._accounts.begin(range(self.num_envs), self.generators, segments)
        return self._accounts.observe(), self._accounts.info()

    def step(
        self, actions: npt.NDArray[Any]
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
            If `actions` is not an array of the shape of the action space, of integers for
            discrete actions, or one is out of range; nothing has moved then.
        RuntimeError
            Before the first reset.
        """
        accounts = self._accounts
        actions = accounts.check_actions(actions, self.num_envs)
        if not self.generators:
            raise RuntimeError("the copies have not begun; call reset() first")
        observation, bad = accounts.step(actions)
        if bad >= 0:
            place = ", ".join(str(k) for k in np.unravel_index(bad, actions.shape))
            raise ValueError(f"actions[{place}] is {actions.flat[bad]}; {accounts.expected}")
        info = accounts.info()
        end = info["end"]
        reward = accounts.records["reward"].copy()
        terminated, truncated = (end > RUNNING) & (end < TIME), end == TIME
        ended = end != RUNNING
        if ended.any():
            final = np.zeros_like(observation)
            final[ended] = observation[ended]
            info["final_obs"], info["_final_obs"] = final, ended
            which = np.flatnonzero(ended)
            accounts.begin(which, [self.generators[i] for i in which], [None] * len(which))
            accounts.observe_some(ended, observation)
        return observation, reward, terminated, truncated, info

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit: accounts, clocks, generators."""
        states = [generator.bit_generator.state for generator in self.generators]
        return {"accounts": self._accounts.save_state(), "generators": states}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`; panel, rules and n_envs must be the same."""
        self._accounts.load_state(saved["accounts"])
        self.generators = []
        for state in saved["generators"]:
            bits = np.random.PCG64()
            bits.state = state
            self.generators.append(np.random.Generator(bits))
