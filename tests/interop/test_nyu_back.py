"""NYU debate files written back as they were, the published ones among them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.cli.main import run
from oversight.interop.base import (
    ImportedDebate,
    import_debates,
    items_of,
    write_debates,
)
from oversight.interop.nyu.files import restored, story_text
from oversight.store import Store
from oversight.types import (
    Act,
    Debate,
    Feedback,
    Judgment,
    Question,
    Transcript,
    Turn,
)
from tests.interop.nyu_files import (
    STORY,
    a_debate,
    a_folder,
    at_once,
    believed,
    in_turn,
    negotiated,
    quote,
    settings,
    speech,
    text,
    transcript,
)


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "in", {"one": a_debate(), "two": negotiated(agreed=True)})
    with Store.open(tmp_path / "some.db") as store:
        first = import_debates(settings(folder), store)
        before = store.counts(), store.seal()
        second = import_debates(settings(folder), store)
        assert (store.counts(), store.seal()) == before
        assert not store.check()
    assert (first.num_found, second.num_found) == (0, 2)


def written_back(path: Path, debates: dict[str, Any]) -> dict[str, Any]:
    """Debates after their way through a store, by name."""
    folder = a_folder(path / "in", debates)
    with Store.open(path / "some.db") as store:
        import_debates(settings(folder), store)
        told = write_debates("nyu", store.transcripts(complete=None), path / "out", {})
    assert told.num_debates == len(debates)
    assert (path / "out" / "debates-metadata.jsonl").read_text().count("\n") == len(debates)
    files = (path / "out" / "debates").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    debates = {
        "one": a_debate(),
        "two": negotiated(agreed=True),
        "none": a_debate() | {"rounds": []},
    }
    assert written_back(tmp_path, debates) == debates


def as_read(item: ImportedDebate) -> Transcript:
    """A debate as it is read from a store that holds these records."""
    question, debate, *others = item.records
    assert isinstance(question, Question)
    assert isinstance(debate, Debate)
    return Transcript(
        debate,
        question,
        tuple(each for each in others if isinstance(each, Turn)),
        tuple(each for each in others if isinstance(each, Judgment)),
        ratings=tuple(each for each in others if isinstance(each, Feedback)),
    )


WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
) | st.sampled_from(["<quote>", "</quote>", "a <quote>b</quote> c", ""])
CONTENT = st.lists(
    st.builds(text, WORDS)
    | st.tuples(st.integers(0, 5), st.integers(6, 12)).map(lambda span: quote(*span)),
    max_size=6,
)
TOKENS = st.lists(
    st.sampled_from([*STORY, "-LSB-", "[", "``", '"', "'", "n't", "do", "U.S.", "", "gon", "na"])
    | WORDS,
    min_size=12,
    max_size=30,
).filter(lambda tokens: any(token.strip() for token in tokens))


@hypothesis.settings(max_examples=40)
@given(contents=st.tuples(CONTENT, CONTENT, CONTENT, CONTENT), tokens=TOKENS)
def test_any_file_comes_back_as_it_was(
    contents: tuple[list[Any], ...], tokens: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    debate = a_debate(
        [
            believed(0.5, "Begin."),
            at_once(a=speech("Ada", *contents[0]), b=speech("Bob", *contents[1])),
            believed(0.7),
            in_turn(a=speech("Ada", *contents[2]), b=speech("Bob", *contents[3])),
            believed(0.2, "Enough.", ends=True),
        ]
    )
    debate["setup"]["sourceMaterial"]["QuALITYSourceMaterial"]["contents"] = tokens
    path = tmp_path_factory.mktemp("any")
    [item] = items_of(settings(a_folder(path / "in", {"one": debate})))
    assert isinstance(item, ImportedDebate)
    write_debates("nyu", [as_read(item)], path / "out", {})
    assert json.loads((path / "out" / "debates" / "one.json").read_text()) == debate


@given(TOKENS)
def test_tokens_come_back_from_their_text(tokens: list[str]) -> None:
    story = story_text("", tuple(tokens))
    if story.splices is not None:
        assert restored(story.source.text, story.splices) == tokens


def test_the_command_writes_files_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_folder(tmp_path / "in", {"one": a_debate(), "two": negotiated(agreed=False)})
    store = ["--store", str(tmp_path / "some.db")]
    assert run(["import", "nyu", str(folder), *store, "--run", "first"]) == 0
    told = capsys.readouterr().out
    assert "2 debates: 12 turns, 3 quotes, 3 judgments and 2 ratings." in told
    assert "as run first" in told
    assert run(["export", str(tmp_path / "out"), "--as", "nyu", *store, "--run", "first"]) == 0
    assert "out: 2 debates" in capsys.readouterr().out
    for file in (folder / "debates").glob("*.json"):
        again = tmp_path / "out" / "debates" / file.name
        assert json.loads(again.read_text()) == json.loads(file.read_text())


def test_what_came_from_elsewhere_is_left_out_of_files(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    meta = found.question.meta
    others = {
        "a path": found.question.model_copy(update={"id": "nyu:../../away"}),
        "no rest": found.question.model_copy(update={"meta": {}}),
        "broken": found.question.model_copy(
            update={"meta": meta | {"nyu": {"file": {"setup": 1}}}}
        ),
    }
    for name, question in others.items():
        changed = Transcript(found.debate, question, found.turns)
        told = write_debates("nyu", [changed], tmp_path / name, {})
        assert (told.num_debates, told.left_out.total()) == (0, 1), name
    assert not list(tmp_path.glob("**/away*"))


# --- the published files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    place = shared_data / "nyu-debates"
    if not place.is_dir():
        pytest.skip(f"NYU debates not found at {place}")
    return place


@pytest.fixture(scope="module")
def whole(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all of the published debates that are here."""
    path = tmp_path_factory.mktemp("nyu") / "nyu.db"
    with Store.open(path) as store:
        import_debates(settings(published), store)
    return path


