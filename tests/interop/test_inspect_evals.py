"""Evaluations of others in Inspect's logs: questions, judgments, scores, and what failed."""

from __future__ import annotations

from typing import Any

import pytest

from oversight.cli.main import run
from oversight.datasets.base import LeftOut
from oversight.interop.base import ImportedDebate, ImportSettings, import_debates
from oversight.interop.inspect import Config, read
from oversight.store import Store
from oversight.types import (
    Debate,
    Feedback,
    Judgment,
    Outcome,
    OutcomeStatus,
    PromptRecord,
    Question,
    Turn,
    Verdict,
)
from tests.interop.inspect_logs import (
    answered,
    evaluation,
    log_of,
    of_kind,
    only,
    records_of,
)


def test_an_open_question_becomes_a_response_with_its_call_and_its_scores(tmp_path):
    records = only(read(log_of(tmp_path / "a.eval", [answered()]), Config()))
    [question], [debate] = of_kind(records, Question), of_kind(records, Debate)
    assert (question.id, question.dataset, question.meta) == ("arith/1", "sums", {"target": "4"})
    assert question.is_open
    assert debate.protocol.name == "arith"
    assert debate.agents["responder"].engine.settings == {"model": "acme/large"}
    [turn], [prompt] = of_kind(records, Turn), of_kind(records, PromptRecord)
    [sample] = turn.samples
    assert (sample.model, sample.prompt_id) == ("large-1", prompt.prompt.id)
    usage = sample.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (11, 2, 4)
    assert prompt.prompt.chat() == [{"role": "user", "content": "What is 2 + 2?"}]
    [rating] = of_kind(records, Feedback)
    assert (rating.judge, rating.answer.preference, rating.revision) == ("match", 1.0, 0)
    [outcome] = of_kind(records, Outcome)
    assert outcome.status is OutcomeStatus.COMPLETE


def test_deduplicated_messages_of_the_call_are_its_prompt(tmp_path):
    """Messages of all calls stand once, and each call names its own by ranges."""
    pool = [{"role": "system", "content": "Add."}, {"role": "user", "content": "attachment://x"}]
    call = {
        "event": "model",
        "input": [],
        "input_refs": [[0, 2]],
        "config": {"temperature": 0.5},
        "output": {"completion": "It is 4."},
    }
    sample = answered(
        events=[call | {"output": {"completion": "No."}, "input_refs": [[0, 1]]}, call],
        events_data={"messages": pool, "calls": []},
        attachments={"x": "What is two and two?"},
    )
    records = only(read(log_of(tmp_path / "a.eval", [sample]), Config()))
    [prompt] = of_kind(records, PromptRecord)
    assert prompt.prompt.chat() == [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": "What is two and two?"},
    ]
    assert of_kind(records, Turn)[0].samples[0].temperature == 0.5


def test_a_chat_and_what_tools_said_are_kept_as_text(tmp_path):
    chat = [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]},
        {"role": "user", "content": "What is there?"},
    ]
    said = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": "ls", "arguments": {}}]},
        {"role": "tool", "content": "a.txt", "function": "ls"},
    ]
    end = {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "reasoning": "Hm."},
            {"type": "text", "text": "One file."},
        ],
    }
    output = {"model": "m", "choices": [{"message": end, "stop_reason": "max_tokens"}]}
    sample = answered(input=chat, messages=[*chat, *said, end], output=output)
    records = only(read(log_of(tmp_path / "a.eval", [sample]), Config()))
    [question], [turn] = of_kind(records, Question), of_kind(records, Turn)
    assert question.text == "Look\n[image]\n\nWhat is there?"
    assert [each.content for each in question.history] == ["Use tools."]
    assert (turn.text, turn.reasoning) == ("One file.", "Hm.")
    assert turn.samples[0].finish_reason == "length"
    [prompt] = of_kind(records, PromptRecord)
    assert [each["content"] for each in prompt.prompt.chat()][-2:] == ["[calls ls({})]", "a.txt"]


def choosing(**changes: Any) -> dict[str, Any]:
    return (
        answered(
            choices=["3", "4", "5"],
            target="B",
            output={"model": "m", "completion": "Let me see. ANSWER: B"},
            scores={"choice": {"value": "C", "answer": "B"}},
        )
        | changes
    )


