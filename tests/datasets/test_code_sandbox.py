"""Programs that misbehave are contained, and the reason is told."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from oversight.datasets.code.sandbox import Limits, Sandbox
from oversight.datasets.code.steps import StepClaim, StepOracle, same_value
from oversight.errors import DataError

FILTERED = sys.platform.startswith("linux") and os.uname().machine in ("x86_64", "aarch64")
LIMITS = Limits(cpu_s=1, wall_s=20, memory_mb=256)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(LIMITS) as made:
        yield made


def test_what_a_program_prints_and_how_it_ends_is_told(sandbox):
    outcome = sandbox.run("print('one')\nx = [1]\nprint(x[1])\n")
    assert (outcome.output, outcome.error, outcome.line) == ("one\n", "IndexError", 3)
    assert not outcome.stopped
    assert sandbox.run("import sys\nprint('é')\nsys.exit()").output == "é\n"
    assert sandbox.run("import sys\nsys.exit(3)").error == "SystemExit"
    assert sandbox.run("input()").error == "EOFError"
    assert sandbox.run("def f(): return f()\nf()").error == "RecursionError"


HARMFUL = {
    "loops": ("while True: pass", r"does not end within 1 s of CPU"),
    "forks": ("import os\nwhile True: os.fork()", r"starts a process \(os\.fork\)"),
    "runs a command": ("import os\nos.system('true')", r"starts a process \(os\.system\)"),
    "executes": ("import os\nos.execv('/bin/true', ['x'])", r"starts a process \(os\.exec\)"),
    "starts a thread": (
        "import _thread\n_thread.start_new_thread(print, ())",
        r"starts a thread|system call that programs may not",
    ),
    "reads a file": ("print(open('/etc/passwd').read())", r"opens the file '/etc/passwd'"),
    "reads by os": ("import os\nos.open('/etc/passwd', 0)", r"opens the file '/etc/passwd'"),
    "writes a file": ("open('x', 'w').write('y')", r"opens the file 'x'"),
    "lists a folder": ("import os\nos.listdir('/')", r"reads or changes files \(os\.listdir\)"),
    "prints without end": ("while True: print('x' * 9999)", r"prints more than 65,536 bytes"),
    "prints a gigabyte": ("print('x' * 100_000_000)", r"prints more than 65,536 bytes"),
    "allocates": ("x = [0] * 10**11", r"needs more than 256 MiB of memory"),
    "allocates bit by bit": (
        "x = []\nwhile True: x.append('y' * 10**6)",
        r"needs more than 256 MiB of memory",
    ),
    "uses the network": ("import socket", r"imports 'socket'"),
    "calls machine code": ("import ctypes\nctypes.string_at(0)", r"imports 'ctypes'"),
    "kills its server": ("import os\nos.kill(os.getppid(), 9)", r"sends signals to processes"),
    "changes its limits": ("import resource", r"imports 'resource'"),
    "leaves": ("import os\nprint(1, flush=True)\nos._exit(0)", r"ends the interpreter before"),
    "crashes": (
        "import os\nos.abort()",
        r"crashes the interpreter|system call that programs may not",
    ),
    "closes its pipes": ("import os\nos.close(1)\nos.close(3)\nwhile 1: pass", r"1 s of CPU"),
    "catches everything": (
        "while True:\n    try:\n        open('/etc/passwd')\n    except BaseException: pass",
        r"opens the file",
    ),
    "prints no text": ("print('\\ud800')", r"no text"),
    "is no Python": ("print('one'", r"is no Python"),
    "is no Python by a NUL": ("print(1)\0", r"is no Python"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_program_that_does_harm_is_ended_and_named(sandbox, name):
    program, reason = HARMFUL[name]
    stopped = sandbox.run(program).stopped
    assert stopped
    assert re.search(reason, stopped), stopped
    assert sandbox.run("print(2)").output == "2\n"


def test_a_program_that_sleeps_is_ended_by_the_clock():
    with Sandbox(Limits(wall_s=0.3)) as sandbox:
        begun = time.monotonic()
        outcome = sandbox.run("import time\ntime.sleep(1000)")
        assert outcome.stopped == "does not end within 0.3 s"
        assert time.monotonic() - begun < 60


@pytest.mark.skipif(not FILTERED, reason="no filter of system calls is known for this machine")
def test_the_kernel_stops_what_the_listener_does_not_see(sandbox):
    """`os.stat` is not audited by Python; the filter keeps it out all the same."""
    assert sandbox.run("print(1)").output == "1\n"
    assert sandbox.is_filtered
    told = sandbox.run("import os\nprint(os.stat('/etc/passwd'))")
    assert told.stopped == "makes a system call that programs may not make"
    told = sandbox.run("import os\nos.setpriority(0, 0, 5)")
    assert told.stopped == "makes a system call that programs may not make"


def test_programs_see_nothing_of_each_other_or_of_the_environment(sandbox, monkeypatch):
    monkeypatch.setenv("OVERSIGHT_TEST_SECRET", "hush")
    with Sandbox(LIMITS) as fresh:
        told = fresh.run("import os\nprint(os.environ.get('OVERSIGHT_TEST_SECRET'))")
    assert told.output == "None\n"
    sandbox.run("import math\nmath.pi = 3")
    assert sandbox.run("import math\nprint(math.pi > 3)").output == "True\n"


def test_programs_that_run_together_end_as_they_do_alone(sandbox):
    programs = ["print(1)", "x = [][0]", "print(1)", "def f(): f()\nf()", "print('ä')"]
    together = sandbox.run_together(programs)
    assert [o.error for o in together] == ["", "IndexError", "", "RecursionError", ""]
    with Sandbox(LIMITS, remembers=False) as alone:
        assert together == [alone.run(program) for program in programs]
        broken = [*programs, "import os\nos.fork()", "while ("]
        mixed = alone.run_together(broken)
    assert mixed[:5] == together
    assert "starts a process" in mixed[5].stopped
    assert "is no Python" in mixed[6].stopped


def test_nothing_is_left_when_a_sandbox_is_closed():
    sandbox = Sandbox(LIMITS)
    sandbox.run("print('left')  # not remembered: a program of its own")
    folder, server = Path(sandbox._folder.name), sandbox._server
    assert list(folder.iterdir()) == []
    sandbox.close()
    sandbox.close()
    assert not folder.exists()
    assert server.poll() is not None


def test_a_server_that_is_lost_is_named_and_replaced():
    with Sandbox(LIMITS, remembers=False) as sandbox:
        assert sandbox.run("print(1)").output == "1\n"
        os.kill(sandbox._server.pid, 9)
        sandbox._server.wait()
        assert "ends the process that watches it" in sandbox.run("print(1)").stopped
        assert sandbox.run("print(1)").output == "1\n"


# --- the oracle for a step ---

PROGRAM = """\
def scale(values, by):
    out = []
    for value in values:
        value *= by
        out.append(value)
    return out

