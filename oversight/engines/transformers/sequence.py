"""One request in the in-process engine: checked, encoded, handed to the model's thread, decoded.

Text is made of whole characters only, and cut at the first stop string.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from oversight.chat.answers import REPLACEMENT, AnswerDecoder
from oversight.chat.prompt_ids import ChatIds
from oversight.errors import EngineError, EngineRefusedError, OversightError, PromptTooLongError
from oversight.types import Completion, FinishReason, Request, Usage

if TYPE_CHECKING:
    from oversight.chat.prompt_ids import TokenIds
    from oversight.engines.transformers.batching import SequenceBatch


class Detokenizer:
    """Turns sampled ids into text piece by piece.

    A token is decoded together with those shortly before it, because many
    tokenizers write a token differently at the start of a text. Text is held
    back while it ends within a character or could still become a stop string.
    The pieces that `take` gave add up to `text`.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._token_ids: list[int] = []
        self._window_start = 0
        self._window_read = 0
        self._num_taken = 0
        self.text = ""
        self.stopped = False

    def add(self, token_id: int) -> bool:
        """Add a token; true if a stop string is now complete."""
        self._token_ids.append(token_id)
        self._read(final=False)
        return self.stopped

    def finish(self) -> str:
        """No more tokens come; gives the whole text.

        Bytes at its end that are no whole character are left off, as servers do: what others read
        of an answer that was cut has no sign in it that nobody said.
        """
        if not self.stopped:
            self._read(final=True)
        return self.text

    def take(self, final: bool = False) -> str:
        """Text that is certain by now and was not taken yet."""
        end = len(self.text)
        if not (final or self.stopped):
            end -= self._held_back()
        piece = self.text[self._num_taken : end]
        self._num_taken = max(self._num_taken, end)
        return piece

    def _read(self, final: bool) -> None:
        before = self._decode(self._token_ids[self._window_start : self._window_read])
        after = self._decode(self._token_ids[self._window_start :])
        if final:
            after = after.rstrip(REPLACEMENT)
        if len(after) <= len(before) or after.endswith(REPLACEMENT):
            return
        self._window_start, self._window_read = self._window_read, len(self._token_ids)
        self._append(after[len(before) :])

    def _append(self, piece: str) -> None:
        longest = max((len(stop) for stop in self._stop), default=0)
        start = max(len(self.text) - longest + 1, 0)
        self.text += piece
        found = [self.text.find(stop, start) for stop in self._stop]
        cuts = [place for place in found if place >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
            self.stopped = True

    def _held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self.text)), longest, -1):
                if self.text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


Top = tuple[tuple[str, float], ...]


@dataclass(eq=False)
class Job:
    """A request that somebody waits for. The callbacks are called in the engine's thread."""

    request: Request
    on_text: Callable[[str], None] | None
    """Takes pieces of the answer; None if only the whole is wanted."""
    on_done: Callable[[Completion | Exception], None]
    cancelled: bool = False
    """Set by any thread: end at the next step with what there is."""
    opened: bool = False
    """The prompt opens a thought, for the answer to go on with; known before anything is said."""
    submitted_at: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class RunningSequence:
    """A job, its prompt as ids, and what has been sampled."""

    job: Job
    prompt_ids: TokenIds
    max_tokens: int
    max_length: int
    """Tokens whose keys and values it may come to need, scored choices included."""
    choices: tuple[TokenIds, ...]
    text: Detokenizer
    random: random.Random
    num_cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    failure: str = ""
    """The reason why it could not be answered."""

    @property
    def ended(self) -> bool:
        """True once nothing more is to be computed."""
        return self.finish_reason is not None or bool(self.failure)

    def all_ids(self) -> TokenIds:
        """Prompt and sampled tokens."""
        return np.concatenate([self.prompt_ids, np.asarray(self.token_ids, dtype=np.int64)])

    def completion(self, engine: str, model: str) -> Completion:
        """Return the caller's completion; to be called once `finish_reason` is known."""
        assert self.finish_reason is not None
        request = self.job.request
        return Completion(
            request_id=request.id,
            text=self.text.text,
            prompt_ids=tuple(self.prompt_ids.tolist()),
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            usage=Usage(
                prompt_tokens=len(self.prompt_ids),
                completion_tokens=len(self.token_ids),
                cached_tokens=self.num_cached,
            ),
            engine=engine,
            model=model,
            seconds=time.perf_counter() - self.job.submitted_at,
            logprobs=tuple(self.logprobs) if request.sampling.logprobs else None,
            top=tuple(self.top),
            opened=self.job.opened,
            # Those of choices are the model's own.
            logprobs_temperature=request.sampling.temperature_of_logprobs(
                is_tempered=not request.sampling.choices
            )
            if request.sampling.logprobs
            else None,
        )


