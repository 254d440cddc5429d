"""Draws: what distribution they are of, and that they depend on the request and its seed alone."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.engines.transformers.batching import sample
from oversight.errors import EngineRefusedError

LOGITS = [1.0, 3.0, 2.0, -1.0]


def drawn(temperature: float, top_p: float, uniform: float, logits=LOGITS) -> tuple[int, float]:  # type: ignore[no-untyped-def]
    (token,), (logprob,) = sample(torch.tensor([logits]), [temperature], [top_p], [uniform])
    return token, logprob


def softmax(logits, temperature):  # type: ignore[no-untyped-def]
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def test_greedy_takes_the_likeliest_with_the_models_own_log_probability():
    token, logprob = drawn(0.0, 0.1, 0.99)
    assert token == 1
    assert logprob == pytest.approx(math.log(softmax(LOGITS, 1.0)[1]), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_even_uniforms_give_the_tempered_distribution(temperature):
    probs = softmax(LOGITS, temperature)
    n = 4000
    draws = [drawn(temperature, 1.0, (i + 0.5) / n) for i in range(n)]
    counts = Counter(token for token, _ in draws)
    for token, prob in enumerate(probs):
        assert counts[token] / n == pytest.approx(prob, abs=1.5 / n)
    for token, logprob in set(draws):
        assert logprob == pytest.approx(math.log(probs[token]), abs=1e-5)


def test_top_p_keeps_the_smallest_likely_set_and_renormalises():
    probs = softmax(LOGITS, 1.0)  # 0.09, 0.66, 0.24, 0.01
    draws = [drawn(1.0, 0.8, (i + 0.5) / 500) for i in range(500)]
    kept = probs[1] + probs[2]
    assert {token for token, _ in draws} == {1, 2}
    for token, logprob in set(draws):
        assert logprob == pytest.approx(math.log(probs[token] / kept), abs=1e-5)


def test_a_tiny_top_p_leaves_the_likeliest():
    assert drawn(1.0, 1e-9, 0.999) == (1, pytest.approx(0.0))


def test_a_tiny_temperature_is_greedy():
    token, logprob = drawn(1e-30, 1.0, 0.999999)
    assert (token, logprob) == (1, pytest.approx(0.0))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-30, 30) | st.just(-math.inf), min_size=1, max_size=8).filter(
        lambda logits: max(logits) > -math.inf
    ),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True) | st.just(1 - 2**-53),
)
def test_a_drawn_token_is_always_possible(logits, temperature, top_p, uniform):
    token, logprob = drawn(temperature, top_p, uniform, logits)
    assert logits[token] > -math.inf
    assert -math.inf < logprob <= 1e-6


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0.5, 1.0]), st.sampled_from([0.5, 1.0]), st.floats(0, 0.999)),
        min_size=1,
        max_size=6,
    )
)
def test_rows_do_not_depend_on_each_other(rows):
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = sample(logits, *(list(column) for column in zip(*rows, strict=True)))
    for i, (temperature, top_p, uniform) in enumerate(rows):
        (token,), (logprob,) = sample(logits[i : i + 1], [temperature], [top_p], [uniform])
        assert (tokens[i], logprobs[i]) == (token, pytest.approx(logprob, abs=1e-6))


async def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch(engine, ask):
    wanted = ask("who is right?", seed=7, max_tokens=20, temperature=0.9, top_p=0.95, logprobs=True)
    (alone,) = await engine.generate([wanted])
    crowd = [ask("x" * i, seed=i, max_tokens=3 + i) for i in range(1, 9)]
    together = await engine.generate([*crowd[:4], wanted, *crowd[4:]])
    assert together[4].token_ids == alone.token_ids
    assert together[4].logprobs == pytest.approx(alone.logprobs, abs=1e-5)

    async def midway():  # type: ignore[no-untyped-def]
        await asyncio.sleep(0.02)
        return (await engine.generate([wanted]))[0]

    _, joined = await asyncio.gather(engine.generate(crowd), midway())
    assert joined.token_ids == alone.token_ids


async def test_in_float64_log_probabilities_repeat_bit_for_bit_in_other_company(
    tiny_model, make_engine, ask
):
    # In float32 some of these 640 differ in their last bits.
    requests = [ask("why? " * (7 * i + 1), seed=i, max_tokens=40, logprobs=True) for i in range(16)]
    found = []
    for company in (1, 5, 16):
        engine = make_engine(tiny_model, dtype="float64")
        groups = [requests[i : i + company] for i in range(0, 16, company)]
        found.append([done for group in groups for done in await engine.generate(group)])
    for alone, few, all_ in zip(*found, strict=True):
        assert alone.token_ids == few.token_ids == all_.token_ids
        assert alone.logprobs == few.logprobs == all_.logprobs


async def test_seeds_differ_and_no_seed_is_no_seed(engine, ask):
    seeded = await engine.generate([ask("go", seed=i, max_tokens=8) for i in range(6)])
    assert len({c.token_ids for c in seeded}) == 6
    free = await engine.generate([ask("go", max_tokens=8) for _ in range(6)])
    assert len({c.token_ids for c in free}) == 6


async def test_top_gives_the_models_own_likeliest_tokens(engine, ask):
    request = ask("go", seed=1, max_tokens=4, temperature=0.5, logprobs=True, top_logprobs=3)
    (completion,) = await engine.generate([request])
    assert [len(top) for top in completion.top] == [3] * len(completion.token_ids)
    for top in completion.top:
        assert [logprob for _, logprob in top] == sorted((lp for _, lp in top), reverse=True)
    (plain,) = await engine.generate([ask("go", seed=1, max_tokens=4)])
    assert plain.logprobs is None
    assert plain.top == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_logprobs", -1),
        ("stop", ("",)),
        ("choices", ("A", "")),
        ("choices", ("A", "A")),
    ],
)
async def test_what_cannot_be_sampled_is_refused_by_name(engine, ask, field, value):
    with pytest.raises(EngineRefusedError, match=rf"request 'r1': sampling.{field} = "):
        await engine.generate([ask("go", id="r1", **{field: value})])
    assert await engine.generate([ask("go", max_tokens=1)])


def at_temperature(folder, completion, temperature):
    """Log-probabilities of what was sampled by the definition: log softmax(logits / T)."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(completion.prompt_ids) - 1 : -1]
    logps = torch.log_softmax(logits / temperature, -1)
    return [float(row[token]) for row, token in zip(logps, completion.token_ids, strict=True)]


