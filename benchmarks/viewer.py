"""The viewer with 100,000 debates, in Chromium: first page, lists, search, a long transcript.

python benchmarks/viewer.py [--debates 100000] [--out FILE] [--keep FOLDER]

A store is written by the project's own writer: debates of two speeches with quotes, judged by one
or two judges, and one transcript of 60,000 words. Then `oversight view` is started,
and a headless Chromium opens each page; what is timed is from the navigation to the load event,
as the browser measures it. The server's index is made once a store, and that is timed apart.
Needs Chromium and the packages of `.[dev]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
    Question,
    Role,
    Seat,
    Source,
    Turn,
    Verdict,
)
from tests.tui.browser import Browser, chromium

OVERSIGHT = (sys.executable, "-m", "oversight.cli.main")
BARS_MS = {"first page": 1000.0, "list": 200.0, "transcript": 300.0}
WORDS = [
    *[
        "the",
        "lamp",
        "was",
        "carried",
        "from",
        "attic",
        "cellar",
        "kitchen",
        "by",
        "Ada",
        "Bo",
        "Cy",
        "at",
        "nine",
        "ten",
        "noon",
        "and",
        "it",
        "never",
    ],
    *[
        "left",
        "garden",
        "stable",
        "library",
        "because",
        "witness",
        "saw",
        "key",
        "letter",
        "clock",
        "silver",
        "map",
        "river",
        "bridge",
    ],
]
PROTOCOLS = ("debate_single_turn", "consultancy_single_turn")
LONG_WORDS = 60_000


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def question(number: int) -> Question:
    rng = random.Random(number)
    return Question(
        id=f"made:{number}",
        dataset=("house", "garden", "harbour")[number % 3],
        text=f"Where is the brass lamp at the end of day {number}?",
        options=(Option(text="the attic"), Option(text="the cellar")),
        correct=number % 2,
        source=Source(title=f"Day {number}", text=text(rng, 200)),
        meta={"family": ("possession", "location")[number % 2]},
    )


def records(
    number: int, asked: Question, chosen: Any, words: int = 40, rounds: int = 1
) -> list[Any]:
    """One debate with its turns, judgments and outcome."""
    rng = random.Random(f"debate/{number}")
    assert asked.source is not None
    specs = {
        Role.JUDGE: AgentSpec(agent="judge"),
        chosen.speaker_role: AgentSpec(agent=("retrieval", "debater")[number % 2]),
    }
    orders = Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B))
    debate = Debate(
        question_id=asked.id, question_fingerprint=asked.fingerprint, protocol=chosen,
        agents=specs, orders=orders, seed=number,
    )  # fmt: skip
    made: list[Any] = [debate]
    source = asked.source.text.split()
    for step in range(rounds):
        for seat in chosen.speakers:
            start = rng.randrange(len(source) - 12)
            said = f"{text(rng, words)} <quote>{' '.join(source[start : start + 8])}</quote>."
            made.append(
                Turn(
                    debate_id=debate.id, step=step, round=step + 1, seat=seat,
                    role=chosen.speaker_role, act=Act.SPEAK, text=said,
                    quotes=find_quotes(said, asked.source),
                )
            )  # fmt: skip
    judges = ("judge (small)", "judge (large)")[: 1 + (number % 5 == 0)]
    for judge in judges:
        p = rng.random()
        final = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=(p, 1.0 - p))
        if rng.random() < 0.02:
            final = Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw="I cannot say.")
        made.append(
            Judgment(
                debate_id=debate.id, judge=judge, kind=JudgeKind.MODEL, orders=orders, final=final
            )
        )
    made.append(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))
    return made


def write(path: Path, num: int) -> str:
    """A store with so many debates; gives the id of the long one."""
    loaded = [protocols.load(name) for name in PROTOCOLS]
    with Store.open(path) as store:
        asked = [question(n) for n in range(min(2000, num))]
        for start in range(0, num - 1, 500):
            batch: list[Any] = list(asked) if not start else []
            for n in range(start, min(start + 500, num - 1)):
                batch += records(n, asked[n % len(asked)], loaded[n % len(loaded)])
            store.add(*batch)
        long = protocols.load("debate")
        made = records(num, asked[0], long, words=LONG_WORDS // 12, rounds=6)
        store.add(*made)
    return str(made[0].id)


def start(store: Path, cache: Path) -> tuple[subprocess.Popen[str], str, float]:
    """The server, its address, and the seconds from the command to its first page."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*OVERSIGHT, "view", str(store), "--no-browser", "--port=0"],
        stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().split()[2]
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"data-step" in answer.read()
    return process, address.rstrip("/"), time.perf_counter() - begun


