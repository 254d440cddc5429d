"""Ends of answers and causes of failed debates, counted beside the figures."""

from __future__ import annotations

import json
from dataclasses import replace

from oversight.evals.answers import EndCounter, count_failures
from oversight.evals.findings import to_json
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import FinishReason, Outcome, OutcomeStatus, Purpose, Sample


def sample(finish: FinishReason = FinishReason.STOP, **changes) -> Sample:
    given = {"purpose": Purpose.SPEECH, "engine": "e", "model": "m", "prompt_id": "p", "text": "x"}
    return Sample(**{**given, "token_ids": (), "finish_reason": finish, **changes})


def with_samples(transcript, *samples):
    first, *others = transcript.turns
    judgments = tuple(j.model_copy(update={"samples": (sample(),)}) for j in transcript.judgments)
    turns = (first.model_copy(update={"samples": samples}), *others)
    return replace(transcript, turns=turns, judgments=judgments)


def failed(transcript, error: str, cause: str = ""):
    outcome = Outcome(
        debate_id=transcript.debate.id, status=OutcomeStatus.FAILED, error=error, cause=cause
    )
    return replace(transcript, outcome=outcome, judgments=())


def shown(report, title: str):
    return {table.title: table.rows for table in tables(report)}.get(title)


def test_calls_of_turns_and_judgments_are_counted_by_model_and_end(judged) -> None:
    ends = EndCounter()
    ends.add(
        with_samples(
            judged(0.8),
            sample(FinishReason.CONTENT_FILTER, purpose=Purpose.UNANSWERED),
            sample(FinishReason.LENGTH),
            sample(FinishReason.REFUSAL, model="n", purpose=Purpose.UNANSWERED),
        )
    )
    of_m, of_n = ends.counted()

    assert (of_m.model, of_m.num, of_m.num_unanswered) == ("m", 3, 1)
    assert {reason: n for reason, n in of_m.finish_reasons.items() if n} == {
        "stop": 1,
        "length": 1,
        "content_filter": 1,
    }
    assert (of_n.num, of_n.finish_reasons["refusal"], of_n.num_unanswered) == (1, 1, 1)


def test_ends_are_shown_once_an_answer_did_not_end_by_itself(judged) -> None:
    calm = build_report([with_samples(judged(0.8), sample())])
    cut = build_report([with_samples(judged(0.8), sample(FinishReason.LENGTH))])

    assert calm.answer_ends[0].num == 2
    assert shown(calm, "How answers ended") is None
    assert shown(cut, "How answers ended") == (("m", "2", "1", "1", "0", "0", "0", "0"),)


def test_failures_are_counted_by_cause_the_most_frequent_first(judged) -> None:
    debates = [
        failed(judged(0.8), "first filter", "content_filter"),
        failed(judged(0.8), "of an old store"),
        failed(judged(0.8), "second filter", "content_filter"),
        judged(0.8),
    ]
    found = [(each.cause, each.num, each.error) for each in count_failures(debates)]

    assert found == [("content_filter", 2, "first filter"), ("other", 1, "of an old store")]


def test_failures_are_in_the_report_as_text_and_as_data_and_in_no_figure(judged) -> None:
    error = "m: \x1b[2Jdebater a " + "said nothing " * 40
    report = build_report([judged(0.8)], failed=[failed(judged(0.8), error, "thought_cut")])
    [row] = shown(report, "Debates that failed")

    assert row[:2] == ("thought cut", "1")
    assert row[2].startswith("m: ␛[2Jdebater a said nothing")
    assert len(row[2]) <= 170
    assert report.num_debates == 1
    assert json.loads(json.dumps(to_json(report)))["failures"][0]["cause"] == "thought_cut"


def test_old_outcomes_read_as_they_were_written_and_a_cause_is_written_only_if_known() -> None:
    outcome = Outcome(debate_id="d", status=OutcomeStatus.FAILED, error="x")

    assert "cause" not in outcome.model_dump_json()
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
    assert '"cause":"empty"' in outcome.model_copy(update={"cause": "empty"}).model_dump_json()


def test_old_samples_are_written_as_they_were() -> None:
    written = sample().model_dump_json()

    assert "reasoning" not in written
    assert "opened" not in written
    assert Sample.model_validate_json(written) == sample()
