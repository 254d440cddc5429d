"""Our trainers against TRL 1.16.0: CPU time and peak memory of a real step, beside the bars.

Both sides run their own whole training loop on the same tokens, in processes of their own, one
after the other, with one thread in float32; see `training_measure.py` for what is measured. What
varies with the machine is in the seconds, not in the ratios.

    python benchmarks/training.py                 # the table
    python benchmarks/training.py grpo-384 dpo    # some lines of it
    python benchmarks/training.py dpo --side ours --profile
    python benchmarks/training.py dpo-short grpo-1024-noref --bound

`faster` is TRL's time by ours. `bound` is what sharing alone can give: TRL's tokens (padding left
out) by the tokens of the trie. It is no bound on what else is saved: TRL's head at positions that
nothing is learnt at, and attention, whose cost grows with the square of a row.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import training_measure as measure
import training_table
from training_measure import CASES, Fixed, Measurement, Pair, Row, StepClock

os.environ.update(measure.ENVIRONMENT)

WARMUP = 2


class FixedSampler:
    """Answers prompts with completions that are given, as if a sampler had drawn them."""

    shares_weights = True

    def __init__(self, groups: Sequence[Sequence[Row]]) -> None:
        import numpy as np

        from oversight.train.rollouts.types import SampledResponse

        self.version = 0
        self._answers = {
            tuple(group[0].prompt): [
                # As if drawn from a policy that gave every token the same log-probability.
                SampledResponse(
                    np.array(r.completion), np.full(len(r.completion), -7.6, np.float32), True
                )
                for r in group
            ]
            for group in groups
        }

    def sample(self, prompts: Sequence[Any], num_samples: int, seed: int) -> list[Any]:
        """The completions of each prompt."""
        return [self._answers[tuple(ids.tolist())] for ids in prompts]

    def update(self, policy: Any, step: int) -> None:
        """Note the step."""
        self.version = step

    def close(self) -> None:
        """Nothing is held."""


class FixedRewards:
    """Rewards that are given with the completions."""

    def __init__(self, groups: Sequence[Sequence[Row]]) -> None:
        self.metrics: dict[str, float] = {}
        self._rewards = {row.ids: row.reward for group in groups for row in group}

    def score(self, examples: Sequence[Any], sampled: Sequence[Any]) -> list[list[float]]:
        """The reward of each completion."""
        return [
            [self._rewards[(*e.prompt_ids.tolist(), *s.token_ids.tolist())] for s in group]
            for e, group in zip(examples, sampled, strict=True)
        ]


def save_base(folder: Path) -> str:
    """The benchmark's model with its tokenizer, as a folder to train from."""
    measure.build_llama().save_pretrained(folder)
    measure.build_tokenizer().save_pretrained(folder)
    return str(folder)


def common(folder: Path, steps: int) -> dict[str, Any]:
    """Settings of every run: as short as the measurement, and nothing written meanwhile."""
    return {
        "out": str(folder / "run"),
        "model": {
            "path": save_base(folder / "base"),
            "precision": "bfloat16" if measure.LOWERED else "float32",
        },
        "steps": steps,
        "save_every": 10**6,
        "eval_every": 10**6,
        "optimizer": {"lr": 1e-5},
        "guards": {"fresh_ratio": {"action": "off"}},
    }


def grpo(groups: Sequence[Sequence[Row]], kl: float) -> Callable[[Path, int], None]:
    """Scoring and update of groups of completions; the reference scores them in every step."""

    def run(folder: Path, steps: int) -> None:
        from oversight.train import grpo as trainer

        rows = [
            {"prompt": measure.text(group[0].prompt), "prompt_ids": list(group[0].prompt)}
            for group in groups
        ]
        settings = common(folder, steps)
        del settings["eval_every"]  # it evaluates nothing
        if kl:
            settings |= {"kl_coefficient": kl, "kl_estimator": "k3"}
        config = trainer.Config.parse(
            settings
            | {
                "data": {"ids": "given"},
                "batch_size": len(groups),
                "samples": len(groups[0]),
                "loss": "dapo",
                "reward": {"source": "length"},
                "sampling": {"max_new_tokens": measure.COMPLETION},
            }
        )
        trainer.train(config, rows=rows, rewards=FixedRewards(groups), sampler=FixedSampler(groups))

    return run


