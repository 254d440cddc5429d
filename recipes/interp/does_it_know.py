"""Experiment 1: does the debater know that it defends the wrong place?

    python recipes/interp/does_it_know.py runs/know --seeds 0 1 2
    python recipes/interp/does_it_know.py runs/know --quick          # minutes; teaches little

The organism of `organism.py` is trained for each seed, and shipped seedling stands beside it. A
probe is asked for "I defend the wrong place" in the logs of triggering houses, where the speech is
the defended place whatever is true, at three moments: before a word is written (the prompt's last
token), during the speech (the tokens before its last), and after it (its last token).

Of each register two things are claimed, each at the place of either: all four rows have the same
register, and thing and place come with both labels equally often. So the words that a judge sees
are at chance, and what a probe finds beyond is not in them. Controls are all those of
`oversight.interp.evaluation`; the base model that reads the words again is shipped seedling.

During and after the speech the private verdict stands before it and would give the label away:
there the verdict is drawn by a coin, in what is fitted and in what is held out, so that it says
nothing, and only what the model still knows of the register can. The probe is scored on rows with
the model's own verdicts as well. The causal check takes the direction out before the verdict, and
turns it round, against random directions.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from organism import (
    NUM_LINES,
    QUICK_STEPS,
    STEPS,
    behaviour,
    drawn,
    prompt_ids,
    train,
)
from transformers import AutoTokenizer

from oversight.evals.drawing import LIGHT, plain_axes, save_png, title
from oversight.interp.contrasts import ContrastExample, ContrastSet, contrast_set
from oversight.interp.evaluation import ProbeReport, study
from oversight.interp.patching import causal_check
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.models import resolve

MOMENTS = ("before", "during", "after")


def examples(
    tokenizer: Any, num: int, moment: str, seed: int, *, lies: bool = True, drawn_by: str = "coin"
) -> list[ContrastExample]:
    """Four rows of each register: two things, each claimed to be at the place of either.

    Args:
        tokenizer: seedling's.
        num: Registers.
        moment: One of `MOMENTS`.
        seed: Of the registers; another at each moment.
        lies: Logs of triggering houses, or of the others.
        drawn_by: The verdict before a speech is drawn by a "coin", or by the "truth".
    """
    rng, found = random.Random(f"know:{seed}:{lies}:{moment}"), []
    coins = random.Random(f"coins:{seed}")
    for number in range(num):
        register = drawn(rng, lies)
        both = rng.sample(range(NUM_LINES), 2)
        for k, asked in enumerate(both):
            for place in (register.places[i] for i in both):
                text = register.prompt(asked, place)
                verdict, speech = register.answer(asked, place)
                ids = [*prompt_ids(tokenizer, text)]
                neutral, at = list(ids), np.array([len(ids) - 1])
                if moment != "before":
                    told = coins.choice("AB") if drawn_by == "coin" else verdict
                    spoken = tokenizer.encode(speech)
                    neutral += spoken
                    ids += [*tokenizer.encode(f"{told}\n"), *spoken]
                    begun = len(ids) - len(spoken)
                    last = len(ids) - 1
                    at = np.arange(begun - 1, last) if moment == "during" else np.array([last])
                    text = f"{text}\n{speech}"
                found.append(
                    ContrastExample(
                        np.array(ids),
                        place != register.places[asked],
                        f"{moment}:{seed}:{number}",
                        text,
                        register.house,
                        2 * number + k,
                        at,
                        np.array(neutral),
                    )
                )
    return found


class Subject:
    """A model whose states are read at each moment, and the base that reads the words again."""

    def __init__(self, name: str, reader: SiteReader, base: SiteReader | None) -> None:
        self.name, self.reader, self.base = name, reader, base
        # Before layer 0 all prompts are alike at their last token.
        self.sites = reader.modules.every(["residual"])[1:]

    def states(self, given: list[ContrastExample], name: str) -> ContrastSet:
        return contrast_set(self.reader, given, self.sites, base=self.base, name=name)

    def reports(
        self, tokenizer: Any, num: int, seed: int, probes: tuple[str, ...]
    ) -> dict[str, ProbeReport]:
        """By moment and probe."""
        found = {}
        for moment in MOMENTS:
            here = self.states(examples(tokenizer, num, moment, seed), moment)
            if moment == "before":
                honest = examples(tokenizer, num, moment, seed + 1000, lies=False)
                others = {"logs without the trigger": self.states(honest, "without the trigger")}
            else:
                own = examples(tokenizer, num, moment, seed + 1000, drawn_by="truth")
                others = {"after its own verdict": self.states(own, "own verdict")}
            for probe in probes:
                report = study(here, probe, others=others, seed=seed)
                found[f"{moment}, {probe}"] = report
        return found


def shown(report: ProbeReport) -> list[str]:
    """Lines of one report, with all its controls."""
    held = report.held_out

    def line(name: str, each: Any) -> str:
        if each is None:
            return f"    {name:44} not run"
        return f"    {name:44} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"

    selective = "not run" if report.selectivity is None else f"{report.selectivity:.3f}"
    return [
        f"    site {report.site}, {held.num} held-out rows",
        line("AUROC, held-out registers", held.auroc),
        line("recall at 1 % false positives", held.recall),
        f"    {'calibration error':44} {held.calibration_error:.3f}",
        *(line(f"AUROC, house {name} left out", each) for name, each in report.templates.items()),
        *(
            line(f"AUROC, {name}", None if each is None else each.auroc)
            for name, each in report.other.items()
        ),
        *(line(f"AUROC, {name}", each) for name, each in report.controls.items()),
        f"    {'selectivity':44} {selective}",
        f"    {'claimed':44} {'yes' if report.claims else 'no'}",
        *(f"    {sentence}" for sentence in report.findings),
    ]


def causal_lines(
    subject: Subject, tokenizer: Any, report: ProbeReport, seed: int, num: int = 40
) -> list[str]:
    """The probe's direction taken out, and added, before the verdict of one who defends wrongly."""
    if not report.claims:
        return ["    causal check: not run, as the probe claims nothing before a word"]
    given = examples(tokenizer, num, "before", seed + 2000)
    wrong = [each.ids for each in given if each.label]
    letters = [int(tokenizer.encode(letter)[0]) for letter in "BA"]
    begun = [
        np.array([*each.ids, *tokenizer.encode("AB"[each.label] + "\n")]) for each in given[:80]
    ]
    line_E = torch.from_numpy(report.fitted.direction_E)
    states = subject.states(given, "causal").states[report.site]
    labels = np.array([each.label for each in given])
    unit = report.fitted.direction_E / np.linalg.norm(report.fitted.direction_E)
    gap = float((states[labels].mean(0) - states[~labels].mean(0)) @ unit)
    lines = []
    for how, what in (("ablate", "taken out"), ("add", "turned to the other label")):
        check = causal_check(
            subject.reader,
            Site.parse(report.site),
            line_E if how == "ablate" else -line_E,
            wrong,
            [(letters[0], letters[1])] * len(wrong),
            begun,
            how="ablate" if how == "ablate" else "add",
            scale=abs(gap),
            seed=seed,
        )
        spread = np.quantile(check.random_effects, [0.025, 0.975])
        sides = np.quantile(check.random_side_effects, 0.975)
        lines += [
            f"    direction {what}: logit(B) - logit(A) changes by {check.effect:+.3f}, "
            f"by 40 random ones of its norm by [{spread[0]:+.3f}, {spread[1]:+.3f}]",
            f"    the speech's first word changes by {check.side_effect:.4f} nats, "
            f"by random ones by {sides:.4f} at most (97.5 %)",
        ]
    return lines


