"""Inspect's logs: ours come back as they were, others' are read, and damage is named."""

from __future__ import annotations

import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oversight.cli.main import run
from oversight.datasets.base import BadRow, LeftOut
from oversight.errors import ConfigError, DataError
from oversight.interop.base import ImportedDebate, ImportSettings, import_debates
from oversight.interop.inspect import Config, count, read, write
from oversight.interop.inspect_files import InspectFile, _archive, _content
from oversight.store import Store
from oversight.types import (
    Debate,
    Feedback,
    Judgment,
    Outcome,
    OutcomeStatus,
    PromptRecord,
    Question,
    Transcript,
    Turn,
    Verdict,
)
from tests.reporting.conftest import make_question, run_scripted
from tests.store.test_properties import debates, prompts

# --- ours, there and back ---


def records_of(item: object) -> tuple[Any, ...]:
    assert isinstance(item, ImportedDebate), item
    return item.records


def all_of(transcript: Transcript) -> list[Any]:
    outcome = [] if transcript.outcome is None else [transcript.outcome]
    own = [transcript.question, transcript.debate, *transcript.turns, *transcript.judgments]
    return [*own, *transcript.ratings, *outcome]


def made(records: Iterable[object], debate: Debate) -> Transcript:
    found: dict[type, list[Any]] = {}
    for record in records:
        found.setdefault(type(record), []).append(record)
    outcomes = found.get(Outcome, [])
    return Transcript(
        debate,
        found[Question][0],
        tuple(found.get(Turn, ())),
        tuple(found.get(Judgment, ())),
        outcomes[-1] if outcomes else None,
    )


@pytest.mark.timeout(600)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(debates(), min_size=1, max_size=3, unique_by=lambda pair: pair[1].id),
    st.lists(prompts, min_size=1, max_size=3),
)
def test_any_debates_that_are_written_as_a_log_are_read_as_they_were(drawn, some):
    transcripts = [made(records, debate) for records, debate in drawn]
    asked: dict[str, PromptRecord] = {}

    def prompt_of(id_: str, num: int | None) -> PromptRecord:
        return asked.setdefault(id_, some[len(asked) % len(some)])

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.eval"
        assert list(write(transcripts, path, Config(), prompt_of)) == []
        found = list(read(path, Config()))
        assert count(path, Config()) == len(found) == len(transcripts)
        again = Path(folder) / "again.eval"
        list(write([made(records_of(each), _debate(each)) for each in found], again, Config()))
        assert [without_prompts(each) for each in read(again, Config())] == [
            without_prompts(each) for each in found
        ]
    by_id = {each.debate_id: each for each in found if isinstance(each, ImportedDebate)}
    for transcript in transcripts:
        records = records_of(by_id[transcript.debate.id])
        told = [each for each in records if not isinstance(each, PromptRecord)]
        assert told == all_of(transcript)
        names = {s.prompt_id for t in transcript.turns for s in t.samples}
        given_back = [each for each in records if isinstance(each, PromptRecord)]
        assert given_back == [asked[name] for name in asked if name in names]


def _debate(item: Any) -> Debate:
    return next(each for each in item.records if isinstance(each, Debate))


def without_prompts(item: Any) -> list[Any]:
    return [each for each in item.records if not isinstance(each, PromptRecord)]


@pytest.fixture
async def store(tmp_path: Path):
    """A store of debates by the real graphs, with a model's prompts."""
    with Store.open(tmp_path / "ours.db") as opened:
        questions = [make_question(number) for number in range(4)]
        await run_scripted(opened, questions, ["debate", "consultancy", "critique", "naive"])
        yield opened


def written(store: Store, path: Path) -> Path:
    def prompt_of(id_: str, num: int | None) -> PromptRecord:
        return store.prompt(id_, num_tokens=num)

    list(write(store.transcripts(complete=None), path, Config(), prompt_of))
    return path


