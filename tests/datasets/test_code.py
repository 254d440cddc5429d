"""Generated programs: the answer is what running them shows, and nothing else says it."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache

import pytest

from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.datasets.code import Config, families_for, rows
from oversight.datasets.code.families import FAMILIES
from oversight.datasets.code.programs import ASKS, NO_ERROR, YES
from oversight.datasets.code.writing import VOCABULARIES
from oversight.errors import ConfigError
from oversight.text.quotes import find_quotes
from oversight.types import Question, QuoteStatus

DIFFICULTIES = (1, 3, 5)
NUM = 160


@cache
def questions(difficulty: int, split: str = "train") -> list[Question]:
    return list(rows(Config(difficulty=difficulty, split=split, num=NUM)))


def run_here(program: str) -> tuple[str, str]:
    """What a generated program prints and raises, run in this process: another way to the truth."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(program, "<test>", "exec"), {"__name__": "__main__"})
    except Exception as error:
        return printed.getvalue().strip(), type(error).__name__
    return printed.getvalue().strip(), ""


def right(question: Question) -> str:
    return question.options[question.correct].text


def expected(question: Question) -> str:
    source = question.source.text
    match question.meta["ask"]:
        case "output":
            return run_here(source)[0]
        case "raises":
            error = run_here(source)[1]
            article = "an" if error[:1] in "AEIOU" else "a"
            return f"It ends with {article} {error}." if error else NO_ERROR
        case "test":
            return "No, it fails." if run_here(source)[1] else YES
    functions, _, told = source.partition("# test: ")
    tests = [line.removeprefix("# test: ") for line in f"# test: {told}".split("\n")]
    passing = []
    for option in question.options:
        asserts = "\n".join("assert " + t.replace("function(", f"{option.text}(") for t in tests)
        if not run_here(f"{functions}\n{asserts}")[1]:
            passing.append(option.text)
    (found,) = passing
    return found


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_right_answer_is_what_the_program_does_when_it_is_run_in_another_way(difficulty):
    for question in questions(difficulty):
        assert right(question) == expected(question), question.id


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_line_that_decides_stands_in_the_source_and_turned_round_turns_the_answer(difficulty):
    for question in questions(difficulty):
        source = question.source.text
        spots = question.meta["spot_lines"]
        assert spots
        assert all(spot in source.split("\n") for spot in spots)
        if "twin_lines" not in question.meta:
            continue
        twin = source
        for line, other in zip(spots, question.meta["twin_lines"], strict=True):
            before, _, after = twin.rpartition(line)  # the deciding function comes last
            twin = before + other + after
        changed = Question.model_validate(
            question.model_dump() | {"source": {"title": "", "text": twin}}
        )
        assert expected(changed) == question.options[1 - question.correct].text, question.id


def test_an_item_is_the_same_whatever_was_made_before_it():
    first = questions(3)
    later = list(rows(Config(difficulty=3, start=37, num=6)))
    assert later == first[37:43]
    assert len({q.id for q in first}) == len({q.source.text for q in first}) == NUM


def test_the_splits_share_no_name_and_no_word():
    words = {
        split: {word for question in questions(5, split) for word in names_in(question)}
        for split in ("train", "held_out")
    }
    common = words["train"] & words["held_out"]
    told = {name for split in VOCABULARIES.values() for part in vars_of(split) for name in part}
    assert not common & told
    assert not set(sum(vars_of(VOCABULARIES["train"]), ())) & set(
        sum(vars_of(VOCABULARIES["held_out"]), ())
    )


def vars_of(words) -> list[tuple[str, ...]]:
    return [getattr(words, name) for name in words.__dataclass_fields__]


def names_in(question: Question) -> set[str]:
    """Names and words of a program, without those of methods."""
    return set(re.findall(r"(?<![.\w])[a-z_]+", question.source.text))


def test_kinds_and_families_take_turns_and_can_be_chosen():
    found = questions(5)
    assert {q.meta["ask"] for q in found} == set(ASKS)
    assert {q.meta["family"] for q in found} == {f.name for f in FAMILIES}
    chosen = rows(Config(difficulty=4, families=("aliasing", "empty_pop"), num=8))
    assert {(q.meta["ask"], q.meta["family"]) for q in chosen} == {
        ("raises", "empty_pop"),
        *((ask, "aliasing") for ask in ("output", "test", "implementation")),
    }
    only = list(rows(Config(difficulty=1, asks=("raises",), num=8)))
    assert len({q.meta["family"] for q in only}) == len(families_for("raises", 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"families": ["alias"]}, "there is no family 'alias'. Did you mean 'aliasing'"),
        ({"families": ["aliasing"]}, "needs difficulty 3 or more"),
        ({"families": ["division"], "asks": ["raises"]}, "needs a family with an exception"),
        ({"families": ["empty_pop"], "asks": ["test"]}, "needs a family without an exception"),
        ({"asks": []}, "asks"),
        ({"memory_mb": 1}, "memory_mb"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config.parse(given)


RULES = {
    "listed first": lambda q, o: -o,
    "longer": lambda q, o: len(q.options[o].text),
    "later in the alphabet": lambda q, o: q.options[o].text,
    "larger number": lambda q, o: number_in(q.options[o].text),
    "in the source": lambda q, o: q.options[o].text in q.source.text,
    "standing first in the source": lambda q, o: -q.source.text.find(q.options[o].text),
    "says yes, or names no error": lambda q, o: q.options[o].text in (YES, NO_ERROR),
}


def number_in(text: str) -> int:
    found = re.search(r"-?\d+", text)
    return int(found.group()) if found else 0


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_that_does_not_run_the_program_does_better_than_chance(rule):
    all_questions = [q for difficulty in DIFFICULTIES for q in questions(difficulty)]
    prefer = RULES[rule]
    preferred = [
        (0 if prefer(q, 0) > prefer(q, 1) else 1) == q.correct
        for q in all_questions
        if prefer(q, 0) != prefer(q, 1)
    ]
    assert len(preferred) > 10
    assert abs(sum(preferred) / len(preferred) - 0.5) < 3.29 * 0.5 / len(preferred) ** 0.5


def test_which_of_the_twins_is_shown_says_nothing_about_the_answer():
    """The twin that a textbook would have is shown as often as the other."""
    shown = [
        q for d in DIFFICULTIES for q in questions(d) if q.meta["family"] == "index_past_the_end"
    ]
    sound = [q for q in shown if "- 1" in q.meta["spot_lines"][0]]
    assert 0.2 < len(sound) / len(shown) < 0.8


def test_lines_of_a_program_are_quoted_word_for_word():
    for question in questions(3)[:60]:
        for line in question.meta["spot_lines"]:
            (quote,) = find_quotes(f"Look: <quote>{line.strip()}</quote>", question.source)
            assert quote.status in (QuoteStatus.VERIFIED, QuoteStatus.TOO_SHORT), line
            if quote.status is QuoteStatus.VERIFIED:
                found = question.source.text[quote.source_start : quote.source_end]
                assert found.strip() == line.strip()


def test_a_limit_makes_more_than_a_thousand():
    spec = DatasetSettings(dataset="code", settings={"difficulty": 1, "num": 3}, limit=5)
    loaded = load_questions(spec)
    assert len(loaded.questions) == 3
    assert "5 questions were asked for" in loaded.shortage