@pytest.mark.parametrize(
    ("changes", "choice", "verdict"),
    [
        ({}, 1, Verdict.DECIDED),
        ({"scores": {"choice": {"value": "I", "answer": "C"}}}, 2, Verdict.DECIDED),
        ({"scores": {}}, 1, Verdict.DECIDED),
        ({"scores": {"choice": {"value": "I", "answer": ""}}}, 1, Verdict.DECIDED),
        ({"scores": {}, "output": {"completion": "No idea."}}, None, Verdict.INVALID),
        ({"scores": {}, "output": {"completion": "ANSWER: Z"}}, None, Verdict.INVALID),
    ],
)
def test_a_question_with_choices_is_a_judgment_by_the_model(tmp_path, changes, choice, verdict):
    records = only(read(log_of(tmp_path / "a.eval", [choosing(**changes)]), Config()))
    [question], [judgment] = of_kind(records, Question), of_kind(records, Judgment)
    assert question.correct == 1
    assert [each.text for each in question.options] == ["3", "4", "5"]
    assert (judgment.judge, judgment.final.choice) == ("acme/large", choice)
    assert judgment.final.verdict is verdict


def test_epochs_are_debates_of_one_question(tmp_path):
    samples = [choosing(epoch=epoch, uuid=f"u{epoch}") for epoch in (1, 2, 3)]
    path = log_of(tmp_path / "a.eval", samples)
    found = [records_of(each) for each in read(path, Config())]
    assert len({of_kind(each, Debate)[0].id for each in found}) == 3
    assert len({of_kind(each, Question)[0].fingerprint for each in found}) == 1


def test_a_sample_that_a_later_log_took_over_is_one_debate(tmp_path):
    first = log_of(tmp_path / "a.eval", [choosing()])
    retried = evaluation()["eval"] | {"eval_id": "e2", "run_id": "r2"}
    later = log_of(tmp_path / "b.eval", [choosing()], eval=retried)
    with Store.open(tmp_path / "s.db") as store:
        for path in (first, later):
            done = import_debates(
                ImportSettings(format="inspect", path=str(path), store=store.url), store
            )
        assert (done.num_debates, done.num_found) == (1, 1)


def edited(value: Any, author: str = "alice") -> dict[str, Any]:
    provenance = {"timestamp": "2026-02-04T00:00:00+00:00", "author": author, "reason": "typo"}
    return {"value": value, "answer": "UNCHANGED", "provenance": provenance}


def test_an_edited_score_keeps_every_value_and_the_last_one_counts(tmp_path):
    history = [{"value": "I", "answer": "4"}, edited("P"), edited("C", "bob")]
    sample = answered(scores={"match": {"value": "C", "answer": "4", "history": history}})
    records = only(read(log_of(tmp_path / "a.eval", [sample]), Config()))
    ratings = of_kind(records, Feedback)
    assert [each.answer.preference for each in ratings] == [0.0, 0.5, 1.0]
    assert [each.revision for each in ratings] == [0, 1, 2]
    assert len({each.place for each in ratings}) == 1
    assert all(each.answer.fields["answer"] == "4" for each in ratings)
    assert ratings[2].answer.fields["provenance"]["author"] == "bob"
    both = list(read(log_of(tmp_path / "b.eval", [choosing(scores=sample["scores"])]), Config()))
    assert isinstance(both[0], ImportedDebate)
    assert isinstance(both[1], LeftOut)
    assert "edited score" in both[1].reason


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("C", 1.0),
        ("N", 0.0),
        ("yes", 1.0),
        ("0.5", 0.5),
        (True, 1.0),
        (0.75, 0.75),
        (7, None),
        (float("nan"), None),
        ("fine", None),
        ({"a": 1}, None),
        ([1], None),
    ],
)
def test_scores_that_are_shares_are_numbers_and_others_are_kept_as_they_are(
    tmp_path, value, number
):
    sample = answered(scores={"s": {"value": value}})
    [rating] = of_kind(only(read(log_of(tmp_path / "a.eval", [sample]), Config())), Feedback)
    assert rating.answer.preference == number
    assert rating.answer.fields["value"] == (None if value != value else value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": {"message": "out of memory"}}, "out of memory"),
        ({"invalidation": {"author": "carol", "reason": "leak"}}, "invalidated by carol: leak"),
        ({"output": {"choices": []}, "limit": {"type": "token", "limit": 5}}, "limit of token"),
        ({"output": {}}, "no answer"),
    ],
)
def test_a_sample_without_a_sound_answer_is_a_debate_that_failed(tmp_path, changes, said):
    records = only(read(log_of(tmp_path / "a.eval", [answered(**changes)]), Config()))
    [outcome] = of_kind(records, Outcome)
    assert outcome.status is OutcomeStatus.FAILED
    assert said in outcome.error


def test_evaluations_are_reported_beside_debates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    samples = [choosing(id=number, uuid=f"u{number}") for number in range(12)]
    samples += [answered(50, uuid="open")]
    log_of(tmp_path / "a.eval", samples)
    assert run(["import", "inspect", "a.eval", "--store", "s.db"]) == 0
    assert run(["report", "--store", "s.db"]) == 0
    said = capsys.readouterr().out
    assert "arith" in said
    assert "100" in said
