"""The market on which training speeds are compared: a maker and an executor on simulated books.

Imported by our interpreter and by the peers'.
"""

from hftlib.envs import Executor, Maker, MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.scene import MarketScene

# Nobody is ruined: the peer would start a copy anew when its first agent ends.
LIMITS = RiskLimits(initial_cash=1e12, max_drawdown=1e12)


def make_scene() -> MarketScene:
    """About 20 background messages a step: 25 a second, for .8 seconds."""
    roles = {"maker": Maker(), "executor": Executor()}
    return MarketScene(roles, MarketSettings(decision_ms=800), LIMITS, RewardWeights())
