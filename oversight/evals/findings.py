"""Sentences of a report: its headlines, what to be wary of, and how it was measured."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from oversight.aggregation import LEVEL
from oversight.errors import ConfigError, MissingDependencyError
from oversight.evals.accuracy import Accuracy
from oversight.evals.answers import ResponseCount
from oversight.evals.calibration import FLOOR
from oversight.evals.comparisons import ArmDifference
from oversight.evals.constitutional import drift_sentence
from oversight.evals.intervals import NUM_RESAMPLES
from oversight.evals.observations import Kind
from oversight.evals.report import ArmReport, Report
from oversight.files import write_text
from oversight.registry import nearest
from oversight.text.numbers import count, listed, per_cent, percent, points, share

MIN_QUESTIONS = 10
"""With fewer questions an interval is not to be relied on."""

MAX_INVALID = 0.05
MAX_TIE = 0.2
MIN_MASS = 0.5
"""Captured mass below which the beliefs are of a model that did not mean to answer."""
MAX_ONE_POSITION = 0.8
"""Share of decisions for one place in the listing from which the place seems to decide."""
MAX_GAIN = 0.05
"""Advantage of a place or a seat from which it is worth a word."""
MIN_VERIFIED = 0.9
MAX_TOO_SHORT = 0.2
MAX_ECE = 0.1
MIN_FOR_ECE = 100
"""Rulings below which the calibration error is mostly noise."""
MAX_TILT = 0.03
"""Shift of pooled accuracy by an uneven draw of consultants' sides above which a word is said."""
MAX_HEADLINES = 4


# --- headlines -------------------------------------------------------------------


def undecided(found: Accuracy) -> str:
    """`3 ties and 1 answer that could not be read`; empty where everything was decided."""
    shares = (
        (found.share_tie, "tie", ""),
        (found.share_abstain, "abstention", ""),
        (found.share_invalid, "answer", " that could not be read"),
    )
    counts = ((round(part * found.num), noun, which) for part, noun, which in shares)
    parts = [f"{count(number, noun)}{which}" for number, noun, which in counts if number]
    return listed(parts) if parts else ""


def headlines(report: Report) -> tuple[str, ...]:
    """The few sentences that a reader should take away."""
    decided = any(each.rates is not None for each in report.stages)
    drifted = (drift_sentence(each, report.stages) for each in report.drifts)
    answered = (
        *(said for said in drifted if said),
        *(_answered(each, decided=decided) for each in report.responses),
    )
    if not report.arms and (not answered or report.num_debates > _num_open(report)):
        unmeasured = (
            "Nothing could be measured: no judged debate has a question with a known answer."
        )
        return (unmeasured, *answered)[:MAX_HEADLINES]
    told = [
        _sentence(report, each)
        for each in report.comparisons
        if each.kinds[1] is not Kind.DEBATE and each.difference.low is not None
    ]
    if not told:
        told = [_alone(arm) for arm in report.arms]
    return (*told, *answered)[:MAX_HEADLINES]


def _num_open(report: Report) -> int:
    return sum(each.num_runs for each in report.responses)


def _answered(each: ResponseCount, *, decided: bool) -> str:
    """Sentences on answers to open prompts, and on ratings of their revisions."""
    said = (
        f"{each.protocol}: {count(each.num_responses, 'response')} of {each.responder} to "
        f"{count(each.num_prompts, 'open prompt')}"
    )
    if not decided:
        said += ", in which nothing is right or wrong"
    if each.num_revisions:
        changed = each.num_revisions - each.num_unchanged
        said += f"; {changed:,} of {count(each.num_revisions, 'revision')} changed something"
    if each.num_rated:
        said += (
            f"; of {count(each.num_rated, 'rating')} of revisions {each.num_better:,} better, "
            f"{each.num_same:,} the same, {each.num_worse:,} worse"
        )
    return f"{said}."


def _alone(arm: ArmReport) -> str:
    """Sentence on how often the judges of one arm are right, as far as they decided anything."""
    found = arm.accuracy
    if found.accuracy is None:
        return f"{arm.label}: nothing was decided in {count(found.num, 'ruling')} ({_open(arm)})."
    decided = found.accuracy.num
    if decided == found.num > 1:
        what = "what they decide"
    else:
        what = f"the {count(decided, 'ruling')} that they decide"
        what += f", of {found.num:,} in all" if decided < found.num else ""
    return (
        f"{arm.label}: judges are right in {share(found.accuracy)} of {what}; guessing would be "
        f"right in {percent(found.chance)}."
    )


