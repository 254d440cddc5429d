"""Figures of the training benchmark as lines: one side's of a case, and both beside their bars."""

from __future__ import annotations

from training_measure import CASES, Measurement


def megabytes(number: float) -> str:
    """Bytes as a figure of the table."""
    return f"{number / 1e6:,.0f} MB"


def print_measurement(name: str, found: Measurement) -> None:
    """One side's figures of one case."""
    print(
        f"{CASES[name].title:<26} {found.cpu_s_per_step:7.3f} s of CPU a step "
        f"(median {found.details['median_cpu_s']:.3f}), {megabytes(found.peak_bytes):>9} at the "
        f"peak, {found.tokens_per_step:,} tokens"
    )


HEADER = (
    f"{'':<26} {'ours':>9} {'TRL':>9} {'faster':>8} {'bar':>7} {'bound':>7} {'of it':>6}"
    f" {'memory':>8} {'bar':>6}"
)


def table_line(name: str, ours: Measurement, peer: Measurement) -> str:
    """Ratios of one case beside their bars, and how much of the token bound is reached."""
    case = CASES[name]
    faster = peer.cpu_s_per_step / ours.cpu_s_per_step
    share = ours.peak_bytes / peer.peak_bytes
    memory = "      —" if case.memory_bar is None else f"≤ {case.memory_bar:.2f}"
    of_bound = faster / case.bound()
    missed = faster < case.bar() or (case.memory_bar is not None and share > case.memory_bar)
    return (
        f"{case.title:<26} {ours.cpu_s_per_step:>7.3f} s {peer.cpu_s_per_step:>7.3f} s"
        f" {faster:>7.2f}× ≥ {case.bar():>4.1f}× {case.bound():>6.2f}× {of_bound:>5.0%}"
        f" {share:>8.3f} {memory:>6}{'  MISSED' if missed else ''}"
    )
