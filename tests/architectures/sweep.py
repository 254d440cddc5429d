"""Runs models of every type through the project, and writes what came of each.

python tests/architectures/sweep.py -o outcomes.json              # all of them
python tests/architectures/sweep.py -o some.json llama jamba      # some
python tests/architectures/sweep.py -o half.json --part 1/2       # the first of two halves
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import building
import judging
import torch
import transformers

SECONDS = 120
"""That a model may take before it counts as one that hangs."""


def main() -> None:
    """Run the sweep of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="rows of the table; all if none is given")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", default="1/1", help="K/N: the K-th of N parts")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kinds = building.kinds()
    if unknown := set(given.names) - {kind.name for kind in kinds}:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    number, of = (int(x) for x in given.part.split("/"))
    chosen = [kind for kind in kinds if not given.names or kind.name in given.names][
        number - 1 :: of
    ]
    signal.signal(signal.SIGALRM, _too_long)
    found: dict[str, Any] = {}
    for kind in chosen:
        folder = Path(tempfile.mkdtemp(prefix="sweep-"))
        started = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            found[kind.name] = judging.judge(kind, folder)
        finally:
            signal.alarm(0)
            shutil.rmtree(folder, ignore_errors=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")
        seconds = time.perf_counter() - started
        print(f"{kind.name} ({seconds:.1f} s): {_in_short(found[kind.name])}", flush=True)


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"not done after {SECONDS} seconds")


def _in_short(outcomes: dict[str, Any]) -> str:
    return ", ".join(
        f"{way} {each if isinstance(each, str) else each['outcome']}"
        + (f" [{each['about']}]" if each and each["outcome"] in ("WRONG", "CRASH") else "")
        if isinstance(each, dict)
        else f"{way}: {each}"
        for way, each in outcomes.items()
    )


if __name__ == "__main__":
    main()
