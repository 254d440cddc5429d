"""A real vLLM server kept busy by a batch job, beside the server's own benchmark client.

Prompts are answered, criticised and revised once by `oversight critique`'s own path: graph, store
and `openai` engine. Then `vllm bench serve` sends the same prompts, rendered by the model's own
template, and takes as many tokens of each; both keep so many calls in flight, and take turns. The
prefix cache is off, as the second to send a prompt would find it there.

    OVERSIGHT_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/jobs_vllm.py

Bar: at 64 calls in flight at least 90 % of the benchmark client's tokens a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oversight import registry
from oversight.config import AgentSettings, DatasetSettings, EngineSettings
from oversight.datasets.base import stream_questions
from oversight.engines import vllm
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.models import SEEDLING
from oversight.protocols import load
from oversight.store import Store
from oversight.types import Role

BAR = 0.90
CALLS_A_PROMPT = 3
"""The answer, a critique, a revision."""


def server(model: str, python: str) -> vllm.VllmEngine:
    """A vLLM server for the model, without a prefix cache."""
    config = vllm.Config(
        model=model,
        python=python,
        dtype="float32",
        block_size=32,
        kv_cache_gib=1.0,
        logprobs_mode="processed_logprobs",
        extra_args=("--no-enable-prefix-caching", "--max-num-seqs", "64"),
    )
    return vllm.build(config)


async def job(
    url: str, model: str, folder: Path, num_prompts: int, num_tokens: int, concurrency: int
) -> dict[str, Any]:
    """A job of one round: its tokens a second, and what it asked."""
    asked, protocol = folder / "asked.txt", folder / "one_round.toml"
    asked.write_text("".join(f"Where does the thing of case {n} go?\n" for n in range(num_prompts)))
    shipped = registry.path("protocols", "constitutional").read_text()
    protocol.write_text(shipped.replace("rounds = 4", "rounds = 1"))
    speech = {"max_tokens": num_tokens, "temperature": 0.0}
    agents = {
        Role.RESPONDER: AgentSettings(agent="responder", engine="served", settings=speech),
        Role.CRITIC: AgentSettings(
            agent="critic",
            engine="served",
            settings={
                **speech,
                "constitution": "harmlessness",
                "num_principles": 1,
                "reasoning": False,
            },
        ),
    }
    settings = {
        "base_url": url,
        "model": model,
        "dialect": "vllm",
        "extra_body": {"ignore_eos": True},
    }
    actors = cast(agents, {"served": EngineSettings(engine="openai", settings=settings)})
    questions = stream_questions(DatasetSettings(dataset="prompts", settings={"path": str(asked)}))
    path = folder / f"job-{time.monotonic_ns()}.db"
    with Store.open(path) as store:
        async with actors:
            begin, cpu = time.perf_counter(), time.process_time()
            done = await run_debates(
                plan(questions, [load(str(protocol))], actors.specs),
                Runtime(store, actors),
                concurrency=concurrency,
            )
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        samples = [
            (sample, store.prompt(sample.prompt_id))
            for transcript in store.transcripts()
            for turn in transcript.turns
            for sample in turn.samples
        ]
    assert done.done == num_prompts, done
    tokens = sum(sample.usage.completion_tokens for sample, _ in samples)
    assert tokens == num_prompts * CALLS_A_PROMPT * num_tokens, tokens
    return {
        "rate": tokens / seconds,
        "cpu_ms": 1e3 * cpu / len(samples),
        "prompts": [prompt for _, prompt in samples],
    }


def write_dataset(path: Path, model: str, prompts: Sequence[Any], num_tokens: int) -> None:
    """The prompts of a job as text, as the benchmark client takes them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    with path.open("w", encoding="utf-8") as file:
        for each in prompts:
            text = tokenizer.decode(each.token_ids)
            file.write(json.dumps({"prompt": text, "output_tokens": num_tokens}) + "\n")


def client(
    python: str, url: str, model: str, served: str, dataset: Path, num: int, concurrency: int
) -> dict[str, float]:
    """The rate of `vllm bench serve`."""
    result = dataset.with_name(f"bench-{time.monotonic_ns()}.json")
    words = [
        *(python, "-c", BENCH, "--backend", "vllm", "--base-url", url.removesuffix("/v1")),
        *("--endpoint", "/v1/completions", "--model", served, "--tokenizer", model),
        *("--dataset-name", "custom", "--dataset-path", str(dataset), "--custom-output-len", "-1"),
        *("--skip-chat-template", "--disable-shuffle", "--num-prompts", str(num)),
        *("--max-concurrency", str(concurrency), "--ignore-eos", "--temperature", "0"),
        *("--logprobs", "1", "--save-result", "--disable-tqdm", "--num-warmups", "0"),
        *("--result-dir", str(result.parent), "--result-filename", result.name),
    ]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(result.read_text())
    assert found["completed"] == num, found
    return {"rate": found["output_throughput"], "tokens": found["total_output_tokens"]}


BENCH = """
import argparse, json
from vllm.benchmarks.datasets.datasets import CustomDataset
def load(self):  # as it does itself, without pandas
    self.data = [json.loads(line) for line in open(self.dataset_path)]
CustomDataset.load_data = load
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`, also of a build for CPUs, whose `vllm` does not start."""


async def measure(arguments: argparse.Namespace, folder: Path) -> float:
    """Print both rates, turn by turn; the ratio of their medians."""
    python = arguments.python
    engine = server(arguments.model, python)
    ours, theirs = [], []
    try:
        await engine.start()
        [url] = engine.urls
        how = (arguments.tokens, arguments.concurrency)
        await job(url, arguments.model, folder, arguments.concurrency, *how)
        for turn in range(1, arguments.repeats + 1):
            found = await job(url, arguments.model, folder, arguments.prompts, *how)
            dataset = folder / "prompts.jsonl"
            write_dataset(dataset, arguments.folder, found["prompts"], arguments.tokens)
            bench = await asyncio.to_thread(
                client,
                python,
                url,
                arguments.folder,
                arguments.model,
                dataset,
                len(found["prompts"]),
                arguments.concurrency,
            )
            ours.append(found["rate"])
            theirs.append(bench["rate"])
            print(
                f"turn {turn}: oversight {ours[-1]:7.0f} tokens/s "
                f"({found['cpu_ms']:.2f} ms of CPU a call), vllm bench serve {theirs[-1]:7.0f} "
                f"tokens/s: {ours[-1] / theirs[-1]:.3f}",
                flush=True,
            )
    finally:
        await engine.aclose()
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", default=SEEDLING)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    arguments.python = vllm.settings.find_interpreter(None)
    arguments.folder = vllm.settings.check_model(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        ratio = asyncio.run(measure(arguments, Path(folder)))
    print(
        f"{arguments.prompts} prompts, {CALLS_A_PROMPT} calls each of {arguments.tokens} tokens, "
        f"{arguments.concurrency} in flight: {ratio:.3f} of vLLM's own client at the median "
        f"(bar: {BAR})"
    )


if __name__ == "__main__":
    main()
