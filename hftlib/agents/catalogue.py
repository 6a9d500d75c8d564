"""The classical strategies of each role with settings that fit a scene."""

from hftlib.agents.execution import (
    ParticipationExecutor,
    ScheduledExecutor,
    almgren_chriss_trajectory,
    immediate_trajectory,
    twap_trajectory,
    vwap_trajectory,
)
from hftlib.agents.making import GLFT, AvellanedaStoikov, FixedSpread
from hftlib.agents.orders import FloatArray, NoOrders
from hftlib.agents.policy import Policy
from hftlib.agents.taking import RSI, MeanReversion, Momentum, SMACross
from hftlib.envs.roles import Executor, Maker, Taker
from hftlib.envs.scene import MarketScene

INTENSITY = 0.5  # fills a second of a quote at the mid, for GLFT
URGENCY = 2.0  # kappa * T of Almgren and Chriss: two thirds of the order in the first half
PARTICIPATION = 0.1  # of the others' volume


def make_stoikov(
    scene: MarketScene, role: Maker, risk_aversion: float, decay: float
) -> AvellanedaStoikov:
    """Avellaneda and Stoikov's maker, quoting its largest size; gamma and k, 1 / tick."""
    return AvellanedaStoikov(
        role=role,
        risk_aversion=risk_aversion,
        decay=decay,
        size=role.max_size,
        max_inventory=scene.risk.max_inventory,
        decision_s=scene.market.decision_s,
        horizon_s=scene.horizon_s,
    )


def classical_makers(
    scene: MarketScene, role: Maker, risk_aversion: float, decay: float
) -> dict[str, Policy]:
    """Makers by name; gamma and k are those that `contest.tune_stoikov` has found."""
    return {
        "avellaneda_stoikov": make_stoikov(scene, role, risk_aversion, decay),
        "glft": GLFT(
            role=role,
            risk_aversion=risk_aversion,
            decay=decay,
            intensity=INTENSITY,
            size=role.max_size,
            max_inventory=scene.risk.max_inventory,
            decision_s=scene.market.decision_s,
        ),
        "fixed_spread": FixedSpread(role, half_spread_ticks=3.0, size=role.max_size),
        "do_nothing": NoOrders(role),
    }


def classical_executors(
    scene: MarketScene, role: Executor, volume_curve: FloatArray
) -> dict[str, Policy]:
    """Executors by name; `volume_curve` has the lots expected in each step, shape (n_steps,)."""
    n_steps = scene.market.episode_steps
    return {
        "twap": ScheduledExecutor(role, twap_trajectory(n_steps)),
        "vwap": ScheduledExecutor(role, vwap_trajectory(volume_curve)),
        "pov": ParticipationExecutor(role, n_steps, PARTICIPATION),
        "almgren_chriss": ScheduledExecutor(
            role, almgren_chriss_trajectory(n_steps, URGENCY / n_steps, 1.0)
        ),
        "immediate": ScheduledExecutor(role, immediate_trajectory(n_steps), patience=0),
    }


def classical_takers(scene: MarketScene, role: Taker) -> dict[str, Policy]:
    """Takers by name."""
    size = {"size": role.max_size, "max_inventory": scene.risk.max_inventory}
    return {
        "momentum": Momentum(role, threshold_ticks=5.0, **size),
        "mean_reversion": MeanReversion(role, threshold_ticks=5.0, **size),
        "sma_cross": SMACross(role, fast=10, slow=40, **size),
        "rsi": RSI(role, **size),
        "do_nothing": NoOrders(role),
    }
