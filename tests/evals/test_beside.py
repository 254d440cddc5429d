"""Work that a second process does meanwhile comes to the same, also where that process dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight.evals import report
from oversight.evals.beside import beside, can_fork
from oversight.evals.report import build_report


def ends_itself() -> int:
    os._exit(9)


def fails() -> int:
    raise ValueError("no")


@pytest.mark.parametrize("is_fork", [False, True])
def test_the_work_is_done_by_another_process(is_fork: bool) -> None:
    with beside(os.getpid, is_fork=is_fork) as result:
        assert result() not in (None, os.getpid())


@pytest.mark.parametrize("work", [ends_itself, fails])
def test_a_failure_there_is_no_result(work: Callable[[], int]) -> None:
    with beside(work, is_fork=True) as result:
        assert result() is None


def test_where_no_process_can_be_started_there_is_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refused)
    with beside(os.getpid, is_fork=True) as result:
        assert result() is None


def test_the_process_ends_with_whoever_asked_for_it() -> None:
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt), beside(threading.Event().wait, is_fork=True):
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("is_fork", [False, True])
@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_ctrl_c_is_heard_by_whoever_asked_alone(
    after_s: float, is_fork: bool, tmp_path: Path
) -> None:
    # A terminal tells it to both processes, of which the second may have just begun.
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom oversight.evals.beside import beside\ntime.sleep(0.5)\n"
        "if __name__ == '__main__':\n"
        f"    with beside(time.sleep, 60, is_fork={is_fork}) as result:\n"
        "        print('begun', flush=True)\n"
        "        try:\n            result()\n"
        "        except KeyboardInterrupt:\n            time.sleep(0.5)\n            raise\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1


def test_a_process_with_threads_is_not_copied() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    assert not can_fork()
    done.set()
    other.join()


@pytest.mark.parametrize("fork", [beside, lambda work, is_fork: beside(ends_itself, is_fork=True)])
def test_a_report_computed_by_two_processes_is_that_of_one(
    judged: Any, protocols: Any, monkeypatch: pytest.MonkeyPatch, fork: Any
) -> None:
    transcripts = [
        judged(0.3 + 0.4 * (i % 2), question=f"q{i % 12}", protocol=protocols[name])
        for name in ("debate", "naive")
        for i in range(40)
    ]
    alone = build_report(transcripts)
    asked: list[bool] = []

    def forked(work: Any, is_fork: bool) -> Any:
        asked.append(is_fork)
        return fork(work, is_fork=is_fork)

    monkeypatch.setattr(report, "MIN_SHARED", 1)
    monkeypatch.setattr(report, "can_fork", lambda: True)
    monkeypatch.setattr(report, "beside", forked)
    assert build_report(transcripts) == alone
    assert asked == [True]
    assert len(alone.arms) == 2
