"""Debates of ours in Inspect's logs: they come back as they were."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oversight.datasets.base import BadRow
from oversight.errors import ConfigError
from oversight.interop.base import ImportedDebate, ImportSettings, import_debates
from oversight.interop.inspect import Config, count, read, write
from oversight.interop.inspect_files import InspectFile, _archive, _content
from oversight.store import Store
from oversight.types import (
    Debate,
    Judgment,
    Outcome,
    PromptRecord,
    Question,
    Transcript,
    Turn,
)
from tests.interop.inspect_logs import (
    all_of,
    contents,
    only,
    records_of,
    written,
)
from tests.reporting.conftest import make_question, run_scripted
from tests.store.test_properties import debates, prompts


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


def members(path: Path) -> dict[str, bytes]:
    """Members of a log, which Python's own reader cannot unpack before 3.14."""
    with _archive(path) as (archive, file):
        return {each.filename: _content(archive, file, each) for each in archive.infolist()}


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
