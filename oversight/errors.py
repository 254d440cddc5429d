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
    ├── TrainingStopped                           a guard ended a run that had gone wrong
    ├── TrainingInterrupted                       somebody asked a run to stop; it can go on later
    └── EngineError            (RuntimeError)     a model could not answer
        ├── EngineUnavailableError (ConnectionError)  nobody answers at the address
        ├── EngineTimeoutError     (TimeoutError)     no answer in time
        ├── EngineRefusedError                        the server said no to this request
        ├── NoAnswerError                             the model answered and said nothing
        └── BudgetExceededError                       the spending limit is reached

A message names the dotted field or the file and line, shows the value, says
what is accepted and what to do. The command line prints these in one line,
without a traceback, and exits with code 2 where the user can mend the cause.
"""

from __future__ import annotations


class OversightError(Exception):
    """Root of the tree; catch this to catch everything raised on purpose."""

    exit_code: int = 2
    is_told: bool = False
    """Whether the process that met it has said so itself, as one of several."""
    cause: str = ""
    """Its kind in a word, by which the failures of a run are counted; empty for most."""


class ConfigError(OversightError, ValueError):
    """A setting is unknown, missing or out of range."""


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

    exit_code = 1


class SchemaError(StoreError):
    """The store was written by a version of oversight newer than this one."""

    exit_code = 2


class CheckpointError(OversightError, RuntimeError):
    """A checkpoint or a finished model cannot be written or read, or is not of this run."""

    exit_code = 1


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


class NoAnswerError(EngineError):
    """The model answered, and said nothing: a filter, a refusal, a thought alone."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class BudgetExceededError(EngineError):
    """The engine's budget of tokens or requests is used up."""

    exit_code = 2
