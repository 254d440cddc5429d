"""Runs trainers in children of this process and kills them with SIGKILL, again and again.

Arguments: a folder, a seed, and names of cases. Prints how often each was killed. What it has
imported the children need not import, so that kills meet training and not the imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from cases import CASES
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification  # noqa: F401

KILLS = 4
STEPS = 10
"""Of every case."""
POLL_S = 0.001


def begin(name: str, out: Path) -> int:
    """A child that trains; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with (out.parent / "said.txt").open("a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        CASES[name](out, resume=out.exists())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def reaches(pid: int, out: Path, step: int) -> bool:
    """Wait until the run has a checkpoint of `step`; whether it still runs then."""
    while steps_of(out) < step:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            check(status, out)
            return False
        time.sleep(POLL_S)
    return True


def check(status: int, out: Path) -> None:
    """Fail unless the child that ended with `status` has trained to the end."""
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{out} ended with {code}: {(out.parent / 'said.txt').read_text()}")


def steps_of(out: Path) -> int:
    """Steps that the run has a checkpoint of."""
    found = [int(path.name.removeprefix("step-")) for path in out.glob("checkpoints/step-??????")]
    return max(found, default=0)


def whole(name: str, out: Path) -> float:
    """Run to the end; gives the seconds that a step took."""
    pid = begin(name, out)
    reaches(pid, out, 1)
    start = time.perf_counter()
    check(os.waitpid(pid, 0)[1], out)
    return (time.perf_counter() - start) / STEPS


def killed(name: str, out: Path, step_s: float, moments: random.Random) -> dict[str, int]:
    """Run to the end with kills; gives their number, and how many met a run with a checkpoint.

    A kill waits for the run to come to a step drawn beforehand, and then for a part of a step: it
    meets computing, sampling and writing alike, however fast the machine is.
    """
    kills = after_steps = 0
    for step in sorted(moments.choices(range(STEPS - 2), k=KILLS)):
        pid = begin(name, out)
        if not reaches(pid, out, step):
            break
        time.sleep(moments.uniform(0.0, 1.5) * step_s)
        os.kill(pid, signal.SIGKILL)  # not yet waited for: the number is still the child's
        os.waitpid(pid, 0)
        kills += 1
        after_steps += steps_of(out) > 0
    if not (out / "model").exists():
        check(os.waitpid(begin(name, out), 0)[1], out)
    return {"kills": kills, "after_steps": after_steps}


def main(folder: Path, seed: str, names: list[str]) -> None:
    """All cases, one after the other."""
    torch.set_num_threads(1)
    os.environ["OVERSIGHT_CACHE"] = str(folder / "cache")
    moments = random.Random(seed)
    found = {}
    for name in names:
        place = folder / name
        place.mkdir()
        step_s = whole(name, place / "whole")
        found[name] = killed(name, place / "cut", step_s, moments)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
