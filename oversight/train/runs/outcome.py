"""The outcome of a run for people: its model card, and its curves beside those of other runs.

The card says what a finished run was trained on and how, and how it went. Curves are one PNG with a
small picture for each metric. Raw values are faint, their smoothed form is strong; held-out results
are dots. Text from outside is drawn as it is, never as mathematics.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError, DataError
from oversight.files import to_toml, whole_file
from oversight.registry import nearest
from oversight.text.numbers import count
from oversight.train.runs.metrics import FIXED, NAME, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from oversight.train.runs.folder import RunDescription

METHODS = {
    "sft": "Supervised fine-tuning: cross-entropy on demonstrations.",
    "reward": (
        "Reward model from comparisons (Bradley and Terry, 1952; Ouyang et al., "
        '"Training language models to follow instructions with human feedback", 2022).'
    ),
    "dpo": (
        "Direct preference optimisation (Rafailov et al., "
        '"Direct Preference Optimization: Your Language Model is Secretly a Reward Model", 2023).'
    ),
    "ppo": (
        "Proximal policy optimisation (Schulman et al., "
        '"Proximal Policy Optimization Algorithms", 2017).'
    ),
    "grpo": (
        "Group-relative policy optimisation (Shao et al., "
        '"DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", '
        "2024)."
    ),
}
BEST: dict[str, Any] = {"loss": min, "nll": min, "perplexity": min, "accuracy": max, "reward": max}
"""Metrics of which one value is better than another, and which of two that is."""
AIMLESS = {"ppo": {"loss"}, "grpo": {"loss"}, "reward": {"reward"}}
"""Of these by trainer none is better: a policy's loss changes its data with the policy, and the
rewards of a reward model have no zero."""
FIRST = ("loss", "reward", "accuracy", "kl", "entropy")
"""Metrics that stand first in the table."""


def model_card(
    about: RunDescription,
    lines: list[dict[str, Any]],
    *,
    base_model: str,
    num_steps: int,
    starts: list[dict[str, Any]],
    method: str | None = None,
) -> str:
    """README.md of the model's folder.

    Args:
        about: Facts about the run.
        lines: Its metrics.
        base_model: The model that it began with.
        num_steps: Steps done.
        starts: The run's starts, as `start_record` gave them.
        method: The method with its paper; the trainer's own if not given.
    """
    last = starts[-1] if starts else {}
    parts = [
        _head(about),
        f"# A model trained with {about.trainer}",
        method or METHODS.get(about.trainer, about.trainer),
        f"- Base model: {code(base_model)}\n- Steps: {num_steps:,}\n- Seed: {about.seed}\n"
        f"- Code: git {code(str(last.get('git')))}\n- Starts of the run: {len(starts)}",
        "## Data\n\n" + _listing(about.provenance) + f"\n- Content hash: {code(about.data)}",
        "## Metrics\n\n" + _table(lines, about.trainer),
        "## Recipe\n\n" + _fenced(to_toml(about.config), "toml"),
        "## Versions\n\n" + _listing(last.get("versions", {})),
        "## Licence\n\nThe licences of the base model and of the data apply to this model; look "
        "at both before it is passed on. This card grants nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """Foreign text as a code span, whatever it holds."""
    line = " ".join(text.split()) or "–"
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " * (len(ticks) > 1)
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _head(about: RunDescription) -> str:
    tags = "".join(f"\n- {tag}" for tag in ("oversight", about.trainer))
    return f"---\nlibrary_name: transformers\ntags:{tags}\n---"


def _listing(values: Mapping[str, Any]) -> str:
    shown = (
        f"- {code(str(name))}: {code(value if isinstance(value, str) else json.dumps(value))}"
        for name, value in values.items()
        if value is not None
    )
    return "\n".join(shown) or "- not stated"


def _table(lines: list[dict[str, Any]], trainer: str) -> str:
    """First and last value of every metric by split, and the best where one is better."""
    rows = [
        "| split | metric | first | last | best | at step |",
        "|---|---|---|---|---|---|",
    ]
    for split in ("eval", "train"):
        mine = [line for line in lines if line["split"] == split]
        for name in _ordered({name for line in mine for name in line} - FIXED):
            series = [(line["step"], line[name]) for line in mine if line.get(name) is not None]
            if series:
                rows.append(
                    f"| {split} | {code(name)} | {' | '.join(_summary(name, series, trainer))} |"
                )
    return "\n".join(rows) if len(rows) > 2 else "None were logged."


def _summary(name: str, series: list[tuple[int, float]], trainer: str) -> tuple[str, str, str, str]:
    """First, last and best value and the best one's step; dashes where none is better."""
    first, last = f"{series[0][1]:.4g}", f"{series[-1][1]:.4g}"
    pick = None if name in AIMLESS.get(trainer, ()) else BEST.get(name)
    if pick is None:
        return first, last, "–", "–"
    step, best = pick(series, key=lambda item: item[1])
    return first, last, f"{best:.4g}", str(step)


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else 99, name))


