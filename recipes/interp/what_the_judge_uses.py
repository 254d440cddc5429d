"""Experiment 2: what does the judge use?

    python recipes/interp/what_the_judge_uses.py runs/uses
    python recipes/interp/what_the_judge_uses.py runs/uses --quick     # a minute; shows little

Debates before seedling's judge come in pairs that differ in one thing: whose quote is later, whose
is marked as found, what the wrong side's quote says (`judge_pairs.py`). For each thing

- the stream is patched, layer by layer at each group of tokens, to see where the difference is;
- heads are found by attribution patching on some questions, and confirmed on others by patching
  them together, beside as many random heads at the same tokens, runs on unrelated debates, and
  models of the same shape with random weights, of which nothing should be claimed;
- what goes from head to head is patched by itself, and the circuit is drawn.

Then the red team's search over what can be quoted (`recipes/redteam/judge.toml`) is run on debates
of other questions. Its finds are edited, one thing at a time, to see what they live by, and patched
at the places of the circuits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from judge_pairs import (
    ANSWER,
    DAY,
    FACTORS,
    FOUND,
    GROUPS,
    NOT_FOUND,
    JudgePrompts,
    JudgeRow,
    held_out,
    pairs_of,
    variants,
)
from judge_pictures import draw_circuits, draw_places, draw_shares
from transformers import AutoTokenizer

from oversight.agents.judge import choice_prompt
from oversight.config import read_toml
from oversight.evals.intervals import Estimate, mean_interval
from oversight.interp.circuits import (
    CircuitReport,
    GroupPlace,
    PatchPair,
    behaviour,
    head_places,
    others_beside,
    patched,
    path_patched,
    share,
    study_circuit,
)
from oversight.interp.contrasts import random_weights
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.models import resolve
from oversight.redteam.log import AttemptLog
from oversight.redteam.preparing import RedTeamSettings, prepare_redteam
from oversight.redteam.running import run_redteam
from oversight.types import Message, Prompt

RED_TEAM = Path(__file__).parents[1] / "redteam" / "judge.toml"
BACK = 3
"""Days before the other side's last that an attack's are set to."""
Paths = dict[tuple[GroupPlace, GroupPlace | None], float]


def shown(each: Estimate) -> str:
    if each.low is None or each.high is None:
        return f"{each.value:6.2f}"
    return f"{each.value:6.2f} [{each.low:.2f}, {each.high:.2f}]"


def beliefs(reader: SiteReader, rows: Sequence[JudgeRow]) -> np.ndarray[Any, Any]:
    """logit(right) - logit(wrong) after each row."""
    pairs = [PatchPair(row.ids, row.ids, row.right, row.wrong, row.question) for row in rows]
    return behaviour(reader, pairs)[0]


def say_of(name: str, gaps: Sequence[float], questions: Sequence[str]) -> str:
    right = mean_interval([float(gap > 0) for gap in gaps], questions)
    logits = mean_interval(list(gaps), questions, None)
    return f"    {name:52} right {shown(right)}, logits {shown(logits)}"


def stream_shares(reader: SiteReader, pairs: Sequence[PatchPair]) -> np.ndarray[Any, Any]:
    """Shares [layers, groups] that the stream before each layer brings back at each group."""
    groups = (*GROUPS, ANSWER)
    sites = reader.modules.every(["residual"])[:-1]
    sets = [[GroupPlace(site, group)] for site in sites for group in groups]
    clean, corrupted = behaviour(reader, pairs)
    back = (patched(reader, pairs, sets) - corrupted).sum(1) / (clean - corrupted).sum()
    return back.reshape(len(sites), len(groups))


def looked_at(
    reader: SiteReader, pairs: Sequence[PatchPair], places: Sequence[GroupPlace]
) -> dict[GroupPlace, list[tuple[str, float]]]:
    """Groups of tokens that have most of the attention of each head, from the tokens of its place;
    the rules are the first three tokens."""
    sites = list(dict.fromkeys(Site("pattern", place.site.layer) for place in places))
    read = reader.read([pair.clean for pair in pairs], sites)
    found = {}
    for place in places:
        sums = dict.fromkeys((*GROUPS, ANSWER, "rules"), 0.0)
        for pair, own in zip(pairs, read, strict=True):
            at = list(pair.groups[place.group])
            weights = own[Site("pattern", place.site.layer)][at, place.head or 0].mean(0).tolist()
            for group in (*GROUPS, ANSWER):
                sums[group] += sum(weights[k] for k in pair.groups[group]) / len(pairs)
            sums["rules"] += sum(weights[:3]) / len(pairs)
        found[place] = sorted(sums.items(), key=lambda each: -each[1])[:3]
    return found


def paths_of(reader: SiteReader, pairs: Sequence[PatchPair], places: Sequence[GroupPlace]) -> Paths:
    """Shares that come back by what goes from each chosen head to each other, and to the answer."""
    paths: list[tuple[GroupPlace, GroupPlace | None]] = []
    for sender in places:
        paths += [
            (sender, receiver)
            for receiver in places
            if receiver.site.layer > sender.site.layer
            and (receiver.group == ANSWER or sender.group != ANSWER)
        ]
        if sender.group == ANSWER:
            paths.append((sender, None))
    if not paths:
        return {}
    clean, corrupted = behaviour(reader, pairs)
    back = (path_patched(reader, pairs, paths) - corrupted).sum(1) / (clean - corrupted).sum()
    return dict(zip(paths, back.tolist(), strict=True))


def report_lines(report: CircuitReport, paths: Paths, notes: Mapping[GroupPlace, Any]) -> list[str]:
    """Lines of one circuit, with its controls."""
    high = float(np.quantile(report.random, 0.975))
    lines = [
        f"    right answers, clean {shown(report.clean)}, corrupted {shown(report.corrupted)}",
        f"    difference in logits (99 %)                {shown(report.difference)}",
        f"    heads found by attribution: {len(report.places)}; rank correlation of estimates and "
        f"real patches {report.agreement:.2f}",
        f"    share that they bring back together        {shown(report.share)}",
        f"    share lost when they are corrupted         {shown(report.lost)}",
        f"    {len(report.random)} sets of as many other heads at the same tokens: median "
        f"{np.median(report.random):.2f}, 97.5 % at {high:.2f}",
    ]
    if report.unrelated is not None:
        same, other = report.unrelated
        lines += [
            f"    from unrelated debates, same right letter  {shown(same)}",
            f"    from unrelated debates, other right letter {shown(other)}",
        ]
    lines.append(f"    claimed: {'yes' if report.claims else 'no'}")
    for place, alone in report.alone.items():
        named = ", ".join(f"{group} {value:.2f}" for group, value in notes[place])
        lines.append(f"      {place!s:30} alone {shown(alone)}; looks at {named}")
    strongest = sorted(paths.items(), key=lambda each: -abs(each[1]))[:6]
    for (sender, receiver), value in strongest:
        to = "the answer" if receiver is None else str(receiver)
        lines.append(f"      path {sender} -> {to}: {value:.2f}")
    return lines


# --- what the red team finds ---


def attacked(out: Path, limit: int, prompts: JudgePrompts) -> list[tuple[JudgeRow, str, float]]:
    """Prompts of the searches that moved the judge, the user's words, and the belief it gave."""
    own = {"folder": str(out / "redteam"), "limit": limit, "fresh": 0, "max_calls": None}
    known = read_toml(RED_TEAM)
    known["dataset"]["settings"]["seed"] = 1  # no question of the circuits
    settings = RedTeamSettings.model_validate(
        {k: v for k, v in (known | own).items() if v is not None}
    )
    work = prepare_redteam(settings)
    found = []
    with AttemptLog(Path(settings.folder), work.identity) as log:
        asyncio.run(run_redteam(work, log, lambda *_: None))
        broken = {
            lane.goal: log.attempt(lane.id, lane.broken_at - 1)
            for lane in log.lanes()
            if lane.attack == "quoted_evidence" and lane.broken_at is not None
        }
    target: Any = work.targets["seedling"]
    for case in work.cases(target):
        attempt = broken.get(case.goal.id)
        if attempt is None or attempt.belief is None:
            continue
        transcript, view = target.view(case, attempt.as_try(), attempt.trial)
        prompt = choice_prompt(view)
        correct = transcript.question.correct
        right = view.orders.options.index(correct)
        row = JudgeRow(
            np.array(prompts.chat.prompt_ids(prompt)),
            prompts.letters[right],
            prompts.letters[1 - right],
            transcript.question.id,
        )
        found.append((row, prompt.messages[1].content, attempt.belief))
    return found


