"""Runs recipes from nothing and keeps what they came to under recipes/results/.

    python recipes/measure.py world_retrieval gsm8k_solutions nyu_retrieval
    python recipes/measure.py closed_circle --folder runs/measured
    python recipes/measure.py constitutional_sl constitutional_rl
    python recipes/measure.py hard_problems redteam_loop

An experiment that was stopped goes on in its folder; time counts over all attempts.

Each result holds the command, the versions, the time it took, and the report as text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

RECIPES = Path(__file__).parent
EXPERIMENTS = {
    "closed_circle": ("run", "closed_circle.toml"),
    "constitutional_sl": ("run", "constitutional_sl.toml"),
    "constitutional_rl": ("run", "constitutional_rl.toml"),
    "feedback_loop": ("run", "feedback_loop.toml"),
    "hard_problems": ("measure", "measured/suite.toml"),
    "redteam_loop": ("redteam", "loop", "redteam_judge.toml"),
}
"""The command of each experiment, ending with its recipe. The second stage of the constitution goes
on with what the first has made."""
SHOWN = ("oversight", "langgraph", "scikit-learn", "numpy", "pydantic", "sqlalchemy")


def measure(name: str) -> str:
    """Run one recipe in an empty store; its report, with what is needed to repeat it."""
    recipe = RECIPES / f"{name}.toml"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "measured.db")
        command = [sys.executable, "-m", "oversight.cli.main"]
        begin = time.perf_counter()
        run = [*command, "debate", str(recipe), "--store", str(store), "--no-live", "--json"]
        done = subprocess.run(run, stdout=subprocess.PIPE, check=True)
        seconds = time.perf_counter() - begin
        counts = json.loads(done.stdout)
        report = [*command, "report", "--store", str(store)]
        text = subprocess.run(report, stdout=subprocess.PIPE, check=True, text=True).stdout
        check = [*command, "store", "check", "--store", str(store)]
        checked = subprocess.run(check, stdout=subprocess.PIPE, check=True, text=True).stdout
    versions = ", ".join(f"{each} {version(each)}" for each in SHOWN)
    return (
        f"command   oversight debate recipes/{name}.toml\n"
        f"versions  Python {platform.python_version()}, {versions}\n"
        f"debates   {counts['run']} of {counts['debates']} run, {len(counts['failures'])} failed, "
        f"in {seconds:.0f} s\n"
        f"store     {checked.partition(': ')[2].strip()}\n\n"
        + "\n".join(line.rstrip() for line in text.rstrip().splitlines())
        + "\n"
    )


def measure_experiment(name: str, folder: Path) -> str:
    """Run one experiment, or what is left of it; its tables, with what is needed to repeat it. Its
    pictures go beside the result."""
    folder.mkdir(parents=True, exist_ok=True)
    *words, file = EXPERIMENTS[name]
    clock = folder / f"{name}.seconds.txt"
    recipe = tomllib.loads((RECIPES / file).read_text())
    seconds = float(clock.read_text()) if clock.exists() else 0.0
    command = [sys.executable, "-m", "oversight.cli.main", *words, str(RECIPES / file)]
    begin = time.perf_counter()
    environment = {**os.environ, "COLUMNS": "160"}
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True, env=environment
        )
    finally:
        seconds += time.perf_counter() - begin
        clock.write_text(f"{seconds:.1f}")
    for picture in (folder / recipe["out"]).glob("*.png"):
        shutil.copyfile(picture, RECIPES / "results" / f"{name}_{picture.name}")
    versions = ", ".join(f"{each} {version(each)}" for each in (*SHOWN, "torch", "transformers"))
    lines = (line.rstrip() for line in done.stdout.rstrip().splitlines())
    return (
        f"command   oversight {' '.join(words)} recipes/{file}\n"
        f"versions  Python {platform.python_version()}, {versions}\n"
        f"seeds     {', '.join(map(str, recipe['seeds']))}\n"
        f"time      {seconds / 60:.1f} minutes on {os.cpu_count()} cores\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    """Measure the recipes that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/measured"), help="where experiments are kept"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        known = name in EXPERIMENTS
        text = measure_experiment(name, arguments.folder) if known else measure(name)
        folder = RECIPES / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(text)
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
