"""Models that ship with the package: folders of weights, each with its tokenizer and card.

`resolve("seedling")` gives the folder; engines and trainers take the bare name. A model of one's
own that has the same name is given as a path: `./seedling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEEDLING = "seedling"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model in this folder."""

    name: str
    description: str

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return Path(__file__).parent / self.name


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            SEEDLING,
            "A tiny language model of ours that debates, consults, judges, criticises and revises "
            "on plainly told generated questions.",
        ),
    )
}


def resolve(name: str) -> str:
    """The folder of an embedded model; any other name or path as it is."""
    model = EMBEDDED.get(name)
    return name if model is None else str(model.folder)
