"""Stages of SFT that make an embedded model from random weights, and its place in the package.

A recipe under `recipes/` names its stages and its tokenizer, and calls `main`. Stages that are done
are not run again, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oversight.train import sft
from oversight.train.loading import ASSISTANT, CHAT_TEMPLATE, EOS, PAD, SYSTEM, USER

Row = dict[str, Any]
Rows = Callable[[random.Random, float], Iterator[Row]]
"""From a random state and how far the stage is (0 to 1) to the next few rows."""


@dataclass(frozen=True)
class Stage:
    """A part of the training with its own rows."""

    name: str
    steps: int
    batch_size: int
    rows: Rows
    lr: float = 2e-3
    schedule: str = "constant"


@dataclass(frozen=True)
class Plan:
    """All that makes one model: the same plan makes the same model."""

    seed: int
    size: dict[str, Any]
    """The settings `model.scratch` of a model from random weights."""
    stages: Sequence[Stage]
    tokenizer: Callable[[], Any]
    card: Path
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the trainer beyond those that all stages have."""


def prompted(rules: object, user: str, answer: str) -> Row:
    """One request and its answer."""
    return {
        "messages": [
            {"role": "system", "content": str(rules)},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ]
    }


class StageRows:
    """The rows of a stage, the same however often they are read."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._seed = seed

    def __iter__(self) -> Iterator[Row]:
        stage, num = self._stage, 0
        total = stage.steps * stage.batch_size
        rng = random.Random(f"{stage.name}:{self._seed}")
        while True:
            for row in stage.rows(rng, num / total):
                yield row
                num += 1
                if num == total:
                    return


def build(plan: Plan, out: Path) -> Path:
    """Run what is not done yet; gives the folder of the finished model."""
    tokenizer = out / "tokenizer"
    if not tokenizer.exists():
        plan.tokenizer().save_pretrained(tokenizer)
    model: dict[str, Any] = {"tokenizer": str(tokenizer), "scratch": plan.size}
    for stage in plan.stages:
        folder = out / stage.name
        if not (folder / "model").exists():
            begun = time.monotonic()
            rows = StageRows(stage, plan.seed)
            sft.train(_config(plan, stage, folder, model), rows=rows, resume=folder.exists())
            print(f"{stage.name}: {time.monotonic() - begun:.0f} s", flush=True)
        model = {"path": str(folder / "model")}
    return folder / "model"


def _config(plan: Plan, stage: Stage, folder: Path, model: dict[str, Any]) -> sft.Config:
    return sft.Config.model_validate(
        {
            "out": folder,
            "model": model,
            "data": {"duplicates": "keep", "format": "messages"},
            "batch_size": stage.batch_size,
            "shuffle": False,
            "steps": stage.steps,
            "save_every": 500,
            "log_every": 20,
            "optimizer": {"lr": stage.lr, "schedule": stage.schedule, "warmup": 50},
            "seed": plan.seed,
            "micro_batch_tokens": 16384,
            **plan.settings,
        }
    )


def place(model: Path, card: Path, folder: Path) -> None:
    """Copy what a reader of the model needs, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.suffix in (".json", ".jinja", ".safetensors"):
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(card, folder / "README.md")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(json.dumps({"folder": str(folder), "bytes": size}))


def tokenizer_of(texts: Iterable[str], fixed: Sequence[str], num_words: int) -> Any:
    """A transformers tokenizer: byte-level BPE of what `texts` say, at most `num_words` tokens, and
    one token for each of the `fixed` stretches, of which the longest that fits is taken."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d\d|\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_words,
        special_tokens=[PAD, EOS, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    cut = re.compile("|".join(re.escape(stretch) for stretch in fixed))
    core.train_from_iterator((piece for text in texts for piece in cut.split(text)), trainer)
    core.add_tokens([AddedToken(stretch, normalized=False) for stretch in fixed])
    make_fast: Any = PreTrainedTokenizerFast
    tokenizer = make_fast(tokenizer_object=core, pad_token=PAD, eos_token=EOS)
    tokenizer.add_special_tokens({"additional_special_tokens": [SYSTEM, USER, ASSISTANT]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def main(plan: Plan, doc: str) -> None:
    """Read the command line of a recipe, whose docstring is `doc`."""
    parser = argparse.ArgumentParser(description=doc.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="where the stages go")
    parser.add_argument("--into", type=Path, help="put the finished model there")
    arguments = parser.parse_args()
    model = build(plan, arguments.out)
    if arguments.into is not None:
        place(model, plan.card, arguments.into)
