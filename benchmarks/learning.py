"""Benchmark of learning: small worlds, a minute or so of each trainer, over several seeds.

    python benchmarks/learning.py              # the table
    python benchmarks/learning.py grpo --seeds 0 1 2

Models are made from scratch and trained on one thread. SFT's result is its held-out loss beside
the entropy of the source; the reward model's its accuracy on held-out pairs; that of DPO, PPO and
GRPO the true reward of sampled answers to held-out prompts, beside that of the policy which they
begin with, and the divergence from it in nats an answer.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning_tasks import Chain, Copy, Row, Weighing, word_tokenizer

from oversight.modeling import TokenRow
from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.batches import row_logprobs
from oversight.train.data.loading import load_prompts
from oversight.train.distributed import World
from oversight.train.experience_settings import RewardSettings, SamplingSettings
from oversight.train.loading import load_policy, read_config
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.rewards import TextRewards
from oversight.train.runs.metrics import read_metrics
from oversight.train.settings import DataSettings, ModelSettings, OptimizerSettings, ScratchSettings

RESULT = Path(__file__).parent / "results" / "learning.txt"
SEEDS = (0, 1, 2)
SAMPLES = 8
"""Answers to each held-out prompt that a true reward is measured by."""
MARGIN = 0.2
"""By so much the true reward has to rise, of at most 1."""
CLOSE = 0.03
"""SFT's held-out loss is at most this share above the entropy of the source."""
ACCURACY = 0.95
"""Of the reward model on held-out pairs."""
BOUNDED = SamplingSettings(max_new_tokens=6)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run."""

    trainer: str
    seed: int
    start: float
    end: float
    bar: float
    """The least that `end` has to reach, or for SFT the most."""
    seconds: float
    kl: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """True where the bar is met."""
        return self.end <= self.bar if self.at_most else self.end >= self.bar


def scratch(folder: Path, words: Sequence[str], **size: Any) -> ModelSettings:
    """A small model from scratch with one id a word."""
    shape = {"hidden_size": 64, "num_layers": 2, "max_length": 256, "init_std": 0.06} | size
    tokenizer = word_tokenizer(folder / "tokenizer", words)
    return ModelSettings(scratch=ScratchSettings(**shape), tokenizer=str(tokenizer), device="cpu")


def adamw(lr: float, **more: Any) -> OptimizerSettings:
    """AdamW as these runs use it."""
    return OptimizerSettings(lr=lr, **({"warmup": 10.0, "betas": (0.9, 0.95)} | more))


def learn_chain(
    folder: Path, seed: int, steps: int = 500, chain: Chain | None = None, **changes: Any
) -> Outcome:
    """SFT on a chain of words: held-out loss before and after, beside the source's entropy."""
    chain = chain or Chain()
    settings = {
        "out": folder / "sft",
        "model": scratch(folder, chain.words),
        # Short texts come more than once, in training and in the held-out part, as the source has
        # them; what is left out would be missed.
        "data": DataSettings(train_on="all", duplicates="keep"),
        "optimizer": adamw(5e-3, schedule="cosine"),
        "batch_size": 32,
        "steps": steps,
        "save_every": steps,
        "seed": seed,
    }
    config = sft.Config(**(settings | changes))
    begin = time.process_time()
    path = sft.train(config, rows=chain.rows(config.batch_size * steps // 2, seed))
    seconds = time.process_time() - begin
    held_out = chain.rows(400, seed=10_000 + seed)
    bar = chain.entropy(held_out) * (1.0 + CLOSE)
    start, end = read_metrics(config.out)[0]["nll"], held_out_loss(path, held_out)
    return Outcome("sft", seed, start, end, bar, seconds, at_most=True)


def held_out_loss(path: Path, texts: Sequence[Row]) -> float:
    """Nats a token, the end included, of texts behind their first word."""
    settings = ModelSettings(path=str(path), device="cpu")
    config, vocabulary = read_config(settings, ())
    policy, tokenizer = load_policy(settings, config, 0), vocabulary.tokenizer
    ids = [np.array([*tokenizer.encode(t["text"]), tokenizer.eos_token_id]) for t in texts]
    rows = [TokenRow(each[:1], each[1:]) for each in ids]
    logps = row_logprobs(policy, rows, World.join(torch.device("cpu")), 8192)
    tokens = sum(len(row.response_ids) for row in rows)
    return -float(sum(each.sum() for each in logps)) / tokens


def learn_rule(folder: Path, seed: int, steps: int = 120) -> Outcome:
    """A reward model on pairs that a rule decides: held-out accuracy."""
    world = Weighing()
    config = reward.Config(
        out=folder / "reward",
        model=scratch(folder, world.words),
        data=_files(folder, world.rows(4000, seed), world.rows(400, 10_000 + seed)),
        optimizer=adamw(3e-3, schedule="cosine"),
        batch_size=32,
        steps=steps,
        eval_every=steps,
        save_every=steps,
        seed=seed,
    )
    begin = time.process_time()
    reward.train(config)
    lines = read_metrics(config.out)
    ends = [line["accuracy"] for line in lines if line["split"] == "eval"]
    seconds = time.process_time() - begin
    return Outcome("reward", seed, lines[0]["accuracy"], ends[-1], ACCURACY, seconds)


@dataclass(frozen=True)
class Beginning:
    """A policy that is right only part of the time."""

    world: Copy
    path: Path
    reward: float

    @property
    def model(self) -> ModelSettings:
        """As a trainer takes it."""
        return ModelSettings(path=str(self.path), device="cpu")

    @property
    def rewards(self) -> TextRewards:
        """The true reward, as a trainer takes it."""
        return TextRewards(self.world.rewards, self.policy()[1], "copy")

    def policy(self, path: Path | None = None) -> tuple[Any, Any]:
        """A policy with its tokenizer; this one unless another is named."""
        settings = ModelSettings(path=str(path or self.path), device="cpu")
        config, vocabulary = read_config(settings, ())
        return load_policy(settings, config, 0), vocabulary.tokenizer

    def measured(self, path: Path | None = None, seed: int = 99) -> tuple[float, float]:
        """The true reward of sampled answers to held-out prompts, and their divergence from the
        beginning in nats an answer."""
        policy, tokenizer = self.policy(path)
        rows, scores = answers(self.world, policy, tokenizer, self.world.held_out(), seed)
        alone = World.join(torch.device("cpu"))
        ours, theirs = (
            row_logprobs(model, rows, alone, 8192) for model in (policy, self.policy()[0])
        )
        kl = np.mean([float((a - b).sum()) for a, b in zip(ours, theirs, strict=True)])
        return float(np.mean(scores)), float(kl)


def answers(
    world: Copy, policy: Any, tokenizer: Any, asked: Sequence[Row], seed: int
) -> tuple[list[Any], list[float]]:
    """Sampled answers to each prompt as rows, and what each is truly worth."""
    loaded = load_prompts(DataSettings(), tokenizer, len(tokenizer), 256, rows=asked)
    sampler = InProcessSampler(policy, BOUNDED, [tokenizer.eos_token_id])
    prompts = [example.prompt_ids for example in loaded.examples]
    sampled = sampler.sample(prompts, SAMPLES, seed)
    source = TextRewards(world.rewards, tokenizer, "copy")
    scores = source.score(loaded.examples, sampled)
    rows = [
        each.row(ids, id=f"{example.id}#{i}")
        for example, ids, group in zip(loaded.examples, prompts, sampled, strict=True)
        for i, each in enumerate(group)
    ]
    return rows, [score for group in scores for score in group]


def begin_copying(folder: Path, seed: int, steps: int = 400) -> Beginning:
    """A policy that has learnt to answer from demonstrations which are right part of the time."""
    world = Copy()
    config = sft.Config(
        out=folder / "beginning",
        model=scratch(folder, world.words),
        data=DataSettings(duplicates="keep"),
        optimizer=adamw(5e-3, schedule="cosine"),
        batch_size=64,
        steps=steps,
        save_every=steps,
        seed=seed,
    )
    path = sft.train(config, rows=world.demonstrations(12_000, seed))
    made = Beginning(world, path, 0.0)
    return Beginning(world, path, made.measured()[0])


def learn_by_dpo(folder: Path, seed: int, beginning: Beginning, **changes: Any) -> Outcome:
    """DPO with an SFT term, on pairs of the beginning's own answers by their true reward."""
    begin = time.process_time()
    policy, tokenizer = beginning.policy()
    asked = beginning.world.asked(800, seed)
    rows, scores = answers(beginning.world, policy, tokenizer, asked, seed)
    config = _over(dpo.Config, folder / "dpo", beginning, seed, DPO, changes)
    path = dpo.train(config, rows=_compared(rows, scores, tokenizer))
    return _outcome("dpo", seed, beginning, path, begin)


def learn_by_grpo(folder: Path, seed: int, beginning: Beginning, **changes: Any) -> Outcome:
    """GRPO with the true reward."""
    begin = time.process_time()
    config = _over(grpo.Config, folder / "grpo", beginning, seed, GRPO, changes)
    asked = beginning.world.asked(1500, seed)
    path = grpo.train(config, rows=asked, rewards=beginning.rewards)
    return _outcome(config.out.name, seed, beginning, path, begin)


def learn_by_ppo(folder: Path, seed: int, beginning: Beginning, **changes: Any) -> Outcome:
    """PPO with the true reward."""
    begin = time.process_time()
    config = _over(ppo.Config, folder / "ppo", beginning, seed, PPO, changes)
    asked = beginning.world.asked(1500, seed)
    path = ppo.train(config, rows=asked, rewards=beginning.rewards)
    return _outcome(config.out.name, seed, beginning, path, begin)


DPO: dict[str, Any] = {
    "optimizer": adamw(1e-3),
    "batch_size": 32,
    "options": {"beta": 0.2},
    # Without it the likelihood of both answers falls, and of others that nobody compared rises.
    "sft_weight": 0.3,
}
GRPO: dict[str, Any] = {
    "reward": RewardSettings(source="length"),  # not asked: the true reward is given
    "sampling": BOUNDED,
    "optimizer": adamw(1e-3),
    "batch_size": 16,
    "samples": 8,
    "steps": 60,
    "kl_coefficient": 0.01,
}
PPO: dict[str, Any] = {
    "reward": RewardSettings(source="length"),
    "sampling": BOUNDED,
    "optimizer": adamw(1e-3),
    "batch_size": 64,
    "mini_batches": 2,
    "reuse": 2,
    "steps": 120,
    "kl": ppo.RewardKLSettings(coefficient=0.01),
}


def _over(
    kind: Any,
    out: Path,
    beginning: Beginning,
    seed: int,
    settings: dict[str, Any],
    changes: dict[str, Any],
) -> Any:
    common = {"out": out, "model": beginning.model, "data": DataSettings(), "seed": seed}
    return kind(**(common | {"save_every": 1000} | settings | changes))


def _outcome(name: str, seed: int, beginning: Beginning, path: Path, begin: float) -> Outcome:
    seconds = time.process_time() - begin
    end, kl = beginning.measured(path)
    return Outcome(name, seed, beginning.reward, end, beginning.reward + MARGIN, seconds, kl)


def _compared(rows: Sequence[Any], scores: Sequence[float], tokenizer: Any) -> list[Row]:
    """Answers to one prompt in twos, where one is better."""
    pairs = []
    for i in range(0, len(rows), 2):
        worse, better = sorted((i, i + 1), key=lambda k: scores[k])
        if scores[worse] < scores[better]:
            ids = {
                "prompt": rows[i].prompt_ids,
                "chosen": rows[better].response_ids,
                "rejected": rows[worse].response_ids,
            }
            texts = {n: tokenizer.decode(v, skip_special_tokens=True) for n, v in ids.items()}
            pairs.append(texts | {f"{name}_ids": v.tolist() for name, v in ids.items()})
    return pairs


def _files(folder: Path, rows: list[Row], held_out: list[Row], **more: Any) -> DataSettings:
    """Rows written to files, as trainers read a held-out part of its own."""
    import json

    paths = []
    for name, part in (("train", rows), ("held_out", held_out)):
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in part))
    return DataSettings(path=str(paths[0]), eval_path=str(paths[1]), **more)


