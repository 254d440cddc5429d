"""Tokens computed for one prompt are not computed again for a later or simultaneous one."""

from __future__ import annotations

import pytest

from oversight.types import Message, Prompt, Request, Sampling

SOURCE = "The key was in the kitchen at noon, and at night it was not. " * 12
TAIL = len("which side?")


def turn(*contents: str, route: str = "", **sampling: object) -> Request:
    """A request whose prompt has one user message for each of `contents`."""
    messages = tuple(Message(role="user", parts=(content,)) for content in contents)
    settings = {"temperature": 0.0, "max_tokens": 6, "logprobs": True, **sampling}
    return Request(Prompt(messages=messages), Sampling(**settings), route=route)  # type: ignore[arg-type]


def same(left, right):  # type: ignore[no-untyped-def]
    return left.token_ids == right.token_ids and left.logprobs == pytest.approx(
        right.logprobs, abs=1e-5
    )


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma3_text"])
async def test_later_turns_compute_only_what_is_new(architecture, model_folder, make_engine):
    engine = make_engine(model_folder(architecture))
    (first,) = await engine.generate([turn(SOURCE, "who is right?", route="d1")])
    before = engine.work()["num_tokens"]
    (second,) = await engine.generate([turn(SOURCE, "who is right?", "and now?", route="d1")])
    # The first prompt ends with the marks that open an answer, which the second replaces.
    shared = len(first.prompt_ids) - 2
    assert second.prompt_ids[:shared] == first.prompt_ids[:shared]
    assert second.usage.cached_tokens == shared
    computed = engine.work()["num_tokens"] - before
    assert computed == len(second.prompt_ids) - shared + len(second.token_ids) - 1

    fresh = make_engine(model_folder(architecture), kv_cache_tokens=0)
    (again,) = await fresh.generate([turn(SOURCE, "who is right?", "and now?")])
    assert again.usage.cached_tokens == 0
    assert same(second, again)


async def test_an_answer_is_a_beginning_too(tiny_model, make_engine, engine):
    """The keys and values of sampled tokens are kept behind those of their prompt."""
    (first,) = await engine.generate([turn("go", temperature=1.0, seed=5, max_tokens=12)])
    batch = engine._thread.batch
    ids = [*first.prompt_ids, *first.token_ids]
    import numpy as np

    assert batch._kept.match(np.asarray(ids)).length == len(ids) - 1


async def test_another_route_profits_as_well(engine):
    await engine.generate([turn(SOURCE, "A", route="d1")])
    (other,) = await engine.generate([turn(SOURCE, "B", route="d2")])
    assert other.usage.cached_tokens > len(other.prompt_ids) - 8


async def test_prompts_of_one_batch_compute_their_common_beginning_once(model_folder, make_engine):
    requests = [turn(SOURCE, f"you argue for {side}", max_tokens=1) for side in ("A", "B", "C")]
    engine = make_engine(model_folder("llama"))
    completions = await engine.generate(requests)
    length = len(completions[0].prompt_ids)
    assert engine.work()["num_tokens"] < length + 2 * 16
    cached = sorted(completion.usage.cached_tokens for completion in completions)
    assert cached[0] == 0
    assert cached[1] > length - 16

    for request, completion in zip(requests, completions, strict=True):
        alone = make_engine(model_folder("llama"), kv_cache_tokens=0)
        assert same(completion, (await alone.generate([request]))[0])


async def test_candidates_of_one_prompt_compute_it_once(engine):
    requests = [turn(SOURCE, temperature=1.0, seed=i, max_tokens=1) for i in range(8)]
    completions = await engine.generate(requests)
    length = len(completions[0].prompt_ids)
    assert engine.work()["num_tokens"] == length + 7
    assert sorted(c.usage.cached_tokens for c in completions) == [0] + [length - 1] * 7


async def test_sharing_within_a_batch_needs_nothing_kept(tiny_model, make_engine):
    engine = make_engine(tiny_model, kv_cache_tokens=0)
    requests = [turn(SOURCE, temperature=1.0, seed=i, max_tokens=3) for i in range(4)]
    completions = await engine.generate(requests)
    assert sum(c.usage.cached_tokens > 0 for c in completions) == 3
    assert engine.work()["num_kept_tokens"] == 0


@pytest.mark.parametrize("capacity", [0, 1, 30, 100, 150, 400])
async def test_kept_tokens_stay_within_the_bound(capacity, tiny_model, make_engine):
    engine = make_engine(tiny_model, kv_cache_tokens=capacity)
    fresh = make_engine(tiny_model, kv_cache_tokens=0)
    for i in range(6):
        request = turn(SOURCE[i % 3 :], f"number {i}", max_tokens=3)
        (kept,) = await engine.generate([request])
        (again,) = await fresh.generate([request])
        assert same(kept, again)
        assert engine.work()["num_kept_tokens"] <= capacity
        kept_kv = engine._thread.batch._kept
        held = _nodes(kept_kv)
        assert sum(len(node.token_ids) for node in held) == kept_kv.num_tokens
        assert all(keys.shape[1] == len(node.token_ids) for node in held for keys, _ in node.kv)


def _nodes(tree):  # type: ignore[no-untyped-def]
    nodes, found = list(tree._root.children.values()), []
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes.extend(node.children.values())
    return found


async def test_a_whole_debate_is_the_same_with_and_without_reuse(tiny_model, make_engine):
    """Three rounds of two debaters and a judge's choices, sources and orders of two debates."""
    reusing = make_engine(tiny_model)
    plain = make_engine(tiny_model, kv_cache_tokens=0, max_batch_size=1)
    transcripts = {name: [f"{name}: " + SOURCE[:200]] for name in ("d1", "d2")}
    for round_ in range(3):
        requests = []
        for name, said in transcripts.items():
            sampling = {"temperature": 0.8, "seed": round_, "max_tokens": 10}
            requests += [turn(*said, f"you are {side}", route=name, **sampling) for side in "AB"]
            requests.append(turn(*said, "who?", route=name, choices=("A", "B", "neither")))
        first = await reusing.generate(requests)
        second = await plain.generate(requests)
        assert all(same(a, b) for a, b in zip(first, second, strict=True))
        assert [a.text for a in first] == [b.text for b in second]
        for i, name in enumerate(transcripts):
            transcripts[name] += [c.text for c in first[3 * i : 3 * i + 2]]
    total = sum(len(c.prompt_ids) for c in first)
    assert sum(c.usage.cached_tokens for c in first) > 0.8 * total
