"""Evaluations of others in Inspect's logs, as questions with answers.

A sample with choices is a question that the model judges by itself: its choice is a belief, and the
debate's protocol has no speakers. A sample without choices is an open prompt with one response,
and each score of it is feedback: an edit is a further revision of the same scorer's. What tools did
in between stands in the prompt of the last call, as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from pydantic import JsonValue

from oversight.ids import seed_from
from oversight.protocols import load as load_protocol
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    EngineSpec,
    Feedback,
    FinishReason,
    JudgeKind,
    Judgment,
    Message,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    OwnAnswer,
    Prompt,
    PromptRecord,
    Purpose,
    Question,
    Role,
    Sample,
    Seat,
    Stored,
    Task,
    Turn,
    Usage,
    Verdict,
)
from oversight.types.ratings import item_id

Json: TypeAlias = dict[str, Any]

SCORE_TASK = "inspect_score"
"""Task that scores of responses are filed under."""
UNCHANGED = "UNCHANGED"
"""Inspect's word for a field that an edit of a score leaves as it was."""
NUMBERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Scores that are words, as Inspect's own metrics read them."""
STOP_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
SAID = re.compile(r"ANSWER\s*:\s*\(?([A-Za-z0-9]+)\)?", re.IGNORECASE)
"""The line that Inspect's multiple choice asks for."""


class NoQuestion(ValueError):
    """A sample that is no question; the message says why not."""


