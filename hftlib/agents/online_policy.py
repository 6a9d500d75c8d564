"""Greedy policies of PPO, SAC and TD3 from weights, and the files that hold them.

A file is an `.npz` without pickles or clocks: the state dict of the whole
Stable-Baselines3 policy, critics included, and a `Design`, which says how to
rebuild it and what an observation must look like.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from hftlib.models.extractors import Perceptron, WindowAttention, WindowLSTM
from hftlib.paths import replace_file

Weights = dict[str, npt.NDArray[np.float32]]
NOT_OF_THE_POLICY = ("log_ent_coef",)  # SAC's entropy weight, for training on
POLICIES: dict[str, type[BasePolicy]] = {
    "ppo": ActorCriticPolicy,
    "sac": SACPolicy,
    "td3": TD3Policy,
}


@dataclass(frozen=True)
class Design:
    """All about a policy but its weights.

    Attributes
    ----------
    algo, extractor, extractor_width, hidden, shares_value_network
        As in `online_settings`.
    window_bars, feature_names, n_assets, n_account
        An observation: for each asset `window_bars` times the features, then `n_account` columns.
    action_kind
        Discrete, MultiDiscrete or Box, the class of the action space.
    choices
        How many there are of each discrete action, else empty.
    low, high
        Bounds of continuous actions, else empty.
    """

    algo: str
    extractor: str
    extractor_width: int
    hidden: tuple[int, ...]
    shares_value_network: bool
    window_bars: int
    feature_names: tuple[str, ...]
    n_assets: int
    n_account: int
    action_kind: str
    choices: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def n_inputs(self) -> int:
        """Columns of an observation."""
        return self.n_assets * self.window_bars * len(self.feature_names) + self.n_account

    @property
    def observation_space(self) -> spaces.Box:
        """Without bounds: a network needs none."""
        return spaces.Box(-np.inf, np.inf, (self.n_inputs,), np.float32)

    @property
    def action_space(self) -> spaces.Space[Any]:
        """As of the environment that the policy was trained on."""
        if self.action_kind == "Discrete":
            return spaces.Discrete(self.choices[0])
        if self.action_kind == "MultiDiscrete":
            return spaces.MultiDiscrete(list(self.choices))
        low, high = (np.array(bound, dtype=np.float32) for bound in (self.low, self.high))
        return spaces.Box(low, high, dtype=np.float32)

    def policy_options(self) -> dict[str, Any]:
        """What Stable-Baselines3 calls `policy_kwargs`."""
        options: dict[str, Any] = {"net_arch": list(self.hidden)}
        if self.algo == "ppo":
            options["share_features_extractor"] = self.shares_value_network
        if self.extractor != "mlp":
            options["features_extractor_class"] = {
                "lstm": WindowLSTM,
                "attention": WindowAttention,
            }[self.extractor]
            options["features_extractor_kwargs"] = {
                "window_bars": self.window_bars,
                "n_assets": self.n_assets,
                "n_account": self.n_account,
                "width": self.extractor_width,
            }
        elif self.shares_value_network:
            options["net_arch"] = []
            options["features_extractor_class"] = Perceptron
            options["features_extractor_kwargs"] = {"hidden": self.hidden}
        return options

    def check_features(self, feature_names: Sequence[str], where: str) -> None:
        """Refuse observations made of other features.

        Raises
        ------
        ValueError
            Names the features that are missing, those too many, or the first one out of place.
        """
        mine, theirs = self.feature_names, tuple(feature_names)
        if mine == theirs:
            return
        missing = [name for name in mine if name not in theirs]
        extra = [name for name in theirs if name not in mine]
        if missing or extra:
            what = f"missing here: {', '.join(missing) or 'none'}; unknown to it: "
            what += ", ".join(extra) or "none"
        else:
            k = next(k for k, pair in enumerate(zip(mine, theirs, strict=True)) if len({*pair}) > 1)
            what = f"feature {k} is {theirs[k]} here and was {mine[k]}"
        raise ValueError(
            f"{where} was trained on {len(mine)} other features ({what}); train it anew on these, "
            "or build the panel with its own"
        )

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
        }
        return cls(**values)


class LearntPolicy:
    """The policy of trained weights without exploration: PPO's mode or mean, SAC's, TD3's actor.

    Attributes
    ----------
    design : Design
    network : from observations to logits (discrete), the mean (PPO) or the action in [-1, 1]
    """

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]], design: Design) -> None:
        self.design = design
        policy = POLICIES[design.algo](
            design.observation_space,
            design.action_space,
            lambda _: 0.0,
            **design.policy_options(),
        )
        own = {k: torch.as_tensor(v) for k, v in weights.items() if k not in NOT_OF_THE_POLICY}
        try:
            policy.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"the weights do not fit their design {design.to_json()}: {error}; "
                "save both of one training with save_policy()"
            ) from error
        self.network = _take_actor(policy).requires_grad_(False).eval()
        space = design.action_space
        if isinstance(space, spaces.Box):
            self._low, self._half_range = space.low, (space.high - space.low) / 2

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Choices, int64 of shape (n,) or (n, n_assets), or target weights, float32 (n, n_assets).

        Raises
        ------
        ValueError
            If observations are not of shape (n, n_inputs).
        """
        design = self.design
        if observations.ndim != 2 or observations.shape[1] != design.n_inputs:
            raise ValueError(
                f"observations have shape {observations.shape}; expected (n, {design.n_inputs}), "
                f"{design.n_assets} * {design.window_bars} bars of {len(design.feature_names)} "
                f"features and {design.n_account} columns of the account; use the environment "
                "that the policy was trained on"
            )
        with torch.inference_mode():
            outputs = self.network(torch.as_tensor(observations)).numpy()
        if design.action_kind == "Discrete":
            choices: npt.NDArray[np.int64] = outputs.argmax(axis=1)
            return choices
        if design.action_kind == "MultiDiscrete":
            parts = np.split(outputs, np.cumsum(design.choices)[:-1], axis=1)
            return np.stack([part.argmax(axis=1) for part in parts], axis=1)
        if design.algo == "ppo":  # its mean may lie beyond the bounds
            return np.clip(outputs, self._low, self._low + 2 * self._half_range)
        squashed: npt.NDArray[np.float32] = self._low + (outputs + 1) * self._half_range
        return squashed