def _open(arm: ArmReport) -> str:
    return undecided(arm.accuracy)


def _sentence(report: Report, each: ArmDifference) -> str:
    gap = each.difference
    arms = _compared(report, each)
    if (without := _incomparable(arms)) is not None:
        return (
            f"{each.first} and {each.second} cannot be compared: nothing was decided in "
            f"{without.label} ({_open(without)})."
        )
    where = f"{points(gap)} points on {count(gap.num_clusters, 'question')} asked of both"
    where += "".join(map(_counted_as, arms))
    if not each.is_shown:
        if gap.excludes(0.0):
            where += f"; not after correction for {_tested(report)} (Holm)"
        return f"{each.first} does not differ reliably from {each.second} here: {where}."
    better = "beats" if gap.value > 0 else "is worse than"
    return f"{each.first} {better} {each.second}: {where}."


def _tested(report: Report) -> str:
    """Number of differences that are corrected together."""
    return count(sum(each.test is not None for each in report.comparisons), "test")


def _compared(report: Report, each: ArmDifference) -> list[ArmReport]:
    by_label = {arm.label: arm for arm in report.arms}
    return [by_label[label] for label in (each.first, each.second) if label in by_label]


def _incomparable(arms: Sequence[ArmReport]) -> ArmReport | None:
    """The arm for which a difference says nothing about the judges: it holds no decision."""
    empty = [arm for arm in arms if arm.accuracy.accuracy is None]
    unread = [arm for arm in empty if arm.accuracy.share_invalid == 1.0]
    return next(iter(unread or (empty if len(empty) == len(arms) else [])), None)


def _counted_as(arm: ArmReport) -> str:
    """Note on rulings without a decision that entered the difference, where that matters."""
    found = arm.accuracy
    if found.accuracy is None:
        return f"; {arm.label} decides nothing and counts as guessing"
    if found.share_invalid > MAX_INVALID:
        return f"; of {arm.label} {percent(found.share_invalid)} could not be read: taken as wrong"
    return ""


# --- warnings --------------------------------------------------------------------


def warnings(report: Report) -> tuple[str, ...]:
    """Warnings against taking the figures at face value, the gravest first."""
    of_arms = (warning for check in _CHECKS for arm in report.arms for warning in check(arm))
    return (*_of_report(report), *of_arms)


def _of_report(report: Report) -> Iterator[str]:
    if report.num_debates == 0:
        yield "There are no debates."
    if report.num_unjudged:
        yield f"{count(report.num_unjudged, 'debate')} without any judgment: left out."
    if report.num_unknown:
        unknown = count(report.num_unknown, "ruling")
        yield f"{unknown} on questions whose right answer is unknown: left out."
    for hasty in report.unseen:
        if hasty.num_unseen:
            part = f"{hasty.num_unseen:,} of {count(hasty.num, 'judgment')}"
            yield f"{hasty.label}: {part} by people, given with turns unread."
    for rater in report.raters:
        if rater.follows_order and rater.first is not None:
            place = "first" if rater.first.value > 0.5 else "second"
            yield (
                f"{rater.rater} prefers what stands {place}: only {share(rater.consistent)} of its "
                f"comparisons ({rater.task}) are the same in both orders; of the others the mean "
                "over both says little."
            )
    for each in report.comparisons:
        against = each.kinds == (Kind.DEBATE, Kind.CONSULTANCY)
        against = against and each.difference.low is not None
        against = against and _incomparable(_compared(report, each)) is None
        if against and not (each.is_shown and each.difference.value > 0):
            gap = points(each.difference)
            yield f"{each.first} does not beat {each.second} here ({gap} points)."


def _few(arm: ArmReport) -> Iterator[str]:
    found = arm.accuracy
    number = found.num_questions if found.accuracy is None else found.accuracy.num_clusters
    if number < MIN_QUESTIONS:
        asked = count(number, "question")
        asked += " decided" if number < found.num_questions else ""
        yield f"{arm.label}: {asked}, fewer than {MIN_QUESTIONS}: its interval is unreliable."


def _undecided(arm: ArmReport) -> Iterator[str]:
    found = arm.accuracy
    if found.share_invalid > MAX_INVALID:
        part = percent(found.share_invalid)
        told = f"{part} of the judge's answers are" if found.num > 1 else "the judge's answer is"
        yield f"{arm.label}: {told} INVALID."
    if arm.mass is not None and arm.mass.value < MIN_MASS:
        yield (
            f"{arm.label}: the judge's model puts only {percent(arm.mass.value)} of its "
            "probability on the options; what is shown is normalised to them."
        )
    open_share = found.share_tie + found.share_abstain
    if open_share > MAX_TIE:
        part = percent(open_share)
        told = f"{part} of the rulings decide" if found.num > 1 else "the ruling decides"
        kinds = {"ties": found.share_tie, "abstentions": found.share_abstain}
        yield f"{arm.label}: {told} nothing ({listed([k for k, part in kinds.items() if part])})."


