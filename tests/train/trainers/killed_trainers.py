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


def ended(pid: int) -> int | None:
    """The child's exit code; None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def whole(name: str, out: Path) -> float:
    """Run to the end; gives the seconds."""
    start = time.perf_counter()
    code = os.waitstatus_to_exitcode(os.waitpid(begin(name, out), 0)[1])
    if code:
        raise SystemExit(f"{name}: {(out.parent / 'said.txt').read_text()}")
    return time.perf_counter() - start


def killed(name: str, out: Path, seconds: float, moments: random.Random) -> dict[str, int]:
    """Run to the end with kills; gives their number, and how many met a run with a checkpoint."""
    kills = after_steps = 0
    while kills < KILLS and not (out / "model").exists():
        pid = begin(name, out)
        # What a start takes before its first step grows no shorter: shares of the whole meet it.
        time.sleep(moments.uniform(0.1, 0.9) * seconds)
        if ended(pid) is not None:
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        after_steps += any((out / "checkpoints").glob("step-??????"))
    if not (out / "model").exists():
        whole(name, out)
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
        seconds = whole(name, place / "whole")
        found[name] = killed(name, place / "cut", seconds, moments)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
