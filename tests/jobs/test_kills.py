"""SIGKILL at random moments: the same command ends at what an unbroken run gives, at its price."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from oversight.cli import main
from oversight.store import Store
from tests.jobs.serving import Served, serving

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


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


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