def members(path: Path) -> dict[str, bytes]:
    """Members of a log, which Python's own reader cannot unpack before 3.14."""
    with _archive(path) as (archive, file):
        return {each.filename: _content(archive, file, each) for each in archive.infolist()}


def contents(store: Store) -> list[Any]:
    found = [each for t in store.transcripts(complete=None) for each in all_of(t)]
    ids = {s.prompt_id for each in found for s in getattr(each, "samples", ())}
    return found + [store.prompt(id_) for id_ in sorted(ids)]


async def test_a_store_that_went_through_a_log_is_the_same_store(store, tmp_path):
    path = written(store, tmp_path / "log.eval")
    with Store.open(tmp_path / "other.db") as other:
        settings = ImportSettings(format="inspect", path=str(path), store=other.url)
        assert import_debates(settings, other).num_debates == 16
        assert contents(other) == contents(store)
        assert other.check() == []
        assert written(other, tmp_path / "again.eval").read_bytes() == path.read_bytes()
        assert import_debates(settings, other).num_found == 16


async def test_a_sample_shows_turns_beliefs_and_scores_where_inspect_has_them(store, tmp_path):
    file = InspectFile(written(store, tmp_path / "log.eval"))
    samples = {each["id"]: each for each in file.samples() if isinstance(each, dict)}
    assert len(samples) == 16
    sample = samples["debate:q1"]
    assert (sample["target"], sample["choices"]) == ("B", ["the attic", "the cellar"])
    headings = [each["content"].splitlines()[0] for each in sample["messages"]]
    assert headings[1].startswith("**Debater A, speak, round 1, for ")
    assert headings[-1] == "**Judge, verdict**"
    assert "A 0%" in sample["messages"][-1]["content"]
    final = sample["scores"]
    assert final["verdict"]["metadata"]["probs"] == [0.0, 1.0]
    assert [step for step, _ in final["verdict"]["metadata"]["trajectory"]] == [1, 3, 5]
    assert (final["verdict"]["value"], final["verdict"]["answer"]) == ("C", "B")
    assert (final["belief"]["value"], final["invalid"]["value"]) == (1.0, 0)
    kinds = [each["event"] for each in sample["events"]]
    assert kinds.count("model") == 6 + 3 + 1
    assert kinds.count("span_begin") == kinds.count("span_end") == 6 + 3 + 1
    assert kinds.count("score") == 3
    asked = next(each for each in sample["events"] if each["event"] == "model")["input"]
    part = asked[-1]["content"][0]["text"]
    assert part.startswith("attachment://")
    assert part.removeprefix("attachment://") in sample["attachments"]
    hits = []
    for transcript in store.transcripts():
        score = samples[f"{transcript.debate.protocol.name}:{transcript.question.id}"]["scores"]
        right = transcript.question.correct
        [judgment] = transcript.judgments
        assert judgment.final.probs is not None
        assert score["belief"]["value"] == judgment.final.probs[right]
        assert score["verdict"]["value"] == ("C" if judgment.final.choice == right else "I")
        hits.append(judgment.final.choice == right)
    assert len(set(hits)) == 2
    results = {each["name"]: each for each in file.header["results"]["scores"]}
    assert results["verdict"]["metrics"]["accuracy"]["value"] == sum(hits) / len(hits)


async def test_a_record_that_was_changed_in_a_log_is_refused_by_its_place(store, tmp_path):
    path = written(store, tmp_path / "log.eval")
    changed = tmp_path / "changed.eval"
    with zipfile.ZipFile(changed, "w") as new:
        for name, content in members(path).items():
            text = content.decode()
            if name == "samples/debate:q0_epoch_1.json":
                text = text.replace('\\"seed\\":0', '\\"seed\\":1')
            if name == "samples/naive:q1_epoch_1.json":
                text = text.replace("on day 1", "on day 9")
            new.writestr(name, text)
    found = list(read(changed, Config()))
    bad = [each for each in found if isinstance(each, BadRow)]
    bad.sort(key=lambda each: each.file)
    assert len(found) == 16
    assert len(bad) == 2
    assert "sample 'debate:q0', epoch 1" in bad[0].file
    assert "it was changed since it was written" in bad[0].reason
    assert "of another question" in bad[1].reason


