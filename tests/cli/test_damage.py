"""Every command that reads a store, on damaged ones: the row is named, or nothing is lost by it."""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from oversight.cli import main
from oversight.store.schema import metadata

PROTOCOLS = ("debate_single_turn_best_of_n", "critique")
DEBATES = [
    *("debate", "-d", "world", "--limit", "1", "--no-live", "--store", "d.db"),
    *(word for name in PROTOCOLS for word in ("-p", name)),
]
DPO = (
    'out = "run"\nsteps = 1\nbatch_size = 1\n[data]\nstore = "d.db"\n'
    "[model.scratch]\nhidden_size = 16\nnum_layers = 1\nvocab_size = 300\nmax_length = 2048\n"
)
JUDGE = ["judge", "--linear", "--store", "d.db", "--judge", "ann"]
RATE = ["--linear", "--store", "d.db", "--judge", "ann"]
SESSIONS = {
    "judge": (JUDGE, "list all\n1\nbelief 70\nqueue\n2\nbelief 60\nqueue\nstatus\nquit\n"),
    "rate pairs": (["rate", "pairs", *RATE], "before\n1\n\n"),
    "rate principles": (["rate", "principles", *RATE], "1\n1\n"),
    "rate revisions": (["rate", "revisions", *RATE], "1\n1\n\n"),
}
RESULTS = {
    "report": ["report", "--store", "d.db"],
    "export": ["export", "o.jsonl", "--store", "d.db"],
    "export kwise": ["export", "o.parquet", "--store", "d.db", "--layout", "kwise"],
    "export unpaired": ["export", "o.jsonl", "--store", "d.db", "--layout", "unpaired"],
    "export transcripts": ["export", "o.jsonl", "--store", "d.db", "--layout", "transcripts"],
    "debate": DEBATES,
    "train": ["train", "dpo", "dpo.toml", "--dry-run"],
}
LOOKS = {
    name: ["store", name.split()[-1], "--store", "d.db"]
    for name in ("store check", "store seal", "store info")
}
DAMAGES = {
    "a blob": "x'00FF7B'",
    "a whole number": "7",
    "no UTF-8": "CAST(x'7BFF7D' AS TEXT)",
    "a NUL": "CAST(x'7B007D' AS TEXT)",
    "cut off": "substr(body, 1, length(body) / 2)",
    "deep": "printf('%.*c', 100000, '[')",
    "another type in a field": "json_set(body, '$.' || (SELECT key FROM json_each(body)), 1.5)",
    "an empty text": "''",
}


