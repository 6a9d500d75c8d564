"""One description of a multi-agent market, from which environments of any size are built.

It is plain data, so that a process that trains gets it whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hftlib.envs.market import MarketEnv, MarketVecEnv
from hftlib.envs.roles import Executor, Maker, Role, Taker
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits
from hftlib.market.flow import FlowParams
from hftlib.market.presets import JAXLOB_FLOW

# noise that rests, noise that takes, and quotes around the mid; see `market.flow.ROLES`
UNINFORMED = (0.6, 0.15, 0.0, 0.0, 0.25, 0.0)


@dataclass(frozen=True)
class MarketScene:
    """Who trades, in which market, within which limits, for which reward.

    Attributes
    ----------
    roles : mapping of agent to Maker, Executor or Taker
    market, risk, reward : MarketSettings, RiskLimits, RewardWeights
    flow : FlowParams
        Background of the simulated books.
    """

    roles: Mapping[str, Role]
    market: MarketSettings
    risk: RiskLimits
    reward: RewardWeights
    flow: FlowParams = JAXLOB_FLOW

    @classmethod
    def from_values(
        cls,
        *,
        maker: Mapping[str, Any],
        executor: Mapping[str, Any],
        taker: Mapping[str, Any],
        market: Mapping[str, Any],
        risk: Mapping[str, Any],
        reward: Mapping[str, Any],
    ) -> "MarketScene":
        """The market of the reports, a maker, an executor and a taker, from values by name.

        Each mapping has the fields of its class: Maker, Executor, Taker, MarketSettings,
        RiskLimits and RewardWeights.

        Raises
        ------
        TypeError
            If a class has no field of that name.
        MarketError
            If a value is out of range.
        """
        return cls(
            {"maker": Maker(**maker), "executor": Executor(**executor), "taker": Taker(**taker)},
            MarketSettings(**market),
            RiskLimits(**risk),
            RewardWeights(**reward),
        )

    def build(
        self, n_envs: int, *, n_threads: int = 1, prices_at_value: bool = False
    ) -> MarketVecEnv:
        """An environment of `n_envs` copies; see `MarketVecEnv`."""
        return MarketVecEnv(
            dict(self.roles),
            n_envs,
            market=self.market,
            risk=self.risk,
            reward=self.reward,
            books=self.market.simulated(flow=self.flow, n_threads=n_threads),
            prices_at_value=prices_at_value,
        )

    def build_parallel(self) -> MarketEnv:
        """One copy as a PettingZoo environment."""
        return MarketEnv(
            dict(self.roles),
            market=self.market,
            risk=self.risk,
            reward=self.reward,
            books=self.market.simulated(flow=self.flow),
        )

    def with_latency(self, latency_ms: float) -> "MarketScene":
        """The same with this latency for every agent."""
        roles = {name: replace(role, latency_ms=latency_ms) for name, role in self.roles.items()}
        return replace(self, roles=roles)

    def control(self, fee_bps: float) -> "MarketScene":
        """The same without information, at a fee beyond the spread: nothing can be earned here.

        Background orders are noise and quotes around the mid; executors, who
        must trade, are left out.
        """
        return replace(
            self,
            roles={name: role for name, role in self.roles.items() if not role.parent_lots},
            market=replace(self.market, maker_fee_bps=fee_bps, taker_fee_bps=fee_bps),
            flow=self.flow._replace(role_shares=UNINFORMED, maker_information=0.0),
        )

    @property
    def horizon_s(self) -> float:
        """Length of an episode, seconds."""
        return self.market.episode_steps * self.market.decision_s
