"""An engine that asks by files: calls with an answer are completed, the others are written out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from oversight.engines.base import open_engine
from oversight.errors import AnswerPending
from oversight.jobs.folder import JobFolder, WaveWriter
from oversight.jobs.lines import LineFormat
from oversight.models.identity import content_name
from oversight.types import Capabilities, Chunk, Completion, Engine, EngineSpec, Request


class FileEngine:
    """Stands for another engine in a batch job, whose name and model its completions bear."""

    def __init__(self, spec: EngineSpec, folder: JobFolder, wave: WaveWriter) -> None:
        """The engine for one wave.

        Raises:
            ConfigError: A setting of the other engine is wrong, or it names no model.
        """
        self._format = LineFormat(spec)
        self._folder, self._wave = folder, wave
        self.name = spec.engine
        self.model = (
            self._format.model if spec.engine == "openai" else content_name(self._format.model)
        )
        self.capabilities = _capabilities(spec)
        self.num_answers = 0
        """Calls that were completed from answers."""
        self.num_tokens = 0
        """Tokens of their prompts and answers, as they were counted."""
        self.num_waiting = 0
        """Calls that wait for an answer."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions of calls that are answered.

        Raises:
            AnswerPending: Some have no answer yet; they stand in the wave's files.
            EngineError: One was answered by an error: that of a live server which says the same.
                Asked again, it is written out anew.
        """
        done = [self._answered(request) for request in requests]
        completions = [each for each in done if each is not None]
        if len(completions) < len(done):
            self.num_waiting += len(done) - len(completions)
            raise AnswerPending(f"{len(done) - len(completions)} calls wait for an answer")
        return completions

    def _answered(self, request: Request) -> Completion | None:
        lines = self._format.lines(request)
        answers = [self._folder.answer(line.custom_id) for line in lines]
        failed = [answer for answer in answers if answer is not None and answer.error]
        if failed:
            for answer in failed:
                self._folder.forget_failure(answer.custom_id)
            first = failed[0]
            raise first.kind(f"{self.model}: {first.custom_id}: {first.error}")
        bodies = tuple(each.body for each in answers if each is not None and each.body is not None)
        if len(bodies) < len(lines):
            for line, known in zip(lines, answers, strict=True):
                if known is None and not self._folder.is_asked(line.custom_id):
                    self._wave.add(line, request.route)
            return None
        found = self._format.completion(request, bodies, engine=self.name, model=self.model)
        self.num_answers += len(bodies)
        self.num_tokens += found.usage.prompt_tokens + found.usage.completion_tokens
        return found

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion in one piece. Raises as `generate`."""
        [found] = await self.generate([request])
        yield Chunk(found.text, found)

    async def cancel(self, request_id: str) -> None:
        """Nothing is in flight."""

    async def aclose(self) -> None:
        """Nothing is held."""


def file_engines(folder: JobFolder, wave: WaveWriter) -> Callable[[EngineSpec], Engine]:
    """A function that opens engines for a wave, in place of `open_engine`."""
    return lambda spec: FileEngine(spec, folder, wave)


def _capabilities(spec: EngineSpec) -> Capabilities:
    """Of the engine itself; opened, it may have loaded nothing yet."""
    return open_engine(spec).capabilities
