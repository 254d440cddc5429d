"""A red team's runs: what is taken and left out, going on after a kill, and training rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight.cli import main
from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.engines.scripted import ScriptedAnswer, ScriptedEngine
from oversight.errors import ConfigError, DataError
from oversight.ids import text_id
from oversight.jobs.writing import Writing, WritingSettings
from oversight.text.new_prompts import PromptIndex
from oversight.types import FinishReason, Request

SEEDS = ["How do I open a jar?", "Where is the red key?", "Who has the list of names?"]
NOUNS = ("ferry", "lantern", "orchard", "violin", "glacier", "bakery", "harbour", "tunnel")


def made_up(request: Request) -> str:
    """Three prompts that depend on what the call shows and on its seed; the last one is stale."""
    key = text_id(request.prompt.messages[-1].content, str(request.sampling.seed))
    words = [
        NOUNS[int(digit, 16) % len(NOUNS)] + key[place : place + 9]
        for place, digit in enumerate(key[:2])
    ]
    return "\n".join(f"{n}. Is the {word} {word[::-1]}?" for n, word in enumerate(words, 1)) + (
        "\n3. How do I open a jar?"
    )


Start = Callable[..., Writing]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Make a run over a scripted engine, or go on with the one of the same name."""
    (tmp_path / "seeds.txt").write_text("\n".join(SEEDS), encoding="utf-8")

    def begin(script: Any = made_up, name: str = "new", **changes: Any) -> Writing:
        settings: dict[str, Any] = {
            "out": tmp_path / f"{name}.jsonl",
            "num": 40,
            "calls_per_round": 4,
            "dataset": {"dataset": "prompts", "settings": {"path": str(tmp_path / "seeds.txt")}},
            "agents": {"red_team": {"agent": "red_team", "engine": "m"}},
            "engines": {"m": {"engine": "scripted"}},
        }
        parsed = WritingSettings.parse(settings | changes)
        return Writing(parsed, open_=lambda spec: ScriptedEngine(script))

    return begin


def rows(writing: Writing) -> list[dict[str, Any]]:
    return [json.loads(line) for line in writing.settings.out.read_text().splitlines()]


def calls(writing: Writing) -> list[dict[str, Any]]:
    return [json.loads(line) for line in writing.calls_file.read_text().splitlines()]


async def test_no_prompt_stands_twice_and_each_has_its_distance(start: Start) -> None:
    writing = start()
    progress = await writing.run()

    found = rows(writing)
    assert len(found) == progress.taken == 40
    before = PromptIndex(SEEDS)
    for row in found:
        near = before.nearest(row["prompt"])
        assert row["meta"]["distance"] == pytest.approx(near.distance, abs=1e-4)
        assert near.distance >= 0.5
        before.add(row["prompt"])
    assert progress.left_out["doubled"] >= 20  # one stale prompt a call
    assert progress.taken + progress.left_out.total() == 3 * progress.calls
    assert progress.distances == pytest.approx([r["meta"]["distance"] for r in found], abs=1e-4)


async def test_prompts_are_read_as_a_data_set_with_what_is_known_of_them(start: Start) -> None:
    writing = start()
    await writing.run()

    spec = DatasetSettings(dataset="prompts", settings={"path": str(writing.settings.out)})
    questions = load_questions(spec).questions
    for question, row in zip(questions, rows(writing), strict=True):
        assert (question.id, question.text) == (row["id"], row["prompt"])
        assert question.meta == row["meta"]
        assert len(row["meta"]["seeds"]) in (3, 4)


async def test_a_call_shows_what_it_says_that_it_shows(start: Start) -> None:
    writing = start()
    await writing.run()

    for call in calls(writing):
        asked = call["prompt"][-1]["content"]
        assert asked.count("<question>") == len(call["seeds"]) == len(set(call["seed_ids"]))
        assert all(f"<question>\n{text}\n</question>" in asked for text in call["seeds"])
        assert set(call["seeds"]) & set(SEEDS)
    assert any(not set(call["seeds"]) <= set(SEEDS) for call in calls(writing))


