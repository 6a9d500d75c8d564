"""The graphs of an artefact: checked, opened on one thread, and asked for forecasts."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx.external_data_helper import uses_external_data

from hftlib.features import advice
from hftlib.models.examples import TERMS, ExampleError, Examples

# As `advice.COLUMNS`: what the forecaster's graph calls them.
OF_FORECASTER = ("variance_mean", "variance_sd", "return_mean", "return_sd", "up_probability")


class GraphError(ValueError):
    """Bytes that are no graph, or not the one expected."""


def check_graph(content: bytes) -> None:
    """Refuse what is no ONNX graph, and one that would have further files read.

    Raises
    ------
    GraphError
    """
    try:
        graph = onnx.load_model_from_string(content)
    except Exception as fault:  # protobuf's own class, which it does not export
        raise GraphError(f"it is no ONNX graph ({fault}); export it anew") from None
    if _reads_files(graph.graph):
        raise GraphError("it keeps weights in other files; export it as one file")


def _reads_files(graph: onnx.GraphProto) -> bool:
    """Whether a tensor of a graph, or of a graph inside it, lies in a file of its own."""
    tensors, inside = list(graph.initializer), []
    for attribute in (a for node in graph.node for a in node.attribute):
        tensors += [attribute.t, *attribute.tensors]
        inside += [attribute.g, *attribute.graphs]
    return any(map(uses_external_data, tensors)) or any(map(_reads_files, inside))


class Graph:
    """A graph ready to run.

    Parameters
    ----------
    content : bytes of an ONNX file
    inputs : mapping of name to shape without the first axis, which is any number
    outputs : sequence of str
        Those that `run` gives, in this order.

    Raises
    ------
    GraphError
        If it takes or gives something else.
    """

    def __init__(
        self, content: bytes, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as fault:  # onnxruntime's classes have no public base
            raise GraphError(f"a graph cannot be loaded ({fault}); export it anew") from fault
        takes = {entry.name: list(entry.shape[1:]) for entry in self._session.get_inputs()}
        gives = {entry.name for entry in self._session.get_outputs()}
        if (
            takes != {name: list(shape) for name, shape in inputs.items()}
            or not {*outputs} <= gives
        ):
            raise GraphError(
                f"a graph takes {takes} and gives {sorted(gives)}, the manifest says "
                f"{dict(inputs)} and {sorted(outputs)}; export both graphs of one training"
            )
        self._outputs = list(outputs)

    def run(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs for float32 inputs by name."""
        answers: list[np.ndarray] = self._session.run(self._outputs, inputs)
        return answers


def open_forecaster(content: bytes, window: int, channels: Sequence[str]) -> Graph:
    """The graph of `models.export`.

    Raises
    ------
    GraphError
        If it is another one, or the channels do not begin with `TERMS`.
    """
    if tuple(channels[: len(TERMS)]) != TERMS:
        raise GraphError(f"the forecaster's channels begin with {channels[:6]}, not with {TERMS}")
    shapes = {"windows": [window, len(channels)], "terms": [len(TERMS)]}
    return Graph(content, shapes, OF_FORECASTER)


def forecast_bars(
    graph: Graph, bars: pd.DataFrame, features: pd.DataFrame, window: int, first: int
) -> pd.DataFrame:
    """Forecasts of bars from row `first` on that end a whole window.

    One window at a time, so that a forecast does not depend on what else is asked.

    Parameters
    ----------
    bars : frame as `schema.BARS` of one symbol, all of its history
    features : frame as from `compute_features(bars)`, with the forecaster's channels alone

    Returns
    -------
    frame with columns symbol, ts and those of `advice.COLUMNS`
    """
    columns: dict[str, list[float]] = {name: [] for name in advice.COLUMNS}
    try:
        examples = Examples.from_frames(bars, features, [bars["symbol"].iloc[0]], window)
        ends = examples.ends[examples.ends >= first]
    except ExampleError:  # no window yet; the policy is told that there is no forecast
        ends = np.empty(0, dtype=np.int64)
    for end in ends:
        windows, terms, _ = examples.batch(np.array([end]))
        answers = graph.run(windows=windows, terms=terms)
        for values, answer in zip(columns.values(), answers, strict=True):
            values.append(float(answer[0]))
    return bars.loc[ends, ["symbol", "ts"]].assign(**columns)
