"""Answer files of a batch job: read whole or damaged, in part, as Parquet, of other jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oversight.cli import main
from oversight.errors import DataError
from oversight.jobs.folder import JobFolder
from oversight.jobs.lines import AnswerLine, RequestLine
from tests.jobs.waves import NUM_PROMPTS, answer, content, lines, run, through


def as_parquet(job: Path, wave: int) -> None:
    """Every answer file as Parquet in its place: structures, and then JSON in columns."""
    for file in sorted((job / "answers").glob("*.jsonl")):
        rows = lines(file)
        if wave % 2:
            rows = [{**each, "response": json.dumps(each["response"])} for each in rows]
        pq.write_table(pa.Table.from_pylist(rows), file.with_suffix(".jsonl.parquet"))
        file.unlink()


def test_answers_as_parquet_are_taken_in(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    for wave in range(40):
        as_parquet(job, wave)
        told = run(capsys, "critique", str(path), "--batch", str(job), "--shards", "3")
        if not told["waiting"]:
            break
        for file in told["files"]:
            run(capsys, "answer", file["path"], "--recipe", str(path))

    assert content(path.with_suffix(".db")) == live
    assert list((job / "answers").glob("*.parquet"))


def test_an_answer_that_is_itself_json_stays_text_in_parquet(tmp_path: Path) -> None:
    with folder_of(tmp_path, ("x",)) as job:
        message = {"content": '{"answer": 1}', "name": None}
        choices = [{"message": message, "finish_reason": "stop"}]
        row = {"custom_id": "x", "response": {"status_code": 200, "body": {"choices": choices}}}
        table = pa.Table.from_pylist([{**row, "error": None}])
        pq.write_table(table, tmp_path / "answers" / "a.parquet")

        job.take_in()

        answer = job.answer("x")
        assert answer is not None
        assert answer.body is not None
        assert answer.body["choices"][0]["message"] == {"content": '{"answer": 1}'}


@pytest.mark.parametrize("table", [{"id": ["x"]}, None])
def test_a_parquet_file_that_holds_no_answers_is_refused(
    table: dict[str, list[str]] | None, tmp_path: Path
) -> None:
    file = tmp_path / "answers" / "a.parquet"
    with folder_of(tmp_path, ("x",)) as job:
        if table is None:
            file.write_bytes(b"no Parquet")
        else:
            pq.write_table(pa.table(table), file)

        with pytest.raises(DataError, match=r"a\.parquet.*(columns are id|no Parquet file)"):
            job.take_in()


def folder_of(path: Path, ids: tuple[str, ...]) -> JobFolder:
    """A job's folder that asks for these calls."""
    job = JobFolder(path)
    with job.wave(1) as wave:
        for id_ in ids:
            wave.add(RequestLine(id_, "/v1/chat/completions", {"messages": []}), id_)
    return job


def write_answers(path: Path, ids: tuple[str, ...]) -> None:
    body = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
    path.write_text("".join(AnswerLine(id_, body).text() for id_ in ids))


@pytest.mark.parametrize("remains", ["", '{"half a line'])
def test_an_answer_file_that_is_lost_after_it_was_taken_in_gives_way_to_its_copy(
    remains: str, tmp_path: Path
) -> None:
    with folder_of(tmp_path, ("x", "y")) as job:
        for name in ("a.jsonl", "b.jsonl"):
            write_answers(tmp_path / "answers" / name, ("x", "y"))
        job.take_in()
        (tmp_path / "answers" / "a.jsonl").write_text(remains)
        if not remains:
            (tmp_path / "answers" / "a.jsonl").unlink()

        job.take_in()

        assert all(job.answer(id_) is not None for id_ in ("x", "y"))
        assert job.shards()[0].num_answered == 2


def test_calls_whose_answers_are_lost_after_they_were_taken_in_wait_again(tmp_path: Path) -> None:
    with folder_of(tmp_path, ("x", "y")) as job:
        write_answers(tmp_path / "answers" / "a.jsonl", ("x",))
        write_answers(tmp_path / "answers" / "b.jsonl", ("y",))
        job.take_in()
        (tmp_path / "answers" / "a.jsonl").unlink()

        job.take_in()

        assert job.answer("x") is None
        assert job.answer("y") is not None
        assert job.shards()[0].num_answered == 1


