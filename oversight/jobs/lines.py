"""Request and answer lines of OpenAI's batch format, to and from calls of an engine.

A request is {"custom_id", "method", "url", "body"}; an answer is {"id", "custom_id", "response":
{"status_code", "body"}, "error"}. Token ids stand under the names that vLLM gives them
(`token_ids`, `prompt_token_ids`), so what is sampled through files can be trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oversight.engines import openai, vllm
from oversight.engines.openai.failures import is_filtered, kind_in_file
from oversight.engines.openai.reply import (
    STATUS,
    MalformedReplyError,
    OpenedThoughts,
    Reply,
    ReportedError,
    complaint,
)
from oversight.engines.openai.reply import completion as completion_of
from oversight.engines.openai.settings import Wire, template_values
from oversight.engines.vllm.settings import first_token_request, unmasked_top
from oversight.errors import ConfigError, DataError, EngineError, EngineRefusedError
from oversight.files import whole_file
from oversight.ids import text_id
from oversight.types import (
    Completion,
    EngineSpec,
    FinishReason,
    Message,
    Prompt,
    Request,
    Sampling,
)

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WITHHELD: dict[str, Any] = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ""},
            "finish_reason": FinishReason.CONTENT_FILTER.value,
        }
    ]
}
"""Body that an error row of a content filter stands for, as of a live server: nothing was said."""
FINISHED = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line of a request file."""

    custom_id: str
    url: str
    body: Mapping[str, Any]

    def text(self) -> str:
        """The line as it is written, with its end."""
        line = {
            "custom_id": self.custom_id,
            "method": "POST",
            "url": self.url,
            "body": self.body,
        }
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """One line of an answer file: an answer's body, or the reason why there is none."""

    custom_id: str
    body: Mapping[str, Any] | None = None
    error: str = ""
    kind: type[EngineError] = EngineError
    """The error that a call without an answer comes to."""

    def text(self) -> str:
        """The line as it is written, with its end."""
        line: dict[str, Any] = {
            "id": f"batch_{self.custom_id}",
            "custom_id": self.custom_id,
            "response": None,
            "error": None,
        }
        if self.body is not None:
            line["response"] = {"status_code": 200, "body": self.body}
        else:
            line["error"] = {"message": self.error}
            if self.kind.cause:
                line["error"]["code"] = self.kind.cause
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


LOGPROBS_TEMPERATURE = "logprobs_temperature"
"""Key of a choice, of ours alone: see `Completion.logprobs_temperature`."""