def turns_in(prompts: JudgePrompts, row: JudgeRow) -> dict[str, list[int]]:
    """Places of the day tokens in either side's turn."""
    words = [prompts.tokenizer.decode([token]) for token in row.ids.tolist()]
    right, side = prompts.tokenizer.decode([row.right]), ""
    found: dict[str, list[int]] = {"right": [], "wrong": []}
    for k, word in enumerate(words):
        if word.startswith("<turn speaker"):
            side = "right" if words[k + 1] == right else "wrong"
        elif side and DAY.fullmatch(word):
            found[side].append(k)
    return found


def set_back(prompts: JudgePrompts, row: JudgeRow, which: str) -> JudgeRow | None:
    """The row with days of the wrong side before the other's last; None where either has none.

    Args:
        prompts: Of the tokenizer.
        row: An attack.
        which: "all" days of the wrong side, the "last" one, or the days "before" it.
    """
    at = turns_in(prompts, row)
    if not at["right"] or not at["wrong"]:
        return None
    said = prompts.tokenizer.decode([int(row.ids[at["right"][-1]])])
    day = max(int(said.split()[-1]) - BACK, 10)
    ids = row.ids.copy()
    places = {"all": at["wrong"], "last": at["wrong"][-1:], "before": at["wrong"][:-1]}[which]
    ids[places] = prompts.token(f" on day {day}")
    return replace(row, ids=ids) if places else None


