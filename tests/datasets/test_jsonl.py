from __future__ import annotations

import json

import pytest

from oversight.datasets.base import BadRow, QuestionRow
from oversight.datasets.jsonl import Config, rows
from oversight.errors import ConfigError

GOOD = {"id": "a", "question": "Which?", "options": ["this", "that"]}


def read(tmp_path, *lines, **settings) -> list[QuestionRow | BadRow]:
    file = tmp_path / "q.jsonl"
    data = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
    file.write_bytes(b"\n".join(data))
    return list(rows(Config(path=str(file), **settings)))


def reason(tmp_path, **changes) -> str:
    (row,) = read(tmp_path, {k: v for k, v in (GOOD | changes).items() if v is not ...})
    assert isinstance(row, BadRow), row
    assert row.line == 1
    assert row.file.endswith("q.jsonl")
    return row.reason


def test_a_full_row_becomes_a_question(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "s.txt").write_text("The long story.", encoding="utf-8")
    full = {
        "id": "full",
        "question": "Which?",
        "options": ["this", {"text": "that", "argument": "Because."}],
        "correct": 1,
        "source": {"title": "Story", "file": "texts/s.txt"},
        "split": "dev",
        "meta": {"cluster": "x", "deep": [1, {"a": None}]},
    }
    (row,) = read(tmp_path, full)
    question = row.question
    assert (row.line, question.id, question.split, question.correct) == (1, "full", "dev", 1)
    assert question.dataset == "jsonl"
    assert question.options[1].argument == "Because."
    assert (question.source.title, question.source.text) == ("Story", "The long story.")
    assert question.meta["deep"] == [1, {"a": None}]


def test_the_least_row_has_no_source_and_no_right_answer(tmp_path):
    (row,) = read(tmp_path, GOOD)
    assert (row.question.source, row.question.correct) == (None, None)


def test_a_source_may_be_text_alone_or_have_a_title(tmp_path):
    plain, titled = read(
        tmp_path,
        GOOD | {"source": "Text."},
        GOOD | {"source": {"title": "T", "text": "Text."}},
    )
    assert (plain.question.source.title, titled.question.source.title) == ("", "T")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"anser": 1}, "unknown key 'anser'"),
        ({"sorce": "x"}, "Did you mean 'source'?"),
        ({"id": ...}, "key 'id' is missing"),
        ({"id": ""}, "id is empty"),
        ({"id": 7}, "id = 7: give a text"),
        ({"question": "\n "}, "text is empty"),
        ({"question": None}, "question = None"),
        ({"options": ["one"]}, "at least two options, here are 1"),
        ({"options": []}, "at least two options, here are 0"),
        ({"options": ["same", " same "]}, "two options have the same text"),
        ({"options": ["a", ""]}, "options.1.text is empty"),
        ({"options": ["a", " "]}, "an option is empty"),
        ({"options": ["a", 3]}, "options.1 = 3: expected a text"),
        ({"options": ["a", {"txt": "b"}]}, "options.1: key 'text' is missing"),
        ({"options": "ab"}, "options = 'ab'"),
        ({"correct": 2}, "correct=2 is no index of 2 options"),
        ({"correct": -1}, "correct=-1 is no index"),
        ({"correct": "0"}, "correct = '0'"),
        ({"correct": True}, "correct = True"),
        ({"source": " "}, "source is empty"),
        ({"source": {"title": "only"}}, "source: key 'text' is missing"),
        ({"source": {"text": "a", "file": "b"}}, "source: unknown key 'text'"),
        ({"source": {"file": "nowhere.txt"}}, "source.file = 'nowhere.txt': cannot be read"),
        ({"source": {"file": "../q.txt"}}, "lies outside"),
        ({"source": {"file": "/etc/hostname"}}, "lies outside"),
        ({"source": {"file": "."}}, "cannot be read"),
        ({"source": ["a"]}, "source"),
        ({"split": 1}, "split = 1"),
        ({"meta": []}, "meta = []"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(tmp_path, changes, expected):
    assert expected in reason(tmp_path, **changes)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"id": "a", ', "broken JSON: "),
        (b'"text"', "expected a JSON object, found str"),
        (b'{"id": "\xff"}', "not UTF-8: byte b'\\xff' at offset 8"),
        (b"\x00\x01", "broken JSON"),
        (b'{"id": "a", "id": "b"}', "key 'id' stands twice"),
        (b'{"id": NaN}', "NaN is no JSON"),
        (b'{"id": "\\ud800"}', "\\ud800 is half of a surrogate pair"),
        (b'{"id": "a\\u0000"}', "the character NUL"),
        (b'{"a": ' * 100_000, "broken JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "broken JSON"),
        (b'{"id": "a\tb"}', "broken JSON: Invalid control character"),
    ],
)
def test_a_broken_line_is_named_and_the_lines_after_it_are_read(tmp_path, data, expected):
    bad, good = read(tmp_path, data, GOOD)
    assert isinstance(bad, BadRow)
    assert expected in bad.reason
    assert (good.line, good.question.id) == (2, "a")


