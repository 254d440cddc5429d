"""False alarms in unchanged traffic, and calls until a planted shift of 10 % is noticed, by kind.

    python benchmarks/guard_drift.py --calls 1000000 --trials 20

Bars: at most 1 false alarm in 10^6 calls of each kind, and every shift noticed within 2,000 calls.
With `river` installed, its detectors are run on the same shares at their own settings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oversight.guard.drift import Kind, NumberDrift, ShareDrift, TextDrift, features_of

NUM_REFERENCE = 5_000
THRESHOLD = 1e6 * 6
"""Six streams share one false alarm in 10^6 calls, as a guard without scores has them."""
TOPICS = (
    "when where the ship harbour sail wind tide captain crew deck mast anchor cargo voyage coast",
    "what how the tax form income rate deduct report year bank account loan interest payment file",
)


def texts(rng: np.random.Generator, number: int, share: float) -> Any:
    """Features of short requests, of which a share is about another topic."""
    words = [topic.split() for topic in TOPICS]
    other = rng.random(number) < share
    picks = rng.integers(0, 16, (number, 8))
    return features_of(
        [
            " ".join(words[int(o)][n % len(words[int(o)])] for n in row)
            for o, row in zip(other, picks, strict=True)
        ]
    )


def shares(before: float, moved_to: float) -> Callable[[np.random.Generator, int, float], Any]:
    """Values 0 and 1; of a share of the calls the mean is another one."""

    def draw(rng: np.random.Generator, number: int, share: float) -> Any:
        mean = np.where(rng.random(number) < share, moved_to, before)
        return (rng.random(number) < mean).astype(float)

    return draw


def rewards(rng: np.random.Generator, number: int, share: float) -> Any:
    """Normal rewards, of which a share lies two standard deviations higher."""
    return rng.normal(size=number) + 2.0 * (rng.random(number) < share)


KINDS: dict[str, tuple[Kind, Callable[[np.random.Generator, int, float], Any]]] = {
    "refusals, 2 % and 100 % in the shift": ("share", shares(0.02, 1.0)),
    "judge agreement, 90 % and 0 %": ("share", shares(0.9, 0.0)),
    "reward, 2 sd higher": ("number", rewards),
    "requests, another topic (kernel)": ("kernel", texts),
    "requests, another topic (classifier)": ("classifier", texts),
}


def detector(kind: Kind, reference: Any) -> Any:
    if kind in ("kernel", "classifier"):
        return TextDrift("x", kind, reference, THRESHOLD, 3.0)
    return (ShareDrift if kind == "share" else NumberDrift)("x", reference, THRESHOLD, 3.0)


def chunks(total: int, size: int = 20_000) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kind", default="")
    given = parser.parse_args()
    for name, (kind, draw) in KINDS.items():
        if given.kind not in name:
            continue
        rng = np.random.default_rng(0)
        started, alarms = time.process_time(), 0
        num_references = max(1, given.calls // 100_000)
        for _ in range(num_references):  # a reference of its own for each part
            found = detector(kind, draw(rng, NUM_REFERENCE, 0.0))
            for number in chunks(given.calls // num_references):
                alarms += sum(found.add(each) is not None for each in draw(rng, number, 0.0))
        cost = (time.process_time() - started) / given.calls
        delays = []
        for _ in range(given.trials):
            found = detector(kind, draw(rng, NUM_REFERENCE, 0.0))
            for each in draw(rng, 2_000, 0.0):
                found.add(each)
            shifted = draw(rng, 4_000, 0.1)
            delays.append(
                next((n for n, each in enumerate(shifted, 1) if found.add(each) is not None), 4_001)
            )
        print(
            f"{name}: {alarms} alarms in {given.calls:,} unchanged calls ({num_references} "
            f"references); shift noticed after {int(np.median(delays)):,} calls (median), "
            f"{max(delays):,} (most, of {given.trials}); {cost * 1e6:.0f} us a call",
            flush=True,
        )


if __name__ == "__main__":
    main()
