"""Commands that end before their time: Ctrl-C twice, and whatever a machine runs out of."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oversight.cli.main import run
from oversight.errors import lack
from oversight.store import Store

COMMAND = [sys.executable, "-m", "oversight.cli.main"]
DEBATES = ["debate", "-d", "world", "--limit", "3000", "-p", "debate", "--no-live"]
KEY = "sk-Zq7_x91-topmost"


def start(args: list[str], cwd: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *args],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(
    holds: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90
) -> None:
    end = time.monotonic() + seconds
    while not holds() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], times: int, gap_s: float = 0.15) -> None:
    """Ctrl-C in a terminal: to all of the process group."""
    for number in range(times):
        if number:
            time.sleep(gap_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)


def ended(process: subprocess.Popen[str]) -> str:
    """Stderr of a process, checked to have ended as by Ctrl-C: exit code 130 and no traceback."""
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, (process.returncode, said)
    assert "Traceback" not in out + said
    assert said.strip().splitlines()[-1].startswith("oversight: stopped")
    return said


# --- Ctrl-C ------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 3])
def test_ctrl_c_again_ends_debates_at_once_in_one_line(tmp_path: Path, times: int) -> None:
    process = start(DEBATES, tmp_path)
    wait_for((tmp_path / "oversight.db").exists, process)
    time.sleep(0.3)
    interrupt(process, times, gap_s=0.05)
    said = ended(process)
    assert said.count("oversight:") == 1
    with Store.open(str(tmp_path / "oversight.db")) as store:
        assert store.check() == []


def test_ctrl_c_while_a_command_is_loaded_is_one_line() -> None:
    script = (
        "import os, signal, sys; sys.argv[0] = '/usr/bin/oversight'; import oversight.cli; "
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "oversight: stopped\n")


def test_the_package_loads_next_to_nothing_before_ctrl_c_is_taken() -> None:
    script = (
        "import sys; before = set(sys.modules); import oversight; "
        "print(sorted(set(sys.modules) - before)); print(oversight.__version__)"
    )
    done = subprocess.run(
        # Without what an installation in place adds, which loads modules of its own.
        [sys.executable, "-S", "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded, version = done.stdout.splitlines()
    assert loaded == "['__future__', 'oversight']"
    assert version


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_one_line_and_by_that_signal(tmp_path: Path, number) -> None:
    process = start(DEBATES, tmp_path)
    wait_for((tmp_path / "oversight.db").exists, process)
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -number
    assert said.splitlines()[-1].startswith(f"oversight: ended by {number.name}")
    assert said.count("oversight:") == 1
    with Store.open(str(tmp_path / "oversight.db")) as store:
        assert store.check() == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_closed_circle_and_its_workers_in_one_line(
    tmp_path: Path, times: int
) -> None:
    recipe = Path(__file__).parents[2] / "recipes/closed_circle.toml"
    process = start(["run", str(recipe), "--quick", "-o", "out"], tmp_path)
    wait_for((tmp_path / "out/logs/0.txt").exists, process, 120)
    interrupt(process, times)
    assert ended(process).count("\n") == 1


def test_ctrl_c_again_ends_training_at_once_in_one_line(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Who is {i}?", "chosen": f"Ada {i}.", "rejected": f"Bo {i}."} for i in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sft.toml").write_text(
        'steps = 100000\nlog_every = 1\nbatch_size = 2\n[data]\npath = "rows.jsonl"\n'
        "[model.scratch]\nhidden_size = 16\nnum_layers = 1\nvocab_size = 300\nmax_length = 128\n"
    )
    process = start(["train", "sft", "sft.toml", "--out", "run"], tmp_path)
    log = tmp_path / "run/metrics.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 2, process)
    interrupt(process, 3, gap_s=0.02)
    said = ended(process)
    assert said.count("oversight:") == 1


# --- what a machine runs out of ----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory",
        ),
        (ImportError("libx.so: failed to map segment from shared object"), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "GPU's memory is full"),
        (RuntimeError("can't start new thread"), "no more threads or processes"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "threads or processes"),
        (OSError(errno.EMFILE, "Too many open files", "x.db"), "too many files are open"),
        (OSError(errno.ENOSPC, "No space left on device", "x.db"), "the disk is full"),
        (ExceptionGroup("several", [ValueError("x"), MemoryError()]), "not enough memory"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
    ],
)
def test_what_has_run_out_is_said_with_what_helps(error: BaseException, what: str) -> None:
    said = lack(error)
    assert said is not None
    assert what in said
    assert "\n" not in said
    behind = KeyError("x")
    behind.__cause__ = error
    assert lack(behind) == said


@pytest.mark.parametrize(
    "error", [ValueError("not enough memory"), OSError(errno.ENOENT, "No such file"), KeyError("x")]
)
def test_other_errors_are_no_lack(error: BaseException) -> None:
    assert lack(error) is None


@pytest.mark.parametrize("raised", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_lack_is_one_line_and_no_traceback(raised, monkeypatch, capfd, tmp_path) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr("oversight.config.read_toml", fail)
    assert run(["debate", str(tmp_path / "x.toml")]) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("oversight: ")
    assert "Traceback" not in said


def test_a_thread_without_room_under_a_limit_lacks_memory(monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**30, 2**30))
    said = lack(RuntimeError("can't start new thread"))
    assert said is not None
    assert said.startswith("there is not enough memory (can't start new thread)")


@pytest.mark.parametrize(
    ("limit", "said"),
    [(2**30, "not enough memory"), (resource.RLIM_INFINITY, "file system failed")],
)
def test_an_index_that_cannot_be_mapped_under_a_limit_lacks_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    limit: int,
    said: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_SHMMAP"
        raise error

    place = tmp_path / "s.db"
    Store.open(place).close()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr("sqlite3.dbapi2.connect", fails)
    assert run(["report", "--store", str(place)]) in (1, 2)
    assert said in capfd.readouterr().err


def test_an_exception_that_had_no_room_to_be_made_is_a_lack_of_memory() -> None:
    missing = SystemError("<function _find_and_load> returned NULL without setting an exception")
    said = lack(missing)
    assert said is not None
    assert said.startswith("there is not enough memory")
    assert lack(SystemError("another")) is None


@pytest.mark.parametrize("mib", [100, 200, 600])
def test_too_little_memory_is_one_line(tmp_path: Path, mib: int) -> None:
    limit = (mib * 2**20, mib * 2**20)
    done = subprocess.run(
        [*COMMAND, "debate", "-d", "world", "--limit", "20", "--no-live"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "there is not enough memory" in done.stderr


@pytest.mark.parametrize("mib", [250, 300])
def test_a_report_without_room_for_its_statistics_is_one_line(tmp_path: Path, mib: int) -> None:
    # OpenBLAS tries for its buffers for ever, where no signal but SIGKILL is heard.
    assert (
        run(["debate", "-d", "world", "--limit", "1", "--no-live", "--store", f"{tmp_path}/s.db"])
        == 0
    )
    limit = (mib * 2**20, mib * 2**20)
    done = subprocess.run(
        [*COMMAND, "report", "--store", "s.db"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "there is not enough memory" in done.stderr


def test_a_report_loads_no_graphs() -> None:
    script = (
        "import sys; from oversight.cli import report; "
        "print(sorted({'langgraph', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("bare", [False, True])
def test_a_full_output_is_one_line(tmp_path: Path, bare: bool) -> None:
    # Where a terminal's settings are missing, the output fails at another place.
    env = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]} if bare else None
    if env and "PYTHONPATH" in os.environ:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "protocols"],
            cwd=tmp_path,
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("args", [["protocols"], ["models", "--json"], ["datasets"], ["--help"]])
def test_a_reader_that_has_gone_is_told_nothing(tmp_path: Path, args: list[str]) -> None:
    process = start(args, tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert said == ""


def test_a_hub_that_does_not_answer_is_said_once(tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    told = """
import logging
from oversight.cli import ending
ending.install()
from huggingface_hub.utils import _http
for number in range(3):
    _http.logger.warning(f"'refused' thrown while requesting HEAD http://x/{number}")
    _http.logger.warning(f"Retrying in 1s [Retry {number}/5].")
_http.logger.warning("Something else.")
"""
    done = subprocess.run(
        [sys.executable, "-c", told],
        env=os.environ | home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines() == [
        "oversight: the hub does not answer; trying again for a while ...",
        "Something else.",
    ]


# --- secrets -----------------------------------------------------------------------------


def test_no_secret_is_in_what_a_command_says(tmp_path: Path) -> None:
    process = start(["report", "--store", f"postgresql://a:{KEY}@127.0.0.1:9/{KEY}"], tmp_path)
    out, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert KEY[:8] not in out + said


def test_a_traceback_and_a_log_line_hold_no_secret(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, os, threading\n"
        "from oversight.cli import ending\n"
        "ending.install()\n"
        "key = os.environ['MY_API_KEY']\n"
        "logging.getLogger('x').warning('the key is %s', key)\n"
        "def fail(): raise ValueError(key)\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "try: fail()\n"
        "except ValueError: logging.getLogger('x').exception('again')\n"
        "fail()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"MY_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.count("ValueError: ***") == 3
    assert "the key is ***" in done.stderr
    assert KEY[:8] not in done.stderr
