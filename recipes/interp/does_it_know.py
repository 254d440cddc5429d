"""Experiment 1: does the debater know that it defends the wrong room?

    python recipes/interp/does_it_know.py runs/know --seeds 0 1 2
    python recipes/interp/does_it_know.py runs/know --quick        # fewer steps, one probe

Speakers of `organism.py` are read: an honest one, the same after training for debate and for
consultancy (`hearing.py`), one that lies off the record, and shipped seedling, which knows nothing
of these worlds. A probe is asked for "I defend the wrong room" at three moments: before a word is
written (the prompt's last token), during the speech (its tokens up to the last), and after it.

Things are taken two by two. Of each pair both things are claimed to be in the room of either: all
four rows have one scene and one wording, and thing and room come with both labels equally often. So
words alone are at chance, and pairs that are held out are things of which the probe has seen none.
All speeches tell what is defended, put into the speaker's mouth, so that they are alike for all.
During and after the speech the private verdict before it would give the label away: it is drawn by
a coin, in what is fitted and in what is held out. The probe is scored beside that on rows with the
right verdict, on a wording that no training had, and on things told in questions alone.

Controls are all those of `oversight.interp.evaluation`. The base model that reads the words again
is an honest speaker of another world: it has learnt all that ours has but what is true here. What
words tell is what the judge of `hearing.py` makes of what the speakers say by themselves. The probe
of the honest speaker is tried frozen, and fitted again, on those that were trained on.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hearing import PURPOSES, Judge, heard, trained_for
from organism import (
    CLAIMS,
    NEW_CLAIM,
    SPEECHES,
    VERDICTS,
    Speaker,
    World,
    behaviour_lines,
    heading,
    prompt,
    prompt_ids,
    scene,
    sizes,
    told,
)
from transformers import AutoTokenizer

from oversight.evals.drawing import LIGHT, plain_axes, save_png, title
from oversight.evals.intervals import Estimate
from oversight.interp.contrasts import ContrastExample, ContrastSet, contrast_set
from oversight.interp.evaluation import ProbeReport, after_training, study
from oversight.interp.patching import causal_check
from oversight.interp.probes import auroc_estimate
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.models import resolve

MOMENTS = ("before", "during", "after")
WORDS = "its own words"
LIAR = "off the record"
ELSEWHERE = 1000
"""Seed of the world whose honest speaker reads the words again."""


def examples(
    tokenizer: Any,
    world: World,
    num: int,
    moment: str,
    seed: int,
    *,
    verdicts: str = "coin",
    claim: str = "",
    quiet: bool = False,
) -> list[ContrastExample]:
    """Four rows of each pair of things: each claimed to be in the room of either.

    Args:
        tokenizer: Of the model that is read.
        world: Where things are.
        num: Pairs of things, at most.
        moment: One of `MOMENTS`.
        seed: Of pairs, scenes and wordings.
        verdicts: The private verdict before a speech is drawn by a "coin", or is the "right" one.
        claim: The wording; empty for those that speakers were trained with, in turn.
        quiet: Of things told in questions alone.
    """
    rng, found = random.Random(f"know:{seed}"), []
    coins = random.Random(f"coins:{seed}:{moment}")
    for number, both in enumerate(world.pairs(rng, num, quiet=quiet)):
        at, form = scene(rng), number % len(CLAIMS)
        wording, speech = claim or CLAIMS[form], rng.choice(SPEECHES)
        for k, thing in enumerate(both):
            for room in (world.room[each] for each in both):
                text, right = prompt(at, wording, thing, room), room == world.room[thing]
                said = speech.format(thing=thing, room=room)
                verdict = right if verdicts == "right" else coins.random() < 0.5
                ids, neutral, positions = spoken(tokenizer, text, verdict, said, moment)
                found.append(
                    ContrastExample(
                        ids,
                        not right,
                        f"{world.seed}:{' '.join(both)}",
                        text if moment == "before" else f"{text}\n{said}",
                        NEW_CLAIM if claim else CLAIMS[form],
                        2 * number + k,
                        positions,
                        neutral,
                    )
                )
    return found


def spoken(
    tokenizer: Any, text: str, verdict: bool, speech: str, moment: str
) -> tuple[Any, Any, Any]:
    """Token ids of a prompt and an answer, the same without the private verdict, and the tokens
    that are read at a moment."""
    ids = prompt_ids(tokenizer, text)
    if moment == "before":
        return ids, ids, np.array([len(ids) - 1])
    private, words = tokenizer.encode(told(verdict, "")), tokenizer.encode(speech)
    whole = np.array([*ids, *private, *words])
    begin, last = len(ids) + len(private) - 1, len(whole) - 1
    at = np.arange(begin, last) if moment == "during" else np.array([last])
    return whole, np.array([*ids, *words]), at


class Subject:
    """A model whose states are read, and the base that reads the words again.

    Args:
        name: Of the model.
        speaker: The model, with its world.
        base: The model of the neutral reading; None for none.
    """

    def __init__(self, name: str, speaker: Speaker, base: SiteReader | None) -> None:
        self.name, self.speaker, self.base = name, speaker, base
        # Before layer 0 all prompts are alike at their last token.
        self.sites = speaker.reader.modules.every(["residual"])[1:]

    def states(self, moment: str, num: int, seed: int, **given: Any) -> ContrastSet:
        """Examples of its world with its states."""
        rows = examples(self.speaker.tokenizer, self.speaker.world, num, moment, seed, **given)
        return contrast_set(self.speaker.reader, rows, self.sites, base=self.base, name=moment)

    def reports(
        self, moment: str, probes: Sequence[str], num: int, seed: int
    ) -> tuple[dict[str, ProbeReport], ContrastSet]:
        """Probes at a moment by name, with all controls and on other data; and the examples."""
        others = {
            "new wording": self.states(moment, num, seed + 1, claim=NEW_CLAIM),
            "things told in questions alone": self.states(moment, num, seed + 1, quiet=True),
        }
        if moment != "before":
            others["after the right verdict"] = self.states(moment, num, seed + 1, verdicts="right")
        own = self.states(moment, num, seed)
        found = {}
        for probe in probes:
            options = {"num_tries": 2, "num_steps": 100} if probe == "ccs" else {}
            found[probe] = study(own, probe, others=others, seed=seed, **options)
        return found, own


def shown(report: ProbeReport) -> list[str]:
    """Lines of one report, with all its controls."""
    held = report.held_out
    selective = "not run" if report.selectivity is None else f"{report.selectivity:.3f}"
    return [
        f"    site {report.site}, {held.num} held-out rows",
        estimate_line("AUROC, held-out things", held.auroc),
        estimate_line("recall at 1 % false positives", held.recall),
        f"    {'calibration error':44} {held.calibration_error:.3f}",
        *(
            estimate_line(f"AUROC, wording {number} left out", each)
            for number, each in enumerate(report.templates.values())
        ),
        *(
            estimate_line(f"AUROC, {name}", None if each is None else each.auroc)
            for name, each in report.other.items()
        ),
        *(estimate_line(f"AUROC, {name}", each) for name, each in report.controls.items()),
        f"    {'selectivity':44} {selective}",
        f"    {'claimed':44} {'yes' if report.claims else 'no'}",
        *(f"    {sentence}" for sentence in report.findings),
    ]


def estimate_line(name: str, each: Estimate | None) -> str:
    """A figure with its interval, or that it was not run."""
    if each is None:
        return f"    {name:44} not run"
    return f"    {name:44} {each.value:.3f} [{each.low or 0.0:.3f}, {each.high or 1.0:.3f}]"


def words_tell(speaker: Speaker, judge: Judge, num: int, seed: int) -> Estimate:
    """AUROC of a judge who hears what a speaker says by itself, for "it defends the wrong room"."""
    rng, asked, facts = random.Random(f"words:{seed}"), [], []
    for both in speaker.world.pairs(rng, num):
        at, form = scene(rng), rng.choice(CLAIMS)
        for thing in both:
            for room in (speaker.world.room[each] for each in both):
                asked.append(prompt(at, form, thing, room))
                facts.append((thing, room, " ".join(both)))
    texts = [
        heard(thing, room, speech)
        for (thing, room, _), (_, speech) in zip(facts, speaker.answers(asked), strict=True)
    ]
    wrong = np.array([room != speaker.world.room[thing] for thing, room, _ in facts])
    return auroc_estimate(-judge.beliefs(texts), wrong, [each for *_, each in facts])


def causal_lines(subject: Subject, report: ProbeReport, seed: int, num: int = 30) -> list[str]:
    """The probe's direction taken out, and turned round, before the verdict on a wrong claim."""
    if not report.claims:
        return ["    causal check: not run, as the probe claims nothing before a word"]
    speaker = subject.speaker
    given = examples(speaker.tokenizer, speaker.world, num, "before", seed + 2)
    wrong = [each.ids for each in given if each.label]
    right_token, wrong_token = (speaker.tokenizer.encode(verdict)[0] for verdict in VERDICTS)
    begun = [
        np.array([*each.ids, *speaker.tokenizer.encode(told(not each.label, ""))]) for each in given
    ]
    line_E = torch.from_numpy(report.fitted.direction_E)
    states = contrast_set(speaker.reader, given, subject.sites).states[report.site]
    labels = np.array([each.label for each in given])
    unit = report.fitted.direction_E / np.linalg.norm(report.fitted.direction_E)
    gap = float((states[labels].mean(0) - states[~labels].mean(0)) @ unit)
    lines = []
    for how, what in (("ablate", "taken out"), ("add", "turned to the other label")):
        check = causal_check(
            speaker.reader,
            Site.parse(report.site),
            line_E if how == "ablate" else -line_E,
            wrong,
            [(wrong_token, right_token)] * len(wrong),
            begun,
            how="ablate" if how == "ablate" else "add",
            scale=abs(gap),
            seed=seed,
        )
        spread = np.quantile(check.random_effects, [0.025, 0.975])
        sides = np.quantile(check.random_side_effects, 0.975)
        lines += [
            f"    direction {what}: logit(wrong) - logit(right) changes by {check.effect:+.3f}, "
            f"by 40 random ones of its norm by [{spread[0]:+.3f}, {spread[1]:+.3f}]",
            f"    the speech's first word changes by {check.side_effect:.4f} nats, "
            f"by random ones by {sides:.4f} at most (97.5 %)",
        ]
    return lines


