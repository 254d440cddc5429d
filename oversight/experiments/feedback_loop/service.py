"""A guard as a program of its own, started by the command a person types, and its clients.

Nothing of the guard is imported: it is served, asked, told, exported from and given other weights
by `oversight guard …` and over HTTP, as in use.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from oversight.engines import all_at_once
from oversight.errors import EngineError
from oversight.experiments.feedback_loop.users import Word
from oversight.ids import seed_from
from oversight.types import Question

NAME = "helper"
"""The model's name for clients."""
STORE, GUARD = "calls.db", "guard.toml"
CONCURRENCY = 32
START_S, REPLACE_S = 180.0, 180.0
"""Longest waits for a guard that starts, and for weights that are loaded."""
PAUSE_S = 0.1
"""Pause of a client between an answer and its next request, while weights are replaced."""
STARTED = """
import os, sys, threading
from oversight.experiments.workers import end_with_parent
threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
from oversight.cli.main import main
main()
"""
"""The command line in a process that ends with the one that began it, even where that is killed."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer that a client was sent."""

    id: str
    """By which a user's word is joined to it."""
    text: str
    weights: str
    """The content of the model that gave it."""


def command(folder: Path, *words: str) -> str:
    """Output of `oversight guard …`, typed in a folder.

    Raises:
        EngineError: It failed; the last of what it said.
    """
    line = [sys.executable, "-c", STARTED, "guard", *words]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"oversight guard {words[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the guard of a folder, for as long as it is needed.

    Raises:
        EngineError: It does not start; the folder's guard.log says why.
    """
    line = [sys.executable, "-c", STARTED, "guard", "serve", GUARD, "--port", "0"]
    with (
        (folder / "guard.log").open("ab") as log,
        subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as guard,
    ):
        try:
            assert guard.stdout is not None
            found = re.search(r"http://[0-9.]+:[0-9]+", guard.stdout.readline())
            if found is None:
                raise EngineError(f"the guard did not start; {folder / 'guard.log'} says why")
            yield found[0]
        finally:
            guard.terminate()
            try:
                guard.wait(30)
            except subprocess.TimeoutExpired:
                guard.kill()


class ServiceClient:
    """Clients of a guard: they ask, and say what they think of the answers."""

    def __init__(self, url: str, temperature: float, max_tokens: int) -> None:
        self._url = url
        self._sampling: Json = {"temperature": temperature, "max_tokens": max_tokens}
        self._client = httpx.AsyncClient(base_url=url, timeout=START_S, trust_env=False)
        self._bound = asyncio.Semaphore(CONCURRENCY)

    async def __aenter__(self) -> ServiceClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, question: Question, seed: int, *, stream: bool = False) -> GivenAnswer:
        """The answer to a request.

        Raises:
            EngineError: There was none, or it came to no end.
        """
        drawn = seed_from("ask", seed, question.id) % 2**31
        body = {"model": NAME, "messages": question.chat.chat(), "seed": drawn, **self._sampling}
        async with self._bound:
            try:
                if stream:
                    return await self._streamed({**body, "stream": True})
                answer = (await self._post("/v1/chat/completions", body)).json()
            except httpx.HTTPError as error:
                raise EngineError(f"{question.id} has no answer: {error!r}") from error
        words = answer["choices"][0]["message"]["content"]
        return GivenAnswer(answer["id"], words, answer["system_fingerprint"])

    async def _streamed(self, body: Json) -> GivenAnswer:
        id_, weights, pieces, is_whole = "", "", [], False
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                data = line.removeprefix("data: ")
                if not data or line == data:
                    continue
                if data == "[DONE]":
                    is_whole = True
                    continue
                event = json.loads(data)
                if "error" in event:
                    break
                id_, weights = event["id"], event.get("system_fingerprint", weights)
                pieces += [each["delta"].get("content") or "" for each in event["choices"]]
        if answer.status_code != 200 or not is_whole:
            raise EngineError(f"a stream came to no end (status {answer.status_code})")
        return GivenAnswer(id_, "".join(pieces), weights)

    async def ask_all(self, questions: Sequence[Question], seed: int) -> list[GivenAnswer]:
        """The answers to some requests, in their order; raises as `ask`."""
        return await all_at_once(self.ask(each, seed) for each in questions)

    async def tell(self, answers: Sequence[GivenAnswer], words: Sequence[Word]) -> None:
        """Say a word on each answer.

        Raises:
            EngineError: One of them was not taken.
        """

        async def one(answer: GivenAnswer, word: Word) -> None:
            async with self._bound:
                await self._post("/v1/feedback", {"id": answer.id, **word})

        await all_at_once(one(*each) for each in zip(answers, words, strict=True))

    async def weights(self) -> Json:
        """The weights that answer, as /health has them.

        Raises:
            EngineError: Other weights could not take their place.
        """
        found: Json = (await self._client.get("/health")).json()["models"][NAME]
        if found["failed"]:
            raise EngineError(f"the guard could not replace its weights: {found['failed']}")
        return found

    async def _post(self, path: str, body: Json) -> httpx.Response:
        answer = await self._client.post(path, json=body)
        if answer.status_code != 200:
            raise EngineError(f"{path} answered {answer.status_code}: {answer.text[:200]}")
        return answer


@dataclass(frozen=True, slots=True)
class Replaced:
    """The calls that came while weights were replaced."""

    before: int
    """Answered by the weights in use."""
    after: int
    """Answered by the new ones."""


async def replace_under_load(
    client: ServiceClient, folder: Path, model: Path, questions: Sequence[Question], seed: int
) -> Replaced:
    """Put other weights in place while clients go on asking, every other one for a stream.

    Args:
        client: Of the guard.
        folder: The guard's.
        model: Folder of the new weights.
        questions: Asked again and again meanwhile.
        seed: Of the answers.

    Raises:
        EngineError: A call was lost, or the weights could not be replaced.
    """
    old = (await client.weights())["model"]
    is_over = asyncio.Event()
    answered: list[str] = []

    async def go_on(place: int) -> None:
        number = place
        while not is_over.is_set():
            question = questions[number % len(questions)]
            found = await client.ask(question, seed + number, stream=bool(number % 2))
            answered.append(found.weights)
            number += 3
            await asyncio.sleep(PAUSE_S)

    async def replace() -> None:
        try:
            await asyncio.to_thread(command, folder, "replace", GUARD, NAME, str(model))
            async with asyncio.timeout(REPLACE_S):
                while (await client.weights())["model"] == old:  # noqa: ASYNC110 - it is asked
                    await asyncio.sleep(0.05)
            while sum(each != old for each in answered) < 10:  # noqa: ASYNC110 - they are asked
                await asyncio.sleep(0.01)
        except TimeoutError:
            raise EngineError(f"after {REPLACE_S:.0f} s the weights were the same") from None
        finally:
            is_over.set()

    await all_at_once([replace(), *(go_on(place) for place in range(3))])
    num_before = sum(each == old for each in answered)
    return Replaced(num_before, len(answered) - num_before)
