"""NYU debates: questions that people and GPT-4 debated over QuALITY stories (Michael et al. 2023).

Reads the folder `debates/` of debate records, one JSON file a debate (CC-BY 4.0; "Debate Helps
Supervise Unreliable Experts", arXiv:2311.08702; https://github.com/julianmichael/debate, branch
2023-nyu-experiments, folder pub/). Only the question, its two answers and the story are taken;
`_tokens.detokenise` turns the records' quote spans into spans of the source text made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from oversight.config import Settings
from oversight.datasets.base import (
    CLUSTER,
    BadRow,
    QuestionRow,
    locate,
    parse_object,
    parse_record,
    question_row,
    read_bytes,
)
from oversight.errors import ConfigError
from oversight.ids import content_id
from oversight.types import Source

SURFACE = {
    "-LSB-": "[",
    "-RSB-": "]",
    "-LRB-": "(",
    "-RRB-": ")",
    "-LCB-": "{",
    "-RCB-": "}",
    "``": '"',
    "''": '"',
    "`": "'",
}
"""Text of tokens that stand for a character."""

CLOSING = {".", ",", ";", ":", "?", "!", "...", "%", "°", ")", "]", "}", "-RSB-", "-RRB-", "-RCB-"}
END_QUOTES = {"''", "'", "'''"}
CLITICS = {"n't", "'s", "'m", "'d", "'ll", "'re", "'ve"}
TIGHT_LEFT = frozenset(CLOSING | END_QUOTES | CLITICS | {clitic.upper() for clitic in CLITICS})
"""Tokens that join the word before them."""

TIGHT_RIGHT = frozenset(["``", "`", "$", "£", "#", "-LSB-", "-LRB-", "-LCB-", "(", "[", "{"])
"""Tokens that the next word joins."""

CLIPPED = frozenset([("gon", "na"), ("wan", "na"), ("got", "ta"), ("'t", "is"), ("'t", "was")])
"""Pairs that the tokeniser cut in two without leaving a mark."""
LONGEST_END = max(len(end) for _, end in CLIPPED)


@dataclass(frozen=True, slots=True)
class TokenText:
    """Running text, and where each token stands in it."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """For each token its characters in `text`, end exclusive."""

    def characters(self, start: int, end: int) -> tuple[int, int]:
        """Characters of the tokens from `start` to `end` (exclusive), as human quotes give them.

        Raises:
            IndexError: The span holds no token, or tokens that are not there.
        """
        if not 0 <= start < end <= len(self.spans):
            raise IndexError(f"span [{start}, {end}) of {len(self.spans)} tokens")
        return self.spans[start][0], self.spans[end - 1][1]


def detokenise(tokens: Sequence[str]) -> TokenText:
    """The text that `tokens` were cut from, as far as they tell: spaces and quote marks restored.

    Line breaks stand as tokens of their own and are kept.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    before = "\n"
    joins = True  # no space stands before a token
    for token in tokens:
        surface = SURFACE.get(token, token)
        if not (joins or token in TIGHT_LEFT or token.isspace() or not token) and (
            len(token) > LONGEST_END or (before.lower(), token.lower()) not in CLIPPED
        ):
            pieces.append(" ")
            length += 1
        pieces.append(surface)
        end = length + len(surface)
        spans.append((length, end))
        length, before = end, token
        joins = token in TIGHT_RIGHT or token.isspace()
    return TokenText("".join(pieces), tuple(spans))


USUAL_PLACE = "nyu-debates"
WHERE_TO_GET = (
    "It is the folder pub/ of https://github.com/julianmichael/debate, branch 2023-nyu-experiments."
)


class Config(Settings):
    """Settings of the NYU debates: their folder, and what makes a row."""

    path: str = ""
    """The folder with the debate files, or the one above it; empty: where shared data lies."""
    per: Literal["debate", "question"] = "debate"
    """One row for each debate, or for each distinct question with its pair of answers."""


class _Story(BaseModel):
    article_id: str = Field(alias="articleId", min_length=1)
    title: str
    contents: list[str]


class _Material(BaseModel):
    story: _Story = Field(alias="QuALITYSourceMaterial")


class _Setup(BaseModel):
    material: _Material = Field(alias="sourceMaterial")
    question: str
    answers: list[str]
    correct: int = Field(alias="correctAnswerIndex")


class _Debate(BaseModel):
    setup: _Setup

    @property
    def question_id(self) -> str:
        """The same for debates about one question and pair of answers, in either order."""
        setup = self.setup
        return question_key(setup.material.story.article_id, setup.question, setup.answers)


def question_key(article: str, question: str, answers: Sequence[str]) -> str:
    """Id of a question with its answers in any order: debates about it are one cluster."""
    key = content_id(article, question.strip(), sorted(answer.strip() for answer in answers))
    return f"nyu:{key[:16]}"


def rows(config: Config) -> Iterator[QuestionRow | BadRow]:
    """Every debate, or every distinct question, in the order of the file names.

    Raises:
        ConfigError: There is no such folder.
    """
    files = _files(locate(config.path, USUAL_PLACE, WHERE_TO_GET))
    return _per_debate(files) if config.per == "debate" else _per_question(files)


def _files(folder: Path) -> list[Path]:
    inner = folder / "debates"
    files = sorted((inner if inner.is_dir() else folder).glob("*.json"))
    if not files:
        raise ConfigError(
            f"dataset.settings.path = {str(folder)!r}: no debate files (*.json) there or in its"
            f" folder 'debates'. {WHERE_TO_GET}"
        )
    return files


class _Reader:
    """Reads debate files; debates over one story share one source in memory."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def debate(self, file: Path) -> _Debate | BadRow:
        value = parse_object(read_bytes(file), str(file), None)
        return value if isinstance(value, BadRow) else parse_record(_Debate, value, str(file), None)

    def row(
        self, file: Path, debate: _Debate, name: str, debates: list[str]
    ) -> QuestionRow | BadRow:
        setup = debate.setup
        source = self._source(setup.material.story)
        if source is None:
            return BadRow(str(file), None, "setup.sourceMaterial: the story is empty", name)
        meta: dict[str, Any] = {
            CLUSTER: debate.question_id,
            "article": setup.material.story.article_id,
            "debates": debates,
        }
        return question_row(
            str(file),
            None,
            id=name,
            dataset="nyu",
            text=setup.question.strip(),
            options=[{"text": answer.strip()} for answer in setup.answers],
            correct=setup.correct,
            source=source,
            meta=meta,
        )

    def _source(self, story: _Story) -> Source | None:
        text = detokenise(story.contents).text
        if not text.strip():
            return None
        source = Source(title=story.title, text=text)
        return self.sources.setdefault(source.id, source)


def _per_debate(files: list[Path]) -> Iterator[QuestionRow | BadRow]:
    reader = _Reader()
    for file in files:
        debate = reader.debate(file)
        if isinstance(debate, BadRow):
            yield debate
        else:
            yield reader.row(file, debate, f"nyu:{file.stem}", [file.name])


def _per_question(files: list[Path]) -> Iterator[QuestionRow | BadRow]:
    """All files are read before the first row is out: a row names every debate on its question."""
    reader = _Reader()
    first: dict[str, tuple[Path, _Debate]] = {}
    debates: dict[str, list[str]] = {}
    for file in files:
        debate = reader.debate(file)
        if isinstance(debate, BadRow):
            yield debate
            continue
        first.setdefault(debate.question_id, (file, debate))
        debates.setdefault(debate.question_id, []).append(file.name)
    for name, (file, debate) in first.items():
        yield reader.row(file, debate, name, debates[name])
