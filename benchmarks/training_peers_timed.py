"""TRL's side of the trainer benchmarks.

    python benchmarks/training_peers_timed.py all                   # each in a process of its own
    python benchmarks/training_peers_timed.py grpo-1024 --steps 4   # one of them
    python benchmarks/training_peers_timed.py grpo-1024 --json      # here, for another process
    python benchmarks/training_peers_timed.py grpo-1024 --profile   # where the time goes

Each case runs `Trainer.train()` of TRL as it is, with its data loader, metrics, clipping (norm 1),
fused AdamW and schedule; a callback reads the clock after each step. How the trainers are set is
said in `training_peers.py`.

A debate is 24 flat rows in one batch (no accumulation), each the source, the transcript before it
and one turn; groups are four siblings. `rollouts` is `generate` of transformers, as TRL calls it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from training_measure import (
    CASES,
    COMPLETION,
    ENVIRONMENT,
    PAD,
    Fixed,
    Measurement,
    Pair,
    Row,
    StepClock,
    build_llama,
    lone_rows,
    measure_steps,
    measured_subprocess,
    short_pairs,
    use,
)
from training_table import print_measurement

if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)

import datasets
import torch
import transformers
import trl
from training_peers import BETA_GRPO, dpo_trainer, grpo_trainer, reward_trainer, sft_trainer
from transformers import GenerationConfig, PrinterCallback, TrainerCallback

WARMUP = 2


class Ticking(TrainerCallback):
    """Tells the clock of the end of each step of TRL's loop."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.step_ended()


def train(trainer: Any, clock: StepClock) -> dict[str, Any]:
    """Run TRL's own loop to its end; what it logged last."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Ticking(clock))
    clock.built()
    trainer.train()
    logged = [line for line in trainer.state.log_history if "loss" in line]
    keep = ("loss", "grad_norm", "entropy", "kl")
    return {
        "optimizer": str(trainer.args.optim),
        "last_logged": {key: logged[-1][key] for key in keep if key in logged[-1]},
    }


def padded(rows: Sequence[Row]) -> int:
    """Tokens of a batch whose prompts and completions are each padded to the longest."""
    prompt = max(len(row.prompt) for row in rows)
    return len(rows) * (prompt + max(len(row.completion) for row in rows))


def grpo(groups: Sequence[Sequence[Row]], steps: int, beta: float) -> Measurement:
    """A step of GRPO on fixed groups."""
    clock = StepClock(WARMUP)
    with tempfile.TemporaryDirectory() as folder:
        trainer = grpo_trainer(folder, groups, WARMUP + steps, beta=beta)
        details = train(trainer, clock)
    rows = [row for group in groups for row in group]
    return clock.measurement(
        padded(rows), beta=beta, loss_type=trainer.loss_type, batch=len(rows), **details
    )


def dpo(pairs: Sequence[Pair], steps: int, precomputed: bool) -> Measurement:
    """A step of DPO; a precomputed reference is computed before the steps and not counted."""
    clock = StepClock(WARMUP)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder, "cache")
        trainer = dpo_trainer(folder, pairs, WARMUP + steps, precompute_ref_log_probs=precomputed)
        details = train(trainer, clock)
    rows = [row for pair in pairs for row in pair.rows]
    return clock.measurement(padded(rows), precomputed=precomputed, batch=len(pairs), **details)


def reward(pairs: Sequence[Pair], steps: int) -> Measurement:
    """A step of the reward model."""
    clock = StepClock(WARMUP)
    with tempfile.TemporaryDirectory() as folder:
        details = train(reward_trainer(folder, pairs, WARMUP + steps), clock)
    rows = [row for pair in pairs for row in pair.rows]
    return clock.measurement(padded(rows), batch=len(pairs), **details)


def sft(rows: Sequence[Row], steps: int, **settings: Any) -> Measurement:
    """A step of SFT."""
    clock = StepClock(WARMUP)
    with tempfile.TemporaryDirectory() as folder:
        details = train(sft_trainer(folder, rows, WARMUP + steps, **settings), clock)
    return clock.measurement(padded(rows), batch=len(rows), **details)


ROW_BY_ROW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": len(lone_rows())}
SFT_WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "padding-free": {"padding_free": True},
    "row by row": ROW_BY_ROW,
    "row by row, padding-free": ROW_BY_ROW | {"padding_free": True},
}
"""Settings of TRL through which the same batch of SFT goes."""


def best_sft(name: str, steps: int) -> Measurement:
    """The fastest of TRL's ways through the same batch of SFT, each in a process of its own."""
    found = [measured(name, steps, way) for way in SFT_WAYS]
    return min(found, key=lambda each: each.cpu_s_per_step)


def rollouts(rows: Sequence[Row], steps: int) -> Measurement:
    """As many samples of one prompt as there are rows, each of `COMPLETION` tokens, without EOS."""
    clock = StepClock(1)
    model = build_llama(eos_token_id=None).eval()
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=COMPLETION,
        eos_token_id=None,
        pad_token_id=PAD,
        use_cache=True,
        disable_compile=True,
    )
    ids_BT = torch.tensor([row.prompt for row in rows])

    def step() -> None:
        with torch.no_grad():
            made_BT = model.generate(
                ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=settings
            )
        if made_BT.shape != (len(rows), ids_BT.shape[1] + COMPLETION):
            raise SystemExit(f"generate made {tuple(made_BT.shape)} tokens")

    measure_steps(step, steps, clock=clock)
    return clock.measurement(padded(rows), samples=len(rows), new_tokens=COMPLETION)


