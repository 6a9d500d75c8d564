"""Settings of the crash game's environment, and their check."""

from dataclasses import dataclass

from hftlib.envs.ranges import check_ranges
from hftlib.sessions.game import MAX_TICKS
from hftlib.sessions.vocabulary import MIN_BET


@dataclass(frozen=True)
class SessionRules:
    """What does not change during an episode.

    Attributes
    ----------
    fee : float
        Share of each purchase and of each sale that is lost, [0, 1). The exchange at the
        rug and side bets bear none.
    latency_ticks : int
        Ticks from the observation that an order answers to its execution; at 0 it is
        executed at the very price observed, which no real player can do.
    initial_cash : float
        Cash at the start of every episode, SOL; at least `vocabulary.MIN_BET`.
    first_bet : float
        Bet at the start of every episode, SOL, [0, initial_cash].
    max_ticks : int
        Tick on which an episode is truncated; at most `game.MAX_TICKS`, the law's own end.
    """

    fee: float = 0.0
    latency_ticks: int = 1
    initial_cash: float = 1.0
    first_bet: float = 0.01
    max_ticks: int = MAX_TICKS

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "fee": 0 <= self.fee < 1,
                "latency_ticks": isinstance(self.latency_ticks, int) and self.latency_ticks >= 0,
                "initial_cash": MIN_BET <= self.initial_cash < float("inf"),
                "first_bet": 0 <= self.first_bet <= self.initial_cash,
                "max_ticks": isinstance(self.max_ticks, int) and 1 <= self.max_ticks <= MAX_TICKS,
            },
        )
