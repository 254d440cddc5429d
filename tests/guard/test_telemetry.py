"""Calls as spans and metrics at a collector over HTTP, as lines of JSON, and as tokens and cost."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")
pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the exporter over HTTP is not installed"
)

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from oversight.guard import telemetry
from oversight.guard.telemetry import CleanFormatter, calls_logger, logged
from oversight.redaction import register
from tests.guard.conftest import REPLACING, Start, asked

KEY = "AKIAIOSFODNN7EXAMPLE"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """A collector of OpenTelemetry that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                outer.got.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def spans(self) -> list[Any]:
        found = []
        for path, body in self.got:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    found += [each for scope in resource.scope_spans for each in scope.spans]
        return found

    def metrics(self) -> dict[str, Any]:
        found = {}
        for path, body in self.got:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        found |= {each.name: each for each in scope.metrics}
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def plain(span: Any) -> dict[str, Any]:
    """A span's attributes, or those of a point of a metric."""
    found = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


async def close(guard: Any) -> None:
    for each in guard.server._closing:
        await each()


async def test_a_call_is_a_span_with_the_models_in_it_and_no_word_of_it(
    guarded: Start, collector: Collector
) -> None:
    guard = await guarded(REPLACING, telemetry={"endpoint": collector.url})
    guard.upstream.words = [f"It is {KEY}."]
    body = asked("Whereabouts?", temperature=0.5, max_tokens=9, stop="x")
    await guard.post(body, headers={"traceparent": PARENT})
    await close(guard)
    whole, inner = sorted(collector.spans(), key=lambda span: span.kind)
    assert (whole.name, inner.name) == ("POST /v1/chat/completions", "chat sim")
    assert (whole.kind, inner.kind) == (2, 3)  # server, client
    trace, parent = PARENT.split("-")[1:3]
    assert whole.trace_id.hex() == inner.trace_id.hex() == trace
    assert whole.parent_span_id.hex() == parent
    assert inner.parent_span_id == whole.span_id
    sent_on = guard.upstream.headers[0]["traceparent"]
    assert sent_on == f"00-{trace}-{inner.span_id.hex()}-01"
    assert whole.start_time_unix_nano <= inner.start_time_unix_nano
    assert inner.end_time_unix_nano <= whole.end_time_unix_nano
    assert abs(time.time_ns() - whole.end_time_unix_nano) < 60e9
    of_call, of_model = plain(whole), plain(inner)
    assert of_call["guard.outcome"] == "answered"
    assert of_call["guard.action"] == "replace"
    assert of_call["guard.policy.version"] == "7"
    assert of_model["gen_ai.operation.name"] == "chat"
    assert of_model["gen_ai.request.model"] == of_model["gen_ai.response.model"] == "sim"
    assert of_model["gen_ai.request.temperature"] == 0.5
    assert of_model["gen_ai.request.max_tokens"] == 9
    assert of_model["gen_ai.request.stop_sequences"] == ["x"]
    assert of_model["gen_ai.response.finish_reasons"] == ["stop"]
    assert of_model["gen_ai.usage.input_tokens"] == 3
    assert of_model["gen_ai.usage.output_tokens"] == 4
    assert of_model["server.address"] == "127.0.0.1"
    [event] = whole.events
    assert event.name == "gen_ai.evaluation.result"
    assert plain(event)["gen_ai.evaluation.name"] == "key"
    assert plain(event)["gen_ai.evaluation.score.label"] == "replace"
    everything = b"".join(body for _, body in collector.got)
    for word in (b"Whereabouts", b"AKIA", b"It is"):
        assert word not in everything


