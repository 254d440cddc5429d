"""Every sentence that a report prints, made from figures that are hard to speak of.

All functions of the packages that make words are found by their annotations and fed with every
case: a new one is fed as soon as it stands there.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import oversight.evals
import oversight.experiments.pixels
import oversight.experiments.selfplay
from oversight.cli import running
from oversight.evals import findings
from oversight.evals.accuracy import Accuracy
from oversight.evals.findings import headlines, warnings
from oversight.evals.intervals import mean_interval
from oversight.evals.pictures import Picture, pictures
from oversight.evals.rendering import html
from oversight.evals.report import ArmDifference, ArmReport, Report, build_report
from oversight.evals.tables import tables
from oversight.experiments.pixels import PixelSettings
from oversight.experiments.pixels import results as pixels
from oversight.experiments.pixels.game import GameKind
from oversight.experiments.pixels.running import FinishedRun
from oversight.experiments.selfplay import results as circles
from oversight.experiments.selfplay import words
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.text.numbers import Table, listed
from oversight.types import Belief, BeliefMethod, QuoteStatus, Seat, Verdict
from tests.evals.made_circles import CIRCLES, OUTCOMES, outcome_of

# --- cases of judged debates ---

DECIDED = ("certain", "wrong", "half", "one", "swapped", "short_quotes", "some_short_quotes")
UNDECIDED = (
    "tied",
    "abstaining",
    "invalid",
    "nothing",
    "one_tied",
    "one_invalid",
    "one_abstaining",
)


def unread(raw: str) -> Belief:
    return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw=raw)


@pytest.fixture(scope="module")
def cases(judged, belief, protocols) -> dict[str, Report]:
    abstain = belief(None, Verdict.ABSTAIN)
    invalid = unread("I would rather not.")
    made: dict[str, list[Any]] = {
        "certain": [0.9],
        "wrong": [0.1],
        "half": [0.9, 0.1, 0.5, invalid, abstain],
        "tied": [0.5],
        "abstaining": [abstain],
        "invalid": [invalid, unread("")],
        "nothing": [0.5, invalid, abstain],
    }

    def debates(name: str, beliefs: list[Any], number: int, **more: Any) -> list[Any]:
        given = itertools.cycle(beliefs)
        return [
            judged(next(given), protocol=protocols[name], question=f"q{n}", **side(name, n), **more)
            for n in range(number)
        ]

    def side(name: str, n: int) -> dict[str, Any]:
        return {"defends": (n % 2,)} if name == "consultancy" else {}

    found: dict[str, Report] = {"empty": build_report([])}
    for case, beliefs in made.items():
        every = [t for name in protocols for t in debates(name, beliefs, 20)]
        found[case] = build_report(every)
        found[f"{case}, debate alone"] = build_report(debates("debate", beliefs, 20))
    for case, one in {"one": 0.9, "one_tied": 0.5, "one_abstaining": abstain}.items():
        for name in protocols:
            found[f"{case}, {name}"] = build_report(debates(name, [one], 1))
    found["one_invalid, debate"] = build_report(debates("debate", [unread("No.")], 1))
    mixed = debates("debate", [0.9, 0.8, 0.1], 20)
    for case in ("tied", "abstaining", "invalid"):
        found[f"half, against {case}"] = build_report(
            [*mixed, *debates("naive", made[case], 20), *debates("consultancy", made[case], 20)]
        )
    short = {seat: [QuoteStatus.TOO_SHORT] for seat in (Seat.A, Seat.B)}
    found["short_quotes"] = build_report(debates("debate", [0.9, 0.2], 20, quotes=short))
    some = {seat: [QuoteStatus.TOO_SHORT, QuoteStatus.VERIFIED] for seat in (Seat.A, Seat.B)}
    found["some_short_quotes"] = build_report(debates("debate", [0.9, 0.2], 20, quotes=some))
    found["swapped"] = build_report(debates("debate", [0.9, 0.3], 20, swapped=0.6, path=(0.5, 0.6)))
    return found


# --- cases of pixel debates ---


def pixel_run(
    images: int, value: float, sizes: tuple[int, ...]
) -> tuple[FinishedRun, pixels.PixelResults]:
    found = mean_interval([value] * images, range(images))
    rows = tuple(
        pixels.PixelRow(
            pixels=size,
            name=name,
            form=match.form,
            labels=2 if match.form is GameKind.DEBATE else 10,
            right=found,
            liar_second=None,
            liar_first=None,
            published=None,
            is_main=False,
        )
        for size in sizes
        for match, name in pixels.NAMES.items()
    )
    gap = mean_interval([0.0] * images, range(images), bounds=(-1.0, 1.0))
    other = (pixels.NAMES[pixels.ALONE], pixels.NAMES[pixels.TWO_LABELS])
    gaps = tuple(
        pixels.Gap(size, pixels.NAMES[pixels.DEBATE], name, gap) for size in sizes for name in other
    )
    settings = PixelSettings.model_validate({"pixels": sizes, "images": max(images, 2)})
    exact = dict.fromkeys(sizes, 1.0)
    played = FinishedRun(settings, "digits", 100, 50, 0, images, exact, {})
    return played, pixels.PixelResults("digits", images * len(rows), images, rows, gaps)


EMPTY_RUN = (
    FinishedRun(PixelSettings(), "mnist", 100, 50, 0, 0, None, {}),
    pixels.PixelResults("mnist", 0, 0, (), ()),
)
PIXELS = {
    "one image": pixel_run(1, 1.0, (2,)),
    "several": pixel_run(12, 0.0, (4, 6)),
    "empty": EMPTY_RUN,
}


# --- every maker of words ---

SKIPPED = frozenset(
    f"oversight.experiments.selfplay.{name}" for name in ("work", "running", "jobs")
)
"""Plans and programs of processes, which print nothing."""
OTHERS = frozenset({"html", "_by_arm"})
"""The whole page, which has tests of its own, and a frame of tables that are fed themselves."""
WORDS = (str, tuple[str, ...], list[str], Iterator[str], Table, tuple[Table, ...], set[str])


def modules() -> list[Any]:
    packages = (oversight.evals, oversight.experiments.selfplay, oversight.experiments.pixels)
    names = [
        f"{package.__name__}.{found.name}"
        for package in packages
        for found in pkgutil.iter_modules(package.__path__)
    ]
    return [importlib.import_module(name) for name in names if name not in SKIPPED] + [running]


FEEDS: dict[Any, str] = {
    Report: "report",
    ArmReport: "arm",
    Accuracy: "accuracy",
    ArmDifference: "comparison",
    Picture: "picture",
    circles.CircleResults: "circle",
    circles.ArmResult: "circle arm",
    typing.Sequence[circles.ArmResult]: "circle arms",
    CircleSettings: "settings",
    pixels.PixelResults: "pixels",
    pixels.PixelRow: "pixel row",
    FinishedRun: "played",
}


def hints(function: Any) -> dict[str, Any] | None:
    try:
        return typing.get_type_hints(function)
    except NameError:  # an import for the type checker alone
        return None


def feed_of(hint: Any) -> str | None:
    known = [name for kind, name in FEEDS.items() if str(kind) == str(hint) or kind is hint]
    if known:
        return known[0]
    text = str(hint).replace("collections.abc.", "typing.")
    return "circle arms" if "Sequence" in text and "ArmResult" in text else None


def makers() -> list[Any]:
    found = []
    for module in modules():
        for function in vars(module).values():
            if not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            types = hints(function)
            if function.__name__ in OTHERS or types is None:
                continue
            if not any(str(types.get("return")) == str(kind) for kind in WORDS):
                continue
            if any(feed_of(types.get(name)) for name in inspect.signature(function).parameters):
                found.append(function)
    return found


MAKERS = makers()


def test_the_makers_of_words_are_found() -> None:
    names = {f"{each.__module__.split('.')[-2]}.{each.__name__}" for each in MAKERS}
    assert {
        *("evals.headlines", "evals.warnings", "evals.methods", "evals.tables", "evals.extent"),
        *("evals._undecided", "evals._badly_quoted", "evals._leaking", "evals._legend"),
        *("selfplay.headlines", "selfplay.methods", "selfplay.tables", "selfplay._collapses"),
        *("pixels.headlines", "pixels.methods", "pixels.extent", "pixels.table"),
    } <= names
    checks = {check.__name__ for check in findings._CHECKS}
    assert {f"evals.{name}" for name in checks} <= names


def told(found: Any) -> list[str]:
    """All words of what a maker gives."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, Table):
        return [found.title, found.note, *found.columns, *(c for row in found.rows for c in row)]
    return [text for each in found for text in told(each)]


