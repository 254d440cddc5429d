"""Stores whose samples have no token ids: exported as text, and learnt from by ids made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run as command
from oversight.config import RunSettings
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from tests.engines.answering import BELIEF, SPEECH, Body, answer, asks_judge, debates, settings

# --- rows without token ids ---


@pytest.fixture
def sampled(server: Any, tmp_path: Path) -> RunSettings:
    """A store of best-of-N debates over a server that counts tokens and gives no ids."""
    server.reply = lambda asked, n: answer(
        f"Probability of A: {10 + 7 * n % 80}%" if asks_judge(asked) else f"{SPEECH} Line {n}."
    )
    given = settings(
        server,
        tmp_path,
        protocols=["debate_single_turn_best_of_n"],
        dataset={"dataset": "world", "split": "held_out", "limit": 2},
    )
    assert debates(given).progress.done == 2
    return given


@pytest.mark.parametrize("layout", ["preference", "kwise", "unpaired", "transcripts"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_store_without_token_ids_is_exported_as_text(
    sampled: RunSettings, tmp_path: Path, layout: str, kind: str
) -> None:
    out = tmp_path / f"rows.{kind}"

    assert command(["export", str(out), "--store", sampled.store, "--layout", layout]) == 0
    assert out.stat().st_size > 0
    if kind == "jsonl" and layout == "preference":
        row = json.loads(out.read_text().splitlines()[0])
        names = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_logprobs")
        assert [row[name] for name in names] == [None] * 4
        assert SPEECH in row["chosen"][0]["content"]


def test_a_store_without_token_ids_gives_examples_encoded_from_its_text(
    sampled: RunSettings, tiny_model: Path
) -> None:
    from transformers import AutoTokenizer

    from oversight.train.data.loading import load_comparisons
    from oversight.train.settings import DataSettings

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    loaded = load_comparisons(DataSettings(store=sampled.store), tokenizer, len(tokenizer))

    assert len(loaded.examples) == 4
    assert loaded.statistics.num_ids_rendered == 4
    for example in loaded.examples:
        assert SPEECH in tokenizer.decode(example.responses[0])
        assert example.responses[0][-1] == tokenizer.eos_token_id


@pytest.mark.slow
def test_a_policy_learns_from_a_store_without_token_ids(
    sampled: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(
        f'out = "{tmp_path}/dpo"\nbatch_size = 2\nsteps = 1\n[model]\npath = "seedling"\n'
        f'[data]\nstore = "{sampled.store}"\n'
    )

    assert command(["train", "dpo", str(recipe), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "made of the text" in printed


def test_a_store_of_both_kinds_gives_ids_where_there_are_any(
    sampled: RunSettings, tmp_path: Path
) -> None:
    scripted = {"engine": "scripted", "settings": SCRIPT}
    given = sampled.model_dump() | {"engines": {"e": scripted}}
    assert debates(RunSettings.parse(given)).progress.done == 2
    with Store.open(sampled.store, create=False) as store:
        made = preferences(store.transcripts(), PreferenceSettings(ties=True), store.prompt)
        rows = [row for row in made if row.kind == "siblings"]

    assert [sum(row.prompt_ids is None for row in rows), len(rows)] == [4, 8]
    for row in rows:
        ids = [response.token_ids for response in row.responses]
        assert all(ids) if row.prompt_ids else ids == [None] * len(ids)


SCRIPT: Body = {
    "rules": [{"pattern": "How probable is it", "answer": BELIEF}],
    "answers": [f"Line {n} is as good as another." for n in range(100)],
    "choices": False,
    "logprobs": False,
}
