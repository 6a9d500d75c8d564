"""Sections of `params.yaml` about the multi-agent market and its learners."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftlib.sections import Distinct, Integer, Number, Section


class Market(Section):
    tick_size: Annotated[Number, Field(gt=0)] = Field(description="currency a tick")
    lot_size: Annotated[Number, Field(gt=0)] = Field(description="units a lot")
    decision_ms: Annotated[Number, Field(gt=0)] = Field(
        description="interval between two decisions, ms"
    )
    episode_steps: Annotated[Integer, Field(ge=2)] = Field(description="decisions in an episode")
    maker_fee_bps: Annotated[Number, Field(ge=-100, le=1000)] = Field(
        description="fee of resting orders, bp of the notional; negative is a rebate"
    )
    taker_fee_bps: Annotated[Number, Field(ge=-100, le=1000)] = Field(
        description="fee of orders that trade at once, bp of the notional"
    )
    volatility: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="sd of the value's logarithm over a day of 6.5 hours, jumps not counted"
    )
    mean_reversion_speed: Annotated[Number, Field(ge=0)] = Field(
        description="pull of that logarithm to its start, 1 / minute; 0 for training, which "
        "takes the value's noise out of the rewards"
    )


class MarketRisk(Section):
    max_inventory: Annotated[Integer, Field(ge=1)] = Field(description="lots, long or short")
    max_position_value: Annotated[Number, Field(gt=0)] = Field(description="currency")
    max_drawdown: Annotated[Number, Field(gt=0)] = Field(
        description="fall from the peak that ends an agent (kill switch), currency"
    )
    initial_cash: Annotated[Number, Field(gt=0)] = Field(description="starting equity, currency")


class MarketReward(Section):
    lambda_inventory: Annotated[Number, Field(ge=0)] = Field(
        description="lambda in the charge for q lots, lambda q^2 / q_max ticks a second; q_max is "
        "max_inventory; for executors q is what is left, q_max the parent order"
    )
    lambda_impact: Annotated[Number, Field(ge=0)] = Field(
        description="weight of the price of taking; shapes learning only"
    )
    lambda_spread: Annotated[Number, Field(ge=0)] = Field(
        description="weight of the gain of making; shapes learning only"
    )
    lambda_risk: Annotated[Number, Field(ge=0)] = Field(
        description="weight of the growth of the drawdown"
    )


class MakerRole(Section):
    max_offset_ticks: Annotated[Number, Field(gt=0)] = Field(
        description="farthest quote from the mid before the skew, less half a tick"
    )
    max_size: Annotated[Integer, Field(ge=1)] = Field(description="lots of the largest quote")
    max_skew_ticks: Annotated[Number, Field(ge=0)] = Field(
        description="largest shift of both quotes, ticks"
    )
    latency_ms: Annotated[Number, Field(ge=0)] = Field(
        description="from a decision to the book, ms"
    )


class ExecutorRole(Section):
    parent_lots: Annotated[Integer, Field(ge=1)] = Field(description="lots of the parent order")
    max_slice: Annotated[Integer, Field(ge=1)] = Field(description="lots of the largest order")
    reach_ticks: Annotated[Number, Field(gt=0)] = Field(
        description="farthest limit price behind or beyond the mid, ticks"
    )
    latency_ms: Annotated[Number, Field(ge=0)] = Field(
        description="from a decision to the book, ms"
    )


class TakerRole(Section):
    max_size: Annotated[Integer, Field(ge=1)] = Field(description="lots of the largest order")
    reach_ticks: Annotated[Number, Field(ge=0)] = Field(
        description="ticks beyond the best price that an order may take"
    )
    latency_ms: Annotated[Number, Field(ge=0)] = Field(
        description="from a decision to the book, ms"
    )


class Environments(Section):
    n_paths: Annotated[Integer, Field(ge=2)] = Field(
        description="paths of the replication of Avellaneda and Stoikov's tables"
    )
    risk_aversions: Annotated[
        tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1), Distinct
    ] = Field(description="gammas of these tables")
    n_worlds: Annotated[Integer, Field(ge=2)] = Field(
        description="copies in which the environment is checked"
    )


class MultiAgent(Section):
    n_seeds: Annotated[Integer, Field(ge=2)] = Field(description="independent trainings")
    n_tuning_worlds: Annotated[Integer, Field(ge=2)] = Field(
        description="worlds, apart from all others, on which classical makers are tuned"
    )
    n_curve_worlds: Annotated[Integer, Field(ge=2)] = Field(
        description="worlds of each point of a learning curve"
    )
    n_worlds: Annotated[Integer, Field(ge=2)] = Field(description="held-out worlds")
    risk_aversions: Annotated[
        tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1), Distinct
    ] = Field(description="gammas tried for Avellaneda and Stoikov's maker, 1 / tick a quote held")
    decays: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1), Distinct] = (
        Field(description="values of k tried, 1 / tick")
    )
    control_fee_bps: Annotated[Number, Field(ge=0, le=1000)] = Field(
        description="fee of makers and of takers on the control market; makes sense if twice it "
        "exceeds the spread"
    )
    n_control_seeds: Annotated[Integer, Field(ge=2)] = Field(
        description="trainings on the control market"
    )
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples behind each interval"
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(description="level of the intervals")


class Budget(Section):
    """What a multi-agent algorithm may spend; the fields of its settings follow."""

    n_envs: Annotated[Integer, Field(ge=1)] = Field(description="copies that train side by side")
    total_steps: Annotated[Integer, Field(ge=1)] = Field(description="environment steps a seed")
    control_envs: Annotated[Integer, Field(ge=1)] = Field(
        description="copies on the control market: few, for many updates, as the way is long"
    )
    control_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of a training on the control market"
    )
    response_steps: Annotated[Integer, Field(ge=1)] = Field(
        description="environment steps of a best response"
    )

    def settings(self) -> dict[str, Any]:
        """The algorithm's own settings by name."""
        return self.model_dump(
            exclude={"n_envs", "control_envs", "control_steps", "response_steps"}
        )


