"""Reports taken apart: properties, runs against each other, tokens and money, frames and CSV."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oversight.config import PriceTable
from oversight.errors import ConfigError, MissingDependencyError
from oversight.evals.breakdown import RunMembership, money
from oversight.evals.findings import frames, to_frame, write_csv
from oversight.evals.properties import By, property_of
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import FinishReason, Purpose, Sample, Usage


@pytest.fixture
def rows(judged):
    def made(ps: list[float], **changes):
        return [judged(p, question=f"q{number}", **changes) for number, p in enumerate(ps)]

    return made


def test_runs_are_compared_on_the_questions_that_both_were_asked(rows):
    first = rows([0.9, 0.9, 0.2, 0.9])
    second = rows([0.9, 0.2, 0.2])
    [gap] = build_report([], arms={"new": first, "old": second}).run_differences
    # q0: 1 − 1, q1: 1 − 0, q2: 0 − 0; q3 was asked in one run alone.
    assert (gap.first, gap.second, gap.protocol, gap.judge) == ("new", "old", "debate", "judge")
    assert gap.difference.value == pytest.approx(1 / 3)
    assert gap.difference.num_clusters == 3
    assert gap.difference.low is not None


def test_of_runs_with_other_judges_all_judges_are_pooled(rows):
    arms = {"new": rows([0.9, 0.9], judge="x"), "old": rows([0.9, 0.2], judge="y")}
    [gap] = build_report([], arms=arms).run_differences
    assert (gap.judge, gap.difference.value) == ("", 0.5)


def test_protocols_are_compared_within_a_run_alone(rows, protocols):
    both = [*rows([0.9] * 3), *rows([0.2] * 3, protocol=protocols["consultancy"], defends=(0,))]
    found = build_report([], arms={"a": both, "b": rows([0.9] * 3)})
    assert [(each.first, each.second) for each in found.comparisons] == [
        ("debate · a", "consultancy · a")
    ]


def test_a_debate_counts_under_each_of_its_runs_and_tags(rows):
    debates = rows([0.9, 0.2, 0.9])
    of = {debates[0].debate.id: ["a", "b"], debates[1].debate.id: ["b"]}
    runs = RunMembership(lambda id_: of.get(id_, ()), {"a": {"x": "1"}, "b": {"x": "2"}})
    found = build_report(debates, by=[By.RUN, By.TAG], runs={"": runs}).breakdowns
    counted = {(e.by.value, e.value): (e.accuracy.num, e.accuracy.accuracy.value) for e in found}
    assert counted == {
        ("run", "a"): (1, 1.0),
        ("run", "b"): (2, 0.5),
        ("run", "–"): (1, 1.0),
        ("tag", "x=1"): (1, 1.0),
        ("tag", "x=2"): (2, 0.5),
        ("tag", "–"): (1, 1.0),
    }


def test_properties_of_arms_pool_all_arms_and_others_keep_them_apart(rows):
    debates = [*rows([0.9, 0.2], judge="x"), *rows([0.9, 0.9], judge="y", speaker="lexical")]
    found = build_report(debates, by=[By.PROTOCOL, By.MODEL, By.DATASET]).breakdowns
    assert [(each.by.value, each.value, each.label, each.accuracy.num) for each in found] == [
        ("dataset", "made", "debate · lexical · y", 2),
        ("dataset", "made", "debate · retrieval · x", 2),
        ("model", "lexical", "", 2),
        ("model", "retrieval", "", 2),
        ("protocol", "debate", "", 4),
    ]


def test_difficulties_are_listed_as_numbers(rows):
    debates = [
        replace(each, question=each.question.model_copy(update={"meta": {"difficulty": number}}))
        for each, number in zip(rows([0.9] * 3), (10, 2, 2), strict=True)
    ]
    found = build_report(debates, by=[By.DIFFICULTY]).breakdowns
    assert [(each.value, each.accuracy.num) for each in found] == [("2", 2), ("10", 1)]


def marked(debate, **meta):
    question = debate.question
    return replace(debate, question=question.model_copy(update={"meta": question.meta | meta}))


def test_properties_joined_by_a_plus_are_crossed_and_pool_all_arms(rows):
    debates = [
        *(marked(each, paper=True) for each in rows([0.9, 0.2], judge="x")),
        *(marked(each, paper=False) for each in rows([0.9], judge="y")),
        *rows([0.5], judge="y"),
    ]
    found = build_report(debates, by=[property_of("protocol+meta.paper")]).breakdowns
    counted = {(e.value, e.label): (e.accuracy.num, e.share_right) for e in found}
    assert counted == {
        ("debate, yes", ""): (2, 0.5),
        ("debate, no", ""): (1, 1.0),
        ("debate, –", ""): (1, 0.0),
    }, "a tie is not right"


def test_a_value_that_questions_carry_is_a_property(rows):
    debates = [
        marked(each, level=level)
        for each, level in zip(rows([0.9] * 3), (3, "a", [1]), strict=True)
    ]
    found = build_report(debates, by=["meta.level"]).breakdowns
    assert [(each.value, each.label) for each in found] == [
        ("3", "debate"),
        ("[1]", "debate"),
        ("a", "debate"),
    ]


def test_judgments_are_told_apart_by_their_study(rows):
    debates = rows([0.9, 0.2])
    first, *_ = debates[0].judgments
    of_study = replace(debates[0], judgments=(first.model_copy(update={"study": "live"}),))
    found = build_report([of_study, debates[1]], by=[By.STUDY]).breakdowns
    assert [(each.value, each.accuracy.num) for each in found] == [("live", 1), ("–", 1)]


def test_beliefs_go_by_the_judges_turn_and_sizes_by_the_debate(rows, judged):
    long = judged(0.9, question="q1", path=(0.4, 0.6, 0.9))
    short = judged(0.2, question="q2", path=(0.2,))
    [found] = build_report([long, short], by=[By.PROTOCOL]).breakdowns
    points = {each.round: each.belief.value for each in found.beliefs}
    assert points == pytest.approx({1: 0.3, 2: 0.6, 3: 0.9, None: 0.55})
    carried = {each.round: each.belief.value for each in found.beliefs_carried}
    assert carried == pytest.approx({1: 0.3, 2: 0.4, 3: 0.55, None: 0.55})
    text = "Said: <quote>the lamp</quote>."
    turn = long.turns[0].model_copy(update={"text": text, "quotes": ()})
    later = turn.model_copy(update={"round": turn.round + 1})
    debates = [replace(long, turns=(turn, later)), replace(short, turns=(turn,))]
    [found] = build_report(debates, by=[By.PROTOCOL]).breakdowns
    assert found.sizes.num_debates == 2
    assert found.sizes.rounds.value == 1.5
    assert found.sizes.characters.value == 1.5 * len("Said: the lamp.")


def test_a_debate_that_several_judged_is_counted_once_in_sizes(judged):
    debate = judged(0.9, more_judges={"other": 0.2})
    [found] = build_report([debate], by=[By.PROTOCOL]).breakdowns
    assert (found.accuracy.num, found.sizes.num_debates) == (2, 1)


@pytest.mark.parametrize("text", ["colour", "protocol+colour", "meta.", "", "protocol+"])
def test_an_unknown_property_is_refused(text):
    with pytest.raises(ConfigError, match=r"no such property.*meta\.NAME"):
        property_of(text)


def sample(model: str, **usage: int) -> Sample:
    return Sample(
        purpose=Purpose.SPEECH,
        engine="openai",
        model=model,
        prompt_id="p",
        text="x",
        token_ids=(),
        finish_reason=FinishReason.STOP,
        usage=Usage(**usage),
        seconds=1.5,
    )


def spoken(debate, *samples: Sample):
    return replace(debate, turns=(debate.turns[0].model_copy(update={"samples": samples}),))


def test_tokens_and_money_are_counted_by_model(judged):
    one = sample("m", prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)
    other = sample("free", prompt_tokens=10, completion_tokens=1)
    prices = PriceTable.parse(
        {"currency": "EUR", "models": {"m": {"prompt": 2.0, "completion": 8.0, "cached": 0.5}}}
    )
    found = build_report([spoken(judged(0.9), one, other)], prices=prices)
    free, priced = found.usage
    # 0.6 million at 2, 0.4 million from the cache at 0.5, 0.5 million written at 8.
    assert (priced.model, priced.cost, priced.currency) == ("m", pytest.approx(5.4), "EUR")
    assert (free.model, free.cost, free.num_calls, free.seconds) == ("free", None, 1, 1.5)
    [shown] = [each for each in tables(found) if each.title == "Tokens and time"]
    assert dict(zip(shown.columns, shown.rows[1], strict=True))["EUR"] == "5.40"
    assert dict(zip(shown.columns, shown.rows[0], strict=True))["EUR"] == "–"


def test_small_amounts_keep_the_digits_that_show_them():
    assert [money(each) for each in (None, 0.0, 0.00123, 12.345)] == [
        "–",
        "0.00",
        "0.0012",
        "12.35",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "[models.m]\nprompt = -1\ncompletion = 1",
            "models.m.prompt = -1: Input should be greater",
        ),
        ("[models.m]\nprompt = 1", "setting 'models.m.completion' is missing"),
        ("currency = 'USD'", "setting 'models' is missing"),
        ("[models.m]\nprompt = 1\ncompletion = 1\nouput = 2", "unknown setting 'models.m.ouput'"),
        ("prompt", "is not TOML"),
    ],
)
def test_a_table_of_prices_that_is_wrong_is_refused_by_name(tmp_path: Path, words, reason):
    path = tmp_path / "prices.toml"
    path.write_text(words)
    with pytest.raises(ConfigError) as caught:
        PriceTable.read(path)
    assert reason in str(caught.value)
    assert "prices.toml" in str(caught.value)


def test_each_table_is_a_frame_with_numbers(rows):
    pytest.importorskip("pandas")
    found = build_report(rows([0.9, 0.2, 0.9, 0.9]))
    frame = to_frame(found)
    assert list(frame["accuracy_accuracy"]) == [0.75]
    assert frame["accuracy_accuracy_low"].iloc[0] < 0.75
    assert to_frame(found, "run_differences").empty
    with pytest.raises(ConfigError, match="Did you mean 'arms'"):
        to_frame(found, "arm")


def test_a_frame_without_pandas_says_what_to_install(monkeypatch, rows):
    found = build_report(rows([0.9]))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "oversight\[pandas\]"'):
        to_frame(found)


def test_csv_holds_the_same_rows_and_no_formula(tmp_path, rows):
    found = build_report([], arms={"=1+1": rows([0.9, 0.2]), "b": rows([0.9])})
    [path] = write_csv(found, tmp_path / "arms.csv")
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(frames(found)["arms"]) == 2
    assert sorted(row["arm_group"] for row in read) == ["'=1+1", "b"]
    written = write_csv(found, tmp_path / "tables")
    assert {each.name for each in written} == {f"{name}.csv" for name in frames(found)}
