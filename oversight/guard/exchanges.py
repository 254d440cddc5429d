"""One call: from the client's request to the last word that is sent, whole or in events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from oversight.guard.calls import (
    Call,
    CallOutcome,
    ChoiceRecord,
    Logprobs,
    failed,
    head_of,
    messages_of,
    number_of,
    outcome_of,
    public_id,
)
from oversight.guard.checks.base import GuardedExchange
from oversight.guard.policy import Action, Policy, place_system
from oversight.guard.refusals import language_of, refusal
from oversight.guard.screening import Ending, Finding, ScreenedChoice, screen_input
from oversight.guard.streaming import SentPiece
from oversight.guard.upstreams import ApiError, Json, Path, Upstream, invalid
from oversight.registry import nearest


class ModelGuard:
    """A policy in front of some models."""

    def __init__(
        self,
        policy: Policy,
        upstreams: Mapping[str, Upstream],
        on_end: Sequence[Callable[[Call], None]] = (),
    ) -> None:
        self.policy = policy
        self._upstreams = upstreams
        self._on_end = on_end

    async def models(self) -> list[str]:
        """Names that a client can ask for."""
        found: dict[str, None] = {}
        for name, upstream in self._upstreams.items():
            found |= dict.fromkeys(await upstream.models() or (name,))
        return list(found)

    def watch(self, tell: Callable[[Call], None]) -> None:
        """Let a function know of each call that is over."""
        self._on_end = (*self._on_end, tell)

    async def whole(self, path: Path, body: Json, outcome: list[str] | None = None) -> Json:
        """The checked answer to a request that asks for all of it at once.

        Args:
            path: The API's path.
            body: The request.
            outcome: Its first place takes the outcome.

        Raises:
            ApiError: The request is wrong, is blocked, or the model could not answer.
        """
        call = Call(path)
        try:
            upstream = self._begin(call, body)
            stop = await self._screen(call)
            if stop is not None:
                return self._refused_whole(call, stop, number_of(body))
            started = time.perf_counter()
            answer = await upstream.answer(path, self._sent(call, body))
            call.upstream_s = time.perf_counter() - started
            call.usage = answer.get("usage") or {}
            choices = answer.get("choices")
            if not isinstance(choices, list):
                raise ApiError("the model's answer has no choices", 502, "upstream_error")
            checked = [await self._whole_choice(call, upstream, each) for each in choices]
            call.outcome = outcome_of(call)
            return {**answer, "id": public_id(call), "choices": checked}
        except ApiError as error:
            failed(call, error)
            raise
        finally:
            self._ended(call, outcome)

    async def stream(
        self, path: Path, body: Json, outcome: list[str] | None = None
    ) -> AsyncGenerator[Json, None]:
        """The checked answer in events.

        Args:
            path: The API's path.
            body: The request.
            outcome: Its first place takes the outcome.

        Raises:
            ApiError: As `whole`; before the first event where it is known by then.
        """
        call = Call(path)
        try:
            upstream = self._begin(call, body)
            stop = await self._screen(call)
            if stop is not None:
                for event in self._refused_events(call, stop, number_of(body)):
                    yield event
                return
            run = StreamedChoices(self, call, upstream, number_of(body))
            async with aclosing(upstream.stream(path, self._sent(call, body))) as events:
                async for event in events:
                    async for checked in run.take(event):
                        yield checked
                    if run.is_over:
                        break
            async for checked in run.end():
                yield checked
            call.outcome = outcome_of(call)
        except ApiError as error:
            failed(call, error)
            raise
        finally:
            self._ended(call, outcome)

    # --- before the model ---

    def _begin(self, call: Call, body: Json) -> Upstream:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise invalid("model: name the model, as GET /v1/models lists them", "model")
        call.model, call.messages = model, messages_of(call.path, body)
        return self._upstream(model)

    def _upstream(self, model: str) -> Upstream:
        if model in self._upstreams:
            return self._upstreams[model]
        others = [each for name, each in self._upstreams.items() if name == "*"]
        if others:
            return others[0]
        raise ApiError(
            f"model = {model!r}: there is no such model here.{nearest(model, self._upstreams)}",
            404,
            "invalid_request_error",
            "model_not_found",
            "model",
        )

    async def _screen(self, call: Call) -> Finding | None:
        """The finding of the input that stops the call, if there is one."""
        screened = await screen_input(self.policy, call.messages)
        call.findings = screened.findings
        stop = screened.stop
        placed: list[Json] | None = screened.messages
        if call.path == "chat/completions":
            placed = place_system(self.policy, screened.messages)
        if placed is None:
            raise invalid(
                "messages: this service has a system message of its own, and takes no other",
                "messages",
            )
        call.sent = placed
        if stop is not None and stop.action is Action.BLOCK:
            raise ApiError(
                "the request was blocked by the policy of this service",
                400,
                "invalid_request_error",
                "content_filter",
            )
        return stop

    def _sent(self, call: Call, body: Json) -> Json:
        if call.path == "chat/completions":
            return {**body, "messages": call.sent}
        given = body["prompt"]
        texts = [each["content"] for each in call.sent]
        return {**body, "prompt": texts if isinstance(given, list) else texts[0]}

    # --- refusals ---

    def refusal(self, call: Call, stop: Finding, *, partly: bool) -> str:
        """The words of a refusal, in the language of the user's last message; none of a block."""
        if stop.action is Action.BLOCK:
            return ""
        reason = self.policy.settings.checks[stop.check].reason
        language = language_of(GuardedExchange(call.messages).request)
        return refusal(reason, language, self.policy.settings.refusals, partly=partly)

    def _refused_whole(self, call: Call, stop: Finding, number: int) -> Json:
        words = self.refusal(call, stop, partly=False)
        call.outcome = CallOutcome.REFUSED
        for index in range(number):
            call.choices[index] = ChoiceRecord("", words, [], stop, "content_filter")
        chat = call.path == "chat/completions"
        said: Json = (
            {"message": {"role": "assistant", "content": words}} if chat else {"text": words}
        )
        end = {"logprobs": None, "finish_reason": "content_filter"}
        head = head_of(call, "chat.completion" if chat else "text_completion")
        choices = [{"index": index, **said, **end} for index in range(number)]
        usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
        return head | {"choices": choices, "usage": usage}

    def _refused_events(self, call: Call, stop: Finding, number: int) -> list[Json]:
        whole = self._refused_whole(call, stop, number)
        chat = call.path == "chat/completions"
        head = head_of(call, "chat.completion.chunk" if chat else "text_completion")
        events = []
        for choice in whole["choices"]:
            words = choice.pop("message", None)
            first = {"delta": words} if chat else {"text": choice.pop("text")}
            last: Json = {"delta": {}} if chat else {"text": ""}
            events.append(head | {"choices": [{**choice, **first, "finish_reason": None}]})
            events.append(head | {"choices": [{**choice, **last}]})
        return events

    # --- whole answers ---

    async def _whole_choice(self, call: Call, upstream: Upstream, choice: Json) -> Json:
        chat = call.path == "chat/completions"
        given = choice.get("message") if chat else {"text": choice.get("text") or ""}
        message = given if isinstance(given, dict) else {}
        run = OneChoice(self, call, int(choice.get("index") or 0))
        logprobs = Logprobs(choice.get("logprobs"))
        logprobs.add(choice.get("logprobs"))
        sent = run.screen.feed(message)
        ending = await run.screen.finish()
        sent += ending.sent
        words: dict[str, str] = {}
        kept: list[Any] = []
        for name, pieces in sent:
            words[name] = words.get(name, "") + "".join(piece.text for piece in pieces)
            if name in ("content", "text"):
                kept += logprobs.take(pieces, run.screen.words(name))
        extra: Json = {}
        for each in ending.extra:
            extra |= each
        main = "content" if chat else "text"
        reason = choice.get("finish_reason")
        if ending.stop is not None:
            tail, reason = await run.after_stop(upstream, ending)
            words[main] = words.get(main, "") + tail
        run.close(words.get(main, ""), ending.stop, str(reason))
        for name in message.keys() & {
            "content",
            "text",
            "refusal",
            "reasoning_content",
            "reasoning",
        }:
            words.setdefault(name, message[name] if not message[name] else "")
        said = {"role": message.get("role", "assistant"), **words, **extra} if chat else words
        body: Json = {**choice, "finish_reason": reason}
        if choice.get("logprobs") is not None:
            body["logprobs"] = logprobs.shaped(kept)
        return body | ({"message": said} if chat else said)

    async def revised(
        self, call: Call, upstream: Upstream, written: str, stop: Finding
    ) -> str | None:
        """The model's revision by the principle of a check; None if it does not stand either."""
        asked = self.policy.revisions[stop.check]
        messages = [
            *call.sent,
            {"role": "assistant", "content": written},
            {"role": "user", "content": asked},
        ]
        try:
            answer = await upstream.answer(
                "chat/completions", {"model": call.model, "messages": messages}
            )
            words = answer["choices"][0]["message"]["content"]
        except (ApiError, LookupError, TypeError):
            return None
        if not isinstance(words, str) or not words:
            return None
        exchange = GuardedExchange(call.sent, system=self.policy.system)
        screen = ScreenedChoice(self.policy, exchange, {each.check for each in call.findings})
        sent = screen.feed({"content": words})
        ending = await screen.finish()
        if ending.stop is not None:
            return None
        return "".join(piece.text for _, pieces in (*sent, *ending.sent) for piece in pieces)

    def _ended(self, call: Call, outcome: list[str] | None) -> None:
        if outcome is not None:
            outcome[0] = call.outcome.value
        call.seconds = time.perf_counter() - call.started
        for tell in self._on_end:
            tell(call)

    async def aclose(self) -> None:
        """Close the models and the checks."""
        for upstream in self._upstreams.values():
            await upstream.aclose()
        await self.policy.aclose()