def _take_actor(policy: Any) -> torch.nn.Sequential:
    """From observations to logits (discrete), the mean (PPO) or the action in [-1, 1]."""
    if isinstance(policy, ActorCriticPolicy):
        body = policy.mlp_extractor.policy_net
        return torch.nn.Sequential(policy.pi_features_extractor, body, policy.action_net)
    actor = policy.actor
    if isinstance(policy, SACPolicy):
        return torch.nn.Sequential(
            actor.features_extractor, actor.latent_pi, actor.mu, torch.nn.Tanh()
        )
    return torch.nn.Sequential(actor.features_extractor, actor.mu)


def save_policy(path: Path, weights: Weights, design: Design) -> None:
    """Write an `.npz`; unlike Stable-Baselines3's own format it is free of clocks and pickles."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, design=np.array(design.to_json()), **weights)


def read_policy(path: Path) -> tuple[Weights, Design]:
    """What `save_policy` wrote.

    Raises
    ------
    ValueError
        If something else wrote the file.
    """
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    if "design" not in arrays:
        raise ValueError(f"{path} does not say what it holds; write it with save_policy()")
    return arrays, Design.from_json(str(arrays.pop("design")))


def load_policy(path: Path, feature_names: Sequence[str] | None = None) -> LearntPolicy:
    """The greedy policy of a file.

    Parameters
    ----------
    path : file of `save_policy`
    feature_names : sequence of str, optional
        The features of the panel that it is to act on.

    Raises
    ------
    ValueError
        If the policy was trained on other features; names them.
    """
    weights, design = read_policy(path)
    if feature_names is not None:
        design.check_features(feature_names, str(path))
    return LearntPolicy(weights, design)
