"""Reading all layers of turns that share prefixes, against transformers with hooks on each row.

    python benchmarks/reading_states.py             # 10,000 turns, a few minutes
    python benchmarks/reading_states.py --turns 400

Turns are rows of ids: 8 answers to each prompt, and each prompt begins with one of 50 shared
beginnings, as debates of a question do. Both sides read the streams of all layers at the answer's
tokens and write them to safetensors files. The rows of a part of the turns are compared number by
number, in float32, where both sides round, and in float64. Memory is the process's highest, of the
reading in processes of their own. Processor seconds stand beside those of the clock, as other work
on a machine moves the latter.

Bars: at least 3 times as fast; numbers equal to 1e-5 of a layer's largest; the whole reading's
memory at most 1.1 times that of a tenth of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from oversight.interp.reading import ReadRow, SiteReader, write_reading
from oversight.modeling.scoring.sites import Site

BEGINNING, PROMPT, ANSWER, ANSWERS = 160, 80, 24, 8
ALONE = 400
"""Rows that transformers reads, of which its rate is taken."""


def turns(num: int, seed: int = 0) -> list[ReadRow]:
    rng = np.random.default_rng(seed)
    beginnings = rng.integers(5, 400, (50, BEGINNING))
    rows: list[ReadRow] = []
    while len(rows) < num:
        prompt = np.concatenate([beginnings[rng.integers(50)], rng.integers(5, 400, PROMPT)])
        for _ in range(min(ANSWERS, num - len(rows))):
            ids = np.concatenate([prompt, rng.integers(5, 400, ANSWER)])
            rows.append(ReadRow(ids, np.arange(len(prompt) - 1, len(ids))))
    return rows


def by_hooks(model: torch.nn.Module, rows: list[ReadRow], folder: Path) -> None:
    """Each row by itself, its layers' streams by hooks, a file for every 100 rows."""
    found: list[torch.Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda module, args: found.append(args[0][0]))
        for layer in model.model.layers  # type: ignore[union-attr, attr-defined]
    ]
    handles.append(
        model.model.norm.register_forward_pre_hook(  # type: ignore[union-attr, attr-defined]
            lambda module, args: found.append(args[0][0])
        )
    )
    held: list[torch.Tensor] = []
    for number, row in enumerate(rows):
        found.clear()
        with torch.no_grad():
            model.model(torch.from_numpy(row.ids)[None], use_cache=False)  # type: ignore[operator]
        held.append(torch.stack(found)[:, torch.from_numpy(row.read)])
        if len(held) == 100 or number == len(rows) - 1:
            save_file({"states": torch.cat(held, 1)}, folder / f"{number}.safetensors")
            held.clear()
    for handle in handles:
        handle.remove()


def read(num: int, folder: Path) -> dict[str, float]:
    """Seconds and highest memory of a reading, in this process."""
    reader = SiteReader.load("seedling")
    rows = turns(num)
    before, begun = time.perf_counter(), time.process_time()
    write_reading(folder, reader, rows, reader.modules.every(["residual"]))
    found = {"s": time.perf_counter() - before, "cpu_s": time.process_time() - begun}
    return {**found, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_process(num: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--turns", str(num), "--into", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def largest_difference(model: torch.nn.Module, rows: list[ReadRow]) -> float:
    """Between states over the trie and transformers' own of each row alone, over the layer's
    largest."""
    reader, worst = SiteReader(model), 0.0
    sites = [*reader.modules.every(["residual"])[:-1], Site("final")]
    read_together = reader.read([row.ids for row in rows], sites)
    for row, found in zip(rows, read_together, strict=True):
        output = model(torch.from_numpy(row.ids)[None], output_hidden_states=True)
        for state, wanted in zip(found.values(), output.hidden_states, strict=True):
            worst = max(worst, float((state - wanted[0]).abs().max() / wanted.abs().max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--into", type=Path, help="read into this folder, print figures, and end")
    given = parser.parse_args()
    if given.into:
        print(json.dumps(read(given.turns, given.into)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        few = in_process(max(1, given.turns // 10), folder / "few")
        whole = in_process(given.turns, folder / "whole")
        from transformers import AutoModelForCausalLM

        from oversight.models import resolve

        model = AutoModelForCausalLM.from_pretrained(resolve("seedling"), dtype=torch.float32)
        model.eval()
        rows = turns(given.turns)[:ALONE]
        (folder / "alone").mkdir()
        before, begun = time.perf_counter(), time.process_time()
        by_hooks(model, rows, folder / "alone")
        each = (time.perf_counter() - before) / len(rows)
        each_cpu = (time.process_time() - begun) / len(rows)
        some = rows[:: max(1, len(rows) // 40)] + rows[:8]
        worst = largest_difference(model, some)
        exact = largest_difference(model.double(), some)
    alone, alone_cpu = each * given.turns, each_cpu * given.turns
    print(f"turns                              {given.turns}")
    print(f"seconds, over the trie             {whole['s']:.1f}, of processor {whole['cpu_s']:.1f}")
    print(f"seconds, hooks on each row         {alone:.1f}, of processor {alone_cpu:.1f}")
    print(f"                                   (the rate of {len(rows)} of the rows)")
    times, of_processor = alone / whole["s"], alone_cpu / whole["cpu_s"]
    print(
        f"times as fast                      {times:.2f}, of processor {of_processor:.2f} (bar 3)"
    )
    print(f"largest difference, float32        {worst:.1e} of the layer's largest (bar 1e-5)")
    print(f"largest difference, float64        {exact:.1e}")
    growth = whole["mib"] / few["mib"]
    print(f"MiB, a tenth and all               {few['mib']:.0f} and {whole['mib']:.0f}")
    print(f"memory's growth                    {growth:.2f} (bar 1.1)")


if __name__ == "__main__":
    main()
