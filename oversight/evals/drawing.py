"""Common ground of the report's pictures: two themes, colours by kind, plain axes, safe labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oversight.evals.observations import Kind
from oversight.evals.report import Report
from oversight.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

WIDTH_IN = 9.6
MAX_LABEL = 34
"""Characters of a label that a picture shows; the tables show all of it."""

DASHED = (0, (4, 3))


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    kinds: dict[Kind, tuple[str, str, str, str]]
    """Shades of a kind, for its first, second … arm."""


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1b1f24",
    muted="#6a737d",
    grid="#e4e7eb",
    kinds={
        Kind.DEBATE: ("#2563c9", "#0e9ad6", "#5b4bc4", "#12788f"),
        Kind.CONSULTANCY: ("#d2691e", "#b0413e", "#e0982f", "#8f5a2b"),
        Kind.NAIVE: ("#7d858e", "#a2a9b1", "#5d656e", "#b5bac0"),
        Kind.EXPERT: ("#2c8c57", "#6aa332", "#1f6d5c", "#4f7a3a"),
    },
)

DARK = Theme(
    name="dark",
    paper="#15181d",
    ink="#e9ecf0",
    muted="#98a1ab",
    grid="#2c323a",
    kinds={
        Kind.DEBATE: ("#6ea4ff", "#4cc3f2", "#a698ff", "#4fb9cc"),
        Kind.CONSULTANCY: ("#f2994a", "#ef7f7a", "#f2c14e", "#c99a6b"),
        Kind.NAIVE: ("#a0a8b1", "#7d858e", "#c3c9cf", "#68707a"),
        Kind.EXPERT: ("#5cc98a", "#a4d65e", "#4fb5a0", "#8dbb74"),
    },
)


def colours(report: Report, theme: Theme) -> dict[str, str]:
    """A colour for every arm: the hue tells its kind, the shade which one of that kind."""
    seen: dict[Kind, int] = {}
    found = {}
    for arm in sorted(report.arms, key=lambda arm: arm.label):
        place = seen.get(arm.kind, 0)
        seen[arm.kind] = place + 1
        shades = theme.kinds[arm.kind]
        found[arm.label] = shades[place % len(shades)]
    return found


# --- parts of a picture ------------------------------------------------------------


def title(figure: FigureBase, theme: Theme, text: str, note: str, height: float) -> None:
    """A title with a note below it, at the top left of a figure of `height` inches."""
    top = 1.0 - 0.2 / height
    figure.text(0.03, top, text, color=theme.ink, fontsize=13, weight="bold", va="top")
    figure.text(0.03, top - 0.25 / height, note, color=theme.muted, fontsize=9.5, va="top")


def plain_axes(axes: Axes, theme: Theme, grid: Literal["x", "y", "both"]) -> None:
    """Axes without a frame and ticks, on a light grid."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=theme.muted, labelsize=9)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=theme.grid, linewidth=0.8)


def short(label: str, longest: int = MAX_LABEL) -> str:
    """A label of at most `longest` characters, all of them printable."""
    clean = "".join(char if char.isprintable() else " " for char in label)
    return clean if len(clean) <= longest else clean[: longest - 1].rstrip() + "…"


@contextmanager
def quiet_glyphs() -> Iterator[None]:
    """Draw letters that the font lacks as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def save_png(figure: Figure, path: Path, theme: Theme = LIGHT, dpi: int = 150) -> None:
    """Write a picture.

    Raises:
        FileError: The file cannot be written.
    """
    with whole_file(path, "png") as part, quiet_glyphs():
        figure.savefig(part, format="png", dpi=dpi, facecolor=theme.paper)
