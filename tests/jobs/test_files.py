"""Batch jobs by files: whatever becomes of the answer files, the store ends as a live run's."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight import constitutions
from oversight.cli import main
from oversight.errors import PromptTooLongError
from oversight.jobs.lines import AnswerLine, answer_of
from oversight.store import Store
from tests.jobs.waves import NUM_PROMPTS, Damage, answer, content, lines, run, through


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


FILTER = {"message": "The response was filtered.", "code": "content_filter"}


@pytest.mark.parametrize(
    "row",
    [
        {"response": {"status_code": 400, "body": {"error": FILTER}}, "error": None},
        {"response": None, "error": FILTER},
        {"response": {"status_code": 400, "body": None}, "error": {"error": FILTER}},
    ],
)
def test_an_answer_that_a_filter_withheld_is_asked_again_and_counted_as_such(
    recipe: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    row: dict[str, Any],
) -> None:
    path, job = recipe("files"), tmp_path / "job"
    asked: set[str] = set()
    for _ in range(8):
        words = ("critique", str(path), "--batch", str(job), "--json")
        main.run(list(words))
        told = json.loads(capsys.readouterr().out)
        if not told["waiting"]:
            break
        answer(capsys, job, path)
        for requests in (job / "requests").glob("*.jsonl"):
            asked |= {
                each["custom_id"] for each in lines(requests) if "jar 2" in json.dumps(each["body"])
            }
        for answers in (job / "answers").glob("*.jsonl"):
            rows = [
                {"custom_id": each["custom_id"], **row} if each["custom_id"] in asked else each
                for each in lines(answers)
            ]
            answers.write_text("".join(json.dumps(each) + "\n" for each in rows))

    assert (told["done"] + told["found"], told["failed"]) == (NUM_PROMPTS - 1, 1)
    assert len(asked) == 3, "as often as a live server is asked"
    with Store.open(str(path.with_suffix(".db"))) as store:
        [failed] = [each for each in store.transcripts(complete=False) if each.outcome]
    assert failed.outcome is not None
    assert failed.outcome.cause == "content_filter"


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