class OneChoice:
    """The screen of one choice, and its record."""

    def __init__(self, guard: ModelGuard, call: Call, index: int) -> None:
        exchange = GuardedExchange(call.sent, system=guard.policy.system)
        self.screen = ScreenedChoice(guard.policy, exchange, {each.check for each in call.findings})
        self.index = index
        self.delivered: list[str] = []
        self.is_over = False
        self._guard, self._call = guard, call
        call.choices[index] = ChoiceRecord()

    async def after_stop(self, upstream: Upstream, ending: Ending) -> tuple[str, str]:
        """The words that follow what was sent, and the reason of the end."""
        stop = ending.stop
        assert stop is not None
        if stop.action is Action.REVISE:
            written = self.screen.words("content") or self.screen.words("text")
            found = await self._guard.revised(self._call, upstream, written, stop)
            if found is not None:
                return found, "stop"
        partly = self.screen.has_sent
        return self._guard.refusal(self._call, stop, partly=partly), "content_filter"

    def close(self, delivered: str, stop: Finding | None, reason: str) -> None:
        """Write down how it ended."""
        self.is_over = True
        record = self._call.choices[self.index]
        record.written = self.screen.words("content") or self.screen.words("text")
        record.delivered, record.stop, record.finish_reason = delivered, stop, reason
        record.findings = self.screen.findings


