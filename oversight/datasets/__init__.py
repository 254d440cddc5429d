"""Data sets: one format a file. The file's name is the registered name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oversight.datasets.base import LoadedQuestions


def load(
    dataset: str,
    *,
    limit: int | None = None,
    split: str | None = None,
    shuffle: bool = False,
    skip_bad: bool = False,
    seed: int = 0,
    **settings: Any,
) -> LoadedQuestions:
    """The questions of a data set, all of them checked.

    Args:
        dataset: Its name (`oversight datasets` lists them), the path of a .jsonl file, or a class
            of one's own as "file.py:Class".
        limit: At most so many questions.
        split: Only questions of this split.
        shuffle: Take a seeded sample in place of the first questions.
        skip_bad: Go on without rows that cannot be used; they are listed in the result.
        seed: Of the sample.
        **settings: The data set's own settings.

    Raises:
        DataError: Rows cannot be used (the message lists them), or no question is left.
        ConfigError: A setting is wrong, or a file is not there.
        UnknownNameError: There is no such data set.
    """
    from oversight.config import DatasetSettings
    from oversight.datasets.base import load_questions

    given = {"dataset": dataset, "limit": limit, "split": split, "shuffle": shuffle}
    spec = DatasetSettings.parse({**given, "skip_bad": skip_bad, "settings": settings})
    return load_questions(spec, seed=seed)
