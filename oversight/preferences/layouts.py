"""The layouts of an export: from a record to flat rows.

preference
    One row a pair, in the conversational form that trainers read: `prompt`,
    `chosen` and `rejected` as lists of messages. Ties and rows of more than two
    responses have neither chosen nor rejected, so they are left out and counted.
kwise
    One row for every preference, pairs and ties included: `prompt`,
    `completions` (a list of message lists) and `ranks` (0 is best, equal is a tie).
unpaired
    One row a speech: `prompt`, `completion` and `label`, whether the judges came to believe
    what it argued for.
transcripts
    As JSONL one object a debate, whole; as Parquet one row a turn.

`*_logprobs` are those that the sampler gave to `*_ids`: log softmax(logits / T), T the temperature
that the agent sampled at, which stands in `*_logprobs_temperature`. Null there: no such T is known
(top-p below 1, a server that does not say, a store from before it was kept).

`prompt` is one column, so that what was chosen and what was rejected answer the
same prompt by construction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from oversight.aggregation import rulings
from oversight.types import (
    Labelled,
    Message,
    Preference,
    Prompt,
    Provenance,
    Response,
    Transcript,
    Turn,
)

if TYPE_CHECKING:
    import pyarrow as pa


Layout = Literal["preference", "kwise", "unpaired", "transcripts"]
Row = dict[str, Any]

UNPRINTABLE = re.compile("[\ud800-\udfff\x00]")
"""Lone surrogates cannot be encoded as UTF-8, and NUL ends a string for many readers."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass
class Repairs:
    """Counts what had to be replaced to be written at all."""

    number: int = 0

    def mend(self, value: Any) -> Any:
        """`value` with unwritable characters replaced, visibly, and non-finite numbers by null."""
        if isinstance(value, str):
            text, number = UNPRINTABLE.subn(REPLACEMENT, value)
            self.number += number
            return text
        if isinstance(value, dict):
            return {self.mend(key): self.mend(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mend(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            self.number += 1
            return None
        return value


def pair_row(row: Preference) -> Row | None:
    """The row of a pair in the conversational preference form; None of a tie or K-wise row."""
    if len(row.responses) != 2 or row.ranks[0] == row.ranks[1]:
        return None
    first_wins = row.ranks[0] < row.ranks[1]
    chosen, rejected = row.responses if first_wins else reversed(row.responses)
    soft = row.soft_label if first_wins or row.soft_label is None else 1.0 - row.soft_label
    margin = row.margin if first_wins or row.margin is None else -row.margin
    return {
        **_about(row),
        "chosen": _answer(chosen),
        "rejected": _answer(rejected),
        "chosen_ids": _list(chosen.token_ids),
        "rejected_ids": _list(rejected.token_ids),
        "chosen_logprobs": _list(chosen.logprobs),
        "rejected_logprobs": _list(rejected.logprobs),
        "chosen_logprobs_temperature": chosen.logprobs_temperature,
        "rejected_logprobs_temperature": rejected.logprobs_temperature,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "soft_label": soft,
        "margin": margin,
        **_origin(row.weight, row.provenance),
        "chosen_turn_id": chosen.turn_id,
        "rejected_turn_id": rejected.turn_id,
    }


def kwise_row(row: Preference) -> Row:
    """The row of any preference: its responses side by side with their ranks."""
    return {
        **_about(row),
        "completions": [_answer(response) for response in row.responses],
        "ranks": list(row.ranks),
        "tie": len(set(row.ranks)) == 1,
        "completion_ids": [_list(response.token_ids) for response in row.responses],
        "completion_logprobs": [_list(response.logprobs) for response in row.responses],
        "completion_logprobs_temperature": [each.logprobs_temperature for each in row.responses],
        "scores": [response.score for response in row.responses],
        "soft_label": row.soft_label,
        "margin": row.margin,
        **_origin(row.weight, row.provenance),
        "turn_ids": [response.turn_id for response in row.responses],
    }


def labelled_row(row: Labelled) -> Row:
    """The row of a single response with its label."""
    return {
        "id": row.id,
        "prompt": _prompt(row.prompt),
        "prompt_ids": _list(row.prompt_ids),
        "completion": _answer(row.response),
        "completion_ids": _list(row.response.token_ids),
        "completion_logprobs": _list(row.response.logprobs),
        "completion_logprobs_temperature": row.response.logprobs_temperature,
        "label": row.label,
        "p": row.p,
        **_origin(row.weight, row.provenance),
        "turn_id": row.response.turn_id,
    }


def debate_row(transcript: Transcript) -> Row:
    """The whole debate as one JSON-plain object."""
    outcome = transcript.outcome
    return {
        "debate_id": transcript.debate.id,
        "debate": transcript.debate.model_dump(mode="json"),
        "question": transcript.question.model_dump(mode="json"),
        "turns": [{"id": turn.id, **turn.model_dump(mode="json")} for turn in transcript.turns],
        "judgments": [{"id": j.id, **j.model_dump(mode="json")} for j in transcript.judgments],
        "ratings": [{"id": r.id, **r.model_dump(mode="json")} for r in transcript.ratings],
        "outcome": outcome.model_dump(mode="json") if outcome else None,
    }


def judgment_rows(transcript: Transcript) -> Iterator[Row]:
    """A plain row for each judgment of a debate."""
    debate, question = transcript.debate, transcript.question
    for each in transcript.judgments:
        final, correct = each.final, question.correct
        belief = final.probs[correct] if final.probs and correct is not None else None
        yield {
            "debate_id": debate.id,
            "question_id": question.id,
            "dataset": question.dataset,
            "protocol": debate.protocol.name,
            "judge": each.judge,
            "swapped": each.swapped,
            "verdict": final.verdict.value,
            "choice": final.choice,
            "correct": correct,
            "is_right": None if correct is None else final.choice == correct,
            "belief_in_correct": belief,
        }


def turn_rows(transcript: Transcript) -> Iterator[Row]:
    """One flat row for every turn of the debate, siblings included."""
    debate, question = transcript.debate, transcript.question
    given = rulings(transcript)
    finals = {ruling.judge: ruling.final for ruling in given}
    shared = {
        "question_id": question.id,
        "dataset": question.dataset,
        "question": question.text,
        "options": [option.text for option in question.options],
        "correct": question.correct,
        "protocol": debate.protocol.name,
        "judges": list(finals),
        "num_unseen": [ruling.num_unseen for ruling in given],
        "verdicts": [final.verdict.value for final in finals.values()],
        "final_probs": [_list(final.probs) for final in finals.values()],
    }
    for turn in transcript.turns:
        side = (
            debate.orders.defended_by(turn.seat) if turn.seat in debate.protocol.speakers else None
        )
        yield {**_turn(turn), "side": side, **shared}


def _turn(turn: Turn) -> Row:
    belief = turn.belief
    return {
        "debate_id": turn.debate_id,
        "turn_id": turn.id,
        "step": turn.step,
        "round": turn.round,
        "seat": turn.seat.value,
        "role": turn.role.value,
        "act": turn.act.value,
        "candidate": turn.candidate,
        "chosen": turn.chosen,
        "score": turn.score,
        "text": turn.text,
        "reasoning": turn.reasoning,
        "quotes": [{"text": q.text, "status": q.status.value} for q in turn.quotes],
        "verdict": belief.verdict.value if belief else None,
        "probs": _list(belief.probs) if belief else None,
        "prompt_ids": [sample.prompt_id for sample in turn.samples],
    }


def provenance_fields(origin: Provenance) -> Row:
    """Return the origin of a row, JSON-plain and whole, as it stands in every layout."""
    return {
        **origin.model_dump(mode="json"),
        "num_unseen": list(origin.num_unseen),
        "rating_ids": list(origin.rating_ids),
        "constitution": origin.constitution or None,
        "principle_ids": list(origin.principle_ids),
    }


def _about(row: Preference) -> Row:
    return {
        "id": row.id,
        "kind": row.kind,
        "prompt": _prompt(row.prompt),
        "prompt_ids": _list(row.prompt_ids),
    }


def _prompt(prompt: Prompt) -> list[dict[str, str]]:
    return [_message(message) for message in prompt.messages]


def _origin(weight: float, origin: Provenance) -> Row:
    return {"weight": weight, **provenance_fields(origin)}


def _message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _answer(response: Response) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response.text}]


def _list(values: tuple[Any, ...] | None) -> list[Any] | None:
    return None if values is None else list(values)


def schema(layout: Layout) -> pa.Schema:
    """The Parquet schema of a layout; it holds for zero rows as well."""
    import pyarrow as pa

    build: dict[Layout, Callable[[], list[tuple[str, Any]]]] = {
        "preference": _pair_fields,
        "kwise": _kwise_fields,
        "unpaired": _labelled_fields,
        "transcripts": _turn_fields,
    }
    return pa.schema(build[layout]())


def _about_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("prompt", _messages_type()),
        ("prompt_ids", pa.list_(pa.int64())),
    ]


