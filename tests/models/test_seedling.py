"""Seedling: what it was taught is what it is asked, and it plays every role."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oversight.cli.running import run
from oversight.config.recipe import load_recipe
from oversight.config.run import RunSettings
from oversight.evals.report import build_report
from oversight.models import SEEDLING, resolve
from oversight.store import Store
from oversight.types import Purpose, QuoteStatus, Transcript

NUM_QUESTIONS = 40


@pytest.fixture(scope="module")
def roleplay(root: Path) -> Iterator[ModuleType]:
    """The recipe's module of role-play."""
    spec = importlib.util.spec_from_file_location(
        "seedling_roleplay", root / "recipes" / "seedling" / "roleplay.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Debates of the demo's recipe, all of seedling."""
    from rich.console import Console

    path = str(tmp_path_factory.mktemp("seedling") / "debates.db")
    settings = load_recipe(
        RunSettings,
        root / "oversight" / "cli" / "demo.toml",
        {
            "store": path,
            "dataset.limit": NUM_QUESTIONS,
            "engines.seedling.settings.num_threads": 1,
        },
    )
    done = run(settings, Console(quiet=True))
    assert not done.progress.failures
    with Store.open(path, create=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def transcripts(store: Store) -> list[Transcript]:
    return list(store.transcripts())


def of_protocol(transcripts: list[Transcript], name: str) -> list[Transcript]:
    return [each for each in transcripts if each.debate.protocol.name == name]


def accuracy(transcripts: list[Transcript], name: str) -> float:
    [arm] = build_report(of_protocol(transcripts, name)).arms
    return arm.accuracy.accuracy_all.value


def test_a_judge_alone_is_at_chance(transcripts):
    assert 0.3 < accuracy(transcripts, "naive") < 0.7


def test_debates_help_the_judge_more_than_consultancies(transcripts):
    debate = accuracy(transcripts, "debate_single_turn")
    consultancy = accuracy(transcripts, "consultancy_single_turn")
    assert debate > 0.8
    assert consultancy < 0.7


def case_of(roleplay: ModuleType, transcript: Transcript) -> Any:
    """The recipe's form of a debate's question."""
    listing = transcript.debate.orders.options
    question = transcript.question
    assert question.source is not None
    assert question.correct is not None
    return roleplay.Case(
        source=question.source,
        family=None,
        question=question.text,
        options=tuple(question.options[index].text for index in listing),
        correct=listing.index(question.correct),
        lines=(None, None),
        others=(),
    )


@pytest.mark.parametrize("name", ["debate_single_turn", "consultancy_single_turn"])
def test_the_prompts_it_was_taught_are_those_it_is_given(roleplay, store, transcripts, name):
    """Word for word: a change of an agent's prompt asks for seedling to be built again."""
    for transcript in of_protocol(transcripts, name)[:6]:
        case = case_of(roleplay, transcript)
        orders = transcript.debate.orders
        shown = []
        for turn in sorted(transcript.spoken(), key=lambda turn: orders.shown.index(turn.seat)):
            side = orders.options.index(orders.defended_by(turn.seat))
            seat = turn.seat.value.upper()
            if name.startswith("debate"):
                row = roleplay.debater_row(case, seat, side, turn.text)
                speaker = f"Debater {seat}"
            else:
                row = roleplay.consultant_row(case, side, turn.text)
                speaker = "Consultant"
            [sample] = turn.samples
            given = store.prompt(sample.prompt_id).prompt.chat()
            assert given == row["messages"][:2]
            shown.append(roleplay.Spoken(speaker, turn.text, "AB"[side]).shown(case.source))
        [sample] = transcript.judgments[0].samples
        assert sample.purpose is Purpose.BELIEF
        row = roleplay.judge_row(case, "".join(shown))
        assert store.prompt(sample.prompt_id).prompt.chat() == row["messages"][:2]


def test_its_speeches_are_claims_with_a_verified_quote(transcripts):
    turns = [t for each in of_protocol(transcripts, "debate_single_turn") for t in each.spoken()]
    verified = [any(q.status is QuoteStatus.VERIFIED for q in turn.quotes) for turn in turns]
    assert sum(verified) / len(verified) > 0.8


def test_every_prompt_it_was_taught_fits_it(roleplay, root):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve(SEEDLING))
    rng = random.Random(0)
    rows = [row for _ in range(20) for row in roleplay.lesson(rng, None, 0.3, 0.5)]
    for row in rows:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) < 600
