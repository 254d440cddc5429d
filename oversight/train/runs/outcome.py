"""The outcome of a run for people: its model card, and the figures that are told at its end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from oversight.files import to_toml
from oversight.train.runs.folder import RunDescription
from oversight.train.runs.metrics import FIXED, parts_of_reward

METHODS = {
    "sft": "Supervised fine-tuning: cross-entropy on demonstrations.",
    "reward": (
        "Reward model from comparisons (Bradley and Terry, 1952; Ouyang et al., "
        '"Training language models to follow instructions with human feedback", 2022).'
    ),
    "dpo": (
        "Direct preference optimisation (Rafailov et al., "
        '"Direct Preference Optimization: Your Language Model is Secretly a Reward Model", 2023).'
    ),
    "ppo": (
        "Proximal policy optimisation (Schulman et al., "
        '"Proximal Policy Optimization Algorithms", 2017).'
    ),
    "grpo": (
        "Group-relative policy optimisation (Shao et al., "
        '"DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", '
        "2024)."
    ),
}
BEST: dict[str, Any] = {"loss": min, "nll": min, "perplexity": min, "accuracy": max, "reward": max}
"""Metrics of which one value is better than another, and which of two that is."""
AIMLESS = {"ppo": {"loss"}, "grpo": {"loss"}, "reward": {"reward"}}
"""Of these by trainer none is better: a policy's loss changes its data with the policy, and the
rewards of a reward model have no zero."""
FIRST = ("loss", "reward", "accuracy", "kl", "entropy")
"""Metrics that stand first in the table."""


def model_card(
    about: RunDescription,
    lines: list[dict[str, Any]],
    *,
    base_model: str,
    num_steps: int,
    starts: list[dict[str, Any]],
    method: str | None = None,
) -> str:
    """README.md of the model's folder.

    Args:
        about: Facts about the run.
        lines: Its metrics.
        base_model: The model that it began with.
        num_steps: Steps done.
        starts: The run's starts, as `start_record` gave them.
        method: The method with its paper; the trainer's own if not given.
    """
    last = starts[-1] if starts else {}
    parts = [
        _head(about),
        f"# A model trained with {about.trainer}",
        method or METHODS.get(about.trainer, about.trainer),
        f"- Base model: {code(base_model)}\n- Steps: {num_steps:,}\n- Seed: {about.seed}\n"
        f"- Code: git {code(str(last.get('git')))}\n- Starts of the run: {len(starts)}",
        "## Data\n\n" + _listing(about.provenance) + f"\n- Content hash: {code(about.data)}",
        "## Metrics\n\n" + _table(lines, about.trainer),
        "## Recipe\n\n" + _fenced(to_toml(about.config), "toml"),
        "## Versions\n\n" + _listing(last.get("versions", {})),
        "## Licence\n\nThe licences of the base model and of the data apply to this model; look "
        "at both before it is passed on. This card grants nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """Foreign text as a code span, whatever it holds."""
    line = " ".join(text.split()) or "–"
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " * (len(ticks) > 1)
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _head(about: RunDescription) -> str:
    tags = "".join(f"\n- {tag}" for tag in ("oversight", about.trainer))
    return f"---\nlibrary_name: transformers\ntags:{tags}\n---"


def _listing(values: Mapping[str, Any]) -> str:
    shown = (
        f"- {code(str(name))}: {code(value if isinstance(value, str) else json.dumps(value))}"
        for name, value in values.items()
        if value is not None
    )
    return "\n".join(shown) or "- not stated"


def _table(lines: list[dict[str, Any]], trainer: str) -> str:
    """First and last value of every metric by split, and the best where one is better."""
    rows = [
        "| split | metric | first | last | best | at step |",
        "|---|---|---|---|---|---|",
    ]
    for split in ("eval", "train"):
        mine = [line for line in lines if line["split"] == split]
        for name in _ordered({name for line in mine for name in line} - FIXED):
            series = [(line["step"], line[name]) for line in mine if line.get(name) is not None]
            if series:
                rows.append(
                    f"| {split} | {code(name)} | {' | '.join(_summary(name, series, trainer))} |"
                )
    return "\n".join(rows) if len(rows) > 2 else "None were logged."


def _summary(name: str, series: list[tuple[int, float]], trainer: str) -> tuple[str, str, str, str]:
    """First, last and best value and the best one's step; dashes where none is better."""
    first, last = f"{series[0][1]:.4g}", f"{series[-1][1]:.4g}"
    pick = None if name in AIMLESS.get(trainer, ()) else BEST.get(name)
    if pick is None:
        return first, last, "–", "–"
    step, best = pick(series, key=lambda item: item[1])
    return first, last, f"{best:.4g}", str(step)


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else 99, name))


def _fenced(text: str, language: str) -> str:
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{text}{ticks}"


SHOWN = ("nll", "loss", "accuracy", "reward", "kl", "entropy", "response_length")
"""Metrics that are told at the end, in this order."""


def outcome(
    lines: Sequence[Mapping[str, Any]], trainer: str
) -> list[tuple[str, str, str, str, str]]:
    """Name, first, last, best and its step of each metric that is shown and was logged."""
    return list(_rows(lines, trainer))


def _rows(
    lines: Sequence[Mapping[str, Any]], trainer: str
) -> Iterator[tuple[str, str, str, str, str]]:
    for split, where in (("eval", "held out "), ("train", "")):
        parts = parts_of_reward(name for line in lines for name in line)
        for name in (each for known in SHOWN for each in (known, *parts * (known == "reward"))):
            series = [
                (line["step"], line[name])
                for line in lines
                if line["split"] == split and line.get(name) is not None
            ]
            if series:
                yield f"{where}{name}", *_summary(name, series, trainer)