def _origin_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("weight", pa.float64()),
        ("question_id", pa.string()),
        ("debate_id", pa.string()),
        ("protocol", pa.string()),
        ("judgment_ids", pa.list_(pa.string())),
        ("judges", pa.list_(pa.string())),
        ("num_unseen", pa.list_(pa.int64())),
        ("principle_id", pa.string()),
        ("rating_ids", pa.list_(pa.string())),
        ("constitution", pa.string()),
        ("principle_ids", pa.list_(pa.string())),
    ]


def _messages_type() -> Any:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _pair_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    ids, logprobs = pa.list_(pa.int64()), pa.list_(pa.float64())
    return [
        *_about_fields(),
        ("chosen", _messages_type()),
        ("rejected", _messages_type()),
        ("chosen_ids", ids),
        ("rejected_ids", ids),
        ("chosen_logprobs", logprobs),
        ("rejected_logprobs", logprobs),
        ("chosen_logprobs_temperature", pa.float64()),
        ("rejected_logprobs_temperature", pa.float64()),
        ("chosen_score", pa.float64()),
        ("rejected_score", pa.float64()),
        ("soft_label", pa.float64()),
        ("margin", pa.float64()),
        *_origin_fields(),
        ("chosen_turn_id", pa.string()),
        ("rejected_turn_id", pa.string()),
    ]


