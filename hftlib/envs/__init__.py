"""Environments, single and natively vectorised."""

from hftlib.envs.market import MarketEnv, MarketVecEnv
from hftlib.envs.rewards import RewardSettings
from hftlib.envs.roles import Executor, Maker, MarketError, Taker
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.session import SessionEnv, SessionVecEnv, register_session
from hftlib.envs.session_rules import SessionRules
from hftlib.envs.trading import TradingEnv, TradingVecEnv
from hftlib.envs.trading_rules import Financing, Limits, TradingRules
from hftlib.envs.views import SoleAgentEnv, SoleAgentVecEnv, register_views

__all__ = [
    "Executor",
    "Financing",
    "Limits",
    "Maker",
    "MarketEnv",
    "MarketError",
    "MarketSettings",
    "MarketVecEnv",
    "RewardSettings",
    "RewardWeights",
    "RiskLimits",
    "SessionEnv",
    "SessionRules",
    "SessionVecEnv",
    "SoleAgentEnv",
    "SoleAgentVecEnv",
    "Taker",
    "TradingEnv",
    "TradingRules",
    "TradingVecEnv",
]

register_views()
register_session()
