from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oversight.engines.vllm.server import parse_metrics, parse_samples

BODY = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"quoted\\" } name"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 77.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:prefix_cache_queries_total{engine="0"} 1.6e+03
vllm:prefix_cache_queries_created{engine="0"} 1.7954473387468e+09
vllm:prefix_cache_hits_total{engine="0"} 1200.0 1795447338000
vllm:prompt_tokens_total 2000
vllm:generation_tokens_total{engine="0"} 64.0
vllm:request_latency_bucket{le="+Inf"} 9.0
this line is no sample at all
"""


def test_the_counters_are_read_and_summed_over_labels():
    metrics = parse_metrics(BODY, replica=2)
    assert metrics.replica == 2
    assert metrics.num_requests_running == 3
    assert metrics.num_requests_waiting == 5
    assert metrics.kv_cache_usage == 0.25
    assert metrics.prefix_cache_queries == 1600
    assert metrics.prefix_cache_hits == 1200
    assert metrics.prefix_cache_hit_rate == 0.75
    assert metrics.prompt_tokens == 2000
    assert metrics.generation_tokens == 64


def test_names_that_are_missing_are_none():
    metrics = parse_metrics("vllm:prompt_tokens_total 5\n", replica=0)
    assert metrics.prompt_tokens == 5
    assert metrics.prefix_cache_hits is None
    assert metrics.kv_cache_usage is None
    assert metrics.prefix_cache_hit_rate is None


def test_there_is_no_hit_rate_before_the_first_look_up():
    body = "vllm:prefix_cache_queries_total 0\nvllm:prefix_cache_hits_total 0\n"
    assert parse_metrics(body, replica=0).prefix_cache_hit_rate is None


def test_counters_that_are_no_numbers_are_none():
    body = "vllm:prompt_tokens_total NaN\nvllm:generation_tokens_total +Inf\n"
    metrics = parse_metrics(body, replica=0)
    assert metrics.prompt_tokens is None
    assert metrics.generation_tokens is None


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    parse_samples(text)
    parse_metrics(f"vllm:prompt_tokens_total {text}", replica=0)
