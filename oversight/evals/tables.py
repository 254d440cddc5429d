"""The report's tables as plain strings, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oversight.evals.accuracy import treatment_table
from oversight.evals.agreement import SAME_ANSWER, agreement_table
from oversight.evals.answers import QuoteUse
from oversight.evals.breakdown import (
    difference_table,
    prompt_table,
    slice_table,
    usage_table,
)
from oversight.evals.comparisons import comparison_table, gap_table
from oversight.evals.constitutional import answer_tables
from oversight.evals.course import course_table, turn_table
from oversight.evals.groups import group_tables
from oversight.evals.intervals import Estimate
from oversight.evals.mixed_model import mixed_table
from oversight.evals.observations import Kind
from oversight.evals.people import people_table
from oversight.evals.properties import breakdown_tables
from oversight.evals.reliability import panel_tables
from oversight.evals.report import ARMS_FAMILY, FEATURES_FAMILY, RUNS_FAMILY, ArmReport, Report
from oversight.evals.stances import stance_table
from oversight.evals.winning import feature_table, score_table, win_table
from oversight.text.numbers import Table, count, decimal, decimals, interval, percent, points, share
from oversight.text.terminal import visible
from oversight.types import Defect, FinishReason

Column = tuple[str, Callable[[ArmReport], str]]


def tables(report: Report) -> tuple[Table, ...]:
    """Every table of the report that has rows, the most important first."""
    families = {each.name: each for each in report.families}
    built = (
        _accuracy(report),
        course_table(report.courses),
        turn_table(report.turn_beliefs),
        stance_table(report.critics),
        treatment_table(report.treatments),
        _unread(report),
        _unseen(report),
        difference_table(report.run_differences, families.get(RUNS_FAMILY)),
        *breakdown_tables(report.breakdowns),
        comparison_table(report.comparisons, families.get(ARMS_FAMILY)),
        mixed_table(report.mixed),
        gap_table(report.gaps_recovered),
        _assistance(report),
        _cross_checks(report),
        _consultants(report),
        win_table(report.win_rates),
        score_table(report.score_differences),
        feature_table(report.feature_effects, families.get(FEATURES_FAMILY)),
        _beliefs(report),
        _calibration(report),
        _order(report),
        _quotes(report),
        slice_table(report.slices),
        agreement_table(report.agreements),
        *panel_tables(report.standings, report.panels),
        *group_tables(report.judge_groups, report.group_rules, report.group_debaters),
        *answer_tables(report.stages, report.drifts, report.principles, report.pairs),
        _responses(report),
        _defects(report),
        people_table(report.people),
        _raters(report),
        _rater_agreement(report),
        _answer_ends(report),
        _failures(report),
        usage_table(report.usage),
        prompt_table(report.prompts),
    )
    return tuple(table for table in built if table.rows)


def _by_arm(report: Report, title: str, note: str, columns: tuple[Column, ...]) -> Table:
    return Table(
        title=title,
        note=note,
        columns=("protocol", *(name for name, _ in columns)),
        rows=tuple((arm.label, *(show(arm) for _, show in columns)) for arm in report.arms),
    )


def _accuracy(report: Report) -> Table:
    columns: tuple[Column, ...] = (
        ("accuracy", lambda arm: share(arm.accuracy.accuracy)),
        ("all", lambda arm: share(arm.accuracy.accuracy_all)),
        ("tie", lambda arm: percent(arm.accuracy.share_tie)),
        ("abst.", lambda arm: percent(arm.accuracy.share_abstain)),
        ("INVALID", lambda arm: percent(arm.accuracy.share_invalid)),
        ("n / q.", lambda arm: f"{arm.accuracy.num:,}/{arm.accuracy.num_questions:,}"),
    )
    note = (
        "Right over decided; “all” counts ties and abstentions as guesses, INVALID as wrong. 95 % "
        "intervals clustered by question; n / q.: rulings on so many questions."
    )
    return _by_arm(report, "Judge accuracy", note, columns)


def _unread(report: Report) -> Table:
    return Table(
        title="Answers that could not be read",
        note="INVALID answers of judges, the most frequent kinds first; answers that begin alike, "
        "apart from numbers, are of one kind. Shortened.",
        columns=("protocol", "answers", "answer"),
        rows=tuple(
            (
                each.label,
                f"{each.num:,} of {each.num_unread:,}",
                visible(each.answer, newlines=False) or "(nothing was written)",
            )
            for each in report.unread
        ),
    )


def _unseen(report: Report) -> Table:
    return Table(
        title="Unread turns",
        note="Judgments of people, and how many were given before every turn had been on the "
        "screen completely; accuracy with and without those. “?”: it was not recorded, counted "
        "as read.",
        columns=("protocol", "judgments", "unread", "?", "accuracy", "without"),
        rows=tuple(
            (
                each.label,
                f"{each.num:,}",
                f"{each.num_unseen:,}",
                f"{each.num_unrecorded:,}",
                share(each.accuracy.accuracy if each.accuracy else None),
                share(each.accuracy_without.accuracy if each.accuracy_without else None)
                if each.num_unseen
                else "–",
            )
            for each in report.unseen
        ),
    )


def _assistance(report: Report) -> Table:
    return Table(
        title="Assistance",
        note="By the kind that was drawn for an item, used or not; gains over none, in percentage "
        "points of “all” and in seconds of active attention.",
        columns=("study", "protocol", "kind", "all", "gain", "Brier", "seconds", "more", "used"),
        rows=tuple(
            (
                each.study or "–",
                each.protocol,
                each.kind,
                share(each.accuracy_all),
                "–" if each.gain is None else points(each.gain),
                decimals(each.brier),
                decimal(None if each.active_s is None else each.active_s.value, 0),
                _more_seconds(each.extra_s),
                f"{each.num_used:,}/{each.num:,}",
            )
            for each in report.assistance
        ),
    )


def _more_seconds(extra: Estimate | None) -> str:
    if extra is None:
        return "–"
    value = f"{round(extra.value):+d}" if round(extra.value) else "0"
    if extra.low is not None and extra.high is not None:
        value += f" [{round(extra.low)}, {round(extra.high)}]"
    return value.replace("-", "−")


def _cross_checks(report: Report) -> Table:
    columns: tuple[Column, ...] = (
        ("bootstrap", lambda arm: interval(arm.accuracy.bootstrap) or "–"),
        ("honest side wins", lambda arm: share(arm.honest_win_rate)),
        ("seat A wins", lambda arm: share(arm.seat_a_win_rate)),
    )
    note = (
        "The second interval of accuracy, over resampled questions (none where all agree); how "
        "often a side is believed more than its opponent, ties half."
    )
    return _by_arm(report, "Cross-checks", note, columns)


def _consultants(report: Report) -> Table:
    rows = []
    for arm in report.arms:
        if arm.kind is Kind.CONSULTANCY:
            halves = (arm.honest_consultant, arm.dishonest_consultant)
            shown = [share(half.accuracy) if half else "–" for half in halves]
            rows.append((arm.label, *shown, *(f"{half.num if half else 0:,}" for half in halves)))
    return Table(
        title="Consultancy by side",
        note="Judge accuracy where the consultant defended the right answer, or a wrong one.",
        columns=("protocol", "honest", "dishonest", "honest, n", "dishonest, n"),
        rows=tuple(rows),
    )


def _beliefs(report: Report) -> Table:
    rounds = sorted(
        {point.round for arm in report.arms for point in arm.trajectory if point.round is not None}
    )
    rows = []
    for arm in report.arms:
        by_round = {point.round: point.belief for point in arm.trajectory}
        if by_round:
            means = (decimal(by_round[n].value if n in by_round else None) for n in rounds)
            rows.append((arm.label, *means, decimals(by_round.get(None))))
    return Table(
        title="Belief in the right answer",
        note="Mean after each round, and in the judgment with its interval; debates that ended "
        "early keep their final belief.",
        columns=("protocol", *(f"round {n}" if n else "opening" for n in rounds), "judgment"),
        rows=tuple(rows),
    )


def _calibration(report: Report) -> Table:
    rows = [
        (
            arm.label,
            decimals(quality.brier),
            decimal(quality.ece),
            decimal(quality.auroc),
            *(decimal(arm.scores[name].value) for name in ("log", "spherical")),
            decimal(None if arm.priced is None else arm.priced.value),
            percent(None if arm.mass is None else arm.mass.value),
            f"{quality.num:,}",
        )
        for arm in report.arms
        if (quality := arm.calibration) is not None
    ]
    return Table(
        title="Calibration and scores",
        note="Brier and ECE: lower is better. AUROC, log and spherical score: higher is better; "
        f"priced: log score to base 2, less {report.turn_price:g} a turn of the judge. "
        "Mass: what the judge's model gave to any option before normalising, where known.",
        columns=(
            *("protocol", "Brier", "ECE", "AUROC", "log score", "spherical", "priced"),
            *("mass", "n"),
        ),
        rows=tuple(rows),
    )


def _order(report: Report) -> Table:
    columns: tuple[Column, ...] = (
        ("listed first wins", lambda arm: share(arm.position.first_chosen)),
        ("shown first wins", lambda arm: share(arm.position.first_argued)),
        (
            "gain of first",
            lambda arm: points(arm.position.gain) if arm.position.gain else "–",
        ),
        ("flips", lambda arm: share(arm.position.flipped)),
    )
    note = (
        "A judge blind to order chooses half of two options by place, gains 0 points and never "
        "flips. Gain and flips need judgments in both orders."
    )
    return _by_arm(report, "Order", note, columns)


def _quotes(report: Report) -> Table:
    return Table(
        title="Quotes",
        note="Share of quotes that stand in the source word for word, up to typography.",
        columns=("protocol", "side", "per turn", "verified", "near", "unverified", "too short"),
        rows=tuple(row for arm in report.arms for row in _quote_rows(arm)),
    )


def _quote_rows(arm: ArmReport) -> Iterator[tuple[str, ...]]:
    sides: tuple[tuple[str, QuoteUse | None], ...] = (
        ("honest", arm.quotes_honest),
        ("dishonest", arm.quotes_dishonest),
    )
    for side, used in sides:
        if used is not None and used.num_quotes:
            yield (
                arm.label,
                side,
                decimal(used.per_turn, 1),
                share(used.verified if used.verified_checked else None),
                percent(used.share_near),
                percent(used.share_unverified),
                percent(used.share_too_short),
            )


RATED = {
    "preferred": "which response is better",
    "revision": "whether a revision is better",
    "criticism": "whether a criticism is right",
    "principles": "scores by principle, to the point",
}
"""Questions that two raters agree on or not, in the words of the note."""


NOTHING_RIGHT = "Nothing is right or wrong in them. "


def _responses(report: Report) -> Table:
    return Table(
        title="Answers to open prompts",
        note=NOTHING_RIGHT
        * all(each.rates is None for each in report.stages)
        + "“responses” counts candidates that were not chosen as well; “unchanged”: revisions that "
        "found nothing to change; better, same, worse: revisions as they were rated; “others”: "
        "ratings of pairs and by principles.",
        columns=(
            *("protocol", "policy", "runs", "prompts", "responses", "critiques", "revisions"),
            *("unchanged", "better", "same", "worse", "others"),
        ),
        rows=tuple(
            (
                each.protocol,
                each.responder,
                f"{each.num_runs:,}",
                f"{each.num_prompts:,}",
                f"{each.num_responses:,}",
                f"{each.num_critiques:,}",
                f"{each.num_revisions:,}",
                f"{each.num_unchanged:,}",
                f"{each.num_better:,}",
                f"{each.num_same:,}",
                f"{each.num_worse:,}",
                f"{each.num_other_ratings:,}",
            )
            for each in report.responses
        ),
    )


def _defects(report: Report) -> Table:
    """Faults of form of responses, critiques and revisions."""
    names = [each.value for each in Defect if any(r.defects.get(each) for r in report.responses)]
    return Table(
        title="Defects of form",
        note="Responses, critiques and revisions with a fault of form; one may have several. "
        "Training leaves out chains whose critiques or revisions have any, unless it is told "
        "otherwise (preferences.defects).",
        columns=("protocol", "policy", "any", *(name.replace("_", " ") for name in names)),
        rows=tuple(
            (
                each.protocol,
                each.responder,
                f"{each.num_defective:,}",
                *(f"{each.defects.get(name, 0):,}" for name in names),
            )
            for each in report.responses
            if names
        ),
    )


def _raters(report: Report) -> Table:
    """Shown once a model has rated."""
    return Table(
        title="Ratings of responses",
        note="Of a model: “first better”, the probability that what stands first is better, 50 % "
        "if it is blind to order; “order decides”, comparisons that come out differently in the "
        "two orders; “unread”, ratings with an answer that could not be read.",
        columns=("rater", "task", "items", "ratings", "unread", "first better", "order decides"),
        rows=tuple(
            (
                each.rater,
                str(each.task),
                f"{each.num_items:,}",
                f"{each.num_ratings:,}",
                f"{each.num_unread:,}",
                share(each.first),
                share(each.flipped),
            )
            for each in report.raters
            if any(rater.kind == "model" for rater in report.raters)
        ),
    )


def _rater_agreement(report: Report) -> Table:
    found = report.rater_agreements
    asked = {each.question for each in found}
    on = "; ".join(about for question, about in RATED.items() if question in asked)
    is_same = any(each.kappa is None for each in found)
    return Table(
        title="Agreement of raters",
        note=(f"On what both rated: {on}." if on else "") + (f" {SAME_ANSWER}" if is_same else ""),
        columns=("question", "raters", "who", "agree", "Cohen’s κ", "rated by both"),
        rows=tuple(
            (
                each.question,
                " · ".join(each.raters),
                "–".join(each.kinds),
                percent(each.agreement),
                decimal(each.kappa),
                f"{each.num_items:,}",
            )
            for each in found
        ),
    )


def _answer_ends(report: Report) -> Table:
    """Shown once a call ended otherwise than by its model's own stop."""
    stop = FinishReason.STOP.value
    unusual = any(each.finish_reasons[stop] < each.num for each in report.answer_ends)
    unusual = unusual or any(each.num_unanswered for each in report.answer_ends)
    reasons = [reason.value for reason in FinishReason if reason is not FinishReason.CANCELLED]
    return Table(
        title="How answers ended",
        note="Calls by the end of their answers: the model's own, the limit of tokens, a content "
        "filter, a refusal, a tool call. “made again”: no whole answer, asked once more.",
        columns=("model", "calls", *(reason.replace("_", " ") for reason in reasons), "made again"),
        rows=tuple(
            (
                each.model,
                f"{each.num:,}",
                *(f"{each.finish_reasons[reason]:,}" for reason in reasons),
                f"{each.num_unanswered:,}",
            )
            for each in report.answer_ends
            if unusual
        ),
    )


def _failures(report: Report) -> Table:
    return Table(
        title="Debates that failed",
        note="They are in no figure above; the command that ran them tries them again.",
        columns=("cause", "debates", "the first of them"),
        rows=tuple(
            (each.cause.replace("_", " "), f"{each.num:,}", visible(_brief(each.error)))
            for each in report.failures
        ),
    )


def _brief(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= MAX_ERROR_CHARS else line[: MAX_ERROR_CHARS - 1].rstrip() + "…"


MAX_ERROR_CHARS = 160


def extent(report: Report) -> str:
    """Extent of the report, in one line."""
    num_open = sum(each.num_runs for each in report.responses)
    about = [count(len(report.datasets), "data set")]
    if num_open < report.num_debates or not num_open:
        about = [
            count(report.num_debates - num_open, "debate"),
            count(report.num_questions - report.num_prompts, "question"),
            count(report.num_judges, "judge"),
            *about,
        ]
    if num_open:
        answered = count(report.num_prompts, "open prompt")
        about.insert(len(about) - 1, f"{count(num_open, 'run')} on {answered}")
    return " · ".join(about)