def pair_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Pairs as rows with their ids."""
    return [
        {
            "prompt": measure.text(pair.prompt),
            "chosen": measure.text(pair.chosen),
            "rejected": measure.text(pair.rejected),
            "prompt_ids": list(pair.prompt),
            "chosen_ids": list(pair.chosen),
            "rejected_ids": list(pair.rejected),
        }
        for pair in pairs
    ]


def dpo(
    precompute: bool, pairs_of: Callable[[], list[Pair]] = lambda: Fixed().pairs()
) -> Callable[[Path, int], None]:
    """DPO on pairs, the reference in the loop or asked beforehand."""

    def run(folder: Path, steps: int) -> None:
        from oversight.train import dpo as trainer

        os.environ["OVERSIGHT_CACHE"] = str(folder / "cache")
        pairs = pairs_of()
        config = trainer.Config.parse(
            common(folder, steps)
            | {"data": {"ids": "given"}, "batch_size": len(pairs), "precompute": precompute}
        )
        trainer.train(config, rows=pair_rows(pairs))

    return run


def reward(folder: Path, steps: int) -> None:
    """A reward model on the same pairs."""
    from oversight.train import reward as trainer

    pairs = Fixed().pairs()
    config = trainer.Config.parse(
        common(folder, steps) | {"data": {"ids": "given"}, "batch_size": len(pairs)}
    )
    trainer.train(config, rows=pair_rows(pairs))


def sft(folder: Path, steps: int) -> None:
    """SFT on rows that share nothing."""
    from oversight.train import sft as trainer

    rows = measure.lone_rows()
    config = trainer.Config.parse(
        common(folder, steps) | {"data": {"ids": "given"}, "batch_size": len(rows)}
    )
    given = [
        {
            "prompt": measure.text(row.prompt),
            "completion": measure.text(row.completion),
            "prompt_ids": list(row.prompt),
            "completion_ids": list(row.completion),
        }
        for row in rows
    ]
    trainer.train(config, rows=given)


def grpo_late(prompt_tokens: int, kl: float) -> Callable[[Path, int], None]:
    """GRPO on a group that is drawn when it runs, of the vocabulary that is set by then."""
    return grpo([Fixed().group(prompt_tokens)], kl)


OURS: dict[str, Callable[[Path, int], None]] = {
    "grpo-1024": grpo([Fixed().group(1024)], 0.04),
    "grpo-1024-noref": grpo([Fixed().group(1024)], 0.0),
    "grpo-384": grpo([Fixed().group(384)], 0.04),
    "grpo-384-noref": grpo([Fixed().group(384)], 0.0),
    "dpo": dpo(precompute=False),
    "dpo-precomputed": dpo(precompute=True),
    "reward": reward,
    "debate": grpo(Fixed().debate(), 0.04),
    "sft": sft,
    "sft-best": sft,
    "dpo-short": dpo(True, measure.short_pairs),
    "dpo-32k": dpo(False, measure.short_pairs),
    "dpo-128k": dpo(False, measure.short_pairs),
    "dpo-128k-precomputed": dpo(True, measure.short_pairs),
    "dpo-128k-bf16": dpo(False, measure.short_pairs),
    "grpo-128k": grpo_late(1024, 0.04),
    "sft-128k": sft,
    "sft-128k-best": sft,
}


def run_ours(name: str, steps: int) -> Measurement:
    """A case by our trainer, in this process."""
    import torch

    measure.use(name)
    if name == "rollouts":
        return run_rollouts(steps)

    from oversight.train import dpo, grpo, reward, session, sft  # noqa: F401  # imported before the clock

    torch.set_num_threads(1)
    clock = StepClock(WARMUP)
    logged, opened = session.Session.log, session.Session.__enter__

    def log(self: Any, values: Any) -> None:
        logged(self, values)
        clock.step_ended()

    def enter(self: Any) -> Any:
        found = opened(self)
        clock.built()
        return found

    session.Session.log, session.Session.__enter__ = log, enter  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        OURS[name](Path(folder), WARMUP + steps)
    return clock.measurement(measure.trie_tokens(CASES[name].rows()))


def run_rollouts(steps: int) -> Measurement:
    """Responses sampled from the live policy."""
    import numpy as np
    import torch

    from oversight.modeling.scoring.policy import PolicyModel
    from oversight.train.experience_settings import SamplingSettings
    from oversight.train.rollouts.in_process import InProcessSampler

    torch.set_num_threads(1)
    clock = StepClock(1)
    rows = CASES["rollouts"].rows()
    settings = SamplingSettings(max_new_tokens=measure.COMPLETION)
    # No token ends a response: both sides draw as many.
    sampler = InProcessSampler(PolicyModel(measure.build_llama()), settings, [measure.VOCAB])
    prompt = np.array(rows[0].prompt)
    measure.measure_steps(lambda: sampler.sample([prompt], len(rows), 0), steps, clock=clock)
    return clock.measurement(measure.trie_tokens(rows))


def measured(side: str, name: str, steps: int) -> Measurement:
    """A case on one side, in a process of its own."""
    here = Path(__file__).parent
    if side == "ours":
        command = [here / "training.py", name, "--side", "ours", "--json"]
    else:
        command = [here / "training_peers_timed.py", name, "--json"]
    return measure.measured_subprocess([sys.executable, *map(str, command), "--steps", str(steps)])


def best(found: Sequence[Measurement]) -> Measurement:
    """The run with the least CPU time, with the least peak of any."""
    fastest = min(found, key=lambda m: m.cpu_s_per_step)
    peak = min(m.peak_bytes for m in found)
    return Measurement(fastest.cpu_s_per_step, peak, fastest.tokens_per_step, fastest.details)


BOUND_BAR = 1.6
"""How many times its matmuls and attention a step may take."""


def rates() -> tuple[float, float, float]:
    """Operations a second of a large matmul, and of causal attention forward and backward."""
    import torch

    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    square = torch.randn(1024, 1024)
    q, k, v, grad = (torch.randn(1, 4, 1024, 64) for _ in range(4))
    out, lse = forward(q, k, v, 0.0, True, scale=0.125)
    flops = 4 * 4 * 1024 * 1024 * 64 // 2

    def rate(operations: float, call: Callable[[], object]) -> float:
        spent = []
        for _ in range(8):
            begun = time.process_time()
            for _ in range(4):
                call()
            spent.append(time.process_time() - begun)
        return 4 * operations / min(spent)

    return (
        rate(2 * 1024**3, lambda: square @ square),
        rate(flops, lambda: forward(q, k, v, 0.0, True, scale=0.125)),
        rate(2.5 * flops, lambda: backward(grad, q, k, v, out, lse, 0.0, True, scale=0.125)),
    )


def counter() -> Any:
    """Counts a step's operations while it is on: of matmuls, and of attention both ways."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.found = [0.0, 0.0, 0.0]

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__
            if name in ("mm", "addmm", "addmm_"):
                left, right = args[-2:]
                self.found[0] += 2.0 * left.shape[0] * left.shape[1] * right.shape[1]
            elif name.startswith("_scaled_dot_product_flash_attention_for_cpu"):
                back = name.endswith("backward")
                q, k = args[1:3] if back else args[:2]
                causal = (args + (False,) * 8)[7 if back else 4]  # a default is left out
                operations = 4.0 * q.numel() * k.shape[2] / (2.0 if causal else 1.0)
                self.found[2 if back else 1] += operations * (2.5 if back else 1.0)
            return func(*args, **(kwargs or {}))

    return Counter()