async def test_what_is_more_novel_is_shown_more_often(start: Start) -> None:
    def near_or_far(request: Request) -> str:
        key = text_id(str(request.sampling.seed))
        near = f"Who has the list of names {key[0]}?"
        return f"1. {near}\n2. {NOUNS[int(key[1], 16) % 8]}{key[2:14]}"

    async def share_of_near(draw: str) -> float:
        writing = start(
            near_or_far,
            name=draw,
            draw=draw,
            min_distance=0.05,
            num=120,
            calls_per_round=16,
            num_examples=2,
            num_seeds=0,
        )
        await writing.run()
        shown = Counter("Who" in text for call in calls(writing) for text in call["seeds"])
        return shown[True] / shown.total()

    assert await share_of_near("novelty") < 0.7 * await share_of_near("evenly")


@pytest.mark.parametrize("concurrency", [1, 7])
async def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    start: Start, concurrency: int
) -> None:
    whole = start(name="whole", concurrency=concurrency)
    await whole.run()
    lines = whole.calls_file.read_bytes()
    expected = whole.settings.out.read_bytes()
    for cut in range(0, len(lines), len(lines) // 9):
        again = start(name=f"cut-{cut}")
        again.calls_file.write_bytes(lines[:cut])
        progress = await again.run()
        assert again.settings.out.read_bytes() == expected
        assert progress.asked == len(calls(whole)) - lines[:cut].count(b"\n")


async def test_a_run_in_two_parts_ends_as_one_in_one(start: Start) -> None:
    whole = start(name="whole")
    await whole.run()
    await start(name="parts", num=7).run()
    parts = start(name="parts")
    progress = await parts.run()

    assert parts.settings.out.read_bytes() == whole.settings.out.read_bytes()
    assert progress.found >= 7


async def test_a_call_that_fails_is_named_and_others_go_on(start: Start) -> None:
    asked: list[int] = []

    def fails_once(request: Request) -> str:
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("broken pipe")
        return made_up(request)

    writing = start(fails_once, concurrency=1)
    progress = await writing.run()

    assert progress.taken == 40
    [(name, reason)] = progress.failures.items()
    assert name == "0-1"
    assert "broken pipe" in reason


async def test_a_round_that_fails_altogether_is_asked_again_by_the_next_run(start: Start) -> None:
    def fails(request: Request) -> str:
        raise RuntimeError("no server")

    first = start(fails)
    assert (await first.run()).stopped == "all 4 calls of a round failed"
    assert calls(first) == []

    assert (await start().run()).taken == 40


async def test_a_model_that_repeats_itself_is_stopped_and_counted(start: Start) -> None:
    writing = start(lambda request: "1. Is it far?\n2. I cannot create such prompts.", patience=2)
    progress = await writing.run()

    assert [row["prompt"] for row in rows(writing)] == ["Is it far?"]
    assert "nothing new was written in 2 rounds of 4 calls" in progress.stopped
    assert progress.left_out == {"refused": 12, "doubled": 11}


async def test_the_last_prompt_of_a_cut_answer_is_left_out(start: Start) -> None:
    def cut(request: Request) -> ScriptedAnswer:
        return ScriptedAnswer(made_up(request), finish_reason=FinishReason.LENGTH)

    progress = await start(cut, num=8).run()

    assert progress.left_out["cut_off"] >= 3
    assert progress.left_out["doubled"] == 0  # the stale prompt is the last one of each answer


async def test_a_constitution_gives_each_call_a_principle(start: Start) -> None:
    red_team = {
        "agent": "red_team",
        "engine": "m",
        "settings": {"constitution": "honesty", "goal": "Trick questions."},
    }
    writing = start(agents={"red_team": red_team})
    await writing.run()

    tried = Counter(row["meta"]["principles"][0] for row in rows(writing))
    assert len(tried) > 3
    assert "put this principle" in calls(writing)[0]["prompt"][-1]["content"]
    assert "Look for this: Trick questions." in calls(writing)[0]["prompt"][-1]["content"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "calls of another recipe"),
        ({"min_distance": 0.2}, "calls of another recipe"),
        ({"num_seeds": 5}, "num_seeds = 5: at most num_examples = 4"),
        ({"agents": {}}, r"only a red team writes \(agents.red_team\); named are none"),
        ({"agents": {"red_team": {"agent": "rater", "engine": "m"}}}, "cannot be a red_team"),
    ],
)
async def test_what_cannot_be_gone_on_with_is_refused_by_name(
    start: Start, changes: dict[str, Any], said: str
) -> None:
    await start(num=3).run()

    with pytest.raises(ConfigError, match=said):
        await start(**changes).run()


