"""Stages side by side: the order, what a failure and a signal do, and that DVC loses nothing."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib import pipeline
from hftlib.pipeline import Runner, order_stages, plan_stages, run_stages, select_stages
from tests.conftest import ROOT

DIAMOND = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "alone": set()}


@st.composite
def graphs(draw) -> dict[str, set[str]]:
    n = draw(st.integers(1, 12))
    return {
        f"s{k}": {f"s{j}" for j in draw(st.sets(st.integers(0, max(k - 1, 0)))) if j < k}
        for k in range(n)
    }


def test_what_depends_on_a_change_is_selected_and_nothing_else():
    assert select_stages(DIAMOND, {"b"}) == {"b": frozenset(), "d": {"b"}}
    assert select_stages(DIAMOND, {"a"}) == {k: v for k, v in DIAMOND.items() if k != "alone"}
    assert select_stages(DIAMOND, set()) == {}


def test_the_longest_chain_goes_first():
    assert order_stages(DIAMOND) == ["a", "b", "c", "d", "alone"]
    long = {"short": set(), "x": set(), "y": {"x"}, "z": {"y"}}
    assert order_stages(long) == ["x", "y", "short", "z"]


@settings(max_examples=50)  # of some ten milliseconds each
@given(graphs(), st.integers(1, 4))
def test_every_stage_runs_once_after_those_it_waits_for_and_few_at_once(graph, n_at_once):
    lock, running, ended, most = threading.Lock(), set(), [], 0

    def run(name: str) -> bool:
        nonlocal most
        with lock:
            assert graph[name] <= set(ended)
            running.add(name)
            most = max(most, len(running))
        time.sleep(0.002)  # so that the others, which may start now, do
        with lock:
            running.remove(name)
            ended.append(name)
        return True

    assert run_stages(graph, run, n_at_once) == []
    assert sorted(ended) == sorted(graph)
    assert most <= n_at_once


def test_two_stages_that_do_not_wait_for_each_other_run_together():
    meeting = threading.Barrier(2, timeout=10)  # breaks, and the test fails, if one comes alone

    def run(_: str) -> bool:
        meeting.wait()
        return True

    assert run_stages({"a": set(), "b": set()}, run, 2) == []


def test_after_a_failure_what_runs_is_let_finish_and_no_further_stage_starts():
    failed, started, finished = threading.Event(), [], []

    def run(name: str) -> bool:
        started.append(name)
        if name == "bad":
            failed.set()
            return False
        assert failed.wait(10)
        finished.append(name)
        return True

    graph = {"slow": set(), "bad": set(), "after": {"slow"}, "another": set()}
    assert run_stages(graph, run, 2) == ["bad"]
    assert sorted(started) == ["bad", "slow"]
    assert finished == ["slow"]


# From here on with processes: instead of DVC's, shells, so that a stage's name is its script.
@pytest.fixture
def runner(tmp_path, monkeypatch) -> Runner:
    monkeypatch.setattr(pipeline, "COMMAND", ["sh", "-c"])
    return Runner(tmp_path)


@pytest.fixture
def marker() -> Iterator[str]:
    """Seconds that nobody else sleeps for; those that still do after the test are killed."""
    seconds = f"41{os.getpid()}"
    yield seconds
    for pid in sleeping(seconds):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sleeping(marker: str) -> list[int]:
    pids = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if file.read_bytes().split(b"\0")[:2] == [b"sleep", marker.encode()]:
                pids.append(int(file.parent.name))
    return pids


def wait_until(is_so) -> None:
    limit_s = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < limit_s, "it did not happen within 30 s"
        time.sleep(0.02)


@contextmanager
def running(runner: Runner, script: str) -> Iterator[list[bool]]:
    """A stage in a thread; what it came to is in the list once the block is left."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(runner.run(script)), daemon=True)
    thread.start()
    yield results
    thread.join(20)
    assert not thread.is_alive()


def test_lines_come_whole_without_the_blank_ones_and_the_advice_of_dvc(runner, capsys):
    script = r"printf 'one\r\ntwo\r\n\nUse `dvc push` to\n\303'; printf '\251 \377 end'; exit 3"
    assert not runner.run(script)
    assert runner.last_lines[script] == ["one", "two", "é \N{REPLACEMENT CHARACTER} end"]
    printed = capsys.readouterr().out
    assert printed == "".join(f"{script} | {line}\n" for line in runner.last_lines[script])


def test_only_the_last_lines_are_kept_for_the_report_of_a_failure(runner):
    runner.run("seq 100")
    assert runner.last_lines["seq 100"] == [str(k) for k in range(89, 101)]


