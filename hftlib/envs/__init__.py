"""Environments, single and natively vectorised."""

from hftlib.envs.market import MarketEnv, MarketVecEnv
from hftlib.envs.roles import Executor, Maker, MarketError, Taker
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.trading import TradingEnv, TradingRules, TradingVecEnv
from hftlib.envs.views import SoleAgentEnv, SoleAgentVecEnv, register_views

__all__ = [
    "Executor",
    "Maker",
    "MarketEnv",
    "MarketError",
    "MarketSettings",
    "MarketVecEnv",
    "RewardWeights",
    "RiskLimits",
    "SoleAgentEnv",
    "SoleAgentVecEnv",
    "Taker",
    "TradingEnv",
    "TradingRules",
    "TradingVecEnv",
]

register_views()