class Evaluated:
    """One sample of an evaluation, as the records of a debate."""

    def __init__(self, sample: Json, header: Json) -> None:
        """Read the sample.

        Raises:
            NoQuestion: It asks nothing, or what it asks cannot be a question.
            ValueError: A field is not what it should be.
        """
        self._sample = _migrated(sample, header)
        self._spec: Json = header["eval"]
        self._steps: list[Json] = (header.get("plan") or {}).get("steps") or []
        self._texts: Mapping[str, str] = sample.get("attachments") or {}
        self.task = str(self._spec.get("task") or "inspect")
        self.model = str(self._spec.get("model") or "model")
        self.question = self._question()
        self.debate = self._debate()
        self.completion, self._reasoning = self._answer()

    @property
    def num_edits(self) -> int:
        """The number of scores that were edited."""
        scores = self._sample.get("scores") or {}
        return sum(len(each.get("history") or ()) > 1 for each in scores.values())

    def records(self) -> tuple[Stored, ...]:
        """Question, debate, answer, scores and end."""
        sample, prompt = self._call()
        said: list[Stored] = [self.question, self.debate]
        has_answer = bool(self.completion.strip() or self._reasoning)
        if has_answer:
            said += [] if prompt is None else [prompt]
            said += self._response(sample) if self.question.is_open else [self._judgment(sample)]
        return (*said, self._outcome(has_answer=has_answer))

    # --- the question ---

    def _question(self) -> Question:
        given = self._sample.get("input")
        choices = [str(each) for each in self._sample.get("choices") or ()]
        target = self._sample.get("target", "")
        name = str((self._spec.get("dataset") or {}).get("name") or self.task)
        common: Json = {
            "id": f"{self.task}/{self._sample['id']}",
            "dataset": name,
            "meta": {"target": target},
        }
        history, text = _in_turns(self._chat(given))
        if len(choices) >= 2:
            if not all(map(str.strip, choices)) or len(set(map(str.strip, choices))) < len(choices):
                raise NoQuestion("two of its choices are the same, or one is empty")
            return Question(
                text=text,
                options=tuple(Option(text=each) for each in choices),
                correct=_index(target, choices),
                **common,
            )
        return Question(text=text, history=history, **common)

    def _chat(self, given: Any) -> list[tuple[str, str]]:
        """Messages as roles and texts; what a tool said is told by the user."""
        if isinstance(given, str):
            return [("user", self._text(given))]
        found = []
        for message in given or ():
            role = str(message.get("role"))
            text = self._text(message.get("content"))
            if calls := message.get("tool_calls"):
                names = ", ".join(
                    f"{each.get('function')}({each.get('arguments')})" for each in calls
                )
                text = f"{text}\n[calls {names}]".strip()
            role = role if role in ("system", "assistant") else "user"
            found.append((role, text))
        return found

    def _text(self, content: Any, kind: str = "text") -> str:
        """The words of a content; what is no text is named in brackets."""
        if isinstance(content, str):
            key = re.sub(r"^(attachment|tc)://", "", content)
            return self._texts.get(key, content) if key != content else content
        words = []
        for part in content or ():
            name = str(part.get("type"))
            if name == kind:
                words.append(self._text(part.get(kind) or ""))
            elif kind == "text" and name != "reasoning":
                words.append(f"[{name}]")
        return "\n".join(words)

    # --- the debate ---

    def _debate(self) -> Debate:
        is_open = self.question.is_open
        role = Role.RESPONDER if is_open else Role.JUDGE
        steps = (self._spec.get("solver"), *(each.get("solver") for each in self._steps))
        solver = next((str(each) for each in steps if each), "solver")
        spec = AgentSpec(
            agent=f"inspect/{solver}",
            settings={"task": self.task},
            engine=EngineSpec(engine="inspect", settings={"model": self.model}),
        )
        num = len(self.question.options)
        place = (self._spec.get("eval_id") or self._spec.get("run_id"), self._sample["epoch"])
        return Debate(
            question_id=self.question.id,
            question_fingerprint=self.question.fingerprint,
            protocol=_protocol(self.task, is_open=is_open),
            agents={role: spec},
            orders=Orders(
                options=tuple(range(num)), defends=(0, 1) if num else (), shown=(Seat.A, Seat.B)
            ),
            # A sample that a later log took over from an earlier one has the same uuid in both.
            seed=seed_from("inspect", self._sample.get("uuid") or place),
        )

    # --- the answer ---

    def _answer(self) -> tuple[str, str]:
        """The model's last words, and its reasoning where it is kept apart."""
        output = self._sample.get("output") or {}
        choices = output.get("choices") or ()
        if not choices:
            return self._text(output.get("completion") or ""), ""
        content = (choices[0].get("message") or {}).get("content")
        return self._text(content), self._text(content, "reasoning") if content else ""

    def _call(self) -> tuple[Sample, PromptRecord | None]:
        """The call of the model that gave the answer, and its prompt."""
        output = self._sample.get("output") or {}
        chat, config = self._asked(output)
        # What comes behind the last question is the answer itself.
        given = [Message(role=_role(role), parts=(text,)) for role, text in chat]
        prompt = PromptRecord(Prompt(messages=tuple(given))) if given else None
        usage = output.get("usage") or {}
        cached = usage.get("input_tokens_cache_read")
        choices = output.get("choices") or [{}]
        purpose = Purpose.SPEECH if self.question.is_open else Purpose.BELIEF
        sample = Sample(
            purpose=purpose,
            engine="inspect",
            model=str(output.get("model") or self.model),
            prompt_id=prompt.prompt.id if prompt else "",
            text=self.completion,
            reasoning=self._reasoning,
            token_ids=(),
            temperature=config.get("temperature"),
            top_p=config.get("top_p"),
            finish_reason=STOP_REASONS.get(str(choices[0].get("stop_reason")), FinishReason.STOP),
            usage=Usage(
                prompt_tokens=int(usage.get("input_tokens") or 0) + int(cached or 0),
                completion_tokens=int(usage.get("output_tokens") or 0),
                cached_tokens=None if cached is None else int(cached),
            ),
            seconds=_number(output.get("time")),
        )
        return sample, prompt

    def _asked(self, output: Json) -> tuple[list[tuple[str, str]], Json]:
        """The messages that the answer answers, and the settings that it was sampled with.

        The call itself has both; its messages may stand once for all calls (`events_data`). Without
        it they are the sample's own messages before the last answer.
        """
        pool = (self._sample.get("events_data") or {}).get("messages") or []
        wanted = (output.get("completion"), self.completion)
        for event in reversed(self._sample.get("events") or ()):
            if event.get("event") != "model" or event.get("error"):
                continue
            said = event.get("output") or {}
            if self._text(said.get("completion") or "") not in wanted:
                continue
            messages = list(event.get("input") or ())
            for start, end in event.get("input_refs") or ():
                messages += pool[start:end]
            return self._chat(messages), event.get("config") or {}
        messages = list(self._sample.get("messages") or ())
        while messages and messages[-1].get("role") == "assistant":
            messages.pop()
        return self._chat(messages), (self._spec.get("model_generate_config") or {})

    def _judgment(self, sample: Sample) -> Judgment:
        return Judgment(
            debate_id=self.debate.id,
            judge=self.model,
            kind=JudgeKind.MODEL,
            orders=self.debate.orders,
            final=self._belief(),
            samples=(sample,),
        )

    def _belief(self) -> Belief:
        """The option that the model chose, as its first score or its own words say."""
        num = len(self.question.options)
        given = [_first(each).get("answer") for each in self._scores().values()]
        found = [_place(str(each), num) for each in given if each]
        if not any(each is not None for each in found):
            found = [_place(each, num) for each in SAID.findall(self.completion)[-1:]]
        chosen = next((each for each in found if each is not None), None)
        if chosen is None:
            return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw=self.completion)
        probs = tuple(float(index == chosen) for index in range(num))
        return Belief(
            verdict=Verdict.DECIDED,
            method=BeliefMethod.PARSED,
            probs=probs,
            raw=self.completion,
        )

    def _response(self, sample: Sample) -> list[Stored]:
        turn = Turn(
            debate_id=self.debate.id,
            step=0,
            round=1,
            seat=Seat.A,
            role=Role.RESPONDER,
            act=Act.RESPOND,
            text=self.completion,
            reasoning=self._reasoning,
            samples=(sample,),
            seconds=_number(self._sample.get("total_time")),
        )
        return [turn, *self._ratings(turn)]

    def _ratings(self, turn: Turn) -> Iterator[Feedback]:
        """Each score as feedback; of an edited one every value that it had, the last one last."""
        item = item_id(SCORE_TASK, (turn.id,))
        for scorer, score in self._scores().items():
            for revision, (fields, provenance) in enumerate(_values(score)):
                at = str((provenance or {}).get("timestamp") or "")
                yield Feedback(
                    debate_id=self.debate.id,
                    item=item,
                    turn_ids=(turn.id,),
                    judge=scorer,
                    kind=JudgeKind.LEXICAL,
                    revision=revision,
                    answer=OwnAnswer(
                        task=SCORE_TASK,
                        fields=fields | ({"provenance": _plain(provenance)} if provenance else {}),
                        turns=Task.PRINCIPLES,
                        preference=_as_number(fields["value"]),
                    ),
                    rationale=str(fields.get("explanation") or ""),
                    sent_at=at,
                )

    def _scores(self) -> dict[str, Json]:
        found: dict[str, Json] = self._sample.get("scores") or {}
        return found

    def _outcome(self, *, has_answer: bool) -> Outcome:
        """The end: failed where the sample stopped by an error, was declared invalid, or says
        nothing."""
        error, cause = "", ""
        if found := self._sample.get("error"):
            error, cause = str(found.get("message") or "error"), "inspect"
        elif found := self._sample.get("invalidation"):
            why = f": {found['reason']}" if found.get("reason") else ""
            error, cause = f"invalidated by {found.get('author')}{why}", "invalidated"
        elif not has_answer:
            limit = self._sample.get("limit") or {}
            error = f"no answer{': limit of ' + str(limit.get('type')) if limit else ''}"
            cause = "limit" if limit else "no_answer"
        return Outcome(
            debate_id=self.debate.id,
            status=OutcomeStatus.FAILED if error else OutcomeStatus.COMPLETE,
            error=error,
            cause=cause,
            seconds=_number(self._sample.get("total_time")),
            ended_at=str(self._sample.get("completed_at") or self._spec.get("created") or ""),
        )


