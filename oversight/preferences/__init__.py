"""From judgments to preference rows, and their export.

Called, the package makes rows: `oversight.preferences(debates, min_margin=0.1)`, of debates that
`oversight.debate` gave, with the settings of `PreferenceSettings`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from oversight.types import Preference, PromptRecord, Transcript


class WithPrompts(Protocol):
    """Transcripts that know the prompts that were sent in them."""

    def __iter__(self) -> Iterator[Transcript]: ...

    def prompt(self, prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        """A prompt as it was sent."""
        ...


class _Package(ModuleType):
    """This package, which can be called."""

    def __call__(self, transcripts: WithPrompts, **settings: Any) -> list[Preference]:
        """Preference rows of transcripts. Raises as `building.rows_of`."""
        from oversight.preferences.building import rows_of

        return rows_of(transcripts, transcripts.prompt, **settings)


sys.modules[__name__].__class__ = _Package
