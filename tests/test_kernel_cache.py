"""Kernels on disk: processes that compile one function for different types do not mix them up."""

import subprocess
import sys
import textwrap

from tests.conftest import ROOT

WORKER = """
import sys
import numpy as np
from hftlib import compute

compute.config.CACHE_DIR = sys.argv[2]
sys.path.insert(0, sys.argv[2])
import kernels

size = int(sys.argv[1])
print(kernels.first((0.5,) * size))
"""
KERNELS = """
from numba import njit


@njit(cache=True)
def first(values):
    return len(values)
"""


def start(size, folder):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(size), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_process_runs_the_code_of_its_own_types(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)
    sizes = [1, 2, 3, 4]
    for _ in range(2):  # compiled side by side, then read
        running = [start(size, tmp_path) for size in sizes]
        found = [int(process.communicate(timeout=120)[0]) for process in running]
        assert found == sizes
    (index,) = tmp_path.rglob("kernels.first*.nbi")
    assert len(list(index.parent.glob("kernels.first*.nbc"))) == len(sizes)
