"""Inspect's log files, read and written one sample at a time.

A log of today is a ZIP archive (`.eval`): `header.json`, one member of `samples/` for each sample,
`summaries.json` for lists. Its members are compressed by zstd since inspect-ai 0.3.206, before that
by deflate. A run that was cut off has no header but what `_journal/start.json` says. Logs as one
JSON document (`.json`) are read in pieces as well: no file is ever in memory whole. None of this
needs inspect-ai, whose own reader makes a model of every event and takes many times as long.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from pydantic_core import from_json

from oversight.errors import DataError
from oversight.files import whole_file

VERSIONS = (1, 2)
"""Versions of Inspect's log that are read; 2 is written."""
MAX_MEMBER_BYTES = 1 << 30
"""Most bytes of a sample's JSON text that are read: a forged size must not fill the memory."""
CHUNK_CHARS = 1 << 20
ZSTD = 93
"""Number of zstd among the compressions of ZIP, which Python's own reader knows from 3.14 on."""
HEADER, START, SUMMARIES, SAMPLES = (
    "header.json",
    "_journal/start.json",
    "summaries.json",
    "samples/",
)
MOMENT = (1980, 1, 1, 0, 0, 0)
"""Time of all members that are written: the same records are the same file."""

UNREADABLE = (
    *(OSError, ValueError, EOFError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Errors of damaged members."""

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that cannot be read, and why."""

    place: str
    reason: str


class InspectFile:
    """One log of Inspect, of which the header is read and the samples can be."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            DataError: It is no log of Inspect's, or of a version that nobody knew of here.
        """
        self.path = path
        self.is_archive = _is_archive(path)
        self.header: Json = self._read_header()
        version = self.header.get("version", 1)
        if version not in VERSIONS:
            raise DataError(
                f"{path}: version = {version!r} of Inspect's log; versions "
                f"{' and '.join(map(str, VERSIONS))} are read: convert it with `inspect log "
                "convert` of an inspect-ai that writes one of these"
            )
        if not isinstance(self.header.get("eval"), dict):
            raise DataError(f"{path}: no log of Inspect's: it has no 'eval' that says what was run")

    @property
    def spec(self) -> Json:
        """Task, model and data set of the evaluation."""
        found: Json = self.header["eval"]
        return found

    @property
    def status(self) -> str:
        """`success`, `error`, `cancelled`, or `started` of a run that was cut off."""
        return str(self.header.get("status") or "started")

    @property
    def num_samples(self) -> int:
        """The number of samples, as far as the log says it without being read."""
        if not self.is_archive:
            return int((self.header.get("results") or {}).get("total_samples") or 0)
        with _archive(self.path) as (archive, _):
            return len({name for name in archive.namelist() if _is_sample(name)})

    def samples(self, held: str = "") -> Iterator[Json | BadSample]:
        """Every sample as its JSON object, the last of those that stand under one name.

        Args:
            held: A key of samples' `store`: a sample of an archive that has a text there is given
                with its id, its epoch and its store alone, which takes a third of the time.
        """
        return self._members(held) if self.is_archive else self._elements()

    def _read_header(self) -> Json:
        if not self.is_archive:
            found: Json = {}
            for key, value in _document(self.path):
                if key != "samples":
                    found[key] = value
                elif "eval" in found:
                    break  # what else a header has stands before the samples
                else:
                    for _ in value:
                        pass
            return found
        with _archive(self.path) as (archive, file):
            infos = {info.filename: info for info in archive.infolist()}
            info = infos.get(HEADER) or infos.get(START)
            if info is None:
                raise DataError(
                    f"{self.path}: a ZIP archive, and no log of Inspect's: it has neither "
                    f"{HEADER} nor {START}"
                )
            return _parsed(_content(archive, file, info), f"{self.path}: {info.filename}")

    def _members(self, held: str) -> Iterator[Json | BadSample]:
        with _archive(self.path) as (archive, file):
            infos = {
                info.filename: info for info in archive.infolist() if _is_sample(info.filename)
            }
            for name, info in infos.items():
                place = f"{self.path}: {name}"
                try:
                    content = _content(archive, file, info)
                    yield _holding(content, held, name) or _parsed(content, place)
                except DataError as error:
                    yield BadSample(place, str(error).removeprefix(f"{place}: "))

    def _elements(self) -> Iterator[Json | BadSample]:
        for key, value in _document(self.path):
            if key == "samples":
                for number, sample in enumerate(value):
                    if isinstance(sample, dict):
                        yield sample
                    else:
                        kind = type(sample).__name__
                        yield BadSample(f"{self.path}: samples.{number}", f"{kind} and no object")
                return


def _is_sample(name: str) -> bool:
    return name.startswith(SAMPLES) and name.endswith(".json")


def _is_archive(path: Path) -> bool:
    """True of a ZIP archive, False of a JSON document.

    Raises:
        DataError: It is neither.
    """
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if first.startswith(b"PK\x03\x04"):
        return True
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    raise DataError(f"{path}: no log of Inspect's: neither a ZIP archive (.eval) nor JSON (.json)")


@contextmanager
def _archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, IO[bytes]]]:
    """The archive, and its file for members that its reader does not know how to take out."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{path}: the archive's list of members cannot be read ({error}): the run was cut off "
            "while it wrote, or the file was; `inspect log recover` may save what is there"
        ) from None
    with archive, path.open("rb") as file:
        yield archive, file


def _content(archive: zipfile.ZipFile, file: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    """One member, unpacked and checked against its sum.

    Raises:
        DataError: It is damaged, or larger than anything that is read.
    """
    place = f"{archive.filename}: {info.filename}"
    if info.file_size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{place}: {info.file_size:,} bytes, and at most {MAX_MEMBER_BYTES:,} are read"
        )
    try:
        return _zstd(file, info) if info.compress_type == ZSTD else archive.read(info)
    except UNREADABLE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{place}: damaged ({said})") from None


def _zstd(file: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    """A member packed by zstd, in one frame or several."""
    import pyarrow

    file.seek(info.header_offset)
    head = file.read(30)
    if len(head) < 30 or not head.startswith(b"PK\x03\x04"):
        raise ValueError("no member begins where the list says")
    file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
    packed = file.read(info.compress_size)
    if not info.file_size:
        return b""
    found: bytes = pyarrow.Codec("zstd").decompress(
        packed, decompressed_size=info.file_size, asbytes=True
    )
    if zlib.crc32(found) != info.CRC:
        raise ValueError("its sum does not agree")
    return found


def _holding(content: bytes, key: str, name: str) -> Json | None:
    """Id, epoch and store of a sample that has a JSON object's text there; None if that is not
    plain to see.

    In a JSON text a quote within a text has a backslash before it. So nothing but a key looks like
    the begin that is searched for, and the first brace before a bare quote is the object's last.
    """
    if not key:
        return None
    begin = f'"store":{{"{key}":'.encode()
    start = content.find(begin) + len(begin)
    end = content.find(b'}"', start) + 2
    is_one = start > len(begin) and end > start and content.find(begin, end) < 0
    if not is_one or content[start : start + 2] != b'"{':
        return None
    sample_id, _, epoch = name.removeprefix(SAMPLES).removesuffix(".json").rpartition("_epoch_")
    try:
        return {"id": sample_id, "epoch": epoch, "store": {key: from_json(content[start:end])}}
    except ValueError:
        return None


def _parsed(content: bytes, place: str) -> Json:
    try:
        found = from_json(content)
    except ValueError:
        found = _parsed_slowly(content, place)
    if not isinstance(found, dict):
        raise DataError(f"{place}: JSON, but no object")
    return found


def _parsed_slowly(content: bytes, place: str) -> Any:
    """The value of a JSON text with halves of characters in it, which the fast reader refuses."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: no JSON ({error})") from None


