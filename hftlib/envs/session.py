"""The crash game: a Gymnasium environment and its vectorised twin.

The clock: the agent observes tick t; its order is executed `latency_ticks` later
at a price it has not seen. Both classes run the same compiled kernel on the
same arrays, the single one with a batch of one, so their trajectories cannot
differ. Accounts are settled by `sessions.account`, as those of the simulated
server, and an observation is what `sessions.observation` builds from the same
tick once the server has answered. In a recording answers arrive between two
ticks, so that its observations show an execution one tick later. The hazard of a
rug is constant: no strategy has an edge here.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hftlib.envs.session_batch import Observation, Seats, check_actions
from hftlib.envs.session_rules import SessionRules
from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.vocabulary import ADJUSTMENTS, CHOICES

Action = npt.NDArray[Any]
Masks = npt.NDArray[np.bool_]

SIGNED = (12, 23, 24, 25, 26)  # features that may be negative
LARGEST = np.finfo(np.float32).max


class SessionEnv(gymnasium.Env[Observation, Action]):
    """One player of the crash game; an episode is one game, a step one tick of 250 ms.

    **Action** `MultiDiscrete([4, 9])`: a choice, and before it a button that adjusts the bet.

    | choice | valid if, and if none is on its way |
    |---|---|
    | 0 WAIT | always |
    | 1 BUY for the bet | flat; cash and bet at least .001 SOL |
    | 2 SELL_100, all tokens | tokens held |
    | 3 SIDEBET of the bet | none open; cash and bet at least .001 SOL |

    | adjustment | bet becomes |
    |---|---|
    | 0 NONE | what it was |
    | 1 CLEAR | 0 |
    | 2 INC_001, 3 INC_01, 4 INC_10, 5 INC_1 | .001, .01, .1, 1 SOL more |
    | 6 HALF, 7 DOUBLE, 8 MAX | half, twice, all cash |

    The button acts at once and never lifts the bet above the cash. The order leaves with
    the bet of then and is executed `rules.latency_ticks` later at the price of that tick. It
    spends what cash there is if the bet is more. It is refused if the cash is
    below .001 SOL then, or if the rug comes first. A choice that is not valid changes
    nothing and is counted. `action_masks()` says which choices are valid given some
    adjustment: BUY and SIDEBET still need one that makes the bet .001 SOL or more.

    A side bet is paid five times its stake if the game rugs within 40 ticks of its execution.

    **Observation** `Box(float32, (36,))` of tick t, after the orders that arrive then

    | index | name | unit | range |
    |---|---|---|---|
    | 0 | tick | 250 ms | [0, max_ticks] |
    | 1 | price | multiple of the first | [0, inf) |
    | 2 | game_phase | code | 2 active, 3 rugged |
    | 3 | cooldown_timer_ms | ms | 0 |
    | 4 | allow_pre_round_buys | flag | 0 |
    | 5 | active | flag | 1 |
    | 6 | rugged | flag | 0, 1 |
    | 7 | connected_players | players | constant: it says nothing |
    | 8 | game_id | hash | 0: it must say nothing |
    | 9 | balance | SOL | [0, inf) |
    | 10 | position_qty | tokens | [0, inf) |
    | 11 | avg_entry_price | multiple | [0, inf), 0 when flat |
    | 12 | cumulative_pnl | SOL, realised in this game | (-inf, inf) |
    | 13 | total_invested | SOL, in this game | [0, inf) |
    | 14 | rugpool_amount | SOL | [0, inf) |
    | 15 | rugpool_threshold | SOL | [0, inf) |
    | 16 | instarug_count | games | [0, inf) |
    | 17 | average_multiplier | mean peak of the last 100 games | [1, inf) |
    | 18-21 | count_2x, count_10x, count_50x, count_100x | of those games | [0, 100] |
    | 22 | highest_today | multiple | [1, inf) |
    | 23 | price_velocity | 1 / tick | (-inf, inf), 0 on tick 0 |
    | 24 | price_acceleration | 1 / tick² | (-inf, inf), 0 on ticks 0 and 1 |
    | 25 | unrealized_pnl | SOL, before fees | (-inf, inf) |
    | 26 | position_pnl_pct | share of what was paid | [-1, inf) |
    | 27 | rugpool_ratio | amount / threshold | [0, inf) |
    | 28 | balance_at_risk_pct | position / (cash + position) | [0, 1] |
    | 29 | time_in_position | ticks | [0, max_ticks] |
    | 30 | ticks_since_last_action | ticks since an order was sent, else since tick 0 | as 29 |
    | 31 | bet_amount | SOL | [0, inf) |
    | 32 | execution_tick | 250 ms; 32 to 35 are of the last order executed, else 0 | as 29 |
    | 33 | execution_price | multiple | [0, inf) |
    | 34 | client_timestamp | ms from tick 0 until that order was sent | [0, inf) |
    | 35 | latency_ms | ms from then until it was executed | 250 * latency_ticks |

    The board, 14 to 22, shows games that have ended: those of this chain, and at its start
    100 others, the same for every seed. A truncated game does not enter it.

    **Reward** change of the equity, SOL: cash and tokens at the price now, after fees; the
    stake of an open side bet counts as spent. An episode's rewards sum to what it won.

    **Start** tick 0 at price 1, flat, with `rules.initial_cash` and `rules.first_bet`.
    `reset(seed=…)` begins a chain of games, `reset()` its next game, and
    `reset(options={"prices": [...]})` replays a recorded game, the rug price last.
    **Termination** the rug: tokens are exchanged at the rug price, the side bet decided.
    Being out of cash ends nothing.
    **Truncation** on tick `rules.max_ticks`; what is held counts at the price then.

    **Info** `tick`, `price`, `equity`, `cash` (SOL), `qty` (tokens), `stake` (of the open side
    bet, SOL), `bet` (SOL), and in this episode `n_executed` (orders), `n_invalid` (choices
    not valid), `n_refused` (orders refused on arrival or overtaken by the rug).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, rules: SessionRules | None = None) -> None:
        self._seats = Seats(SessionRules() if rules is None else rules, 1)
        self.observation_space = observation_space()  # type: ignore[assignment]
        self.action_space = action_space()
        self._has_begun = self._is_running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode: the first game of the chain `seed`, or the next of the same chain.

        Raises
        ------
        ValueError
            If `options["prices"]` are not those of a game.
        """
        super().reset(seed=seed)
        if seed is None and not self._has_begun:
            seed = int(self.np_random.integers(2**31))
        seeds = None if seed is None else [seed]
        observations = self._seats.begin_all(seeds, [(options or {}).get("prices")])
        self._has_begun = self._is_running = True
        return observations[0], self._info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Adjust the bet, send the order, and observe the next tick.

        Raises
        ------
        ValueError
            If `action` is not in the action space; nothing has moved then.
        RuntimeError
            If the episode has ended or not begun.
        """
        if not self._is_running:
            raise RuntimeError("the episode has ended or not begun; call reset() first")
        observations, rewards = self._seats.step(check_actions(action, (2,))[None])
        terminated, truncated = (bool(end[0]) for end in self._seats.ends())
        self._is_running = not (terminated or truncated)
        return observations[0], rewards.item(0), terminated, truncated, self._info()

    def action_masks(self) -> Masks:
        """Choices, then adjustments, that may be valid now; shape (13,)."""
        return self._seats.masks()[0]

    def _info(self) -> dict[str, Any]:
        return {name: values.item(0) for name, values in self._seats.info().items()}


