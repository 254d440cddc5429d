"""An evaluation of a guard in tables, as JSON, and as the picture of its trade-off."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import ConfigError
from oversight.evals.drawing import DASHED, LIGHT, Theme, plain_axes, save_png, title
from oversight.evals.observations import Kind
from oversight.guard.evaluating import Calibrated, Evaluation, Sides
from oversight.text.numbers import NONE, Table, percent, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN = 6.4, 5.2


def evaluation_table(found: Evaluation) -> Table:
    """Harm that came through and harmless requests refused, by kind and together."""
    rows = [_row(kind, each) for kind, each in found.by_kind.items()]
    return Table(
        title=f"Policy {found.policy}",
        note="harm without and with the guard, of all requests; refused, of the harmless ones",
        columns=("requests", "number", "harm before", "harm through", "harmless refused"),
        rows=(*rows, _row("all", found.overall)),
    )


def _row(kind: str, each: Sides) -> tuple[str, ...]:
    refused = NONE if each.refused is None else share(each.refused)
    return (kind, str(each.num), share(each.harm_before), share(each.harm_after), refused)


def sentences(found: Evaluation) -> list[str]:
    """Sentences on what was found, both sides in each."""
    cut, refused = found.overall.harm_cut, found.overall.refused
    said = []
    if cut is not None:
        of_harmless = "there were no harmless requests"
        if refused is not None:
            of_harmless = f"it refused {share(refused)} of harmless requests"
        said.append(f"The guard cut harm by {percent(cut, 1)}, and {of_harmless}.")
    if found.calibrated is not None:
        said.append(_calibrated(found.scored_by, found.calibrated))
    return said


def _calibrated(check: str, found: Calibrated) -> str:
    if found.threshold is None:
        return (
            f"No threshold of {check} keeps harm to {percent(found.alpha, 1)} of requests: with "
            f"{found.num_calibration} of them for calibration not even one that stops all is known "
            f"to, as 1 in {found.num_calibration + 1} is more; give more requests."
        )
    shown = "above 1 (nothing has to be stopped)"
    if math.isfinite(found.threshold):
        shown = f"{found.threshold:.4g}"
    held = found.held_out
    if held is None:
        return f"The threshold of {check} for {percent(found.alpha, 1)} is {shown}."
    return (
        f"Threshold of {check} for harm at no more than {percent(found.alpha, 1)} of requests, by "
        f"conformal risk control over {found.num_calibration}: {shown}. On {held.num} held out "
        f"harm came through at {share(held.harm_after)} and {share(held.refused)} of harmless ones "
        f"were refused; over random halves harm came through at {percent(found.mean_risk, 1)} on "
        "average, which is what the guarantee bounds."
    )


def evaluation_json(found: Evaluation) -> dict[str, Any]:
    """The evaluation as plain data; a threshold that stops nothing is null."""
    data = asdict(found)
    data.pop("judged")
    data["curve"] = [
        {"threshold": _finite(t), "harm_through": harm, "harmless_refused": refused}
        for t, harm, refused in found.curve
    ]
    data["threshold"] = _finite(found.threshold)
    data["harm_cut"] = found.overall.harm_cut
    if data["calibrated"] is not None and found.calibrated is not None:
        data["calibrated"]["threshold"] = _finite(found.calibrated.threshold)
    return data


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def write_trade_off(found: Evaluation, path: Path, theme: Theme = LIGHT) -> None:
    """Write the picture of the trade-off over thresholds as a PNG.

    Raises:
        ConfigError: No check gives scores.
        FileError: The file cannot be written.
    """
    if not found.curve:
        raise ConfigError(
            f"policy {found.policy!r} has no check that gives scores, so there is no curve to draw"
        )
    save_png(trade_off_figure(found, theme), path, theme)


def trade_off_figure(found: Evaluation, theme: Theme) -> Figure:
    """The picture on a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor=theme.paper)
    note = f"policy {found.policy}: every threshold of the check {found.scored_by}"
    title(figure, theme, "Harm through, and harmless requests refused", note, HEIGHT_IN)
    axes = figure.add_axes((0.12, 0.14, 0.83, 0.68))
    plain_axes(axes, theme, grid="both")
    tint, other = theme.kinds[Kind.DEBATE][0], theme.kinds[Kind.CONSULTANCY][0]
    refused = [100 * each[2] for each in found.curve]
    through = [100 * each[1] for each in found.curve]
    axes.plot(refused, through, color=tint, lw=1.6, marker="o", ms=3, zorder=2)
    here = found.overall
    if here.refused is not None:
        x, y = 100 * here.refused.value, 100 * here.harm_after.value
        axes.errorbar(
            [x],
            [y],
            xerr=_bars(here.refused.value, here.refused.low, here.refused.high),
            yerr=_bars(here.harm_after.value, here.harm_after.low, here.harm_after.high),
            color=other,
            marker="D",
            ms=6,
            lw=1.2,
            zorder=3,
            label=f"as it stands, at {found.threshold:.3g}",
        )
    if found.calibrated is not None:
        axes.axhline(
            100 * found.calibrated.alpha,
            color=theme.muted,
            ls=DASHED,
            lw=1,
            label=f"harm at {percent(found.calibrated.alpha, 1)} of requests",
        )
    axes.set_xlabel("harmless requests refused, % (less is better)", color=theme.muted, fontsize=9)
    axes.set_ylabel("harm through, % of requests (less is better)", color=theme.muted, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="upper right")
    return figure


def _bars(value: float, low: float | None, high: float | None) -> list[list[float]]:
    lower = 0.0 if low is None else max(0.0, value - low)
    upper = 0.0 if high is None else max(0.0, high - value)
    return [[100 * lower], [100 * upper]]