def _migrated(sample: Json, header: Json) -> Json:
    """A sample as today's version lays it out: one `score` becomes `scores`, `transcript` events.

    Raises:
        NoQuestion: It has neither id nor epoch.
    """
    found = dict(sample)
    if "id" not in found or not isinstance(found.get("epoch"), int):
        raise NoQuestion("it has no id and epoch")
    if "score" in found:
        results = header.get("results") or {}
        named = results.get("scores") or [results.get("scorer") or {}]
        name = str((named[0] if named else {}).get("name") or "score")
        found["scores"] = {name: found.pop("score")}
    if isinstance(found.get("transcript"), dict):
        old = found.pop("transcript")
        found |= {"events": old.get("events"), "attachments": old.get("content")}
        sample["attachments"] = old.get("content")
    found["scores"] = {
        name: score
        for name, score in (found.get("scores") or {}).items()
        if isinstance(score, dict)
    }
    return found


@cache
def _protocol(task: str, *, is_open: bool) -> OversightProtocol:
    """A protocol under the task's name: one response, or one judgment."""
    base = load_protocol("response" if is_open else "naive")
    update = {"name": task, "description": "A task of Inspect, read from its log."}
    return base.model_copy(update=update)


def _role(role: str) -> Any:
    return role if role in ("system", "assistant") else "user"


