"""Pictures of what the judge uses: where the difference is, which heads carry it, and how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oversight.evals.drawing import LIGHT, plain_axes, save_png, title
from oversight.interp.circuits import CircuitReport, GroupPlace

Paths = Mapping[tuple[GroupPlace, GroupPlace | None], float]
TINTS = [kind[0] for kind in LIGHT.kinds.values()]
LEAST = 0.03
"""Share under which a path is not drawn."""


def draw_places(maps: Mapping[str, Any], groups: Sequence[str], path: Path) -> None:
    """Shares that the stream brings back, layer by group of tokens, for each thing."""
    from matplotlib.figure import Figure

    height = 1.6 + 1.75 * len(maps)
    figure = Figure((9.6, height))
    note = "share of the answer's difference that the stream brings back at each group of tokens"
    title(figure, LIGHT, "Where the difference is", note, height)
    every = figure.subplots(len(maps), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, found) in zip(every, maps.items(), strict=True):
        axes.imshow(found, aspect="auto", cmap="RdBu", vmin=-1.3, vmax=1.3, origin="lower")
        for layer, row in enumerate(found):
            for k, value in enumerate(row):
                if abs(value) >= 0.05:
                    axes.text(
                        k, layer, f"{value:.2f}".replace("-", "−"), ha="center", va="center",
                        fontsize=7, color="white" if abs(value) > 0.8 else LIGHT.ink,
                    )  # fmt: skip
        plain_axes(axes, LIGHT, "x")
        axes.grid(visible=False)
        axes.set_yticks(range(len(found)), [f"layer {layer}" for layer in range(len(found))])
        axes.set_ylabel(name, color=LIGHT.ink)
    every[-1].set_xticks(range(len(groups)), groups, rotation=50, ha="right", fontsize=8)
    figure.subplots_adjust(0.11, 1.05 / height, 0.985, 1.0 - 0.75 / height, hspace=0.12)
    save_png(figure, path)


def draw_circuits(
    every_one: Mapping[str, CircuitReport], paths: Mapping[str, Paths], path: Path
) -> None:
    """Chosen heads by layer and group of tokens, and what goes from one to another, of what is
    claimed; of all where nothing is."""
    from matplotlib.figure import Figure

    circuits = {name: each for name, each in every_one.items() if each.claims} or every_one
    height = 5.2
    widths = [0.9 + len({p.group for p in each.places}) for each in circuits.values()]
    figure = Figure((max(1.15 * sum(widths) + 1.0, 9.6), height))
    note = (
        "LAYER.HEAD with the share it brings back alone; an arrow's width is what goes that way "
        "alone (orange: against)"
    )
    title(figure, LIGHT, "Heads that carry it, and paths between them", note, height)
    ratios = {"width_ratios": widths}
    every = figure.subplots(1, len(circuits), squeeze=False, gridspec_kw=ratios)[0]
    num_layers = 1 + max(p.site.layer for each in circuits.values() for p in each.places)
    top = num_layers + 0.1
    for number, (axes, (name, report)) in enumerate(zip(every, circuits.items(), strict=True)):
        groups = sorted({place.group for place in report.places}, key=_order)
        at: dict[GroupPlace | None, tuple[float, float]] = {None: (len(groups) - 1.0, top)}
        for column, group in enumerate(groups):
            for layer in range(num_layers):
                here = [p for p in report.places if p.group == group and p.site.layer == layer]
                for k, place in enumerate(here):
                    # Layers stand a little beside each other, so that arrows are seen.
                    beside = 0.34 * (k - (len(here) - 1) / 2) + 0.14 * (layer % 2 * 2 - 1)
                    at[place] = column + beside, layer
        for (sender, receiver), value in paths[name].items():
            if abs(value) >= LEAST:
                axes.annotate(
                    "", xy=at[receiver], xytext=at[sender],
                    arrowprops={
                        "arrowstyle": "-|>", "lw": min(0.8 + 9 * abs(value), 7.0), "alpha": 0.6,
                        "color": TINTS[0] if value > 0 else TINTS[1],
                        "shrinkA": 15, "shrinkB": 15, "connectionstyle": "arc3,rad=0.08",
                        "mutation_scale": 9,
                    },
                )  # fmt: skip
        for node, (x, y) in at.items():
            text = "answer" if node is None else f"{node.site.layer}.{node.head}"
            alone = "" if node is None else f"\n{report.alone[node].value:.2f}".replace("-", "−")
            axes.text(
                x, y, text + alone, ha="center", va="center", fontsize=8, color=LIGHT.ink,
                bbox={"boxstyle": "round,pad=0.35", "fc": LIGHT.paper, "ec": LIGHT.muted},
            )  # fmt: skip
        plain_axes(axes, LIGHT, "y")
        axes.set_xlim(-0.7, len(groups) - 0.3)
        axes.set_ylim(-0.5, top + 0.4)
        axes.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize=8)
        layers = [f"layer {layer}" for layer in range(num_layers)]
        axes.set_yticks(range(num_layers), layers if number == 0 else [""] * num_layers)
        claimed = "" if report.claims else " (not claimed)"
        axes.set_title(f"{name}{claimed}", color=LIGHT.ink, fontsize=10)
    figure.subplots_adjust(0.08, 0.95 / height, 0.99, 1.0 - 1.05 / height, 0.06)
    save_png(figure, path)


def _order(group: str) -> tuple[bool, str]:
    return group == "answer", group


def draw_shares(
    circuits: Mapping[str, CircuitReport],
    untrained: Sequence[CircuitReport],
    attacks: Mapping[str, Any],
    path: Path,
) -> None:
    """Share of the found heads beside random ones, in each thing and in the attacks."""
    from matplotlib.figure import Figure

    rows = [(name, each.share, each.random) for name, each in circuits.items()]
    for name, each in attacks.items():
        rows.append((f"attacks, heads of {name}", each["share"], each["random"]))
    height = 1.9 + 0.42 * len(rows)
    figure = Figure((7.6, height))
    claims = sum(each.claims for each in untrained)
    note = (
        "on questions that they were not chosen on; "
        f"claimed of untrained models: {claims} of {len(untrained)}"
    )
    title(figure, LIGHT, "Share that the found heads bring back", note, height)
    axes = figure.subplots()
    for k, (_, found, random) in enumerate(rows):
        said = "as many other heads at the same tokens" if k == 0 else None
        axes.plot(random, [k] * len(random), "|", ms=9, color=LIGHT.muted, label=said)
        ends = [
            [found.value - (found.low or found.value)],
            [(found.high or found.value) - found.value],
        ]
        said = "found by attribution, 95 % interval" if k == 0 else None
        axes.errorbar(found.value, k, xerr=ends, fmt="o", ms=5, color=TINTS[0], label=said)
    plain_axes(axes, LIGHT, "x")
    axes.axvline(0.0, color=LIGHT.muted, lw=0.8)
    axes.axvline(1.0, color=LIGHT.muted, lw=0.8, ls=":")
    low = min(0.0, *(float(np.min(random)) for _, _, random in rows))
    axes.set_xlim(max(low - 0.1, -1.0), 1.6)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0.0, -0.5 / height), ncols=2, fontsize=8, frameon=False
    )
    figure.subplots_adjust(0.25, 0.85 / height, 0.98, 1.0 - 0.75 / height)
    save_png(figure, path)