def test_a_process_that_a_stage_leaves_behind_does_not_hold_it_up(runner, marker):
    started = time.monotonic()
    with running(runner, f"sleep {marker} & echo done") as results:
        pass
    assert results == [True]
    assert time.monotonic() - started < 10, "the sleep holds the output open"
    assert runner.last_lines[f"sleep {marker} & echo done"] == ["done"]
    assert len(sleeping(marker)) == 1, "it was there all the time"


def test_a_second_interrupt_kills_what_ignores_the_first_even_in_another_session(runner, marker):
    script = f"trap '' INT; setsid sleep {marker} & sleep {marker}"
    with running(runner, script) as results:
        wait_until(lambda: len(sleeping(marker)) == 2)
        assert len({os.getsid(pid) for pid in sleeping(marker)}) == 2
        runner.stop(signal.SIGINT)
        time.sleep(0.2)
        assert len(sleeping(marker)) == 2
        runner.stop(signal.SIGINT)
        wait_until(lambda: not sleeping(marker))
    assert results == [False]


def test_a_second_interrupt_kills_what_the_first_made_an_orphan(runner, marker):
    orphan = f"(trap '' INT; exec setsid sleep {marker}) & sleep {marker}"
    held = "trap '' INT; touch held; while [ ! -e go ]; do sleep 0.05; done"  # another stage
    with running(runner, held) as one, running(runner, orphan) as other:
        wait_until(lambda: len(sleeping(marker)) == 2 and (runner.root / "held").exists())
        runner.stop(signal.SIGINT)
        wait_until(lambda: other == [False])
        assert len(sleeping(marker)) == 1, "its parent has ended"
        runner.stop(signal.SIGINT)
        wait_until(lambda: not sleeping(marker))
    assert one == [False]


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_any_other_second_signal_lets_a_stage_end_in_order(runner, numbers):
    end = "trap 'echo again' INT; touch ending; sleep 0.3; echo in order; exit 1"
    script = f"end() {{ {end}; }}; trap end INT; touch begun; while true; do sleep 0.02; done"
    with running(runner, script) as results:
        wait_until((runner.root / "begun").exists)
        runner.stop(numbers[0])
        wait_until((runner.root / "ending").exists)
        runner.stop(numbers[1])
    assert results == [False]
    assert runner.last_lines[script] == ["in order"]


