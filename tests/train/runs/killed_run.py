"""A training run as a trainer writes it; `test_killed.py` kills it again and again.

Arguments: folder of the run, how many steps, seconds that a step takes at least.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from oversight.train.guard_settings import GuardSettings
from oversight.train.runs.folder import RunDescription, RunFolder
from oversight.train.runs.guards import Guards
from oversight.train.runs.metrics import TrainProgress
from oversight.train.runs.schedules import EarlyStop, Interrupt, multiplier
from oversight.train.runs.state import RunState, trained_weights


class Rollouts:
    """A buffer that is sampled by the policy, and used for three steps."""

    def __init__(self) -> None:
        self.buffer: Any = None
        self.uses = 0

    def next(self, model: torch.nn.Module) -> torch.Tensor:
        if self.buffer is None or self.uses == 3:
            noise = torch.randn(8, 16) + np.random.rand() + random.random()
            with torch.no_grad():
                self.buffer = noise + model(noise).mean()
            self.uses = 0
        self.uses += 1
        return self.buffer

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer, "uses": self.uses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.buffer, self.uses = state_dict["buffer"], state_dict["uses"]


def main(path: Path, total: int, step_s: float) -> None:
    torch.set_num_threads(1)
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 64), torch.nn.Dropout(0.2), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rollouts, guards, stop = Rollouts(), Guards(GuardSettings()), EarlyStop()
    parts = {"rollouts": rollouts, "guards": guards, "stop": stop}
    state = RunState(trained_weights(model=model), optimizer, parts)
    about = RunDescription("ppo", {"lr": 1e-2}, {"lr": 1e-2}, "data", seed=0)
    with (
        RunFolder(path, about, resume=path.exists()) as run,
        Interrupt(command=lambda: "this script again") as interrupt,
    ):
        step = run.resume(state).step
        with TrainProgress("ppo", total, step) as progress:
            while step < total:
                for group in optimizer.param_groups:
                    group["lr"] = 1e-2 * multiplier("cosine", step, total, warmup=5)
                loss = model(rollouts.next(model)).square().mean()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                values = {"loss": float(loss.detach()), "grad_norm": float(norm)}
                run.log(step, values)
                progress.update(step, values, num_tokens=128)
                guards.check(step, values)
                score = None
                if step % 7 == 0:
                    score = values["loss"]
                    run.log(step, {"loss": score}, "eval")
                    stop.better(step, score)
                interrupted = interrupt.asked()
                if step % 2 == 0 or interrupted:
                    run.save(step, state, score)
                if interrupted:
                    raise interrupt.leave(step)
                print(step, flush=True)
                time.sleep(step_s)
        save_file(dict(state.weights), path / "final.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
