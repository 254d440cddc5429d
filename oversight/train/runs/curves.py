"""Course of training runs: each metric's first, last and best value, and its curve.

Curves are one PNG with a small picture for each metric, one run beside others.
Raw values are faint, their smoothed form is strong; held-out results are dots. Losses of different
trainers or with different options measure different things, as do rewards from different sources:
each kind has a picture of its own. Text from outside is drawn as it is, never as mathematics.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError, DataError
from oversight.files import whole_file
from oversight.registry import nearest
from oversight.text.numbers import count
from oversight.train.experience_settings import REWARD_SETTINGS
from oversight.train.runs.metrics import FIXED, NAME, REWARD_PART, parts_of_reward, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST: dict[str, Any] = {"loss": min, "nll": min, "perplexity": min, "accuracy": max, "reward": max}
"""Metrics of which one value is better than another, and which of two that is."""
AIMLESS = {"ppo": {"loss"}, "grpo": {"loss"}, "reward": {"reward"}}
"""Of these by trainer none is better: a policy's loss changes its data with the policy, and the
rewards of a reward model have no zero."""
TOLD = ("nll", "loss", "accuracy", "reward", "kl", "entropy", "response_length")
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
        parts = parts_of_reward(name for line in lines for name in line)
        for name in (each for known in TOLD for each in (known, *parts * (known == "reward"))):
            series = [
                (line["step"], line[name])
                for line in lines
                if line["split"] == split and line.get(name) is not None
            ]
            if series:
                yield f"{where}{name}", *summary(name, series, trainer)


def summary(name: str, series: list[tuple[int, float]], trainer: str) -> tuple[str, str, str, str]:
    """First, last and best value and the best one's step; dashes where none is better."""
    first, last = f"{series[0][1]:.4g}", f"{series[-1][1]:.4g}"
    pick = None if name in AIMLESS.get(trainer, ()) else BEST.get(name)
    if pick is None:
        return first, last, "–", "–"
    step, best = pick(series, key=lambda item: item[1])
    return first, last, f"{best:.4g}", str(step)


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
ALIKE = frozenset({"lr", "grad_norm", "kl", "entropy", "response_length", "nll", "perplexity"})
"""Metrics that mean the same whichever trainer and loss they come from."""
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
    objective: str = ""
    """The loss or source of reward that it measures, in words; empty where runs do not differ."""

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
        lines, objectives = read_metrics(folder), _objectives(folder)
        found = [
            curve
            for split in ("train", "eval")
            for curve in _curves(lines, label, split, objectives)
        ]
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
    if wanted:
        return list(wanted)
    parts = parts_of_reward(there)
    known = (each for name in PANELS for each in (name, *parts * (name == "reward")))
    return [name for name in known if name in there] or there


def panels(curves: Sequence[Curve], metrics: Sequence[str]) -> list[tuple[str, str, list[Curve]]]:
    """Metric, title and curves of each picture; no two curves in one measure different things."""
    found = []
    for metric in metrics:
        mine = [curve for curve in curves if curve.metric == metric]
        objectives = list(dict.fromkeys(curve.objective for curve in mine))
        for objective in objectives:
            title = PANELS.get(metric, metric)
            if len(objectives) > 1:
                title += f": {objective or 'of what is not known'}"
            found.append((metric, title, [c for c in mine if c.objective == objective]))
    return found


def _objectives(folder: Path) -> tuple[str, str]:
    """The loss and the source of reward of a run, in words; empty where that is not known."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        trainer, config = str(about["trainer"]), dict(about["config"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "", ""
    given = config.get("options")
    options = sorted(given.items()) if isinstance(given, dict) else []
    words = [trainer, str(config.get("loss", ""))]
    words += [f"{name} {value}" for name, value in options if value is not None]
    loss = ", ".join(filter(None, words))
    reward = config.get("reward")
    # Sampled responses are scored by a source of reward; elsewhere the loss says what one is.
    source = _source(reward) if isinstance(reward, dict) else loss
    return loss, source


def _source(reward: Mapping[str, Any]) -> str:
    """A source of reward in words, from all of its settings that are read."""
    if parts := reward.get("parts"):
        return " + ".join(f"{each['weight']:g} × {_source(each)}" for each in parts.values())
    source = str(reward.get("source"))
    given = {name: reward.get(name) for name in REWARD_SETTINGS.get(source, ())}
    return ", ".join([source, *(f"{name} {value}" for name, value in given.items() if value)])


def _curves(
    lines: list[dict[str, Any]], run: str, split: str, objectives: tuple[str, str]
) -> list[Curve]:
    loss, source = objectives
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
            of_reward = name in ("reward", "reward_std") or name.startswith(REWARD_PART)
            objective = "" if name in ALIKE else source if of_reward else loss
            found.append(Curve(run, name, split, steps, values, objective))
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
MAX_TITLE = 38
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
    shown = panels(curves, metrics)
    columns = 1 if len(shown) == 1 else 2 if len(shown) in (2, 4) else 3
    rows = math.ceil(len(shown) / columns)
    panel_in = PANEL_IN * (1.6 if columns == 1 else 1.25 if columns == 2 else 1.0)
    head_in = HEAD_IN + LEGEND_IN * math.ceil(len(_legend(looks)) / 2)
    height = head_in + panel_in * rows - GAP_IN + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=PAPER)
    grid = figure.add_gridspec(
        rows, columns, left=0.075, right=0.975, top=1.0 - head_in / height,
        bottom=BOTTOM_IN / height, hspace=GAP_IN / (panel_in - GAP_IN), wspace=0.28,
    )  # fmt: skip
    for place, (metric, title, mine) in enumerate(shown):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _draw_panel(axes, mine, looks, metric, title if columns == 1 else _fitting(title))
        if place + columns >= len(shown):
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
    axes: Axes,
    curves: list[Curve],
    looks: dict[tuple[str, str], _Look],
    metric: str,
    title: str,
) -> None:
    _plain(axes)
    axes.set_title(
        _short(title), color=INK, fontsize=10, weight="bold", loc="left", pad=7, parse_math=False
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


def _fitting(title: str) -> str:
    """A title that may stand over one of several pictures; its beginning tells most."""
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def _short(label: str) -> str:
    """A label of at most `MAX_LABEL` characters, all of them printable; its end tells most."""
    clean = "".join(char if char.isprintable() else " " for char in label)
    return clean if len(clean) <= MAX_LABEL else "…" + clean[1 - MAX_LABEL :]