async def test_metrics_have_the_conventions_names_and_a_stream_its_first_chunk(
    guarded: Start, collector: Collector
) -> None:
    guard = await guarded(REPLACING, telemetry={"endpoint": collector.url})
    await guard.post(asked("Hello?"))
    await guard.post(asked("Hello?", stream=True))
    await guard.post(asked("Something forbidden?"))
    await close(guard)
    found = collector.metrics()
    assert set(found) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "gen_ai.server.request.duration",
        "guard.findings",
    }
    [asking] = found["gen_ai.client.operation.duration"].histogram.data_points
    assert (asking.count, asking.explicit_bounds[0]) == (2, 0.01)
    [first] = found["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
    assert first.count == 1
    tokens = found["gen_ai.client.token.usage"].histogram.data_points
    assert {plain(each)["gen_ai.token.type"]: each.sum for each in tokens} == {
        "input": 3,
        "output": 4,
    }
    [whole] = found["gen_ai.server.request.duration"].histogram.data_points
    assert whole.count == 3
    outcomes = [plain(each).get("guard.outcome") for each in collector.spans()]
    refused = [each for each in outcomes if each == "refused"]
    assert len(refused) == 1  # and no span of a model that was not asked
    assert len(collector.spans()) == 5


async def test_content_is_told_where_it_is_wanted_and_without_secrets(
    guarded: Start, collector: Collector
) -> None:
    guard = await guarded("", telemetry={"endpoint": collector.url, "content": True})
    guard.upstream.words = [f"It is {KEY}."]
    await guard.post(asked(f"Is it {KEY}?"))
    await close(guard)
    [inner] = [each for each in collector.spans() if each.kind == 3]
    asked_for = json.loads(plain(inner)["gen_ai.input.messages"])
    said = json.loads(plain(inner)["gen_ai.output.messages"])
    parts = [{"type": "text", "content": "Is it [secret: aws]?"}]
    assert asked_for == [{"role": "user", "parts": parts}]
    assert said[0]["parts"][0]["content"] == "It is [secret: aws]."
    assert said[0]["finish_reason"] == "stop"


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
async def test_a_wrong_parent_is_none_and_one_that_is_not_kept_keeps_nothing(
    guarded: Start, collector: Collector, header: str
) -> None:
    guard = await guarded(REPLACING, telemetry={"endpoint": collector.url})
    await guard.post(asked(), headers={"traceparent": header})
    await guard.post(asked(), headers={"traceparent": PARENT[:-1] + "0"})
    await close(guard)
    whole = [each for each in collector.spans() if each.kind == 2]
    assert [each.parent_span_id for each in whole] == [b""]
    assert len(whole[0].trace_id) == 16


async def test_a_collector_that_is_away_keeps_no_call_and_no_end(guarded: Start) -> None:
    guard = await guarded(REPLACING, telemetry={"endpoint": "http://127.0.0.1:9", "every_s": 0.1})
    started = time.perf_counter()
    for _ in range(5):
        assert (await guard.post(asked())).status_code == 200
    assert time.perf_counter() - started < 5
    await asyncio.wait_for(close(guard), 30)


def test_every_name_is_one_of_the_conventions() -> None:
    attributes = pytest.importorskip(
        "opentelemetry.semconv._incubating.attributes.gen_ai_attributes",
        reason="the conventions are not installed",
    )
    metrics = pytest.importorskip("opentelemetry.semconv._incubating.metrics.gen_ai_metrics")
    known = {
        value
        for module in (attributes, metrics)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    tree = ast.parse(Path(telemetry.__file__).read_text("utf-8"))
    used = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith("gen_ai.")
    }
    assert len(used) > 20
    assert used - known == {"gen_ai.evaluation.result"}  # an event, which has no constant there


async def test_a_missing_collector_address_is_an_error_that_names_it(guarded: Start) -> None:
    with pytest.raises(Exception, match=r"telemetry\.endpoint.*'localhost:1'.*http://"):
        await guarded(REPLACING, telemetry={"endpoint": "localhost:1"})


# --- the log ---


async def test_the_log_has_a_line_of_json_a_call_and_none_of_its_words(
    guarded: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = await guarded(REPLACING)
    with logged("json"):
        await guard.post(asked("Something forbidden?"))
        await guard.post(asked("Whereabouts?"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    mine = [line for line in lines if line["logger"] == "oversight.guard.call"]
    assert [(line["outcome"], line["action"]) for line in mine] == [
        ("refused", "refuse"),
        ("answered", "allow"),
    ]
    assert mine[0]["checks"] == ["bad"]
    assert (mine[1]["model"], mine[1]["output_tokens"]) == ("sim", 4)
    assert "Whereabouts" not in json.dumps(lines)
    await guard.post(asked())
    assert capsys.readouterr().err == ""
    assert calls_logger.level == logging.NOTSET


@pytest.mark.parametrize("form", ["plain", "json"])
def test_no_line_shows_a_secret_not_even_of_an_error(form: Any) -> None:
    register("swordfish-of-the-guard")
    try:
        raise ValueError(f"with swordfish-of-the-guard and {KEY}")
    except ValueError as error:
        said = logging.LogRecord(
            "x",
            logging.ERROR,
            "f",
            1,
            "it was %s\n\x1b[2J",
            (KEY,),
            (type(error), error, error.__traceback__),
        )
    line = CleanFormatter(form).format(said)
    assert "swordfish" not in line
    assert "AKIA" not in line
    assert "\x1b" not in line
    assert "ValueError" in line
    if form == "json":
        assert json.loads(line)["level"] == "error"


# --- tokens and cost ---


async def test_tokens_and_their_price_are_counted(guarded: Start, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\n[models.sim]\nprompt = 2.0\ncompletion = 5.0\n')
    guard = await guarded(REPLACING, prices=str(prices))
    for _ in range(3):
        await guard.post(asked())
    text = guard.server.meters.text().decode()
    assert 'guard_tokens_total{model="sim",type="output"} 12.0' in text
    [line] = [line for line in text.splitlines() if line.startswith("guard_cost_total{")]
    assert 'currency="EUR"' in line
    assert float(line.split()[-1]) == pytest.approx(3 * (3 * 2.0 + 4 * 5.0) / 1e6)
