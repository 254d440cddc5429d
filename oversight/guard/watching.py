"""A guard that serves, watched from a terminal: requests, refusals, latency, cost and alarms.

All of it is read of the guard's /metrics and /health, again and again; figures of the last minute
are differences between two readings.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from oversight.errors import ConfigError, MissingDependencyError
from oversight.text.numbers import NONE, compact, duration, percent
from oversight.text.terminal import rich_text

BARS = "▁▂▃▄▅▆▇█"
NUM_BARS = 40
MAX_MB = 8
OUTCOMES = ("answered", "refused", "blocked", "failed", "cancelled")
Samples = dict[tuple[str, tuple[str, ...]], float]


@dataclass(frozen=True, slots=True)
class MetricsReading:
    """The counts of a guard at one moment."""

    at: float
    """Seconds on a clock that only goes on."""
    samples: Samples
    """By name and values of the labels, in their names' order."""
    health: Mapping[str, Any]

    def total(self, name: str, *labels: str) -> float:
        """The sum over all samples of a name whose labels begin with some values."""
        return sum(
            value
            for (each, given), value in self.samples.items()
            if each == name and given[: len(labels)] == labels
        )

    def by_label(self, name: str) -> Counter[tuple[str, ...]]:
        """All samples of a name."""
        return Counter({given: v for (each, given), v in self.samples.items() if each == name})


def read_guard(client: httpx.Client, url: str) -> MetricsReading:
    """A reading of the guard at an address.

    Raises:
        ConfigError: Nobody answers there, or it is no guard.
        MissingDependencyError: prometheus-client is not installed.
    """
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        raise MissingDependencyError(
            "a guard's counts are read with prometheus-client: pip install 'oversight[guard]'"
        ) from None
    try:
        text = _get(client, f"{url}/metrics")
        health = httpx.Response(200, content=_get(client, f"{url}/health")).json()
        samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for each in family.samples:
                if each.name.startswith("guard_"):
                    values = tuple(each.labels[name] for name in sorted(each.labels))
                    samples[(each.name, values)] = each.value
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = str(error) or type(error).__name__
        raise ConfigError(
            f"{url!r} does not answer ({said}); give the address that `oversight guard serve` "
            "prints, without /v1"
        ) from None
    except (ValueError, KeyError, IndexError):
        samples, health = {}, {}
    if ("guard_requests_total", ()) not in samples or not isinstance(health, dict):
        raise ConfigError(
            f"{url!r} answers, and is no guard; give the address that `oversight guard serve` "
            "prints, without /v1"
        )
    return MetricsReading(time.monotonic(), samples, health)