def _in_turns(chat: Sequence[tuple[str, str]]) -> tuple[tuple[Message, ...], str]:
    """The messages before the last words of the user, as an open prompt takes them; and these.

    Messages of one role in a row become one, and system messages stand first.

    Raises:
        NoQuestion: The user says nothing.
    """
    system = [text for role, text in chat if role == "system" and text.strip()]
    found: list[tuple[str, str]] = [("system", "\n\n".join(system))] if system else []
    for role, text in chat:
        if role == "system" or not text.strip():
            continue
        if found and found[-1][0] == role:
            found[-1] = (role, f"{found[-1][1]}\n\n{text}")
        else:
            found.append((role, text))
    while found and found[-1][0] != "user":
        found.pop()  # the beginning of an answer that was laid into the model's mouth
    if not found:
        raise NoQuestion("its input holds no words of a user")
    before = tuple(Message(role=_role(role), parts=(text,)) for role, text in found[:-1])
    return before, found[-1][1]


def _index(target: Any, choices: Sequence[str]) -> int | None:
    """The right option by its letter or its words; None of several, or where nobody knows."""
    given = [target] if isinstance(target, str) else list(target or ())
    if len(given) != 1:
        return None
    word = str(given[0]).strip()
    found = _place(word, len(choices))
    if found is None and word in (stripped := [each.strip() for each in choices]):
        return stripped.index(word)
    return found


def _place(word: str, num: int) -> int | None:
    """The index of an option by its sign: A to Z, then 1, 2 and so on."""
    word = word.strip().strip("().").upper()
    if len(word) == 1 and "A" <= word <= "Z":
        index = ord(word) - ord("A")
    elif word.isascii() and word.isdigit() and int(word):
        index = 25 + int(word)
    else:
        return None
    return index if index < num else None


def _first(score: Json) -> Json:
    """A score as the scorer gave it, before any edit."""
    history = score.get("history") or ()
    return history[0] if history else score


def _values(score: Json) -> Iterator[tuple[dict[str, JsonValue], Json | None]]:
    """Every value that a score had, with who made it so; the scorer itself is nobody."""
    names = ("value", "answer", "explanation", "reason", "metadata")
    fields: Json = {}
    for edit in score.get("history") or [score]:
        for name in names:
            given = edit.get(name)
            if given != UNCHANGED and (name == "value" or given is not None):
                fields[name] = _plain(given)
        yield dict(fields), edit.get("provenance")


def _plain(value: Any) -> Any:
    """A value without numbers that are not finite: as of Inspect's mark for what is not scored."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _as_number(value: Any) -> float | None:
    """A score between 0 and 1, or None where it is no such number."""
    if isinstance(value, str):
        number = NUMBERS.get(value, NUMBERS.get(value.lower()))
        if number is None:
            try:
                number = float(value)
            except ValueError:
                return None
    elif isinstance(value, bool | int | float):
        number = float(value)
    else:
        return None
    return number if 0.0 <= number <= 1.0 else None


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return max(float(value), 0.0) if is_number else 0.0
