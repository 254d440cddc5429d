"""A debate as a sample of Inspect's: what `inspect view` shows of it, and its records.

Turns, beliefs and scores stand where Inspect looks for them: as messages, as events in spans, and
under `scores`. These are for eyes, and leave things out; what is read back are the records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from oversight.ids import content_id
from oversight.interop.inspect_records import RECORDS, records_text
from oversight.types import (
    Belief,
    Debate,
    FinishReason,
    Judgment,
    Message,
    OutcomeStatus,
    PromptRecord,
    Question,
    Role,
    Sample,
    Transcript,
    Turn,
    Verdict,
)

Json: TypeAlias = dict[str, Any]
VERDICT, BELIEF, INVALID = "verdict", "belief", "invalid"
"""Names of the scores of a judged debate."""
UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Begin of what nobody knows the time of."""


# --- what is shown ---


def shown(text: str) -> str:
    """A text without halves of characters, which Inspect cannot read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def letter(index: int) -> str:
    """The sign of an option by its index, as Inspect gives it: A to Z, then 1, 2 and so on."""
    return chr(ord("A") + index) if index < 26 else str(index - 25)


def scores_of(question: Question, judgment: Judgment) -> Json:
    """The scores of a judgment: its verdict, its belief in the right option, and if it could be
    read.

    A verdict is "C" or "I", and "P" for a tie. What is neither, as of INVALID, of an abstention or
    where nobody knows the right option, is NaN, which Inspect counts as not scored.
    """
    final = judgment.final
    known = question.correct
    value: Any = math.nan
    if known is not None and final.verdict is Verdict.DECIDED:
        value = "C" if final.choice == known else "I"
    elif known is not None and final.verdict is Verdict.TIE:
        value = "P"
    p = math.nan if known is None or final.probs is None else final.probs[known]
    about: Json = {
        "judge": shown(judgment.judge),
        "verdict": final.verdict.value,
        "probs": None if final.probs is None else list(final.probs),
        "trajectory": [
            [step, None if each.probs is None else list(each.probs)]
            for step, each in judgment.trajectory
        ],
    }
    said: Json = {"explanation": shown(judgment.rationale or final.raw), "metadata": about}
    if final.choice is not None:
        said["answer"] = letter(final.choice)
    missing: Json = {}
    if final.verdict is Verdict.INVALID:
        missing["reason"] = "invalid_response_format"
    elif final.verdict is Verdict.ABSTAIN:
        missing["reason"] = "abstained"
    return {
        VERDICT: {"value": value, **said, **missing},
        BELIEF: {"value": p, "explanation": belief_line(question, final), **missing},
        INVALID: {"value": int(final.verdict is Verdict.INVALID)},
    }


def belief_line(question: Question, belief: Belief) -> str:
    """A belief in words: the verdict, and the probability of each option."""
    if belief.probs is None:
        return belief.verdict.value
    each = (
        f"{letter(index)} {p:.0%} ({shown(option.text)})"
        for index, (option, p) in enumerate(zip(question.options, belief.probs, strict=False))
    )
    return f"{belief.verdict.value}: {', '.join(each)}"


def first_judgment(transcript: Transcript) -> Judgment | None:
    """The judgment of the debate's own judge in the order that was drawn, or None."""
    own = [each for each in transcript.judgments if each.agent is None and not each.swapped]
    return next(iter(own or transcript.judgments), None)


def heading(turn: Turn, question: Question, debate: Debate) -> str:
    """Words over a turn: who acts, in which round, and what for."""
    seat = "" if turn.role is Role.JUDGE else f" {turn.seat.value.upper()}"
    what = f"{turn.role.value.capitalize()}{seat}, {turn.stance or turn.act.value}"
    place = f"{what}, round {turn.round}" if turn.round else f"{what}, opening"
    if turn.argues and debate.orders.defends:
        index = debate.orders.defended_by(turn.seat)
        place += f", for {letter(index)}: {shown(question.options[index].text)}"
    return place


