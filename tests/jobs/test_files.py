"""Batch jobs by files: whatever becomes of the answer files, the store ends as a live run's."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oversight import constitutions, registry
from oversight.cli import main
from oversight.errors import DataError, PromptTooLongError
from oversight.jobs.folder import JobFolder
from oversight.jobs.lines import AnswerLine, RequestLine, answer_of
from oversight.store import Store

RECIPE = """
store = "{store}"
protocols = ["{protocol}"]
[dataset]
dataset = "prompts"
settings = {{ path = "{prompts}" }}
[agents.responder]
agent = "responder"
engine = "m"
[agents.critic]
agent = "critic"
engine = "m"
settings = {{ constitution = "honesty", num_principles = 1, reasoning = false }}
[engines.m]
engine = "scripted"
[engines.m.settings]
model = "script"
fallback = "A plain answer."
rules = [
  {{ pattern = "at most 150 words(?s:.)*jar 3", answer = "NOTHING TO CHANGE" }},
  {{ pattern = "write only: NO CHANGE", answer = "Another answer." }},
]
"""
NUM_PROMPTS = 4
Damage = Callable[[Path, int], None]


def write_recipe(folder: Path, name: str) -> Path:
    """A recipe over a store of its own, with two rounds at most."""
    prompts, protocol = folder / "asked.txt", folder / "two_rounds.toml"
    prompts.write_text("".join(f"How do I open jar {n}?\n" for n in range(NUM_PROMPTS)))
    shipped = (registry.path("protocols", "constitutional")).read_text()
    protocol.write_text(shipped.replace("rounds = 4", "rounds = 2"))
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(store=folder / f"{name}.db", prompts=prompts, protocol=protocol))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: write_recipe(tmp_path, name)


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """The command's JSON."""
    capsys.readouterr()
    assert main.run([*words, "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def content(store: Path) -> dict[str, Any]:
    """Everything that a store says of its runs, but for times."""
    found: dict[str, Any] = {}
    with Store.open(str(store)) as opened:
        assert opened.check() == []
        for transcript in opened.transcripts():
            for turn in transcript.turns:
                row = turn.model_dump(mode="json")
                row.pop("seconds")
                for sample in row["samples"]:
                    sample.pop("seconds")
                    # The scripted engine counts a prompt's parts, which a file joins.
                    sample["usage"].pop("prompt_tokens")
                found[turn.id] = row
    return found


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Turns that a run with engines, rather than files, has stored."""
    path = write_recipe(tmp_path_factory.mktemp("live"), "live")
    assert main.run(["critique", str(path)]) == 0
    return content(path.with_suffix(".db"))


def answer(capsys: pytest.CaptureFixture[str], job: Path, path: Path) -> None:
    """Answer all request files that have no answer file."""
    for requests in sorted((job / "requests").glob("*.jsonl")):
        if not list((job / "answers").glob(f"*{requests.name}")):
            run(capsys, "answer", str(requests), "--recipe", str(path))


def through(
    capsys: pytest.CaptureFixture[str],
    path: Path,
    job: Path,
    damage: Damage = lambda job, wave: None,
    shards: int = 3,
) -> list[dict[str, Any]]:
    """Run waves until nothing waits; `damage` is done to the folder before each."""
    told: list[dict[str, Any]] = []
    for wave in range(40):
        damage(job, wave)
        words = ("critique", str(path), "--batch", str(job), "--shards", str(shards))
        told.append(run(capsys, *words))
        if not told[-1]["waiting"]:
            return told
        answer(capsys, job, path)
    raise AssertionError("the job came to no end")


def test_a_job_by_files_ends_as_a_run_by_engines(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = recipe("files")

    told = through(capsys, path, tmp_path / "job")

    assert content(path.with_suffix(".db")) == live
    # A wave a step: the answer, notes and critique, the revision, and so on.
    assert told[0]["written"] == NUM_PROMPTS
    calls = sum(each["written"] for each in told)
    assert calls == sum(len(row["samples"]) for row in live.values())


def lost(job: Path, wave: int) -> None:
    """One answer file of the last wave is gone; it is answered anew."""
    files = sorted((job / "answers").glob("*.jsonl"))
    if wave in (1, 2) and files:
        files[-1].unlink()


def doubled(job: Path, wave: int) -> None:
    for file in sorted((job / "answers").glob("wave-*.jsonl")):
        shutil.copy(file, file.with_name(f"copy-of-{file.name}"))


def shuffled(job: Path, wave: int) -> None:
    for file in (job / "answers").glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        random.Random(wave).shuffle(lines)
        file.write_text("".join(lines))


def cut_short(job: Path, wave: int) -> None:
    """The last answer file ends in the middle of a line, as after a kill."""
    files = sorted((job / "answers").glob("wave-*.jsonl"))
    if wave == 2:
        files[-1].write_bytes(files[-1].read_bytes()[:-40])


def renamed(job: Path, wave: int) -> None:
    for file in list((job / "answers").glob("wave-*.jsonl")):
        folder = job / "answers" / "from-elsewhere"
        folder.mkdir(exist_ok=True)
        shutil.copy(file, folder / f"part{wave}-{file.name}")


def no_index(job: Path, wave: int) -> None:
    for file in job.glob("index.db*"):
        file.unlink()


@pytest.mark.parametrize("damage", [doubled, shuffled, renamed, no_index])
def test_whatever_becomes_of_the_files_the_store_is_the_same(
    damage: Damage,
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = recipe("files")

    told = through(capsys, path, tmp_path / "job", damage)

    assert content(path.with_suffix(".db")) == live
    assert all(each["answers_unlike"] == 0 == each["answers_unknown"] for each in told)


@pytest.mark.parametrize("damage", [lost, cut_short])
def test_calls_without_an_answer_wait_and_are_answered_by_the_same_command(
    damage: Damage,
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    for wave in range(40):
        damage(job, wave)
        told = run(capsys, "critique", str(path), "--batch", str(job), "--shards", "3")
        if not told["waiting"]:
            break
        for file in told["files"]:
            run(capsys, "answer", file["path"], "--recipe", str(path))

    assert content(path.with_suffix(".db")) == live


def test_each_call_is_asked_once(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    first = run(capsys, "critique", str(path), "--batch", str(job))

    again = run(capsys, "critique", str(path), "--batch", str(job))

    assert (first["written"], again["written"]) == (NUM_PROMPTS, 0)
    assert again["files"] == first["files"]
    assert again["files"][0]["calls"] == NUM_PROMPTS


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_failed_call_is_a_failure_with_its_reason_and_is_asked_anew(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    told = run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    answers = lines(file)
    body = {"error": {"message": "out of memory"}}
    answers[0]["response"] = {"status_code": 500, "body": body}
    answers[1]["response"], answers[1]["error"] = None, {"message": "expired"}
    file.write_text("".join(json.dumps(each) + "\n" for each in answers))

    told = run(capsys, "critique", str(path), "--batch", str(job), code=1)

    assert (told["failed"], told["answers_failed"]) == (2, 2)
    said = sorted(each["error"] for each in told["failures"])
    assert "expired" in said[0] or "expired" in said[1]
    assert any("status 500: out of memory" in each for each in said)
    again = run(capsys, "critique", str(path), "--batch", str(job))
    assert again["written"] == 2
    answer(capsys, job, path)
    through(capsys, path, job)
    assert content(path.with_suffix(".db")) == live


def test_a_file_of_which_all_calls_failed_is_asked_anew(
    live: dict[str, Any],
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    # As vLLM writes it: no body, and the error wrapped twice.
    reason = {"error": {"message": "The model `m` does not exist.", "code": 404}}
    refused = {"response": {"status_code": 404, "body": None}, "error": reason}
    file.write_text("".join(json.dumps({**each, **refused}) + "\n" for each in lines(file)))

    told = run(capsys, "critique", str(path), "--batch", str(job), code=1)
    again = run(capsys, "critique", str(path), "--batch", str(job))

    assert told["failed"] == NUM_PROMPTS
    assert all(
        each["error"].endswith("status 404: The model `m` does not exist.")
        for each in told["failures"]
    )
    assert (again["written"], again["waiting"]) == (NUM_PROMPTS, NUM_PROMPTS)
    answer(capsys, job, path)
    through(capsys, path, job)
    assert content(path.with_suffix(".db")) == live


TOO_LONG = "This model's maximum context length is 2048 tokens. However, you requested 9000."


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (  # as a hosted service writes it
            {"response": {"status_code": 400, "body": {"error": {"message": TOO_LONG}}}},
            "prompt_too_long",
        ),
        (  # as vLLM writes it
            {
                "response": {"status_code": 400, "body": None},
                "error": {"error": {"message": TOO_LONG, "type": "BadRequestError", "code": 400}},
            },
            "prompt_too_long",
        ),
        (
            {"error": {"message": "Too big.", "code": "context_length_exceeded"}},
            "prompt_too_long",
        ),
        (
            {"error": {"message": "its prompt has 9 tokens", "code": "prompt_too_long"}},
            "prompt_too_long",
        ),
        ({"error": {"message": f"answered 400: {TOO_LONG}"}}, "prompt_too_long"),
        (
            {"response": {"status_code": 429, "body": {"error": {"message": "input too long"}}}},
            "unavailable",
        ),
        (
            {"response": {"status_code": 400, "body": {"error": {"message": "no such seed"}}}},
            "refused_by_server",
        ),
        ({"error": {"message": "expired"}}, ""),
    ],
)
def test_an_error_in_an_answer_file_is_the_failure_that_it_would_be_live(
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    row: dict[str, Any],
    cause: str,
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    first, *rest = lines(file)
    failed = {"custom_id": first["custom_id"], "response": None, **row}
    file.write_text("".join(json.dumps(each) + "\n" for each in (failed, *rest)))

    run(capsys, "critique", str(path), "--batch", str(job), code=1)

    with Store.open(str(path.with_suffix(".db"))) as store:
        outcomes = [each.outcome for each in store.transcripts(complete=False)]
    assert [each.cause for each in outcomes if each is not None] == [cause]


def test_the_cause_of_a_failed_call_survives_the_file_of_answers() -> None:
    said = AnswerLine("call-1", error="its prompt has 9 tokens", kind=PromptTooLongError)

    assert answer_of(json.loads(said.text())) == said


def test_a_late_answer_to_a_call_that_failed_is_taken_in(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    run(capsys, "critique", str(path), "--batch", str(job))
    answer(capsys, job, path)
    [file] = (job / "answers").glob("*.jsonl")
    good = file.read_text()
    first, *rest = lines(file)
    first["response"], first["error"] = None, {"message": "expired"}
    file.write_text("".join(json.dumps(each) + "\n" for each in (first, *rest)))
    run(capsys, "critique", str(path), "--batch", str(job), code=1)
    file.write_text(good)

    told = run(capsys, "critique", str(path), "--batch", str(job))

    assert (told["answers_unknown"], told["failed"]) == (0, 0)


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


def test_a_request_line_is_what_openai_takes(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job = tmp_path / "job"
    told = run(capsys, "critique", str(recipe("files")), "--batch", str(job))

    for line in lines(Path(told["files"][0]["path"])):
        assert set(line) == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["body"]["model"] == "script"
        assert line["body"]["messages"][-1]["role"] == "user"
        assert "stream" not in line["body"]


FEEDBACK = """
task = "revisions"
store = "{store}"
constitution = "honesty"
num_principles = 2
[agents.rater]
agent = "rater"
engine = "m"
[engines.m]
engine = "scripted"
settings = {{ model = "rater" }}
"""


def ratings(store: Path) -> dict[str, Any]:
    """All feedback of a store, but for times."""
    found: dict[str, Any] = {}
    with Store.open(str(store)) as opened:
        for transcript in opened.transcripts():
            for each in transcript.ratings:
                row = each.model_dump(mode="json")
                row.pop("sent_at")
                for sample in row["samples"]:
                    sample.pop("seconds")
                    sample["usage"].pop("prompt_tokens")
                found[each.id] = row
    return found


def test_feedback_by_files_is_that_of_an_engine(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stores = []
    for name in ("one", "two"):
        assert main.run(["critique", str(recipe(name))]) == 0
        stores.append(tmp_path / f"{name}.db")
    by_engine, by_files = (tmp_path / f"feedback-{n}.toml" for n in (1, 2))
    by_engine.write_text(FEEDBACK.format(store=stores[0]))
    by_files.write_text(FEEDBACK.format(store=stores[1]))
    job = tmp_path / "rating"

    done = run(capsys, "feedback", str(by_engine))
    for _ in range(9):
        told = run(capsys, "feedback", str(by_files), "--batch", str(job))
        if not told["waiting"]:
            break
        for file in told["files"]:
            run(capsys, "answer", file["path"], "--recipe", str(by_files))

    assert done["done"] > 0
    assert ratings(stores[1]) == ratings(stores[0])


def test_a_comparison_is_asked_in_the_principles_own_words(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main.run(["critique", str(recipe("one"))]) == 0
    path, job = tmp_path / "feedback.toml", tmp_path / "rating"
    path.write_text(FEEDBACK.format(store=tmp_path / "one.db"))

    # The criticism is asked about in the first wave, the two versions in the second.
    for _ in range(2):
        told = run(capsys, "feedback", str(path), "--batch", str(job))
        newest = told["files"][-1]["path"]
        run(capsys, "answer", newest, "--recipe", str(path))

    compared = [line["body"]["messages"][-1]["content"] for line in lines(Path(newest))]
    questions = [str(each.comparison) for each in constitutions.load("honesty").principles]
    assert compared
    for words in compared:
        assert "Two versions are shown" in words
        assert sum(question in words for question in questions) == 1


SEVERAL = """
task = "revisions"
store = "{store}"
constitution = "honesty"
[raters.one]
agent = "rater"
engine = "one"
[raters.other]
agent = "rater"
engine = "other"
[engines.one]
engine = "scripted"
settings = {{ model = "org/rater", beliefs = {{ A = 0.9, B = 0.1 }} }}
[engines.other]
engine = "scripted"
settings = {{ model = "org rater", beliefs = {{ A = 0.2, B = 0.8 }} }}
"""


@pytest.mark.parametrize("loss", [lambda job, wave: None, no_index])
def test_files_of_several_models_ask_for_one_model_each(
    loss: Damage,
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        assert main.run(["critique", str(recipe(name))]) == 0
    by_engine, by_files = (tmp_path / f"feedback-{n}.toml" for n in (1, 2))
    by_engine.write_text(SEVERAL.format(store=tmp_path / "one.db"))
    by_files.write_text(SEVERAL.format(store=tmp_path / "two.db"))
    job, names = tmp_path / "rating", set()
    done = run(capsys, "feedback", str(by_engine))
    assert done["done"] > 0

    for wave in range(9):
        told = run(capsys, "feedback", str(by_files), "--batch", str(job), "--shards", "2")
        if not told["waiting"]:
            break
        for file in told["files"]:
            path = Path(file["path"])
            names |= {path.name[9:].split("-shard-")[0]}
            [model] = {line["body"]["model"] for line in lines(path)}
            engine = {"org/rater": "one", "org rater": "other"}[model]
            words = ("answer", file["path"], "--recipe", str(by_files), "--engine", engine)
            given = run(capsys, *words)
            assert given["asked_for"] == given["answered_by"] == model
        loss(job, wave)

    assert names == {"org-rater", "org-rater+"}
    assert ratings(tmp_path / "two.db") == ratings(tmp_path / "one.db")


def test_a_file_that_asks_for_several_models_is_refused_and_another_model_is_named(
    recipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    [file] = run(capsys, "critique", str(path), "--batch", str(job))["files"]
    requests = Path(file["path"])
    text = requests.read_text()
    requests.write_text(text.replace('"model":"script"', '"model":"large"', 1))
    words = ("answer", str(requests), "--recipe", str(path))

    assert main.run([*words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "line 2: it asks for the model 'script', and lines before it for 'large'" in said
    assert "divide the file by model" in said

    requests.write_text(text.replace('"model":"script"', '"model":"large"'))
    assert main.run([*words]) == 0
    assert "The file asks for the model 'large'; 'script' answered." in capsys.readouterr().out