def test_a_second_interrupt_while_nothing_runs_ends_the_planning(runner):
    runner.stop(signal.SIGINT)
    runner.stop(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        runner.stop(signal.SIGINT)


def test_no_stage_starts_after_a_signal_though_the_one_that_ran_ended_well(runner):
    first = "trap '' INT; touch begun; while [ ! -e go ]; do sleep 0.02; done"
    failed: list[str] = []
    graph = {first: set(), "touch never": {first}, "touch neither": {"touch never"}}
    thread = threading.Thread(target=lambda: failed.extend(run_stages(graph, runner.run, 2)))
    thread.start()
    wait_until((runner.root / "begun").exists)
    runner.stop(signal.SIGINT)
    (runner.root / "go").touch()
    thread.join(20)
    assert failed == ["touch never"]
    assert not (runner.root / "never").exists()


def test_lines_of_two_stages_never_share_one(monkeypatch):
    class SlowOutput:
        text = ""

        def write(self, text: str) -> None:
            for letter in text:
                self.text += letter
                time.sleep(0.0005)  # another thread comes in, if it may

        def flush(self) -> None:
            pass

    output = SlowOutput()
    monkeypatch.setattr(sys, "stdout", output)
    threads = [
        threading.Thread(target=lambda word=word: [pipeline._say(word) for _ in range(20)])
        for word in ("spam", "eggs")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(output.text.splitlines()) == ["eggs"] * 20 + ["spam"] * 20


# From here on with DVC: stages that write a file each.
SHELL = "echo {name} begins; sleep {seconds}; cat {deps} /dev/null > {name}.txt; echo {name} ends"
GRAPH = {"a": [], "b": [], "c": ["a", "b"], "alone": []}


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "seed.txt").write_text("1\n")
    write_stages(tmp_path)
    return tmp_path


def write_stages(folder: Path, **commands: str) -> None:
    stages = {}
    for name, needed in GRAPH.items():
        deps = ["seed.txt", *(f"{other}.txt" for other in needed)]
        command = SHELL.format(name=name, seconds=0.1, deps=" ".join(deps))
        stages[name] = {
            "cmd": commands.get(name, command),
            "deps": deps,
            "outs": [{f"{name}.txt": {"persist": True}}],
        }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


@contextmanager
def started(folder: Path, ignored: str = "") -> Iterator["subprocess.Popen[str]"]:
    """The pipeline, started by a shell that ignores some signals; killed at the end, if it runs."""
    trap = f"trap '' {ignored}; " if ignored else ""
    with subprocess.Popen(
        ["sh", "-c", f"{trap}exec {sys.executable} -m hftlib.pipeline"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def reproduce(folder: Path) -> tuple[int, str]:
    with started(folder) as process:
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


def lock_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def test_it_leaves_what_dvc_repro_leaves_and_then_has_nothing_to_do(project, tmp_path_factory):
    code, output = reproduce(project)
    assert code == 0, output
    assert re.search(r"^c     \| c ends$", output, re.M), "each line begins with the stage's name"
    alone = tmp_path_factory.mktemp("alone")
    for name in (".dvc/config", "seed.txt", "dvc.yaml"):
        (alone / name).parent.mkdir(exist_ok=True)
        (alone / name).write_bytes((project / name).read_bytes())
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "repro"], cwd=alone, check=True, capture_output=True)
    assert lock_of(project) == lock_of(alone)
    again = subprocess.run([*dvc, "repro"], cwd=project, check=True, capture_output=True, text=True)
    assert "Running stage" not in again.stdout
    assert plan_stages(project) == {}
    assert reproduce(project) == (0, "Data and reports are up to date.\n")
    (project / "b.txt").unlink()
    assert plan_stages(project) == {"b": set(), "c": {"b"}}


def test_a_failing_stage_is_named_with_its_words_and_the_others_are_kept(project):
    write_stages(project, b="echo 'b: no column close' >&2; exit 3")
    code, output = reproduce(project)
    assert code == 1
    end = output[output.index("error: stage b failed") :]
    assert "b: no column close" in end
    assert "Traceback" not in output
    assert "a" in lock_of(project), "it was running"
    assert "c" not in lock_of(project)
    write_stages(project)
    assert reproduce(project)[0] == 0
    assert set(lock_of(project)) == set(GRAPH)


def test_a_slip_in_the_description_of_the_stages_is_told_as_dvc_tells_it(project):
    (project / "dvc.yaml").write_text("stages:\n  a:\n    cmd: echo\n    dep: [x]\n")
    code, output = reproduce(project)
    assert code == 1
    assert "extra keys not allowed, in stages -> a -> dep, line 4" in output
    assert "Traceback" not in output


def test_an_error_of_dvc_is_told_with_its_cause_and_starts_nothing(project):
    (project / ".dvc/tmp").mkdir()
    (project / ".dvc/tmp/rwlock").write_text("{")
    code, output = reproduce(project)
    assert code == 1
    assert re.search(r"^ERROR: Unable to read RWLock-file .*: Expecting property name", output)
    assert "Running stage" not in output
    assert "Traceback" not in output


def test_what_reads_a_changed_file_that_dvc_tracks_is_out_of_date(project, monkeypatch):
    monkeypatch.chdir(project)
    description = {"cmd": "cp seed.txt copy.txt", "deps": ["seed.txt"], "outs": ["copy.txt"]}
    stages = {"copy": description, "other": {"cmd": "touch other.txt", "outs": ["other.txt"]}}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with Repo() as repo:
        repo.add("seed.txt")
        repo.reproduce()
    assert plan_stages(project) == {}
    tracked = project / "seed.txt.dvc"  # of another state of the file than the stage has read
    tracked.write_text(re.sub(r"md5: \w{32}", f"md5: {'f' * 32}", tracked.read_text()))
    assert plan_stages(project) == {"copy": set()}


def test_an_interrupt_ends_all_that_runs(project, marker):
    write_stages(project, a=f"sleep {marker}", b=f"sleep {marker}")
    with started(project) as process:
        wait_until(lambda: len(sleeping(marker)) == 2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert not sleeping(marker)


def test_a_signal_that_it_was_told_to_ignore_is_ignored_and_another_ends_all(project, marker):
    write_stages(project, a=f"sleep {marker}", b=f"sleep {marker}")
    with started(project, ignored="HUP INT") as process:
        wait_until(lambda: len(sleeping(marker)) == 2)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert len(sleeping(marker)) == 2
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert not sleeping(marker)


def test_an_interrupt_before_the_first_stage_leaves_no_traceback_and_starts_none(project):
    with started(project) as process:
        wait_until(lambda: handles(process.pid, signal.SIGTERM))  # set after that of SIGINT
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == "interrupted; run it again to go on from the last checkpoints\n"


def handles(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"^SigCgt:\s*(\w+)", status, re.M)[1], 16) >> (number - 1) & 1)
