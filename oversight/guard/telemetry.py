"""Calls told to others: spans and metrics by OpenTelemetry, lines of JSON in the log.

Names are those of the semantic conventions for generative AI. A call is a span of the guard
(`POST /v1/chat/completions`), in which the asking of the model is another (`chat MODEL`); each
finding of a check is an event `gen_ai.evaluation.result`. No word of a request or an answer is told
unless `content` says so, and then without secrets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from oversight.config import PriceTable, Settings
from oversight.errors import MissingDependencyError
from oversight.guard.calls import Call, CallOutcome, public_id
from oversight.guard.checks.base import texts_of
from oversight.guard.checks.secrets import without_secrets
from oversight.guard.screening import Finding
from oversight.guard.upstreams import UpstreamSettings
from oversight.redaction import redacted
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)
calls_logger = logging.getLogger("oversight.guard.call")

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))
"""Bounds of the histograms, as the conventions have them."""
CLOSING_S = 5.0
"""Longest time that an end waits for a collector."""
Attributes = dict[str, Any]


class TelemetrySettings(Settings):
    """Spans and metrics, and where they go."""

    endpoint: str = "http://127.0.0.1:4318"
    """Address of a collector that takes OTLP over HTTP, before /v1/traces; headers that it wants
    stand in the environment variable OTEL_EXPORTER_OTLP_HEADERS."""
    service: str = Field(default="oversight-guard", min_length=1)
    """Name that the collector knows the guard by."""
    content: bool = False
    """Tell the words of requests and answers too, without secrets."""
    every_s: float = Field(default=15.0, ge=0.1)
    """Seconds between two tellings of the metrics."""

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{endpoint!r} is no http:// or https:// address of a collector")
        return endpoint.rstrip("/")


class TokenMeters:
    """Tokens and their price, beside the other counts at /metrics."""

    def __init__(self, registry: CollectorRegistry, prices: PriceTable | None) -> None:
        from prometheus_client import Counter

        self._prices = prices
        labels = ["model", "type"]
        self._tokens = Counter("guard_tokens", "Tokens by type.", labels, registry=registry)
        self._cost = Counter(
            "guard_cost", "Price of the tokens.", ["model", "currency"], registry=registry
        )

    def add(self, call: Call) -> None:
        """Count a call's."""
        given, written = tokens_of(call)
        if not given and not written:
            return
        self._tokens.labels(call.model, "input").inc(given)
        self._tokens.labels(call.model, "output").inc(written)
        if self._prices is not None:
            cost = self._prices.cost(call.model, given, written)
            if cost is not None:
                self._cost.labels(call.model, self._prices.currency).inc(cost)


def tokens_of(call: Call) -> tuple[int, int]:
    """Tokens of a call's prompt and answer, as the model's server counted them; 0 if it did not."""
    found = (call.usage.get("prompt_tokens"), call.usage.get("completion_tokens"))
    given, written = (each if isinstance(each, int) and each > 0 else 0 for each in found)
    return given, written


