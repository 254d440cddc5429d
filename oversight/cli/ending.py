"""The early end of a command: Ctrl-C once and again, and errors of any thread, in one line.

The first Ctrl-C lets a command put its things away, in whatever time it takes. Every further one
ends the process at once: what counts is in the store or in a checkpoint already, claims and locks
end with the process, and servers and workers watch for its end. SIGTERM and SIGHUP do so as well,
where no command takes them to finish what it is at.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from oversight.cli import _stop
from oversight.cli.options import INTERRUPTED
from oversight.errors import lack
from oversight.files import remove_parts
from oversight.redaction import redacted
from oversight.text.terminal import visible

T = TypeVar("T")

AT_ONCE = "oversight: stopped at once{way_on}\n"
TERMINATED = "oversight: ended by {name}{way_on}\n"
SHOW_CURSOR = "\x1b[?25h"
HUB = "huggingface_hub.utils._http"
"""The logger of requests to the hub, which tells of every one that fails and is tried again."""
LEAVE_SCREEN = "\x1b[?1049l\x1b[?1000l\x1b[?1003l\x1b[?2004l"


class Interrupts:
    """Takes SIGINT, SIGTERM and SIGHUP for the process."""

    def __init__(self) -> None:
        self.seen = 0
        self.way_on = ""
        """The end of a sentence that tells how to go on; empty for commands that begin anew."""
        self.code: int | None = None
        """The exit code, once the command is over and only the interpreter has still to end."""
        self._main: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._leave: Callable[[], bool] | None = None
        self._terminal: list[Any] | None = None

    def install(self) -> None:
        """Take over, unless somebody else ignores or takes SIGINT on purpose."""
        if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _stop):
            signal.signal(signal.SIGINT, self._on_signal)
            self._terminal = _terminal_settings()
            # The interpreter's last work after that takes no time, and has no handler.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        # In a browser the server ends its applications so, and nobody reads what they say then.
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL and not in_browser():
                signal.signal(number, self._on_term)
                self._terminal = self._terminal or _terminal_settings()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """As `asyncio.run`, which a first Ctrl-C ends by cancelling `main`.

        Raises:
            KeyboardInterrupt: It was.
        """

        async def watched() -> tuple[T] | None:
            task = asyncio.current_task()
            assert task is not None
            self._main = asyncio.get_running_loop(), task
            try:
                return (await main,)
            except asyncio.CancelledError:
                if not self.seen:
                    raise
                return None
            finally:
                self._main = None

        result = asyncio.run(watched())
        if result is None:
            raise KeyboardInterrupt
        return result[0]

    @contextlib.contextmanager
    def by_leaving(self, leave: Callable[[], bool]) -> Iterator[None]:
        """Have a first Ctrl-C call `leave`, as a screen ends by itself; the block ends then.

        Args:
            leave: Called in the signal's handler; false if it cannot do anything yet.

        Raises:
            KeyboardInterrupt: The block has ended after a Ctrl-C.
        """
        self._leave = leave
        try:
            yield
        finally:
            self._leave = None
        if self.seen:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.code is not None:
            self._end(self.code, "")
        if self.seen > 1:
            self._end(INTERRUPTED, AT_ONCE.format(way_on=self.way_on))
        # Tasks and threads that are cut off have nothing to say that a user could mend.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        if self._leave is not None and self._leave():
            return
        if self._main is None:
            raise KeyboardInterrupt
        loop, task = self._main
        loop.call_soon_threadsafe(task.cancel)

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        """End at once by the same signal, so that its sender sees that it was this."""
        name = signal.Signals(number).name
        self._leave_terminal(TERMINATED.format(name=name, way_on=self.way_on))
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _end(self, code: int, message: str) -> None:
        self._leave_terminal(message)
        os._exit(code)

    def _leave_terminal(self, message: str) -> None:
        """Not through a console or a stream: their locks may be held by what was interrupted."""
        remove_parts()
        with contextlib.suppress(OSError):
            if os.isatty(2):
                screen = LEAVE_SCREEN if "textual.app" in sys.modules else ""
                message = f"{screen}{SHOW_CURSOR}\r{message}"
            os.write(2, message.encode())
        if self._terminal is not None:
            import termios

            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(0, termios.TCSANOW, self._terminal)


INTERRUPTS = Interrupts()


def in_browser() -> bool:
    """True if this process shows its screen in a browser, for a server that started it."""
    return "TEXTUAL_DRIVER" in os.environ


def _terminal_settings() -> list[Any] | None:
    try:
        import termios

        return list(termios.tcgetattr(0))
    except (ImportError, OSError, termios.error):
        return None


class _Room:
    """Refuses to load native libraries for which a limit on memory (ulimit -v) leaves no room.

    Without room they do not fail but crash in the middle of being loaded, or try again for ever:
    OpenBLAS, which numpy and scipy each bring, does so until it gets its buffers.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing, so that others look for it.

        Raises:
            MemoryError: There is too little room.
        """
        if name in NATIVE_MIB and (left := self._limit - mapped_bytes()) < NATIVE_MIB[name] << 20:
            raise MemoryError(
                f"{name} needs {NATIVE_MIB[name]} MiB to be loaded, and of the limit of "
                f"{self._limit >> 20} MiB {max(left, 0) >> 20} are left"
            )


NATIVE_MIB = {
    "torch": 700,
    "sklearn": 300,
    "scipy.stats": 260,
    "pyarrow": 220,
    "scipy.linalg": 200,
    "numpy": 110,
}
"""Address space that libraries take as they are loaded, with what their first use takes."""


def mapped_bytes() -> int:
    """Address space that the process has mapped; 0 where nobody tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def memory_limit() -> int | None:
    """The limit on the process's address space in bytes, if there is one."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def install() -> None:
    """Take Ctrl-C, and see that nothing reaches a log or the terminal with a secret in it."""
    INTERRUPTS.install()
    if (limit := memory_limit()) is not None:
        # OpenBLAS takes a stack and a buffer for each core that there is.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        sys.meta_path.insert(0, _Room(limit))
    sys.excepthook = _say_unexpected
    threading.excepthook = _say_of_thread
    sys.unraisablehook = _unraisable_hook(sys.unraisablehook)
    logging.getLogger(HUB).addFilter(_say_once_that_the_hub_is_away())
    make = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        made.msg, made.args = redacted(made.getMessage()), None
        if made.exc_info and made.exc_info[0] is not None:
            made.exc_text = redacted("".join(traceback.format_exception(*made.exc_info))).rstrip()
        return made

    logging.setLogRecordFactory(record)


def _unraisable_hook(before: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A hook that passes errors on to `before`, but for those that are reported elsewhere.

    Where memory runs out the hook may itself find none, and the interpreter would tell of that
    in lines of its own.
    """

    def hear(given: Any) -> None:
        try:
            if given.exc_type is not MemoryError and not _is_silent(given.exc_value):
                before(given)
        except MemoryError:
            return

    return hear