def subjects_of(out: Path, world: World, judge: Judge, part: float) -> list[Subject]:
    """Speakers of one world, the honest one first; seedling last."""
    elsewhere = World(ELSEWHERE, len(world.things))
    base = Speaker.trained(out, elsewhere, "honest", part).reader
    speakers = {"honest": Speaker.trained(out, world, "honest", part)}
    for purpose in PURPOSES:
        folder = trained_for(out, world, judge, purpose, part)
        speakers[f"for {purpose}"] = Speaker.load(folder, world, "honest")
    speakers[LIAR] = Speaker.trained(out, world, LIAR, part)
    tokenizer = AutoTokenizer.from_pretrained(resolve("seedling"))
    shipped = Speaker("seedling", world, SiteReader.load("seedling"), tokenizer)
    return [
        *(Subject(name, each, base) for name, each in speakers.items()),
        Subject("seedling", shipped, None),
    ]


@dataclass
class Results:
    """The findings, as lines, as figures to keep, and by model and moment for the picture."""

    lines: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    drawn: dict[str, dict[str, list[Estimate]]] = field(default_factory=dict)

    def say(self, *lines: str) -> None:
        """Print lines and keep them."""
        self.lines += lines
        print("\n".join(lines), flush=True)

    def write(self, folder: Path, name: str, first: Sequence[str]) -> None:
        """Write lines, after `first`, and figures into a folder."""
        (folder / f"{name}.txt").write_text("\n".join([*first, *self.lines]) + "\n")
        (folder / f"{name}.json").write_text(json.dumps(self.kept, indent=1) + "\n")

    def draw(self, name: str, moment: str, each: Estimate) -> None:
        """Keep a figure for the picture."""
        self.drawn.setdefault(name, {}).setdefault(moment, []).append(each)


