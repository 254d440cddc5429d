"""Everything that oversight raises on purpose, as one tree.

    OversightError
    ├── ConfigError            (ValueError)       a setting is unknown or out of range
    ├── UnknownNameError       (LookupError)      no agent, engine, data set … of that name
    ├── MissingDependencyError (ImportError)      an optional package is not installed
    ├── DataError              (ValueError)       a data file holds rows that cannot be used
    ├── PromptError            (ValueError)       a prompt template is wrong
    ├── ProtocolError          (ValueError)       a protocol cannot be run as written
    ├── StoreError             (RuntimeError)     the store cannot be read or written
    │   └── SchemaError                           the store was written by a newer version
    ├── CheckpointError        (RuntimeError)     a checkpoint cannot be written, read or used here
    │   └── AnotherRunError                       what is there was made with other settings
    ├── TrainingStopped                           a guard ended a run that had gone wrong
    ├── TrainingInterrupted                       somebody asked a run to stop; it can go on later
    ├── AnswerPending                             a batch job's call has no answer yet
    ├── HubError               (RuntimeError)     the Hugging Face hub failed, or does not answer
    └── EngineError            (RuntimeError)     a model could not answer
        ├── EngineUnavailableError (ConnectionError)  nobody answers at the address
        ├── EngineTimeoutError     (TimeoutError)     no answer in time
        ├── EngineRefusedError                        the server said no to this request
        │   ├── PromptTooLongError                    the prompt leaves no room in the context
        │   ├── NoLogprobsError                       the server gives no log-probabilities
        │   └── AccessError                           it refuses the key, or has no such model
        ├── NoAnswerError                             the model answered and said nothing
        └── BudgetExceededError                       the spending limit is reached

A message names the dotted field or the file and line, shows the value, says
what is accepted and what to do. The command line prints these in one line,
without a traceback, and exits with code 2 where the user can mend the cause.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Self

from oversight.redaction import redacted


class OversightError(Exception):
    """Root of the tree; catch this to catch everything raised on purpose.

    Its message is stored, printed and sent to other processes: known secrets are taken out of it
    here, once.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(each) if isinstance(each, str) else each for each in args))

    exit_code: int = 2
    is_told: bool = False
    """True if the process that met it, one of several, has told of it already."""
    cause: str = ""
    """Its kind in a word, by which the failures of a run are counted; empty for most."""


class ConfigError(OversightError, ValueError):
    """A setting is unknown, missing or out of range."""


class FileError(ConfigError):
    """A file cannot be written: no room, no permission, or no such folder."""

    strerror = ""
    """The operating system's reason."""

    @classmethod
    def of(cls, setting: str, path: object, cause: Exception, *, is_folder: bool = False) -> Self:
        """The error of a file or folder that `setting` names, and that `cause` keeps from being
        written."""
        reason = getattr(cause, "strerror", None) or str(cause)
        kind = "folder" if is_folder else "file"
        error = cls(
            f"{setting} = {str(path)!r} cannot be written: {reason}. "
            f"Choose another {kind}, or make room."
        )
        error.strerror = reason
        return error


class UnknownNameError(OversightError, LookupError):
    """No agent, engine, data set, protocol or constitution has that name."""


class MissingDependencyError(OversightError, ImportError):
    """An optional package is needed and absent; the message says how to install it."""


class DataError(OversightError, ValueError):
    """A data file holds rows that cannot be used; the message lists file, line and reason."""


class PromptError(OversightError, ValueError):
    """A prompt template does not compile, or asks for a name that it is not given."""


class ProtocolError(OversightError, ValueError):
    """A protocol cannot be run as written, or does not fit the question."""


class StoreError(OversightError, RuntimeError):
    """The store cannot be opened, read or written."""


class SchemaError(StoreError):
    """The store was written by a version of oversight newer than this one."""


class CheckpointError(OversightError, RuntimeError):
    """A checkpoint or a finished model cannot be written or read, or is not of this run."""

    exit_code = 1


class AnotherRunError(CheckpointError):
    """A folder's content was made with other settings or data than those it is to go on with."""

    exit_code = 2


class TrainingStopped(OversightError):
    """A guard ended a run that had gone wrong; the message says what was seen and what to try."""

    exit_code = 1

    def __init__(self, message: str, guard: str, value: float, bound: float, step: int) -> None:
        super().__init__(message)
        self.guard = guard
        self.value = value
        self.bound = bound
        self.step = step


class TrainingInterrupted(OversightError):
    """A run was asked to stop and left a checkpoint; the message is how to go on."""

    exit_code = 130


class AnswerPending(OversightError):
    """A call of a batch job has no answer yet: what asked goes on once it has one."""


class HubError(OversightError, RuntimeError):
    """The Hugging Face hub failed or does not answer; the message says how to go on."""

    exit_code = 1


class EngineError(OversightError, RuntimeError):
    """A model could not answer; the message names the server and the request."""

    exit_code = 1


class EngineUnavailableError(EngineError, ConnectionError):
    """Nobody answers at the address, or the connection broke and stayed broken."""

    cause = "unavailable"


class EngineTimeoutError(EngineError, TimeoutError):
    """The model did not answer within the time allowed."""

    cause = "timeout"