def test_every_published_debate_speech_and_quote_is_read(published: Path, whole: Path) -> None:
    files = [
        json.loads(file.read_text()) for file in sorted((published / "debates").glob("*.json"))
    ]
    counted: Counter[str] = Counter()
    spans = []
    for value in files:
        [material] = value["setup"]["sourceMaterial"].values()
        for each in value["rounds"]:
            [(kind, body)] = each.items()
            counted[kind] += 1
            for one in body.get("speeches", {}).values():
                counted["speeches"] += 1
                quotes = [part["Quote"]["span"] for part in one["content"] if "Quote" in part]
                spans += [material["contents"][begin:end] for begin, end in quotes]
            counted["offline"] += sum(
                work["judgments"][-1]["endDebate"] for work in body.get("judgments", {}).values()
            )
            counted["ended"] += body.get("endDebate", False)
        counted["survey"] += len(value["feedback"]) * bool(value["rounds"])
    with Store.open(whole, only_read=True) as store:
        found = list(store.transcripts(complete=None))
        assert not store.check()
    turns = [turn for each in found for turn in each.turns]
    assert len(found) == len(files)
    assert sum(turn.act is Act.SPEAK for turn in turns) == counted["speeches"]
    assert sum(turn.act is Act.BELIEVE for turn in turns) == counted["JudgeFeedback"]
    assert sum(len(each.judgments) for each in found) == counted["ended"] + counted["offline"]
    assert sum(len(each.ratings) for each in found) == counted["survey"]
    quoted = Counter(_letters([each.text]) for turn in turns for each in turn.quotes)
    assert quoted == Counter(_letters(tokens) for tokens in spans)


def _letters(tokens: list[str]) -> str:
    """Letters and digits alone: what no way of writing tokens changes, but names of brackets."""
    joined = "".join(re.sub("^-[LR][SRC]B-$", "", token) for token in tokens)
    return "".join(char for char in joined if char.isalnum())


def test_published_files_come_back_byte_for_byte(
    published: Path, whole: Path, tmp_path: Path
) -> None:
    with Store.open(whole, only_read=True) as store:
        write_debates("nyu", store.transcripts(complete=None), tmp_path, {})
    for file in sorted((published / "debates").glob("*.json")):
        assert (tmp_path / "debates" / file.name).read_bytes() == file.read_bytes(), file.name
    lines = [
        {each["name"]: each for each in map(json.loads, path.read_text().splitlines())}
        for path in (published / "debates-metadata.jsonl", tmp_path / "debates-metadata.jsonl")
    ]
    assert lines[0] == lines[1]
