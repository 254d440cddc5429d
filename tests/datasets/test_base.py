from __future__ import annotations

import json

import pytest

from oversight.config import DatasetSettings
from oversight.datasets.base import BadRow, load_questions
from oversight.errors import ConfigError, DataError, UnknownNameError


def line(name: str, **more) -> str:
    row = {"id": name, "question": "Which?", "options": ["this", "that"], "correct": 0}
    return json.dumps(row | more)


@pytest.fixture
def write(tmp_path):
    def _write(*lines: str):
        file = tmp_path / "q.jsonl"
        file.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
        return file

    return _write


def spec(file, **more) -> DatasetSettings:
    return DatasetSettings(dataset="jsonl", settings={"path": str(file)}, **more)


def test_bad_rows_are_all_listed_with_file_line_and_reason_before_anything_runs(write):
    file = write(line("a"), "{broken", line("b", options=["one"]), line("c", question=" "))
    with pytest.raises(DataError) as caught:
        load_questions(spec(file))
    message = str(caught.value)
    assert message.splitlines()[0] == "data set 'jsonl': 3 rows cannot be used:"
    assert f"{file}:2: broken JSON" in message
    assert f"{file}:3: a question needs at least two options, here are 1" in message
    assert f"{file}:4: text is empty" in message
    assert "--skip-bad" in message.splitlines()[-1]


def test_only_the_first_twenty_bad_rows_are_listed(write):
    with pytest.raises(DataError) as caught:
        load_questions(spec(write(*["{"] * 33)))
    lines = str(caught.value).splitlines()
    assert len([each for each in lines if "broken JSON" in each]) == 20
    assert "  … and 13 more." in lines


def test_skip_bad_goes_on_and_gives_the_bad_rows_back(write):
    file = write(line("a"), "[]", line("b"))
    for loaded in (
        load_questions(spec(file), skip_bad=True),
        load_questions(
            DatasetSettings(**spec(file, skip_bad=True).model_dump(exclude={"split", "shuffle"}))
        ),
    ):
        assert [q.id for q in loaded.questions] == ["a", "b"]
        assert loaded.bad == (BadRow(str(file), 2, "expected a JSON object, found list"),)


def test_a_doubled_id_is_a_bad_row_that_names_both_lines(write):
    file = write(line("a"), "", line("b"), line("a", question="Another?"))
    with pytest.raises(DataError, match="id 'a' stands already at") as caught:
        load_questions(spec(file))
    assert f"{file}:4: id 'a' stands already at {file}:1" in str(caught.value)
    kept = load_questions(spec(file), skip_bad=True)
    assert [q.text for q in kept.questions] == ["Which?", "Which?"]
    assert kept.bad[0].row_id == "a"


def test_limit_takes_the_first_questions_and_reads_no_further(write):
    file = write(line("a"), line("b"), "{broken")
    assert [q.id for q in load_questions(spec(file, limit=2)).questions] == ["a", "b"]
    assert [q.id for q in load_questions(spec(file, limit=2), limit=1).questions] == ["a"]
    with pytest.raises(DataError):
        load_questions(spec(file, limit=3))


def test_a_limit_below_one_is_refused(write):
    with pytest.raises(ConfigError, match="limit = 0"):
        load_questions(spec(write(line("a"))), limit=0)


def test_a_sample_is_seeded_nested_and_blind_to_the_order_of_rows(write):
    names = [f"q{i}" for i in range(50)]
    forward = write(*[line(name) for name in names])

    def sample(limit, seed=3):
        loaded = load_questions(spec(forward, shuffle=True), limit=limit, seed=seed)
        return [q.id for q in loaded.questions]

    ten, twenty = sample(10), sample(20)
    assert twenty[:10] == ten
    assert ten != names[:10]
    assert sample(10, seed=4) != ten
    write(*[line(name) for name in reversed(names)])
    assert sample(10) == ten


def test_a_split_is_chosen_by_label_and_the_rest_is_counted(write):
    file = write(line("a", split="dev"), line("b", split="test"), line("c", split="dev"))
    loaded = load_questions(spec(file, split="dev"))
    assert [q.id for q in loaded.questions] == ["a", "c"]
    assert loaded.left_out == {"split 'test'": 1}
    with pytest.raises(DataError, match="no question to ask"):
        load_questions(spec(file, split="train"))


def test_a_data_set_with_a_setting_split_is_asked_for_it():
    chosen = DatasetSettings(dataset="world", split="held_out", limit=3)
    assert {q.split for q in load_questions(chosen).questions} == {"held_out"}
    clash = DatasetSettings(dataset="world", split="held_out", settings={"split": "train"})
    with pytest.raises(ConfigError, match="contradicts"):
        load_questions(clash)


def test_all_rows_bad_is_an_error_even_with_skip_bad(write):
    with pytest.raises(DataError, match="no question to ask"):
        load_questions(spec(write("{")), skip_bad=True)


def test_an_empty_file_is_named(write):
    with pytest.raises(DataError, match=r"q\.jsonl: the file is empty"):
        load_questions(spec(write()))


def test_an_unknown_data_set_and_an_unknown_setting_name_the_nearest():
    with pytest.raises(UnknownNameError, match="'world'"):
        load_questions(("wrld", {}))
    with pytest.raises(ConfigError, match=r"dataset\.settings\.difficlty.*'difficulty'"):
        load_questions(("world", {"difficlty": 3}))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, ""),
        (3, ""),
        (5, "5 questions were asked for, and data set 'jsonl' has 3 such questions"),
        (2500, "2,500 questions were asked for, and data set 'jsonl' has 3 such questions"),
    ],
)
def test_a_limit_beyond_what_there_is_is_said(write, limit, expected):
    loaded = load_questions(spec(write(line("a"), line("b"), line("c"))), limit=limit)
    assert loaded.shortage == expected
    assert len(loaded.questions) == min(limit, 3)


def test_what_was_left_out_does_not_count_towards_a_limit(write):
    file = write(line("a", split="train"), line("b", split="test"))
    loaded = load_questions(spec(file, split="train", limit=2))
    assert loaded.shortage == "2 questions were asked for, and data set 'jsonl' has 1 such question"


def test_no_limit_is_never_short(write):
    assert load_questions(spec(write(line("a")))).shortage == ""
