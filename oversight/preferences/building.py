"""From judged debates, and from what people rated in them, to preference rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from oversight.errors import DataError
from oversight.preferences.ratings import rating_preferences, self_critique_preferences
from oversight.preferences.settings import (
    KINDS,
    MODELS,
    PERSONS,
    Dropped,
    PreferenceSettings,
    PromptOf,
    Reason,
)
from oversight.preferences.sides import sibling_preferences, side_preferences, without_unseen
from oversight.registry import nearest
from oversight.types import (
    Preference,
    Transcript,
)
from oversight.types.preferences import SELF_CRITIQUE


def preferences(
    transcripts: Iterable[Transcript],
    settings: PreferenceSettings,
    prompt_of: PromptOf,
    dropped: Dropped | None = None,
) -> Iterator[Preference]:
    """Preference rows of `transcripts`, one transcript at a time, each row once.

    Args:
        transcripts: Judged debates, as `Store.transcripts()` gives them.
        settings: Which rows to make.
        prompt_of: The stored prompt of an id, as `Store.prompt` gives it.
        dropped: Counts what did not become a row, if given.

    Raises:
        DataError: `settings.kinds` names a task from outside the package, and nothing was rated
            in it; or `settings.rater_weights` names a rater who rated nothing.
    """
    counts = Dropped() if dropped is None else dropped
    seen: set[str] = set()
    names: set[str] = set()
    rated: set[str] = set()
    for transcript in transcripts:
        rated |= {rating.task for rating in transcript.ratings if rating.task not in KINDS}
        names |= {rating.judge for rating in transcript.ratings}
        read = (
            transcript if settings.unseen else without_unseen(transcript, counts, settings.judges)
        )
        for row in _of_one(read, settings, prompt_of, counts):
            if row.id in seen:
                counts.add(Reason.DUPLICATE)
                continue
            seen.add(row.id)
            yield row
    for name in settings.rater_weights:
        if name not in {PERSONS, MODELS, *names}:
            raise DataError(
                f"rater_weights = {name!r}: nobody of that name has rated anything."
                + nearest(name, {PERSONS, MODELS, *names})
            )
    for name in settings.own_tasks:
        if name not in rated:
            there = f"; tasks of your own there: {', '.join(sorted(rated))}" if rated else ""
            raise DataError(
                f"kinds = {name!r}: nothing was rated in a task of that name{there}. Accepted: "
                f"{', '.join(KINDS)}, and tasks of your own that something was rated in"
            )


def rows_of(
    transcripts: Iterable[Transcript],
    prompt_of: PromptOf,
    *,
    dropped: Dropped | None = None,
    **settings: Any,
) -> list[Preference]:
    """Preference rows of `transcripts` in a list; `settings` as of `PreferenceSettings`.

    Raises:
        ConfigError: A setting is wrong.
        DataError: As of `preferences`.
    """
    chosen = PreferenceSettings.parse(settings)
    return list(preferences(transcripts, chosen, prompt_of, dropped))


def _of_one(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    if "sides" in settings.kinds:
        yield from side_preferences(transcript, settings, prompt_of, dropped)
    if "siblings" in settings.kinds:
        yield from sibling_preferences(transcript, settings, prompt_of, dropped)
    if SELF_CRITIQUE in settings.kinds:
        yield from self_critique_preferences(transcript, settings, prompt_of, dropped)
    yield from rating_preferences(transcript, settings, prompt_of, dropped)
