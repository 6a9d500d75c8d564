"""Speed of the forecaster: one window at a time, batches, export and training.

The network has the sizes of `params.yaml`, `N_CHANNELS` inputs and random weights.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import N_REPEATS, Result, median_seconds, time_call
from hftlib.config import load
from hftlib.models.examples import TERMS
from hftlib.models.export import ExportedForecaster, export_forecaster
from hftlib.models.forecaster import Ensemble, find_loss, make_forecaster

N_CHANNELS = 85
N_SINGLE = 1_000
BATCH = 256
CEILING_MS = 2.0
TARGET = 1_000


def measure_forecaster() -> list[Result]:
    """The exported ensemble on one thread, then a member's training."""
    torch.set_num_threads(1)
    section = load().forecaster
    generator = torch.Generator().manual_seed(0)
    members = [
        make_forecaster(N_CHANNELS, section.filters, section.n_hidden, generator)
        for _ in range(section.n_members)
    ]
    windows = torch.randn(BATCH, section.window_bars, N_CHANNELS, generator=generator)
    terms = torch.randn(BATCH, len(TERMS), generator=generator)
    outcomes = torch.randn(BATCH, 2, generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forecaster.onnx"
        seconds = time_call(lambda: export_forecaster(path, Ensemble(members), section.window_bars))
        exported = ExportedForecaster(path)
    many, own = windows.numpy(), terms.numpy()

    def find_tail_ms() -> tuple[float, float]:
        times = [time_call(lambda: exported.forecast(many[:1], own[:1])) for _ in range(N_SINGLE)]
        return tuple(1_000 * np.quantile(times, [0.5, 0.99]))

    find_tail_ms()
    half, tail = np.median([find_tail_ms() for _ in range(N_REPEATS)], axis=0)
    batch = median_seconds(lambda: exported.forecast(many, own))
    optimizer = torch.optim.AdamW(members[0].parameters())

    def learn() -> None:
        outputs = members[0](windows, terms, section.dropout, generator)
        loss = find_loss(outputs, outcomes, section.return_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return [
        Result("forecaster_window_p50", float(half), "ms"),
        Result("forecaster_window_p99", float(tail), "ms", ceiling=CEILING_MS),
        Result("forecaster_batch", BATCH / batch, "predictions/s", target=TARGET),
        Result("forecaster_training", BATCH / median_seconds(learn), "windows/s"),
        Result("forecaster_export", seconds, "s"),
    ]