def messages_of(transcript: Transcript, judgment: Judgment | None) -> list[Json]:
    """The question, the turns that stand and a judgment, as messages of a chat."""
    question, debate = transcript.question, transcript.debate
    messages = [_message(debate.id, "question", "user", asked(question))]
    for turn in transcript.spoken():
        words = [f"**{heading(turn, question, debate)}**"]
        words += [shown(turn.text)] if turn.text else []
        words += [belief_line(question, turn.belief)] if turn.belief else []
        messages.append(_message(debate.id, turn.id, "assistant", "\n\n".join(words)))
    if judgment is not None:
        text = f"**Judge, verdict**\n\n{belief_line(question, judgment.final)}"
        text += f"\n\n{shown(judgment.rationale)}" if judgment.rationale else ""
        messages.append(_message(debate.id, judgment.id, "assistant", text))
    return messages


def asked(question: Question) -> str:
    """The question as it is shown: the text, and the options by their letters."""
    options = [f"{letter(index)}) {option.text}" for index, option in enumerate(question.options)]
    return shown("\n".join([question.text, *options]))


def _message(debate_id: str, place: str, role: str, content: str) -> Json:
    return {"id": content_id("message", debate_id, place)[:22], "role": role, "content": content}


def output_of(transcript: Transcript, judgment: Judgment | None) -> Json:
    """The judge's answer, or the last response to an open prompt, as Inspect's output."""
    if judgment is not None:
        model = judgment.judge
        text = judgment.final.raw or judgment.rationale
        text = text or belief_line(transcript.question, judgment.final)
        samples = judgment.samples
    else:
        said = [turn for turn in transcript.spoken() if turn.act.is_spoken]
        if not said:
            return {"model": "", "choices": [], "completion": ""}
        text, samples = said[-1].text, said[-1].samples
        model = said[-1].role.value
    model = samples[-1].model if samples else model
    return _output(shown(model), shown(text), samples[-1] if samples else None)


STOP_REASONS = {
    FinishReason.LENGTH: "max_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CANCELLED: "unknown",
}


def _output(model: str, text: str, sample: Sample | None) -> Json:
    reasons = "stop" if sample is None else STOP_REASONS.get(sample.finish_reason, "stop")
    content: Any = text
    if sample is not None and sample.reasoning:
        thought = {"type": "reasoning", "reasoning": shown(sample.reasoning)}
        content = [thought, {"type": "text", "text": text}]
    message = {"role": "assistant", "content": content, "source": "generate", "model": model}
    choice = {"message": message, "stop_reason": reasons}
    found: Json = {"model": model, "choices": [choice], "completion": text}
    if sample is not None:
        found |= {"usage": _usage([sample]), "time": sample.seconds}
    return found


def _usage(samples: Iterable[Sample]) -> Json:
    """Tokens of several calls together, the cached ones apart, as Inspect counts them."""
    read = cached = written = 0
    for each in samples:
        cached += each.usage.cached_tokens or 0
        read += each.usage.prompt_tokens - (each.usage.cached_tokens or 0)
        written += each.usage.completion_tokens
    found = {"input_tokens": read, "output_tokens": written}
    found |= {"input_tokens_cache_read": cached} if cached else {}
    return found | {"total_tokens": read + cached + written}


def usage_by_model(transcript: Transcript) -> dict[str, Json]:
    """Tokens of a debate by model."""
    by_model: dict[str, list[Sample]] = {}
    said: tuple[Turn | Judgment, ...] = (*transcript.turns, *transcript.judgments)
    for each in said:
        for sample in each.samples:
            by_model.setdefault(shown(sample.model), []).append(sample)
    return {model: _usage(samples) for model, samples in by_model.items()}


# --- events ---