class CallTracer:
    """Makes the spans and metrics of calls that are over."""

    def __init__(
        self,
        settings: TelemetrySettings,
        upstreams: Mapping[str, UpstreamSettings],
        spans: SpanExporter | None = None,
        metrics: MetricExporter | None = None,
    ) -> None:
        """Begin.

        Args:
            settings: Of the guard's file.
            upstreams: The models by the name that clients ask for.
            spans: Where spans go; the collector of the settings by default.
            metrics: Where metrics go; the same.

        Raises:
            MissingDependencyError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingDependencyError(
                "[telemetry] needs OpenTelemetry: pip install 'oversight[otel]'"
            ) from None
        self._api, self._settings = trace, settings
        self._upstreams = upstreams
        resource = Resource.create({"service.name": settings.service})
        spans = spans or OTLPSpanExporter(endpoint=f"{settings.endpoint}/v1/traces")
        metrics = metrics or OTLPMetricExporter(endpoint=f"{settings.endpoint}/v1/metrics")
        self._spans = TracerProvider(resource=resource, id_generator=_drawn_ids())
        self._spans.add_span_processor(BatchSpanProcessor(spans))
        every_ms = 1000 * settings.every_s
        reader = PeriodicExportingMetricReader(metrics, every_ms, 1000 * CLOSING_S)
        self._metrics = MeterProvider([reader], resource=resource)
        self._tracer = self._spans.get_tracer("oversight.guard")
        meter = self._metrics.get_meter("oversight.guard")

        def histogram(name: str, unit: str, what: str, bounds: Sequence[float]) -> Any:
            return meter.create_histogram(
                name, unit, what, explicit_bucket_boundaries_advisory=bounds
            )

        self._seconds = histogram(
            "gen_ai.client.operation.duration", "s", "Seconds of asking the model.", SECONDS
        )
        self._first = histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Seconds to its first.", SECONDS
        )
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", "Tokens.", TOKENS)
        self._whole = histogram(
            "gen_ai.server.request.duration", "s", "Seconds of a call with its checks.", SECONDS
        )
        self._findings = meter.create_counter("guard.findings", "{finding}", "Findings of checks.")

    def add(self, call: Call) -> None:
        """Tell of a call that is over; nobody waits for it."""
        if call.trace is None:
            return
        ended = time.time_ns() - _ns(time.perf_counter() - call.started - call.seconds)
        began = ended - _ns(call.seconds)
        common = self._common(call)
        ids, api = call.trace, self._api
        parent = None
        if ids.parent:
            flags = api.TraceFlags(int(ids.is_sampled))
            remote = api.SpanContext(ids.trace, ids.parent, is_remote=True, trace_flags=flags)
            parent = api.set_span_in_context(api.NonRecordingSpan(remote))
        _IDS.set((ids.trace, ids.call))
        span = self._tracer.start_span(
            f"POST /v1/{call.path}",
            context=parent,
            kind=api.SpanKind.SERVER,
            attributes=self._of_call(call, common),
            start_time=began,
        )
        for finding in findings_of(call):
            span.add_event("gen_ai.evaluation.result", _of_finding(finding), timestamp=ended)
        if call.outcome is CallOutcome.FAILED:
            span.set_status(api.Status(api.StatusCode.ERROR, without_secrets(redacted(call.error))))
        if call.asked:
            _IDS.set((ids.trace, ids.model))
            asked = began + _ns(call.asked - call.started)
            answered = asked + _ns(call.upstream_s) if call.upstream_s else ended
            inner = self._tracer.start_span(
                f"{common['gen_ai.operation.name']} {call.model}",
                context=api.set_span_in_context(span),
                kind=api.SpanKind.CLIENT,
                attributes=self._of_model(call, common),
                start_time=asked,
            )
            inner.end(answered)
            self._measure(call, common, (answered - asked) / 1e9)
        span.end(ended)
        failure = {"error.type": "error"} if call.outcome is CallOutcome.FAILED else {}
        self._whole.record(call.seconds, common | failure)
        for finding in findings_of(call):
            which = {"guard.check": finding.check, "guard.action": finding.action.value}
            self._findings.add(1, which)

    def _measure(self, call: Call, common: Attributes, seconds: float) -> None:
        self._seconds.record(seconds, common)
        if call.first:
            self._first.record(call.first - call.asked, common)
        for kind, number in zip(("input", "output"), tokens_of(call), strict=True):
            if number:
                self._tokens.record(number, common | {"gen_ai.token.type": kind})

    def _common(self, call: Call) -> Attributes:
        upstream = self._upstreams.get(call.model) or self._upstreams.get("*")
        is_ours = upstream is not None and bool(upstream.engine)
        return {
            "gen_ai.operation.name": "chat" if call.path.startswith("chat") else "text_completion",
            "gen_ai.provider.name": "oversight" if is_ours else "openai",
            "gen_ai.request.model": call.model,
        }

    def _of_call(self, call: Call, common: Attributes) -> Attributes:
        policy = {}
        if call.policy is not None:
            policy = {
                "guard.policy.name": call.policy.name,
                "guard.policy.version": call.policy.settings.version,
                "guard.policy.hash": call.policy.fingerprint[:16],
            }
        return {
            **common,
            **policy,
            "http.request.method": "POST",
            "http.route": f"/v1/{call.path}",
            "guard.outcome": call.outcome.value,
            "guard.action": call.action.value,
            "gen_ai.response.id": public_id(call),
        }

    def _of_model(self, call: Call, common: Attributes) -> Attributes:
        given, written = tokens_of(call)
        found = common | dict(_of_request(call.body))
        upstream = self._upstreams.get(call.model) or self._upstreams.get("*")
        if upstream is not None and upstream.base_url:
            parts = urlsplit(upstream.base_url)
            found["server.address"] = parts.hostname or ""
            found["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
        reasons = [each.finish_reason for each in call.choices.values() if each.finish_reason]
        found |= {
            "gen_ai.response.id": public_id(call),
            "gen_ai.response.model": call.answered_by,
            "gen_ai.response.finish_reasons": reasons,
            "gen_ai.usage.input_tokens": given,
            "gen_ai.usage.output_tokens": written,
        }
        if self._settings.content:
            found |= _content(call)
        return {name: value for name, value in found.items() if value not in ("", [], 0)}

    async def aclose(self) -> None:
        """Tell what is left, for as long as `CLOSING_S`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        try:
            self._spans.force_flush(round(1000 * CLOSING_S))
            self._spans.shutdown()
            self._metrics.shutdown(1000 * CLOSING_S)
        except Exception as error:  # a collector that is away keeps no guard from ending
            logger.warning("telemetry could not be told at the end: %s", type(error).__name__)


