"""The pixel debate (Irving, Christiano and Amodei 2018, arXiv:1805.00899): debate about an image.

The judge is a classifier that sees a few pixels of an image. Two players see all of it: the
honest one claims its true label, the liar another one; they show one pixel each in turn, and the
judge says which of the two labels is likelier.

The settings of a run stand here.

| file | what it is |
|---|---|
| `judge.py` | images, digits or MNIST, split by a seed; the sparse classifier of a few pixels |
| `game.py` | rules, matches, exact minimax where possible; a game from commitment to verdict |
| `running.py` | every match on every image, as records; what the store holds stays as it is |
| `results.py` | the table, with intervals clustered by image, beside the paper's figures |
| `pictures.py` | the pictures and the page |
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from oversight.config import RunLabels, Settings


class JudgeSettings(Settings):
    """Settings of the sparse classifier's training."""

    hidden: int = Field(default=64, ge=1, le=4096)
    """Width of both hidden layers."""
    steps: int = Field(default=4000, ge=1)
    batch: int = Field(default=256, ge=1)
    """Images a step, each with pixels drawn anew."""
    rate: float = Field(default=2e-3, gt=0.0)
    """Learning rate of AdamW at the start; it falls to zero along a cosine."""


class PixelSettings(RunLabels):
    """A run: every match on some held-out images, for each number of pixels."""

    incidental: ClassVar[frozenset[str]] = frozenset({"out", "store", "run", "tags"})

    pixels: tuple[int, ...] = Field(default=(4, 6), min_length=1)
    """Numbers of pixels that the judge sees, both players together: even, from 2 to 8."""
    images: int = Field(default=150, ge=2)
    """Number of held-out images that are played on."""
    seed: int = 0
    """Of the split, the judge's training and every draw."""
    mnist: Path | None = None
    """Folder with MNIST's four IDX files, plain or .gz; scikit-learn's digits where not given."""
    out: Path = Path("pixels")
    """Folder of the judges, the pictures, the page and the table."""
    store: str | None = None
    """Path or URL of the games' store; games.db in `out` where not given."""
    judge: JudgeSettings = JudgeSettings()

    @field_validator("pixels")
    @classmethod
    def _even(cls, pixels: tuple[int, ...]) -> tuple[int, ...]:
        for number in pixels:
            if number not in (2, 4, 6, 8):
                raise ValueError(f"{number} is not 2, 4, 6 or 8: both players show as many")
        if len(set(pixels)) < len(pixels):
            raise ValueError("a number of pixels is named twice")
        return pixels

    @property
    def store_url(self) -> str:
        """Path or URL of the store of games."""
        return self.store if self.store is not None else str(self.out / "games.db")
