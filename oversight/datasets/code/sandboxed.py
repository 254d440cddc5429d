"""Inside of the sandbox: a server that runs programs, each in a forked process of its own.

Started as a script by `sandbox.py` with `python -I -S`, and so it uses the standard library alone.
A request is a line of JSON, and so is its answer. What each layer keeps out stands in
docs/datasets.md.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, NoReturn

MODULES = (
    *("abc", "bisect", "calendar", "cmath", "collections", "collections.abc", "contextlib"),
    *("copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq"),
    *("io", "itertools", "json", "math", "numbers", "operator", "random", "re", "statistics"),
    *("string", "struct", "textwrap", "time", "typing", "unicodedata", "_strptime", "__future__"),
    *("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.utf_16"),
)
"""Modules that programs may import; they are loaded before the first program comes."""
WITHDRAWN = ("ctypes", "_ctypes", "resource", "select", "signal", "importlib", "posix", "gc")
"""Modules that the server itself uses or has loaded, and that programs may not import."""
PROGRAM = "<program>"
REPORT_FD = 3
NOBODY = 65534
CHUNK_BYTES = 1 << 16
MAX_REPORT_BYTES = 1 << 25
RECURSION_LIMIT = 1000
"""Frames of a program; the sandbox's own are added."""

# --- what a program may not do, by the events that Python audits (PEP 578) ---

STARTS = "starts a process"
REFUSED = {
    "os.fork": STARTS,
    "os.forkpty": STARTS,
    "os.exec": STARTS,
    "os.posix_spawn": STARTS,
    "os.spawn": STARTS,
    "os.system": STARTS,
    "subprocess.Popen": STARTS,
    "pty.spawn": STARTS,
    "_thread.start_new_thread": "starts a thread",
    "os.kill": "sends signals to processes",
    "os.killpg": "sends signals to processes",
    "signal.pthread_kill": "sends signals to processes",
}
REFUSED_KINDS = {
    "os": "reads or changes files",
    "shutil": "reads or changes files",
    "tempfile": "reads or changes files",
    "glob": "reads or changes files",
    "pathlib": "reads or changes files",
    "mmap": "reads or changes files",
    "fcntl": "reads or changes files",
    "socket": "opens a network connection",
    "urllib": "opens a network connection",
    "http": "opens a network connection",
    "ctypes": "calls machine code (ctypes)",
    "resource": "changes its limits",
    "sqlite3": "opens a database",
}
HARMLESS = frozenset({"os.putenv", "os.unsetenv"})


def refusal(event: str, args: tuple[Any, ...]) -> str:
    """Reason for ending a program at an audited event; empty where it may go on."""
    if event == "import":
        name = str(args[0])
        return f"imports {name!r}, which is not among the modules that programs may use"
    if event == "open" and not str(args[0]).startswith("<"):
        return f"opens the file {str(args[0])[:80]!r}"
    if event in HARMLESS or event == "open":
        return ""
    said = REFUSED.get(event) or REFUSED_KINDS.get(event.partition(".")[0], "")
    return said and f"{said} ({event})"


# --- what a program may not do, by the kernel's word (Linux, seccomp) ---

ALLOWED_CALLS = {
    "x86_64": (
        0xC000003E,
        *(0, 1, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 20, 23, 24, 25, 28, 35, 39, 60),
        *(63, 72, 79, 96, 98, 100, 102, 104, 107, 108, 110, 131, 186, 201, 202, 219, 228, 229),
        *(230, 231, 270, 271, 273, 318, 324, 334),
    ),
    "aarch64": (
        0xC00000B7,
        *(17, 25, 29, 57, 62, 63, 64, 65, 66, 72, 73, 93, 94, 98, 99, 101, 113, 114, 115),
        *(124, 128, 132, 134, 135, 139, 153, 160, 165, 169, 172, 173, 174, 175, 176, 177, 178),
        *(214, 215, 216, 222, 226, 233, 278, 283, 293),
    ),
}
"""Of each machine the kernel's number for it, then the system calls that programs may make: memory,
clocks, open pipes, its own signals' handlers, the end. No call opens, starts or sends anything, or
looks at files."""
OPENING_CALLS = {"x86_64": 257, "aarch64": 56}
"""`openat`, which fails: Python tries to open "<string>" to quote a line of what it cannot read."""
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
KILL_PROCESS, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
EACCES = 13
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER_MODE = 38, 22, 2


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)
"""Found before programs are listened to, as looking it up is an event as well."""