class EngineRefusedError(EngineError):
    """The server refused this request; asking again would not help."""

    exit_code = 2
    cause = "refused_by_server"


class PromptTooLongError(EngineRefusedError):
    """The prompt and its answer do not fit into the model's context."""

    cause = "prompt_too_long"


class NoLogprobsError(EngineRefusedError):
    """The server gives no log-probabilities; without them the same call may be answered."""


class AccessError(EngineRefusedError):
    """The server refuses the key, or knows no such model: so it would every other request."""

    cause = "no_access"


class NoAnswerError(EngineError):
    """The model answered, and said nothing: a filter, a refusal, a thought alone."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class BudgetExceededError(EngineError):
    """The engine's budget of tokens or requests is used up."""

    exit_code = 2


def _words(pattern: str) -> re.Pattern[str]:
    # Made beforehand: where memory runs out there is none left to make it.
    return re.compile(pattern, re.IGNORECASE)


_LACKS: dict[str, tuple[frozenset[int], re.Pattern[str], str]] = {
    "there is not enough memory": (
        frozenset({errno.ENOMEM}),
        _words(
            r"can't allocate memory|cannot allocate memory|not enough memory|failed to map segment|"
            r"bad_alloc|unable to allocate \d|error return without exception set|"
            # Where an exception has no room to be made, the interpreter knows that one is missing.
            r"returned NULL without setting an exception"
        ),
        "lower concurrency, jobs or batch sizes, take a smaller model, or raise the limit "
        "(ulimit -v) if there is one",
    ),
    "the GPU's memory is full": (
        frozenset(),
        _words(
            r"CUDA out of memory|CUDA error: out of memory|HIP out of memory|"
            r"MPS backend out of memory"
        ),
        "lower batch sizes or concurrency, or take a smaller model or dtype",
    ),
    "no more threads or processes can be started": (
        frozenset({errno.EAGAIN}),
        _words(r"can't start new thread|can't fork|pthread_create"),
        "lower concurrency or jobs, set OMP_NUM_THREADS=1, or raise the limit (ulimit -u)",
    ),
    "too many files are open": (
        frozenset({errno.EMFILE, errno.ENFILE}),
        _words(r"too many open files|unable to open database file.*too many"),
        "lower concurrency, or raise the limit (ulimit -n)",
    ),
    "the disk is full": (
        frozenset({errno.ENOSPC, errno.EDQUOT}),
        _words(r"no space left on device|disk quota exceeded|database or disk is full"),
        "make room, or name another folder; what was written before is kept",
    ),
}
"""Resources that may run out: the numbers and words that say so, and a remedy."""

_NO_MEMORY = "there is not enough memory"
NO_ROOM = f"{_NO_MEMORY}: {_LACKS[_NO_MEMORY][2]}"


def lack(error: BaseException) -> str | None:
    """One line on what of the machine has run out, if that is behind `error`; else None."""
    try:
        return _lack(error)
    except (MemoryError, SystemError):
        return NO_ROOM  # not even for finding that out


def _lack(error: BaseException) -> str | None:
    for each in _behind(error):
        if isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            return _lacking(*_of_threads(str(each)))
        number = each.errno if isinstance(each, OSError) else None
        said = str(each)
        for what, (numbers, words, advice) in _LACKS.items():
            if number in numbers or (_may_lack(each) and words.search(said)):
                return _lacking(what, said, advice)
        if isinstance(each, MemoryError) or type(each).__name__ == "OutOfMemoryError":
            what = "there is not enough memory"
            return _lacking(what, said, _LACKS[what][2])
    return None


def _may_lack(error: BaseException) -> bool:
    """Return whether an error's words are searched: its kind is one that a lack comes as."""
    return isinstance(error, OSError | RuntimeError | ImportError | SystemError | MemoryError) or (
        type(error).__module__.partition(".")[0] in ("sqlalchemy", "sqlite3", "psycopg", "torch")
    )


def _of_threads(said: str) -> tuple[str, str, str]:
    """The resource that a thread could not be started for: most often room for its stack."""
    what = "there is not enough memory" if _is_limited() else _NO_THREADS
    return what, said, _LACKS[what][2]


_NO_THREADS = "no more threads or processes can be started"


def is_unmapped(error: BaseException) -> bool:
    """True of SQLite's I/O errors that under a limit are a lack of address space, and no fault of
    the disk: it maps the index of its write-ahead log."""
    name = getattr(error, "sqlite_errorname", "")
    return name in ("SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_NOMEM") and _is_limited()


def _is_limited() -> bool:
    """True if there is a limit on the process's address space (ulimit -v)."""
    try:
        import resource
    except ImportError:
        return False
    return bool(resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY)


def _lacking(what: str, said: str, advice: str) -> str:
    reason = " ".join(said.split())[:200]
    return f"{what}{f' ({reason})' if reason else ''}: {advice}"


def _behind(error: BaseException, depth: int = 0) -> Iterator[BaseException]:
    """An error, those of a group, and those that it came from."""
    yield error
    if depth > 8:
        return
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _behind(each, depth + 1)
    came_from = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if came_from is not None:
        yield from _behind(came_from, depth + 1)
