"""What a multi-agent market must keep, measured on random play.

Each check gives a number that has to be 0 (or, where it says so, must not be).
The tests assert the same with tolerances; here a reader sees the numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from gymnasium import spaces

from hftlib.envs.backends import Books
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.market.matching import CASH, POSITION

FloatArray = npt.NDArray[np.float64]
Factory = Callable[[int], MarketVecEnv]  # from the number of copies


@dataclass(frozen=True)
class History:
    """Random play, each array of shape (n_steps, n_envs, …).

    observations and the central state side by side; rewards; terms of the
    rewards; equity; what the equity of those whom no limit has ended should be,
    from the accounts, and who they are (1, or 0); value, ticks; sums of lots and
    of cash over all accounts of a book.
    """

    seen: FloatArray
    rewards: FloatArray
    terms: FloatArray
    equity: FloatArray
    marked: FloatArray
    alive: FloatArray
    value: FloatArray
    lots: FloatArray
    cash: FloatArray


def play_noise(
    env: MarketVecEnv, n_steps: int, seed: int, *, noise: int = 0, change_at: int | None = None
) -> History:
    """Play random actions in the worlds seed, seed + 1, …

    Copies whose agents have all ended play on, and `env.auto_reset` stays off.

    Parameters
    ----------
    n_steps : int
        Less than an episode has.
    noise : int
        Seed of the actions; a copy's depend on this and its own number only.
    change_at : int, optional
        Step from which the actions are others.
    """
    env.auto_reset = False
    env.reset(seed)
    first = env.accounts()
    rngs = [np.random.default_rng((noise, seed + i)) for i in range(env.n_envs)]
    parts: dict[str, list[FloatArray]] = {field.name: [] for field in fields(History)}
    unit = env.market.tick_size * env.market.lot_size
    for t in range(n_steps):
        if t == change_at:
            rngs = [np.random.default_rng((noise + 1, seed + i)) for i in range(env.n_envs)]
        step = env.step([_draw(space, rngs) for space in env.action_spaces])
        now, sums = env.accounts(), _sums(env)
        start = -now["parent"]
        marked = now["cash"] + (now["position"] * now["mid"] - start * first["mid"]) * unit
        row = {
            "seen": np.hstack([*step.final_observations, step.final_state]),
            "rewards": step.rewards,
            "terms": step.terms,
            "equity": now["equity"],
            "marked": env.risk.initial_cash + marked,
            "alive": now["is_alive"],
            **sums,
        }
        for name, values in row.items():
            parts[name].append(np.asarray(values, dtype=np.float64))
    return History(**{name: np.stack(values) for name, values in parts.items()})


def check_market(make_env: Factory, n_envs: int, seed: int = 1) -> pd.DataFrame:
    """Run every check.

    Returns
    -------
    frame with index check and columns expected (text), measured
    """
    env = make_env(n_envs)
    n_steps = min(100, env.market.episode_steps - 1)
    one, two = (play_noise(env, n_steps, seed) for _ in range(2))
    half = max(1, int(one.alive.any(axis=(1, 2)).sum()) // 2)  # of the steps that anybody acts in
    alone = play_noise(make_env(1), n_steps, seed + n_envs - 1)
    other = play_noise(env, n_steps, seed, change_at=half)
    rows = [
        ("two runs of one seed, difference", "0", _gap(one, two, slice(None))),
        ("a copy alone and in the batch, difference", "0", _alone(alone, one)),
        ("steps before the actions change, difference", "0", _gap(one, other, slice(half))),
        ("steps after they change, difference", "not 0", _gap(one, other, slice(half, None))),
        ("the value under other actions, difference", "0", _most(one.value - other.value)),
        ("rewards less their terms, currency", "0", _most(one.rewards - one.terms.sum(axis=3))),
        (
            "equity less cash and inventory, currency",
            "0",
            _most(np.where(one.alive, one.equity - one.marked, 0)),
        ),
        ("lots over all accounts of a book", "0", _most(one.lots)),
        ("cash over all accounts of a book, ticks x lots", "0", _most(one.cash)),
    ]
    return pd.DataFrame(rows, columns=["check", "expected", "measured"]).set_index("check")


def has_passed(checks: pd.DataFrame) -> pd.Series:
    """Whether each check came out as expected; amounts of currency to the hundredth of a cent.

    What is not finite never does.
    """
    is_zero = checks["measured"] < 1e-4
    return np.isfinite(checks["measured"]) & (is_zero == (checks["expected"] == "0"))


def _draw(space: spaces.Space[Any], rngs: list[np.random.Generator]) -> npt.NDArray[np.generic]:
    if isinstance(space, spaces.MultiDiscrete):
        return np.stack([rng.integers(space.nvec) for rng in rngs])
    assert space.shape is not None
    n = space.shape[0]
    return np.stack([rng.uniform(-1, 1, n) for rng in rngs])


def _sums(env: MarketVecEnv) -> dict[str, FloatArray]:
    sums = {name: np.zeros(env.n_envs) for name in ("value", "lots", "cash")}

    def add(_: int, part: slice, books: Books) -> None:
        sums["value"][part] = books.value
        sums["lots"][part] = books.accounts[:, :, POSITION].sum(axis=1)
        sums["cash"][part] = books.accounts[:, :, CASH].sum(axis=1)

    env.share(add)
    return sums


def _gap(a: History, b: History, steps: slice) -> float:
    names = ("seen", "rewards", "terms", "equity")
    return _largest(getattr(a, name)[steps] - getattr(b, name)[steps] for name in names)


def _alone(alone: History, batch: History) -> float:
    names = ("seen", "rewards", "terms", "equity")
    return _largest(getattr(alone, n)[:, 0] - getattr(batch, n)[:, -1] for n in names)


def _largest(parts: Iterable[FloatArray]) -> float:
    return float(np.max([_most(part) for part in parts]))  # nan if one is, unlike `max`


def _most(values: FloatArray) -> float:
    return float(np.abs(values).max())
