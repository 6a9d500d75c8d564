"""A service in a second process: started, heard when it serves, ended by its own id."""

import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

PACKAGE_FOLDER = Path(__file__).parents[2]
START_S, STOP_S = 120.0, 10.0
N_LINES = 1000  # of the log that are kept


class StartError(RuntimeError):
    """A process that did not begin to serve: what it said last."""


class RunningService(NamedTuple):
    """A service in a process of its own; `lines` are the newest of its log, while it runs."""

    address: str
    process: subprocess.Popen[str]
    lines: deque[str]


@contextlib.contextmanager
def start_service(
    folder: Path, environment: Mapping[str, str], module: str = "hftlib.live.service"
) -> Iterator[RunningService]:
    """Run a module that serves, until the block ends.

    Parameters
    ----------
    folder : Path
        In which it runs.
    environment : mapping
        On top of this process's own; `PORT` is a free one unless it is named.

    Raises
    ------
    StartError
        If it ends, or says nothing for two minutes, before it serves.
    """
    path = os.pathsep.join(filter(None, [str(PACKAGE_FOLDER), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env={**os.environ, "PYTHONPATH": path, "PORT": "0", **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: deque[str] = deque(maxlen=N_LINES)
    address: list[str] = []
    has_said = threading.Event()  # where it serves, or its last word

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if not address and '"event":"serving"' in line:
                address.append(orjson.loads(line)["address"])
                has_said.set()
        has_said.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        has_said.wait(START_S)
        if not address:
            said = "".join(list(lines)[-5:]).strip() or "it said nothing"
            raise StartError(f"{module} does not serve: {said}")
        yield RunningService(address[0], process, lines)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