def _fenced(text: str, language: str) -> str:
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{text}{ticks}"


SHOWN = ("nll", "loss", "accuracy", "reward", "kl", "entropy", "response_length")
"""Metrics that are told at the end, in this order."""


def outcome(
    lines: Sequence[Mapping[str, Any]], trainer: str
) -> list[tuple[str, str, str, str, str]]:
    """Name, first, last, best and its step of each metric that is shown and was logged."""
    return list(_rows(lines, trainer))


def _rows(
    lines: Sequence[Mapping[str, Any]], trainer: str
) -> Iterator[tuple[str, str, str, str, str]]:
    for split, where in (("eval", "held out "), ("train", "")):
        for name in SHOWN:
            series = [
                (line["step"], line[name])
                for line in lines
                if line["split"] == split and line.get(name) is not None
            ]
            if series:
                yield f"{where}{name}", *_summary(name, series, trainer)


Floats = npt.NDArray[np.float64]

PANELS: dict[str, str] = {
    "loss": "Loss",
    "reward": "Reward",
    "accuracy": "Accuracy",
    "kl": "KL from the reference",
    "entropy": "Entropy, nats a token",
    "response_length": "Response length, tokens",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
}
"""Metrics that are shown where a run has them, in this order, with their titles."""
SMOOTH_SHARE = 0.02
"""Share of a curve's points that its smoothed form looks back over."""
MIN_POINTS = 30
"""Shorter curves are shown as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One metric of one run, on one split."""

    run: str
    metric: str
    split: str
    steps: Floats
    values: Floats

    def smoothed(self) -> Floats | None:
        """A running mean with exponential weights; None where the curve is too short for one."""
        if len(self.values) < MIN_POINTS:
            return None
        keep = 1.0 - 1.0 / max(SMOOTH_SHARE * len(self.values), 3.0)
        smooth, weight, found = 0.0, 0.0, []
        for value in self.values:
            # Divided by the weights so far: the beginning is not pulled to 0.
            smooth = keep * smooth + (1.0 - keep) * float(value)
            weight = keep * weight + (1.0 - keep)
            found.append(smooth / weight)
        return np.array(found)


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """All curves of runs; runs whose folders have one name are told apart by their parents.

    Raises:
        DataError: A folder has no metrics; says so.
    """
    curves = []
    for folder, label in zip(folders, _labels(folders), strict=True):
        lines = read_metrics(folder)
        found = [curve for split in ("train", "eval") for curve in _curves(lines, label, split)]
        if not found:
            raise DataError(f"{folder / NAME} has no metrics yet; wait for the run's first step")
        curves += found
    return curves


def choose(curves: Sequence[Curve], wanted: Sequence[str] = ()) -> list[str]:
    """Metrics to show: those `wanted`, else the known ones, else all.

    Raises:
        ConfigError: One that is wanted is in no run; names the nearest.
    """
    there = sorted({curve.metric for curve in curves})
    for name in wanted:
        if name not in there:
            raise ConfigError(f"--metric {name!r}: no run has it.{nearest(name, there)}")
    return list(wanted) or [name for name in PANELS if name in there] or there


