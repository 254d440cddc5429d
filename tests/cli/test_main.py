"""The command line as a user meets it: in a process of its own where that is what is asked."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oversight.cli import main
from oversight.cli.main import is_said_by_first
from oversight.errors import OversightError, TrainingInterrupted
from oversight.store import Store


def oversight(
    *args: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "oversight.cli.main", *args],
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


Answer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Answer:
    """Run a command line in the test's folder, in this process: its exit code and output."""
    monkeypatch.chdir(tmp_path)

    def given(*args: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        code = main.run([*args])
        return subprocess.CompletedProcess(args, code, *capfd.readouterr())

    return given


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["debate", "--limt", "3"], r"no such option: --limt. Did you mean '--limit'?"),
        (["run", "x.toml", "--resume"], "no such option: --resume. The same command goes on by it"),
        (["critique", "x.toml", "--resume"], "The same command goes on by itself with what it did"),
        (["debat"], "No such command 'debat'. Did you mean 'debate'?"),
        (["debate", "--limit", "0"], "Invalid value for '--limit'"),
        (["debate", "--limit", "x"], "Invalid value for '--limit'"),
        (["debate", "--protocol", "debat"], "there is no protocol 'debat'. Did you mean 'debate'?"),
        (["debate", "--dataset", "wrld"], "there is no data set 'wrld'. Did you mean 'world'?"),
        (["debate", "--debater", "lexical"], "cannot be a debater"),
        (["debate", "--judge", "judg"], "there is no agent 'judg'. Did you mean 'judge'?"),
        (["debate", "--set", "limit"], "expected a.b=value"),
        (["debate", "--set", "conc=3"], "unknown setting 'conc'"),
        (["debate", "--set", "dataset.settings.difculty=3"], "Did you mean 'difficulty'?"),
        (["debate", "--engine", "vllm"], "--engine 'vllm' needs --model"),
        (["debate", "--model", "./nowhere"], "./nowhere"),
        (["debate", "nowhere.toml"], "nowhere.toml"),
        (["debate", "--store", "/proc/none/x.db"], "/proc/none/x.db"),
        (["report"], "oversight.db"),
        (["export", "x.csv"], "the name ends in .parquet or .jsonl"),
        (["store", "check", "--store", "absent.db"], "absent.db"),
        (["datasets", "jsonl"], "path"),
        (["datasets", "jsonl"], "setting 'path' is missing"),
        (["datasets", "world", "--set", "difficulty=9"], "oversight: difficulty = 9"),
        (["rate", "pairs", "--constitution", "x"], "--constitution 'x' is what"),
        (["rate", "revisions", "--constitution", "x"], "--constitution 'x' is what"),
        (["judge", "--linear", "--port", "9"], "--port says where --web serves"),
        (["rate", "pairs", "--host", "::1"], "--host says where --web serves"),
        (["judge", "--public-url", "https://x.org"], "--public-url says where --web serves"),
        (["judge", "--linear", "--light"], "--light is for a screen"),
    ],
)
def test_wrong_input_is_met_with_one_line(args: list[str], message: str, answer: Answer) -> None:
    done = answer(*args)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_without_options_one_debate_is_shown(tmp_path: Path) -> None:
    done = oversight("debate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Debater for A, round 1" in done.stdout
    assert "Judgment" in done.stdout
    assert "1 debate: 1 run" in done.stdout
    again = oversight("debate", cwd=tmp_path)
    assert "Debater for A, round 1" in again.stdout
    assert "1 found complete" in again.stdout


def test_a_data_set_is_run_reported_and_exported(tmp_path: Path) -> None:
    args = ["debate", "--dataset", "world", "--limit", "4", "-p", "debate", "-p", "naive", "--json"]
    first = oversight(*args, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["debates"], document["run"], document["failures"]) == (8, 8, [])
    second = json.loads(oversight(*args, cwd=tmp_path).stdout)
    assert (second["run"], second["found_complete"]) == (0, 8)
    assert second["report"] == document["report"]
    reported = oversight("report", "--html", "r.html", "--png", "r.png", "--json", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert json.loads(reported.stdout)["num_debates"] == 8
    assert (tmp_path / "r.html").stat().st_size > 1000
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    exported = oversight("export", "t.jsonl", "--layout", "transcripts", "--json", cwd=tmp_path)
    assert json.loads(exported.stdout)["rows"] == 8
    checked = oversight("store", "check", cwd=tmp_path)
    assert "all sound" in checked.stdout


@pytest.mark.parametrize("shown", [["--json"], ["--no-live"]])
def test_fewer_questions_than_asked_for_are_said(shown: list[str], answer: Answer) -> None:
    asked = ["-d", "world", "--set", "dataset.settings.num=2", "--limit", "9", "-p", "naive"]
    done = answer("debate", *asked, *shown)
    assert done.returncode == 0, done.stderr
    expected = "9 questions were asked for, and data set 'world' has 2 such questions"
    assert expected in done.stdout
    looked_at = answer("datasets", "world", "--set", "num=2", "--limit", "9")
    assert expected in looked_at.stderr


def test_a_small_data_set_is_shown_without_a_word_about_a_number_nobody_asked_for(
    tmp_path: Path,
    answer: Answer,
) -> None:
    row = '{"id": "1", "question": "Where?", "options": ["here", "there"]}'
    (tmp_path / "mine.jsonl").write_text(row + "\n")
    shown = answer("datasets", "jsonl", "--set", "path=mine.jsonl")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Where?" in shown.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["debate", "--limit", "x"], "Invalid value for '--limit': 'x': give a whole number."),
        (
            ["export", "rows.parquet", "--layout", "x"],
            "Invalid value for '--layout': 'x' is not one of 'preference', 'kwise', 'unpaired', "
            "'transcripts'.",
        ),
        (
            ["rate", "pears"],
            "Invalid value for 'task': there is no task 'pears'. Did you mean 'pairs'? Known: "
            "flagged, pairs, principles, revisions. Or name one of your own: 'file.py:Class'.",
        ),
    ],
)
def test_a_wrong_value_of_an_option_is_named_with_what_is_accepted(
    args: list[str], message: str, answer: Answer
) -> None:
    refused = answer(*args)
    assert refused.returncode == 2
    assert refused.stderr == f"oversight: {message} See 'oversight {args[0]} --help'.\n"


