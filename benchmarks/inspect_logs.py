"""Inspect's logs of 10,000 samples, read one sample at a time: seconds and memory.

python benchmarks/inspect_logs.py [--samples 10000] [--out FILE]

A few debates are run by the real graphs, with a scripted model, and cloned under other questions;
the log of them is written by `oversight export`'s own writer, packed by zstd as Inspect's own.
Three rounds are ten calls of models with prompts and token ids, one round is three calls. The same
as one JSON document, and a log of another evaluation, with choices, are made beside them. Each is
read in a fresh process, whose largest memory is the whole of it: interpreter and libraries
included. `import` checks all before anything is written, and writes a store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BAR_S, BAR_MB = 10.0, 300.0
SPEECH = "The ledger says <quote>the lamp stood in the cellar</quote> on that day. " * 8


def template(folder: Path, protocol: str) -> list[tuple[Any, dict[str, Any]]]:
    """Transcripts of debates by the real graphs, each with its prompts by id."""
    from oversight.interop.inspect_records import prompts_of
    from oversight.store import Store
    from tests.reporting.conftest import make_question, run_scripted

    with Store.open(folder / f"{protocol}.db") as store:
        questions = [make_question(number) for number in range(4)]
        asyncio.run(run_scripted(store, questions, [protocol], speech=SPEECH))
        found = list(store.transcripts())
        return [
            (each, prompts_of(each, lambda id_, num: store.prompt(id_, num_tokens=num)))
            for each in found
        ]


def clones(folder: Path, num: int, asked: dict[str, Any], protocol: str) -> Iterator[Any]:
    """Debates under `num` questions of their own, with the turns of the template."""
    made = template(folder, protocol)
    for number in range(num):
        transcript, prompts = made[number % len(made)]
        asked.update(prompts)
        question = transcript.question.model_copy(
            update={"id": f"q{number}", "text": f"{transcript.question.text} ({number})"}
        )
        debate = transcript.debate.model_copy(
            update={"question_id": question.id, "question_fingerprint": question.fingerprint}
        )
        own = {"debate_id": debate.id}
        yield replace(
            transcript,
            question=question,
            debate=debate,
            turns=tuple(each.model_copy(update=own) for each in transcript.turns),
            judgments=tuple(each.model_copy(update=own) for each in transcript.judgments),
            outcome=transcript.outcome.model_copy(update=own),
        )


def write_all(folder: Path, num: int) -> dict[str, Path]:
    """The four logs, by what they are."""
    from oversight.interop.inspect import Config, write
    from oversight.interop.inspect_files import InspectFile
    from tests.interop.test_inspect_logs import choosing, evaluation, packed, zstd_archive

    logs = {
        "debates of three rounds, exported (.eval)": folder / "three.eval",
        "debates of one round, exported (.eval)": folder / "one.eval",
        "the same as one document (.json)": folder / "one.json",
        "another evaluation, with choices (.eval)": folder / "other.eval",
    }
    three, one, document, other = logs.values()
    for protocol, path in (("debate", three), ("debate_single_turn", one)):
        asked: dict[str, Any] = {}
        begin = time.process_time()
        made_of = clones(folder, num, asked, protocol)
        list(write(made_of, path, Config(), lambda id_, _, asked=asked: asked[id_]))
        print(f"export of {protocol}: {num / (time.process_time() - begin):,.0f} a CPU second")
    file = InspectFile(one)
    with document.open("w") as out:
        out.write(json.dumps(file.header)[:-1] + ', "samples": [')
        for number, sample in enumerate(file.samples()):
            out.write(("," if number else "") + json.dumps(sample))
        out.write("]}")
    text = " ".join(["the answer cannot be known from this line alone"] * 40)
    others = [
        choosing(
            id=number,
            uuid=f"u{number}",
            input=f"{text} {number}",
            messages=[{"role": "user", "content": f"{text} {number}"}],
            output={"completion": f"{text} ANSWER: B"},
        )
        for number in range(num)
    ]
    made = {f"samples/{each['id']}_epoch_1.json": json.dumps(each).encode() for each in others}
    made["header.json"] = json.dumps(evaluation()).encode()
    zstd_archive(other, [(name, each, packed(each)) for name, each in made.items()])
    return logs


def read_one(path: Path) -> dict[str, float]:
    """Read a log, making every record of it."""
    from oversight.interop.base import ImportedDebate
    from oversight.interop.inspect import Config, read

    begin = time.perf_counter()
    num = records = 0
    for item in read(path, Config()):
        assert isinstance(item, ImportedDebate), item
        num += 1
        records += len(item.records)
    return {"seconds": time.perf_counter() - begin, "num": num, "records": records}


def import_one(path: Path, folder: Path) -> dict[str, float]:
    """Import a log into a new store."""
    from oversight.interop.base import ImportSettings, import_debates
    from oversight.store import Store

    begin = time.perf_counter()
    with Store.open(folder / "imported.db") as store:
        done = import_debates(
            ImportSettings(format="inspect", path=str(path), store=store.url), store
        )
    return {"seconds": time.perf_counter() - begin, "num": done.num_debates, "records": 0}


def peak_mb() -> float:
    """The largest memory of this process; `getrusage` would give that of its parent as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_a_process(path: Path, how: str) -> dict[str, float]:
    """Figures that a fresh process measures."""
    command = [sys.executable, __file__, "--log", str(path), "--how", how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--how", default="read")
    given = parser.parse_args()
    if given.log is not None:
        if given.how == "read":
            found = read_one(given.log)
        else:
            with tempfile.TemporaryDirectory() as folder:
                found = import_one(given.log, Path(folder))
        found |= {"mb": peak_mb(), "cpu": time.process_time()}
        print(json.dumps(found))
        return
    lines = [f"{given.samples:,} samples of Inspect's logs: seconds and MB of a fresh process"]
    with tempfile.TemporaryDirectory() as folder:
        logs = write_all(Path(folder), given.samples)
        lines.append(f"{'log':48}{'MB':>6}{'':>8}{'s':>7}{'CPU':>7}{'bar':>6}{'MB':>7}{'bar':>6}")
        runs = [(name, path, "read") for name, path in logs.items()]
        runs.append((*next(iter(logs.items())), "import"))
        for name, path, how in runs:
            found = in_a_process(path, how)
            assert found["num"] == given.samples, found
            size = path.stat().st_size / 2**20
            lines.append(
                f"{name:48}{size:>6.0f}{how:>8}{found['seconds']:>7.1f}"
                f"{found['cpu']:>7.1f}{BAR_S:>6.0f}"
                f"{found['mb']:>7.0f}{BAR_MB:>6.0f}"
            )
    lines.append(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("\n".join(lines))
    if given.out is not None:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
