"""Where the tasks of `compute.map_parallel` run: joblib's processes, or ray.

`params.yaml: compute` names the backend, `config.load()` hands the choice to
`use_backend`, and a call deep in the library follows it without an argument.
Each task gets a copy of its arguments, one thread and the same numerical code
path wherever it runs, so that results are equal bit for bit. Hence no stage has
the section among its params or this file among its dependencies: another
backend makes no result stale.

ray without an address is a runtime on this machine, one for each process of
ours; it listens on 127.0.0.1 only and ends with the process, and its logs stay
in /tmp/ray. An address is the head of a running cluster. This machine must be
one of its nodes, and each node must see the project and its environment under
the same paths (a shared file system, one installation): tasks run in our
working directory and import the project from our folder. `ray start --head` on
one machine and `ray start --address=<head>:6379` on the others make a cluster;
it has no password and runs the code of whoever reaches it, so keep it in a
private network.

Source: Moritz et al. (2018), Ray: a distributed framework for emerging AI
applications, OSDI.
"""

import contextlib
import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = ("loky", "ray")
ANSWER_S = 5.0  # for a first answer from the address of a cluster
CANCEL_S = 10.0  # for the processes of cancelled tasks to end
# No report to the makers of ray; what tasks print is shown whole and without colours.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0", "RAY_DEDUP_LOGS": "0"}


class Backend(NamedTuple):
    """A choice of `use_backend`."""

    name: str = "loky"
    address: str = ""


_chosen = Backend()


def use_backend(name: str, address: str = "") -> None:
    """Run the tasks of this process's `compute.map_parallel` on `name` from now on.

    Parameters
    ----------
    name : str
        loky or ray.
    address : str
        The head of a ray cluster, host:port; empty for a runtime on this machine. loky has none
        and ignores it.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    global _chosen
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(BACKENDS)}")
    choice = Backend(name, address if name == "ray" else "")
    ray = sys.modules.get("ray")
    if choice != _chosen and ray is not None:
        ray.shutdown()
    _chosen = choice


def chosen_backend() -> Backend:
    """What `use_backend` was given last; loky at first."""
    return _chosen


def run_on_ray(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    report: Callable[[int], None],
    *,
    address: str,
    n_workers: int,
    environment: Mapping[str, str],
) -> list[Result]:
    """`[function(item) for item in items]` as ray's tasks, one core each.

    A task is not tried again when its process dies.

    Parameters
    ----------
    function : picklable by value or by name
        Results are picklable too.
    report : function of the number of finished tasks
        Called after each.
    address : str
        As in `use_backend`.
    n_workers : int
        Processes of a runtime on this machine; a cluster has its own number.
    environment : mapping
        Variables that are set in each worker before it imports anything.

    Raises
    ------
    ImportError
        If ray is not installed.
    ConnectionError
        If no cluster answers at `address`; known after 5 s where nothing listens, after 45 s
        where something else does.
    Exception
        The first of a task, of its own type; what ray tells of it, with the traceback of the
        worker, is the cause. The runtime, or our part in the cluster, then ends with all other
        tasks, and the next call begins another; at Ctrl-C they are cancelled.
    """
    ray = _connect(address, n_workers, environment)
    call = ray.remote(num_cpus=1, max_retries=0)(_call)
    # As bytes: ray would hand over arrays that nobody may write to.
    shared, folder = ray.put(ray.cloudpickle.dumps(function)), str(Path.cwd())
    running = [call.remote(shared, ray.cloudpickle.dumps(item), folder) for item in items]
    positions = {task: position for position, task in enumerate(running)}
    results: dict[int, Result] = {}
    try:
        while running:
            (task,), running = ray.wait(running)
            results[positions[task]] = pickle.loads(ray.get(task))
            report(len(results))
    except KeyboardInterrupt:  # a kernel or process that ends takes the runtime along
        for task in running:
            ray.cancel(task, force=True)
        if running:
            ray.wait(running, num_returns=len(running), timeout=CANCEL_S)
        raise
    except ray.exceptions.RayError as error:
        ray.shutdown()  # ray.cancel can miss a task that is just being started
        if isinstance(error, ray.exceptions.RayTaskError):
            raise error.cause from error
        raise
    return [results[position] for position in range(len(items))]


def _call(function: bytes, item: bytes, folder: str) -> bytes:
    """One task, in a worker."""
    import ray

    os.chdir(folder)
    result: bytes = ray.cloudpickle.dumps(pickle.loads(function)(pickle.loads(item)))
    return result


def _connect(address: str, n_workers: int, environment: Mapping[str, str]) -> Any:
    """The package ray, after it has a runtime."""
    os.environ.update(QUIET)
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Jupyter without ipywidgets
            import ray
            from ray._private import ray_constants
    except ImportError as error:
        raise ImportError(
            f"ray is not installed ({error}); pip install -e '.[cluster]', or set "
            "compute.backend in params.yaml to loky"
        ) from error
    if ray.is_initialized():
        return ray
    found = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    variables = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, found))}
    options = {"runtime_env": {"env_vars": variables}, "logging_level": logging.ERROR}
    if address:
        with _one_attempt(address):
            ray.init(address, **options)
        return ray
    ray_constants.ENABLE_RAY_CLUSTER = False  # listens on 127.0.0.1, as it always does on macOS
    try:
        ray.init("local", num_cpus=n_workers, include_dashboard=False, **options)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = True
    _end_before_kernel(ray)
    return ray


def _end_before_kernel(ray: Any) -> None:
    """In Jupyter, end the runtime first: a kernel would wait for processes that only ray reaps."""
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython.get_ipython() if ipython else None, "kernel", None)
    if kernel is None:
        return
    # a cell that is at work then may end by SystemExit, about which IPython warns
    warnings.filterwarnings("ignore", "To exit: use")
    do_shutdown = kernel.do_shutdown

    def shut_down(restart: bool) -> Any:
        ray.shutdown()
        return do_shutdown(restart)

    kernel.do_shutdown = shut_down


@contextlib.contextmanager
def _one_attempt(address: str) -> Iterator[None]:
    """Bound the time that ray takes to find that there is no cluster: 14 minutes by itself."""
    name = "RAY_gcs_server_port_wait_time_s"  # a number of attempts in truth, of 40 s each
    before = os.environ.get(name)
    try:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
        os.environ[name] = "1"
        yield
    except (OSError, ValueError) as error:  # ray's own errors are among OSError's
        raise ConnectionError(
            f"no ray cluster answers at {address!r} ({error}); compute.address in params.yaml is "
            "host:port of its head as `ray start --head` printed it there, or empty for a runtime "
            "on this machine"
        ) from error
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