HOSTILE = 'Where}"? {"store":{"oversight":"{}"}} \\"} \ud800 \x00 "}'


@pytest.mark.parametrize("indent", [None, 2])
async def test_words_that_look_like_the_file_itself_change_nothing(tmp_path, indent):
    with Store.open(tmp_path / "ours.db") as opened:
        await run_scripted(opened, [make_question(text=HOSTILE.replace("\ud800", ""))], ["naive"])
        [transcript] = opened.transcripts()
    halves = transcript.question.model_copy(
        update={"text": HOSTILE, "id": HOSTILE.replace("\ud800", "x")}
    )
    debate = transcript.debate.model_copy(
        update={"question_id": halves.id, "question_fingerprint": halves.fingerprint}
    )
    given = Transcript(debate, halves, ())
    path = tmp_path / "a.eval"
    list(write([given], path, Config()))
    spread = tmp_path / "spread.eval"
    with zipfile.ZipFile(spread, "w") as new:
        for name, content in members(path).items():
            # As a sample of another writer's, in which a second text looks like the records.
            text = json.loads(content)
            if name.startswith("samples/"):
                text["metadata"]["store"] = {"oversight": "{}"} if indent else {}
            new.writestr(name, json.dumps(text, indent=indent))
    for each in (path, spread):
        assert list(only(read(each, Config()))) == [halves, debate]


def test_a_log_is_named_by_its_ending(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.eval"):
        list(write([], tmp_path / "log.jsonl", Config()))


# --- layouts ---


def packed(text: bytes, *, frames: int = 1) -> bytes:
    codec = pyarrow.Codec("zstd")
    size = -(-len(text) // frames)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return b"".join(codec.compress(piece, asbytes=True) for piece in pieces)


def zstd_archive(path: Path, members: Iterable[tuple[str, bytes, bytes]]) -> Path:
    """A ZIP archive of members that are packed already: (name, content, packed content)."""
    listed: list[bytes] = []
    with path.open("wb") as file:
        for name, content, data in members:
            encoded = name.encode()
            sizes = (zlib.crc32(content), len(data), len(content), len(encoded))
            head = struct.pack("<HHHHHIIIH", 63, 0, 93, 0, 33, *sizes)
            listed.append(b"PK\x01\x02" + struct.pack("<H", 63) + head)
            listed.append(struct.pack("<HHHHII", 0, 0, 0, 0, 0, file.tell()) + encoded)
            # An extra field that the list of members does not have: it has to be passed over.
            file.write(b"PK\x03\x04" + head + b"\x04\x00" + encoded + b"\x01\x02\x00\x00" + data)
        where, num = file.tell(), len(listed) // 2
        file.write(b"".join(listed))
        sizes = (file.tell() - where, where)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, num, num, *sizes, 0))
    return path


def evaluation(**changes: Any) -> dict[str, Any]:
    spec = {
        "eval_id": "e1",
        "task": "arith",
        "created": "2026-02-03T04:05:06+00:00",
        "model": "acme/large",
        "dataset": {"name": "sums"},
        "config": {},
    }
    plan = {"name": "plan", "steps": [{"solver": "generate"}], "config": {}}
    return {"version": 2, "status": "success", "eval": spec, "plan": plan} | changes


