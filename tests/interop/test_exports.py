"""Our own exports: back into a store, under the same ids."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.errors import DataError, StoreError
from oversight.interop.base import ImportSettings, import_debates, items_of
from oversight.store import Store
from oversight.types import (
    Belief,
    BeliefMethod,
    Feedback,
    JudgeKind,
    Judgment,
    OwnAnswer,
    Verdict,
)
from oversight.types.ratings import item_id
from tests.reporting.conftest import make_question, run_scripted


@pytest.fixture(scope="module")
def debated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with debates of a scripted model, one of them judged and rated by a person."""
    path = tmp_path_factory.mktemp("debated") / "debated.db"
    names = ("debate", "consultancy", "debate_single_turn_best_of_n")
    with Store.open(path) as store:
        questions = [make_question(0), make_question(1)]
        debates, _ = asyncio.run(run_scripted(store, questions, names))
        turns = store.transcript(debates[0].id).turns
        belief = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.HUMAN, probs=(0.3, 0.7))
        place = {"debate_id": debates[0].id, "judge": "kiki"}
        store.add(
            Judgment(**place, kind=JudgeKind.HUMAN, orders=debates[0].orders, final=belief),
            Feedback(
                **place,
                item=item_id("clarity", (turns[0].id,)),
                turn_ids=(turns[0].id,),
                answer=OwnAnswer(task="clarity", fields={"clear": 3}),
            ),
        )
    return path


@pytest.fixture(scope="module")
def exported(debated: Path) -> Path:
    out = debated.parent / "transcripts.jsonl"
    assert run(["export", str(out), "--store", str(debated), "--layout", "transcripts"]) == 0
    return out


def settings(path: Path, **changes: Any) -> ImportSettings:
    return ImportSettings(format="transcripts", path=str(path), store="", **changes)


def test_debates_come_back_under_their_ids_and_word_for_word(
    debated: Path, exported: Path, tmp_path: Path
) -> None:
    with Store.open(tmp_path / "new.db") as new, Store.open(debated, only_read=True) as old:
        told = import_debates(settings(exported), new)
        wanted = list(old.transcripts())
        assert list(new.transcripts()) == wanted
        lacking = {problem.reason for problem in new.check()}
    assert all("prompt" in reason for reason in lacking), "which no export holds"
    assert told.num_debates == len(wanted) == 6
    assert told.num_turns == sum(len(each.turns) for each in wanted)


def test_without_samples_a_store_is_sound(exported: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "new.db") as new:
        import_debates(settings(exported, settings={"samples": False}), new)
        assert not new.check()
        found = list(new.transcripts())
    assert found
    assert not any(turn.samples for each in found for turn in each.turns)


def test_an_export_of_what_was_imported_is_the_same_file(exported: Path, tmp_path: Path) -> None:
    store, again = str(tmp_path / "new.db"), tmp_path / "again.jsonl"
    assert run(["import", "transcripts", str(exported), "--store", store]) == 0
    assert run(["export", str(again), "--store", store, "--layout", "transcripts"]) == 0
    assert again.read_bytes() == exported.read_bytes()


