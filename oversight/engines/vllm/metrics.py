"""What a vLLM server says of its work: the few counters that matter here, out of `/metrics`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{.*\})?\s+(\S+)(?:\s+\S+)?\s*$")
"""A sample line of the Prometheus text format: name, labels, value, and maybe a time stamp."""


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """Counters of one replica since its server (re)started; None where it does not say them."""

    replica: int
    prefix_cache_queries: int | None
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_cache_hits: int | None
    """Prompt tokens that were found there."""
    num_requests_running: int | None
    num_requests_waiting: int | None
    kv_cache_usage: float | None
    """Share of the key-value cache in use, 0 to 1."""
    prompt_tokens: int | None
    generation_tokens: int | None

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the looked-up prompt tokens that were found; None before the first look-up."""
        if self.prefix_cache_hits is None or not self.prefix_cache_queries:
            return None
        return self.prefix_cache_hits / self.prefix_cache_queries


def parse_samples(text: str) -> dict[str, float]:
    """Value by metric name, summed over labels; lines that cannot be read are passed over."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        totals[match[1]] = totals.get(match[1], 0.0) + value
    return totals


def parse_metrics(text: str, replica: int) -> ReplicaMetrics:
    """The counters of a replica from the body of its `/metrics`."""
    samples = parse_samples(text)

    def count(name: str) -> int | None:
        value = samples.get(f"vllm:{name}_total", samples.get(f"vllm:{name}"))
        return round(value) if value is not None and math.isfinite(value) else None

    return ReplicaMetrics(
        replica=replica,
        prefix_cache_queries=count("prefix_cache_queries"),
        prefix_cache_hits=count("prefix_cache_hits"),
        num_requests_running=count("num_requests_running"),
        num_requests_waiting=count("num_requests_waiting"),
        kv_cache_usage=samples.get("vllm:kv_cache_usage_perc"),
        prompt_tokens=count("prompt_tokens"),
        generation_tokens=count("generation_tokens"),
    )
