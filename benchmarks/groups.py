"""A group of responses to one prompt in parts that share the prompt's computation, and whole.

    python benchmarks/groups.py                    # the table
    python benchmarks/groups.py --prompt 1024 --responses 8 --tokens 1024

Each line is a gradient of `--responses` responses of `--tokens` tokens to one prompt, as GRPO
computes it (log-probabilities with entropies, a weighted sum over rows), by the model of
`benchmarks/training.py` (4 layers, 256 wide, vocabulary 2,048), in a process of its own. `whole`
is what is computed without a bound; the others are what `micro_batch_tokens` cuts it to. `again`
is parts that each compute the prompt anew; `twice` is for losses that are no sum over rows, whose
scores are computed a second time when their gradient is known.

Time is process CPU time, one thread, the least of some passes. Memory is the high-water mark of
resident memory in them (`training_measure`), above what was resident before the model was built.
`gradient` is the largest difference to `whole` in any weight, over that weight's largest entry.
Bars for parts: at most 60 % of the memory, 1.2 times the time, 1e-6 in the gradient.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import training_measure as measure

MEMORY_BAR, TIME_BAR, GRADIENT_BAR = 0.6, 1.2, 1e-6


def rows_of(options: argparse.Namespace) -> list[Any]:
    """The group."""
    import numpy as np

    from oversight.modeling import TokenRow

    rng = np.random.default_rng(0)
    prompt = rng.integers(3, measure.VOCAB, options.prompt)
    return [
        TokenRow(prompt, rng.integers(3, measure.VOCAB, options.tokens))
        for _ in range(options.responses)
    ]


def gradient_of(policy: Any, rows: list[Any], how: str, max_tokens: int) -> None:
    """One gradient, into the weights."""
    import torch

    from oversight.modeling.scoring.trie import RowBatch, cut

    factor_B1 = torch.linspace(-1.0, 1.0, len(rows))[:, None] / len(rows)

    def loss(numbers: list[int]) -> torch.Tensor:
        scores = policy(RowBatch.build([rows[i] for i in numbers]), with_entropy=True)
        total: torch.Tensor = (factor_B1[numbers] * (scores.logps_BR + scores.entropy_BR)).sum()
        return total

    if how == "whole":
        loss(list(range(len(rows)))).backward()
    elif how == "twice":
        with policy.scoring_in_parts(max_tokens):
            loss(list(range(len(rows)))).backward()
    else:
        parts = cut(rows, max_tokens, holds=how == "parts")
        ids, length = rows[0].ids()[: parts.num_shared], rows[0].num_tokens
        with policy.holding(ids, length, max_tokens):
            for numbers in parts.parts:
                loss(numbers).backward()


def run(options: argparse.Namespace) -> None:
    """One line, in this process; prints its figures, and keeps its gradient."""
    import torch
    from safetensors.torch import save_file

    from oversight.modeling.scoring.policy import PolicyModel

    torch.set_num_threads(1)
    rows = rows_of(options)
    small = PolicyModel(measure.build_llama(hidden_size=64, num_hidden_layers=1))
    gradient_of(small, rows[:2], options.how, options.max_tokens)  # libraries take their own room
    del small
    before = measure.resident()
    policy = PolicyModel(measure.build_llama()).train()
    seconds, peak = [], 0
    for number in range(options.passes + 1):
        policy.zero_grad()
        if number == 1:
            measure.forget_peak()
        begun = time.process_time()
        gradient_of(policy, rows, options.how, options.max_tokens)
        if number:
            seconds.append(time.process_time() - begun)
    peak = measure.peak() - before
    save_file({n: w.grad for n, w in policy.model.named_parameters()}, options.keep)
    print(measure.RESULT + json.dumps({"seconds": min(seconds), "bytes": peak}))


def measured(how: str, max_tokens: int, options: argparse.Namespace, keep: Path) -> dict[str, Any]:
    """One line, in a process of its own."""
    import os

    given = {name: getattr(options, name) for name in ("prompt", "responses", "tokens", "passes")}
    command = [sys.executable, __file__, "--how", how, "--keep", str(keep)]
    command += [f"--{name}={value}" for name, value in given.items()]
    command += ["--max-tokens", str(max_tokens)]
    done = subprocess.run(
        command, env=os.environ | measure.ENVIRONMENT, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(measure.RESULT)]
    if not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix(measure.RESULT))
    return found


def error_of(kept: Path, whole: Path) -> float:
    """The largest difference of two gradients, weight by weight."""
    from safetensors.torch import load_file

    ours, theirs = load_file(kept), load_file(whole)
    return max(
        float((ours[name] - grad).abs().max() / grad.abs().max()) for name, grad in theirs.items()
    )


def line(title: str, found: dict[str, Any], whole: dict[str, Any], error: float | None) -> str:
    """A line of the table; parts are held against the bars."""
    share = found["bytes"] / whole["bytes"]
    slower = found["seconds"] / whole["seconds"]
    text = (
        f"{title:<24} {found['seconds']:>7.2f} s {slower:>6.2f}× "
        f"{measure.megabytes(found['bytes']):>9} {share:>6.0%}"
    )
    if error is None:
        return text
    missed = share > MEMORY_BAR or slower > TIME_BAR or error > GRADIENT_BAR
    bars = "MISSED" if missed else "reached"
    return f"{text} {error:>9.0e}" + (f"  {bars}" if title.startswith("parts") else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--responses", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--how", choices=("whole", "parts", "again", "twice"))
    parser.add_argument("--max-tokens", type=int, default=4096)
    parser.add_argument("--keep", help="where the gradient goes")
    options = parser.parse_args()
    if options.how:
        run(options)
        return
    total = options.prompt + options.responses * options.tokens
    print(
        f"{options.responses} responses of {options.tokens} tokens to a prompt of "
        f"{options.prompt}: {total:,} tokens; bars for parts: ≤ {MEMORY_BAR:.0%} of the memory, "
        f"≤ {TIME_BAR}× the time, gradient ≤ {GRADIENT_BAR:.0e}"
    )
    print(
        f"{'micro_batch_tokens':<24} {'CPU':>9} {'time':>7} {'memory':>9} {'':>6} {'gradient':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "whole.safetensors", Path(folder) / "parts.safetensors"
        whole = measured("whole", 0, options, kept[0])
        print(line("whole", whole, whole, None), flush=True)
        for how, max_tokens in (
            ("parts", 4096),
            ("parts", 2048),
            ("parts", 1024),
            ("again", 4096),
            ("twice", 4096),
        ):
            found = measured(how, max_tokens, options, kept[1])
            error = error_of(kept[1], kept[0])
            print(line(f"{how} of {max_tokens:,}", found, whole, error), flush=True)


if __name__ == "__main__":
    main()
