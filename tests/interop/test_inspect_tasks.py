"""`inspect eval oversight/…` from an installed wheel, with a mock model; and Inspect's own reader.

Inspect runs as a program of its own, as it does for its users: it takes hold of the event loop, of
logging and of the screen.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oversight.interop.base import ImportedDebate
from oversight.interop.inspect import Config, read
from oversight.interop.inspect_files import InspectFile
from oversight.store import Store
from oversight.types import Debate, Judgment, PromptRecord, Question, Role, Turn, Verdict
from tests.interop.test_inspect_logs import all_of, contents, written
from tests.reporting.conftest import make_question, run_scripted
from tests.tui.browser import Browser, chromium, in_chromium

pytest.importorskip("inspect_ai", reason="needs inspect-ai: pip install oversight[inspect]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OFFLINE = Path(__file__).parent / "offline"


def python(folder: Path, *words: str, path: str) -> str:
    """The output of this Python in a folder, with packages from `path`."""
    environment = {name: value for name, value in os.environ.items() if "INSPECT" not in name}
    environment |= {"PYTHONPATH": path, "INSPECT_DISPLAY": "none", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path with this project's wheel, installed apart, and a way to count tokens offline."""
    folder = tmp_path_factory.mktemp("wheel")
    # What takes a name's beginning for a package of its own looks for it in `site-packages`.
    target = folder / "site-packages"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", str(root), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = folder.glob("oversight-*.whl")
    install = [*pip, "install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return os.pathsep.join([str(target), str(OFFLINE)])


def evaluated(folder: Path, path: str, *words: str) -> InspectFile:
    """The log of `inspect eval` with its mock model."""
    logs = folder / "logs"
    before = set(logs.glob("*.eval"))
    command = ["-m", "inspect_ai", "eval", *words, "--model", "mockllm/model"]
    python(folder, *command, "--log-dir", str(logs), path=path)
    [log] = set(logs.glob("*.eval")) - before
    return InspectFile(log)


def records(file: InspectFile) -> list[tuple[Any, ...]]:
    found = list(read(file.path, Config()))
    assert all(isinstance(each, ImportedDebate) for each in found), found
    return [each.records for each in found if isinstance(each, ImportedDebate)]


def of_kind(found: tuple[Any, ...], kind: Any) -> list[Any]:
    return [each for each in found if isinstance(each, kind)]


def test_debates_run_from_the_wheel_and_come_back_with_every_record(installed, tmp_path):
    words = ("-T", "limit=2", "-T", "store=kept.db", "--epochs", "2")
    file = evaluated(tmp_path, installed, "oversight/debate", *words)
    assert file.status == "success"
    assert file.spec["task_registry_name"] == "oversight/debate"
    found = records(file)
    assert len(found) == 4
    assert len({of_kind(each, Debate)[0].id for each in found}) == 4
    assert len({of_kind(each, Question)[0].id for each in found}) == 2
    for each in found:
        [judgment] = of_kind(each, Judgment)
        assert judgment.final.verdict is Verdict.INVALID
        assert len(of_kind(each, Turn)) == 9
        assert of_kind(each, PromptRecord)
        [debate] = of_kind(each, Debate)
        engine = debate.agents[Role.DEBATER].engine
        assert (engine.engine, engine.settings["model"]) == ("inspect", "mockllm/model")
    scores = {each["name"]: each for each in file.header["results"]["scores"]}
    assert scores["invalid"]["metrics"]["mean"]["value"] == 1.0
    assert scores["verdict"]["unscored_samples"] == 2  # of each question, its epochs together
    with Store.open(tmp_path / "kept.db", create=False) as store:
        kept = {each.debate.id: all_of(each) for each in store.transcripts()}
    told = {
        of_kind(each, Debate)[0].id: [r for r in each if not isinstance(r, PromptRecord)]
        for each in found
    }
    assert told == kept


def test_each_kind_of_task_runs_and_further_judges_judge_what_is_kept(installed, tmp_path):
    """Without a model in the speakers' seats: lexical programs, whose beliefs can be read."""
    programs = ("-T", "debater=retrieval", "-T", "judge=lexical", "-T", "limit=3")
    kept = ("-T", "store=kept.db")
    for task, turns in (("debate", 9), ("consultancy", 6), ("critique", 3), ("direct", 0)):
        words = programs if task != "direct" else ("-T", "judge=lexical", "-T", "limit=3")
        if task == "critique":
            words = ("-T", "judge=lexical", "-T", "limit=3")
        file = evaluated(tmp_path, installed, f"oversight/{task}", *words, *kept)
        found = records(file)
        assert [len(of_kind(each, Turn)) for each in found] == [turns] * 3, task
        assert all(
            of_kind(each, Judgment)[0].final.verdict is not Verdict.INVALID for each in found
        )
    file = evaluated(
        tmp_path, installed, "oversight/judge", "-T", "store=kept.db", "-T", "protocol=debate"
    )
    found = records(file)
    assert len(found) == 3
    assert all(len(of_kind(each, Judgment)) == 2 for each in found)
    [sample, *_] = [each for each in file.samples() if isinstance(each, dict)]
    # The mock model's judgment is scored, and not that of the program that judged before.
    assert sample["scores"]["invalid"]["value"] == 1


SCRIPT = """
import json, sys
from inspect_ai import eval
from inspect_ai.dataset import Sample
from inspect_ai import Task
from inspect_ai.model import ModelOutput, get_model
from oversight.interop.inspect_solvers import belief, debate_solver, invalid, verdict
from oversight.interop.inspect_tasks import debate

def say(text):
    return lambda *given: ModelOutput.from_content("mock", text)

def judge(given, *rest):
    return ModelOutput.from_content("mock", "Answer A: 80%\\nAnswer B: 20%")

def broken(*given):
    raise ValueError("the model fell over")

roles = {"debater": get_model("mockllm/speaker", custom_outputs=say("I say so.")),
         "judge": get_model("mockllm/arbiter", custom_outputs=judge)}
common = {"model": "mockllm/other", "log_dir": "logs", "display": "none"}
found = {}
[log] = eval(debate(limit=2, swap=True), model_roles=roles, **common)
found["roles"] = log.location
sample = Sample(id=7, input="Which is a colour?", choices=["red", "loud"], target="A")
own = Task(dataset=[sample], solver=debate_solver(), scorer=[verdict(), belief(), invalid()])
[log] = eval(own, model_roles=roles, **common)
found["own"] = log.location
[log] = eval(debate(limit=1), token_limit=50, **common)
found["limit"] = log.location
[log] = eval(debate(limit=1), model=get_model("mockllm/x", custom_outputs=broken),
             log_dir="logs", display="none")
found["broken"] = log.location
[log] = eval(debate(limit=1, debater="nobody"), **common)
found["nobody"] = log.location
print(json.dumps(found))
"""


def test_roles_own_data_sets_limits_and_failures(installed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    said = python(tmp_path, "script.py", path=installed).splitlines()[-1]
    files = {name: InspectFile(Path(place)) for name, place in json.loads(said).items()}

    both = records(files["roles"])
    for each in both:
        [debate] = of_kind(each, Debate)
        assert debate.agents[Role.DEBATER].engine.settings["model"] == "mockllm/speaker"
        assert debate.agents[Role.JUDGE].engine.settings["model"] == "mockllm/arbiter"
        assert {turn.text for turn in of_kind(each, Turn) if turn.seat != "judge"} == {"I say so."}
        assert [judgment.swapped for judgment in of_kind(each, Judgment)] == [False, True]
    samples = [each for each in files["roles"].samples() if isinstance(each, dict)]
    for sample, each in zip(samples, both, strict=True):
        final = of_kind(each, Judgment)[0].final
        right = of_kind(each, Question)[0].correct
        assert sample["scores"]["belief"]["value"] == final.probs[right]
        assert sample["scores"]["verdict"]["value"] == ("C" if final.choice == right else "I")
    spans = [each["name"] for each in samples[0]["events"] if each["event"] == "span_begin"]
    assert "debater A, speak, round 1" in spans
    assert "judge, decide, round 3" in spans

    [own] = records(files["own"])
    [question] = of_kind(own, Question)
    assert (question.id, question.correct) == ("7", 0)
    assert [option.text for option in question.options] == ["red", "loud"]

    [sample] = files["limit"].samples()
    assert sample["limit"]["type"] == "token"
    assert "error" not in sample
    assert files["broken"].status == "error"
    [sample] = files["broken"].samples()
    assert "the model fell over" in sample["error"]["message"]
    assert files["nobody"].status == "error"
    [sample] = files["nobody"].samples()
    assert "no agent 'nobody'" in sample["error"]["message"]


READ = """
import sys
from inspect_ai.log import ProvenanceData, edit_score, read_eval_log, write_eval_log
from inspect_ai.log import read_eval_log_sample_summaries
from inspect_ai.scorer import ScoreEdit

path = sys.argv[1]
log = read_eval_log(path, resolve_attachments="full")
assert log.status == "success" and len(log.samples) == 4, log.status
summaries = read_eval_log_sample_summaries(path)
assert len(summaries) == 4 and all(each.completed for each in summaries)
sample = next(each for each in log.samples if each.id == "debate:q1")
assert sample.choices == ["the attic", "the cellar"] and sample.target == "B"
text = "\\n".join(message.text for message in sample.messages)
assert "**Debater A, speak, round 1" in text and "**Judge, verdict**" in text
assert sample.scores["verdict"].value in ("C", "I")
assert sample.scores["belief"].value in (0.0, 1.0)
events = [each for each in sample.events if each.event == "model"]
assert len(events) == 10 and all(each.input for each in events)
assert not any("attachment://" in message.text for each in events for message in each.input)
assert log.results.scores[0].metrics["accuracy"].value in (0.0, 0.5, 1.0)

plain = read_eval_log(path)
author = ProvenanceData(author="alice", reason="typo")
edit_score(plain, "debate:q1", "verdict", ScoreEdit(value="I", provenance=author))
for name in ("again.eval", "again.json"):
    write_eval_log(plain, name)
write_eval_log(log, "resolved.eval")
"""


async def test_inspect_itself_reads_what_is_written_and_what_it_writes_comes_back(
    tmp_path, installed
):
    with Store.open(tmp_path / "ours.db") as store:
        await run_scripted(store, [make_question(n) for n in range(2)], ["debate", "naive"])
        path = written(store, tmp_path / "log.eval")
        before = sorted(map(repr, contents(store)))
    python(tmp_path, "-c", READ, str(path), path=installed)
    for name in ("again.eval", "again.json", "resolved.eval"):
        with Store.open(tmp_path / f"{name}.db") as other:
            for each in records(InspectFile(tmp_path / name)):
                other.add(*each)
            assert sorted(map(repr, contents(other))) == before, name
            assert other.check() == []


EVALUATIONS = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import choice, match
from inspect_ai.solver import generate, multiple_choice, system_message

def say(text):
    return get_model("mockllm/m", custom_outputs=lambda *given: ModelOutput.from_content("m", text))

sums = [Sample(id=n, input=f"What is {n} + 0?", target=str(n)) for n in range(3)]
task = Task(dataset=sums, solver=[system_message("Add."), generate()], scorer=match(), epochs=2)
eval(task, model=say("2"), log_dir="logs", log_format="eval", display="none")
picks = [Sample(id=n, input="Which?", choices=["a", "b", "c"], target="ABC"[n]) for n in range(3)]
task = Task(dataset=picks, solver=multiple_choice(), scorer=choice())
eval(task, model=say("ANSWER: B"), log_dir="logs", log_format="json", display="none")
"""


def test_evaluations_that_inspect_ran_are_read(tmp_path, installed):
    python(tmp_path, "-c", EVALUATIONS, path=installed)
    found = [item for item in read(tmp_path / "logs", Config()) if isinstance(item, ImportedDebate)]
    assert len(found) == 9
    chosen = [of_kind(each.records, Judgment) for each in found]
    judgments = [each[0] for each in chosen if each]
    assert [each.final.choice for each in judgments] == [1, 1, 1]
    asked = [of_kind(each.records, Question)[0] for each in found]
    assert sorted(q.correct for q in asked if not q.is_open) == [0, 1, 2]
    answers = [each.records for each in found if of_kind(each.records, Turn)]
    assert len(answers) == 6
    ratings = [each for some in answers for each in some if type(each).__name__ == "Feedback"]
    assert sorted(each.answer.preference for each in ratings) == [0.0] * 4 + [1.0] * 2
    [prompt] = of_kind(answers[0], PromptRecord)
    assert [each["role"] for each in prompt.prompt.chat()] == ["system", "user"]
    assert prompt.prompt.chat()[0]["content"] == "Add."


def _viewing(folder: Path, path: str) -> tuple[subprocess.Popen[bytes], int]:
    """`inspect view` on a folder of logs, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "inspect_ai", "view", "start", "--log-dir", str(folder)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"PYTHONPATH": path, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return server, port


@in_chromium
async def test_the_viewer_shows_turns_beliefs_and_scores(tmp_path, installed):
    folder = tmp_path / "logs"
    folder.mkdir()
    with Store.open(tmp_path / "ours.db") as store:
        await run_scripted(store, [make_question(1), make_question(2)], ["debate"])
        written(store, folder / "2026-11-30T00-00-00+00-00_debate_ours.eval")
    server, port = _viewing(folder, installed)
    log = f"http://127.0.0.1:{port}/#/logs/2026-11-30T00-00-00+00-00_debate_ours.eval"
    sample = f"{log}/samples/sample/debate:q1/1"

    async def holds(browser: Browser, address: str, *words: str) -> str:
        await browser.visit(address, 1300, 1500)
        text = ""
        for _ in range(300):
            text = str(await browser.value("document.body.innerText"))
            if all(word in text for word in words):
                return text
            await asyncio.sleep(0.2)
        raise AssertionError(f"a minute later {words} are not all in {text[:3000]}")

    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            await asyncio.sleep(0.2)
        async with chromium(tmp_path / "profile") as browser:
            await holds(browser, log, "debate:q1", "Where is the brass lamp on day 1?", "VERDICT")
            await browser.keep("inspect_list.png")
            words = ("Debater A, speak, round 1, for A: the attic", "A 0% (the attic), B 100%")
            await holds(browser, f"{sample}/messages", *words)
            await browser.keep("inspect_messages.png")
            await holds(browser, f"{sample}/transcript", "Debater B, speak, round 3", "MODEL CALL")
            await browser.keep("inspect_transcript.png")
            scored = await holds(browser, f"{sample}/scoring", "verdict", "belief", "trajectory")
            assert "judge (made)" in scored
    finally:
        server.terminate()
        server.wait(30)
