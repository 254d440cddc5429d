"""Circuits are found where they were put, and rows that cannot be patched are refused by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oversight.errors import ConfigError
from oversight.interp.circuits import (
    GroupPlace,
    PatchPair,
    attributed,
    behaviour,
    head_places,
    others_beside,
    patched,
    path_patched,
    share,
    study_circuit,
)
from oversight.interp.patching import activation_patching, attribution_patching
from oversight.interp.planted import CopyingModel, copying_model, random_model
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.models import SEEDLING, resolve
from tests.modeling.conftest import make_lm

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "interp"


def copied(known: CopyingModel, numbers: range) -> list[PatchPair]:
    """Pairs that differ in the marked token, which stands anywhere before the last."""
    found = []
    for number in numbers:
        right, wrong = 3 + number % 4, 8 + number % 3
        rows = known.row(right, number), known.row(wrong, number)
        last = len(rows[0]) - 1
        at = {"answer": (last,), "before": tuple(range(last))}
        found.append(PatchPair(*rows, right, wrong, f"q{number}", at))
    return found


def test_the_head_that_copies_is_the_circuit_and_no_other_is() -> None:
    known = copying_model(layer=1, head=2)
    reader = SiteReader(known.model)
    first, second = copied(known, range(8)), copied(known, range(8, 24))
    places = head_places(reader, ("answer", "before"))
    report = study_circuit(reader, "copying", first, second, places, most=3, num_random=8)
    assert report.places == (GroupPlace(Site("heads", 1), "answer", 2),)
    assert report.clean.value == 1.0
    assert report.corrupted.value == 0.0
    assert report.share.value > 0.9
    assert report.lost.value > 0.9
    assert max(map(abs, report.random)) < 0.1
    assert report.claims
    assert report.alone[report.places[0]].value == pytest.approx(report.share.value)


def test_of_a_model_that_has_learnt_nothing_nothing_is_claimed() -> None:
    known = copying_model()
    for seed in range(3):
        reader = SiteReader(random_model(seed))
        first, second = copied(known, range(6)), copied(known, range(6, 18))
        places = head_places(reader, ("answer", "before"))
        known_as = {"most": 2, "num_checked": 2, "num_random": 6}
        assert not study_circuit(reader, "copying", first, second, places, **known_as).claims


def test_sets_of_one_place_are_activation_and_attribution_patching() -> None:
    known = copying_model()
    reader = SiteReader(known.model)
    pairs = copied(known, range(2))
    places = [*head_places(reader, ("answer", "before")), GroupPlace(Site("heads", 1), "", 2)]
    gaps = patched(reader, pairs, [[place] for place in places])
    estimates = attributed(reader, pairs, places)
    for k, pair in enumerate(pairs):
        given = (reader, pair.clean, pair.corrupted, pair.right, pair.wrong)
        at = [place.of(pair) for place in places]
        for found, plain in (
            (gaps[:, k], activation_patching(*given, at)),
            (estimates[:, k] + behaviour(reader, [pair])[1], attribution_patching(*given, at)),
        ):
            whole = plain.clean - plain.corrupted
            wanted = [plain.corrupted + plain.effects[place] * whole for place in at]
            np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_path_is_that_of_plain_hooks() -> None:
    """Sender put in, later heads held, feed-forward layers computed anew; then the receiver."""
    model = make_lm("llama", num_hidden_layers=3)
    reader = SiteReader(model)
    rng = np.random.default_rng(0)
    clean = rng.integers(2, 97, 9)
    corrupted = clean.copy()
    corrupted[3] = 50
    pair = PatchPair(clean, corrupted, 5, 9, "q", {"answer": (8,), "middle": (3, 4, 5)})
    size = reader.modules.config.hidden_size // reader.modules.num_heads
    mixing = [layer.self_attn.o_proj for layer in model.model.layers]

    def run(ids: Any, change: dict[int, Any]) -> tuple[list[torch.Tensor], torch.Tensor]:
        seen: list[torch.Tensor] = []

        def hook(layer: int) -> Any:
            def before(module: Any, args: Any) -> Any:
                given = args[0].clone()
                if layer in change:
                    change[layer](given[0])
                seen.append(given[0].clone())
                return (given,)

            return before

        handles = [m.register_forward_pre_hook(hook(k)) for k, m in enumerate(mixing)]
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)[None]).logits[0, -1]
        for handle in handles:
            handle.remove()
        return seen, logits

    own, _ = run(clean, {})
    held, _ = run(corrupted, {})
    sender, receiver = slice(size, 2 * size), slice(2 * size, 3 * size)

    def put(given: torch.Tensor) -> None:
        given[[3, 4, 5], sender] = own[0][[3, 4, 5], sender]

    def hold(layer: int) -> Any:
        def keep(given: torch.Tensor) -> None:
            given[:] = held[layer]

        return keep

    then, direct = run(corrupted, {0: put, 1: hold(1), 2: hold(2)})
    then, _ = run(corrupted, {0: put, 1: hold(1)})

    def last(given: torch.Tensor) -> None:
        given[8, receiver] = then[2][8, receiver]

    _, onward = run(corrupted, {2: last})
    one = GroupPlace(Site("heads", 0), "middle", 1)
    other = GroupPlace(Site("heads", 2), "answer", 2)
    _, whole = run(corrupted, {0: put})
    [[gap]] = patched(reader, [pair], [[one]])
    assert gap == pytest.approx(float(whole[5] - whole[9]), abs=1e-5)
    found = path_patched(reader, [pair], [(one, other), (one, None)])[:, 0]
    wanted = [float(each[5] - each[9]) for each in (onward, direct)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert abs(wanted[0] - behaviour(reader, [pair])[1][0]) > 1e-6


def test_a_share_is_a_ratio_of_sums_clustered_by_question() -> None:
    clean, corrupted = np.array([4.0, 2.0, 0.1, 3.0]), np.array([-4.0, -2.0, 0.0, -1.0])
    whole = clean - corrupted
    half = corrupted + 0.5 * whole + np.array([0.1, -0.1, 0.0, 0.2])
    found = share(half, clean, corrupted, ["a", "a", "b", "c"])
    assert found.value == pytest.approx(((half - corrupted).sum()) / whole.sum())
    assert found.num_clusters == 3
    assert found.low is not None
    assert found.low < found.value


def test_what_cannot_be_patched_is_refused_by_name() -> None:
    known = copying_model()
    reader = SiteReader(known.model)
    pairs = copied(known, range(4))
    with pytest.raises(ConfigError, match="'q9': the clean row has 5 tokens and the corrupted"):
        PatchPair(np.arange(5), np.arange(6), 1, 2, "q9")
    with pytest.raises(ConfigError, match="no group 'day'; there are answer, before"):
        patched(reader, pairs, [[GroupPlace(Site("heads", 0), "day", 0)]])
    with pytest.raises(ConfigError, match=r"site 'heads.7': the model has heads.0 to heads.1"):
        patched(reader, pairs, [[GroupPlace(Site("heads", 7), "answer", 0)]])
    with pytest.raises(ConfigError, match="has 9 tokens, and the rows"):
        patched(reader, pairs[:1], [[]], [np.arange(4)])
    places = head_places(reader, ("answer",))
    with pytest.raises(ConfigError, match="question 'q1' is in both parts"):
        study_circuit(reader, "x", pairs, pairs[1:], places, most=2)
    with pytest.raises(ConfigError, match="0 and 4 pairs, and 2 of 8 places"):
        study_circuit(reader, "x", [], pairs, places, most=2)
    with pytest.raises(ConfigError, match="group 'answer' has 3 that are not chosen, and 5 are"):
        others_beside(places[:5], places, np.random.default_rng(0))
    stream = GroupPlace(Site("residual", 0), "answer")
    with pytest.raises(ConfigError, match=r"residual\.0 at answer is no head"):
        path_patched(reader, pairs, [(stream, None)])
    with pytest.raises(ConfigError, match=r"heads.0.0 at answer is not above heads.0.0"):
        path_patched(reader, pairs, [(places[0], places[0])])
    reader.policy, reader.alone = None, "a softcap on attention"
    with pytest.raises(ConfigError, match="runs over a token trie: a softcap on attention"):
        behaviour(reader, pairs)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes pairs of debates."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import judge_pairs

    yield judge_pairs
    sys.modules.pop("judge_pairs", None)


def test_pairs_of_debates_differ_in_one_thing_and_prompts_are_the_judges_own(recipe: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve(SEEDLING))
    prompts = recipe.JudgePrompts(tokenizer)
    questions = recipe.held_out(15)
    changed = {
        "times": {"right day", "wrong day"},
        "marks": {"right mark", "wrong mark", "right end", "wrong end"},
        "quotes": {"wrong thing", "wrong place", "wrong day"},
    }
    for factor in recipe.FACTORS:
        pairs = recipe.pairs_of(prompts, questions, factor)
        assert len(pairs) >= 6
        for pair in pairs:
            apart = set(np.flatnonzero(pair.clean != pair.corrupted).tolist())
            inside = {k for name in changed[factor] for k in pair.groups[name]}
            assert apart
            assert apart <= inside
            every = [k for at in pair.groups.values() for k in at]
            assert sorted(every) == list(range(3, len(pair.clean)))
            text = tokenizer.decode(pair.clean[list(pair.groups["right day"])])
            assert text.startswith(" on day ")
    number, question = next((n, q) for n, q in enumerate(questions) if q.correct is not None)
    lines = recipe.Lines.of(question, recipe.random.Random(0))
    tags = {True: recipe.FOUND, False: recipe.FOUND}
    said = {True: lines.right, False: lines.wrong}
    made = prompts.row(question, number, said, tags)
    plain = {side: f"<quote>{line}</quote>" for side, line in said.items()}
    house = prompts.row(question, number, plain, {})  # marks put there by the program that checks
    assert made.ids.tolist() == house.ids.tolist()
    assert prompts.groups(replace(made, ids=made.ids[made.ids != prompts.token("The ")])) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_form_finds_the_heads_that_compare_days(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "what_the_judge_uses.py"), str(tmp_path), "--quick"]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    times = done.stdout.split("\ntimes: ")[1].split("\nmarks: ")[0]
    assert "claimed: yes" in times
    back = re.search(r"bring back together\s+([\d.]+)", times)
    assert back is not None
    assert float(back.group(1)) > 0.8
    untrained = done.stdout.split("random weights")[1].split("What the red team")[0]
    assert untrained.count("claimed: no") == 3
    for name in ("judge_places", "judge_circuit", "judge_shares"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