def _get(client: httpx.Client, url: str) -> str:
    content = b""
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > MAX_MB << 20:
                raise ValueError("it is too long")
    return content.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class GuardFigures:
    """Figures of a guard, of the last stretch of time and since its start."""

    over_s: float
    """Length of the stretch; 0 while there is one reading."""
    per_second: float
    in_flight: int
    num: int
    """Requests that ended in the stretch."""
    total: int
    outcomes: dict[str, tuple[int, int]]
    """By outcome, in the stretch and since the start; so with what follows."""
    checks: dict[tuple[str, str, str], tuple[int, int]]
    """By check, action and side."""
    alarms: dict[str, tuple[int, int]]
    """By stream of the watch over drift."""
    feedback: tuple[int, int]
    seconds: tuple[float | None, float | None]
    """Median and 99th percentile of a whole request."""
    own_seconds: tuple[float | None, float | None]
    """The same of the guard's own part, where the model's is known."""
    tokens: tuple[int, int]
    """Written by models, in the stretch and since the start."""
    cost: tuple[float, float] | None
    """In the currency of the prices; None where the guard has none."""
    currency: str
    rates: list[float] = field(default_factory=list)
    """Requests a second between readings, the last at the end."""
    health: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The figures as plain data."""
        found = asdict(self)
        found["checks"] = [
            {"check": check, "action": action, "side": side, "last": last, "total": total}
            for (check, action, side), (last, total) in self.checks.items()
        ]
        return found


class GuardMonitor:
    """Readings of the last stretch of time, and the figures that they make."""

    def __init__(self, window_s: float = 60.0) -> None:
        self._window_s = window_s
        self._readings: deque[MetricsReading] = deque()
        self._rates: deque[float] = deque(maxlen=NUM_BARS)

    def take(self, reading: MetricsReading) -> GuardFigures:
        """The figures once a reading has come."""
        came = "guard_requests_total"
        if self._readings:
            last = self._readings[-1]
            if reading.total(came) < last.total(came):  # the guard was started anew
                self._readings.clear()
                self._rates.clear()
            elif reading.at > last.at:
                more = reading.total(came) - last.total(came)
                self._rates.append(more / (reading.at - last.at))
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].at <= reading.at - self._window_s:
            self._readings.popleft()
        return self._figures(self._readings[0], reading)

    def _figures(self, old: MetricsReading, new: MetricsReading) -> GuardFigures:
        over_s = new.at - old.at

        def both(name: str, *labels: str) -> tuple[int, int]:
            total = new.total(name, *labels)
            return round(total - old.total(name, *labels)), round(total)

        def each(name: str) -> dict[tuple[str, ...], tuple[int, int]]:
            before = old.by_label(name)
            counts = new.by_label(name).items()
            found = {key: (round(v - before[key]), round(v)) for key, v in counts}
            return dict(sorted(found.items(), key=lambda item: (-item[1][0], -item[1][1], item[0])))

        # Labels are in the order of their names: action, check, side.
        checks = {(c, a, s): n for (a, c, s), n in each("guard_findings_total").items()}
        costs = new.by_label("guard_cost_total")
        total_cost = sum(costs.values())
        num, _ = both("guard_requests_ended_total")
        return GuardFigures(
            over_s=over_s,
            per_second=both("guard_requests_total")[0] / over_s if over_s else 0.0,
            in_flight=round(new.total("guard_in_flight")),
            num=num,
            total=round(new.total("guard_requests_total")),
            outcomes={name: both("guard_requests_ended_total", name) for name in OUTCOMES},
            checks=checks,
            alarms={key[0]: n for key, n in each("guard_drift_alarms_total").items()},
            feedback=both("guard_feedback_total"),
            seconds=_quantiles("guard_request_seconds_bucket", old, new),
            own_seconds=_quantiles("guard_own_seconds_bucket", old, new),
            tokens=_written(old, new),
            cost=(total_cost - old.total("guard_cost_total"), total_cost) if costs else None,
            currency=next((currency for currency, _ in costs), ""),
            rates=list(self._rates),
            health=new.health,
        )


def _written(old: MetricsReading, new: MetricsReading) -> tuple[int, int]:
    now, before = (
        sum(v for (_, kind), v in each.by_label("guard_tokens_total").items() if kind == "output")
        for each in (new, old)
    )
    return round(now - before), round(now)


def _quantiles(
    name: str, old: MetricsReading, new: MetricsReading
) -> tuple[float | None, float | None]:
    """Median and 99th percentile, by straight lines within the buckets of a histogram.

    Of all since the start, where nothing came between the readings.
    """
    now, before = new.by_label(name), old.by_label(name)
    bounds = sorted(now, key=lambda key: float(key[0]))
    counts = [(float(key[0]), now[key] - before[key]) for key in bounds]
    if not counts or not counts[-1][1]:
        counts = [(float(key[0]), now[key]) for key in bounds]
    return _quantile(counts, 0.5), _quantile(counts, 0.99)


def _quantile(counts: Sequence[tuple[float, float]], share: float) -> float | None:
    """A quantile of cumulative counts by upper bound; the last finite bound for what is beyond."""
    if not counts or not counts[-1][1]:
        return None
    wanted, low, below = share * counts[-1][1], 0.0, 0.0
    for bound, number in counts:
        if number >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / max(number - below, 1e-9)
        low, below = bound, number
    return low


# --- as a person sees them ---


def milliseconds(seconds: float | None) -> str:
    """A time in the unit that suits it, `1.2 ms`."""
    if seconds is None:
        return NONE
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def bars(rates: list[float]) -> str:
    """Rates as a row of bars, the highest of them as high as a bar can be."""
    most = max(rates, default=0.0)
    if not most:
        return BARS[0] * len(rates)
    return "".join(BARS[min(7, int(8 * rate / most))] for rate in rates)


def plain_line(found: GuardFigures) -> str:
    """The figures in one line, for a pipe or a log."""
    of_time = found.num if found.over_s else found.total
    which = 0 if found.over_s else 1

    def part(name: str) -> str:
        return percent(found.outcomes[name][which] / of_time, 1) if of_time else NONE

    fired = sum(each[which] for each in found.checks.values())
    parts = [
        f"{found.per_second:.1f} requests/s",
        f"{found.total:,} in all",
        f"refused {part('refused')}",
        f"blocked {part('blocked')}",
        f"failed {part('failed')}",
        f"{fired:,} findings",
        f"median {milliseconds(found.seconds[0])}",
        f"p99 {milliseconds(found.seconds[1])}",
    ]
    if found.cost is not None:
        parts.append(f"{found.cost[1]:.4g} {found.currency}")
    alarms = sum(total for _, total in found.alarms.values())
    parts.append(f"{alarms} alarms" if alarms != 1 else "1 alarm")
    return ", ".join(parts)


def screen(found: GuardFigures, url: str, height: int = 24, problem: str = "") -> RenderableType:
    """The figures on a screen of so many lines."""
    health = found.health
    policy = f"policy {health.get('policy', '?')} ({str(health.get('policy_hash', '?'))[:16]})"
    head = rich_text(f"guard {url}", "bold")
    head.append_text(rich_text(f"  {policy}, version {health.get('policy_version', '?')}", "dim"))
    over = f"last {duration(found.over_s)}" if found.over_s else "just begun"
    lines: list[RenderableType] = [head]
    lines.append(rich_text(problem, "bold red") if problem else Text(""))
    rate = Text.assemble(
        (f"{found.per_second:.1f}", "bold"), f" requests/s, {found.in_flight} under way  "
    )
    rate.append(bars(found.rates), "cyan")
    lines += [rate, Text(""), _counts(found, over)]
    num_alarms = min(2, len(found.alarms)) or 1
    rest = [Text(""), *_rest(found, num_alarms)]
    room = height - len(lines) - len(OUTCOMES) - len(rest) - 3
    lines += [Text(""), _checks(found, max(1, room)), *rest]
    for line in lines:
        if isinstance(line, Text):
            line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _counts(found: GuardFigures, over: str) -> RichTable:
    table = RichTable(box=None, pad_edge=False)
    for name in ("requests", over, "", "since start", ""):
        table.add_column(rich_text(name, "dim"), justify="left" if name == "requests" else "right")
    for name, (last, total) in found.outcomes.items():
        shares = (last / found.num if found.num else None, total / max(1, found.total))
        style = "bold" if name in ("refused", "blocked", "failed") and last else ""
        cells = (name, f"{last:,}", percent(shares[0], 1), f"{total:,}", percent(shares[1], 1))
        table.add_row(*(rich_text(cell, style) for cell in cells))
    return table


def _checks(found: GuardFigures, room: int) -> RichTable:
    table = RichTable(box=None, pad_edge=False)
    for name in ("checks that fired", "does", "on", "last", "since start"):
        right = name in ("last", "since start")
        table.add_column(
            rich_text(name, "dim"), justify="right" if right else "left", no_wrap=True, max_width=30
        )
    every = list(found.checks.items())
    shown = every if len(every) <= room else every[: room - 1]
    for (check, action, side), (last, total) in shown:
        cells = (check, action, side, f"{last:,}", f"{total:,}")
        table.add_row(*(rich_text(cell, "bold" if last else "") for cell in cells))
    if len(shown) < len(every):
        table.add_row(rich_text(f"and {len(every) - len(shown)} more", "dim"))
    if not every:
        table.add_row(rich_text("none yet", "dim"))
    return table


def _rest(found: GuardFigures, num_alarms: int) -> list[Text]:
    (median, p99), (own, own_p99) = (
        [milliseconds(each) for each in pair] for pair in (found.seconds, found.own_seconds)
    )
    cost = "no prices are set"
    if found.cost is not None:
        late, total = found.cost
        cost = f"{late:.4g} {found.currency} lately, {total:.4g} since start"
    said = [
        ("latency", f"median {median}, p99 {p99}; the guard's own {own}, {own_p99}"),
        ("tokens", f"{compact(found.tokens[1])} written; words of users: {found.feedback[1]:,}"),
        ("cost", cost),
    ]
    lines = [Text.assemble((f"{name:<10}", "dim"), rich_text(words)) for name, words in said]
    if not found.alarms:
        lines.append(Text.assemble((f"{'alarms':<10}", "dim"), "none"))
    for name, (last, total) in list(found.alarms.items())[:num_alarms]:
        words = f"drift of {name}: {total:,}, {last:,} of them lately; see the guard's log"
        lines.append(Text.assemble((f"{'alarms':<10}", "dim"), rich_text(words, "bold red")))
    return lines
