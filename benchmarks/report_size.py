"""The full report on 100,000 judgments: seconds and memory, from the command to its page.

python benchmarks/report_size.py [--judgments 100000] [--judges 2] [--out FILE] [--keep FOLDER]

A store is written by the project's own writer: debates, consultancies, naive and expert judgments
on the same questions, with quotes, beliefs on the way, ties and answers that cannot be read, each
debate judged by so many judges. Then `oversight report STORE --html PAGE` is run in a process of
its own, which reads everything, computes every table with its intervals, prints it and draws the
page. Bars: 30 s and 2 GB on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from oversight import protocols
from oversight.store import Store
from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Source,
    Turn,
    Verdict,
)

OVERSIGHT = (sys.executable, "-m", "oversight.cli.main")
BAR_S, BAR_GB = 30.0, 2.0
SKILL = {"debate": 0.8, "consultancy": 0.65, "naive": 0.5, "expert": 0.95}
RULINGS_A_QUESTION = 20
"""Questions are a twentieth of the judgments: each is debated and judged several times."""
WORDS = ("lamp", "attic", "cellar", "Ada", "Bo", "carried", "it", "at", "nine", "saw", "left", "by")


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def question(number: int) -> Question:
    rng = random.Random(number)
    return Question(
        id=f"made:{number}",
        dataset=("house", "garden")[number % 2],
        text=f"Where is the brass lamp at the end of day {number}?",
        options=(Option(text="the attic"), Option(text="the cellar")),
        correct=rng.randrange(2),
        source=Source(title=f"Day {number}", text=text(rng, 120)),
        meta={"family": ("possession", "location")[number % 2]},
    )


def belief(rng: random.Random, p: float) -> Belief:
    """Belief `p` in the first option; one in fifty cannot be read, or is a tie."""
    lost = rng.random()
    if lost < 0.02:
        return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw="I cannot say.")
    if lost < 0.04:
        return Belief(verdict=Verdict.TIE, method=BeliefMethod.PARSED, probs=(0.5, 0.5))
    return Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=(p, 1.0 - p))


def records(number: int, asked: Question, chosen: OversightProtocol, judges: int) -> list[Any]:
    """One debate with its turns, judgments and outcome."""
    rng = random.Random(f"debate/{number}")
    assert asked.source is not None
    first = rng.randrange(2)
    defends = (first, 1 - first)[: len(chosen.speakers)]
    orders = Orders(
        options=rng.choice([(0, 1), (1, 0)]),
        defends=defends or (0, 1),
        shown=rng.choice([(Seat.A, Seat.B), (Seat.B, Seat.A)])[: len(chosen.speakers) or 2],
    )
    agents = {Role.JUDGE: AgentSpec(agent="judge")}
    if chosen.speakers:
        agents[chosen.speaker_role] = AgentSpec(agent="retrieval")
    debate = Debate(
        question_id=asked.id, question_fingerprint=asked.fingerprint, protocol=chosen,
        agents=agents, orders=orders, seed=number,
    )  # fmt: skip
    made: list[Any] = [debate]
    source = asked.source.text.split()
    believes = []
    for step in chosen.schedule():
        for slot in step.slots:
            if slot.act is Act.BELIEVE:
                believes.append(step.index)
            if slot.act is not Act.SPEAK or slot.seat not in chosen.speakers:
                continue
            start = rng.randrange(len(source) - 12)
            said = f"{text(rng, rng.randint(20, 80))} <quote>{' '.join(source[start : start + 8])}"
            said += "</quote>."
            made.append(
                Turn(
                    debate_id=debate.id, step=step.index, round=step.round, seat=slot.seat,
                    role=chosen.speaker_role, act=Act.SPEAK, text=said,
                    quotes=find_quotes(said, asked.source),
                )
            )  # fmt: skip
    hard = random.Random(asked.id).gauss(0.0, 0.12)
    for judge in range(judges):
        right = rng.random() < SKILL[chosen.name] + hard
        p = 0.5 + (0.45 if right == (asked.correct == 0) else -0.45) * rng.random()
        way = tuple(
            (step, belief(rng, 0.5 + (p - 0.5) * (place + 1) / (len(believes) + 1)))
            for place, step in enumerate(believes)
        )
        made.append(
            Judgment(
                debate_id=debate.id, judge=f"judge {judge + 1}", kind=JudgeKind.MODEL,
                orders=orders, trajectory=way, final=belief(rng, p),
            )
        )  # fmt: skip
    made.append(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))
    return made


def write(path: Path, num_judgments: int, judges: int) -> int:
    """A store with so many judgments; gives the number of debates."""
    chosen = [protocols.load(name) for name in SKILL]
    num = num_judgments // judges
    asked = [question(n) for n in range(max(1, num_judgments // RULINGS_A_QUESTION))]
    with Store.open(path) as store:
        store.add(*asked)
        for start in range(0, num, 500):
            batch: list[Any] = []
            for n in range(start, min(start + 500, num)):
                of = asked[n // len(chosen) % len(asked)]
                batch += records(n, of, chosen[n % len(chosen)], judges)
            store.add(*batch)
    return num


def measure(path: Path, page: Path, more: list[str]) -> tuple[float, float, float, str]:
    """Seconds, those of processors, peak memory of all its processes in GB, and what it printed."""
    begun = time.perf_counter()
    process = psutil.Popen(
        [*OVERSIGHT, "report", str(path), "--html", str(page), *more],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    peak, is_done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.1):
            with contextlib.suppress(psutil.Error):
                every = [process, *process.children(recursive=True)]
                peak = max(peak, sum(each.memory_info().rss for each in every))

    watcher = threading.Thread(target=watch)
    watcher.start()
    shown, _ = process.communicate()
    is_done.set()
    watcher.join()
    assert process.returncode == 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak / 1e9, shown


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--judgments", type=int, default=100_000)
    parser.add_argument("--judges", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="Folder to write the store in and use again.")
    parser.add_argument("more", nargs="*", help="More options of the report, behind --.")
    given = parser.parse_args()
    lines = ["command   python benchmarks/report_size.py " + " ".join(sys.argv[1:])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"report-{given.judgments}-{given.judges}.db"
        if not path.exists():
            begun = time.perf_counter()
            write(path, given.judgments, given.judges)
            lines.append(f"store written in {time.perf_counter() - begun:.0f} s")
        debates = given.judgments // given.judges
        lines.append(
            f"{given.judgments:,} judgments of {debates:,} debates by {given.judges} judges on "
            f"{given.judgments // RULINGS_A_QUESTION:,} questions; store "
            f"{path.stat().st_size / 1e6:.0f} MB"
        )
        seconds, busy_s, gigabytes, shown = measure(path, folder / "report.html", given.more)
        for name, value, bar, unit in (
            ("full report, terminal and page", seconds, BAR_S, "s"),
            ("on processors", busy_s, 2 * BAR_S, "s"),
            ("peak memory", gigabytes, BAR_GB, "GB"),
        ):
            over = "" if value < bar else "  over"
            lines.append(f"{name:32} {value:6.2f} {unit:2}   bar {bar:.0f} {unit}{over}")
        lines.append(f"{len(shown.splitlines())} lines printed")
    lines.append(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