def outcomes(names: Sequence[str], seeds: Sequence[int], folder: Path) -> list[Outcome]:
    """Run the named trainers with each seed and return their outcomes."""

    def place(seed: int, name: str) -> Path:
        made = folder / f"{name}-{seed}"
        made.mkdir(parents=True, exist_ok=True)
        return made

    @cache
    def beginning(seed: int) -> Beginning:
        return begin_copying(place(seed, "beginning"), seed)

    alone: dict[str, Callable[..., Outcome]] = {"sft": learn_chain, "reward": learn_rule}
    after: dict[str, Callable[..., Outcome]] = {
        "dpo": learn_by_dpo,
        "ppo": learn_by_ppo,
        "grpo": learn_by_grpo,
    }
    return [
        alone[name](place(seed, name), seed)
        if name in alone
        else after[name](place(seed, name), seed, beginning(seed))
        for name in names
        for seed in seeds
    ]


def table(found: Sequence[Outcome]) -> str:
    """The outcomes, one a line."""
    lines = ["trainer  seed   start     end    rise     bar      KL  seconds"]
    for each in found:
        kl = "      –" if each.kl is None else f"{each.kl:7.2f}"
        sign = "≤" if each.at_most else "≥"
        lines.append(
            f"{each.trainer:<8} {each.seed:>4} {each.start:7.3f} {each.end:7.3f} "
            f"{each.end - each.start:+7.3f} {sign}{each.bar:6.3f} {kl} {each.seconds:8.1f}"
            + ("" if each.holds else "   NOT REACHED")
        )
    return "\n".join(lines)


LEGEND = """\
sft      held-out loss in nats a token; the bar is 3 % above the entropy of the source
reward   accuracy on held-out pairs (start: on the first batch)
others   true reward of sampled answers to held-out prompts, at most 1; KL from the start, sampled
seconds  of CPU, data and model included; of the others without what they begin with
"""


def main() -> None:
    """Print the table, and keep it if it is the whole one."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = ["sft", "reward", "dpo", "ppo", "grpo"]
    parser.add_argument("names", nargs="*", default=every)
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(given.names or every, given.seeds, Path(folder))
    text = (
        f"command   python benchmarks/learning.py\n"
        f"versions  Python {platform.python_version()}, torch {version('torch')}, transformers "
        f"{version('transformers')}; one thread, CPU\n\n{LEGEND}\n{table(found)}\n"
    )
    sys.stdout.write(text)
    if (given.names or every) == every and tuple(given.seeds) == SEEDS:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
