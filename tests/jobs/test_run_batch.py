"""A job whose files the real `vllm run-batch` answers, by the command that the docs show."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oversight import registry
from oversight.cli import main
from oversight.store import Store

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

RECIPE = """
store = "{store}"
protocols = ["{protocol}"]
[dataset]
dataset = "prompts"
settings = {{ path = "{prompts}" }}
[agents.responder]
agent = "responder"
engine = "local"
settings = {{ temperature = 0.0, max_tokens = 24 }}
[agents.critic]
agent = "critic"
engine = "local"
[agents.critic.settings]
constitution = "honesty"
num_principles = 1
reasoning = false
temperature = 0.0
max_tokens = 24
[engines.local]
engine = "transformers"
settings = {{ model = "{model}", dtype = "float32" }}
"""
DOCUMENTED_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
ON_CPU = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--block-size", "32"),
    *("--kv-cache-memory-bytes", "268435456", "--no-enable-chunked-prefill"),
)
"""Of a small machine; nothing that a result depends on."""
NUM_PROMPTS = 6
NUM_STEPS = 3
"""The answer, a critique, a revision."""


def write_recipe(folder: Path, name: str, model: Path) -> Path:
    prompts, protocol = folder / "asked.txt", folder / "one_round.toml"
    prompts.write_text("".join(f"Is the key of room {n} here?\n" for n in range(NUM_PROMPTS)))
    shipped = registry.path("protocols", "constitutional").read_text()
    protocol.write_text(shipped.replace("rounds = 4", "rounds = 1"))
    path = folder / f"{name}.toml"
    store = folder / f"{name}.db"
    path.write_text(RECIPE.format(store=store, prompts=prompts, protocol=protocol, model=model))
    return path


def documented(root: Path) -> list[str]:
    """The words of the docs' run-batch command."""
    text = (root / "docs" / "constitution.md").read_text()
    found = re.search(r"^vllm run-batch (?:[^\n]*\\\n)*[^\n]*$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[0].replace("\\\n", " "))


def program(python: str) -> list[str]:
    """`vllm run-batch`; of a build for CPUs, whose `vllm` does not start, what it would run."""
    probe = [python, "-c", "from importlib.metadata import version; version('vllm')"]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return [str(Path(python).with_name("vllm")), "run-batch"]
    return [python, "-m", "vllm.entrypoints.launchers.run_batch"]


def run_batch(
    root: Path, python: str, requests: Path, answers: Path, model: Path, *more: str
) -> None:
    """Answer a file by the docs' command, with its files and model in their places."""
    words = [*program(python), *documented(root)[2:]]
    words[words.index("-i") + 1] = str(requests)
    words[words.index("-o") + 1] = str(answers)
    words[words.index(DOCUMENTED_MODEL)] = str(model)
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [*words, *ON_CPU, *more], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """The command's JSON."""
    capsys.readouterr()
    assert main.run([*words, "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def sampled(store: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The one sample of each turn of a store, by debate, act and round."""
    found = {}
    with Store.open(str(store)) as opened:
        assert opened.check() == []
        for transcript in opened.transcripts():
            for turn in transcript.turns:
                [sample] = turn.samples
                found[transcript.debate.id, turn.act.value, turn.round] = {
                    "text": turn.text,
                    "prompt": sample.prompt_id,
                    "tokens": sample.token_ids,
                    "end": sample.finish_reason,
                    "engine": (sample.engine, sample.model),
                    # A server also says how much of the prompt it had already.
                    "usage": (sample.usage.prompt_tokens, sample.usage.completion_tokens),
                    "logprobs": pytest.approx(sample.logprobs, abs=1e-3),
                }
    return found


def test_run_batch_takes_a_job_to_the_end_of_a_run_in_this_process(
    root: Path,
    vllm_python: str,
    chat_model: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    here, files = (write_recipe(tmp_path, name, chat_model) for name in ("here", "files"))
    job = tmp_path / "job"
    run(capsys, "critique", str(here))

    written = []
    for wave in range(NUM_STEPS):
        told = run(capsys, "critique", str(files), "--batch", str(job))
        written.append(told["written"])
        [waiting] = told["files"]
        run_batch(
            root, vllm_python, Path(waiting["path"]), job / f"answers/{wave}.jsonl", chat_model
        )
    told = run(capsys, "critique", str(files), "--batch", str(job))

    assert (told["done"], told["waiting"], told["failed"]) == (NUM_PROMPTS, 0, 0)
    assert written == [NUM_PROMPTS] * NUM_STEPS
    by_files, live = sampled(files.with_suffix(".db")), sampled(here.with_suffix(".db"))
    assert len(by_files) == NUM_PROMPTS * NUM_STEPS
    for place, row in live.items():
        logprobs = row.pop("logprobs")
        theirs = by_files[place]
        assert theirs.pop("logprobs").expected == logprobs
        assert theirs == row


def test_calls_that_run_batch_refuses_are_failures_with_its_reason(
    root: Path,
    vllm_python: str,
    chat_model: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    files, job = write_recipe(tmp_path, "files", chat_model), tmp_path / "job"
    told = run(capsys, "critique", str(files), "--batch", str(job))
    [waiting] = told["files"]
    answers = job / "answers" / "a.jsonl"
    served = ("--served-model-name", "another")
    run_batch(root, vllm_python, Path(waiting["path"]), answers, chat_model, *served)

    told = run(capsys, "critique", str(files), "--batch", str(job), code=1)

    assert (told["failed"], told["answers_failed"]) == (NUM_PROMPTS, NUM_PROMPTS)
    reasons = [each["error"] for each in told["failures"]]
    assert all("does not exist" in each for each in reasons), reasons[:1]
    again = run(capsys, "critique", str(files), "--batch", str(job))
    assert again["written"] == NUM_PROMPTS
