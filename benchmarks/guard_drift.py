"""False alarms in unchanged traffic, and calls until a planted shift of 10 % is noticed, by kind.

    python benchmarks/guard_drift.py --calls 1000000 --trials 20

Bars: at most 1 false alarm in 10^6 calls of each kind, and every shift noticed within 2,000 calls.
With `river` installed, its detectors are run on the same shares and numbers: at their own settings,
and at the ones nearest to the bar that their settings allow. They take one number after the other
and know no reference, so what was before the shift is theirs to learn: they are shown the reference
first.
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


def river_detectors() -> dict[str, Callable[[], Any]]:
    """Detectors of river by name, at their own settings and at stricter ones; none without it."""
    try:
        from river import drift
    except ImportError:
        return {}
    return {
        "ADWIN (delta 0.002, its own)": drift.ADWIN,
        "ADWIN (delta 1e-4)": lambda: drift.ADWIN(delta=1e-4),
        "ADWIN (delta 1e-6)": lambda: drift.ADWIN(delta=1e-6),
        "KSWIN (alpha 0.005, its own)": lambda: drift.KSWIN(seed=0),
        "KSWIN (alpha 1e-6)": lambda: drift.KSWIN(alpha=1e-6, seed=0),
        "Page-Hinkley (threshold 50, its own)": drift.PageHinkley,
        "Page-Hinkley (threshold 200)": lambda: drift.PageHinkley(threshold=200.0),
        "Page-Hinkley (threshold 1000)": lambda: drift.PageHinkley(threshold=1000.0),
    }


def compare_with_river(given: argparse.Namespace) -> None:
    """Print false alarms and delays of river's detectors, and of ours on the same values."""
    for name, (kind, draw) in KINDS.items():
        if kind not in ("share", "number") or given.kind not in name:
            continue
        for label, make in river_detectors().items():
            if given.detector not in label:
                continue
            slow = label.startswith("KSWIN")
            calls = given.river_calls // (100 if slow else 1)
            trials = given.trials // (5 if slow else 1)
            rng = np.random.default_rng(0)
            started, alarms, found = time.process_time(), 0, make()
            for number in chunks(calls):
                for each in draw(rng, number, 0.0):
                    found.update(float(each))
                    if found.drift_detected:
                        alarms, found = alarms + 1, make()
            cost = (time.process_time() - started) / calls
            delays = []
            for _ in range(trials):
                found = make()
                for each in draw(rng, NUM_REFERENCE + 2_000, 0.0):
                    found.update(float(each))
                    if found.drift_detected:
                        found = make()
                delays.append(4_001)
                for n, each in enumerate(draw(rng, 4_000, 0.1), 1):
                    found.update(float(each))
                    if found.drift_detected:
                        delays[-1] = n
                        break
            missed = sum(each > 4_000 for each in delays)
            print(
                f"{name}; river {label}: {alarms} alarms in {calls:,} unchanged calls "
                f"({1e6 * alarms / calls:,.0f} in 10^6); shift noticed after "
                f"{int(np.median(delays)):,} calls (median), {max(delays):,} (most, of "
                f"{trials}; {missed} not within 4,000); {cost * 1e6:.1f} us a call",
                flush=True,
            )


def chunks(total: int, size: int = 20_000) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kind", default="")
    parser.add_argument("--river-calls", type=int, default=3_000_000)
    parser.add_argument("--detector", default="", help="river's of this name alone")
    parser.add_argument("--only-river", action="store_true", help="leave our own out")
    given = parser.parse_args()
    if not given.only_river:
        measure_ours(given)
    compare_with_river(given)


def measure_ours(given: argparse.Namespace) -> None:
    """Print false alarms and delays of the detectors of a guard, by kind of drift."""
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
