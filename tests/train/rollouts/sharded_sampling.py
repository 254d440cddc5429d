"""Samples from a policy whose weights are split; started by torchrun from `test_processes.py`.

Argument: folder where each process writes what it said. Each process asks other prompts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.distributed import World, shard
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.in_process import InProcessSampler

EOS = (1, 3, 5, 7, 9)


def make_policy() -> PolicyModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    return PolicyModel(model)


def main(folder: Path) -> None:
    world = World.join(torch.device("cpu"))
    policy = make_policy()
    shard(policy, world)

    def goes_on(here: bool) -> bool:
        return world.max([float(here)])[0] > 0

    settings = SamplingSettings(max_new_tokens=40)
    sampler = InProcessSampler(policy, settings, EOS, goes_on)
    prompts = [np.arange(10, 30 + size) for size in range(4)]
    with world.whole_outside_layers(policy):
        groups = sampler.sample(world.share(prompts), 2, seed=0)
    said = [[each.token_ids.tolist() for each in group] for group in groups]
    (folder / f"{world.size}-{world.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