def print_bound(name: str, steps: int) -> None:
    """Our step over the least that its matmuls and attention could take, at this run's rates."""
    from oversight.train import session

    taken, counted = session.Session.update, []

    def update(self: Any, task: Any) -> Any:
        if self.step != 1:
            return taken(self, task)
        with counter() as count:  # the first step is of the warm-up
            found = taken(self, task)
        counted.append(count.found)
        return found

    session.Session.update = update  # type: ignore[method-assign]
    before = rates()
    found = run_ours(name, steps)
    session.Session.update = taken  # type: ignore[method-assign]
    best_rates = [max(pair) for pair in zip(before, rates(), strict=True)]
    bound = sum(n / rate for n, rate in zip(counted[0], best_rates, strict=True))
    over = found.cpu_s_per_step / bound
    strict = found.cpu_s_per_step * best_rates[0] / sum(counted[0])
    print(
        f"{CASES[name].title:<28} {found.cpu_s_per_step:.3f} s a step, matmuls and attention "
        f"{bound:.3f} s ({' + '.join(f'{n / 1e9:.0f}' for n in counted[0])} GFLOP at "
        f"{', '.join(f'{rate / 1e9:.0f}' for rate in best_rates)} GFLOP/s): {over:.2f}×, "
        f"bar {BOUND_BAR}×{'  MISSED' if over > BOUND_BAR else ''}; {strict:.2f}× if attention "
        "ran at the matmul's rate",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2, help="both sides in turn, so many times")
    parser.add_argument("--side", choices=("both", "ours"), default="both")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--bound", action="store_true", help="our step over its matmul bound")
    options = parser.parse_args()
    names = options.cases or list(CASES)
    if options.bound:
        for name in names:
            print_bound(name, options.steps)
        return
    if options.side == "ours":
        for name in names:
            if options.profile:
                profile(name, options.steps)
                continue
            # Memory is counted in a process that has run no other case before.
            alone = len(names) == 1
            found = (
                run_ours(name, options.steps) if alone else measured("ours", name, options.steps)
            )
            if options.json:
                print(found.to_line())
            else:
                training_table.print_measurement(name, found)
        return
    print(training_table.HEADER, flush=True)
    for name in names:
        rounds = [
            [measured(side, name, options.steps) for side in ("ours", "TRL")]
            for _ in range(options.rounds)
        ]
        ours, peer = (best([r[i] for r in rounds]) for i in (0, 1))
        print(training_table.table_line(name, ours, peer), flush=True)


def profile(name: str, steps: int) -> None:
    """Print the profile of our side, by operator."""
    from torch.profiler import profile as profiled

    with profiled() as found:
        run_ours(name, steps)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


if __name__ == "__main__":
    main()