def test_with_their_prompts_debates_come_back_as_a_whole(debated: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "whole.jsonl", tmp_path / "new.db"
    assert run(["export", str(out), "--as", "transcripts", "--store", str(debated)]) == 0
    assert run(["import", "transcripts", str(out), "--store", str(store)]) == 0
    with Store.open(store) as new, Store.open(debated, only_read=True) as old:
        assert not new.check()
        wanted = list(old.transcripts())
        assert list(new.transcripts()) == wanted
        samples = [s for each in wanted for turn in each.turns for s in turn.samples]
        assert samples
        for sample in samples:
            num = sample.usage.prompt_tokens
            asked = old.prompt(sample.prompt_id, num_tokens=num)
            assert new.prompt(sample.prompt_id, num_tokens=num) == asked
    rows = []
    for name, url in (("old", debated), ("new", store)):
        words = ["export", str(tmp_path / f"{name}.jsonl"), "--layout", "unpaired"]
        assert run([*words, "--store", str(url)]) == 0
        rows.append(sorted((tmp_path / f"{name}.jsonl").read_text().splitlines()))
    assert rows[0] == rows[1] != []
    texts = [part for line in lines_of(out) for part in line["prompts"]["parts"]]
    assert len(texts) < sum(len(line["prompts"]["prompts"]) for line in lines_of(out)) * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: given["parts"].pop(), "part "),
        (lambda given: given["parts"].__setitem__(0, "Other."), "prompts.prompts.0.id = "),
        (
            lambda given: given["prompts"][0].update(role="x"),
            "unknown key 'prompts.prompts.0.role'",
        ),
    ],
)
def test_edited_prompts_are_refused(change: Any, said: str, debated: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole.jsonl"
    assert run(["export", str(out), "--as", "transcripts", "--store", str(debated)]) == 0
    path = changed(out, tmp_path / "edited.jsonl", lambda line: change(line["prompts"]))
    with pytest.raises(DataError) as caught:
        import_debates(settings(path), Store.open(tmp_path / "none.db"))
    assert f"{path}:2: " in str(caught.value)
    assert said in str(caught.value)


def test_importing_into_the_store_it_came_from_changes_nothing(
    debated: Path, exported: Path
) -> None:
    with Store.open(debated) as store:
        before = store.counts(), store.seal()
        told = import_debates(settings(exported), store)
        assert (store.counts(), store.seal()) == before
    assert told.num_found == told.num_debates == 6


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changed(exported: Path, path: Path, change: Any) -> Path:
    """The export with its second line changed."""
    lines = lines_of(exported)
    change(lines[1])
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line.update(debate_id="0" * 32), "debate_id = '000000"),
        (lambda line: line["debate"].update(seed=99), "debate_id = "),
        (lambda line: line["question"].update(text="Another?"), "debate.question_fingerprint"),
        (lambda line: line["turns"][0].update(id="0"), "turns.0.id = '0', but its content gives"),
        (lambda line: line["turns"][0].update(step=40), "turns.0.id = "),
        (lambda line: line["turns"][0].update(debate_id="1"), "turns.0.id = "),
        (lambda line: line["judgments"][0].update(judge="me"), "judgments.0.id = "),
        (
            lambda line: line["judgments"][0].update(verdict="x"),
            "unknown key 'verdict'",
        ),
        (lambda line: line["judgments"][0]["final"].update(probs=[0.5, 0.6]), "judgments.0.final"),
        (lambda line: line.pop("turns"), "key 'turns' is missing"),
        (lambda line: line.update(version=2), "unknown key 'version'"),
    ],
)
def test_an_edited_line_is_refused_by_its_place(
    change: Any, said: str, exported: Path, tmp_path: Path
) -> None:
    path = changed(exported, tmp_path / "edited.jsonl", change)
    with pytest.raises(DataError) as caught:
        import_debates(settings(path), Store.open(tmp_path / "none.db"))
    assert f"{path}:2: " in str(caught.value)
    assert said in str(caught.value)
    with Store.open(tmp_path / "some.db") as store:
        told = import_debates(settings(path, skip_bad=True), store)
    assert (told.num_debates, len(told.bad)) == (5, 1)


def test_another_text_under_the_same_id_is_named_by_its_line(
    exported: Path, tmp_path: Path
) -> None:
    path = changed(
        exported, tmp_path / "edited.jsonl", lambda line: line["turns"][0].update(text="Other.")
    )
    with Store.open(tmp_path / "some.db") as store:
        import_debates(settings(exported), store)
        with pytest.raises(StoreError, match=r"edited\.jsonl:2: turn .* with other content"):
            import_debates(settings(path), store)


@pytest.mark.parametrize("layout", ["preference", "unpaired"])
def test_an_export_of_another_layout_is_refused(layout: str, debated: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert run(["export", str(out), "--store", str(debated), "--layout", layout]) == 0
    for item in items_of(settings(out)):
        assert "missing" in str(item) or "unknown key" in str(item)


def test_a_folder_and_an_empty_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "turns.parquet").write_bytes(b"PAR1")
    for path, said in (
        (tmp_path, "Is a directory"),
        (tmp_path / "empty.jsonl", "no debate"),
        (tmp_path / "turns.parquet", "Parquet holds turns alone"),
    ):
        store = str(tmp_path / "none.db")
        assert run(["import", "transcripts", str(path), "--store", store]) == 2
        assert said in capsys.readouterr().err