def _curves(lines: list[dict[str, Any]], run: str, split: str) -> list[Curve]:
    mine = [line for line in lines if line["split"] == split]
    names = sorted({name for line in mine for name in line} - FIXED)
    found = []
    for name in names:
        points = [
            (line["step"], line[name])
            for line in mine
            if isinstance(line.get(name), int | float) and math.isfinite(line[name])
        ]
        if points:
            steps, values = np.array(points, dtype=np.float64).T
            found.append(Curve(run, name, split, steps, values))
    return found


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that tell all of them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(set(paths)):
            return labels
    return [str(path) for path in paths]


PAPER, INK, MUTED, GRID = "#ffffff", "#1b1f24", "#6a737d", "#e4e7eb"
COLOURS = ("#2563c9", "#d2691e", "#2c8c57", "#8b46b5", "#b0413e", "#12788f", "#8a7a12", "#5d656e")
"""A run each; more runs begin again, with other dashes."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
DOTTED: Any = (0, (1.2, 1.2))
"""Between held-out results: what is between two of them was not measured."""
EVAL_COLOUR = "#d2691e"
"""Of held-out results where there is one run; of several, each has its own colour."""

WIDTH_IN = 9.6
PANEL_IN = 2.25
GAP_IN = 0.72
BOTTOM_IN = 0.46
HEAD_IN = 0.92
LEGEND_IN = 0.24
MAX_LABEL = 60
LOG_SPAN = 20.0
"""A gradient norm that spans more than this is shown on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Style of a curve."""

    colour: str
    dash: Any
    label: str


def plot(folders: Sequence[Path], out: Path, metrics: Sequence[str] = (), dpi: int = 150) -> None:
    """Draw the curves of the runs in `folders` into a PNG at `out`.

    Args:
        folders: Runs, in the order of the legend.
        out: The file.
        metrics: Which metrics; those of `PANELS` if none is named.
        dpi: Pixels an inch.

    Raises:
        DataError: A folder has no metrics.
        ConfigError: No run has a metric that was named, or the file cannot be written.
    """
    curves = read_curves(folders)
    figure = draw(curves, choose(curves, metrics))
    with whole_file(out, "out") as part, warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes, without a warning for each.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(part, format="png", dpi=dpi, facecolor=PAPER)


def draw(curves: Sequence[Curve], metrics: Sequence[str]) -> Figure:
    """The picture as a figure of its own: no state of the plotting library is shared."""
    from matplotlib.figure import Figure

    curves = [curve for curve in curves if curve.metric in metrics]
    looks = _looks(curves)
    columns = 1 if len(metrics) == 1 else 2 if len(metrics) in (2, 4) else 3
    rows = math.ceil(len(metrics) / columns)
    panel_in = PANEL_IN * (1.6 if columns == 1 else 1.25 if columns == 2 else 1.0)
    head_in = HEAD_IN + LEGEND_IN * math.ceil(len(_legend(looks)) / 2)
    height = head_in + panel_in * rows - GAP_IN + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=PAPER)
    grid = figure.add_gridspec(
        rows, columns, left=0.075, right=0.975, top=1.0 - head_in / height,
        bottom=BOTTOM_IN / height, hspace=GAP_IN / (panel_in - GAP_IN), wspace=0.28,
    )  # fmt: skip
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _draw_panel(axes, [curve for curve in curves if curve.metric == metric], looks, metric)
        if place + columns >= len(metrics):
            axes.set_xlabel("step", color=MUTED, fontsize=9, labelpad=2)
    _draw_head(figure, curves, looks, height)
    return figure


def _looks(curves: Sequence[Curve]) -> dict[tuple[str, str], _Look]:
    """Return the style of each run's curves on each split."""
    runs = list(dict.fromkeys(curve.run for curve in curves))
    found = {}
    for curve in curves:
        place = runs.index(curve.run)
        colour = COLOURS[place % len(COLOURS)]
        label = _short(curve.run)
        if len(runs) == 1:
            label = "held out" if curve.split == "eval" else "train"
            colour = EVAL_COLOUR if curve.split == "eval" else colour
        found[curve.run, curve.split] = _Look(colour, DASHES[place // len(COLOURS) % 3], label)
    return found


def _legend(looks: dict[tuple[str, str], _Look]) -> list[tuple[str, _Look]]:
    """Split and look of each entry: one a run, or of a single run one a split."""
    return list(
        {look.label: (split, look) for (_, split), look in reversed(looks.items())}.values()
    )[::-1]


def _draw_panel(
    axes: Axes, curves: list[Curve], looks: dict[tuple[str, str], _Look], metric: str
) -> None:
    _plain(axes)
    title = PANELS.get(metric, _short(metric))
    axes.set_title(
        title, color=INK, fontsize=10, weight="bold", loc="left", pad=7, parse_math=False
    )
    strong = []
    for curve in curves:
        look = looks[curve.run, curve.split]
        strong.append(_draw_curve(axes, curve, look))
    _limit(axes, curves, strong, metric)


def _draw_curve(axes: Axes, curve: Curve, look: _Look) -> Floats:
    """Draw a curve; gives the values of its strong line."""
    if curve.split == "eval":
        style: dict[str, Any] = {"marker": "o", "markersize": 4.0, "linewidth": 1.0}
        style |= {"markeredgecolor": PAPER, "markeredgewidth": 0.6, "zorder": 4}
        axes.plot(curve.steps, curve.values, color=look.colour, linestyle=DOTTED, **style)
        return curve.values
    smooth = _smooth_line(curve)
    if smooth is not None:
        axes.plot(curve.steps, curve.values, color=look.colour, linewidth=0.7, alpha=0.22)
    line = curve.values if smooth is None else smooth
    marker = "o" if len(line) == 1 else ""
    axes.plot(
        curve.steps, line, color=look.colour, linestyle=look.dash, linewidth=1.6, zorder=3,
        marker=marker, markersize=3.6,
    )  # fmt: skip
    return line


def _smooth_line(curve: Curve) -> Floats | None:
    """The curve's smoothed form, if it is drawn in one."""
    return None if curve.split == "eval" or curve.metric == "lr" else curve.smoothed()


def _limit(axes: Axes, curves: list[Curve], strong: list[Floats], metric: str) -> None:
    """All of the strong lines, and of the raw values what is no outlier."""
    raw = np.concatenate([curve.values for curve in curves])
    low, high = np.quantile(raw, [0.01, 0.99])
    lines = np.concatenate(strong)
    low, high = min(low, lines.min()), max(high, lines.max())
    if metric == "grad_norm" and low > 0.0 and high / low > LOG_SPAN:
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        return
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}".replace("-", "−"))


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=8.5)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _draw_head(
    figure: Figure, curves: Sequence[Curve], looks: dict[tuple[str, str], _Look], height: float
) -> None:
    from matplotlib.lines import Line2D

    runs = list(dict.fromkeys(curve.run for curve in curves))
    title = _short(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"
    last = int(max(curve.steps[-1] for curve in curves))
    at: dict[str, Any] = {"va": "top", "parse_math": False}
    figure.text(0.03, 1 - 0.2 / height, title, color=INK, fontsize=14, weight="bold", **at)
    note = count(last, "step")
    if any(_smooth_line(curve) is not None for curve in curves):
        note += "; smoothed over raw values"
    if len(runs) > 1 and any(curve.split == "eval" for curve in curves):
        note += "; dots are held-out results"
    figure.text(0.97, 1 - 0.24 / height, note, color=MUTED, fontsize=9, ha="right", **at)
    handles = [
        Line2D(
            [], [], color=look.colour, label=look.label, linewidth=1.8, markersize=4.5,
            linestyle=DOTTED if split == "eval" else look.dash,
            marker="o" if split == "eval" else "",
        )
        for split, look in _legend(looks)
    ]  # fmt: skip
    legend = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.022, 1 - 0.46 / height), ncols=2,
        frameon=False, fontsize=9, labelcolor=INK, handlelength=2.2, columnspacing=2.0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _short(label: str) -> str:
    """A label of at most `MAX_LABEL` characters, all of them printable; its end tells most."""
    clean = "".join(char if char.isprintable() else " " for char in label)
    return clean if len(clean) <= MAX_LABEL else "…" + clean[1 - MAX_LABEL :]