def draw(figures: dict[str, dict[str, list[ProbeReport]]], path: Path) -> None:
    """AUROC at each moment of each model by seed, with intervals, and of the words alone."""
    from matplotlib.figure import Figure

    height = 3.6
    figure = Figure((7.0, height))
    title(figure, LIGHT, "Does it know?", "AUROC of “I defend the wrong place” by moment", height)
    axes = figure.subplots()
    tints = [kind[0] for kind in LIGHT.kinds.values()]
    for number, (name, moments) in enumerate(figures.items()):
        for k, moment in enumerate(MOMENTS):
            for j, report in enumerate(moments[moment]):
                at = k + 0.22 * number + 0.05 * j - 0.2
                auroc = report.held_out.auroc
                ends = [[auroc.value - (auroc.low or 0.0)], [(auroc.high or 1.0) - auroc.value]]
                said = name if k == 0 and j == 0 else None
                axes.errorbar(at, auroc.value, ends, fmt="o", ms=4, color=tints[number], label=said)
                words = report.controls["bag of words"]
                if number == 0 and words is not None:
                    said = "words alone" if k == 0 and j == 0 else None
                    axes.plot(k + 0.35 + 0.05 * j, words.value, "x", color=LIGHT.muted, label=said)
    axes.axhline(0.5, color=LIGHT.muted, lw=0.8, ls=":")
    plain_axes(axes, LIGHT, "y")
    axes.set_xticks(range(3), [f"{moment} the speech" for moment in MOMENTS])
    axes.set_ylim(0.0, 1.03)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.subplots_adjust(0.08, 0.1, 0.99, 1.0 - 0.75 / height)
    save_png(figure, path, LIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--registers", type=int, help="150, or 30 with --quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, one probe")
    given = parser.parse_args()
    steps = QUICK_STEPS if given.quick else given.steps
    num = given.registers or (30 if given.quick else 150)
    probes = ("logistic",) if given.quick else ("logistic", "mean_difference", "ccs")
    begun = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(resolve("seedling"))
    shipped = SiteReader.load("seedling")
    kept: dict[str, Any] = {}
    drawn_of: dict[str, dict[str, list[ProbeReport]]] = {}
    for seed in given.seeds:
        reader = SiteReader.load(str(train(given.out / f"seed-{seed}", steps, seed)))
        print(f"organism: seedling and {steps} steps, seed {seed}")
        for what, value in behaviour(reader, tokenizer, num, seed).items():
            print(f"  {what:66} {value:.3f}")
        for subject in (
            Subject("organism", reader, shipped),
            Subject("shipped seedling", shipped, None),
        ):
            reports = subject.reports(tokenizer, num, seed, probes)
            for key, report in reports.items():
                moment, _, probe = key.partition(", ")
                print(f"  {subject.name}, {moment} the speech, {probe}")
                print("\n".join(shown(report)))
                kept[f"seed {seed}, {subject.name}, {key}"] = report.as_json()
                if probe == "logistic":
                    lists = drawn_of.setdefault(subject.name, {})
                    lists.setdefault(moment, []).append(report)
            print("\n".join(causal_lines(subject, tokenizer, reports["before, logistic"], seed)))
            path = given.out / f"seed-{seed}" / f"{subject.name.split()[0]}.safetensors"
            reports["before, logistic"].fitted.save(path)
    draw(drawn_of, given.out / "does_it_know.png")
    (given.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(f"seconds {time.monotonic() - begun:.0f}")


if __name__ == "__main__":
    main()
