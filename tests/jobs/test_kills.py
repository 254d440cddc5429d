"""SIGKILL at random moments: the same command ends at what an unbroken run gives, at its price."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oversight.cli import main
from oversight.store import Store

RECIPE = """
store = "{store}"
protocols = ["constitutional"]
concurrency = {concurrency}
[dataset]
dataset = "prompts"
settings = {{ path = "{prompts}" }}
[agents.responder]
agent = "responder"
engine = "served"
[agents.critic]
agent = "critic"
engine = "served"
settings = {{ constitution = "honesty", num_principles = 1, reasoning = false }}
[engines.served]
engine = "openai"
settings = {{ base_url = "{url}", model = "by-request", dialect = "vllm", api_key_env = "" }}
"""
PROMPT_TOKENS = 50


def completion_of(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, which its content and seed alone determine."""
    asked = json.dumps([body["messages"], body.get("seed")]).encode()
    digest = hashlib.blake2b(asked, digest_size=16).digest()
    is_critique = "NOTHING TO CHANGE" in body["messages"][-1]["content"]
    ends = is_critique and digest[0] < 100
    text = "NOTHING TO CHANGE" if ends else f"Say {digest.hex()} plainly. " * (1 + digest[1] % 3)
    ids = list(text.encode())
    logprobs = [{"token": "", "logprob": -1.0, "top_logprobs": []} for _ in ids]
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "token_ids": ids,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": logprobs}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(ids)}
    usage["total_tokens"] = sum(usage.values())
    return {
        "model": body["model"],
        "choices": [choice],
        "prompt_token_ids": list(range(PROMPT_TOKENS)),
        "usage": usage,
    }


@dataclass
class Served:
    """A model server in a thread of its own, that counts what it is asked for."""

    url: str = ""
    num_calls: int = 0
    num_tokens: int = 0
    """Of prompts and answers of all calls that came, whether or not anybody was left to hear."""
    kill_at: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    """Processes that are killed at the call of that number."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [size] = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ]
                answer = completion_of(json.loads(await reader.readexactly(size)))
                self.num_calls += 1
                self.num_tokens += answer["usage"]["total_tokens"]
                if process := self.kill_at.pop(self.num_calls, None):
                    process.send_signal(signal.SIGKILL)
                data = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (len(data), data)
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(found.serve, "127.0.0.1", 0))
    host, port = server.sockets[0].getsockname()
    found.url = f"http://{host}:{port}/v1"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found

    async def close() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@dataclass
class Job:
    """A batch of prompts over a server."""

    folder: Path
    served: Served
    num_prompts: int
    concurrency: int

    def recipe(self, name: str) -> Path:
        """The recipe's file, over the store of that name."""
        prompts = self.folder / "asked.txt"
        prompts.write_text(
            "".join(f"Where does case {n} belong?\n" for n in range(self.num_prompts))
        )
        path = self.folder / f"{name}.toml"
        recipe = RECIPE.format(
            store=self.folder / f"{name}.db",
            prompts=prompts,
            url=self.served.url,
            concurrency=self.concurrency,
        )
        path.write_text(recipe)
        return path

    def finish(self, name: str) -> None:
        """Run the command to its end, in this process."""
        assert main.run(["critique", str(self.recipe(name)), "--json"]) == 0

    def killed(self, name: str, after_calls: int) -> None:
        """Run the command and kill it when the server has had so many calls more."""
        code = "import sys; from oversight.cli import main; sys.exit(main.run(sys.argv[1:]))"
        words = [sys.executable, "-c", code, "critique", str(self.recipe(name)), "--json"]
        told = self.folder / f"{name}.told"
        with told.open("wb") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out)
        self.served.kill_at[self.served.num_calls + max(1, after_calls)] = process
        assert process.wait() == -signal.SIGKILL, told.read_text()[-2000:]

    def content(self, name: str) -> list[str]:
        """A line for every record of a store, but for times, in order."""
        lines: list[str] = []
        with Store.open(str(self.folder / f"{name}.db")) as opened:
            assert opened.check() == []
            for transcript in opened.transcripts():
                lines.append(transcript.debate.model_dump_json())
                for turn in transcript.turns:
                    row = turn.model_dump(mode="json")
                    row.pop("seconds")
                    for sample in row["samples"]:
                        sample.pop("seconds")
                    lines.append(json.dumps(row))
        return sorted(lines)


def killed_at_random(job: Job, num_kills: int, seed: int = 0) -> tuple[int, int]:
    """Calls of an unbroken run, and of one that is killed so often; both end alike."""
    served = job.served
    job.finish("whole")
    calls = served.num_calls
    draw = random.Random(seed)
    for _ in range(num_kills):
        job.killed("broken", draw.randint(1, 2 * calls // (num_kills + 2)))
    job.finish("broken")
    assert job.content("broken") == job.content("whole")
    return calls, served.num_calls - calls


def test_after_kills_at_random_the_output_is_that_of_an_unbroken_run(
    served: Served, tmp_path: Path
) -> None:
    job = Job(tmp_path, served, num_prompts=100, concurrency=8)

    whole, broken = killed_at_random(job, num_kills=5)

    # A kill costs no more than the calls in flight.
    assert whole <= broken <= whole + 5 * job.concurrency


def test_a_kill_at_half_way_costs_two_per_cent_at_most(served: Served, tmp_path: Path) -> None:
    job = Job(tmp_path, served, num_prompts=60, concurrency=2)
    job.finish("whole")
    calls, tokens = served.num_calls, served.num_tokens

    job.killed("broken", calls // 2)
    job.finish("broken")

    assert served.num_tokens - tokens <= 1.02 * tokens
    assert job.content("broken") == job.content("whole")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_prompts_after_fifty_kills_are_those_of_an_unbroken_run(
    served: Served, tmp_path: Path
) -> None:
    job = Job(tmp_path, served, num_prompts=2_000, concurrency=32)

    whole, broken = killed_at_random(job, num_kills=50)

    assert whole <= broken <= whole + 50 * job.concurrency


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_kill_at_half_way_of_two_thousand_prompts_costs_two_per_cent_at_most(
    served: Served, tmp_path: Path
) -> None:
    job = Job(tmp_path, served, num_prompts=2_000, concurrency=32)
    job.finish("whole")
    calls, tokens = served.num_calls, served.num_tokens

    job.killed("broken", calls // 2)
    job.finish("broken")

    assert served.num_tokens - tokens <= 1.02 * tokens
    assert job.content("broken") == job.content("whole")
