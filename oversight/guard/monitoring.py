"""A guard as those who run it see it: counts and latencies, and who is told of alarms."""

from __future__ import annotations

import asyncio
import logging

from oversight.errors import MissingDependencyError
from oversight.guard.calls import Call
from oversight.guard.drift import Alarm, alarm_json

logger = logging.getLogger(__name__)


class Meters:
    """Counts and latencies of a guard, as Prometheus reads them."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingDependencyError(
                "a guard counts with prometheus-client: pip install 'oversight[guard]'"
            ) from None
        self._latest = prometheus.generate_latest
        self.registry = prometheus.CollectorRegistry()
        self._begun = prometheus.Counter(
            "guard_requests", "Requests to the API that came.", registry=self.registry
        )
        self._ended = prometheus.Counter(
            "guard_requests_ended", "Requests that are over.", ["outcome"], registry=self.registry
        )
        self._findings = prometheus.Counter(
            "guard_findings",
            "Findings by check, action and side.",
            ["check", "action", "side"],
            registry=self.registry,
        )
        self._seconds = prometheus.Histogram(
            "guard_request_seconds",
            "Seconds of a whole request.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
        )
        self._own = prometheus.Histogram(
            "guard_own_seconds",
            "Seconds of a request that is not streamed, without the model's.",
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )
        self._in_flight = prometheus.Gauge(
            "guard_in_flight", "Requests under way.", registry=self.registry
        )
        self._feedback = prometheus.Counter(
            "guard_feedback", "Words of users by status.", ["status"], registry=self.registry
        )
        self._alarms = prometheus.Counter(
            "guard_drift_alarms", "Alarms of drift by stream.", ["stream"], registry=self.registry
        )
        self.in_flight = 0

    def alarm(self, stream: str) -> None:
        """Count an alarm."""
        self._alarms.labels(stream).inc()

    def feedback(self, status: int) -> None:
        """Count a user's word on an answer."""
        self._feedback.labels(str(status)).inc()

    def begin(self) -> None:
        """Count a request that came."""
        self.in_flight += 1
        self._begun.inc()
        self._in_flight.set(self.in_flight)

    def end(self, outcome: str) -> None:
        """Count a request that is over."""
        self.in_flight -= 1
        self._ended.labels(outcome).inc()
        self._in_flight.set(self.in_flight)

    def add(self, call: Call) -> None:
        """Count what happened to a call."""
        self._seconds.observe(call.seconds)
        if call.upstream_s:
            self._own.observe(max(0.0, call.seconds - call.upstream_s))
        for finding in call.findings:
            self._findings.labels(finding.check, finding.action.value, "input").inc()
        for choice in call.choices.values():
            for finding in choice.findings:
                self._findings.labels(finding.check, finding.action.value, "output").inc()

    def text(self) -> bytes:
        """All of them in Prometheus' form."""
        return self._latest(self.registry)


class AlarmTeller:
    """Tells of alarms: in the log, and to an address on this machine."""

    def __init__(self, webhook: str) -> None:
        self._webhook = webhook
        self._posting: set[asyncio.Task[None]] = set()

    def __call__(self, alarm: Alarm) -> None:
        """Tell of an alarm; nobody waits for it."""
        logger.warning("drift: %s", alarm.sentence())
        if self._webhook:
            task = asyncio.get_running_loop().create_task(self._post(alarm))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    async def _post(self, alarm: Alarm) -> None:
        import aiohttp

        try:
            timeout = aiohttp.ClientTimeout(total=10)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.post(
                    self._webhook,
                    data=alarm_json(alarm),
                    headers={"content-type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status >= 300:
                    logger.error("drift.webhook answered with status %d", answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.error("drift.webhook could not be told: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Finish telling."""
        while self._posting:
            await asyncio.gather(*self._posting, return_exceptions=True)