@dataclass
class _Events:
    """Events of a sample, with the long texts of prompts kept once beside them."""

    debate_id: str
    at: datetime
    prompts: Mapping[str, PromptRecord]
    events: list[Json] = field(default_factory=list)
    attachments: dict[str, str] = field(default_factory=dict)
    started: datetime = UNKNOWN_TIME

    def __post_init__(self) -> None:
        self.started = self.at

    def add(self, kind: str, span: str | None = None, **fields: Any) -> Json:
        """Add an event at the present moment; returns it."""
        place = content_id("event", self.debate_id, len(self.events))[:22]
        event = {
            "event": kind,
            "uuid": place,
            "span_id": span,
            "timestamp": self.at.isoformat(),
            "working_start": (self.at - self.started).total_seconds(),
            **fields,
        }
        self.events.append(event)
        return event

    def span(self, name: str) -> str:
        """Begin a span; returns its id."""
        place = content_id("span", self.debate_id, len(self.events))[:22]
        self.add("span_begin", place, id=place, name=name)
        return place

    def calls(self, span: str, role: str, samples: Iterable[Sample]) -> None:
        """Add the calls of a model."""
        for sample in samples:
            record = self.prompts.get(sample.prompt_id)
            messages = () if record is None else record.prompt.messages
            config: Json = {}
            if sample.temperature is not None:
                config["temperature"] = sample.temperature
            if sample.top_p is not None:
                config["top_p"] = sample.top_p
            model = shown(sample.model)
            self.add(
                "model",
                span,
                model=model,
                role=role,
                input=[{"role": each.role, "content": self._parts(each)} for each in messages],
                tools=[],
                tool_choice="none",
                config=config,
                output=_output(model, shown(sample.text), sample),
                working_time=sample.seconds,
                completed=(self.at + timedelta(seconds=_seconds(sample.seconds))).isoformat(),
            )

    def _parts(self, message: Message) -> list[Json]:
        """The parts of a message, long ones by reference: prompts of a debate share them."""
        return [{"type": "text", "text": self._attached(shown(part))} for part in message.parts]

    def _attached(self, text: str) -> str:
        if len(text) <= 100:
            return text
        key = content_id("attachment", text)[:32]
        self.attachments[key] = text
        return f"attachment://{key}"


def _events_of(
    transcript: Transcript, prompts: Mapping[str, PromptRecord], begin: datetime
) -> _Events:
    """Each turn and judgment in a span of its own: calls of models, words, belief, scores."""
    question, debate = transcript.question, transcript.debate
    events = _Events(debate.id, begin, prompts)
    at, step, longest = begin, -1, 0.0
    for turn in transcript.turns:
        if turn.step != step:  # what is said in one step is said at the same time
            at, step, longest = at + timedelta(seconds=longest), turn.step, 0.0
        longest = max(longest, _seconds(turn.seconds))
        events.at = at
        name = heading(turn, question, debate)
        name += "" if turn.chosen else f" (candidate {turn.candidate}, not chosen)"
        span = events.span(name)
        events.calls(span, turn.role.value, turn.samples)
        events.at = at + timedelta(seconds=_seconds(turn.seconds))
        if turn.text:
            events.add("info", span, source="said", data=shown(turn.text))
        if turn.belief is not None:
            events.add("info", span, source="belief", data=_belief(question, turn.belief))
        events.add("span_end", span, id=span)
    events.at = at + timedelta(seconds=longest)
    for judgment in transcript.judgments:
        name = f"{judgment.judge} decides{' (sides swapped)' if judgment.swapped else ''}"
        span = events.span(shown(name))
        events.calls(span, Role.JUDGE.value, judgment.samples)
        events.add("info", span, source="belief", data=_belief(question, judgment.final))
        if judgment is first_judgment(transcript):
            for scorer, score in scores_of(question, judgment).items():
                events.add("score", span, score=score, scorer=scorer, target=target_of(question))
        events.add("span_end", span, id=span)
    return events


def _seconds(value: float) -> float:
    """A length of time that a date can be moved by."""
    return min(max(value, 0.0), 1e7) if math.isfinite(value) else 0.0


def _belief(question: Question, belief: Belief) -> Json:
    return {
        "verdict": belief.verdict.value,
        "probs": None if belief.probs is None else list(belief.probs),
        "in words": belief_line(question, belief),
    }


