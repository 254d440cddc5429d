"""From Python: debates, further judgments, reports, rows and training in a few lines."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

import oversight as ov
from oversight.errors import ConfigError, ProtocolError
from oversight.store import Store
from oversight.text.terminal import can_redraw
from oversight.types import Question


@pytest.fixture
def questions() -> list[Question]:
    return list(ov.datasets.load("world", limit=4, split="held_out").questions)


@pytest.fixture
def debates(tmp_path: Path, questions: list[Question]) -> ov.Transcripts:
    return ov.debate(questions, protocol=["debate", "consultancy"], store=str(tmp_path / "s.db"))


def test_debates_are_run_once_and_read_back(
    debates: ov.Transcripts, questions: list[Question]
) -> None:
    assert len(debates) == 8
    assert not debates.failures
    assert {each.question.id for each in debates} == {each.id for each in questions}
    again = ov.debate(questions, protocol=["debate", "consultancy"], store=debates.store)
    assert again.ids == debates.ids
    first = debates[0]
    assert first.debate.id == debates.ids[0]
    assert first.turns
    assert first.question.text in str(first)
    assert debates[1:3].ids == debates.ids[1:3]
    assert debates[-1].debate.id == debates.ids[-1]


def test_debates_are_those_of_the_command_line(tmp_path: Path, questions: list[Question]) -> None:
    args = ["debate", "-d", "world", "--limit", "4", "--no-live", "--store", "cli.db"]
    args += ["--set", "dataset.split=held_out"]
    command = [sys.executable, "-m", "oversight.cli.main", *args]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    here = ov.debate(questions, store=str(tmp_path / "api.db"))
    assert sorted(here.ids) == list(ov.Transcripts(str(tmp_path / "cli.db")).ids)


def test_a_data_set_may_be_named(tmp_path: Path) -> None:
    line = {"id": "1", "question": "Which?", "options": ["this", "that"], "source": "This."}
    (tmp_path / "own.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    found = ov.debate(str(tmp_path / "own.jsonl"), store=str(tmp_path / "s.db"))
    assert [each.question.text for each in found] == ["Which?"]


def test_the_same_works_while_an_event_loop_runs(tmp_path: Path, questions: list[Question]) -> None:
    async def notebook() -> tuple[ov.Transcripts, ov.Transcripts]:
        blocking = ov.debate(questions[:1], store=str(tmp_path / "a.db"))
        return blocking, await ov.debate_async(questions[:1], store=str(tmp_path / "b.db"))

    first, second = asyncio.run(notebook())
    assert first.ids == second.ids
    assert len(first) == 1


def test_an_error_inside_a_running_loop_is_raised(tmp_path: Path) -> None:
    async def notebook() -> None:
        ov.debate([], store=str(tmp_path / "a.db"))

    with pytest.raises(ConfigError, match="questions: there is none"):
        asyncio.run(notebook())


def test_a_report_shows_itself(debates: ov.Transcripts) -> None:
    report = debates.report()
    assert report.num_debates == 8
    assert "judge" in str(report)
    assert "consultancy" in str(report)
    assert report._repr_html_().startswith("<iframe srcdoc=")
    assert ov.report(debates.store).arms == report.arms
    assert len(report.to_frame()) == len(report.arms) == 2


def test_in_a_notebook_a_report_is_text_where_it_is_printed_and_no_bar_is_drawn(
    debates: ov.Transcripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = debates.report()
    outside = str(report)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert str(report) == outside
    assert not can_redraw(Console(stderr=True))
    assert ov.debate([debates[0].question], store=debates.store).ids


def test_a_transcript_shows_itself_in_a_notebook_as_the_viewer_does(
    tmp_path: Path, questions: list[Question]
) -> None:
    hostile = "<script>document.title='seen'</script> \u202eetihw"
    asked = [questions[0].model_copy(update={"id": "h", "text": hostile})]
    [shown] = ov.debate(asked, store=str(tmp_path / "h.db"))
    found = re.fullmatch(
        r'<iframe srcdoc="([^"<>]*)" sandbox style="[^"]*"></iframe>', shown._repr_html_()
    )
    assert found
    page = unescape(found[1])
    assert shown.turns[0].text.split("<quote>")[0].strip() in unescape(page)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "<style>" in page
    anchors = re.findall(r'href="([^"]*)"', page)
    assert {each for each in anchors if not each.startswith("#")} == {"about:srcdoc"}
    assert {each[1:] for each in anchors if each.startswith("#")} <= set(
        re.findall(r'id="([^"]*)"', page)
    )


def test_a_frame_of_what_is_no_table_names_the_tables(debates: ov.Transcripts) -> None:
    with pytest.raises(ConfigError, match=r"'seeds': a report has none .*: arms, "):
        debates.report().to_frame("seeds")


def test_a_frame_has_a_row_for_each_judgment(debates: ov.Transcripts) -> None:
    frame = debates.to_frame()
    assert len(frame) == 8
    assert set(frame["protocol"]) == {"debate", "consultancy"}
    by_hand = [each.judgments[0].final.choice == each.question.correct for each in debates]
    assert list(frame["is_right"]) == by_hand


def test_recorded_debates_are_judged_once_more(debates: ov.Transcripts) -> None:
    config = {"agent": "lexical", "settings": {"sharpness": 2.0}}
    again = ov.judge(debates, config, swap=True)
    assert again.ids == debates.ids
    assert not again.failures
    for each in again:
        names = [(judgment.judge, judgment.swapped) for judgment in each.judgments]
        assert len(set(names)) == 3
        assert names[0] == ("lexical", False)
        assert each.judgments[0].agent is None
        assert all(j.agent and j.agent.settings["sharpness"] == 2.0 for j in each.judgments[1:])
    num = sum(len(each.judgments) for each in again)
    ov.judge(debates, config, swap=True)
    assert sum(len(each.judgments) for each in ov.Transcripts(debates.store)) == num
    with Store.open(debates.store, create=False) as store:
        assert not store.check()


def test_what_is_made_belongs_to_a_run(tmp_path: Path, questions: list[Question]) -> None:
    store = str(tmp_path / "s.db")
    debates = ov.debate(questions, store=store, run="first", tags={"prompt": "short"})
    ov.judge(debates, {"agent": "lexical", "settings": {"sharpness": 2.0}})
    with Store.open(store, create=False) as opened:
        [first, second] = opened.runs()
    assert (first.name, first.tags, first.num_debates) == ("first", {"prompt": "short"}, 4)
    assert [each.starts[0].command for each in (first, second)] == [
        "Python: oversight.debate",
        "Python: oversight.judge",
    ]


def test_the_debates_own_judge_does_not_judge_twice(debates: ov.Transcripts) -> None:
    again = ov.judge(debates, "lexical")
    assert all(len(each.judgments) == 1 for each in again)


def test_an_open_prompt_is_not_judged(tmp_path: Path) -> None:
    prompt = Question(id="p", dataset="mine", text="Say something.", options=(), correct=None)
    said = ov.debate([prompt], protocol="self_critique", store=str(tmp_path / "s.db"))
    assert len(said) == 1, said.failures
    with pytest.raises(ProtocolError, match="open prompt"):
        ov.judge(said, "lexical")


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ([{"question": "?"}], "a dict is no Question"),
        ([], "there is none"),
    ],
)
def test_what_are_no_questions_is_said(tmp_path: Path, questions: list, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=words):
        ov.debate(questions, store=str(tmp_path / "s.db"))


def test_an_agent_needs_a_name(tmp_path: Path, questions: list[Question]) -> None:
    with pytest.raises(ConfigError, match=r"judge = .*'agent'"):
        ov.debate(questions, judge={"settings": {}}, store=str(tmp_path / "s.db"))


def test_rows_of_debates_train_a_model(tmp_path: Path, debates: ov.Transcripts) -> None:
    rows = [{"prompt": f"{a} + 2 =", "completion": f" {a + 2}"} for a in range(20)]
    scratch = {"scratch": {"hidden_size": 32, "num_layers": 1, "vocab_size": 300}}
    folder = ov.train.sft(rows, out=str(tmp_path / "sft"), steps=2, model=scratch)  # type: ignore[operator]
    assert (folder / "config.json").is_file()
    made = ov.preferences(debates, ties=True)  # type: ignore[operator]
    assert made == debates.preferences(ties=True)
    with pytest.raises(ConfigError, match="unknown setting 'stepps'"):
        ov.train.sft(rows, out=str(tmp_path / "x"), model=scratch, stepps=3)  # type: ignore[operator]


def test_to_import_it_loads_nothing_heavy() -> None:
    script = (
        "import sys, oversight as ov; ov.__version__; "
        "print(sorted({'torch', 'langgraph', 'sqlalchemy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_what_there_is_is_listed() -> None:
    for name in ov.__all__:
        assert getattr(ov, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = ov.nothing  # type: ignore[attr-defined]
