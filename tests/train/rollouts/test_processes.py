"""Sampling from split weights: every process takes part until the last response has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("sharded_sampling.py")


def start(num_processes: int, folder: Path) -> list[list[list[list[int]]]]:
    """Runs `num_processes` processes and returns the token ids that each of them sampled."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    command += [f"--nproc-per-node={num_processes}", sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    places = [folder / f"{num_processes}-{rank}.json" for rank in range(num_processes)]
    return [json.loads(place.read_text()) for place in places]


@pytest.mark.slow
def test_two_processes_say_what_one_says(tmp_path: Path) -> None:
    [alone] = start(1, tmp_path)
    first, second = start(2, tmp_path)
    assert [first[0], second[0], first[1], second[1]] == alone
    longest = [max(len(ids) for group in part for ids in group) for part in (first, second)]
    assert longest[0] != longest[1]  # so that one had to wait for the other