class MAPPO(Budget):
    n_steps: Annotated[Integer, Field(ge=2)] = Field(
        description="steps of a copy per update; best whole episodes: all copies start together"
    )
    n_epochs: Annotated[Integer, Field(ge=1)] = Field(description="passes over each rollout")
    n_minibatches: Annotated[Integer, Field(ge=1)] = Field(description="of each pass")
    actor_learning_rate: Annotated[Number, Field(gt=0)] = Field(description="Adam step size")
    critic_learning_rate: Annotated[Number, Field(gt=0)] = Field(description="Adam step size")
    anneals_learning_rates: Annotated[bool, Field(strict=True)] = Field(
        description="both fall linearly to 0"
    )
    gamma: Annotated[Number, Field(gt=0, le=1)] = Field(description="discount a step")
    gae_lambda: Annotated[Number, Field(ge=0, le=1)] = Field(description="GAE's lambda")
    clip_range: Annotated[Number, Field(gt=0)] = Field(description="clipping of the ratio")
    entropy_weight: Annotated[Number, Field(ge=0)] = Field(description="entropy bonus")
    initial_std: Annotated[Number, Field(gt=0)] = Field(
        description="sd of the actions before their tanh, at first"
    )
    reward_scale: Annotated[Number, Field(gt=0)] = Field(description="factor on the rewards")
    has_central_critic: Annotated[bool, Field(strict=True)] = Field(
        description="critics see the whole state; false is IPPO"
    )
    normalises_inputs: Annotated[bool, Field(strict=True)] = Field(
        description="observations are centred and scaled by running statistics"
    )
    is_recurrent: Annotated[bool, Field(strict=True)] = Field(description="networks have a memory")
    hidden: Annotated[tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1)] = Field(
        description="units of each hidden layer"
    )
    n_evaluations: Annotated[Integer, Field(ge=2)] = Field(description="points of a learning curve")


class MADDPG(Budget):
    actor_learning_rate: Annotated[Number, Field(gt=0)] = Field(description="Adam step size")
    critic_learning_rate: Annotated[Number, Field(gt=0)] = Field(description="Adam step size")
    gamma: Annotated[Number, Field(gt=0, le=1)] = Field(description="discount a step")
    tau: Annotated[Number, Field(gt=0, le=1)] = Field(description="step of the target networks")
    batch_size: Annotated[Integer, Field(ge=2)] = Field(description="transitions of an update")
    buffer_size: Annotated[Integer, Field(ge=2)] = Field(description="transitions kept")
    updates_per_step: Annotated[Number, Field(gt=0)] = Field(
        description="updates for each step of all copies together"
    )
    n_warmup_steps: Annotated[Integer, Field(ge=0)] = Field(
        description="environment steps of random actions first"
    )
    has_twin_critics: Annotated[bool, Field(strict=True)] = Field(
        description="two critics an agent, of which the smaller counts"
    )
    policy_delay: Annotated[Integer, Field(ge=1)] = Field(
        description="updates of the critics for one of the actors"
    )
    target_noise: Annotated[Number, Field(ge=0)] = Field(
        description="sd of the noise on target actions"
    )
    noise_kind: Literal["gaussian", "ou"] = Field(description="exploration noise")
    noise_scale: Annotated[Number, Field(ge=0)] = Field(description="its sd at first")
    noise_decay: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="its factor for every episode that ends"
    )
    noise_floor: Annotated[Number, Field(ge=0)] = Field(description="it does not fall below")
    priority_alpha: Annotated[Number, Field(ge=0, le=1)] = Field(
        description="exponent of the replay's priorities; 0 draws uniformly"
    )
    hidden: Annotated[tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1)] = Field(
        description="units of each hidden layer"
    )
    n_evaluations: Annotated[Integer, Field(ge=2)] = Field(description="points of a learning curve")