# --- one JSON document, in pieces ---


def _document(path: Path) -> Iterator[tuple[str, Any]]:
    """The keys of a JSON object with their values; of `samples` an iterator over its elements.

    The iterator has to be used up before the next key is asked for.

    Raises:
        DataError: It is no JSON, or ends in the middle.
    """
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file, path)
        text.take("{")
        if text.peek() == "}":
            return
        while True:
            key = str(text.value())
            text.take(":")
            if key == "samples" and text.peek() == "[":
                yield key, text.elements()
            else:
                yield key, text.value()
            if text.take(",}") == "}":
                return


class _Text:
    """A JSON text of which no more is in memory than the value that is being read."""

    SPACE = re.compile(r"[ \t\r\n]*")

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        """Read on; at least as much again as there is, so that a long value is not tried often."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if len(rest) > MAX_MEMBER_BYTES:
            raise DataError(
                f"{self._path}: a value of more than {MAX_MEMBER_BYTES:,} characters, or no JSON"
            )
        try:
            piece = self._file.read(max(CHUNK_CHARS, len(rest)))
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path}: no UTF-8 text ({error})") from None
        self._ended = not piece
        self._text, self._at = rest + piece, 0
        return bool(piece)

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            found = self.SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise DataError(f"{self._path}: the JSON text ends in the middle")

    def take(self, one_of: str) -> str:
        """The next character that is no space, which has to be one of these."""
        char = self.peek()
        if char not in one_of:
            wanted = " or ".join(map(repr, one_of))
            raise DataError(f"{self._path}: no JSON ({char!r} where {wanted} should stand)")
        self._at += 1
        return char

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise DataError(f"{self._path}: JSON that is nested too deeply") from None
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                if error.pos >= len(self._text) or error.msg.startswith("Unterminated"):
                    raise DataError(f"{self._path}: the JSON text ends in the middle") from None
                raise DataError(f"{self._path}: no JSON ({error})") from None
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            if len(self._text) - end < CHUNK_CHARS // 16 or end > CHUNK_CHARS:
                self._text, self._at = self._text[end:], 0
            return found

    def elements(self) -> Iterator[Any]:
        """The elements of the array that begins here, one after the other."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return