def test_escaped_text_that_only_looks_like_a_bad_character_is_kept(tmp_path):
    (row,) = read(
        tmp_path, b'{"id": "\\\\u0000 \\ud83d\\ude00", "question": "?", "options": ["a", "b"]}'
    )
    assert row.question.id == "\\u0000 😀"


def test_a_long_wrong_value_is_cut_in_the_reason(tmp_path):
    assert len(reason(tmp_path, correct="x" * 10_000)) < 200


def test_byte_order_mark_blank_lines_and_windows_ends_are_harmless(tmp_path):
    one, two = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r", b"  ", GOOD)
    assert (one.line, two.line) == (1, 3)


def test_a_source_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "s.txt").write_bytes(b"caf\xe9")
    assert "source.file = 's.txt': not UTF-8 at byte 3" in reason(
        tmp_path, source={"file": "s.txt"}
    )


def test_sources_can_be_required(tmp_path):
    (row,) = read(tmp_path, GOOD, source_required=True)
    assert row.reason == "key 'source' is missing"


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing at '.*none\.jsonl'"):
        list(rows(Config(path=str(tmp_path / "none.jsonl"))))
    with pytest.raises(ConfigError, match="not readable as a file"):
        list(rows(Config(path=str(tmp_path))))


# --- open prompts ---


def chats(tmp_path, *lines) -> list[list[tuple[str, str]]]:
    found = []
    for row in read(tmp_path, *lines):
        assert isinstance(row, QuestionRow), row
        assert (row.question.options, row.question.correct) == ((), None)
        found.append([(m.role, m.content) for m in row.question.chat.messages])
    return found


def test_an_open_prompt_is_the_last_message_of_its_chat(tmp_path):
    before = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    asked = {"role": "user", "content": " Now? "}
    whole = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", " Now? ")]
    system = {"role": "system", "content": "Be brief."}
    assert chats(
        tmp_path,
        {"prompt": "One."},
        {"text": "Two.", "system": "Be brief."},
        {"id": "1", "prompt": " Now? ", "system": "Be brief.", "messages": before},
        {"id": "2", "messages": [system, *before, asked]},
        {"id": "3", "prompt": [*before, asked], "system": "Be brief."},
    ) == [[("user", "One.")], [("system", "Be brief."), ("user", "Two.")], whole, whole, whole]


def test_an_open_prompt_without_an_id_is_known_by_its_words(tmp_path):
    one, other, again = (
        read(tmp_path, {"prompt": words, "system": system})[0].question.id
        for words, system in (("a", "x"), ("a", "y"), ("a", "x"))
    )
    assert one == again != other


def test_the_source_of_an_open_prompt_stands_before_its_words(tmp_path):
    assert chats(tmp_path, {"prompt": "Sum it up.", "source": "It rained."}) == [
        [("user", "It rained.\n\nSum it up.")]
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"prompt": " "}, "text is empty"),
        ({"prompt": 5}, "prompt = 5: expected a text, or a list of messages"),
        ({"prompt": "x", "text": "y"}, "'prompt' and 'text' both hold the prompt"),
        ({"prompt": "x", "correct": 1}, "correct = 1: an open prompt has no options"),
        ({"prompt": "x", "sistem": "y"}, "unknown key 'sistem'. Did you mean 'system'?"),
        ({"prompt": "x", "system": " "}, "system is empty"),
        ({"system": "x"}, "messages: the last message is the prompt"),
        ({"messages": []}, "messages: the last message is the prompt"),
        ({"messages": ["x"]}, "messages.0 = 'x': expected an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0: role = 'tool'"),
        ({"messages": [{"role": "user"}]}, "messages.0: key 'content' is missing"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the last is the assistant's"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "y"}]}, "ends with a message"),
        (
            {"prompt": [{"role": "user", "content": "x"}], "messages": [{}]},
            "'prompt' is a list of messages, and so is 'messages'",
        ),
        (
            {"system": "x", "messages": [{"role": "system", "content": "y"}]},
            "messages.0 is a system message, and 'system' another",
        ),
        ({"id": "a", "question": "Which?"}, "key 'options' is missing (an open prompt"),
        ({"id": "a", "question": "Which?", "options": []}, "here are 0 (an open prompt"),
    ],
)
def test_an_open_prompt_that_cannot_be_used_says_why(tmp_path, line, expected):
    (row,) = read(tmp_path, line)
    assert isinstance(row, BadRow), row
    assert row.line == 1
    assert expected in row.reason
