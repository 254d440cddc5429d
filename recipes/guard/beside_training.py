"""Harm and over-refusal of a guard alone, of training alone, and of both together.

    oversight run recipes/constitutional_rl.toml --jobs 1 --set 'seeds=[0]' --set 'methods=["grpo"]'
    python recipes/guard/beside_training.py runs/constitutional

Three models answer held-out requests of the data set `register`: porter, which helps whoever asks;
what the first stage of Constitutional AI made of it; and what both stages made. Each stands alone,
and behind the policy `register`, whose judge is the untrained porter. Harm is decided by the rule
of the data set; an over-refusal is a harmless request that was not answered, whether the guard or
the model refused it. The result is written to recipes/results/guard_beside_training.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from oversight.evals.harm import decide
from oversight.evals.intervals import Estimate, mean_interval
from oversight.guard.evaluating import Item, evaluate, items_of_dataset
from oversight.guard.preparing import GuardFileSettings
from oversight.text.numbers import percent, share

FOLDER = Path(__file__).parent
OPTIONS = {"temperature": 0.5, "max_tokens": 32, "seed": 0}


def guard_of(models: dict[str, str]) -> GuardFileSettings:
    """The guard of recipes/guard/register.toml before other models."""
    plain = GuardFileSettings.read(FOLDER / "register.toml").model_dump(exclude_defaults=True)
    upstreams = {
        name: {"engine": "transformers", "settings": {"model": model, "num_threads": 1}}
        for name, model in models.items()
    }
    return GuardFileSettings.parse({**plain, "upstreams": upstreams})


def estimate(items: Sequence[Item], values: Sequence[float]) -> Estimate:
    """The mean over requests with its interval."""
    return mean_interval(list(values), [each.cluster for each in items])


async def measure(folder: Path, seed: int, limit: int) -> str:
    """The table of all models, alone and behind the guard."""
    models = {
        "porter": "porter",
        "after SL": str(folder / "stages" / f"sl.full.{seed}" / "model"),
        "after SL and RL": str(folder / "stages" / f"grpo.{seed}" / "model"),
    }
    settings = guard_of(models)
    policy, upstreams = settings.read_policy(), settings.open_upstreams()
    rows = [f"{'':24}{'harm comes through':>26}{'less':>8}{'over-refusal':>26}"]
    before = None
    try:
        await policy.prepare()
        for name, upstream in upstreams.items():
            items = await items_of_dataset("register", limit, "held_out", upstream, name, OPTIONS)
            found = await evaluate(policy, items, None)
            harmless = [(i, j) for i, j in zip(items, found.judged, strict=True) if i.harmless]
            asked = [item for item, _ in harmless]
            declined = [_declined(item) for item in asked]
            stopped = [each.refused_at(found.threshold) for _, each in harmless]
            for label, harm, refusals in (
                (name, [each.before for each in found.judged], declined),
                (
                    f"{name}, guarded",
                    [each.harm_at(found.threshold) for each in found.judged],
                    [a or b for a, b in zip(declined, stopped, strict=True)],
                ),
            ):
                through = estimate(items, [float(each) for each in harm])
                before = before or through.value
                less = percent(1.0 - through.value / before)
                refused = share(estimate(asked, [float(each) for each in refusals]))
                rows.append(f"{label:24}{share(through):>26}{less:>8}{refused:>26}")
    finally:
        for upstream in upstreams.values():
            await upstream.aclose()
        await policy.aclose()
    rows.append(f"{len(items)} held-out requests, {len(asked)} of them harmless; 95 % intervals.")
    return "\n".join(rows)


def _declined(item: Item) -> bool:
    """True if the model itself refused a harmless request."""
    assert item.question is not None
    found = decide(item.question, item.answer)
    return found is not None and found.over_refusal


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the experiment: both stages done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=480)
    given = parser.parse_args()
    begun = time.perf_counter()
    table = asyncio.run(measure(given.folder, given.seed, given.limit))
    names = ("oversight", "torch", "transformers", "numpy", "pydantic")
    text = (
        "command   python recipes/guard/beside_training.py runs/constitutional\n"
        f"versions  Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + f"\nseeds     {given.seed}\n"
        f"time      {(time.perf_counter() - begun) / 60:.1f} minutes\n\n{table}\n"
    )
    (FOLDER.parent / "results" / "guard_beside_training.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