_IDS: ContextVar[tuple[int, int]] = ContextVar("ids", default=(0, 0))


def _drawn_ids() -> Any:
    """A source of ids that gives those which a call was begun with."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class DrawnIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _IDS.get()[0] or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return _IDS.get()[1] or super().generate_span_id()

    return DrawnIds()


def _ns(seconds: float) -> int:
    return round(1e9 * seconds)


def findings_of(call: Call) -> list[Finding]:
    """The findings of a call, of input and of all choices."""
    return [*call.findings, *(f for each in call.choices.values() for f in each.findings)]


def _of_finding(finding: Finding) -> Attributes:
    found: Attributes = {
        "gen_ai.evaluation.name": finding.check,
        "gen_ai.evaluation.score.label": finding.action.value,
        "guard.where": finding.where,
    }
    if finding.score is not None:
        found["gen_ai.evaluation.score.value"] = finding.score
    if finding.is_failure:
        found["error.type"] = "check_failed"
    return found


_REQUEST: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", (int, float)),
    "top_p": ("gen_ai.request.top_p", (int, float)),
    "top_k": ("gen_ai.request.top_k", (int, float)),
    "seed": ("gen_ai.request.seed", int),
    "n": ("gen_ai.request.choice.count", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", (int, float)),
    "presence_penalty": ("gen_ai.request.presence_penalty", (int, float)),
    "stream": ("gen_ai.request.stream", bool),
}


def _of_request(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, (attribute, kinds) in _REQUEST.items():
        if isinstance(body.get(name), kinds):
            yield attribute, body[name]
    stop = body.get("stop")
    words = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if words:
        yield "gen_ai.request.stop_sequences", [str(each) for each in words]


def _content(call: Call) -> Attributes:
    """The words of a call, as JSON of the conventions' form, without secrets."""
    asked = [_message(each["role"], "\n\n".join(texts_of(each))) for each in call.sent]
    said = [
        _message("assistant", each.delivered) | {"finish_reason": each.finish_reason}
        for _, each in sorted(call.choices.items())
    ]
    return {
        "gen_ai.input.messages": json.dumps(asked, ensure_ascii=False),
        "gen_ai.output.messages": json.dumps(said, ensure_ascii=False),
    }


def _message(role: str, words: str) -> Attributes:
    return {"role": role, "parts": [{"type": "text", "content": without_secrets(redacted(words))}]}


# --- the log ---


class CleanFormatter(logging.Formatter):
    """Lines of the log without secrets, in plain words or as JSON."""

    def __init__(self, form: Literal["plain", "json"]) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._is_json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        if not self._is_json:
            return visible(without_secrets(redacted(super().format(record))))
        facts: Attributes = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps({name: _clean(value) for name, value in facts.items()})


def _clean(value: Any) -> Any:
    return without_secrets(redacted(value)) if isinstance(value, str) else value


@contextmanager
def logged(form: Literal["plain", "json"]) -> Iterator[None]:
    """Let all of the log go to stderr without secrets, and, as JSON, a line of each call."""
    root, level = logging.getLogger(), calls_logger.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CleanFormatter(form))
    root.addHandler(handler)
    calls_logger.setLevel(logging.INFO if form == "json" else logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        calls_logger.setLevel(level)


def log_call(call: Call) -> None:
    """Write a line of a call that is over, without a word of it."""
    if not calls_logger.isEnabledFor(logging.INFO):
        return
    given, written = tokens_of(call)
    facts = {
        "call": public_id(call),
        "path": call.path,
        "model": call.model[:200],
        "outcome": call.outcome.value,
        "action": call.action.value,
        "checks": sorted({each.check for each in findings_of(call)}),
        "seconds": round(call.seconds, 6),
        "model_seconds": round(call.upstream_s, 6),
        "input_tokens": given,
        "output_tokens": written,
        "trace": "" if call.trace is None else f"{call.trace.trace:032x}",
    }
    calls_logger.info("call", extra={"facts": facts})