def _pooled(arm: ArmReport) -> Iterator[str]:
    if arm.num_setups > 1:
        yield (
            f"{arm.label}: pools {arm.num_setups} set-ups that differ in the protocol's content or "
            "in the agents' settings."
        )


def _leaking(arm: ArmReport) -> Iterator[str]:
    found = arm.accuracy.accuracy
    if arm.kind is Kind.NAIVE and found is not None and found.excludes(arm.accuracy.chance):
        above = "above" if found.value > arm.accuracy.chance else "below"
        yield (
            f"{arm.label}: {above} chance without source or debate, {share(found)}: the judge "
            "knows these questions, or their wording gives the answer away."
        )


def _one_sided(arm: ArmReport) -> Iterator[str]:
    if arm.kind is not Kind.CONSULTANCY:
        return
    honest, dishonest = arm.honest_consultant, arm.dishonest_consultant
    part = f"{percent((honest.num if honest else 0) / arm.accuracy.num)} of the consultants"
    if arm.accuracy.num == 1:
        part = "its one consultant" if honest else "no consultant"
    assigned = f"{arm.label}: {part} defended the right answer"
    if honest is None or dishonest is None:
        yield f"{assigned}: the accuracy is of one side only. Run both sides of each question."
        return
    found, right, wrong = arm.accuracy.accuracy, honest.accuracy, dishonest.accuracy
    if found is None or right is None or wrong is None:
        return
    balanced = (right.value + wrong.value) / 2.0
    if abs(balanced - found.value) > MAX_TILT:
        yield (
            f"{assigned}; were it half, accuracy would be {percent(balanced)}, and differences "
            "would move as much. Run both sides of each question."
        )
    if wrong.value < dishonest.chance and wrong.excludes(dishonest.chance):
        yield (
            f"{arm.label}: of consultants who defend a wrong answer judges see through only "
            f"{share(wrong)}."
        )


def _by_position(arm: ArmReport) -> Iterator[str]:
    first = arm.position.first_chosen
    if first and first.num >= MIN_QUESTIONS and arm.accuracy.chance == 0.5:
        rate = max(first.value, 1.0 - first.value)
        if rate >= MAX_ONE_POSITION and first.excludes(0.5):
            place = "first" if first.value > 0.5 else "last"
            cases = f"{percent(rate)} of {count(first.num, 'decision')}"
            yield f"{arm.label}: the judge chose the option listed {place} in {cases}."
    gain = arm.position.gain
    if gain and abs(gain.value) > MAX_GAIN and gain.excludes(0.0):
        moved = points(gain)
        yield f"{arm.label}: being shown first moves the belief in an option by {moved} points."


def _by_seat(arm: ArmReport) -> Iterator[str]:
    seat = arm.seat_a_win_rate
    if seat and abs(seat.value - 0.5) > MAX_GAIN and seat.excludes(0.5):
        yield f"{arm.label}: seat A wins {share(seat)} of the debates, whatever it defends."


def _badly_quoted(arm: ArmReport) -> Iterator[str]:
    sides = (("honest", arm.quotes_honest), ("dishonest", arm.quotes_dishonest))
    low = [
        f"{share(used.verified_checked)} of the {side} side's"
        for side, used in sides
        if used and used.verified_checked and used.verified_checked.value < MIN_VERIFIED
    ]
    short = [
        f"{percent(used.share_too_short)} of the {side} side's"
        for side, used in sides
        if used and used.share_too_short > MAX_TOO_SHORT
    ]
    if low:
        which = " that are long enough to be checked" if short else ""
        yield f"{arm.label}: only {' and '.join(low)} quotes{which} stand in the source."
    if short:
        yield f"{arm.label}: {' and '.join(short)} quotes are too short to be checked."


def _miscalibrated(arm: ArmReport) -> Iterator[str]:
    quality = arm.calibration
    if quality and quality.num >= MIN_FOR_ECE and quality.ece > MAX_ECE:
        off = f"{per_cent(quality.ece)} points"
        yield f"{arm.label}: the judge's confidence is off by {off} on average."


_CHECKS: tuple[Callable[[ArmReport], Iterator[str]], ...] = (
    _few,
    _undecided,
    _leaking,
    _by_position,
    _by_seat,
    _one_sided,
    _pooled,
    _badly_quoted,
    _miscalibrated,
)