total = 0
for number in scale([1, 2, 3], 2):
    total += number
print(total)
"""


@pytest.fixture(scope="module")
def oracle(sandbox):
    return StepOracle(PROGRAM, sandbox)


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("after line 5, visit 2: out == [2, 4]", True),
        ("after line 5, visit 2: out == [2,4]", True),
        ("after line 5, visit 2: out == [2, 6]", False),
        ("after line 5, visit 4: out == [2, 4, 6]", False),
        ("after line 4 value is 2", True),
        ("After line 4, visit 3: value = 6", True),
        ("after line 4, visit 3: value == 6.0", False),
        ("after line 8: total == 0", True),
        ("after line 8: total == False", False),
        ("after line 10, visit 3: total == 12", True),
        ("after line 10, visit 3: total == 6", False),
        ("after line 2: value == 1", False),
        ("after line 8: scale == 1", False),
        ("after line 99: total == 12", False),
    ],
)
def test_a_claim_about_a_step_is_decided_by_tracing(oracle, claim, holds):
    assert oracle.holds(StepClaim.read(claim)) is holds


def test_a_claim_reads_and_writes_the_same():
    claim = StepClaim("total", 10, "[1, 'two']", 3)
    assert StepClaim.read(str(claim)) == claim
    with pytest.raises(ValueError, match="no claim about a step"):
        StepClaim.read("total is 3 in the end")


def test_visits_of_a_recursion_are_counted_over_all_calls(sandbox):
    program = "def f(n):\n    r = n\n    if n:\n        r += f(n - 1)\n    return r\nf(3)\n"
    oracle = StepOracle(program, sandbox)
    assert [oracle.value("r", 2, visit) for visit in (1, 2, 3, 4, 5)] == ["3", "2", "1", "0", None]
    # The innermost call is done first, but its line is begun last.
    assert [oracle.value("r", 4, visit) for visit in (1, 2, 3)] == ["6", "3", "1"]


def test_tracing_changes_nothing_of_what_a_program_does(sandbox):
    plain, traced = sandbox.run(PROGRAM), sandbox.run(PROGRAM, 1000)
    assert (plain.output, plain.error) == (traced.output, traced.error) == ("12\n", "")
    assert plain.steps == ()


def test_what_cannot_be_decided_is_an_error_and_no_answer(sandbox):
    long = StepOracle("n = 0\nwhile n < 100:\n    n += 1\n", sandbox, max_steps=10)
    assert long.holds(StepClaim("n", 3, "1"))
    with pytest.raises(DataError, match="not among the first 10 steps"):
        long.holds(StepClaim("n", 3, "99", visit=99))
    with pytest.raises(DataError, match="too long"):
        StepOracle("x = 'y' * 1000", sandbox).holds(StepClaim("x", 1, "'y'"))
    with pytest.raises(DataError, match="it opens the file"):
        StepOracle("open('x')", sandbox).holds(StepClaim("x", 1, "1"))


@pytest.mark.parametrize(
    ("actual", "claimed", "same"),
    [
        ("'a'", '"a"', True), ("{1, 2}", "{2, 1}", True), ("[1]", "(1,)", False),
        ("{'a': 1}", "{'a': True}", False), ("nan", "nan", True), ("1", "1 +", False),
        ("{1: 'a', 2: 'b'}", "{2: 'b', 1: 'a'}", True), ("[[1.0]]", "[[1]]", False),
    ],
)  # fmt: skip
def test_values_are_compared_as_python_has_them(actual, claimed, same):
    assert same_value(actual, claimed) is same