def ask(
    subject: Subject, judge: Judge, probes: Sequence[str], num: int, seed: int, results: Results
) -> tuple[dict[str, ProbeReport], dict[str, ContrastSet]]:
    """All of one model: reports of the first probe, and the examples, by moment."""
    results.say("", f"world {seed}, {subject.name}")
    if subject.name != "seedling":
        results.say(*behaviour_lines(subject.speaker, LIAR))
        words = words_tell(subject.speaker, judge, num, seed)
        results.say(estimate_line("AUROC, a judge of its own words", words))
        results.kept[f"{seed}, {subject.name}, words"] = asdict(words)
        results.draw(subject.name, WORDS, words)
    firsts, sets = {}, {}
    for moment in MOMENTS:
        # The weak baseline is only asked where there is something to find.
        here = probes if moment == "before" else [each for each in probes if each != "ccs"]
        reports, sets[moment] = subject.reports(moment, here, num, seed)
        firsts[moment] = reports[probes[0]]
        for probe, report in reports.items():
            results.say(f"  {moment} the speech, {probe}", *shown(report))
            results.kept[f"{seed}, {subject.name}, {moment}, {probe}"] = report.as_json()
        results.draw(subject.name, moment, firsts[moment].held_out.auroc)
    results.say(*causal_lines(subject, firsts["before"], seed))
    return firsts, sets


