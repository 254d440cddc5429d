"""The launcher with small families of processes in the place of a server's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from oversight.engines.vllm import launcher

LAUNCHER = [sys.executable, "-I", "-S", launcher.__file__]
GRACE_S = 1.0

SERVER = """
import os, signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "100"])
print(os.getpid(), child.pid, file=open(sys.argv[1] + ".part", "w"), flush=True)
os.rename(sys.argv[1] + ".part", sys.argv[1])
while not os.path.exists(sys.argv[1] + ".end"):
    time.sleep(0.02)
sys.exit(3)
"""
"""A server with one child that does not end with it; it exits when a file tells it to."""


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Family:
    """A launcher, its server and the server's child."""

    def __init__(self, folder: Path, kind: str, parent_pid: int, wrap: list[str]) -> None:
        pids = folder / "pids"
        arguments = [sys.executable, "-c", SERVER, str(pids), kind]
        command = [*LAUNCHER, str(parent_pid), str(GRACE_S), *arguments]
        with (folder / "log").open("wb") as log:
            self.started = subprocess.Popen([*wrap, *command], stdout=log, start_new_session=True)
        wait_for(pids.exists)
        self.server, self.child = (psutil.Process(int(p)) for p in pids.read_text().split())
        self.launcher = psutil.Process(self.server.ppid())
        self.log = folder / "log"

    def all_gone(self) -> bool:
        self.started.poll()
        return not any(lives(process) for process in (self.launcher, self.server, self.child))


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Family]]:
    families: list[Family] = []

    def begin(kind: str = "plain", wrap: list[str] | None = None) -> Family:
        families.append(Family(tmp_path, kind, os.getpid(), wrap or []))
        return families[-1]

    yield begin
    for family in families:
        for process in (family.launcher, family.server, family.child):
            if process.is_running():
                process.kill()
        family.started.kill()
        family.started.wait()


def test_sigterm_to_the_launcher_ends_the_whole_family(start):
    family = start()
    family.launcher.terminate()
    wait_for(family.all_gone, 3)


def test_a_server_that_does_not_listen_is_killed_after_the_grace(start):
    family = start("stubborn")
    begun = time.monotonic()
    family.launcher.terminate()
    wait_for(family.all_gone, 5)
    assert time.monotonic() - begun > GRACE_S * 0.9


def test_the_children_of_a_killed_server_end_with_it(start):
    family = start()
    family.server.kill()
    wait_for(family.all_gone, 3)
    assert "exit status -9" in family.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is of Linux")
def test_a_killed_launcher_takes_its_server_along(start):
    family = start()
    family.launcher.kill()
    wait_for(lambda: not lives(family.server), 3)


def test_a_killed_parent_takes_everything_along(start, tmp_path):
    # The launcher watches its parent, so the process in between passes its own id on.
    script = (
        "import os, subprocess, sys; a = sys.argv[1:]; a[4] = str(os.getpid());"
        "subprocess.Popen(a, start_new_session=True).wait()"
    )
    family = start(wrap=[sys.executable, "-c", script])
    assert family.launcher.ppid() == family.started.pid
    family.started.kill()
    wait_for(family.all_gone, 3)


def test_a_launcher_whose_parent_is_gone_before_it_looks_ends_at_once(tmp_path):
    command = [*LAUNCHER, "1", "1.0", "sleep", "100"]
    launcher = subprocess.Popen(command, start_new_session=True)
    assert launcher.wait(timeout=5) == -9


def test_the_exit_status_of_a_server_that_ends_by_itself_is_in_the_log(start, tmp_path):
    family = start()
    (tmp_path / "pids.end").touch()
    wait_for(family.all_gone, 3)
    assert "ended with exit status 3" in family.log.read_text()
