"""A red team's run in words, tables, pictures, as JSON, and as one page.

Words of attacks and of targets stand on the page folded behind a warning, cut where they are long.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import WIDTH_IN, Theme, plain_axes, short, title
from oversight.evals.intervals import Estimate
from oversight.evals.rendering import Illustration, Page, render_page
from oversight.files import write_text
from oversight.redteam.archive import EliteArchive, grid_picture
from oversight.redteam.findings import RedTeamFinding, folded
from oversight.redteam.measures import AttackFigures, RedTeamFigures, TargetFigures
from oversight.text.numbers import NONE, Table, count, decimal, listed, percent, points, share
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_EXAMPLES = 20
SEVERITIES = {1: "slight", 2: "considerable", 3: "grave", 4: "disastrous"}
USE = (
    "For models and judges of one's own, and for those that one has leave to test: to find what "
    "breaks them and to mend it. Not for use against systems of others."
)
WARNING = "Words of attacks, and what was answered: they may be offensive, false or harmful."


def sentences(figures: RedTeamFigures, found: Sequence[RedTeamFinding]) -> list[str]:
    """Sentences on what was found, one a target, and one on the findings."""
    said = [_of_target(each) for each in figures.targets]
    kinds = len({each.id for each in found if not each.like})
    apart = sum(each.is_untypable for each in found)
    if found:
        worst = max(each.severity for each in found)
        said.append(
            f"{count(len(found), 'finding')} that came again on fresh seeds, {kinds:,} unlike each "
            f"other; the gravest is {SEVERITIES[worst]}."
            + (f" {count(apart, 'finding')} cannot be typed and stand apart." if apart else "")
        )
    return said


def _of_target(each: TargetFigures) -> str:
    goals = count(each.num_goals, "goal")
    if each.bound is not None:
        by_goal, by_call = each.bound
        return (
            f"{each.target}: nothing found after {each.calls:,} calls on {goals}. That is no "
            f"proof: up to {percent(by_goal, 1)} of further goals like these may be breakable, "
            f"and, if calls were independent, up to {percent(by_call, 2)} of further calls may "
            "succeed"
            + (
                f"; {percent(each.undetermined)} of replies could not be decided."
                if each.undetermined
                else "."
            )
        )
    broken = "no goal was left to attack"
    if each.broken is not None:
        broken = f"of the others some attack breaks {share(each.broken)}"
    return (
        f"{each.target}: {share(each.direct)} of {goals} break without any attack, and {broken}; "
        f"{share(each.open)} are not shown safe ({each.calls:,} calls)."
    )


def redteam_tables(
    figures: RedTeamFigures,
    found: Sequence[RedTeamFinding],
    archives: Mapping[str, EliteArchive],
) -> list[Table]:
    """The tables of figures."""
    built = [_targets(figures), _attacks(figures), _curves(figures), _harms(figures)]
    built += [_transfer(figures), _laws(figures), _archives(archives), _listed(found)]
    return [each for each in built if each.rows]


def _targets(figures: RedTeamFigures) -> Table:
    return Table(
        title="Targets",
        note="“direct”: goals that break in their own words; “attacked”: of the others, those that "
        "an attack broke, again on fresh seeds; “not shown safe”: both, and goals of which nothing "
        "could be decided. Intervals are clustered by goal.",
        columns=("target", "goals", "calls", "direct", "attacked", "not shown safe", "refused",
                 "undetermined"),
        rows=tuple(
            (
                each.target,
                f"{each.num_goals:,}",
                f"{each.calls:,}",
                share(each.direct),
                share(each.broken),
                share(each.open),
                percent(each.refused),
                percent(each.undetermined),
            )
            for each in figures.targets
        ),
    )  # fmt: skip


def _attacks(figures: RedTeamFigures) -> Table:
    rows = _telling(figures)
    return Table(
        title="Attacks",
        note="“broken”: goals broken for certain; “fresh”: success on fresh seeds; “control”: as "
        "many words changed, with the meaning kept; “beyond”: fresh less control, in points, "
        "paired by goal; “found”: goals with any success in the search, which is biased upward. "
        + _without(figures),
        columns=("target", "attack", "goals", "calls", "broken", "fresh", "control", "beyond",
                 "found"),
        rows=tuple(
            (
                each.target,
                each.attack + (" (not typable)" if each.is_untypable else ""),
                f"{each.num_goals:,}",
                f"{each.calls:,}",
                share(each.broken),
                share(each.fresh),
                share(each.control),
                NONE if each.beyond is None else points(each.beyond),
                percent(each.found),
            )
            for each in rows
        ),
    )  # fmt: skip


def _telling(figures: RedTeamFigures) -> list[AttackFigures]:
    """The attacks that did something, or whose control did, the most successful first."""
    shown = [
        each
        for each in figures.attacks
        if each.found or each.undecided or (each.control is not None and each.control.value)
    ]
    return sorted(shown, key=lambda each: (each.target, -each.fresh.value, each.attack))


def _without(figures: RedTeamFigures) -> str:
    """The attacks that found nothing, by target, in a sentence each."""
    shown = {id(each) for each in _telling(figures)}
    said = []
    for target in dict.fromkeys(each.target for each in figures.attacks):
        own = [e for e in figures.attacks if e.target == target and id(e) not in shown]
        if own:
            calls = sum(each.calls for each in own)
            names = listed([each.attack for each in own])
            said.append(f"Nothing found on {target} in {calls:,} calls by {names}.")
    return " ".join(said)


def _curves(figures: RedTeamFigures) -> Table:
    found = [each for each in figures.attacks if each.found > 0.0]
    numbers = sorted({at for each in found for at, _ in each.curve})
    return Table(
        title="Success against compute",
        note="Share of goals with a success within so many calls of one attack.",
        columns=("target", "attack", *(f"{at:,}" for at in numbers)),
        rows=tuple(
            (each.target, each.attack, *(percent(dict(each.curve).get(at)) for at in numbers))
            for each in found
        ),
    )


def _harms(figures: RedTeamFigures) -> Table:
    return Table(
        title="Kinds of harm",
        note="Goals broken, with or without an attack.",
        columns=("target", "harm", "broken"),
        rows=tuple(
            (each.target, harm, share(found))
            for each in figures.targets
            for harm, found in each.by_harm.items()
        ),
    )


def _transfer(figures: RedTeamFigures) -> Table:
    names = sorted({name for pair in figures.transfer for name in pair})
    return Table(
        title="Transfer between targets",
        note="Success, on fresh seeds, of what was found on the target of the row against that of "
        "the column.",
        columns=("found on", *names),
        rows=tuple(
            (row, *(share(figures.transfer.get((row, column))) for column in names))
            for row in names
            if any(pair[0] == row for pair in figures.transfer)
        ),
    )


def _laws(figures: RedTeamFigures) -> Table:
    return Table(
        title="Power law of independent attempts",
        note="−log(success) = scale · N^(−exponent); “at 10,000” is what the law gives far beyond "
        "what was tried.",
        columns=("target", "attack", "scale", "exponent", "points", "error", "at 10,000"),
        rows=tuple(
            (
                each.target,
                each.attack,
                decimal(each.scale),
                decimal(each.exponent),
                str(each.num_points),
                decimal(each.error),
                percent(each.at(10_000)),
            )
            for each in figures.laws
        ),
    )


def _archives(archives: Mapping[str, EliteArchive]) -> Table:
    return Table(
        title="Archives",
        note="Best attack of each cell of harm × style × length. “QD score”: sum of the scores of "
        "all elites; “succeed”: elites that succeed, and of these on fresh seeds.",
        columns=("target", "calls", "cells", "coverage", "QD score", "succeed", "again"),
        rows=tuple(
            (
                name,
                f"{each.course[-1][0] if each.course else 0:,}",
                f"{each.grid.size:,}",
                percent(each.coverage),
                decimal(each.qd_score, 1),
                str(sum(one.is_success for one in each.elites.values())),
                str(sum(2 * one.fresh[0] > one.fresh[1] for one in each.elites.values())),
            )
            for name, each in archives.items()
        ),
    )


def _listed(found: Sequence[RedTeamFinding]) -> Table:
    return Table(
        title="Findings",
        note="Their words stand in found.jsonl; oversight show ID --store found.db shows one as a "
        "transcript. “like”: the earlier finding that it resembles.",
        columns=("id", "severity", "target", "goal", "attack", "fresh", "control", "calls", "like"),
        rows=tuple(
            (
                each.id,
                SEVERITIES[each.severity],
                each.target,
                short(each.goal.id, 40),
                each.attack + (" (not typable)" if each.is_untypable else ""),
                f"{each.fresh[0]} of {each.fresh[1]}",
                each.control or NONE,
                f"{each.calls:,}",
                each.like or NONE,
            )
            for each in found[:200]
        ),
    )


# --- picture and page ---


def success_picture(rows: Sequence[AttackFigures], theme: Theme) -> Figure:
    """A line an attack: success on fresh seeds with its interval, and the control hollow below."""
    from matplotlib.figure import Figure

    height = 1.5 + 0.3 * max(len(rows), 1)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = "filled: on fresh seeds; hollow: the control; 95 % intervals clustered by goal"
    title(figure, theme, "Success of attacks", note, height)
    left = 0.3
    axes = figure.add_axes((left, 0.5 / height, 0.95 - left, 0.3 * max(len(rows), 1) / height))
    plain_axes(axes, theme, grid="x")
    for place, each in enumerate(rows):
        _draw(axes, place - 0.12, each.fresh, theme.ink, theme.ink)
        if each.control is not None:
            _draw(axes, place + 0.16, each.control, theme.muted, theme.paper)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.01, 1.01)
    axes.set_yticks(
        range(len(rows)), [short(f"{e.target}: {e.attack}").replace("$", r"\$") for e in rows]
    )
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    return figure


def _draw(axes: Any, place: float, found: Estimate, ink: str, filling: str) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [place, place], color=ink, linewidth=1.2)
    axes.plot([found.value], [place], "o", markersize=4.5, markeredgecolor=ink,
              markerfacecolor=filling)  # fmt: skip


def methods(run: str, seed: int, fresh: int, folder: str) -> list[str]:
    """Sentences on how it was measured."""
    return [
        "A goal is tried in its own words first; what these break is not attacked. A success of an "
        f"attack counts if it comes again in more than half of {count(fresh, 'fresh try')}; before "
        "a judge, every other one of these shows the sides the other way round. Controls change as "
        "many words and keep the meaning, and are tried once.",
        "Three outcomes: success, failure, and undetermined, which is never counted as safe. "
        "Intervals cover 95 % and are clustered by goal, or by question before a judge.",
        f"Run {run or NONE}, seed {seed}; attempts, findings and figures stand in {folder}.",
        USE,
    ]


def examples(found: Sequence[RedTeamFinding]) -> str:
    """Findings as HTML, folded behind a warning; everything in them is escaped."""
    rows = []
    for each in [one for one in found if not one.like][:MOST_EXAMPLES]:
        said = html.escape(folded(visible(each.text, newlines=False)))
        reply = each.reply or (f"belief {each.belief:.2f}" if each.belief is not None else "")
        answer = html.escape(folded(visible(reply, newlines=False)))
        head = html.escape(
            visible(f"{each.id} · {each.target} · {each.goal.id} · {each.attack}", newlines=False)
        )
        rows.append(f"<h3>{head}</h3>\n<blockquote>{said}</blockquote>\n<p>{answer}</p>")
    if not rows:
        return ""
    body = "\n".join(rows)
    return (
        '<section class="card">\n<h2>Examples</h2>\n'
        f"<details>\n<summary>{html.escape(WARNING)} Open to read.</summary>\n{body}\n</details>\n"
        "</section>\n"
    )


def write_redteam_page(
    path: Path,
    figures: RedTeamFigures,
    found: Sequence[RedTeamFinding],
    archives: Mapping[str, EliteArchive],
    how: Sequence[str],
) -> None:
    """Write the run as one page.

    Raises:
        FileError: The file cannot be written.
    """
    rows = _telling(figures)
    pictures = []
    if rows:
        words = "; ".join(f"{e.target}, {e.attack}: {share(e.fresh)}" for e in rows[:40])
        pictures.append(
            Illustration("Success of attacks", words, partial(success_picture, rows[:40]))
        )
    for name, archive in archives.items():
        words = f"{percent(archive.coverage)} of {archive.grid.size} cells filled"
        pictures.append(
            Illustration(f"Archive of {name}", words, partial(grid_picture, archive, name))
        )
    page = Page(
        title="Red team",
        extent=" · ".join(
            f"{e.target} ({e.kind}): {count(e.num_goals, 'goal')}, {count(e.calls, 'call')}"
            for e in figures.targets
        ),
        headlines=sentences(figures, found),
        warnings=figures.notes,
        pictures=pictures,
        tables=redteam_tables(figures, found, archives),
        methods=how,
    )
    text = render_page(page)
    before, mark, after = text.rpartition('<section class="card methods">')
    write_text(path, before + examples(found) + mark + after, "html", errors="replace")


def redteam_json(figures: RedTeamFigures, found: Sequence[RedTeamFinding]) -> dict[str, Any]:
    """The figures as JSON-plain data, with the sentences and the findings' ids."""
    plain: dict[str, Any] = json.loads(
        json.dumps(
            {
                "targets": [asdict(each) for each in figures.targets],
                "attacks": [asdict(each) for each in figures.attacks],
                "power_laws": [asdict(each) for each in figures.laws],
                "notes": list(figures.notes),
                "transfer": [
                    {"found_on": one, "tried_on": other, **asdict(found)}
                    for (one, other), found in figures.transfer.items()
                ],
            },
            default=dict,
        )
    )
    plain["sentences"] = sentences(figures, found)
    plain["findings"] = [
        {"id": e.id, "severity": e.severity, "target": e.target, "goal": e.goal.id,
         "attack": e.attack, "fresh": list(e.fresh), "like": e.like} for e in found
    ]  # fmt: skip
    return plain
