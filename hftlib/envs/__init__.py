"""Environments, single and natively vectorised."""

from hftlib.envs.trading import TradingEnv, TradingRules, TradingVecEnv

__all__ = ["TradingEnv", "TradingRules", "TradingVecEnv"]