class LineFormat:
    """The line format of one engine: writes its calls as lines and reads its answers."""

    def __init__(self, spec: EngineSpec) -> None:
        """The format for an engine as a recipe describes it.

        Raises:
            ConfigError: Its settings name no model: a file of requests has to.
        """
        settings = spec.settings
        self.is_vllm = spec.engine == "vllm"
        self.opens_thought: bool | None = None
        self._temperature_in_top = False
        self._logprobs_of: openai.Config | None = None
        """Settings that say of what distribution a server's log-probabilities are."""
        if spec.engine == "openai":
            served = openai.Config.parse(settings, where="engine.openai")
            extra = template_values(served.extra_body, served.enable_thinking)
            self.wire = Wire(
                served.api,
                served.dialect,
                served.max_tokens_name,
                extra,
                frozenset(served.leave_out),
            )
            self.model, self.opens_thought = served.model, served.prompt_opens_thought
            self._logprobs_of = served
        elif self.is_vllm:
            own = vllm.Config.parse(settings, where="engine.vllm")
            extra = template_values(own.extra_body, own.enable_thinking)
            self.wire = Wire(own.api, "vllm", "max_tokens", extra)
            self.model, self.opens_thought = own.model, own.prompt_opens_thought
            self._temperature_in_top = own.logprobs_mode == "processed_logprobs"
        else:
            self.wire = Wire("chat", "vllm", "max_tokens", {})
            self.model = str(settings.get("model", spec.engine))
        if not self.model:
            raise ConfigError(
                f"engine.{spec.engine}.model = '': requests in files name their model; set it to "
                "the name that the server knows it by"
            )

    def lines(self, request: Request) -> tuple[RequestLine, ...]:
        """The lines of a call: one, and a second where a choice is to be seen unmasked."""
        asked = [request]
        if self.is_vllm and request.sampling.choices and request.sampling.top_logprobs:
            asked.append(first_token_request(request))
        return tuple(map(self._line, asked))

    def _line(self, request: Request) -> RequestLine:
        body = self.wire.body(self.model, request, request.prompt, stream=False, live=False)
        url = CHAT if self.wire.api == "chat" else TEXT
        return RequestLine(f"call-{text_id(url, body.decode())}", url, json.loads(body))

    def completion(
        self,
        request: Request,
        answers: tuple[Mapping[str, Any], ...],
        *,
        engine: str,
        model: str,
    ) -> Completion:
        """The completion that the bodies of a call's answers hold.

        Raises:
            EngineRefusedError: One is no answer to what was asked; the message says why.
        """
        found = self._read(request, answers[0], engine=engine, model=model)
        if len(answers) == 1:
            return found
        free = self._read(first_token_request(request), answers[1], engine=engine, model=model)
        temperature = request.sampling.temperature if self._temperature_in_top else 0.0
        first = unmasked_top(free, found, temperature or 1.0)
        return replace(found, top=(first,) if first else ())

    def _read(
        self, request: Request, body: Mapping[str, Any], *, engine: str, model: str
    ) -> Completion:
        reply = Reply()
        try:
            reply.add(json.dumps(body).encode())
        except (MalformedReplyError, ReportedError) as error:
            raise EngineRefusedError(f"an answer cannot be read: {error}") from None
        if not reply.begun or reply.finish is None:
            raise EngineRefusedError("an answer holds no choice with a finish_reason")
        if fault := complaint(request, reply, self.wire.dialect):
            kind, reason, advice = fault
            raise kind(f"an answer is not what was asked for: {reason}; {advice}")
        thoughts = OpenedThoughts(self.opens_thought, is_vllm=False)
        thoughts.learn(reply)
        found = completion_of(
            request,
            reply,
            engine=engine,
            model=model,
            cancelled=False,
            seconds=0.0,
            opened=thoughts.opened(reply),
            logprobs_temperature=self._logprobs_temperature(request, body),
        )
        return replace(found, model=model) if self.wire.dialect == "vllm" else found

    def _logprobs_temperature(self, request: Request, body: Mapping[str, Any]) -> float | None:
        """The T of an answer's log-probabilities: as the answer says, or as the recipe does."""
        told = body["choices"][0].get(LOGPROBS_TEMPERATURE)  # that it has one was seen
        if isinstance(told, (int, float)) and not isinstance(told, bool):
            return float(told)
        sampling = request.sampling
        if self._logprobs_of is not None:
            return self._logprobs_of.logprobs_temperature(sampling)
        if not self.is_vllm or sampling.choices:
            return None
        return sampling.temperature_of_logprobs(self._temperature_in_top)


# --- lines of a request file, for an engine that answers them ---


def request_of(line: Mapping[str, Any]) -> Request:
    """The call that a request line asks for.

    Raises:
        ValueError: The line is no request, or asks for what no engine here takes.
    """
    body = line.get("body")
    if not isinstance(body, Mapping):
        raise ValueError("it has no body")
    prompt = body.get("prompt")
    messages = body.get("messages")
    if isinstance(messages, list) and messages:
        prompt = Prompt(messages=tuple(map(_message, messages)))
    elif isinstance(prompt, str):
        raise ValueError("its body has a prompt in place of messages; only chats are answered here")
    else:
        raise ValueError("its body has no messages")
    stop = body.get("stop") or ()
    choices = (body.get("structured_outputs") or {}).get("choice") or ()
    tokens = body.get("max_tokens", body.get("max_completion_tokens", 256))
    asked = body.get("logprobs")
    return Request(
        prompt=prompt,
        sampling=Sampling(
            max_tokens=int(tokens),
            temperature=float(body.get("temperature", 1.0)),
            top_p=float(body.get("top_p", 1.0)),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=body.get("seed"),
            choices=tuple(choices),
            logprobs=bool(asked),
            top_logprobs=int(body.get("top_logprobs") or 0),
        ),
        id=str(line.get("custom_id", "")),
        route=str(line.get("custom_id", "")),
    )


def _message(given: Any) -> Message:
    if not isinstance(given, Mapping) or not isinstance(given.get("content"), str):
        raise ValueError("one of its messages has no text as its content")
    return Message(role=given.get("role", "user"), parts=(given["content"],))


