"""Sections of `params.yaml` about captured play and what is learnt from it."""

from typing import Annotated

from pydantic import Field

from hftlib.sections import Day, Distinct, Integer, Number, Section

Share = Annotated[Number, Field(gt=0, lt=1)]


class Sessions(Section):
    n_games: Annotated[Integer, Field(ge=1000)] = Field(
        description="games on which the known answers are checked"
    )
    n_leakage_games: Annotated[Integer, Field(ge=20)] = Field(
        description="games of the demonstration of leakage"
    )
    n_sessions: Annotated[Integer, Field(ge=4)] = Field(
        description="recorded sessions, one player and client each; at least one of each player "
        "whose chances are known, and one more"
    )
    games_per_session: Annotated[Integer, Field(ge=1)] = Field(description="games in a session")
    first_day: Day = Field(description="day of the first session")
    fee: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="share of a trade that the house keeps"
    )
    initial_cash: Annotated[Number, Field(ge=0.01)] = Field(
        description="a player's money at the start of a session, or of a game played alone, SOL"
    )
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples of games behind each interval"
    )
    confidence: Share = Field(description="of the intervals")


class Offline(Section):
    train_share: Share = Field(description="share of the games that is learnt from")
    n_seeds: Annotated[Integer, Field(ge=2)] = Field(description="independent trainings")
    n_updates: Annotated[Integer, Field(ge=10)] = Field(description="gradient steps of a training")
    n_evaluations: Annotated[Integer, Field(ge=2)] = Field(description="points of a learning curve")
    batch_size: Annotated[Integer, Field(ge=2)] = Field(description="transitions a gradient step")
    learning_rate: Annotated[Number, Field(gt=0)] = Field(description="of Adam")
    hidden: Annotated[tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1)] = Field(
        description="width of each hidden layer"
    )
    gamma: Annotated[Number, Field(gt=0, le=1)] = Field(description="discount a tick")
    tau: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="share of the weights that a target network takes over at each step"
    )
    reward_scale: Annotated[Number, Field(gt=0)] = Field(
        description="by which rewards in SOL are multiplied for learning"
    )
    expectile: Annotated[Number, Field(gt=0.5, lt=1)] = Field(
        description="of implicit Q-learning: nearer to 1 is nearer to the best recorded action"
    )
    sharpness: Annotated[Number, Field(ge=0)] = Field(
        description="of its policy: recorded actions weigh exp(sharpness x advantage)"
    )
    penalty: Annotated[Number, Field(ge=0)] = Field(
        description="weight of conservative Q-learning's penalty on actions not recorded"
    )
    latency_ticks: Annotated[Integer, Field(ge=0)] = Field(
        description="from a decision to its execution in fresh games, ticks of 250 ms"
    )
    hold_ticks: Annotated[
        tuple[Annotated[Integer, Field(ge=1)], ...], Field(min_length=1), Distinct
    ] = Field(description="of the strategies that buy at once and hold so long")
    n_chains: Annotated[Integer, Field(ge=2)] = Field(
        description="runs of fresh games in which policies are judged"
    )
    chain_games: Annotated[Integer, Field(ge=1)] = Field(description="games in such a run")
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="bootstrap samples of games behind each interval"
    )
    confidence: Share = Field(description="of the intervals")
