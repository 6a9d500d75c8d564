"""Rebuilds what is out of date, two stages at a time: `python -m hftlib.pipeline`.

`dvc repro` runs one stage after another, and many keep only one core busy. Here
a stage starts as soon as those it depends on are done, through `dvc repro
--single-item`: DVC decides whether it has to run, and records what came of it.
DVC locks each path that a stage reads or writes and `dvc.lock` while it is
written, so that the outcome is that of `dvc repro`, which does the same alone.

Each line that a stage prints begins with its name. After a failure no further
stage starts, and those that run are let finish; Ctrl-C stops all, a second one
kills. Times that a stage measures of itself are those on a machine that does
something else too.
"""

import logging
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from hftlib.paths import project_root

N_AT_ONCE = 2  # each has a process of some 0.6 GB for every core, and fills all cores at times
N_SHOWN = 12  # last lines of a failed stage
READ_ON_S = 1.0  # after the end of a stage, while something that it left still has its output open
COMMAND = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
# DVC's advice to push and to commit, which it repeats after every stage.
ADVICE = ("Use `dvc push`", "To track the changes", "To enable auto", "git add", "dvc config core")
_STDOUT = threading.Lock()

Graph = dict[str, frozenset[str]]


def plan_stages(root: Path) -> Graph:
    """Stages that are out of date or come after one that is, with those of them each waits for.

    Those after may turn out to be up to date, where what they read was rebuilt as it was.
    What reads a changed file of `dvc add`, which itself has nothing to run, is out of date too.
    """
    from dvc.repo import Repo

    with Repo(str(root), _wait_for_lock=True) as repo:
        stages = repo.index.graph
        names = {stage: getattr(stage, "name", stage.addressing) for stage in stages}
        graph = {names[stage]: {names[s] for s in stages.successors(stage)} for stage in stages}
        status = repo.status()
        changed = {name for stage, name in names.items() if stage.addressing in status}
        with_command = {name for stage, name in names.items() if stage.cmd}
    due = select_stages(graph, changed)
    return {name: needed & with_command for name, needed in due.items() if name in with_command}


def select_stages(graph: Mapping[str, Collection[str]], changed: Collection[str]) -> Graph:
    """The part of a graph that is made of `changed` and of what depends on it.

    Parameters
    ----------
    graph : mapping of stage to those it depends on
        Without cycles; DVC has seen to that.
    """

    @cache
    def is_due(name: str) -> bool:
        return name in changed or any(map(is_due, graph[name]))

    return {
        name: frozenset(filter(is_due, needed)) for name, needed in graph.items() if is_due(name)
    }