NOUNS = (
    "question|debate|ruling|judge|decision|answer|pixel|image|game|seed|tie|abstention|preference"
    "|data set|consultant|set-up|perceptron"
)
FAULTS = (
    rf"(?<![\d,.])1 (?:{NOUNS})s\b",
    r"(?<![\d,.+−])(?<!round )(?<!best of )(?:0|[2-9]|\d[\d,]+) "
    rf"(?:held-out |random )?(?:{NOUNS})(?![\w-])",
    r"\bnan\b|\bNone\b|\binf\b|\(\)|\[\]|\[, |, ,|;\s*\.|:\s*\.|\.\.|\w  \w",
    r"−0(?![.\d])",
    r"\b1 (?:have|are|were|differ|decide|set-ups)\b",
    r"\bonly 0 % of .* quotes stand\b",
)
CLAIMS = (
    r"right in (?:the |what |\d)|see through|(?:above|below) chance|confidence is off"
    r"|beats|is worse than|does not beat|chose the option|seat A wins \d|collapsed"
)
"""Patterns of the sentences that may be said of decisions alone."""


def feeds(function: Any, given: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every mixture of arguments that the function takes."""
    types = hints(function) or {}
    columns: list[list[tuple[str, Any]]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        feed = feed_of(types.get(name))
        if feed is not None:
            columns.append([(name, value) for value in given.get(feed, [])])
        elif types.get(name) is bool:
            columns.append([(name, True), (name, False)])
        elif "_Shown" in str(types.get(name)):
            columns.append([(name, words._Shown(wide)) for wide in (True, False)])
        elif "done" in name or "stages" in name:
            return
        elif "shown" in name:
            columns.append([(name, findings.share)])
        elif "Literal" in str(types.get(name)):
            columns.append([(name, "debate"), (name, "consultancy")])
        elif parameter.default is inspect.Parameter.empty:
            raise AssertionError(
                f"{function.__qualname__}({name}: {types.get(name)}) cannot be fed: add its kind"
            )
    yield from (dict(row) for row in itertools.product(*columns))


def of_report(report: Report) -> dict[str, list[Any]]:
    arms = list(report.arms)
    halves = [h for a in arms for h in (a.honest_consultant, a.dishonest_consultant) if h]
    return {
        "report": [report],
        "arm": arms,
        "accuracy": [*(arm.accuracy for arm in arms), *halves],
        "comparison": list(report.comparisons),
        "picture": list(pictures(report)),
    }


def check(function: Any, given: dict[str, list[Any]], *, decided: bool) -> None:
    for arguments in feeds(function, given):
        for text in told(function(**arguments)):
            for fault in FAULTS:
                assert not re.search(fault, text), (function.__qualname__, fault, text)
            if not decided and function.__name__ not in ("methods", "_training", "_measured"):
                claim = re.search(CLAIMS, text)
                note = "A judge blind to order" in text
                assert claim is None or note, (function.__qualname__, text)


@pytest.mark.parametrize("function", MAKERS, ids=lambda f: f"{f.__module__[10:]}.{f.__name__}")
def test_words_say_no_more_than_their_figures(function: Any, cases: dict[str, Report]) -> None:
    module = function.__module__
    if module.startswith("oversight.experiments.selfplay"):
        for case, settings in CIRCLES.items():
            for name in OUTCOMES:
                for num in (1, 12):
                    results = outcome_of(case, name, num)
                    given = {
                        "circle": [results],
                        "circle arm": list(results.arms),
                        "circle arms": [results.arms],
                        "settings": [settings],
                    }
                    check(function, given, decided=name in ("right", "wrong"))
    elif module.startswith("oversight.experiments.pixels"):
        for played, results in PIXELS.values():
            given = {"pixels": [results], "pixel row": list(results.rows), "played": [played]}
            check(function, given, decided=True)
    else:
        for name, report in cases.items():
            decided = not name.startswith(UNDECIDED) and name != "empty"
            check(function, of_report(report), decided=decided)


@pytest.mark.parametrize("case", ["tied", "abstaining", "invalid", "nothing", "one_tied, naive"])
def test_the_page_of_what_was_not_decided_claims_no_accuracy(
    case: str, cases: dict[str, Report]
) -> None:
    page = html(cases[case])
    assert "nothing was decided in" in page
    assert not re.search("judges are right in|see through|chance without", page)


# --- what is said, word for word ---


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("one, debate", "debate: judges are right in 100 % [21, 100] of the 1 ruling that they"),
        ("one_tied, debate", "debate: nothing was decided in 1 ruling (1 tie)."),
        ("one_abstaining, debate", "debate: nothing was decided in 1 ruling (1 abstention)."),
        (
            "one_invalid, debate",
            "debate: nothing was decided in 1 ruling (1 answer that could not be read).",
        ),
        ("tied, debate alone", "debate: nothing was decided in 20 rulings (20 ties)."),
        (
            "invalid, debate alone",
            "debate: nothing was decided in 20 rulings (20 answers that could not be read).",
        ),
        (
            "nothing, debate alone",
            "debate: nothing was decided in 20 rulings (7 ties, 6 abstentions and 7 answers that "
            "could not be read).",
        ),
        ("certain, debate alone", "debate: judges are right in 100 % [84, 100] of what they"),
        ("half, debate alone", "of the 8 rulings that they decide, of 20 in all; guessing would"),
    ],
)
def test_an_arm_alone_is_spoken_of_by_what_it_decided(
    case: str, expected: str, cases: dict[str, Report]
) -> None:
    [sentence] = headlines(cases[case])
    assert expected in sentence


@pytest.mark.parametrize("case", ["invalid", "tied"])
def test_arms_without_a_decision_are_not_compared(case: str, cases: dict[str, Report]) -> None:
    found = headlines(cases[case])
    assert all("cannot be compared: nothing was decided in" in sentence for sentence in found)
    assert not any("does not beat" in warning for warning in warnings(cases[case]))


def test_an_unreadable_arm_is_beaten_by_none(cases: dict[str, Report]) -> None:
    found = headlines(cases["half, against invalid"])
    assert found == (
        "debate and consultancy cannot be compared: nothing was decided in consultancy (20 answers "
        "that could not be read).",
        "debate and naive cannot be compared: nothing was decided in naive (20 answers that could "
        "not be read).",
        "consultancy and naive cannot be compared: nothing was decided in consultancy (20 answers "
        "that could not be read).",
    )


def test_an_arm_of_ties_is_compared_as_guessing_and_that_is_said(cases: dict[str, Report]) -> None:
    sentence = headlines(cases["half, against tied"])[1]
    assert sentence.startswith("debate ")
    assert sentence.endswith("; naive decides nothing and counts as guessing.")


def test_answers_taken_as_wrong_are_named_beside_the_difference(judged, protocols) -> None:
    made = [judged(0.9, question=f"q{n}") for n in range(20)]
    made += [
        judged(None if n < 5 else 0.9, protocol=protocols["naive"], question=f"q{n}")
        for n in range(20)
    ]
    assert "of naive 25 % could not be read: taken as wrong" in headlines(build_report(made))[0]


def test_quotes_too_short_to_be_checked_are_not_called_false(cases: dict[str, Report]) -> None:
    found = [each for each in warnings(cases["short_quotes"]) if "quotes" in each]
    assert found == [
        "debate: 100 % of the honest side's and 100 % of the dishonest side's quotes are too short "
        "to be checked."
    ]
    [shown] = [table for table in tables(cases["short_quotes"]) if table.title == "Quotes"]
    assert {row[shown.columns.index("verified")] for row in shown.rows} == {"–"}


def test_quotes_that_could_be_checked_are_judged_by_themselves(cases: dict[str, Report]) -> None:
    found = [each for each in warnings(cases["some_short_quotes"]) if "quotes" in each]
    assert found == [
        "debate: 50 % of the honest side's and 50 % of the dishonest side's quotes are too short "
        "to be checked."
    ]


def test_an_unreadable_naive_judge_is_no_leak(cases: dict[str, Report]) -> None:
    assert not any("chance" in warning for warning in warnings(cases["invalid"]))


def test_a_single_interval_is_of_the_questions_that_were_decided(judged) -> None:
    made = [judged(0.9 if n < 3 else 0.5, question=f"q{n}") for n in range(30)]
    assert "debate: 3 questions decided, fewer than 10: its interval is unreliable." in warnings(
        build_report(made)
    )


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("tied", "naive: 100 % of the rulings decide nothing (ties)."),
        ("abstaining", "naive: 100 % of the rulings decide nothing (abstentions)."),
        ("nothing", "naive: 65 % of the rulings decide nothing (ties and abstentions)."),
    ],
)
def test_open_rulings_are_named_by_what_they_are(
    case: str, expected: str, cases: dict[str, Report]
) -> None:
    assert expected in warnings(cases[case])


@pytest.mark.parametrize("case", ["empty", "tied", "invalid", "nothing", "one, debate"])
def test_the_whole_page_has_no_figure_that_is_none(case: str, cases: dict[str, Report]) -> None:
    text = re.sub(r"<(svg|style).*?</\1>", "", html(cases[case]), flags=re.S)
    said = re.sub(r"<[^>]+>", "\n", text)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", said)
    assert ("beats" in said) is False


def test_names_are_listed_as_people_do() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_unreadable_answers_are_shown_by_their_kinds(judged, protocols) -> None:
    hostile = "<b>\x1b[31m\u202eno" + " and so on" * 60 + " the end"
    answers = ["It is 7 o'clock.", "It is 19 o'clock.", hostile] * 3 + ["", ""]
    made = [judged(unread(text), question=f"q{n}") for n, text in enumerate(answers)]
    report = build_report([*made, judged(0.9, question="read")])
    assert [(each.num, each.num_unread) for each in report.unread] == [(6, 11), (3, 11), (2, 11)]
    assert report.unread[0].answer in ("It is 7 o'clock.", "It is 19 o'clock.")
    [shown] = [t for t in tables(report) if t.title == "Answers that could not be read"]
    first, second, third = (row[2] for row in shown.rows)
    assert first == report.unread[0].answer
    assert second.startswith("<b>␛[31m⟨U+202E⟩no and so on")
    assert second.endswith("and so on the end")
    assert len(second) < 200
    assert third == "(nothing was written)"
    assert "&lt;b&gt;␛[31m" in html(report)


def test_a_report_without_unreadable_answers_shows_none(cases: dict[str, Report]) -> None:
    titles = {table.title for table in tables(cases["certain"])}
    assert "Answers that could not be read" not in titles