class StreamedChoices:
    """The choices of an answer that comes in events."""

    def __init__(self, guard: ModelGuard, call: Call, upstream: Upstream, number: int) -> None:
        self._guard, self._call, self._upstream = guard, call, upstream
        self._number = number
        self._choices: dict[int, OneChoice] = {}
        self._logprobs: dict[int, Logprobs] = {}
        self._reasons: dict[int, str | None] = {}
        self._chat = call.path == "chat/completions"
        self._main = "content" if self._chat else "text"
        self._head: Json = {}

    @property
    def is_over(self) -> bool:
        """True if all choices were stopped: nothing more of the answer is wanted."""
        stopped = [each for each in self._choices.values() if each.screen.stop is not None]
        return len(stopped) >= self._number and all(each.is_over for each in stopped)

    async def take(self, event: Json) -> AsyncGenerator[Json, None]:
        """The events that can be sent once this one has come."""
        self._head = {k: v for k, v in event.items() if k not in ("choices", "usage")}
        self._head["id"] = public_id(self._call)
        given = event.get("choices")
        for choice in given if isinstance(given, list) else []:
            if isinstance(choice, dict):
                async for checked in self._take_choice(choice):
                    yield checked
        if event.get("usage"):
            self._call.usage = event["usage"]
            if not given:
                async for checked in self.end():  # a server may leave finish_reason out
                    yield checked
                yield self._head | {"choices": [], "usage": event["usage"]}

    async def _take_choice(self, choice: Json) -> AsyncGenerator[Json, None]:
        index = int(choice.get("index") or 0)
        run = self._choices.get(index)
        if run is None:
            run = self._choices[index] = OneChoice(self._guard, self._call, index)
            self._logprobs[index] = Logprobs(choice.get("logprobs"))
        if run.is_over:
            return
        given = choice.get("delta") if self._chat else {"text": choice.get("text") or ""}
        delta = given if isinstance(given, dict) else {}
        self._logprobs[index].add(choice.get("logprobs"))
        first = {"role": delta["role"]} if delta.get("role") else {}
        for event in self._events(run, run.screen.feed(delta), first):
            yield event
        if choice.get("finish_reason") is not None:
            self._reasons[index] = str(choice["finish_reason"])
        if run.screen.stop is not None or self._reasons.get(index) is not None:
            async for event in self._finish(run):
                yield event

    def _events(
        self, run: OneChoice, sent: Sequence[tuple[str, list[SentPiece]]], first: Json
    ) -> list[Json]:
        events = []
        for name, pieces in sent:
            words = "".join(piece.text for piece in pieces)
            logprobs = None
            if name == self._main:
                run.delivered.append(words)
                kept = self._logprobs[run.index].take(pieces, run.screen.words(name))
                logprobs = self._logprobs[run.index].shaped(kept) if kept else None
            if words or logprobs:
                events.append(self._event(run.index, {**first, name: words}, logprobs))
                first = {}
        if first and self._chat:
            events.append(self._event(run.index, {**first, "content": ""}))
        return events

    async def _finish(self, run: OneChoice) -> AsyncGenerator[Json, None]:
        ending = await run.screen.finish()
        for event in self._events(run, ending.sent, {}):
            yield event
        for given in ending.extra:
            extra = given
            if calls := given.get("tool_calls"):
                extra = {
                    **extra,
                    "tool_calls": [{"index": n, **each} for n, each in enumerate(calls)],
                }
            yield self._event(run.index, extra)
        reason = self._reasons.get(run.index) or "stop"
        if ending.stop is not None:
            words, reason = await run.after_stop(self._upstream, ending)
            if words:
                run.delivered.append(words)
                yield self._event(run.index, {self._main: words})
        run.close("".join(run.delivered), ending.stop, reason)
        yield self._event(run.index, {} if self._chat else {"text": ""}, None, reason)

    async def end(self) -> AsyncGenerator[Json, None]:
        """The last events of choices that have none yet."""
        for run in self._choices.values():
            if not run.is_over:
                async for event in self._finish(run):
                    yield event

    def _event(
        self, index: int, words: Json, logprobs: Any = None, reason: str | None = None
    ) -> Json:
        said = {"delta": words} if self._chat else words
        choice = {"index": index, **said, "logprobs": logprobs, "finish_reason": reason}
        return self._head | {"choices": [choice]}
