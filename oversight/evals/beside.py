"""A second process that does a part of a large piece of work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")


def can_fork() -> bool:
    """True where a process may be copied as it is, and there is a second core for the copy.

    A copy has one thread: what another one held at that moment stays locked in it. Other systems
    than Linux have libraries that do not bear it.
    """
    alone = threading.active_count() == 1
    return sys.platform == "linux" and alone and (os.cpu_count() or 1) > 1


@contextmanager
def beside(
    work: Callable[..., T], *args: Any, is_fork: bool = False
) -> Iterator[Callable[[], T | None]]:
    """Do `work(*args)` in a process of its own, which is ended with the context.

    What is yielded waits for the result when it is called: None if the work failed there, or its
    process was ended or could not be started.

    Args:
        work: Returns what can be pickled, and not None; a module's function unless `is_fork`.
        *args: Of `work`; pickled unless `is_fork`.
        is_fork: Copy this process with all it holds (see `can_fork`), instead of a new one.
    """
    context: Any = multiprocessing.get_context("fork" if is_fork else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, *args), daemon=True)
    try:
        with without_interrupts():  # who stops this process has it ended with the context
            process.start()
    except OSError:  # neither memory nor a place among the processes is left
        receiver.close()
        sender.close()
        yield lambda: None
        return
    sender.close()

    def result() -> T | None:
        try:
            found: T = receiver.recv()
        except EOFError:
            return None
        return found

    try:
        yield result
    finally:
        receiver.close()
        process.kill()
        process.join()


def _send(sender: Connection, work: Callable[..., object], *args: Any) -> None:
    # A failure is not told: whoever asks does the work again, and comes upon it.
    with suppress(Exception):
        sender.send(work(*args))


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started meanwhile; here it waits for the end.

    The tracker of shared memory is started first, as it would let signals through again.
    """
    resource_tracker.ensure_running()
    if not hasattr(signal, "pthread_sigmask"):
        yield  # on Windows
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
