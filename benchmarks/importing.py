"""Import of as many NYU debates as were published: seconds, memory, and what was read.

The given files are repeated under other names up to the size of the whole published set. Each
repetition has stories of its own (a token more at the end), so that none is known from before.

    OVERSIGHT_SHARED_DATA=... python benchmarks/importing.py

Bar: 631 files, 32 MB, in under 20 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from oversight import __version__
from oversight.datasets.base import locate
from oversight.datasets.nyu import USUAL_PLACE, WHERE_TO_GET
from oversight.store import Store

NUM_FILES = 631
BAR_S = 20.0


def repeated(given: Path, folder: Path, num_files: int) -> int:
    """Write a folder of `num_files` debates that repeat the given ones; its size in bytes."""
    (folder / "debates").mkdir(parents=True)
    told = {}
    for line in (given / "debates-metadata.jsonl").read_text().splitlines():
        told[json.loads(line)["name"]] = json.loads(line)
    files = sorted((given / "debates").glob("*.json"))
    size = 0
    with (folder / "debates-metadata.jsonl").open("w") as lines:
        for number in range(num_files):
            round_, place = divmod(number, len(files))
            value = json.loads(files[place].read_text())
            [story] = value["setup"]["sourceMaterial"].values()
            story["contents"].append(f"copy{round_}")
            name = f"{files[place].stem}-copy{round_}"
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            size += (folder / "debates" / f"{name}.json").write_text(text)
            lines.write(json.dumps(told[files[place].stem] | {"name": name}) + "\n")
    return size


@dataclass
class Taken:
    """Time and memory of one command."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def timed(folder: Path, store: Path) -> Taken:
    """Run the command in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "oversight.cli.main", "import", "nyu", str(folder)]
    subprocess.run([*command, "--store", str(store)], check=True, capture_output=True)
    wall_s = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall_s, cpu_s, after.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=NUM_FILES)
    options = parser.parse_args()
    given = locate("", USUAL_PLACE, WHERE_TO_GET)
    load = os.getloadavg()[0]
    print("$ python benchmarks/importing.py")
    print(f"Python {sys.version.split()[0]}, oversight {__version__}; load {load:.1f} on", end=" ")
    print(f"{os.cpu_count()} cores; a process of its own, from its start to its end")
    with tempfile.TemporaryDirectory() as place:
        folder, store = Path(place) / "nyu", Path(place) / "nyu.db"
        size = repeated(given, folder, options.files)
        print(f"{options.files:,} files, {size / 1e6:.1f} MB")
        for what in ("import", "again "):
            took = timed(folder, store)
            verdict = "reached" if took.wall_s < BAR_S else "missed"
            print(
                f"{what}  {took.wall_s:5.1f} s, {took.cpu_s:5.1f} s of CPU, "
                f"{took.peak_mb:,.0f} MB at the peak   (bar: {BAR_S:.0f} s, {verdict})"
            )
        with Store.open(store, only_read=True) as opened:
            counts = opened.counts()
        print(", ".join(f"{counts[each]:,} {each}" for each in ("debates", "turns", "judgments")))


if __name__ == "__main__":
    main()
