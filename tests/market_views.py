"""Observations of market roles by name, and their mirror images."""

import numpy as np

ODD = ("imbalance", "trend", "last_return", "order_flow", "inventory", "side")


def observe(role, n=1, **columns):
    """Observations of shape (n, n_inputs), 0 but for the named columns."""
    observations = np.zeros((n, len(role.observation_names)), dtype=np.float32)
    for name, values in columns.items():
        observations[:, role.observation_names.index(name)] = values
    return observations


def draw_observations(role, n, rng, max_inventory=1000):
    """Plausible observations: prices on a half-tick grid, whole lots."""
    columns = {
        name: np.log1p(rng.integers(1, 300, n)) / 10
        for name in role.observation_names
        if name.startswith(("bid_lots", "ask_lots")) or name == "traded"
    }
    columns |= {f"{side}_distance_1": rng.integers(1, 9, n) / 20 for side in ("bid", "ask")}
    columns |= {"trend": rng.normal(0, 0.5, n), "last_return": rng.integers(-6, 7, n) / 20}
    columns |= {"imbalance": rng.uniform(-1, 1, n), "order_flow": rng.normal(0, 0.3, n)}
    columns |= {"volatility": rng.uniform(0.01, 0.3, n), "time_left": rng.uniform(0, 1, n)}
    if "inventory" in role.observation_names:
        columns["inventory"] = rng.integers(-max_inventory, max_inventory + 1, n) / max_inventory
    if "side" in role.observation_names:
        columns |= {"side": rng.choice([-1, 1], n), "remaining": rng.uniform(0, 1, n)}
    return observe(role, n, **columns)


def mirror(role, observations):
    """What the role would see if every buy were a sell."""
    seen = observations.copy()
    names = role.observation_names
    for k, name in enumerate(names):
        swapped = name.replace("bid", "?").replace("ask", "bid").replace("?", "ask")
        seen[:, names.index(swapped)] = observations[:, k] * (-1 if name in ODD else 1)
    return seen