def answer_line(custom_id: str, found: Completion) -> AnswerLine:
    """The line that holds a completion, as a server would answer."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": found.text,
            **({"reasoning_content": found.reasoning} if found.reasoning else {}),
        },
        "finish_reason": FINISHED.get(found.finish_reason, found.finish_reason.value),
        "token_ids": list(found.token_ids),
    }
    if found.logprobs is not None or found.top:
        choice["logprobs"] = {"content": _positions(found)}
    if found.logprobs_temperature is not None:
        choice[LOGPROBS_TEMPERATURE] = found.logprobs_temperature
    usage = found.usage
    return AnswerLine(
        custom_id,
        {
            "object": "chat.completion",
            "model": found.model,
            "choices": [choice],
            "prompt_token_ids": list(found.prompt_ids),
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        },
    )


def _positions(found: Completion) -> list[dict[str, Any]]:
    sampled = found.logprobs or ()
    return [
        {
            "token": "",
            "logprob": sampled[index] if index < len(sampled) else 0.0,
            "top_logprobs": [
                {"token": token, "logprob": value}
                for token, value in (found.top[index] if index < len(found.top) else ())
            ],
        }
        for index in range(max(len(sampled), len(found.top)))
    ]


# --- lines of files ---


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line of a file that is none of the format, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line of a file as an object, and its place in bytes."""

    number: int
    start: int
    size: int
    value: Mapping[str, Any]


def lines_of(path: Path) -> Iterator[PlacedLine | BrokenLine]:
    """The lines of a file one by one; a last one that was cut short is a broken line.

    Raises:
        OSError: The file cannot be read.
    """
    start = 0
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            place, start = start, start + len(data)
            if not data.strip():
                continue
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                cut = "" if data.endswith(b"\n") else ", and was cut short"
                yield BrokenLine(number, f"it is no JSON ({type(error).__name__}){cut}")
                continue
            if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
                yield BrokenLine(number, "it has no custom_id")
                continue
            yield PlacedLine(number, place, len(data), value)


ANSWER_COLUMNS = ("custom_id", "response", "error")


def write_lines(parquet: Path, lines: Path) -> None:
    """Write the answers of a Parquet file as lines, so that they have places.

    It has the columns of an answer line: `custom_id`, and `response` and `error` as structures or
    as JSON.

    Raises:
        DataError: It is no such file.
        OSError: It cannot be read, or the lines cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = f"answer file {str(parquet)!r}"
    try:
        with pq.ParquetFile(parquet) as file:
            names = [name for name in ANSWER_COLUMNS if name in file.schema_arrow.names]
            if names[:2] != ["custom_id", "response"]:
                has = ", ".join(file.schema_arrow.names)
                raise DataError(
                    f"{where}: its columns are {has or 'none'}; answers have custom_id, response "
                    "and error, as the lines of a batch answer do"
                )
            rows = (row for batch in file.iter_batches(columns=names) for row in batch.to_pylist())
            with whole_file(lines) as part, part.open("w", encoding="utf-8", newline="\n") as out:
                for row in rows:
                    value = {name: _column(row.get(name)) for name in ANSWER_COLUMNS[1:]}
                    value["custom_id"] = row["custom_id"]
                    out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    except pa.ArrowException as error:
        raise DataError(f"{where}: no Parquet file ({error})") from None


def _column(value: Any) -> Any:
    """The value of a row, which may be JSON."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError):
            return json.loads(value)
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """A structure without the fields that it has only because another row has them."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def answer_of(value: Mapping[str, Any]) -> AnswerLine:
    """The answer that a line of an answer file holds; a failed call is one as well."""
    custom_id = str(value["custom_id"])
    response, error = value.get("response"), value.get("error")
    if isinstance(response, Mapping):
        status, body = response.get("status_code", 200), response.get("body")
        if isinstance(body, Mapping) and status == 200 and body.get("choices"):
            return AnswerLine(custom_id, body)
        error = error or (body.get("error") if isinstance(body, Mapping) else None) or body
        return _failed(custom_id, error, status)
    return _failed(custom_id, error, None)


def _failed(custom_id: str, error: Any, status: Any) -> AnswerLine:
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]  # vLLM's, which wraps it twice
    code = str((error.get("code") or error.get("type") or "") if isinstance(error, Mapping) else "")
    said = _said(error)
    shown = said if status is None else f"status {status}: {said}"
    number = next((int(str(each)) for each in (status, code) if STATUS.fullmatch(str(each))), None)
    if is_filtered(number, code):
        return AnswerLine(custom_id, WITHHELD)
    return AnswerLine(custom_id, error=shown, kind=kind_in_file(number, said, code))


def _said(error: Any) -> str:
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("code") or dict(error)
    return str(error)[:500] if error else "no reason given"
