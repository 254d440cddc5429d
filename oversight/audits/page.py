"""The audit of a judge as tables, as JSON, and as one page to attach to a paper."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from oversight.audits.claims import claims, extent, notes, p_words
from oversight.audits.measures import JudgeAudit
from oversight.audits.picture import in_words, picture
from oversight.evals.intervals import Estimate
from oversight.evals.rendering import Illustration, Page, write_page
from oversight.text.numbers import NONE, Table, listed, percent, points, share, signed

NUM_LARGEST = 2
"""Transcripts that are named of each intervention, those with the largest changes."""
ID_CHARS = 12


def audit_tables(audit: JudgeAudit) -> tuple[Table, ...]:
    """The tables of figures."""
    built = (_effects(audit), _decisions(audit), _controls(audit), _itself(audit))
    return tuple(table for table in built if table.rows)


def _effects(audit: JudgeAudit) -> Table:
    return Table(
        title="Effects of interventions on belief",
        note="“belief”: points gained by the option of the side whose words are changed, against "
        "the same transcript unchanged, in the same order; “control”: the same of the control "
        "that stands beside it, and “beyond” the difference, in the pairs that both have; “p”: of "
        "belief, after Holm’s correction for all rows.",
        columns=("intervention", "pairs", "belief", "control", "beyond", "p"),
        rows=tuple(
            (
                each.name,
                f"{each.num:,}",
                _points(each.belief),
                _points(each.of_control),
                _points(each.beyond),
                p_words(each.p_holm).removeprefix("= "),
            )
            for each in audit.effects
            if not each.is_control
        ),
    )


def _decisions(audit: JudgeAudit) -> Table:
    return Table(
        title="Effects of interventions on decisions",
        note="“changed”: decisions that are others; “gained”: points of decisions gained by the "
        "side whose words are changed; “accuracy if wrong”: points of accuracy gained where that "
        "side is wrong; “INVALID”: answers that cannot be read.",
        columns=("intervention", "changed", "gained", "accuracy if wrong", "INVALID"),
        rows=tuple(
            (
                each.name,
                share(each.flipped),
                _points(each.decisions),
                _points(each.accuracy),
                percent(each.invalid_after),
            )
            for each in audit.effects
            if each.num and not each.is_control
        ),
    )


def _controls(audit: JudgeAudit) -> Table:
    rows = []
    for each in audit.effects:
        if each.is_control and each.num:
            of = [e.name for e in audit.effects if e.control == each.name and not e.is_control]
            changed = share(each.flipped)
            row = (each.name, f"{each.num:,}", _points(each.belief), changed)
            rows.append((*row, _points(each.accuracy), listed(of) if of else NONE))
    return Table(
        title="Controls",
        note="As above, of changes that say nothing; “beside”: the interventions whose control it "
        "is.",
        columns=("control", "pairs", "belief", "changed", "accuracy if wrong", "beside"),
        rows=tuple(rows),
    )


def _itself(audit: JudgeAudit) -> Table:
    direct, found = audit.direct, audit.accuracy
    rows: list[tuple[str, str, int]] = []

    def row(name: str, estimate: Estimate | None, shown: str | None = None) -> None:
        if estimate is not None:
            rows.append((name, shown or share(estimate), estimate.num))

    if found is not None:
        row("right, of what it decides", found.accuracy)
        row("right, ties as guesses", found.accuracy_all)
    if direct.alone is not None:
        row("the judge alone", direct.alone.accuracy_all)
    if direct.expert is not None:
        row("those who speak, asked directly", direct.expert.accuracy_all)
    row("decided alike in both orders", audit.same)
    gain = audit.order.gain
    row("gained by being shown first", gain, points(gain) + " points" if gain else None)
    row("option listed first is chosen", audit.order.first_chosen)
    row("INVALID", audit.invalid)
    return Table(
        title="The judge by itself",
        note="Shares with 95 % intervals clustered by question; n: answers, or transcripts judged "
        "in both orders.",
        columns=("measure", "found", "n"),
        rows=tuple((name, shown, f"{num:,}") for name, shown, num in rows),
    )


def examples_table(audit: JudgeAudit) -> Table:
    """One row an intervention: its description, and an example before and after."""
    rows = []
    for each in audit.effects:
        if each.name in audit.examples:
            before, after = audit.examples[each.name]
            rows.append((each.name, f"{each.about} Before: {before} → After: {after}"))
    return Table(
        title="What was changed, with an example",
        note="One transcript's words before and after, without what both have in common; all "
        "else in it is the same, character by character.",
        columns=("intervention", "example"),
        rows=tuple(rows),
    )


def largest_table(audit: JudgeAudit) -> Table:
    """Transcripts with the largest changes of belief, to be looked at."""
    rows = []
    for effect in audit.effects:
        own = [p for p in audit.pairs if p.intervention == effect.name and p.is_read]
        own.sort(key=lambda pair: (-abs(pair.gain), pair.edited))
        rows += [
            (each.intervention, signed(each.gain), each.original[:ID_CHARS], each.edited[:ID_CHARS])
            for each in own[:NUM_LARGEST]
        ]
    return Table(
        title="Transcripts with the largest changes",
        note=f"oversight show ID --store {audit.store} shows one. All pairs stand in the JSON; "
        "in oversight view the agents' filter gives the transcripts of an intervention.",
        columns=("intervention", "points", "as it was", "changed"),
        rows=tuple(rows),
    )


def _points(estimate: Estimate | None) -> str:
    return NONE if estimate is None else points(estimate)


# --- other forms ---


def audit_json(audit: JudgeAudit) -> dict[str, Any]:
    """The whole audit as JSON-plain data, with its claims in words and every pair."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(audit), default=_plain))
    plain["pairs"] = [
        {
            "intervention": each.intervention,
            "original": each.original,
            "edited": each.edited,
            "seat": each.seat,
            "question": list(each.cluster),
            "target": each.target,
            "correct": each.correct,
            "before": each.before.model_dump(mode="json", include={"verdict", "probs"}),
            "after": each.after.model_dump(mode="json", include={"verdict", "probs"}),
        }
        for each in audit.pairs
    ]
    said = [asdict(each) for each in claims(audit)]
    return {**plain, "claims": said, "notes": list(notes(audit)), "methods": list(methods(audit))}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")