def cpu_s(pid: int) -> float:
    """Seconds of processor time of the server, however busy the machine is with other things."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


LOADED = """
(() => { const e = performance.getEntriesByType("navigation")[0];
  const loaded = e && e.loadEventEnd;
  return loaded ? [e.responseEnd - e.startTime, e.loadEventEnd - e.startTime] : null; })()
"""


async def timed(browser: Browser, url: str) -> tuple[float, float]:
    """Milliseconds to the last byte, and to the load event."""
    await browser.ask("Page.navigate", url="about:blank")
    await browser.ask("Page.navigate", url=url)
    for _ in range(600):
        here = await browser.value("location.href")
        found = await browser.value(LOADED)
        if here != "about:blank" and found:
            return float(found[0]), float(found[1])
        await asyncio.sleep(0.02)
    raise SystemExit(f"{url} did not load in 12 s")


async def measure(
    address: str, pid: int, long_id: str, repeats: int
) -> list[tuple[str, str, list[float], float]]:
    pages = {
        "all debates": ("list", "/"),
        "page 2": ("list", ""),
        "one protocol": ("list", "/?protocol=debate_single_turn"),
        "INVALID": ("list", "/?verdict=invalid"),
        "judges disagree": ("list", "/?judges=disagree"),
        "wrong, one judge, one data set": (
            "list", "/?judge=judge+%28small%29&result=wrong&dataset=house",
        ),
        "two filters that nothing fits": (
            "list", "/?protocol=consultancy_single_turn&agent=retrieval",
        ),
        "search: three words": ("list", "/?q=lamp+stable+bridge"),
        "search: a phrase": ("list", "/?q=%22silver+map+river+bridge%22"),
        "search in wrong debates": ("list", "/?q=lamp&result=wrong"),
        "others on a question": ("list", "/?question=made:7"),
        "a transcript of 60,000 words": ("transcript", f"/t/{long_id}"),
    }  # fmt: skip
    found = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with chromium(Path(folder)) as browser:
            for domain in ("Network", "Page", "Runtime", "Log"):
                await browser.ask(f"{domain}.enable")
            await timed(browser, address)
            older = await browser.value(
                "document.querySelector('a[rel=next]').getAttribute('href')"
            )
            for name, (kind, path) in pages.items():
                url = address + (path or older)
                before = cpu_s(pid)
                times = [(await timed(browser, url))[1] for _ in range(repeats)]
                server_ms = 1000 * (cpu_s(pid) - before) / repeats
                found.append((name, kind, times, server_ms))
            assert browser.complaints == [], browser.complaints
    return found


def whole(address: str) -> float:
    """Seconds until all debates are in the index."""
    begun = time.perf_counter()

    def done() -> bool:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return b"Being read" not in answer.read()

    while not done():
        time.sleep(1.0)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--debates", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="Folder to write the store in and use again.")
    given = parser.parse_args()
    lines = [f"oversight view with {given.debates:,} debates: ms in Chromium, until it is loaded"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"viewer-{given.debates}.db"
        note = path.with_suffix(".id")
        if not note.exists():
            path.unlink(missing_ok=True)
            begun = time.perf_counter()
            note.write_text(write(path, given.debates))
            lines.append(f"store written in {time.perf_counter() - begun:.0f} s")
        lines.append(f"store: {path.stat().st_size / 1e6:.0f} MB")
        cache = folder / "cache"
        is_new = not cache.exists()
        process, address, first_s = start(path, cache)
        try:
            index_s = whole(address)
            if is_new:
                lines.append(f"first page from the command, no index yet: {1000 * first_s:.0f}")
                lines.append(f"index whole after {index_s:.0f} s")
            index = sum(each.stat().st_size for each in cache.rglob("*.db*"))
            lines.append(f"index: {index / 1e6:.0f} MB")
            rows = asyncio.run(measure(address, process.pid, note.read_text(), given.repeats))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        starts, server_s = [], []
        for _ in range(5):
            process, _, first_s = start(path, cache)
            starts.append(1000 * first_s)
            server_s.append(1000 * cpu_s(process.pid))
            process.send_signal(signal.SIGINT)
            process.wait(30)
        lines.append(f"{'page':34} {'min':>6} {'median':>7} {'bar':>6}   server's CPU")
        first = ("first page, from the command", "first page", starts, min(server_s))
        for name, kind, times, server_ms in [first, *rows]:
            low, middle, bar = min(times), statistics.median(times), BARS_MS[kind]
            said = "" if middle < bar else "  over" if low >= bar else "  median over"
            lines.append(f"{name:34} {low:6.0f} {middle:7.0f} {bar:6.0f} {server_ms:8.0f}{said}")
    lines.append(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