@dataclass(frozen=True)
class BatchLimits:
    """Limits on the number and length of sequences that run at the same time."""

    max_model_len: int | None
    max_batch_size: int
    max_batch_tokens: int

    def max_length(self) -> tuple[int, str]:
        """Tokens that one sequence may have, and the setting that says so."""
        if self.max_model_len is None or self.max_batch_tokens < self.max_model_len:
            return self.max_batch_tokens, "max_batch_tokens"
        return self.max_model_len, "max_model_len"

    def fits(self, sequences: Sequence[RunningSequence]) -> bool:
        """True if these can run together; rows are as long as the longest may become."""
        longest = max(sequence.max_length for sequence in sequences)
        return len(sequences) <= self.max_batch_size and (
            len(sequences) == 1 or len(sequences) * longest <= self.max_batch_tokens
        )


class Intake:
    """Makes sequences of jobs."""

    def __init__(self, tokenizer: Any, chat: ChatIds, limits: BatchLimits) -> None:
        self._chat = chat
        self._limits = limits
        self._answers = AnswerDecoder(tokenizer)

    def sequence(self, job: Job) -> RunningSequence:
        """A job ready to run. An answer that could grow beyond the limit is cut there.

        Raises:
            EngineRefusedError: It cannot be sampled as asked.
            PromptTooLongError: Its prompt leaves no room.
        """
        request, sampling = job.request, job.request.sampling
        check_sampling(request)
        prompt_ids = self._chat.prompt_ids(request.prompt)
        choices = tuple(self._chat.choice_ids(request.prompt, text) for text in sampling.choices)
        if any(len(ids) == 0 for ids in choices):
            raise EngineRefusedError(f"request {request.id!r}: a choice has no tokens")
        branches = sum(len(ids) - 1 for ids in choices)
        needed = branches if choices else 1
        limit, setting = self._limits.max_length()
        if len(prompt_ids) + needed > limit:
            raise PromptTooLongError(
                f"request {request.id!r}: its prompt has {len(prompt_ids)} tokens and the answer "
                f"needs {needed} or more, but {setting} = {limit}; shorten the prompt"
                + (" or raise the setting" if setting == "max_batch_tokens" else "")
            )
        max_tokens = min(sampling.max_tokens, limit - len(prompt_ids))
        job.opened = self._answers.is_thinking(prompt_ids)
        return RunningSequence(
            job=job,
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            max_length=len(prompt_ids) + (branches if choices else max_tokens),
            choices=choices,
            text=Detokenizer(self._answers.text, sampling.stop),
            random=random.Random(sampling.seed),
        )


def check_sampling(request: Request) -> None:
    """Refuse what cannot be sampled.

    Raises:
        EngineRefusedError: The message names the field, its value and what is accepted.
    """
    sampling = request.sampling
    problems = [
        (sampling.max_tokens < 1, "max_tokens", "1 or more"),
        (not 0 <= sampling.temperature < math.inf, "temperature", "0 or more"),
        (not 0 < sampling.top_p <= 1, "top_p", "above 0 and at most 1"),
        (sampling.top_logprobs < 0, "top_logprobs", "0 or more"),
        ("" in sampling.stop, "stop", "strings that are not empty"),
        ("" in sampling.choices, "choices", "strings that are not empty"),
        (len(set(sampling.choices)) < len(sampling.choices), "choices", "different strings"),
    ]
    for wrong, name, accepted in problems:
        if wrong:
            raise EngineRefusedError(
                f"request {request.id!r}: sampling.{name} = {getattr(sampling, name)!r}: "
                f"give {accepted}"
            )


class ModelThread:
    """Runs jobs in a thread that starts with the first one.

    Args:
        load: Gives the batch; called in the thread for the first job, and again for the next
            one if it raises.
    """

    def __init__(self, load: Callable[[], SequenceBatch]) -> None:
        self._load = load
        self._batch: SequenceBatch | None = None
        self._inbox: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def batch(self) -> SequenceBatch | None:
        """The batch, once it is loaded."""
        return self._batch

    def submit(self, job: Job) -> None:
        """Hand a job over.

        Raises:
            EngineError: The engine is closed.
        """
        with self._news:
            if self._closed:
                raise EngineError(f"request {job.request.id!r}: the engine is closed")
            self._inbox.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="oversight-transformers", daemon=True
                )
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """End all jobs and the thread, and give the model's memory back. Blocks for one step."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._next_jobs()
            if self._closed:
                self._end(jobs)
                return
            batch = self._loaded(jobs)
            if batch is not None:
                for job in jobs:
                    batch.add(job)
                batch.step()

    def _next_jobs(self) -> list[Job]:
        """All jobs that are new; waits for one while the batch has nothing to do."""
        with self._news:
            while not (self._inbox or self._closed or (self._batch and self._batch.busy)):
                self._news.wait()
            jobs = list(self._inbox)
            self._inbox.clear()
        return jobs

    def _loaded(self, jobs: list[Job]) -> SequenceBatch | None:
        """The batch, loaded if it is not yet; if that fails, `jobs` end with the reason."""
        if self._batch is None:
            try:
                self._batch = self._load()
            except Exception as error:
                reason = error if isinstance(error, OversightError) else EngineError(str(error))
                reason.__cause__ = None if reason is error else error
                for job in jobs:
                    job.on_done(reason)
        return self._batch

    def _end(self, jobs: list[Job]) -> None:
        closed = EngineError("the engine was closed before it answered")
        for job in jobs:
            job.on_done(closed)
        if self._batch is not None:
            self._batch.fail_all(closed)
            self._batch = None