def ran(words: list[str], given: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors of a command; what it raises fails the test."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        before, sys.stdin = sys.stdin, io.StringIO(given)
        try:
            code = main.run(words)
        finally:
            sys.stdin = before
    return code, out.getvalue(), said.getvalue()


def without_sizes(text: str) -> str:
    """A command's output without times, speeds and the memory that happens to be free."""
    text = re.sub(r"^.*bfloat16 multiplies .*\n", "", text, flags=re.MULTILINE)
    # When and of which store a report was made, and runs, which bear the time of their beginning.
    text = re.sub(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC(?s:.*?)\n\n", "\n", text, flags=re.MULTILINE
    )
    text = re.sub(r"\d{4}-\d\d-\d\d-\d{6}(-\d+)?-\w+", "", text)
    return re.sub(r"[\d.,]+ (s|ms|[KMG]iB)\b", "", text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, str]]:
    """A store in which people have worked, and what each command prints of it."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        assert ran(DEBATES)[0] == 0
        assert ran(JUDGE, "2\nbelief 70\nqueue\nquit\n")[0] == 0
        for task in ("pairs", "revisions"):
            assert ran(["rate", task, *RATE], "1\n1\n\n\nquit\n")[0] == 0
        Path("dpo.toml").write_text(DPO)
        data = Path("d.db").read_bytes()
        printed = {}
        for name, words in RESULTS.items():
            code, out, said = ran(words)
            assert code == 0, said
            printed[name] = without_sizes(out)
    return data, printed


COMMANDS = (*RESULTS, *LOOKS, *SESSIONS)


def check_command(whole, tmp_path: Path, name: str, table: str, column: str, damage: str) -> None:
    """Run one command on a store with one damage: it names the row, or its result is the same."""
    data, printed = whole
    # A folder each: an engine whose store was refused may still hold the file.
    folder = tmp_path / f"{name} on {table}.{column} {damage}"
    folder.mkdir()
    with contextlib.chdir(folder):
        Path("d.db").write_bytes(data)
        Path("dpo.toml").write_text(DPO)
        if not _damage(table, column, DAMAGES[damage]):
            return
        words, given = SESSIONS.get(name) or (RESULTS.get(name) or LOOKS[name], "")
        code, out, said = ran(words, given)
    place = f"{name} with {table}.{column}: {damage}"
    assert code in (0, 1, 2), place
    assert "Traceback" not in out + said, place
    if code and name != "store check":
        assert said.count("\n") == 1, (place, said)
        assert table in said or "store check" in said, (place, said)
    elif name in RESULTS:
        assert without_sizes(out) == printed[name], place
    elif name in ("store check", "store seal"):
        assert code != 0, place


def _damage(table: str, column: str, value: str) -> bool:
    connection = sqlite3.connect("d.db")
    key = "chain" if table == "heads" else "rowid"
    where = f"{key} = (SELECT min({key}) FROM {table})"
    if "json_each(body)" in value:
        value = f"json_set(body, '$.{_a_field(connection, table, where)}', json('[1.5]'))"
    try:
        connection.execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
        connection.commit()
    except sqlite3.IntegrityError:
        return False
    finally:
        connection.close()
    return True


def _a_field(connection: sqlite3.Connection, table: str, where: str) -> str:
    """A field of the record whose value is a text."""
    found = connection.execute(
        f"SELECT key FROM {table}, json_each(body) WHERE {where} "
        "AND json_each.type = 'text' ORDER BY key LIMIT 1".replace("rowid =", f"{table}.rowid =")
    )
    return str(found.fetchone()[0])


BODIES = [name for name, table in metadata.tables.items() if "body" in table.columns]
RECORDS = [name for name in BODIES if name not in ("parts", "links")]
KEYS = [
    ("questions", "source_id"),
    ("questions", "dataset"),
    ("questions", "fingerprint"),
    ("debates", "id"),
    ("debates", "question_id"),
    ("debates", "protocol"),
    ("turns", "debate_id"),
    ("turns", "act"),
    ("judgments", "debate_id"),
    ("outcomes", "debate_id"),
    ("outcomes", "status"),
    ("events", "judge"),
    ("ratings", "debate_id"),
    ("rating_events", "kind"),
    ("links", "body"),
    ("heads", "hash"),
    ("heads", "count"),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_body_is_named_by_every_command(whole, tmp_path, name) -> None:
    """Every other table a command, so that all tables and all damages meet `name` or the next."""
    place = COMMANDS.index(name)
    damages = list(DAMAGES)
    for number, table in enumerate(RECORDS):
        if (number + place) % 2 == 0 or name == "store check":
            damage = damages[(number // 2 + place) % len(damages)]
            check_command(whole, tmp_path, name, table, "body", damage)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_that_cannot_be_come_upon_is_named_by_every_command(whole, tmp_path, name) -> None:
    place = COMMANDS.index(name)
    for number, (table, column) in enumerate(KEYS):
        if (number + place) % 4 == 0 or name == "store check":
            check_command(whole, tmp_path, name, table, column, "no UTF-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_every_command_names_it_or_loses_nothing(
    whole, tmp_path, damage
) -> None:
    places = [(table, "body") for table in RECORDS]
    if "body" not in DAMAGES[damage]:
        places += KEYS
    for table, column in places:
        for name in COMMANDS:
            check_command(whole, tmp_path, name, table, column, damage)