# --- methods ---------------------------------------------------------------------


def methods(report: Report) -> tuple[str, ...]:
    """Account of how the figures were made, in a few sentences."""
    return (
        "Accuracy is right over decided. “All” counts a tie or an abstention as a guess and an "
        "INVALID answer as wrong; differences are taken in it, each question counted once, on "
        "questions asked of both.",
        *_corrections(report),
        "Where a judge saw both orders its two beliefs are averaged before the verdict.",
        f"Intervals cover {percent(LEVEL)} and are clustered by question: several debates of one "
        "question are not independent. Cluster-robust (CR2, t with Satterthwaite degrees of "
        "freedom); with fewer than ten questions, or near 0 and 1, Wilson’s at the effective "
        f"sample size. The bootstrap resamples whole questions {NUM_RESAMPLES:,} times.",
        "Belief by round is in the right answer; a debate that ended early keeps its final belief, "
        "so that every point is of the same debates.",
        "Calibration compares the judge’s confidence in the option it chose with how often that is "
        "right, in bins of equal mass. Brier score: half the squared distance, 0.25 at even odds. "
        f"Log score: natural, with probabilities floored at {FLOOR:g}. Priced: to base 2, less "
        f"{report.turn_price:g} for each of the judge’s turns.",
    )


def _corrections(report: Report) -> Iterator[str]:
    """The families of tests, and what stands in each after correction."""
    for each in report.families:
        yield (
            f"{count(each.num, 'test')} of {each.name}, corrected together: below 0.05 are "
            f"{each.num_alone:,} alone, {each.num_holm:,} after Holm and {each.num_bh:,} after "
            "Benjamini and Hochberg."
        )


def frames(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The report's figures as rows of plain values, by the name of their table.

    What stands within another value comes under both names: `accuracy_all_low`. An estimate's
    value is the name alone.
    """
    plain = asdict(report)
    return {
        name: [_flat(each) for each in value]
        for name, value in plain.items()
        if isinstance(value, tuple) and value and isinstance(value[0], dict)
    }


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """One level of names; lists of things, which are no values of a row, are left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = before if before and name == "value" else f"{before}_{name}" if before else name
        if isinstance(value, dict):
            found |= _flat(value, key)
        elif isinstance(value, tuple | list):
            if all(isinstance(each, str | int | float) for each in value):
                found[key] = " ".join(map(str, value))
        else:
            found[key] = value
    return found


def to_frame(report: Report, table: str = "arms") -> Any:
    """A table of the report as a pandas frame, a row for each of its rows, numbers as numbers.

    Args:
        report: The report.
        table: `arms`, `run_differences`, `breakdowns`, `comparisons`, `usage`, `slices` or
            another field of the report that holds rows.

    Raises:
        ConfigError: The report has no such table.
        MissingDependencyError: pandas is not installed.
    """
    plain = ("tuple[str", "tuple[int")
    known = [
        each.name
        for each in fields(report)
        if str(each.type).startswith("tuple[") and not str(each.type).startswith(plain)
    ]
    if table not in known:
        raise ConfigError(
            f"table {table!r}: a report has none of that name.{nearest(table, known)} Those of "
            f"this report: {', '.join(frames(report))}"
        )
    return frame_of(frames(report).get(table, []))


def frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas frame of plain rows.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        pandas: Any = importlib.import_module("pandas")  # it has no types of its own
    except ModuleNotFoundError:
        raise MissingDependencyError(
            'a frame needs pandas: pip install "oversight[pandas]"'
        ) from None
    return pandas.DataFrame(rows)


def write_csv(report: Report, path: Path) -> list[Path]:
    """Write the report's figures as CSV: the arms to NAME.csv, or every table into a folder.

    Returns:
        The files that were written.

    Raises:
        FileError: One cannot be written.
    """
    found = frames(report)
    if path.suffix.casefold() == ".csv":
        written = {path: found.get("arms", [])}
    else:
        written = {path / f"{name}.csv": rows for name, rows in found.items()}
    for file, rows in written.items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        write_text(file, text.getvalue(), "csv", errors="replace")
    return list(written)


def _cell(value: Any) -> Any:
    """A value of a cell; text that a spreadsheet would run as a formula begins with a quote."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def to_json(report: Report) -> dict[str, Any]:
    """The whole report as JSON-plain data, with its findings in words."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    plain["headlines"] = list(headlines(report))
    plain["warnings"] = list(warnings(report))
    return plain
