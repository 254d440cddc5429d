"""Open prompts from files of a column, from dialogues, and from templates."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from oversight.datasets.base import LoadedQuestions, load_questions
from oversight.errors import ConfigError, DataError

WORDS = ["First: what, exactly?", 'Say "hi",\nin two lines.', "Third."]


def load(name: str, path: Path, **settings: Any) -> LoadedQuestions:
    return load_questions((name, {"path": str(path), **settings}))


def as_jsonl(path: Path, column: str) -> None:
    lines = [json.dumps({column: words, "name": str(n)}) for n, words in enumerate(WORDS)]
    path.write_text("\n".join(lines), encoding="utf-8")


def as_csv(path: Path, column: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow([column, "name"])
        writer.writerows([words, n] for n, words in enumerate(WORDS))


def as_parquet(path: Path, column: str) -> None:
    names = [str(n) for n in range(len(WORDS))]
    parquet.write_table(pa.table({column: WORDS, "name": names}), path)


WRITERS = {".jsonl": as_jsonl, ".csv": as_csv, ".tsv": as_csv, ".parquet": as_parquet}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_named_column_is_read_word_for_word(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"asked{ending}"
    WRITERS[ending](path, "request")

    loaded = load("prompts", path, column="request", id_column="name")

    assert [q.text for q in loaded.questions] == WORDS
    assert [q.id for q in loaded.questions] == ["0", "1", "2"]
    assert all(q.is_open for q in loaded.questions)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"asked{ending}"
    WRITERS[ending](path, "request")

    with pytest.raises(ConfigError, match=r"column = 'requst'.*Did you mean 'request'"):
        load("prompts", path, column="requst")


def test_a_text_file_is_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("\ufeffOne: two.\n\n  Three.  \nOne: two.\n", encoding="utf-8")

    loaded = load("prompts", path, system="Be brief.")

    assert [q.text for q in loaded.questions] == ["One: two.", "Three."]
    assert loaded.left_out == {"a prompt that stood in a row before": 1}
    assert [m.content for m in loaded.questions[0].history] == ["Be brief."]


def test_a_system_message_makes_it_another_prompt(tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("One.", encoding="utf-8")

    [plain] = load("prompts", path).questions
    [led] = load("prompts", path, system="Be brief.").questions

    assert plain.id != led.id


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"prompt\nok\n,\n", "line-or-cells"),
        ("a.csv", b"prompt,x\n,1\n", "a.csv:2: prompt is empty"),
        ("a.csv", b'prompt\n"open\n', "broken CSV"),
        ("a.csv", b"prompt\n", "the file has no rows"),
        ("a.txt", b"ok\n\xff\n", "a.txt:2: not UTF-8 at byte 0"),
        ("a.txt", b"\n\n", "the file is empty"),
        ("a.jsonl", b'{"promt": "x"}', "key 'prompt' is missing. Did you mean 'promt'"),
        ("a.jsonl", b'{"prompt": 3}', "prompt = 3 is no text"),
        ("a.parquet", b"no parquet", "broken Parquet"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        load("prompts", path)

    wanted = "it has more cells than columns" if said == "line-or-cells" else said
    assert wanted in str(caught.value)


def test_an_ending_that_says_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "asked.xlsx"
    path.write_bytes(b"x")

    with pytest.raises(ConfigError, match=r"name a file that ends in \.txt, \.jsonl"):
        load("prompts", path)


def dialogue(*turns: str) -> str:
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[n % 2]}: {words}" for n, words in enumerate(turns))


def pair(path: Path, chosen: str, rejected: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n")


def test_a_dialogue_keeps_its_colons_and_ends_with_the_persons_words(tmp_path: Path) -> None:
    path = tmp_path / "hh.jsonl"
    before = ("Note: Human: or not?", "Both: see above.", "And then: what?")
    pair(path, dialogue(*before, "Good."), dialogue(*before, "Bad."))

    [question] = load("hh_rlhf", path).questions

    assert [(m.role, m.content) for m in question.history] == [
        ("user", "Note: Human: or not?"),
        ("assistant", "Both: see above."),
    ]
    assert question.text == "And then: what?"


def test_the_opening_alone_has_no_history(tmp_path: Path) -> None:
    path = tmp_path / "hh.jsonl"
    before = ("One.", "Two.", "Three.")
    pair(path, dialogue(*before, "Good."), dialogue(*before, "Bad."))

    [question] = load("hh_rlhf", path, take="opening").questions

    assert (question.text, question.history) == ("One.", ())


def test_several_turns_of_one_speaker_are_one_message(tmp_path: Path) -> None:
    path = tmp_path / "hh.jsonl"
    begun = "\n\nHuman: One.\n\nHuman: Two."
    pair(path, begun + "\n\nAssistant: Good.", begun + "\n\nAssistant: Bad.")

    [question] = load("hh_rlhf", path).questions

    assert question.text == "One.\n\nTwo."


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("Human: no blank line", "does not begin with 'Human:'"),
        ("\n\nAssistant: First.", "does not begin with 'Human:'"),
        ("\n\nHuman: \n\nAssistant: Yes?", "a turn of the dialogue is empty"),
    ],
)
def test_a_broken_dialogue_is_named(tmp_path: Path, chosen: str, said: str) -> None:
    path = tmp_path / "hh.jsonl"
    pair(path, chosen, chosen)

    with pytest.raises(DataError, match=said):
        load("hh_rlhf", path)


def test_the_published_file_is_read_whole(shared_data: Path) -> None:
    loaded = load("hh_rlhf", shared_data / "hh-rlhf" / "harmless-test-1200.jsonl")

    assert len(loaded.questions) + sum(loaded.left_out.values()) == 1200
    assert not loaded.bad


def templates(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_templates_are_filled_with_every_choice_of_words(tmp_path: Path) -> None:
    path = templates(
        tmp_path / "t.toml",
        "templates = ['How do I {act} a {thing}?', 'A {thing}: why {act} a {thing}?']\n"
        "slots = { act = ['mend', '{thing}'], thing = ['kite', 'boat'] }",
    )

    loaded = load("templates", path)

    texts = [q.text for q in loaded.questions]
    assert texts[:4] == [
        "How do I mend a kite?",
        "How do I mend a boat?",
        "How do I {thing} a kite?",
        "How do I {thing} a boat?",
    ]
    assert texts[4] == "A kite: why mend a kite?"
    assert len(texts) == 8
    assert {q.meta["cluster"] for q in loaded.questions} == {"template-1", "template-2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("templates = ['{thng}']\nslots = { thing = ['a'] }", "Did you mean 'thing'"),
        ("templates = ['x']\nslots = { thing = ['a'] }", "slots.thing stands in no template"),
        ("templates = ['{thing}']\nslots = { thing = [] }", "slots.thing is empty"),
        ("templates = ['{thing}']\nslots = { thing = [' '] }", "slots.thing is empty"),
        ("templates = []", "templates"),
        ("templates = 'x'", "templates"),
        ("templates = [", "is not TOML"),
        ("templates = ['x']\nslot = 1", "unknown setting 'slot'"),
    ],
)
def test_a_broken_file_of_templates_is_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load("templates", templates(tmp_path / "t.toml", text))

    assert "t.toml" in str(caught.value)
    assert said in str(caught.value)