class _Filter(ctypes.Structure):
    """`struct sock_fprog`: a filter of system calls as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def make_filter(machine: str) -> _Filter | None:
    """The filter by which a program that makes any other call is killed; None where none is known.

    Args:
        machine: As `os.uname` names it.
    """
    if not sys.platform.startswith("linux") or machine not in ALLOWED_CALLS:
        return None
    number, *calls = ALLOWED_CALLS[machine]
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, number), (RETURN, 0, 0, KILL_PROCESS), (LOAD, 0, 0, 0)]
    steps += [(EQUAL, 0, 1, OPENING_CALLS[machine]), (RETURN, 0, 0, FAIL | EACCES)]
    for place, call in enumerate(calls):
        steps.append((EQUAL, len(calls) - place, 0, call))
    steps += [(RETURN, 0, 0, KILL_PROCESS), (RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    return _Filter(len(steps), code)


def install(made: _Filter) -> bool:
    """Put the filter over this process for good; False where the kernel does not take it."""
    if _PRCTL is None or _PRCTL(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(_PRCTL(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(made), 0, 0) == 0)


# --- the server ---


class ForkServer:
    """Forks a process for each program, watches it, and says what came of it."""

    def __init__(self) -> None:
        self.requests = os.fdopen(os.dup(0), "rb")
        self.answers = os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for name in MODULES:
            importlib.import_module(name)
        self.filter = make_filter(os.uname().machine)
        if self.filter is not None and not self._filter_works(self.filter):
            self.filter = None
        gc.collect()
        gc.freeze()  # what is never looked at again is never copied by a fork

    def _filter_works(self, made: _Filter) -> bool:
        """Try the filter in a process of its own."""
        pid = os.fork()
        if pid == 0:
            os._exit(0 if install(made) else 1)
        return os.waitpid(pid, 0)[1] == 0

    def serve(self) -> None:
        """Answer requests until there are no more."""
        self._answer({"filtered": self.filter is not None})
        for line in self.requests:
            self._answer(self.run(json.loads(line)))

    def _answer(self, value: dict[str, Any]) -> None:
        self.answers.write(json.dumps(value).encode() + b"\n")
        self.answers.flush()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request: what its program printed, how it ended, its steps if asked."""
        output, output_end = os.pipe()
        report, report_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(request, output_end, report_end)
            finally:
                os._exit(1)
        os.close(output_end)
        os.close(report_end)
        try:
            return _Watch(pid, output, report, request).result()
        finally:
            os.close(output)
            os.close(report)

    def _become(self, request: dict[str, Any], output_end: int, report_end: int) -> NoReturn:
        """In the new process: be the program, behind all layers, and end."""
        os.setsid()
        os.dup2(output_end, 1)
        os.dup2(report_end, REPORT_FD)
        os.closerange(REPORT_FD + 1, 64)
        _limit(request)
        programs = request["programs"]
        for name in list(sys.modules):
            if name.partition(".")[0] in WITHDRAWN:
                del sys.modules[name]
        try:
            codes = [compile(each, PROGRAM, "exec", dont_inherit=True) for each in programs]
        except Exception as error:
            _report({"refused": f"is no Python ({error})"})
            os._exit(0)
        # "surrogatepass": what is no text is told apart by whoever reads it.
        raw = io.FileIO(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(raw, "utf-8", errors="surrogatepass", newline="\n")
        _listen()
        if self.filter is not None:
            install(self.filter)
        sys.argv = [PROGRAM]
        sys.setrecursionlimit(RECURSION_LIMIT + 10)
        if len(codes) == 1:
            _run_one(codes[0], request["max_steps"])
        _run_all(codes)


def _limit(request: dict[str, Any]) -> None:
    """Set the limits that the kernel holds the program to, and give up root's rights."""
    memory, cpu = request["memory_mb"] << 20, request["cpu_s"]
    limits = (
        (resource.RLIMIT_CPU, (cpu, cpu + 1)),
        (resource.RLIMIT_AS, (memory, memory)),
        (resource.RLIMIT_NPROC, (0, 0)),
        (resource.RLIMIT_NOFILE, (0, 0)),
        (resource.RLIMIT_FSIZE, (0, 0)),
        (resource.RLIMIT_CORE, (0, 0)),
    )
    for number, limit in limits:
        with contextlib.suppress(OSError, ValueError):  # macOS refuses some
            resource.setrlimit(number, limit)
    signal.setitimer(signal.ITIMER_REAL, request["wall_s"] + 1)  # should the server be gone
    if os.getuid() == 0:
        with contextlib.suppress(OSError):  # a container without that user
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def _listen() -> None:
    """End the process, with a reason in its report, at the first event that is refused."""
    leave = os._exit

    def hook(event: str, args: tuple[Any, ...]) -> None:
        reason = refusal(event, args)
        if reason:
            _report({"refused": reason})
            leave(0)

    sys.addaudithook(hook)


def _report(told: dict[str, Any], write: Callable[[int, bytes], int] = os.write) -> None:
    data = json.dumps(told).encode()
    while data:
        data = data[write(REPORT_FD, data) :]


def _run_one(code: CodeType, max_steps: int) -> NoReturn:
    """Run a program, report how it ended, and end the process."""
    leave, out, tracer = os._exit, sys.stdout, Tracer(max_steps)
    report = _ended(code, tracer if max_steps else None)
    with contextlib.suppress(BaseException):
        out.flush()
    if max_steps:
        report |= {"steps": tracer.steps, "more": tracer.is_full}
    _report(report)
    leave(0)


def _run_all(codes: list[CodeType]) -> NoReturn:
    """Run programs that trust each other, report what came of each, and end the process."""
    leave, reports = os._exit, []
    for code in codes:
        sys.stdout = printed = io.StringIO()
        reports.append(_ended(code, None) | {"output": printed.getvalue()})
    _report({"outcomes": reports})
    leave(0)


def _ended(code: CodeType, tracer: Tracer | None) -> dict[str, Any]:
    """Run a program as `__main__`; the exception that ended it, and its line."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    report: dict[str, Any] = {"error": "", "line": None, "steps": [], "more": False}
    try:
        if tracer is not None:
            sys.settrace(tracer)
        exec(code, main.__dict__)
    except SystemExit as end:
        if end.code not in (None, 0):
            report["error"] = "SystemExit"
    except BaseException as error:
        report["error"], report["line"] = type(error).__name__, _line_of(error)
    finally:
        sys.settrace(None)
    return report


def _line_of(error: BaseException) -> int | None:
    """The program's line in which an error was raised."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


# --- steps ---

PLAIN = (int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset)
MAX_VALUE_CHARS = 400


class Tracer:
    """Records the variables of a frame whenever one of its lines is done (`sys.settrace`).

    A line is done when the next line of the same frame begins, or the frame ends or yields. Frames
    of comprehensions and lambdas are passed over: in Python 3.12 most of them are none.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps
        self.steps: list[tuple[int, int, str, dict[str, str | None]]] = []
        """Line, visit, function, and the values of its plain variables; None for a long one."""
        self.is_full = False
        self._visits: dict[int, int] = {}
        self._current: dict[int, tuple[int, int]] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Tracer | None:
        """Take one event of the interpreter's."""
        code = frame.f_code
        if self.is_full or code.co_filename != PROGRAM:
            return None
        if code.co_name.startswith("<") and code.co_name != "<module>":
            return None
        if event in ("line", "return") and (done := self._current.pop(id(frame), None)):
            self._record(frame, *done)
        if event == "line":
            visit = self._visits[frame.f_lineno] = self._visits.get(frame.f_lineno, 0) + 1
            self._current[id(frame)] = (frame.f_lineno, visit)
        return self

    def _record(self, frame: FrameType, line: int, visit: int) -> None:
        if len(self.steps) >= self.max_steps:
            self.is_full = True
            return
        values = {
            name: shown(value)
            for name, value in frame.f_locals.items()
            if isinstance(value, PLAIN) and not name.startswith("__")
        }
        self.steps.append((line, visit, frame.f_code.co_name, values))


def shown(value: object) -> str | None:
    """The `repr` of a value; None where it is long or there is none."""
    try:
        text = repr(value)
    except Exception:
        return None
    return text if len(text) <= MAX_VALUE_CHARS else None


# --- watching a program from outside of its process ---


class _Watch:
    """Reads what a program writes until it ends, or until it is ended at a limit."""

    def __init__(self, pid: int, output: int, report: int, request: dict[str, Any]) -> None:
        self.pid, self.request = pid, request
        self.pieces: dict[int, list[bytes]] = {output: [], report: []}
        self.sizes = {output: 0, report: 0}
        self.room = {output: request["output_bytes"], report: MAX_REPORT_BYTES}
        self.output, self.report = output, report
        self.deadline = time.monotonic() + request["wall_s"]
        self.stopped = ""

    def result(self) -> dict[str, Any]:
        """The program's output, its end, and the steps that were asked for."""
        self._read()
        status, cpu_s = self._end()
        printed = b"".join(self.pieces[self.output])
        answer: dict[str, Any] = {"stopped": "", "error": "", "line": None, "steps": []}
        answer["more"], answer["outcomes"] = False, []
        answer["stopped"] = self.stopped or self._reason(status, cpu_s)
        if not answer["stopped"]:
            self._take_report(answer)
        try:
            answer["output"] = printed.decode()
        except UnicodeDecodeError:
            answer["output"] = ""
            answer["stopped"] = answer["stopped"] or "prints what is no text (not UTF-8)"
        return answer

    def _read(self) -> None:
        waiting = {self.output, self.report}
        while waiting and not self.stopped:
            left = self.deadline - time.monotonic()
            ready = select.select(list(waiting), [], [], max(0.0, left))[0]
            if not ready:
                self._out_of_time()
            for end in ready:
                piece = os.read(end, CHUNK_BYTES)
                if not piece:
                    waiting.remove(end)
                    continue
                self.pieces[end].append(piece)
                self.sizes[end] += len(piece)
                if self.sizes[end] > self.room[end]:
                    what = "prints" if end == self.output else "reports"
                    self.stopped = f"{what} more than {self.room[end]:,} bytes"

    def _out_of_time(self) -> None:
        self.stopped = f"does not end within {self.request['wall_s']:g} s"

    def _end(self) -> tuple[int, float]:
        """Wait for the process, or end it with its group; its status and its seconds of CPU."""
        pause = 0.0001
        while True:
            if self.stopped:
                for kill in (os.killpg, os.kill):
                    with contextlib.suppress(OSError):
                        kill(self.pid, signal.SIGKILL)
            pid, status, usage = os.wait4(self.pid, 0 if self.stopped else os.WNOHANG)
            if pid:
                return status, usage.ru_utime + usage.ru_stime
            if time.monotonic() > self.deadline:
                self._out_of_time()
            time.sleep(pause)
            pause = min(2 * pause, 0.01)

    def _reason(self, status: int, cpu_s: float) -> str:
        """Reason for which a program that was not ended by the watch has no result."""
        if not os.WIFSIGNALED(status):
            return ""
        number = os.WTERMSIG(status)
        limit = self.request["cpu_s"]
        if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_s >= limit):
            return f"does not end within {limit} s of CPU"
        if number == getattr(signal, "SIGSYS", 0):
            return "makes a system call that programs may not make"
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return f"crashes the interpreter ({name})"

    def _take_report(self, answer: dict[str, Any]) -> None:
        try:
            report = json.loads(b"".join(self.pieces[self.report]))
            answer["stopped"] = report.get("refused", "")
            if "outcomes" in report:
                answer["outcomes"] = report["outcomes"]
            elif not answer["stopped"]:
                answer |= {key: report[key] for key in ("error", "line", "steps", "more")}
        except (ValueError, KeyError, TypeError, AttributeError):
            answer["stopped"] = "ends the interpreter before its own end"
        if answer["error"] == "MemoryError":
            answer["stopped"] = f"needs more than {self.request['memory_mb']:,} MiB of memory"


if __name__ == "__main__":
    ForkServer().serve()