@pytest.mark.parametrize(
    ("given", "temperature"),
    [({"temperature": 0.6}, 0.6), ({"temperature": 1.7}, 1.7), ({"temperature": 0.0}, 1.0)],
)
async def test_log_probabilities_are_at_the_temperature_that_the_answer_says(
    engine, tiny_model, ask, given, temperature
):
    (found,) = await engine.generate([ask("go", seed=1, max_tokens=6, logprobs=True, **given)])
    assert found.logprobs_temperature == temperature
    own = at_temperature(tiny_model, found, temperature)
    assert found.logprobs == pytest.approx(own, abs=1e-4)


async def test_log_probabilities_of_choices_are_the_models_own_whatever_the_temperature(
    engine, tiny_model, ask
):
    request = ask("go", seed=1, temperature=0.5, logprobs=True, choices=("A", "B"))
    (found,) = await engine.generate([request])
    assert found.logprobs_temperature == 1.0
    assert found.logprobs == pytest.approx(at_temperature(tiny_model, found, 1.0), abs=1e-4)


async def test_no_temperature_is_told_of_log_probabilities_that_top_p_has_cut(engine, ask):
    request = ask("go", seed=1, max_tokens=4, temperature=0.8, top_p=0.5, logprobs=True)
    (found,) = await engine.generate([request])
    assert found.logprobs is not None
    assert found.logprobs_temperature is None
