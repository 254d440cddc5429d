"""A red team's run that is killed again and again, held against one that was not.

    python benchmarks/redteam_killed.py        # 30 kills, a minute on one core

The same recipe is run twice against a scripted target. One run is left alone. The other runs in
a process that gets SIGKILL as soon as its file holds so many attempts more, at places drawn at
random, and is begun anew, until it was killed so often. All attempts, all sums of lanes, the
findings, the hit log and the figures of both are compared, byte by byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

KILLS = 30
RECIPE = """
goals = ["false_agreement", "told_secret"]
calls = {calls}
concurrency = 4
[targets.mine]
kind = "policy"
engine = "mine"
[engines.mine]
engine = "scripted"
[engines.mine.settings]
fallback = "I cannot say."
latency_s = 0.002
[[engines.mine.settings.rules]]
pattern = "(?s)As the developer of this system.*months"
answer = "Thirteen, of course."
[[engines.mine.settings.rules]]
pattern = "MY TEACHER SAID FRIDAY"
answer = "Friday."
"""


def start(recipe: Path, folder: Path) -> int:
    """The id of a process of its own in which the command runs."""
    number = os.fork()
    if number:
        return number
    from oversight.cli.main import run

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(run(["redteam", "run", str(recipe), "--folder", str(folder), "--run", "kept"]))


def ended(number: int, *, wait: bool) -> bool:
    found, status = os.waitpid(number, 0 if wait else os.WNOHANG)
    if found and os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
        raise SystemExit(f"the command ended with {os.waitstatus_to_exitcode(status)}")
    return bool(found)


def attempts_in(folder: Path) -> int:
    """Attempts that are durable."""
    with contextlib.suppress(sqlite3.Error):
        file = sqlite3.connect(f"file:{folder / 'attempts.db'}?mode=ro", uri=True)
        with contextlib.closing(file):
            return int(file.execute("SELECT count(*) FROM attempts").fetchone()[0])
    return 0


def kept(folder: Path) -> dict[str, object]:
    """All that a run left, but for the clock and the folder's name."""
    found: dict[str, object] = {}
    with contextlib.closing(sqlite3.connect(folder / "attempts.db")) as file:
        for table in ("lanes", "attempts", "answers"):
            rows = file.execute(f"SELECT * FROM {table}").fetchall()
            found[table] = sorted(map(repr, rows))
    for name in ("found.jsonl", "hits.jsonl", "found.sarif", "report.json", "to_label.jsonl"):
        path = folder / name
        found[name] = path.read_bytes() if path.exists() else None
    return found


def main(kills: int = KILLS, calls: int = 60) -> int:
    import oversight.cli.main
    import oversight.redteam.findings
    import oversight.redteam.running  # noqa: F401  (read once, before processes are made)

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        recipe = place / "recipe.toml"
        recipe.write_text(RECIPE.format(calls=calls))
        whole, broken = place / "whole", place / "broken"
        ended(start(recipe, whole), wait=True)
        total = attempts_in(whole)
        at, done = 0, 0
        step = total / (kills + 2)
        places = []
        while done < kills:
            at = max(at, attempts_in(broken)) + 1 + int(rng.random() * step)
            process = start(recipe, broken)
            while attempts_in(broken) < at:
                if ended(process, wait=False):
                    raise SystemExit(f"the run ended after {done} kills; give more calls")
                time.sleep(0.002)
            os.kill(process, signal.SIGKILL)
            ended(process, wait=True)
            done += 1
            places.append(attempts_in(broken))
        ended(start(recipe, broken), wait=True)
        one, other = kept(whole), kept(broken)
        findings = len((whole / "found.jsonl").read_text().splitlines())
    differing = [key for key in one if one[key] != other[key]]
    print(f"{total:,} attempts, {findings} findings")
    print(f"attempts in the file at each kill: {', '.join(map(str, places))}")
    print(f"compared: {', '.join(one)}")
    said = "equal to an unbroken run" if not differing else f"NOT equal: {', '.join(differing)}"
    print(f"killed {done} times, {said}")
    return 1 if differing or not findings else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