def test_answers_of_another_job_are_named_and_counted(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    foreign = [{**each, "custom_id": f"other-{n}"} for n, each in enumerate(lines(file))]
    other = job / "answers" / "other.jsonl"
    other.write_text("".join(json.dumps(each) + "\n" for each in foreign) + "no json\n{}\n")

    told = run(capsys, "critique", str(path), "--batch", str(job))

    assert told["answers_unknown"] == NUM_PROMPTS
    assert told["lines_broken"] == 2
    notes = "\n".join(told["notes"])
    assert "4 answers are of no call of this job: other.jsonl:1 ('other-0')" in notes
    assert "2 lines cannot be read: other.jsonl:5 (it is no JSON" in notes
    assert told["answers"] == NUM_PROMPTS

    # Each wave tells of it, for as long as the file lies there.
    again = run(capsys, "critique", str(path), "--batch", str(job))
    assert (again["answers"], again["notes"]) == (0, told["notes"])
    other.unlink()
    assert run(capsys, "critique", str(path), "--batch", str(job))["notes"] == []


def test_two_answers_to_one_call_that_differ_are_named_and_the_first_stands(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    other = lines(file)[:1]
    other[0]["response"]["body"]["choices"][0]["message"]["content"] = "Something else."
    (job / "answers" / "z.jsonl").write_text(json.dumps(other[0]) + "\n")

    told = run(capsys, "critique", str(path), "--batch", str(job))

    assert told["answers_unlike"] == 1
    assert f"1 call has two answers that differ; the first stands: {other[0]['custom_id']}" in (
        "\n".join(told["notes"])
    )
    answer(capsys, job, path)
    through(capsys, path, job)
    assert content(path.with_suffix(".db")) == live


def test_parts_of_a_job_are_together_the_whole(
    live: dict[str, Any], recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe("parts")

    done = [run(capsys, "critique", str(path), "--shard", f"{n}/3")["done"] for n in (1, 2, 3)]

    assert sum(done) == NUM_PROMPTS
    assert content(path.with_suffix(".db")) == live


@pytest.mark.parametrize("shard", ["0/3", "4/3", "x", "1", "1/0", "-1/2"])
def test_a_part_that_is_none_is_refused(
    shard: str, recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["critique", str(recipe("parts")), "--shard", shard]) == 2
    assert "--shard" in capsys.readouterr().err


def test_the_same_command_finishes_an_answer_file_that_was_cut(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    told = run(capsys, "critique", str(path), "--batch", str(job))
    requests = told["files"][0]["path"]
    out = tmp_path / "out.jsonl"
    run(capsys, "answer", requests, "--recipe", str(path), "-o", str(out))
    whole = sorted(out.read_text().splitlines())
    out.write_bytes(out.read_bytes()[:-100])

    again = run(capsys, "answer", requests, "--recipe", str(path), "-o", str(out))

    assert (again["answered"], again["found"]) == (1, NUM_PROMPTS - 1)
    assert sorted(out.read_text().splitlines()) == whole


def test_an_answer_of_which_only_the_line_end_was_cut_is_kept(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job, out = recipe("files"), tmp_path / "job", tmp_path / "out.jsonl"
    requests = run(capsys, "critique", str(path), "--batch", str(job))["files"][0]["path"]
    run(capsys, "answer", requests, "--recipe", str(path), "-o", str(out))
    whole = sorted(out.read_text().splitlines())
    kept = out.read_text().splitlines(keepends=True)[:2]
    out.write_text("".join(kept)[:-1])

    again = run(capsys, "answer", requests, "--recipe", str(path), "-o", str(out))

    assert (again["answered"], again["found"]) == (NUM_PROMPTS - 2, 2)
    assert sorted(out.read_text().splitlines()) == whole


def test_parts_of_a_request_file_are_answered_apart_and_together_are_the_whole(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    counts = []
    for _ in range(40):
        told = run(capsys, "critique", str(path), "--batch", str(job))
        if not told["waiting"]:
            break
        words = ("answer", told["files"][-1]["path"], "--recipe", str(path))
        # As tasks of an array would, in whatever order, and one of them twice.
        parts = [run(capsys, *words, "--shard", f"{part}/3") for part in (2, 1, 2, 3)]
        counts.append((sum(each["answered"] for each in parts), parts[2]["answered"]))
        # Done together, there is nothing left for one that takes the whole file.
        assert run(capsys, *words)["answered"] == 0

    assert content(path.with_suffix(".db")) == live
    assert counts[0] == (NUM_PROMPTS, 0)
