"""Reproducible research on reinforcement learning for high-frequency trading.

The numbered notebooks tell the story and call this package. It is layered:
a file imports only from its own layer or from layers to the left.

    core < market < data < sessions < features < portfolio < envs < models
         < agents < evaluation < live

`core` is the top-level files beside this one.
"""

import os

__version__ = "0.1.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it when it is imported
