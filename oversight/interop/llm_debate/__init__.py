"""llm_debate: transcripts of debates and consultancies between models, and judgments on them.

Reads what https://github.com/ucl-dark/llm_debate writes (Khan et al. 2024, "Debating with More
Persuasive LLMs Leads to More Truthful Answers", arXiv:2402.06782): a transcript object as `.json`,
one a line as `.jsonl`, or `.csv` with a column `transcript`, both of its pipeline and of the human
trial's data set; or a folder of such files.

Option 0 is the right answer, and the seats are the positions that the judge saw: A argues for it
unless `swap`. The whole row stands in the question's `meta` under `llm_debate`, without the story,
so that `write` gives it back, one a line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut, parse_object, reason
from oversight.errors import ConfigError
from oversight.files import whole_file
from oversight.interop.base import ImportedDebate, ImportItem, UnusableItem, lines_of
from oversight.interop.llm_debate.records import KEPT, GivenTranscript, LlmDebateRow, RowRecords
from oversight.types import Transcript


class Config(Settings):
    """Settings of an import of llm_debate's transcripts."""

    worst_argument: bool = False
    """Also rows of experiments 2, 3 and 5_v0 with swap: a fault chose the worst argument there."""
    incomplete: bool = False
    """Also rows whose column `complete` says that they are not."""
    judge: str = ""
    """Name of the judge of `answer_judge`; empty: the folder's that a judgment file lies in."""


_EXPERIMENT = re.compile(r"(\d+)(?:[_ -]?(v\d+))?", re.IGNORECASE)
FIELD_CHARS = 1 << 26
"""Characters of a field of CSV that are read: csv stops at 131,072, and stories are longer."""
LEGACY = frozenset({"ans1", "ans2", "ansA", "ansB", "name1", "name2"})
"""Keys of transcripts of before the sides were called correct and incorrect."""
ENDINGS = (".json", ".jsonl", ".csv")


def read(path: Path, config: Config) -> Iterator[ImportItem]:
    """The debates of a file, or of a folder's files in the order of their names."""
    files = [path]
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in ENDINGS)
        if not files:
            raise ConfigError(f"PATH = {str(path)!r}: no file there ends in {', '.join(ENDINGS)}")
    elif path.suffix not in ENDINGS:
        raise ConfigError(
            f"PATH = {str(path)!r}: a file of this format ends in {', '.join(ENDINGS)}"
        )
    for file in files:
        for row in _rows(file):
            yield row if isinstance(row, BadRow) else _item(row, config)


def _rows(file: Path) -> Iterator[LlmDebateRow | BadRow]:
    if file.suffix == ".csv":
        yield from _rows_of_csv(file)
        return
    found: Iterable[tuple[int | None, dict[str, Any] | BadRow]]
    found = lines_of(file, "llm_debate") if file.suffix == ".jsonl" else _whole(file)
    for line, value in found:
        if isinstance(value, BadRow):
            yield value
        elif isinstance(value.get("transcript"), dict):
            columns = {k: _cell(v) for k, v in value.items() if k != "transcript"}
            yield LlmDebateRow(file, line, value["transcript"], columns)
        elif isinstance(value.get("transcript"), str):
            yield _parsed(file, line, {key: _cell(each) for key, each in value.items()})
        else:
            yield LlmDebateRow(file, line, value, {})


def _whole(file: Path) -> Iterator[tuple[None, dict[str, Any] | BadRow]]:
    try:
        yield None, parse_object(file.read_bytes(), str(file), None)
    except OSError as error:
        yield None, BadRow(str(file), None, f"not readable as a file ({error.strerror or error})")


def _cell(value: Any) -> str:
    """A value of JSON as a column of CSV has it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows_of_csv(file: Path) -> Iterator[LlmDebateRow | BadRow]:
    csv.field_size_limit(max(FIELD_CHARS, csv.field_size_limit()))
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            if "transcript" not in (reader.fieldnames or ()):
                found = ", ".join(list(reader.fieldnames or ())[:8])
                yield BadRow(str(file), 1, f"no column 'transcript'; its columns: {found}")
                return
            for row in reader:
                columns = {str(key): str(value or "") for key, value in row.items()}
                if None in row:
                    yield BadRow(str(file), reader.line_num, "more fields than columns")
                else:
                    yield _parsed(file, reader.line_num, columns)
    except (csv.Error, UnicodeDecodeError) as error:
        yield BadRow(str(file), None, f"broken CSV: {error}")
    except OSError as error:
        raise ConfigError(
            f"PATH = {str(file)!r}: not readable as a file ({error.strerror or error})"
        ) from None


def _parsed(file: Path, line: int | None, columns: dict[str, str]) -> LlmDebateRow | BadRow:
    """A row whose transcript is JSON in a field."""
    text = columns.pop("transcript")
    if not text.lstrip().startswith("{"):
        why = "transcript: no JSON object; text transcripts of before 2024 are not read"
        return BadRow(str(file), line, why)
    value = parse_object(text.encode("utf-8", "surrogatepass"), str(file), line)
    if isinstance(value, BadRow):
        return BadRow(str(file), line, f"transcript: {value.reason}")
    return LlmDebateRow(file, line, value, columns)


def _item(row: LlmDebateRow, config: Config) -> ImportItem:
    """One debate, or why it is not imported."""
    if old := sorted(LEGACY & row.given.keys()):
        return BadRow(str(row.file), row.line, f"keys {old}: an older version's transcript")
    if not config.incomplete and row.columns.get("complete", "").lower() == "false":
        return LeftOut("the column complete says that it is not")
    try:
        given = GivenTranscript.model_validate(row.given)
        experiment = row.columns.get("experiment_name", "")
        if given.swap and _is_worst(experiment) and not config.worst_argument:
            return LeftOut(
                "experiments 2, 3 and 5_v0 with swap=True: the worst argument was chosen there "
                "(--set worst_argument=true keeps them)"
            )
        records = RowRecords(row, given, config.judge)
        return ImportedDebate(row.place, records.debate.id, tuple(records.all()))
    except ValidationError as error:
        return BadRow(str(row.file), row.line, reason(error, GivenTranscript))
    except UnusableItem as error:
        return BadRow(str(row.file), row.line, str(error))


def _is_worst(experiment: str) -> bool:
    """True of the experiments in which, with swap, the worst argument was chosen."""
    found = _EXPERIMENT.search(experiment)
    if found is None:
        return False
    return found[1] in ("2", "3") or (found[1] == "5" and (found[2] or "").lower() == "v0")


def write(transcripts: Iterable[Transcript], path: Path, config: Config) -> Iterator[LeftOut]:
    """Write rows that came from this format back, one a line, stories in place."""
    with whole_file(path, "OUT") as part, part.open("w", encoding="utf-8") as lines:
        for transcript in transcripts:
            kept = transcript.question.meta.get(KEPT)
            given = kept.get("transcript") if isinstance(kept, dict) else None
            if not isinstance(kept, dict) or not isinstance(given, dict):
                yield LeftOut("did not come from llm_debate")
                continue
            source = transcript.question.source
            row: dict[str, Any] = given | ({"story": source.text} if source else {})
            if isinstance(columns := kept.get("columns"), dict):
                row = {**columns, "transcript": row}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
