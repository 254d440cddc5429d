from __future__ import annotations

import json

import pytest

from oversight.datasets.base import BadRow, load_questions
from oversight.datasets.nyu import SURFACE, Config, detokenise, rows
from oversight.errors import ConfigError


@pytest.fixture(scope="module")
def folder(shared_data):
    place = shared_data / "nyu-debates"
    if not place.is_dir():
        pytest.skip(f"NYU debates not found at {place}")
    return place


@pytest.fixture(scope="module")
def by_debate(folder):
    return load_questions(("nyu", {"path": str(folder)}))


@pytest.fixture(scope="module")
def by_question(folder):
    return load_questions(("nyu", {"path": str(folder), "per": "question"})).questions


def a_debate(**changes) -> dict:
    setup = {
        "sourceMaterial": {
            "QuALITYSourceMaterial": {
                "articleId": "20001",
                "title": "A Story",
                "contents": ["He", "left", "."],
            }
        },
        "question": "Who left? ",
        "answers": ["He did.", "She did."],
        "correctAnswerIndex": 0,
        "rules": {},
    }
    return {"setup": setup | changes, "rounds": []}


def write(tmp_path, name: str, content) -> None:
    place = tmp_path / "debates"
    place.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (place / name).write_bytes(data)


def read(tmp_path, **settings):
    return list(rows(Config(path=str(tmp_path), **settings)))


def test_all_real_debates_give_a_row_each(folder, by_debate):
    loaded = by_debate
    assert len(loaded.questions) == 151
    assert loaded.bad == ()
    assert all(q.source and len(q.source.text) > 5000 for q in loaded.questions)
    assert all(len(q.options) == 2 and q.correct in (0, 1) for q in loaded.questions)
    stems = {path.stem for path in (folder / "debates").glob("*.json")}
    assert {q.id for q in loaded.questions} == {f"nyu:{stem}" for stem in stems}


def test_real_debates_on_one_question_share_its_row_and_its_cluster(folder, by_debate, by_question):
    assert len(by_question) == 123
    assert {q.id for q in by_question} == {q.meta["cluster"] for q in by_debate.questions}
    debates = [name for q in by_question for name in q.meta["debates"]]
    assert sorted(debates) == sorted(path.name for path in (folder / "debates").glob("*.json"))


def test_no_token_form_is_left_in_real_sources(by_question):
    for question in by_question:
        for form in ("-LSB-", "-RRB-", "``", " n't", " 's ", " ,", " .\n"):
            assert form not in question.source.text, (question.id, form)


def test_spans_of_real_human_quotes_resolve_in_the_source_text(folder, by_debate):
    num_quotes = 0
    for question in by_debate.questions:
        record = json.loads((folder / "debates" / question.meta["debates"][0]).read_bytes())
        tokens = record["setup"]["sourceMaterial"]["QuALITYSourceMaterial"]["contents"]
        made = detokenise(tokens)
        assert made.text == question.source.text
        for begin, end in quote_spans(record["rounds"]):
            first, last = made.characters(begin, end)
            quoted = "".join(made.text[first:last].split())
            wanted = "".join(SURFACE.get(token, token) for token in tokens[begin:end])
            assert quoted == "".join(wanted.split())
            num_quotes += 1
    assert num_quotes > 1000


def quote_spans(value):
    if isinstance(value, dict):
        if "span" in value:
            yield tuple(value["span"])
        for inner in value.values():
            yield from quote_spans(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from quote_spans(inner)


def test_answers_in_the_other_order_are_the_same_question(tmp_path):
    write(tmp_path, "a-0.json", a_debate())
    write(tmp_path, "a-1.json", a_debate(answers=["She did.", "He did."], correctAnswerIndex=1))
    (row,) = read(tmp_path, per="question")
    assert row.question.meta["debates"] == ["a-0.json", "a-1.json"]
    assert row.question.text == "Who left?"
    one, two = read(tmp_path)
    assert one.question.options[0].text == two.question.options[1].text == "He did."
    assert one.question.source is two.question.source


@pytest.mark.parametrize("per", ["debate", "question"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "broken JSON"),
        (b"{", "broken JSON"),
        (b"\xff{}", "not UTF-8"),
        ([], "expected a JSON object, found list"),
        ({"rounds": []}, "key 'setup' is missing"),
        (a_debate(sourceMaterial={}), "setup.sourceMaterial.QuALITYSourceMaterial' is missing"),
        (a_debate(question=" "), "text is empty"),
        (a_debate(answers=["He did."]), "at least two options, here are 1"),
        (a_debate(answers=["x", "x"]), "two options have the same text"),
        (a_debate(correctAnswerIndex=2), "correct=2 is no index of 2 options"),
        (a_debate(correctAnswerIndex=None), "setup.correctAnswerIndex = None"),
        (
            a_debate(
                sourceMaterial={
                    "QuALITYSourceMaterial": {"articleId": "1", "title": "", "contents": ["\n"]}
                }
            ),
            "the story is empty",
        ),
    ],
)
def test_a_wrong_debate_file_is_a_bad_row(tmp_path, per, content, expected):
    write(tmp_path, "a.json", content)
    write(tmp_path, "b.json", a_debate(question="Another?"))
    found = read(tmp_path, per=per)
    (bad,) = [row for row in found if isinstance(row, BadRow)]
    assert expected in bad.reason
    assert bad.file.endswith("a.json")
    assert len(found) == 2


def test_a_folder_without_debates_says_where_they_are_published(tmp_path):
    with pytest.raises(ConfigError, match="julianmichael/debate"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="nothing at"):
        read(tmp_path / "none")


def test_the_folder_of_debates_can_be_given_itself(tmp_path):
    write(tmp_path, "a.json", a_debate())
    assert len(read(tmp_path / "debates")) == 1
