"""NYU debates: people and GPT-4 debating over QuALITY stories, judged by people turn by turn.

Reads the folder `debates/` of debate records, one JSON file a debate, and the lines of
`debates-metadata.jsonl` beside it (CC-BY 4.0; "Debate Helps Supervise Unreliable Experts",
arXiv:2311.08702; https://github.com/julianmichael/debate, branch 2023-nyu-experiments,
folder pub/).

A quote is a span of the story's tokens and becomes a verified quote of its text. The consultant
sits at A, whichever answer they defend. Everything that no record has a place for (times, rules,
votes to end, scratchpads, the metadata) stands in the question's `meta` under `nyu`, so that
`write` gives the very files back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut, parse_object, reason
from oversight.datasets.nyu import WHERE_TO_GET
from oversight.errors import ConfigError
from oversight.files import whole_file
from oversight.interop.base import ImportedDebate, ImportItem, UnusableItem, lines_of
from oversight.interop.nyu import files
from oversight.interop.nyu.files import restored, story_text
from oversight.interop.nyu.records import KEPT, SURVEY, FileRecords, material_of, survey_of
from oversight.types import Act, OwnAnswer, Transcript


class Config(Settings):
    """Settings of an import of NYU debates."""

    metadata: str = ""
    """Path of the metadata; empty: `debates-metadata.jsonl` beside the debates or their folder."""
    debates: Literal["all", "complete", "paper"] = "all"
    """All of them, those that came to an end, or those that the paper's figures are made of."""


METADATA = "debates-metadata.jsonl"


def count(path: Path, config: Config) -> int:
    """The number of debate files."""
    return len(_files(path))


def read(path: Path, config: Config) -> Iterator[ImportItem]:
    """The debates of a folder, in the order of the files' names, or that of one file."""
    told: dict[str, dict[str, Any]] = {}
    for number, line in _metadata_lines(path, config):
        if isinstance(line, BadRow):
            yield line
        elif not isinstance(line.get("name"), str):
            yield BadRow(str(_metadata_place(path, config)), number, "key 'name' is missing")
        else:
            told[line["name"]] = line
    for file in _files(path):
        yield _item(file, told.pop(file.stem, None), config)
    if path.is_dir():
        yield from (LeftOut("named in the metadata, without a file") for _ in told)


def _files(path: Path) -> list[Path]:
    """The debate files of a folder, or the one file.

    Raises:
        ConfigError: The folder has none.
    """
    if not path.is_dir():
        return [path]
    inner = path / "debates"
    found = sorted((inner if inner.is_dir() else path).glob("*.json"))
    if not found:
        raise ConfigError(
            f"PATH = {str(path)!r}: no debate files (*.json) there or in its folder 'debates'. "
            f"{WHERE_TO_GET}"
        )
    return found


def _metadata_place(path: Path, config: Config) -> Path | None:
    """The file of the metadata, if there is one.

    Raises:
        ConfigError: The one that was named is not there.
    """
    if config.metadata:
        named = Path(config.metadata).expanduser()
        if not named.is_file():
            raise ConfigError(f"metadata = {config.metadata!r}: there is no such file")
        return named
    folder = path if path.is_dir() else path.parent
    near = (each / METADATA for each in (folder, folder.parent))
    return next((each for each in near if each.is_file()), None)


def _metadata_lines(path: Path, config: Config) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    place = _metadata_place(path, config)
    return iter(()) if place is None else lines_of(place, "the study's authors")


def _item(file: Path, told: dict[str, Any] | None, config: Config) -> ImportItem:
    """One debate, or why it is not imported."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return BadRow(str(file), None, f"not readable as a file ({error.strerror or error})")
    value = parse_object(data, str(file), None)
    if isinstance(value, BadRow):
        return value
    try:
        given = files.DebateFile.model_validate(value)
        known = None if told is None else files.Metadata.model_validate(told)
        reading = FileRecords(file, value, told, given, known)
        if config.debates == "paper" and not (known and known.in_paper):
            return LeftOut("not in the paper's figures")
        if config.debates == "complete" and not reading.is_complete:
            return LeftOut("did not come to an end")
        return ImportedDebate(str(file), reading.debate.id, tuple(reading.records()))
    except ValidationError as error:
        return BadRow(str(file), None, reason(error, files.DebateFile), file.stem)
    except UnusableItem as error:
        return BadRow(str(file), None, str(error), file.stem)


def write(transcripts: Iterable[Transcript], path: Path, config: Config) -> Iterator[LeftOut]:
    """Write debates that came from such files back: a folder `debates/`, and the metadata."""
    folder = path / "debates"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path / METADATA, "OUT") as part, part.open("w", encoding="utf-8") as lines:
        for transcript in transcripts:
            name = transcript.question.id.removeprefix("nyu:")
            kept = transcript.question.meta.get(KEPT)
            if not isinstance(kept, dict) or not _is_plain(name):
                yield LeftOut("did not come from an NYU file")
                continue
            try:
                text = _compact(_filled(transcript, kept))
            except (LookupError, TypeError, ValueError, AttributeError):
                yield LeftOut("what was kept of its file is not as the import wrote it")
                continue
            with whole_file(folder / f"{name}.json", "OUT") as file:
                file.write_text(text, encoding="utf-8")
            if kept.get("metadata") is not None:
                lines.write(_compact(kept["metadata"]) + "\n")


def _is_plain(name: str) -> bool:
    """True if a name leads nowhere else as the name of a file."""
    return bool(name) and not name.startswith(".") and Path(name).name == name and "\\" not in name


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _filled(transcript: Transcript, kept: dict[str, Any]) -> dict[str, Any]:
    """A file again: what stands in the rest, with story, speeches and survey put back."""
    value: dict[str, Any] = json.loads(json.dumps(kept["file"]))
    material, source = material_of(value), transcript.question.source
    if source is None:
        raise ValueError("the question has no story")
    if isinstance(material["contents"], dict):
        material["contents"] = restored(source.text, material["contents"]["splices"])
    story = story_text(source.title, tuple(material["contents"]))
    turns = (turn for turn in transcript.turns if turn.act is Act.SPEAK)
    speeches = iter(sorted(turns, key=lambda turn: (turn.step, turn.seat)))
    for [body] in (each.values() for each in value["rounds"]):
        for _, speech in sorted(body.get("speeches", {}).items()):
            turn = next(speeches)
            if "content" not in speech:
                speech["content"] = story.segments(turn.text, turn.quotes)
    if isinstance(value.get("feedback"), list):
        answers = {
            each.judge: survey_of(each.answer.fields)
            for each in transcript.ratings
            if isinstance(each.answer, OwnAnswer) and each.answer.task == SURVEY
        }
        value["feedback"] = {name: answers[name] for name in value["feedback"]}
    return value
