"""Policies learnt from recorded play, and the actions that an observation allows.

A decision is one of 36 coded actions, `choice * N_ADJUSTMENTS + adjustment`. The mask is
derived from the observation alone; a side bet that is already open does not show there, so
that the environment may still refuse `SIDEBET`. The feature that says which game it is
(`game_id`) is always shown as 0: it could only be learnt by heart.
"""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hftlib.features.scaling import RobustScaler
from hftlib.models.networks import MLP, rebuild_network
from hftlib.paths import replace_file
from hftlib.sessions.observation import FEATURE_COUNT, FEATURE_NAMES
from hftlib.sessions.vocabulary import ACTIVE, MIN_BET, N_ACTIONS, N_ADJUSTMENTS

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

GAME_PHASE, GAME_ID, BALANCE, POSITION_QTY = (
    FEATURE_NAMES.index(name) for name in ("game_phase", "game_id", "balance", "position_qty")
)
FILE_VERSION = 1


def valid_actions(observations: FloatArray) -> BoolArray:
    """Which coded actions each observation allows.

    Buying needs a running game, no tokens and a balance of `MIN_BET`; selling a running game
    and tokens; a side bet a running game and that balance. Waiting and every change of the
    bet are always allowed.

    Parameters
    ----------
    observations : array of shape (n, 36)

    Returns
    -------
    bool array of shape (n, 36)
    """
    is_running = observations[:, GAME_PHASE] == ACTIVE
    has_tokens = observations[:, POSITION_QTY] > 0
    can_pay = is_running & (observations[:, BALANCE] >= np.float32(MIN_BET))
    choices = (np.ones_like(is_running), can_pay & ~has_tokens, is_running & has_tokens, can_pay)
    return np.stack(choices, axis=1).repeat(N_ADJUSTMENTS, axis=1)


def split_actions(actions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Coded actions of shape (n,) as rows (choice, adjustment), shape (n, 2)."""
    return np.stack(np.divmod(actions, N_ADJUSTMENTS), axis=1)


def scale_observations(scaler: RobustScaler, observations: FloatArray) -> FloatArray:
    """What a network sees of observations of shape (n, 36); the game's name is 0."""
    inputs = scaler.transform(observations)
    inputs[:, GAME_ID] = 0.0
    return inputs


class OfflinePolicy:
    """A network over the coded actions and the scaling of its inputs.

    The network's outputs are log-probabilities up to a constant (cloning and implicit
    Q-learning), or action values in units of scaled rewards (conservative Q-learning).

    Parameters
    ----------
    about : mapping of plain JSON values
        Where it comes from: algorithm, settings, seed.
    """

    def __init__(self, network: MLP, scaler: RobustScaler, about: Mapping[str, Any]) -> None:
        self.network = network.requires_grad_(False).eval()
        self.scaler = scaler
        self.about = dict(about)

    def probabilities(
        self, observations: FloatArray, temperature: float = 1.0
    ) -> npt.NDArray[np.float64]:
        """Chance of each coded action, shape (n, 36); exactly 0 where it is not allowed.

        Parameters
        ----------
        observations : array of shape (n, 36)
        temperature : float
            Divides the outputs before the softmax; 0 is the greedy policy, which takes the
            first of several best actions.

        Raises
        ------
        ValueError
            If the temperature is negative.
        """
        if temperature < 0:
            raise ValueError(f"temperature={temperature}; expected 0 (greedy) or more")
        outputs = self._mask_outputs(observations)
        if temperature == 0:
            return np.eye(N_ACTIONS)[outputs.argmax(axis=1)]
        chances = np.exp((outputs - outputs.max(axis=1, keepdims=True)) / temperature)
        return chances / chances.sum(axis=1, keepdims=True)

    def act(
        self, observations: FloatArray, rng: np.random.Generator | None = None
    ) -> npt.NDArray[np.int64]:
        """Rows (choice, adjustment) of shape (n, 2): the best actions, or drawn ones with `rng`."""
        if rng is None:
            return split_actions(self._mask_outputs(observations).argmax(axis=1))
        return split_actions(draw_actions(self.probabilities(observations), rng))

    def save(self, path: Path) -> None:
        """Write tensors and JSON, no code; the same policy gives the same bytes."""
        about = {"version": FILE_VERSION, "about": self.about, "scaler": self.scaler.to_dict()}
        buffer = io.BytesIO()  # a file would put its own name into the archive
        text = json.dumps(about, sort_keys=True)
        torch.save({"about": text, "weights": dict(self.network.state_dict())}, buffer)
        with replace_file(path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "OfflinePolicy":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If it is no such file, or of another version.
        """
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            about = json.loads(saved["about"])
            version = about["version"]
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
            raise ValueError(f"{path} is no policy; write one with OfflinePolicy.save") from error
        if version != FILE_VERSION:
            raise ValueError(
                f"{path} has version {version}, expected {FILE_VERSION}; train the policy anew"
            )
        network = rebuild_network(saved["weights"])
        names, median, iqr = (tuple(about["scaler"][key]) for key in ("names", "median", "iqr"))
        if not isinstance(network, MLP):
            raise ValueError(f"{path} has a recurrent network; an offline policy has no memory")
        return cls(network, RobustScaler(names, median, iqr), about["about"])

    def _mask_outputs(self, observations: FloatArray) -> npt.NDArray[np.float64]:
        """Outputs of shape (n, 36), -inf where the action is not allowed."""
        if observations.ndim != 2 or observations.shape[1] != FEATURE_COUNT:
            raise ValueError(
                f"observations have shape {observations.shape}; expected (n, {FEATURE_COUNT})"
            )
        inputs = torch.from_numpy(scale_observations(self.scaler, observations))
        with torch.no_grad():
            outputs = self.network(inputs).double().numpy()
        return np.where(valid_actions(observations), outputs, -np.inf)


@dataclass(frozen=True)
class DrawnPolicy:
    """An offline policy that draws its actions, as `Policy.act` without further arguments."""

    policy: OfflinePolicy
    rng: np.random.Generator

    def act(self, observations: FloatArray) -> npt.NDArray[np.int64]:
        """Rows (choice, adjustment) of shape (n, 2)."""
        return self.policy.act(observations, self.rng)


def draw_actions(
    chances: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One action a row of `chances`, shape (n, n_actions); never one of chance 0.

    The smallest of exponential waiting times with these rates is at each with its chance.
    """
    return (chances / rng.standard_exponential(chances.shape)).argmax(axis=1)
