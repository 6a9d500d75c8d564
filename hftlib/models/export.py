"""Forecasters as ONNX files: one file holds scaling, weights and all members.

onnxruntime needs no torch and answers a single window several times as fast.
The graph takes any number of windows at a time.
"""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from hftlib.models.examples import TERMS, Float32Array
from hftlib.models.forecaster import Ensemble, Forecaster, Outputs
from hftlib.paths import replace_file

INPUTS = ("windows", "terms")


def export_forecaster(path: Path, network: Forecaster | Ensemble, window: int) -> None:
    """Write an ONNX file.

    Inputs are `windows`, float32 of shape (n, window, n_channels), and `terms`, (n, 6), both
    unscaled; outputs are named as the fields of `Outputs`.
    """
    first = network.members[0] if isinstance(network, Ensemble) else network
    n_channels = len(first.centre)  # type: ignore[arg-type]
    example = (torch.zeros(2, window, n_channels), torch.zeros(2, len(TERMS)))
    names = (*INPUTS, *Outputs._fields)
    # The older exporter: .3 s rather than 7 s, and equal weights give equal bytes.
    with warnings.catch_warnings(), replace_file(path) as temporary:
        warnings.simplefilter("ignore")  # deprecation, and sizes that are constants here
        torch.onnx.export(
            network.eval(),
            example,
            temporary,
            input_names=INPUTS,
            output_names=Outputs._fields,
            dynamic_axes={name: {0: "n"} for name in names},
            external_data=False,
            dynamo=False,
        )


class ExportedForecaster:
    """A forecaster read from an ONNX file; runs on one thread."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        _, window, n_channels = self._session.get_inputs()[0].shape
        self.window, self.n_channels = int(window), int(n_channels)

    def forecast(self, windows: Float32Array, terms: Float32Array) -> dict[str, Float32Array]:
        """Outputs by name, each of shape (n,), attention (n, n_states).

        Raises
        ------
        ValueError
            If the windows are not of shape (n, window, n_channels).
        """
        if windows.shape[1:] != (self.window, self.n_channels):
            raise ValueError(
                f"windows have shape {windows.shape}; expected (n, {self.window}, "
                f"{self.n_channels}): the forecaster was trained on other features"
            )
        values = self._session.run(None, {"windows": windows, "terms": terms})
        return dict(zip(Outputs._fields, map(np.asarray, values), strict=True))
