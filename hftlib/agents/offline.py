"""Learning from recorded play alone: the loop over updates, the same for three algorithms.

`offline_learner` says what is learnt, `offline_policy` what comes out. A batch is drawn, the
losses descended, the targets moved. The same arguments give the same weights, whether the
call ran through or was stopped and resumed; several seeds go through `compute.map_parallel`.
"""

import logging
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hftlib.agents.checkpoint import load_checkpoint, name_checkpoint, save_checkpoint
from hftlib.agents.offline_learner import (
    BCSettings,
    CQLSettings,
    IQLSettings,
    OfflineSettings,
    Sample,
    make_learner,
)
from hftlib.agents.offline_policy import (
    GAME_ID,
    OfflinePolicy,
    scale_observations,
    valid_actions,
)
from hftlib.compute import derive_rng, hash_sources
from hftlib.features.scaling import RobustScaler
from hftlib.sessions.dataset import Batch
from hftlib.sessions.observation import FEATURE_NAMES

__all__ = [
    "SETTINGS",
    "BCSettings",
    "CQLSettings",
    "IQLSettings",
    "TrainedOffline",
    "TransitionSource",
    "fit_inputs",
    "train_offline",
]
logger = logging.getLogger(__name__)

SCALING_ROWS = 100_000  # of the training data, evenly spaced, to which the scaling is fitted
SETTINGS: dict[str, type[OfflineSettings]] = {
    kind.algo: kind for kind in (BCSettings, IQLSettings, CQLSettings)
}


class TransitionSource(Protocol):
    """What is learnt from, as `sessions.dataset.TransitionDataset`."""

    def __len__(self) -> int: ...

    def batch(self, index: npt.NDArray[np.int64]) -> Batch:
        """The transitions of these numbers, in that order."""


class TrainedOffline(NamedTuple):
    """What a training gives.

    curve : points (update, measure, value) in the order of the training
        Means of the losses and of "left_out", the share of transitions whose action is not
        allowed, over the updates since the point before.
    """

    policy: OfflinePolicy
    curve: list[tuple[int, str, float]]


def train_offline(
    source: TransitionSource,
    settings: OfflineSettings,
    seed: int,
    *,
    scratch: Path | None = None,
    fingerprint: str = "",
) -> TrainedOffline:
    """Train a policy on recorded transitions.

    Parameters
    ----------
    source : TransitionSource
        Training games only; the scaling of the inputs is fitted to them too.
    settings : BCSettings, IQLSettings or CQLSettings
        Their kind is the algorithm.
    seed : int
        Fixes initial weights and draws of transitions.
    scratch : folder, optional
        Holds the last checkpoint; a later call with the same arguments and the same code goes on
        from there.
    fingerprint : str
        Tells sources apart for the checkpoint, such as a hash of the dataset's manifest.

    Raises
    ------
    ValueError
        If the source is empty.
    FloatingPointError
        If a weight becomes nan or infinite; names the update.
    """
    torch.set_num_threads(1)  # more lose time on layers this small
    if len(source) == 0:
        raise ValueError("the source has no transitions; give it training games")
    learner = make_learner(settings, seed)
    optimiser = torch.optim.Adam(
        [x for x in learner.parameters() if x.requires_grad], settings.learning_rate, fused=True
    )
    scaler = fit_inputs(source)
    rng = derive_rng(seed, "offline", "draws")
    n_updates = settings.n_updates
    due = set(np.linspace(n_updates, 0, settings.n_evaluations, endpoint=False).round().tolist())
    curve: list[tuple[int, str, float]] = []
    first, path = 0, None
    origin = {"algo": settings.algo, "settings": asdict(settings), "seed": seed}
    about = origin | {
        "fingerprint": fingerprint,
        "n_transitions": len(source),
        "code": hash_sources(Path(__file__).parents[1]),
        "torch": torch.__version__,
    }
    if scratch is not None:
        path = name_checkpoint(scratch, about)
        if path.exists():
            saved = load_checkpoint(path, about)
            first, curve = saved["update"], saved["curve"]
            rng.bit_generator.state = saved["rng"]
            learner.load_state_dict(saved["learner"])
            optimiser.load_state_dict(saved["optimiser"])
            logger.info("resumed at update %d", first)

    totals: dict[str, float] = defaultdict(float)  # since the last point of the curve
    for update in range(first + 1, n_updates + 1):
        index = rng.integers(len(source), size=settings.batch_size)
        sample = make_sample(source.batch(index), scaler)
        losses = learner.find_losses(sample)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for network in learner.children():
            nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
        optimiser.step()
        learner.follow()
        for name, loss in losses.items():
            totals[name] += loss.item()
        totals["left_out"] += 1 - sample.weights.mean().item()

        if update in due:
            if not all(bool(x.isfinite().all()) for x in learner.parameters()):
                raise FloatingPointError(
                    f"training diverged: a weight is not finite at update {update}; lower "
                    f"learning_rate or reward_scale. Last good checkpoint: {path}"
                )
            last = max((point[0] for point in curve), default=0)
            measures = {name: total / (update - last) for name, total in totals.items()}
            totals.clear()
            curve += [(update, name, value) for name, value in measures.items()]
            shown = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
            logger.info("update %d of %d: %s", update, n_updates, shown)
            if path is not None:
                state = {"update": update, "curve": curve, "rng": rng.bit_generator.state}
                state |= {"learner": learner.state_dict(), "optimiser": optimiser.state_dict()}
                save_checkpoint(path, about, state)
    return TrainedOffline(OfflinePolicy(learner.actor, scaler, origin), curve)


def fit_inputs(source: TransitionSource) -> RobustScaler:
    """Scaling of the features by the source's medians and interquartile ranges.

    Of more than `SCALING_ROWS` transitions as many are read, evenly spaced. The game's name is
    taken for 0.
    """
    index = np.linspace(0, len(source) - 1, min(len(source), SCALING_ROWS)).astype(np.int64)
    observations = source.batch(index).observations.copy()
    observations[:, GAME_ID] = 0.0
    return RobustScaler.fit(observations, FEATURE_NAMES, allow_ties=True)


def make_sample(transitions: Batch, scaler: RobustScaler) -> Sample:
    """Transitions as the learners take them."""
    valid = valid_actions(transitions.observations)
    actions = transitions.actions[:, None]
    return Sample(
        torch.from_numpy(scale_observations(scaler, transitions.observations)),
        torch.from_numpy(actions),
        torch.from_numpy(transitions.rewards.astype(np.float32)),
        torch.from_numpy(scale_observations(scaler, transitions.next_observations)),
        torch.from_numpy((~transitions.terminated).astype(np.float32)),
        torch.from_numpy(valid),
        torch.from_numpy(valid_actions(transitions.next_observations)),
        torch.from_numpy(np.take_along_axis(valid, actions, axis=1)[:, 0].astype(np.float32)),
    )
