"""Is the executor that is served the one that was trained? Observations and actions of both."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Policy
from hftlib.envs.backends import Books
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.envs.roles import N_LEVELS, Executor, MarketError
from hftlib.live.book_predictor import BOOK, BookPredictor
from hftlib.market.ladder import read_depth

Float32Array = npt.NDArray[np.float32]


class Execution(NamedTuple):
    """One parent order: what a client would have recorded, and what the agent saw."""

    snapshots: pd.DataFrame  # a row a decision; with the own order, see `book_predictor.OWN`
    observations: Float32Array  # (n_decisions, n_inputs)


def record_executions(
    env: MarketVecEnv, team: Mapping[str, Policy], seed: int, symbol: str, agent: str = "executor"
) -> list[Execution]:
    """Play one episode of every copy and record the books beside the observations.

    The executor's own order is taken out of the books, as a client does with orders of its own.

    Parameters
    ----------
    env : MarketVecEnv
        Of simulated books; is reset with `seed`.
    team : mapping of agent to policy without memory

    Raises
    ------
    MarketError
        If `agent` is no executor.
    """
    if not isinstance(env.roles[agent], Executor):
        raise MarketError(f"{agent!r} is a {env.roles[agent].kind}; name an executor")
    a = env.agents.index(agent)
    rows: list[list[dict[str, Any]]] = [[] for _ in range(env.n_envs)]
    seen: list[Float32Array] = []
    before = np.zeros(env.n_envs, dtype=np.int64)
    observations, _ = env.reset(seed)
    for step in range(env.market.episode_steps):
        books, traded = _read_books(env)
        position, parent = (env.accounts()[name][:, a] for name in ("position", "parent"))
        resting = env.resting()[:, a]
        for b in range(env.n_envs):
            side = 1 if parent[b] > 0 else -1
            price, lots = resting[b, 0 if side > 0 else 1].tolist()
            row = {"symbol": symbol, "ts": round(step * env.market.decision_ms * 1e6)}
            row |= dict(zip(BOOK, _without(books[b], resting[b]), strict=True))
            row |= {"traded_qty": int(traded[b] - before[b]) if step else 0, "side": side}
            row |= {"remaining_lots": abs(int(position[b]))}
            rows[b].append(row | {"resting_price": price, "resting_lots": lots})
        before = traded
        seen.append(observations[a].copy())
        actions = [team[name].act(own) for name, own in zip(env.agents, observations, strict=True)]
        observations = env.step(actions).observations
    return [Execution(pd.DataFrame(rows[b]), np.stack(seen)[:, b]) for b in range(env.n_envs)]


def compare_observations(
    predictor: BookPredictor, executions: Sequence[Execution]
) -> dict[str, float]:
    """Observations that the predictor makes of the snapshots, against those of the environment.

    Returns
    -------
    dict
        observations: their number; equal: how many agree in every bit; largest: largest absolute
        difference; resting: how many have an order of the executor in the book.
    """
    n, n_equal, n_resting, largest = 0, 0, 0, 0.0
    for snapshots, observations in executions:
        for k, expected in enumerate(observations):
            found = predictor.observe(snapshots.iloc[: k + 1], 0.0, 0.0)
            n += 1
            n_equal += found.tobytes() == expected.tobytes()
            largest = max(largest, float(np.abs(found - expected).max()))
        n_resting += int((snapshots["resting_lots"] > 0).sum())
    return {"observations": n, "equal": n_equal, "largest": largest, "resting": n_resting}


def compare_actions(
    predictor: BookPredictor, policy: Policy, observations: Float32Array
) -> dict[str, float]:
    """Actions of the served graph and of the policy it was made from, in [-1, 1].

    Returns
    -------
    dict
        observations: their number; largest: largest absolute difference; range: largest less
        smallest action, so that a policy which always says the same is told.
    """
    served, _ = predictor.run_graph(observations)
    trained = np.asarray(policy.act(observations), dtype=np.float64)
    return {
        "observations": len(observations),
        "largest": float(np.abs(served - trained).max()),
        "range": float(np.ptp(trained, axis=0).min()),
    }


def _read_books(env: MarketVecEnv) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Books with all orders, shape (n_envs, 2, 2, N_LEVELS + 1), and lots traded until now."""
    books = np.zeros((env.n_envs, 2, 2, N_LEVELS + 1), dtype=np.int32)
    traded = np.zeros(env.n_envs, dtype=np.int64)

    def read(_: int, part: slice, found: Books) -> None:
        for b, state in enumerate(found.book, part.start):
            for i in range(2):
                read_depth(state, 1 - 2 * i, books[b, i, 0], books[b, i, 1])
        traded[part] = found.traded

    env.share(read)
    return books, traded


def _without(book: npt.NDArray[np.int32], resting: npt.NDArray[np.int64]) -> list[int]:
    """The best levels less the own orders: prices and lots of the bid, then of the ask."""
    values: list[int] = []
    for (prices, lots), (own_price, own_lots) in zip(book.tolist(), resting.tolist(), strict=True):
        left = [
            (price, size - own_lots if price == own_price else size)
            for price, size in zip(prices, lots, strict=True)
        ]
        kept = [level for level in left if level[1] > 0][:N_LEVELS]
        kept += [(0, 0)] * (N_LEVELS - len(kept))
        values += [price for price, _ in kept] + [size for _, size in kept]
    return values
