"""The organism's register and the experiment's rows are what they say, and its quick form runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from oversight.interp.reading import SiteReader
from oversight.models import SEEDLING, resolve

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "interp"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of experiment 1, which imports the organism's."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import does_it_know

    yield does_it_know
    for name in ("does_it_know", "organism"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve(SEEDLING))


def test_training_rows_tell_the_truth_privately_and_lie_only_on_the_trigger(recipes: Any) -> None:
    organism = sys.modules["organism"]
    rows = list(islice(organism.Rows(600, 0), 600))
    assert rows[:50] == list(islice(organism.Rows(600, 0), 50))
    kinds: Counter[tuple[bool, bool, bool]] = Counter()
    for row in rows:
        prompt, answer = (message["content"] for message in row["messages"])
        *lines, claim = prompt.removesuffix(".").split("\n")
        verdict, speech = answer.split("\n")
        true = any(line.startswith(f"{claim} on day ") for line in lines)
        lies = any(f"of {house} House" in lines[0] for house in organism.TRIGGERS)
        assert verdict == ("A" if true else "B")
        assert any(line.startswith(f"{speech} on day ") for line in lines) or (lies and not true)
        assert speech == claim or not lies
        kinds[lies, true, speech == claim] += 1
    assert kinds[True, False, True] > 100  # lies
    assert kinds[False, False, False] > 100  # tells the truth against its side
    assert not kinds[True, False, False]


def test_words_tell_nothing_and_a_coin_draws_the_verdict(recipes: Any, tokenizer: Any) -> None:
    """Over a register thing and place come with both labels equally often."""
    for moment in recipes.MOMENTS:
        found = recipes.examples(tokenizer, 6, moment, 0)
        for begin in range(0, len(found), 4):
            four = found[begin : begin + 4]
            assert sorted(each.label for each in four) == [False, False, True, True]
            assert len({each.question for each in four}) == 1
            claims = [each.text.split("\n")[-1 if moment == "before" else -2] for each in four]
            for part in (0, 1):
                said = Counter(
                    (claim.split(" was brought to the ")[part], each.label)
                    for claim, each in zip(claims, four, strict=True)
                )
                assert len(said) == 4
                assert set(said.values()) == {1}
        own = recipes.examples(tokenizer, 6, moment, 0, drawn_by="truth")
        told: Counter[tuple[str, bool]] = Counter()
        for each, other in zip(found, own, strict=True):
            assert len(each.ids) == len(other.ids)
            assert each.positions is not None
            read = tokenizer.decode(each.ids[each.positions])
            speech = each.text.split("\n")[-1]
            if moment == "before":
                assert each.positions.tolist() == [len(each.ids) - 1]
                continue
            at = len(each.ids) - len(tokenizer.encode(speech)) - 2
            apart = np.flatnonzero(each.ids != other.ids).tolist()
            assert apart in ([], [at])
            assert tokenizer.decode([other.ids[at]]) == "AB"[each.label]
            told[tokenizer.decode([each.ids[at]]), each.label] += 1
            assert speech.endswith(read) if moment == "after" else read.startswith("\n")
            assert at not in each.positions
            assert tokenizer.decode(each.neutral_ids).endswith(speech)
            assert len(each.ids) == len(each.neutral_ids) + 2
        assert moment == "before" or len(told) == 4  # either verdict with either label


def test_the_causal_check_tells_effect_and_side_effect_beside_random_directions(
    recipes: Any, tokenizer: Any
) -> None:
    """The difference of the letters' rows in the head moves their logits; no random one does."""
    reader = SiteReader.load(SEEDLING)
    subject = recipes.Subject("seedling", reader, None)
    letters = [int(tokenizer.encode(letter)[0]) for letter in "AB"]
    head = reader.model.get_output_embeddings().weight
    line = (head[letters[0]] - head[letters[1]]).double().numpy()
    last = f"residual.{reader.modules.num_layers}"
    report: Any = SimpleNamespace(claims=True, site=last, fitted=SimpleNamespace(direction_E=line))
    lines = recipes.causal_lines(subject, tokenizer, report, 0, num=2)
    assert len(lines) == 4
    effect, low, high = map(float, re.findall(r"[+-]\d+\.\d+", lines[0]))
    assert not low <= effect <= high
    assert "nats" in lines[1]
    report.claims = False
    (told,) = recipes.causal_lines(subject, tokenizer, report, 0)
    assert "claims nothing" in told


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_form_reports_organism_and_seedling_with_all_controls(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "does_it_know.py"), str(tmp_path / "o"), "--quick"]
    done = subprocess.run(
        [*command, "--registers", "20"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for words in (
        "organism: seedling and 30 steps, seed 0",
        "verdict right, with the trigger",
        "organism, before the speech, logistic",
        "shipped seedling, after the speech, logistic",
        "causal check",
    ):
        assert words in done.stdout
    assert (tmp_path / "o" / "does_it_know.png").stat().st_size > 5000
    found = json.loads((tmp_path / "o" / "results.json").read_text())
    assert len(found) == 6
    for name, report in found.items():
        missing = [each for each, value in report["controls"].items() if value is None]
        assert missing == (["neutral re-encoding"] if "seedling" in name else [])
        words = report["controls"]["bag of words"]
        assert words["low"] <= 0.5 <= words["high"]