def target_of(question: Question) -> str:
    """The letter of the right option; empty where nobody knows it."""
    return "" if question.correct is None else letter(question.correct)


# --- the sample ---


def times_of(transcript: Transcript) -> tuple[datetime, datetime]:
    """Begin and end of a debate, as far as they are known."""
    outcome = transcript.outcome
    length = timedelta(seconds=_seconds(outcome.seconds) if outcome else 0.0)
    try:
        end = datetime.fromisoformat(outcome.ended_at) if outcome else UNKNOWN_TIME
        end = end if end.tzinfo else end.replace(tzinfo=UTC)
        return end - length, end
    except (ValueError, OverflowError):
        return UNKNOWN_TIME, UNKNOWN_TIME


def about(transcript: Transcript) -> Json:
    """Facts of a debate by which samples are told apart in a list."""
    debate = transcript.debate
    found: Json = {
        "debate_id": debate.id,
        "question_id": shown(debate.question_id),
        "dataset": shown(transcript.question.dataset),
        "protocol": shown(debate.protocol.name),
        "seed": str(debate.seed),
    }
    found |= {f"{role.value}": shown(spec.agent) for role, spec in debate.agents.items()}
    for seat, index in zip(("a", "b"), debate.orders.defends, strict=False):
        found[f"{seat}_defends"] = letter(index)
    return found


def sample_of(
    transcript: Transcript, prompts: Mapping[str, PromptRecord], sample_id: str, epoch: int
) -> Json:
    """A debate as a sample of a log.

    Args:
        transcript: The debate.
        prompts: By id, as `prompts_of` gives them.
        sample_id: In the log; together with `epoch` no other sample has it.
        epoch: Counted from 1.
    """
    question = transcript.question
    begin, end = times_of(transcript)
    events = _events_of(transcript, prompts, begin)
    judgment = first_judgment(transcript)
    total = _seconds(transcript.outcome.seconds) if transcript.outcome else 0.0
    sample: Json = {
        "id": sample_id,
        "epoch": epoch,
        "input": shown(question.text),
        "target": target_of(question),
        "metadata": about(transcript),
        "messages": messages_of(transcript, judgment),
        "output": output_of(transcript, judgment),
        "scores": scores_of(question, judgment) if judgment else None,
        "store": {RECORDS: records_text(transcript, prompts.values())},
        "events": events.events,
        "attachments": events.attachments,
        "model_usage": usage_by_model(transcript),
        "started_at": begin.isoformat(),
        "completed_at": end.isoformat(),
        "total_time": total,
        "uuid": content_id("sample", transcript.debate.id)[:22],
    }
    if question.options:
        sample["choices"] = [shown(option.text) for option in question.options]
    outcome = transcript.outcome
    if outcome is not None and outcome.status is OutcomeStatus.FAILED:
        message = shown(outcome.error)
        sample["error"] = {"message": message, "traceback": "", "traceback_ansi": ""}
    return {key: value for key, value in sample.items() if value is not None}


MAX_SUMMARY = 1000


def summary_of(sample: Json) -> Json:
    """The line of a sample in a log's list: long texts cut, as Inspect cuts them."""
    kept = ("id", "epoch", "target", "model_usage", "started_at", "completed_at", "uuid")
    found: Json = {key: sample[key] for key in kept}
    found["input"] = _cut(sample["input"])
    found["metadata"] = {key: _cut(value) for key, value in sample["metadata"].items()}
    if "choices" in sample:
        found["choices"] = [_cut(each) for each in sample["choices"]]
    if "scores" in sample:
        found["scores"] = {
            name: {key: _cut(value) for key, value in score.items() if key != "metadata"}
            for name, score in sample["scores"].items()
        }
    if "error" in sample:
        found["error"] = _cut(sample["error"]["message"])
    return found | {
        "total_time": sample["total_time"],
        "completed": True,
        "message_count": len(sample["messages"]),
    }


def _cut(value: Any) -> Any:
    is_long = isinstance(value, str) and len(value) > MAX_SUMMARY
    return f"{value[:MAX_SUMMARY]}..." if is_long else value