# --- writing ---


class InspectWriter:
    """Writes a log as Inspect reads it: samples as they come, lists and header at the end."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        import pyarrow

        self._archive = archive
        self._codec = pyarrow.Codec("zstd")
        self._summaries: list[Json] = []

    def add(self, sample: Json, summary: Json) -> None:
        """Write one sample, and keep its line for the list."""
        self._put(f"{SAMPLES}{sample['id']}_epoch_{sample['epoch']}.json", sample)
        self._summaries.append(summary)

    def end(self, header: Mapping[str, Any]) -> None:
        """Write the list of the samples and the header."""
        start = {key: header[key] for key in ("version", "eval", "plan")}
        self._put(START, start)
        self._put(SUMMARIES, self._summaries)
        self._put(HEADER, header)

    def _put(self, name: str, value: Any) -> None:
        content = json.dumps(value, separators=(",", ":")).encode()
        info = zipfile.ZipInfo(name, MOMENT)
        self._archive.writestr(info, self._codec.compress(content, asbytes=True))
        # Python's writer took the packed text for the text itself: now its heads say what it is.
        info.compress_type, info.file_size, info.CRC = ZSTD, len(content), zlib.crc32(content)
        file = self._archive.fp
        assert file is not None
        end = file.tell()
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=False))
        file.seek(end)


@contextmanager
def inspect_writer(path: Path, setting: str = "OUT") -> Iterator[InspectWriter]:
    """A writer of a log, which stands under its name only once it is whole.

    Raises:
        FileError: It cannot be written.
    """
    with whole_file(path, setting) as part, zipfile.ZipFile(part, "w") as archive:
        yield InspectWriter(archive)