def test_a_report_on_a_protocol_that_the_store_lacks_tells_what_it_has(answer: Answer) -> None:
    assert answer("debate", "-p", "naive").returncode == 0
    refused = answer("report", "-p", "debate")
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        "oversight.db has no debate of protocol 'debate'. Known: naive.\n"
    )


KEPT = "; the same command goes on from what was kept"


def test_an_export_of_nothing_is_refused_and_leaves_the_file_that_is_there(
    tmp_path: Path, answer: Answer
) -> None:
    world = ("-d", "world", "--limit", "1", "-p", "naive", "--no-live")
    assert answer("debate", *world).returncode == 0
    (tmp_path / "rows.jsonl").write_text("of before\n")
    refused = answer("export", "rows.jsonl", "-p", "debate")
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        "oversight.db has no debate of protocol 'debate'. Known: naive.\n"
    )
    assert (tmp_path / "rows.jsonl").read_text() == "of before\n"


def test_an_empty_file_is_no_store_and_stays_empty(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "empty.db").touch()
    refused = answer("report", "--store", "empty.db")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "empty.db holds nothing yet; check its name" in refused.stderr
    assert [(p.name, p.stat().st_size) for p in tmp_path.iterdir()] == [("empty.db", 0)]


def test_a_stopped_command_that_keeps_nothing_does_not_say_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "app", lambda *args, **options: 130)
    told = {
        "report": "",
        "debate": KEPT,
        "train sft x.toml --dry-run": "",
        "train sft x.toml": "; with --resume the same command goes on from the last checkpoint",
        "store check": "",
    }
    assert {main.run(words.split()) for words in told} == {130}
    assert capsys.readouterr().err.splitlines() == [
        f"oversight: stopped{way_on}" for way_on in told.values()
    ]


@pytest.mark.parametrize(
    ("command", "way_on"),
    [("report", ""), ("export", ""), ("diff", ""), ("feedback", KEPT), ("demo", KEPT)],
)
@pytest.mark.parametrize(
    ("numbers", "how"),
    [("15", "ended by SIGTERM"), ("2, 2", "stopped at once")],
)
def test_a_command_ended_at_once_says_that_it_goes_on_only_if_it_kept_something(
    command: str, way_on: str, numbers: str, how: str
) -> None:
    program = f"""
import contextlib, os
from oversight.cli import main

def app(*args, **options):
    for number in ({numbers},):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)

main.app = app
main.main(["{command}"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == f"oversight: {how}{way_on}\n"


@pytest.mark.parametrize("numbers", ["15", "2, 2"])
def test_a_command_ended_at_once_leaves_no_half_of_a_file(tmp_path: Path, numbers: str) -> None:
    program = f"""
import contextlib, os, pathlib
from oversight.cli import main
from oversight.files import whole_file

def app(*args, **options):
    with whole_file(pathlib.Path("out.jsonl")) as part:
        part.write_text("half")
        for number in ({numbers},):
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)