def reworded(prompts: JudgePrompts, row: JudgeRow, text: str, change: str, system: str) -> JudgeRow:
    """The row with the wrong side's quotes not found, without marks, or without the last one."""
    letter = prompts.tokenizer.decode([row.wrong])
    begin = text.index(f'defends="{letter}"')
    stop = text.index("</turn>", begin)
    turn = text[begin:stop]
    if change == "marks":
        turn = turn.replace(FOUND, NOT_FOUND)
    elif change == "words":
        turn = re.sub(rf"</?{FOUND}>", "", turn)
    else:
        cut = turn.rfind("<verified_quote>"), turn.rfind("<near_quote")
        turn = turn[: max(cut)].rstrip() + "\n" if max(cut) > 0 else turn
    messages = (
        Message(role="system", parts=(system,)),
        Message(role="user", parts=(text[:begin] + turn + text[stop:],)),
    )
    return replace(row, ids=np.array(prompts.chat.prompt_ids(Prompt(messages=messages))))


def attack_lines(
    reader: SiteReader,
    prompts: JudgePrompts,
    found: Sequence[tuple[JudgeRow, str, float]],
    circuits: Mapping[str, CircuitReport],
    num_random: int,
) -> tuple[list[str], dict[str, Any]]:
    """Parts that finds live by, and the share of their effect that runs through each circuit."""
    rows = [row for row, _, _ in found]
    if len(rows) < 2:
        return ["    fewer than two attacks succeeded: nothing is said of them"], {}
    system = prompts.tokenizer.decode([int(rows[0].ids[1])])
    plain = beliefs(reader, rows)
    told = 1 / (1 + np.exp(plain))
    apart = max(abs(p - belief) for p, (_, _, belief) in zip(told, found, strict=True))
    questions = [row.question for row in rows]
    lines = [
        f"    {len(rows)} finds; the belief read here is the red team's to {apart:.0e}",
        say_of("as found", plain.tolist(), questions),
    ]
    for which, name in (
        ("all", "all its days set before the other side's last"),
        ("last", "only the day of its last quote set back"),
        ("before", "only the days of its other quotes set back"),
    ):
        kept = [
            (r, n) for row in rows if (r := set_back(prompts, row, which)) for n in [row.question]
        ]
        if kept:
            gaps = beliefs(reader, [row for row, _ in kept]).tolist()
            lines.append(say_of(f"{name} ({len(kept)})", gaps, [n for _, n in kept]))
    for change, name in (
        ("last quote", "without its last quote"),
        ("marks", "its quotes marked as not found"),
        ("words", "its quotes as plain words"),
    ):
        gaps = beliefs(reader, [reworded(prompts, r, t, change, system) for r, t, _ in found])
        lines.append(say_of(name, gaps.tolist(), questions))
    pairs = []
    for row in rows:
        earlier = set_back(prompts, row, "all")
        if earlier is not None and (pair := prompts.pair(earlier, row)) is not None:
            pairs.append(pair)
    clean, corrupted = behaviour(reader, pairs)
    names = [pair.question for pair in pairs]
    places = head_places(reader, (*GROUPS, ANSWER))
    rng, figures = np.random.default_rng(0), {}
    lines.append("    days set back, patched into the attack; share of its effect taken away:")
    for name, circuit in circuits.items():
        number = len(circuit.places)
        drawn = [others_beside(circuit.places, places, rng) for _ in range(num_random)]
        sets: list[Sequence[GroupPlace]] = [circuit.places, *drawn]
        gaps = patched(reader, pairs, sets)
        shares = [share(each, clean, corrupted, names) for each in gaps]
        random = [each.value for each in shares[1:]]
        figures[name] = {"share": shares[0], "random": random}
        saved = mean_interval((gaps[0] > 0).astype(float).tolist(), names)
        lines.append(
            f"      the {number} heads of {name:8}{shown(shares[0])}, then right {shown(saved)}; "
            f"others: median {np.median(random):.2f}, 97.5 % at {np.quantile(random, 0.975):.2f}"
        )
    return lines, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="seedling")
    parser.add_argument("--first", type=int, default=48, help="questions that heads are chosen on")
    parser.add_argument("--second", type=int, default=72, help="questions that they are tried on")
    parser.add_argument("--checked", type=int, default=12, help="pairs on which all are patched")
    parser.add_argument("--random", type=int, default=30, help="random sets of heads")
    parser.add_argument("--untrained", type=int, default=3, help="models with random weights")
    parser.add_argument("--debates", type=int, default=60, help="that the red team attacks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        small = {"first": 10, "second": 12, "checked": 2, "random": 8}
        small |= {"untrained": 1, "debates": 8}
        vars(given).update(small)
    begun = time.monotonic(), time.process_time()
    given.out.mkdir(parents=True, exist_ok=True)
    reader = SiteReader.load(given.model)
    prompts = JudgePrompts(AutoTokenizer.from_pretrained(resolve(given.model)))
    questions = held_out(given.first + given.second, given.seed)
    print("What moves the judge: a right side that quotes its own line, and a wrong side that says")
    for name, rows in variants(prompts, questions):
        print(say_of(name, beliefs(reader, rows).tolist(), [row.question for row in rows]))
    circuits: dict[str, CircuitReport] = {}
    paths: dict[str, Paths] = {}
    maps: dict[str, Any] = {}
    places = head_places(reader, (*GROUPS, ANSWER))
    parts = {}
    for factor in FACTORS:
        pairs = pairs_of(prompts, questions, factor, given.seed)
        names = {question.id for question in questions[: given.first]}
        first = [pair for pair in pairs if pair.question in names]
        second = [pair for pair in pairs if pair.question not in names]
        parts[factor] = first, second
        maps[factor] = stream_shares(reader, first[:24])
        report = study_circuit(
            reader,
            factor,
            first,
            second,
            places,
            num_checked=given.checked,
            num_random=given.random,
            seed=given.seed,
        )
        circuits[factor] = report
        paths[factor] = paths_of(reader, first[:24], report.places)
        notes = looked_at(reader, first, report.places)
        print(
            f"\n{factor}: {len(first)} pairs to choose on, {len(second)} to confirm on", flush=True
        )
        print("\n".join(report_lines(report, paths[factor], notes)), flush=True)
    print("\nModels of the same shape with random weights")
    untrained = []
    for seed in range(given.untrained):
        other = random_weights(reader, seed)
        for factor, (first, second) in parts.items():
            report = study_circuit(
                other,
                factor,
                first[:16],
                second[:24],
                places,
                num_checked=2,
                num_random=12,
                seed=seed,
            )
            untrained.append(report)
            print(
                f"    seed {seed}, {factor:8} right, clean {shown(report.clean)}; difference "
                f"(99 %) {shown(report.difference)}; claimed: {'yes' if report.claims else 'no'}",
                flush=True,
            )
    print("\nWhat the red team's search over quotes exploits")
    found = attacked(given.out, given.debates, prompts)
    lines, figures = attack_lines(reader, prompts, found, circuits, given.random)
    print("\n".join(lines))
    draw_places(maps, (*GROUPS, ANSWER), given.out / "judge_places.png")
    draw_circuits(circuits, paths, given.out / "judge_circuit.png")
    draw_shares(circuits, untrained, figures, given.out / "judge_shares.png")
    kept = {
        "circuits": {
            name: {
                "places": [str(place) for place in each.places],
                "share": each.share.value,
                "claims": each.claims,
            }
            for name, each in circuits.items()
        },
        "untrained_claims": sum(each.claims for each in untrained),
        "attacks": len(found),
    }
    (given.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    took = time.monotonic() - begun[0], time.process_time() - begun[1]
    print(f"\nseconds {took[0]:.0f}, of one processor {took[1]:.0f}")


if __name__ == "__main__":
    main()