def answered(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A sample as Inspect writes it, of an open question."""
    message = {"role": "assistant", "content": "It is 4.", "source": "generate"}
    sample: dict[str, Any] = {
        "id": number,
        "epoch": 1,
        "input": "What is 2 + 2?",
        "target": "4",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}, message],
        "output": {
            "model": "large-1",
            "choices": [{"message": message, "stop_reason": "stop"}],
            "usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_cache_read": 2},
            "time": 1.5,
        },
        "scores": {"match": {"value": "C", "answer": "4"}},
        "uuid": f"u{number}",
        "completed_at": "2026-02-03T04:05:09+00:00",
    }
    return sample | changes


def log_of(path: Path, samples: Iterable[dict[str, Any]], **changes: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps(evaluation(**changes)))
    return path


def only(items: Iterable[object]) -> tuple[Any, ...]:
    [item] = items
    return records_of(item)


def of_kind(records: Iterable[object], kind: Any) -> list[Any]:
    return [each for each in records if isinstance(each, kind)]


@pytest.mark.parametrize("frames", [1, 3])
def test_members_that_zstd_packed_are_read_in_one_frame_or_several(tmp_path, frames):
    content = json.dumps(answered()).encode()
    head = json.dumps(evaluation()).encode()
    path = zstd_archive(
        tmp_path / "z.eval",
        [
            ("samples/1_epoch_1.json", content, packed(content, frames=frames)),
            ("header.json", head, packed(head)),
        ],
    )
    [turn] = of_kind(only(read(path, Config())), Turn)
    assert turn.text == "It is 4."


def test_of_members_under_one_name_the_last_one_counts(tmp_path):
    late = answered(output={"completion": "Four."}, messages=[])
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = log_of(tmp_path / "twice.eval", [answered(), late])
    assert count(path, Config()) == 1
    [turn] = of_kind(only(read(path, Config())), Turn)
    assert turn.text == "Four."


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_one_json_document_is_read_in_pieces_of_any_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr("oversight.interop.inspect_files.CHUNK_CHARS", size)
    path = tmp_path / "log.json"
    samples = [answered(number, input=f"Wie groß ist {number}? 🙂") for number in range(5)]
    document = {**evaluation(), "samples": samples, "reductions": [{"scorer": "match"}]}
    path.write_text(json.dumps(document, ensure_ascii=size > 1, indent=1 if size > 1 else None))
    found = list(read(path, Config()))
    texts = [of_kind(records_of(each), Question)[0].text for each in found]
    assert texts == [f"Wie groß ist {number}? 🙂" for number in range(5)]


def test_old_layouts_with_one_score_and_a_transcript_are_read(tmp_path):
    old = answered(output={"completion": "attachment://h", "choices": []})
    del old["scores"]
    old |= {"score": {"value": 0.25}, "transcript": {"events": [], "content": {"h": "Vier."}}}
    header = evaluation(version=1, results={"scorer": {"name": "model_graded"}})
    path = tmp_path / "old.json"
    # Where the samples stand before what says what they are.
    path.write_text(json.dumps({"samples": [old], **header}))
    records = only(read(path, Config()))
    assert of_kind(records, Turn)[0].text == "Vier."
    [rating] = of_kind(records, Feedback)
    assert (rating.judge, rating.answer.preference) == ("model_graded", 0.25)


def test_a_run_that_was_cut_off_is_read_by_its_journal(tmp_path):
    path = tmp_path / "cut.eval"
    start = {key: evaluation()[key] for key in ("version", "eval", "plan")}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(start))
        archive.writestr("samples/1_epoch_1.json", json.dumps(answered()))
    assert InspectFile(path).status == "started"
    assert of_kind(only(read(path, Config())), Turn)


def test_a_folder_is_read_log_by_log_and_the_rest_is_left_out_by_name(tmp_path):
    (tmp_path / "deep").mkdir()
    log_of(tmp_path / "deep" / "a.eval", [answered(1)])
    log_of(tmp_path / "b.eval", [answered(2, uuid="other")])
    (tmp_path / "logs.json").write_text("{}")
    found = list(read(tmp_path, Config()))
    assert sum(isinstance(each, ImportedDebate) for each in found) == 2
    assert [each for each in found if isinstance(each, LeftOut)] == [
        LeftOut("a file that is no log of Inspect's: logs.json")
    ]
    assert count(tmp_path, Config()) == 2


# --- damage ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither a ZIP archive"),
        (b"\x7fELF", "neither a ZIP archive"),
        (b'{"version": 2', "ends in the middle"),
        (b"{}", "has no 'eval'"),
        (b'{"version": 3, "eval": {}}', "version = 3 of Inspect's log"),
        (b'{"eval": {"task": "t"}, "samples": [{"id": 1}, {"id"', "ends in the middle"),
        (b'{"eval": {}, "samples": [1 2]}', "',' or ']' should stand"),
        (b"{\xff: 1}", "no UTF-8"),
        (b"[" * 40, "neither a ZIP archive"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_log_is_refused_with_the_reason(tmp_path, content, said):
    path = tmp_path / "log.json"
    path.write_bytes(content)
    try:
        found = list(read(path, Config()))
        told = " ".join(f"{each.file} {each.reason}" for each in found if isinstance(each, BadRow))
    except DataError as error:
        told = str(error)
    assert said in told
    assert str(path) in told


def test_an_archive_of_something_else_or_cut_in_the_middle_is_refused(tmp_path):
    other = tmp_path / "other.eval"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "words")
    with pytest.raises(DataError, match=r"neither header\.json nor _journal"):
        list(read(other, Config()))
    whole = log_of(tmp_path / "whole.eval", [answered()])
    cut = tmp_path / "cut.eval"
    cut.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match="inspect log recover"):
        list(read(cut, Config()))


def test_a_damaged_sample_is_named_and_the_others_are_read(tmp_path):
    content = [json.dumps(answered(number, uuid=f"u{number}")).encode() for number in range(4)]
    head = json.dumps(evaluation()).encode()
    good = packed(content[0])
    short = packed(content[1])[:-20]
    other = packed(content[3].replace(b"It is 4", b"It is 5"))
    members = [
        ("samples/0_epoch_1.json", content[0], good),
        ("samples/1_epoch_1.json", content[1], short),
        ("samples/2_epoch_1.json", b"[1]", packed(b"[1]")),
        ("samples/3_epoch_1.json", content[3], other),
        ("header.json", head, packed(head)),
    ]
    path = zstd_archive(tmp_path / "z.eval", members)
    found = list(read(path, Config()))
    assert isinstance(found[0], ImportedDebate)
    bad = [each for each in found if isinstance(each, BadRow)]
    assert [each.file.rpartition("/")[2] for each in bad] == [
        f"{number}_epoch_1.json" for number in (1, 2, 3)
    ]
    assert "damaged" in bad[0].reason
    assert "no object" in bad[1].reason
    assert "sum does not agree" in bad[2].reason


def test_a_forged_size_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("oversight.interop.inspect_files.MAX_MEMBER_BYTES", 500)
    path = log_of(tmp_path / "a.eval", [answered(input="long " * 200)])
    [bad] = read(path, Config())
    assert isinstance(bad, BadRow)
    assert "at most 500 are read" in bad.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": ""}, "no words of a user"),
        ({"input": [{"role": "system", "content": "Be brief."}]}, "no words of a user"),
        ({"choices": ["a", "a "]}, "two of its choices are the same"),
        ({"epoch": None}, "no id and epoch"),
        ({"output": []}, "output"),
        ({"messages": 3}, "int"),
        ({"scores": {"match": {"value": "C", "history": 3}}}, "int"),
    ],
)
def test_a_sample_that_is_no_question_is_told_of(tmp_path, changes, said):
    path = log_of(tmp_path / "a.eval", [answered() | changes])
    [item] = read(path, Config())
    assert not isinstance(item, ImportedDebate) or "output" in changes, item
    if not isinstance(item, ImportedDebate):
        assert said in item.reason


# --- evaluations of others ---


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