main.app = app
main.main(["export"])
"""
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert os.listdir(tmp_path) == []


def test_a_recipe_describes_a_run_and_options_override_it(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "run.toml").write_text(
        'protocols = ["naive"]\nstore = "mine.db"\n[dataset]\ndataset = "world"\nlimit = 2\n'
    )
    done = answer("debate", "run.toml", "--set", "dataset.limit=3", "--json", "--no-live")
    document = json.loads(done.stdout)
    assert (document["debates"], document["store"]) == (3, "mine.db")


def test_a_bad_row_stops_the_run_before_it_begins_unless_skipped(
    tmp_path: Path, answer: Answer
) -> None:
    rows = [
        {"id": "1", "question": "Who?", "options": ["Ada", "Bo"], "correct": 0},
        {"id": "2", "question": "", "options": ["Ada", "Bo"]},
        {"id": "1", "question": "Where?", "options": ["here", "there"]},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n{broken\n"
    (tmp_path / "mine.jsonl").write_text(text)
    args = ["debate", "-d", "jsonl", "--set", "dataset.settings.path=mine.jsonl", "-p", "naive"]
    refused = answer(*args)
    assert refused.returncode == 2
    for line in (2, 3, 4):
        assert f"mine.jsonl:{line}" in refused.stderr
    assert not (tmp_path / "oversight.db").exists()
    skipped = answer(*args, "--skip-bad", "--no-live")
    assert skipped.returncode == 0, skipped.stderr
    assert "3 bad rows were skipped" in skipped.stdout


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    args = ["debate", "-d", "world", "--limit", "3000", "-p", "debate", "--no-live", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "oversight.cli.main", *args],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "oversight.db").exists():
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip().endswith("stopped; the same command goes on from what was kept")
    assert "Traceback" not in errors
    with Store.open(str(tmp_path / "oversight.db")) as store:
        assert store.check() == []


def test_a_failing_engine_is_reported_and_the_exit_code_tells(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        """
[dataset]
dataset = "world"
limit = 2
[agents.debater]
agent = "debater"
engine = "dead"
[engines.dead]
engine = "openai"
settings = { base_url = "http://127.0.0.1:9/v1", model = "none", max_retries = 0 }
"""
    )
    done = oversight("debate", "run.toml", "--no-live", cwd=tmp_path)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert "127.0.0.1:9" in done.stdout
    assert "Traceback" not in done.stderr
    nothing = oversight("report", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "tried again by `oversight debate run.toml --no-live`" in nothing.stderr


@pytest.mark.parametrize("command", ["datasets", "models", "protocols"])
def test_what_there_is_is_listed_for_people_and_machines(command: str, answer: Answer) -> None:
    shown = answer(command)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(answer(command, "--json").stdout)


def test_without_a_command_the_help_is_printed(answer: Answer) -> None:
    done = answer()
    assert "Usage" in done.stdout
    assert (done.returncode, done.stderr) == (2, "")


def test_problems_of_a_store_are_listed_and_the_exit_code_tells(
    tmp_path: Path, answer: Answer
) -> None:
    answer("debate", "-d", "world", "--limit", "9", "-p", "debate", "--no-live")
    with sqlite3.connect(tmp_path / "oversight.db") as connection:
        connection.execute("UPDATE turns SET body = replace(body, 'The source says', 'x')")
        connection.execute("UPDATE turns SET id = 'x' || id")
    connection.close()
    done = answer("store", "check")
    assert done.returncode == 1
    # Each of 81 turns is found under the wrong id and missed under its own.
    assert "162 problems" in done.stdout
    assert "and 142 more" in done.stdout


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert oversight("--version", cwd=tmp_path).stdout.startswith("oversight 0.")


def test_every_command_has_help(answer: Answer) -> None:
    for command in ("demo", "debate", "report", "export", "datasets", "models", "protocols"):
        done = answer(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def lost() -> TrainingInterrupted:
    """The error that a process raises when another process of its run has ended."""
    try:
        try:
            raise RuntimeError("connection reset by peer")
        except RuntimeError:
            raise TrainingInterrupted("another process of this run has ended") from None
    except TrainingInterrupted as error:
        return error


@pytest.mark.parametrize(
    ("error", "rank", "is_silent"),
    [
        (TrainingInterrupted("stopped after step 7"), "1", True),
        (TrainingInterrupted("stopped after step 7"), "0", False),
        (lost(), "1", False),  # the first one may be gone
        (OversightError("no such file"), "1", False),
    ],
)
def test_a_process_is_silent_only_where_the_first_one_speaks_for_certain(
    monkeypatch: pytest.MonkeyPatch, error: OversightError, rank: str, is_silent: bool
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert is_said_by_first(error) is is_silent
