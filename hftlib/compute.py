"""Parallel work and seeding.

Independent tasks (seeds, folds, symbols) run in joblib's processes or on ray
(`backends`), one thread each: more threads than cores slow training down, and
the number of threads changes the last digits of a weight.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from numba import config, njit
from numba.core.caching import IndexDataCacheFile

from hftlib import backends

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., object])

# One code path of the numerical libraries on every x86-64 processor that has AVX2, set
# before they load. SSE would reach older ones, and trainings would take 1.3 to 2.3 times as long.
DETERMINISTIC_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def compile_kernel(function: Function) -> Function:
    """Compile a function that allocates nothing, for small kernels that call each other.

    numba counts the references to every array that passes between compiled
    functions; leaving that out makes the matching engine three times as fast.
    A function that allocates an array would then leak it: numba refuses it. The
    interpreter's lock is released, so that threads can run kernels side by side.
    The machine code is kept on disk, see `open_kernel_cache`.
    """
    compiled: Function = njit(_nrt=False, nogil=True, cache=True)(function)
    return compiled


def inline_kernel(function: Function) -> Function:
    """Compile a part of a kernel that the compiler must put into the place of each call.

    For parts that take arrays: numba passes each array as seven numbers, and LLVM
    leaves calls of parts it holds to be large. Spelt out, a step of the bar-trading
    environment takes a third of the time.
    """
    compiled: Function = njit(_nrt=False, nogil=True, cache=True, forceinline=True)(function)
    return compiled


def open_kernel_cache(package: Path) -> Path:
    """Folder of the compiled kernels, `.cache/kernels/<hash of the sources>` beside the package.

    numba looks at the file of a kernel only, and would go on running the old
    version of another that it calls. A folder for each state of the sources
    cannot be stale. Those unused for a day are deleted.
    """
    cache = package.parent / ".cache/kernels"
    folder = cache / hash_sources(package)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for other in cache.iterdir():
            if time.time() - other.stat().st_mtime > 86_400:
                shutil.rmtree(other, ignore_errors=True)
    except OSError:  # a package in a place that cannot be written to
        return Path(tempfile.gettempdir()) / f"hftlib-kernels-{os.getuid()}" / folder.name
    return folder


def save_one_at_a_time(save: Callable[..., None]) -> Callable[..., None]:
    """numba's way to write a kernel to disk, by one process at a time.

    It looks for a free number, writes the index and then the code. Two processes that compile one
    function for different types could take the same number, and the index would point to
    the other's code.
    """

    @functools.wraps(save)
    def locked(self: Any, key: Any, data: Any) -> None:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that cannot be written to
                file = stack.enter_context((Path(config.CACHE_DIR) / "lock").open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)
            save(self, key, data)

    return locked


def derive_seed(root: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for one named purpose, independent of all others."""
    key = [zlib.crc32(str(name).encode()) for name in names]
    state = np.random.SeedSequence(root, spawn_key=key).generate_state(1, dtype=np.uint32)
    return int(state[0] >> 1)


def derive_rng(root: int, *names: str | int) -> np.random.Generator:
    """A generator for one named purpose."""
    return np.random.default_rng(derive_seed(root, *names))


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], label: str
) -> list[Result]:
    """`[function(item) for item in items]` in one process per core, with a line per result.

    Results are in the order of `items` and depend neither on the number of cores nor on the
    backend (`backends.use_backend`), for a process that itself runs in `DETERMINISTIC_ENVIRONMENT`.
    An exception in a task stops the rest and is raised here. `LOKY_MAX_CPU_COUNT` in the
    environment bounds the processes on this machine; at 1 all runs in this one, or with ray in one.
    """
    backend, address = backends.chosen_backend()

    def report(n_done: int) -> None:
        print(f"{label}: {n_done} of {len(items)} done", flush=True)  # noqa: T201

    if backend == "ray" and len(items):
        return backends.run_on_ray(
            function,
            items,
            report,
            address=address,
            n_workers=cpu_count(),
            environment=DETERMINISTIC_ENVIRONMENT
            | {"NUMBA_NUM_THREADS": "1", "NUMBA_CACHE_DIR": config.CACHE_DIR},
        )
    n_workers = max(1, min(len(items), cpu_count()))
    results: list[Result] = []
    with parallel_config(backend="loky", inner_max_num_threads=1):
        tasks = (delayed(function)(item) for item in items)
        for result in Parallel(n_jobs=n_workers, return_as="generator")(tasks):
            results.append(result)
            report(len(results))
    return results


def hash_sources(folder: Path) -> str:
    """Hash of every Python file below `folder`, so that scratch files die with an edit."""
    digest = 0
    for file in sorted(folder.rglob("*.py")):
        digest = zlib.crc32(file.read_bytes(), digest)
    return f"{digest:08x}"


# Before the first kernel; the variable is for the processes that this one starts.
config.CACHE_DIR = str(open_kernel_cache(Path(__file__).parent))
os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR
IndexDataCacheFile.save = save_one_at_a_time(IndexDataCacheFile.save)