def order_stages(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Stages with the longest chain of others behind them first, otherwise as in the graph."""

    @cache
    def n_behind(name: str) -> int:
        return max((1 + n_behind(other) for other in graph if name in graph[other]), default=0)

    return sorted(graph, key=n_behind, reverse=True)


def run_stages(
    graph: Mapping[str, Collection[str]], run: Callable[[str], bool], n_at_once: int = N_AT_ONCE
) -> list[str]:
    """Call `run` for every stage, after those it waits for; returns the failed ones.

    Parameters
    ----------
    graph : mapping of stage to those it waits for
    run : function of a stage
        Whether it went well; called in up to `n_at_once` threads. After a False no further
        stage starts.
    """
    left, done, failed = order_stages(graph), set[str](), list[str]()
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(n_at_once) as pool:
        while True:
            ready = [name for name in left if done.issuperset(graph[name])] if not failed else []
            for name in ready[: n_at_once - len(running)]:
                left.remove(name)
                running[pool.submit(run, name)] = name
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                if future.result():
                    done.add(name)
                else:
                    failed.append(name)


class Runner:
    """Runs stages of the project in the folder `root` as processes of their own, and ends them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.width = 0  # of the names before each line
        self.last_lines: dict[str, list[str]] = {}  # of each stage, `N_SHOWN` at most
        self.signals: list[int] = []  # those received; after one, no stage starts
        self._running: set[subprocess.Popen[bytes]] = set()
        self._descendants: set[psutil.Process] = set()

    def run(self, name: str) -> bool:
        """`dvc repro --single-item` of a stage; whether it went well. False if stopped before."""
        if self.signals:
            return False
        lines = self.last_lines[name] = []
        with subprocess.Popen(
            [*COMMAND, name],
            cwd=self.root,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,  # signals come from `stop` alone
        ) as process:
            self._running.add(process)
            if self.signals:  # it came while the process was started
                self._end(process)
            for text in map(str.rstrip, read_lines(process)):
                if text and not text.strip().startswith(ADVICE):
                    lines[:] = [*lines[1 - N_SHOWN :], text]
                    _say(f"{name:<{self.width}} | {text}")
        self._running.discard(process)
        return process.returncode == 0

    def listen(self) -> None:
        """Let `stop` handle the signals that end a program, but for those it was told to ignore."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as it is under nohup
                signal.signal(number, self.stop)
            elif number == signal.SIGINT:  # stages would inherit it, and then not heed `stop`
                signal.signal(number, lambda *_: None)

    def stop(self, number: int, _: object = None) -> None:
        """Interrupt all that runs, at the first signal; kill it at the second Ctrl-C.

        No other second signal does anything: make may pass SIGTERM on that came here too,
        and a kill while DVC writes its file of locks leaves half of it.

        Raises
        ------
        KeyboardInterrupt
            At the second Ctrl-C if no stage runs, which leaves planning.
        """
        self.signals.append(number)
        running = list(self._running)
        if len(self.signals) == 1 or self._is_kill():
            for process in running:
                self._end(process)
        if self._is_kill():
            for descendant in list(self._descendants):
                with suppress(psutil.NoSuchProcess):
                    descendant.kill()
            if not running:
                raise KeyboardInterrupt

    def _is_kill(self) -> bool:
        return self.signals.count(signal.SIGINT) > 1

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Signal the group of a stage, and note its descendants: a kernel has a group of its own.

        They are noted at the first signal too: once their parent has ended, nothing leads to them.
        """
        with suppress(psutil.NoSuchProcess):
            self._descendants.update(psutil.Process(process.pid).children(recursive=True))
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL if self._is_kill() else signal.SIGINT)


def read_lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    """What a process prints, until its output is closed or `READ_ON_S` after its end."""
    pipe = process.stdout
    assert pipe is not None, "it is a pipe"
    rest, last_s = b"", math.inf
    while time.monotonic() < last_s:
        if select.select([pipe], [], [], 0.1)[0]:
            chunk = pipe.read(1 << 16)  # what is there: it is not buffered
            if not chunk:
                break
            *lines, rest = re.split(rb"[\r\n]", rest + chunk)
            yield from (line.decode(errors="replace") for line in lines)
        if last_s == math.inf and process.poll() is not None:
            last_s = time.monotonic() + READ_ON_S
    yield rest.decode(errors="replace")


def reproduce(root: Path) -> int:
    """Rebuild what is out of date; 0, or 1 after a failure, or 130 when interrupted."""
    started = time.monotonic()
    runner = Runner(root)
    runner.listen()
    from dvc.exceptions import DvcException

    try:
        graph = plan_stages(root)
    except DvcException:  # such as a slip in dvc.yaml
        logging.getLogger("dvc").exception("")  # in the words of its own program, to stderr
        return 1
    if not graph:
        _say("Data and reports are up to date.")
        return 0
    runner.width = max(map(len, graph))
    failed = run_stages(graph, runner.run)
    if failed and runner.signals:
        _say("interrupted; run it again to go on from the last checkpoints")
        return 130
    for name in failed:
        shown = "\n".join(f"  {line}" for line in runner.last_lines[name])
        _say(f"\nerror: stage {name} failed; its last lines:\n{shown}")
    if failed:
        return 1
    _say(f"{len(graph)} stages done in {time.monotonic() - started:.0f} s.")
    return 0


def _say(text: str) -> None:
    with _STDOUT:  # else lines of two stages could share one
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(reproduce(project_root()))
    sys.exit(130)
