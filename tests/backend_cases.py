"""Tasks for `tests.test_backends`, apart from it: each worker imports this file only."""

import os
import time
from pathlib import Path

import numpy as np

from hftlib.compute import DETERMINISTIC_ENVIRONMENT, compile_kernel, derive_seed

WAIT_S = 60  # for another process, on a machine that does much else


@compile_kernel
def iterate(x, orbit):
    """The logistic map in its chaos: a difference in the last digit grows to order one."""
    for k in range(len(orbit)):
        x = 3.99 * x * (1.0 - x)
        orbit[k] = x + np.log1p(np.exp(-x))


def descend(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An orbit, and the weights after steps of gradient descent by matrix products."""
    import torch

    orbit = np.empty(500)
    iterate(derive_seed(seed, "start") / 2**31, orbit)
    rng = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    inputs, targets = torch.randn(2, 384, 96, generator=rng)
    weights = torch.nn.Parameter(torch.randn(96, 96, generator=rng))
    optimiser = torch.optim.Adam([weights], lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        (torch.tanh(inputs @ weights) - targets).square().mean().backward()
        optimiser.step()
    return orbit, weights.detach().numpy()


def wait_for(file: Path) -> bool:
    """Whether a file is there before the time is out."""
    end = time.monotonic() + WAIT_S
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return file.exists()


def descend_together(folder: Path, number: int) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """`descend`, and the node, after the task of the other number is seen to run as well."""
    import ray

    (folder / f"{number}").touch()
    assert wait_for(folder / f"{1 - number}"), "the tasks did not run at the same time"
    return ray.get_runtime_context().get_node_id(), descend(number)


def look_around(array: np.ndarray) -> dict[str, object]:
    import torch

    array += 1  # our own copy
    return {
        "threads": torch.get_num_threads(),
        "environment": {name: os.environ[name] for name in DETERMINISTIC_ENVIRONMENT},
        "packages": os.environ["PYTHONPATH"].split(os.pathsep)[0],
        "folder": Path.cwd(),
        "array": array,
    }


class TaskError(Exception):
    """An error of ours."""


def fail_while_others_run(folder: Path, number: int) -> None:
    (folder / f"{number}").write_text(str(os.getpid()))
    if number == 0:
        wait_for(folder / "1")
        raise TaskError("number 0")
    time.sleep(10 * WAIT_S)


def end_last_if_first(folder: Path, number: int) -> int:
    if number == 0:
        wait_for(folder / "1")
    (folder / f"{number}").touch()
    return number


def identify(_: int) -> int:
    return os.getpid()