RUN: dict[str, Callable[[int], Measurement]] = {
    "grpo-1024": lambda steps: grpo([Fixed().group(1024)], steps, BETA_GRPO),
    "grpo-1024-noref": lambda steps: grpo([Fixed().group(1024)], steps, 0.0),
    "grpo-384": lambda steps: grpo([Fixed().group(384)], steps, BETA_GRPO),
    "grpo-384-noref": lambda steps: grpo([Fixed().group(384)], steps, 0.0),
    "dpo": lambda steps: dpo(Fixed().pairs(), steps, False),
    "dpo-precomputed": lambda steps: dpo(Fixed().pairs(), steps, True),
    "reward": lambda steps: reward(Fixed().pairs(), steps),
    "debate": lambda steps: grpo(Fixed().debate(), steps, BETA_GRPO),
    "rollouts": lambda steps: rollouts(Fixed().group(1024), steps),
    "sft": lambda steps: sft(lone_rows(), steps),
    "sft-best": lambda steps: best_sft("sft-best", steps),
    "dpo-short": lambda steps: dpo(short_pairs(), steps, True),
    "dpo-32k": lambda steps: dpo(short_pairs(), steps, False),
    "dpo-128k": lambda steps: dpo(short_pairs(), steps, False),
    "dpo-128k-precomputed": lambda steps: dpo(short_pairs(), steps, True),
    "dpo-128k-bf16": lambda steps: dpo(short_pairs(), steps, False),
    "grpo-128k": lambda steps: grpo([Fixed().group(1024)], steps, BETA_GRPO),
    "sft-128k": lambda steps: sft(lone_rows(), steps),
    "sft-128k-best": lambda steps: best_sft("sft-128k-best", steps),
}
"""How each case of the table runs on TRL's side."""


def run_case(name: str, steps: int = 4, way: str | None = None) -> Measurement:
    """One case, in this process: one thread, in float32; SFT in one of `SFT_WAYS` if asked for."""
    torch.set_num_threads(1)
    use(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way is None:
            found = RUN[name](steps)
        else:
            found = sft(lone_rows(), steps, **SFT_WAYS[way])
            found.details["way"] = way
    found.details["versions"] = {
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    return found


def measured(name: str, steps: int = 4, way: str | None = None) -> Measurement:
    """One case, in a process of its own."""
    command = [sys.executable, __file__, name, "--steps", str(steps), "--json"]
    return measured_subprocess(command + ([] if way is None else ["--way", way]))


# --- where the time goes ---------------------------------------------------------------------


@contextmanager
def named_parts() -> Iterator[None]:
    """Give the forward passes and the backward of TRL's step a name in the profile."""
    from torch.profiler import record_function
    from transformers import LlamaModel

    backbone, backward = LlamaModel.forward, torch.Tensor.backward

    def forward(self: LlamaModel, *args: Any, **kwargs: Any) -> Any:
        grad = torch.is_grad_enabled() and self.training
        with record_function(f"PART backbone {'policy' if grad else 'reference'} forward"):
            return backbone(self, *args, **kwargs)

    def back(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        with record_function("PART backward"):
            backward(self, *args, **kwargs)

    LlamaModel.forward, torch.Tensor.backward = forward, back  # type: ignore[method-assign]
    try:
        yield
    finally:
        LlamaModel.forward, torch.Tensor.backward = backbone, backward  # type: ignore[method-assign]


def profile(name: str, steps: int = 1) -> None:
    """Print where the time of a case's steps goes: by part, and by operator."""
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found, named_parts():
        run_case(name, steps)
    averages = found.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    print(f"{name}: all {WARMUP + steps} steps and the building, {total / 1e6:.1f} s")
    parts = ("PART", "ChunkedLogProb", "Optimizer.step")
    for event in sorted(averages, key=lambda event: -event.cpu_time_total):
        if any(part in event.key for part in parts):
            print(f"  {event.cpu_time_total / total:6.1%}  {event.key}  × {event.count}")
    print("by operator, its own time:")
    for event in sorted(averages, key=lambda event: -event.self_cpu_time_total)[:16]:
        print(f"  {event.self_cpu_time_total / total:6.1%}  {event.key}  × {event.count}")


def main() -> None:
    """Run a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=(*CASES, "all"))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--way", choices=tuple(SFT_WAYS), help="one way through a case of SFT")
    parser.add_argument("--json", action="store_true", help="print the measurement as JSON")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    names = CASES if options.case == "all" else (options.case,)
    for name in names:
        if options.profile:
            profile(name)
        elif options.json:
            print(run_case(name, options.steps, options.way).to_line())
        else:
            print_measurement(name, measured(name, options.steps, options.way))


if __name__ == "__main__":
    main()