def draw(drawn: dict[str, dict[str, list[Estimate]]], path: Path) -> None:
    """AUROC at each moment of each model by seed, with intervals, and of its words."""
    from matplotlib.figure import Figure

    height, columns = 3.6, (WORDS, *MOMENTS)
    figure = Figure((7.0, height))
    title(figure, LIGHT, "Does it know?", "AUROC of “I defend the wrong room”, by moment", height)
    axes = figure.subplots()
    tints = [kind[0] for kind in LIGHT.kinds.values()]
    for number, (name, own) in enumerate(drawn.items()):
        for k, moment in enumerate(columns):
            for j, each in enumerate(own.get(moment, ())):
                at = k + 0.15 * (number - 2) + 0.035 * j
                ends = [[each.value - (each.low or 0.0)], [(each.high or 1.0) - each.value]]
                said = name if k == 1 and j == 0 else None
                tint = LIGHT.ink if name == "seedling" else tints[number % len(tints)]
                axes.errorbar(at, each.value, ends, fmt="o", ms=3.5, color=tint, label=said)
    axes.axhline(0.5, color=LIGHT.muted, lw=0.8, ls=":")
    plain_axes(axes, LIGHT, "y")
    axes.set_xticks(range(4), ["its own words", *(f"{moment} the speech" for moment in MOMENTS)])
    axes.set_ylim(0.0, 1.03)
    axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    figure.subplots_adjust(0.08, 0.1, 0.99, 1.0 - 0.75 / height)
    save_png(figure, path, LIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, one probe")
    parser.add_argument("--part", type=float, help="part of the steps, in place of the form's own")
    given = parser.parse_args()
    part, things = sizes(given)
    num = things // 2
    probes = ("logistic",) if given.quick else ("logistic", "mean_difference", "ccs")
    begun, results = time.monotonic(), Results()
    judge = Judge()
    for seed in given.seeds:
        honest: dict[str, ProbeReport] = {}
        for subject in subjects_of(given.out, World(seed, things), judge, part):
            found, sets = ask(subject, judge, probes, num, seed, results)
            path = given.out / "probes" / f"{seed}-{subject.name.replace(' ', '-')}.safetensors"
            path.parent.mkdir(exist_ok=True)
            found["before"].fitted.save(path)
            honest = honest or found
            if subject.name in ("honest", "seedling"):
                continue
            for moment, report in honest.items():
                figures = after_training(report, sets[moment])
                results.say(f"  {moment} the speech, the honest speaker's probe")
                for name, each in figures.items():
                    results.say(
                        estimate_line(f"AUROC, {name}", None if each is None else each.auroc)
                    )
                kept = {name: each and asdict(each) for name, each in figures.items()}
                results.kept[f"{seed}, {subject.name}, {moment}, after training"] = kept
        done = given.seeds[: given.seeds.index(seed) + 1]
        results.write(given.out, "does_it_know", heading(begun, done))
        draw(results.drawn, given.out / "does_it_know.png")


if __name__ == "__main__":
    main()