def _say_once_that_the_hub_is_away() -> Callable[[logging.LogRecord], bool]:
    """A filter that leaves one line of all those about requests that are tried again.

    If none succeeds, the command's own error says so.
    """
    is_said = False

    def passes(record: logging.LogRecord) -> bool:
        nonlocal is_said
        told = record.getMessage()
        if not told.startswith("Retrying in ") and " thrown while requesting " not in told:
            return True
        if is_said:
            return False
        is_said = True
        record.msg = "oversight: the hub does not answer; trying again for a while ..."
        record.args = None
        return True

    return passes


def _is_silent(error: BaseException | None) -> bool:
    """True if an error follows from one that is reported elsewhere."""
    return error is not None and (
        INTERRUPTS.seen > 0
        or isinstance(error, KeyboardInterrupt | BrokenPipeError)
        or lack(error) is not None
    )


def _say_unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A fault of ours, with its traceback."""
    told = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(visible(redacted(told)))


def _say_of_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is None or given.exc_type is SystemExit or _is_silent(given.exc_value):
        return
    _say_unexpected(given.exc_type, given.exc_value, given.exc_traceback)


def show_cursor() -> None:
    """Show a terminal's cursor, which a bar of progress has hidden that was cut off."""
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, SHOW_CURSOR.encode())


def say_plainly(message: str) -> None:
    """A line on stderr without any library, which may not find the memory to be loaded."""
    line = " ".join(redacted(message).split())
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    with contextlib.suppress(OSError):
        os.write(2, f"oversight: {shown}\n".encode("utf-8", "backslashreplace"))


def flush_output(*, is_told: bool) -> int | None:
    """Write out what is left for stdout; an exit code if nobody can take it.

    A reader that has gone (`| head`) is told nothing. A full disk is, unless the command has said
    already why it failed (`is_told`).
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence_output()
        return 1
    except OSError as error:
        silence_output()
        if not is_told:
            say_plainly(f"standard output cannot be written: {error.strerror or error}")
        return 1
    except ValueError:  # it is closed
        return None
    return None


def silence_output() -> None:
    """Send what may still be written to stdout nowhere: the interpreter's end tries once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