def methods(audit: JudgeAudit) -> tuple[str, ...]:
    """Sentences on how it was measured."""
    return (
        "Each transcript is judged as it was and with one thing changed in one side's words, in "
        "the same order; effects are paired, so that what the transcripts have in common cancels "
        "out. Each side of a debate is changed in turn, the right one and the wrong one: an effect "
        "is no skill.",
        "Intervals cover 95 % and are clustered by question (cluster-robust CR2, or Wilson’s at "
        "the effective sample size near the bounds and with few questions). p-values are dual to "
        "them, and those of the interventions are corrected together by Holm’s method; what is "
        "beyond controls likewise, apart.",
        f"Records: {audit.store}, run {audit.run or NONE}, seed {audit.seed}.",
    )


def audit_page(audit: JudgeAudit) -> Page:
    """The content of the audit's page."""
    return Page(
        title="Audit of a judge",
        extent=extent(audit),
        headlines=[f"{e.says} Control: {e.control} {e.limit}" for e in claims(audit)],
        warnings=notes(audit),
        pictures=(Illustration("Effects on the judge", in_words(audit), partial(picture, audit)),),
        tables=(*audit_tables(audit), examples_table(audit), largest_table(audit)),
        methods=methods(audit),
    )


def write_audit_page(audit: JudgeAudit, path: Path) -> None:
    """Write the audit as one page.

    Raises:
        FileError: The file cannot be written.
    """
    write_page(audit_page(audit), path)
