"""From `params.yaml` and the project's data to a plan of paper trading."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hftlib.config import Params
from hftlib.data.exchange import ExchangeRequest
from hftlib.data.panel import BarPanel
from hftlib.data.yahoo import YahooRequest
from hftlib.envs.trading_rules import TradingRules
from hftlib.live.clock import AcceleratedClock, RealClock
from hftlib.live.drift_watch import feature_frame, watch_drift
from hftlib.live.feeds import Recording, read_bars
from hftlib.live.paper_rules import PaperRules
from hftlib.live.polling import PolledBars, fetch_from_services
from hftlib.live.predictor import Predictor
from hftlib.live.session import SessionPlan
from hftlib.live.target_orders import SizingRules
from hftlib.live.venue_rules import VenueRules
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_state import DAY_NS

MS = 10**6
NEVER = 10**9  # losses in a row


def read_venues(
    entries: Sequence[Mapping[str, Any]], tick_size: float, lot_size: float
) -> dict[str, VenueRules]:
    """Venues by name, from the entries of `paper_trading.venues`."""
    return {
        entry["name"]: VenueRules(
            tick_size=tick_size,
            lot_size=lot_size,
            maker_fee_bps=entry["maker_fee_bps"],
            taker_fee_bps=entry["taker_fee_bps"],
            latency_ns=round(entry["latency_ms"] * MS),
            spread_bps=entry["spread_bps"],
            level_units=entry["level_units"],
        )
        for entry in entries
    }


def make_rules(
    rules: TradingRules,
    symbols: Sequence[str],
    limits: RiskLimits,
    *,
    bar_ns: int,
    max_losses: int = NEVER,
    cooldown_days: int = 1,
) -> PaperRules:
    """What an account of paper trading may do, from the rules of the environment and the limits.

    Parameters
    ----------
    bar_ns : length of a bar; data older than five of them are stale, a feed silent for ten is dead
    max_losses, cooldown_days : of the circuit breaker, as in report 50; its other limits are those
        of `limits`
    """
    breaker = BreakerRules(
        max_drawdown=limits.max_drawdown,
        max_daily_loss=limits.max_daily_loss,
        max_losses=max_losses,
        max_age_ns=5 * bar_ns,
        cooldown_ns=cooldown_days * DAY_NS,
    )
    return PaperRules(
        symbols=tuple(symbols),
        cash=Decimal(str(rules.initial_cash)),
        limits=limits,
        breaker=breaker,
        sizing=SizingRules("weights", rules.costs, rules.limits.max_leverage),
        dead_after_ns=10 * bar_ns,
    )


def plan_recording(
    bars: pd.DataFrame,
    n_bars: int,
    folder: Path,
    rules: PaperRules,
    venues: Mapping[str, VenueRules],
    *,
    max_weight: float = 1.0,
    speed: float = float("inf"),
) -> SessionPlan:
    """Trade the last bars of a recording; those before are shown to the strategy.

    Parameters
    ----------
    bars : frame as `schema.BARS`, of the rules' symbols
    n_bars : times that are traded
    speed : seconds of the recording in one of ours
    """
    moments = read_bars(bars)
    times = bars["ts"].drop_duplicates().sort_values()
    first = times.iloc[-min(n_bars, len(times))]
    return SessionPlan(
        name=f"recorded bars, {first.date()} to {times.iloc[-1].date()}",
        folder=folder,
        rules=rules,
        venues=venues,
        feed=partial(Recording, moments),
        clock=partial(AcceleratedClock, speed=speed),
        first_ns=first.value,
        last_ns=moments[-1].ts_ns,
        max_weight=max_weight,
        speed=speed if speed < float("inf") else None,
    )


def plan_polling(
    requests: Sequence[ExchangeRequest | YahooRequest],
    folder: Path,
    cache: Path,
    rules: PaperRules,
    venues: Mapping[str, VenueRules],
    *,
    bar_ns: int,
    now_ns: int,
    max_weight: float = 1.0,
) -> SessionPlan:
    """Trade bars as they end, asked for at a tenth of their length; earlier ones are the history.

    Parameters
    ----------
    requests : whose `start` is that of the history
    cache : folder of answers
    now_ns : the clock
    """
    every_ns = max(bar_ns // 10, 5 * 10**9)
    fetch = fetch_from_services(requests, cache, max_age_s=every_ns / 1e9)
    feed = partial(PolledBars, fetch, bar_ns=bar_ns, every_ns=every_ns, start_ns=now_ns)
    return SessionPlan(
        name="polled bars of " + ", ".join(rules.symbols),
        folder=folder,
        rules=rules,
        venues=venues,
        feed=feed,
        clock=lambda _: RealClock(),
        first_ns=now_ns,
        max_weight=max_weight,
    )


def read_plan(params: Params, kind: str, speed: float, now_ns: int) -> SessionPlan:
    """The plan that the service runs: of the last recorded bars, or of what `ingestion` fetches.

    Parameters
    ----------
    kind : "recorded" or "polled"

    Raises
    ------
    ValueError
        If nothing is to be fetched, intervals differ, or a symbol has no bars.
    FileNotFoundError
        If there are no recorded bars yet.
    """
    section, paths = params.paper_trading, params.paths
    entries = [venue.model_dump() for venue in section.venues]
    venues = read_venues(entries, section.tick_size, section.lot_size)
    trading = TradingRules.from_values(**params.trading_rules)
    make = partial(
        make_rules,
        trading,
        limits=RiskLimits(**params.risk_limits.model_dump()),
        max_losses=params.portfolio_risk.max_losses,
        cooldown_days=params.portfolio_risk.cooldown_days,
    )
    if kind == "recorded":
        if not paths.bars.is_file():
            raise FileNotFoundError(f"{paths.bars} is not there; run `make repro` first")
        bars = pd.read_parquet(paths.bars)
        bars = bars[bars["symbol"].isin(params.datasets.symbols)]
        missing = set(params.datasets.symbols) - set(bars["symbol"])
        if missing:
            raise ValueError(
                f"{paths.bars} has no bars of {', '.join(sorted(missing))}, which datasets.symbols "
                "names; run `make repro`"
            )
        rules = make(params.datasets.symbols, bar_ns=DAY_NS)
        folder = paths.scratch / "paper/recorded"
        own = {"max_weight": trading.max_weight, "speed": speed}
        return plan_recording(bars, section.n_bars, folder, rules, venues, **own)
    wanted = params.ingestion
    requests: list[ExchangeRequest | YahooRequest] = [
        *(YahooRequest(**span.model_dump()) for span in wanted.yahoo),
        *(ExchangeRequest(**span.model_dump()) for span in wanted.exchanges),
    ]
    lengths = {pd.Timedelta(request.interval).value for request in requests}
    if len(lengths) != 1:
        raise ValueError(
            f"ingestion.yahoo and ingestion.exchanges have {len(requests)} entries with "
            f"{len(lengths)} intervals; paper trading needs at least one, all of one interval"
        )
    symbols = [request.name or request.symbol for request in requests]
    bar_ns = lengths.pop()
    return plan_polling(
        requests,
        paths.scratch / "paper/polled",
        paths.scratch / "sources",
        make(symbols, bar_ns=bar_ns),
        venues,
        bar_ns=bar_ns,
        now_ns=now_ns,
        max_weight=trading.max_weight,
    )


def make_watch(params: Params, predictor: Predictor) -> Callable[[int], Mapping[str, Any]] | None:
    """Drift of the model's features on the bars up to a time; None without datasets.

    The reference is the training split, the newest `paper_trading.drift_bars` are held against it.
    """
    section, paths = params.paper_trading, params.paths
    file = paths.bar_datasets / "train.npz"
    if not (file.is_file() and paths.bars.is_file()):
        return None
    train, bars = BarPanel.load(file), pd.read_parquet(paths.bars)
    names = predictor.scaler.names
    reference = feature_frame(dict.fromkeys(predictor.symbols, train), names)

    def watch(until_ns: int) -> Mapping[str, Any]:
        known = bars[bars["ts"] <= pd.Timestamp(until_ns, tz="UTC")]
        panels = {
            symbol: predictor.panel(
                known[known["symbol"] == symbol].reset_index(drop=True), section.drift_bars
            )
            for symbol in predictor.symbols
        }
        _, shown = watch_drift(
            reference,
            feature_frame(panels, names),
            seed=params.base.seed,
            n_permutations=section.n_permutations,
            level=section.level,
        )
        return shown

    return watch