async def test_files_of_others_are_neither_overwritten_nor_read_as_calls(start: Start) -> None:
    writing = start()
    writing.settings.out.write_text("mine\n")
    with pytest.raises(ConfigError, match="is there already"):
        await writing.run()
    assert writing.settings.out.read_text() == "mine\n"

    other = start(name="other")
    other.calls_file.write_text('{"round": 0}\n')
    with pytest.raises(DataError, match=r"other\.calls\.jsonl:1: no line of a file of calls"):
        await other.run()


RECIPE = """
out = "{folder}/new.jsonl"
num = 6
calls_per_round = 2
[dataset]
dataset = "prompts"
settings = {{ path = "{folder}/seeds.txt" }}
[agents.red_team]
agent = "red_team"
engine = "m"
[engines.m]
engine = "scripted"
[engines.m.settings]
model = "script"
rules = [
  {{ pattern = "Where is the ferry", answer = "1. Can a violin be mended?\\n2. Is ice heavy?" }},
  {{ pattern = "open a jar", answer = "Sure:\\n1. Where is the ferry?\\n2. Name {{a town}}." }},
]
fallback = "1. Where is the ferry?"
"""


def test_the_command_says_what_was_written_and_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seeds.txt").write_text("\n".join(SEEDS))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=tmp_path))

    assert main.run(["propose", str(recipe), "--limit", "3"]) == 0

    told = " ".join(capsys.readouterr().out.split())
    assert "3 of 3 new prompts, in" in told
    assert "with a place to be filled in" in told
    assert "Distance to the nearest prompt before: median" in told
    capsys.readouterr()
    assert main.run(["propose", str(recipe), "--json"]) == 1  # there are but three to be had
    document = json.loads(capsys.readouterr().out)
    assert (document["written"], document["found"]) == (3, 3)
    assert "nothing new" in document["stopped"]
    assert set(document["distances"]) >= {"median", "min", "max", "first_fifth", "last_fifth"}


def test_by_files_a_run_comes_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name, words in (("live", []), ("files", ["--batch", str(tmp_path / "job")])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "seeds.txt").write_text("\n".join(SEEDS))
        recipe = folder / "recipe.toml"
        recipe.write_text(RECIPE.format(folder=folder))
        for _ in range(20):
            code = main.run(["propose", str(recipe), "--limit", "3", *words])
            if (folder / "new.jsonl").read_text().count("\n") == 3:
                break
            assert code == 0
            for requests in sorted((tmp_path / "job" / "requests").glob("*.jsonl")):
                main.run(["answer", str(requests), "--recipe", str(recipe)])
        found[name] = (folder / "new.jsonl").read_text()

    assert found["files"] == found["live"]


async def test_the_calls_are_rows_to_train_a_red_team_for_novelty_on(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writing = start(num=8)
    await writing.run()
    recipe = tmp_path / "grpo.toml"
    recipe.write_text(
        f"""
out = "{tmp_path}/grpo"
samples = 4
batch_size = 2
[model.scratch]
hidden_size = 32
num_layers = 2
vocab_size = 300
[data]
path = "{writing.calls_file}"
[reward]
source = "function"
function = "oversight.text.new_prompts:novelty"
[sampling]
max_new_tokens = 8
"""
    )

    assert main.run(["train", "grpo", str(recipe), "--dry-run"]) == 0

    told = " ".join(capsys.readouterr().out.split())
    assert "oversight.text.new_prompts:novelty gives row '0-0'" in told