class SessionVecEnv(VectorEnv[Observation, Action, npt.NDArray[Any]]):
    """`num_envs` copies of `SessionEnv` stepped by one compiled call.

    Copy i, reset with `seed`, follows `SessionEnv` reset with `seed + i` bit for
    bit. A copy that ends is reset within the same step, to the next game of its
    chain: the observation returned is the first of that game, and the last one of the
    old episode is `info["final_obs"][i]`, valid where `info["_final_obs"][i]`;
    the other infos are those of the step that ended it.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    render_mode = None

    def __init__(self, num_envs: int, rules: SessionRules | None = None) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1")
        self.num_envs = num_envs
        self._seats = Seats(SessionRules() if rules is None else rules, num_envs)
        self.single_observation_space = observation_space()
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._has_begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every copy; `options={"prices": (p_0, …)}` replays game p_i in copy i.

        Where p_i is None the game is the next of the copy's chain, as are those
        that follow a replay.

        Raises
        ------
        ValueError
            If there are not `num_envs` games, or one is none.
        """
        games = (options or {}).get("prices", [None] * self.num_envs)
        if len(games) != self.num_envs:
            raise ValueError(f"{len(games)} games for {self.num_envs} copies; pass one each")
        if seed is None and not self._has_begun:
            seed = int(gymnasium.utils.seeding.np_random(None)[0].integers(2**31))
        seeds = None if seed is None else [seed + i for i in range(self.num_envs)]
        observations = self._seats.begin_all(seeds, games)
        self._has_begun = True
        return observations, self._seats.info()

    def step(
        self, actions: Action
    ) -> tuple[Observation, npt.NDArray[np.float64], Masks, Masks, dict[str, Any]]:
        """Step every copy, and begin the next game in those that have ended.

        Raises
        ------
        ValueError
            If `actions` is not an array of integers of shape (num_envs, 2), or one is out of
            range; nothing has moved then.
        RuntimeError
            Before the first reset.
        """
        if not self._has_begun:
            raise RuntimeError("the copies have not begun; call reset() first")
        actions = check_actions(actions, (self.num_envs, 2))
        observations, rewards = self._seats.step(actions)
        terminated, truncated = self._seats.ends()
        info: dict[str, Any] = self._seats.info()
        ended = terminated | truncated
        if ended.any():
            final = np.zeros_like(observations)
            final[ended] = observations[ended]
            info |= {"final_obs": final, "_final_obs": ended}
            self._seats.begin_next(ended, observations)
        return observations, rewards, terminated, truncated, info

    def action_masks(self) -> Masks:
        """Choices, then adjustments, that may be valid now; shape (num_envs, 13)."""
        return self._seats.masks()

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""
        return {"seats": self._seats.save_state(), "has_begun": self._has_begun}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`; rules and num_envs must be the same."""
        self._seats.load_state(saved["seats"])
        self._has_begun = saved["has_begun"]


def observation_space() -> spaces.Box:
    """That of one copy; bounds are finite, as Gymnasium's checker advises."""
    low = np.zeros(FEATURE_COUNT, dtype=np.float32)
    low[list(SIGNED)] = -LARGEST
    return spaces.Box(low, np.full(FEATURE_COUNT, LARGEST, dtype=np.float32))


def action_space() -> spaces.MultiDiscrete:
    """That of one copy."""
    return spaces.MultiDiscrete([len(CHOICES), len(ADJUSTMENTS)])


def register_session() -> None:
    """Make `hftlib/Session-v0` known to Gymnasium."""
    gymnasium.register(
        id="hftlib/Session-v0",
        entry_point="hftlib.envs.session:SessionEnv",
        vector_entry_point="hftlib.envs.session:SessionVecEnv",
    )
