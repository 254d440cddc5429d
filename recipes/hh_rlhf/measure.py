"""Reward models from scratch on hh-rlhf pairs: accuracy on pairs that they have not seen.

    python recipes/hh_rlhf/measure.py                  # kept in recipes/results/hh_reward.txt
    python recipes/hh_rlhf/measure.py --set epochs=8   # printed only

Cross-validation: each pair is judged once, by models that were trained on the other folds, so the
interval is that of all pairs. Tokenizer and models of a fold are made from its training part alone,
and no held-out result chooses a step. Figures are printed, and no text of the data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oversight.config import assignments, load_recipe
from oversight.evals.intervals import Estimate, mean_interval
from oversight.train import reward
from oversight.train.batches import row_rewards
from oversight.train.data.loading import load_comparisons
from oversight.train.distributed import World
from oversight.train.loading import load_scalar, read_config
from oversight.train.runs.metrics import read_metrics
from oversight.train.settings import DataSettings, ModelSettings

ROOT = Path(__file__).resolve().parent.parent
RECIPE = Path(__file__).with_name("reward.toml")
RESULT = ROOT / "results" / "hh_reward.txt"
FOLDS = 5
Row = dict[str, Any]


def read_rows() -> list[Row]:
    """All pairs, in an order that does not depend on the file's."""
    shared = os.environ.get("OVERSIGHT_SHARED_DATA", ROOT.parent.parent / "shared" / "data")
    lines = Path(shared, "hh-rlhf", "harmless-test-1200.jsonl").read_text(encoding="utf-8")
    rows = [{"id": f"pair-{i}", **json.loads(line)} for i, line in enumerate(lines.splitlines())]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def trained(config: reward.Config, rows: list[Row], out: Path) -> list[Path]:
    """The members of an ensemble that has learnt `rows`."""
    place = reward.train(config.model_copy(update={"out": out}), rows=rows)
    if config.members == 1:
        return [place]
    return [place / f"member-{i + 1}" / "model" for i in range(config.members)]


def differences(config: reward.Config, folder: Path, rows: list[Row]) -> dict[str, float]:
    """Of each pair that can be read: the chosen response's reward less the rejected one's."""
    settings = ModelSettings(path=str(folder), device="cpu")
    model_config, vocabulary = read_config(settings, ())
    model = load_scalar(settings, model_config, 0)
    size, longest = vocabulary.size, vocabulary.max_length
    loaded = load_comparisons(config.data, vocabulary.tokenizer, size, longest, rows=rows)
    flat = [row for pair in loaded.examples for row in pair.rows()]
    scores = row_rewards(model, flat, World.join(torch.device("cpu")), 8192)
    return {p.id: scores[2 * i] - scores[2 * i + 1] for i, p in enumerate(loaded.examples)}


def accuracy(values: dict[str, float]) -> Estimate:
    """The share of pairs whose chosen response has the higher reward; equal ones count half."""
    right = [0.5 + 0.5 * float(np.sign(value)) for value in values.values()]
    return mean_interval(right, list(values))


def shown(name: str, found: Estimate, note: str = "") -> str:
    """One line of the result."""
    sides = f"[{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"
    verdict = "beats chance" if found.low is not None and found.low > 0.5 else "not above chance"
    return f"{name:<28} {100 * found.value:5.1f} % {sides}  n = {found.num}  {verdict}{note}"


def measure(config: reward.Config) -> str:
    """The figures of all folds."""
    rows = read_rows()
    parts = np.array_split(np.arange(len(rows)), FOLDS)
    single: dict[str, float] = {}
    members: dict[str, float] = {}
    seen: list[float] = []
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(parts):
            held = {int(i) for i in part}
            learnt = [row for i, row in enumerate(rows) if i not in held]
            paths = trained(config, learnt, Path(folder, str(number)))
            found = [differences(config, path, [rows[i] for i in part]) for path in paths]
            single |= found[0]
            members |= {name: float(np.mean([one[name] for one in found])) for name in found[0]}
            last = read_metrics(paths[0].parent)[-1]
            seen.append(float(last["accuracy"]))
            print(shown(f"fold {number + 1}", accuracy(found[0])), file=sys.stderr)
    shorter = {row["id"]: float(len(row["rejected"]) - len(row["chosen"])) for row in rows}
    lines = [shown("one model", accuracy(single))]
    if config.members > 1:
        lines.append(shown(f"mean of {config.members} models", accuracy(members)))
    kept = {name: shorter[name] for name in single}
    lines.append(shown("the shorter response", accuracy(kept), "  (no model: for comparison)"))
    lines += [
        "",
        f"{len(rows)} pairs, {FOLDS} folds; {len(rows) - len(single)} left out, as a response is "
        "empty or too long",
        f"accuracy on the last batch that was learnt from: {100 * np.mean(seen):.0f} %",
        f"{time.perf_counter() - begin:.0f} s on one thread, all folds together",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the recipe, and keep the result if nothing was changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    sets = parser.parse_args().sets
    torch.set_num_threads(1)
    config = load_recipe(reward.Config, RECIPE, assignments(sets))
    data = config.data.model_dump() | {"path": (), "eval_fraction": 0.0}
    config = config.model_copy(update={"data": DataSettings(**data)})
    scratch = config.model.scratch
    assert scratch is not None
    command = ["python recipes/hh_rlhf/measure.py", *(f"--set {each}" for each in sets)]
    text = (
        f"command   {' '.join(command)}\n"
        f"versions  Python {platform.python_version()}, torch {version('torch')}, transformers "
        f"{version('transformers')}\n"
        f"model     from scratch, {scratch.num_layers} layers, {scratch.hidden_size} wide, "
        f"vocabulary {scratch.vocab_size}; {config.epochs:g} epochs, rate {config.optimizer.lr:g}, "
        f"decay {config.optimizer.weight_decay:g}\n\n"
        "Held-out accuracy with its 95 % interval\n"
        f"{measure(config)}\n"
    )
    sys.stdout.write(text)
    if not sets:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