def _kwise_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        *_about_fields(),
        ("completions", pa.list_(_messages_type())),
        ("ranks", pa.list_(pa.int64())),
        ("tie", pa.bool_()),
        ("completion_ids", pa.list_(pa.list_(pa.int64()))),
        ("completion_logprobs", pa.list_(pa.list_(pa.float64()))),
        ("completion_logprobs_temperature", pa.list_(pa.float64())),
        ("scores", pa.list_(pa.float64())),
        ("soft_label", pa.float64()),
        ("margin", pa.float64()),
        *_origin_fields(),
        ("turn_ids", pa.list_(pa.string())),
    ]


def _labelled_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("id", pa.string()),
        ("prompt", _messages_type()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("completion", _messages_type()),
        ("completion_ids", pa.list_(pa.int64())),
        ("completion_logprobs", pa.list_(pa.float64())),
        ("completion_logprobs_temperature", pa.float64()),
        ("label", pa.bool_()),
        ("p", pa.float64()),
        *_origin_fields(),
        ("turn_id", pa.string()),
    ]


def _turn_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    return [
        ("debate_id", text),
        ("turn_id", text),
        ("step", whole),
        ("round", whole),
        ("seat", text),
        ("role", text),
        ("act", text),
        ("candidate", whole),
        ("chosen", pa.bool_()),
        ("score", number),
        ("text", text),
        ("reasoning", text),
        ("quotes", pa.list_(pa.struct([("text", text), ("status", text)]))),
        ("verdict", text),
        ("probs", pa.list_(number)),
        ("prompt_ids", pa.list_(text)),
        ("side", whole),
        ("question_id", text),
        ("dataset", text),
        ("question", text),
        ("options", pa.list_(text)),
        ("correct", whole),
        ("protocol", text),
        ("judges", pa.list_(text)),
        ("num_unseen", pa.list_(whole)),
        ("verdicts", pa.list_(text)),
        ("final_probs", pa.list_(pa.list_(number))),
    ]
