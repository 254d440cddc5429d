"""A probe on hidden states as a check: it finds what it was fitted to, and reads no other model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from transformers import AutoTokenizer

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.chat.prompt_ids import ChatIds
from oversight.datasets import register
from oversight.errors import ConfigError, DataError
from oversight.guard.checks.base import GuardedExchange
from oversight.guard.preparing import GuardFileSettings
from oversight.guard.serving import open_server
from oversight.interp.probes import FittedProbe, ProbeData, fit
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.models import resolve
from tests.guard.conftest import Running

SITE = "residual.3"
GUARD = """
policy = "policy.toml"

[upstreams.porter]
engine = "transformers"
settings = {{ model = "porter", num_threads = 1 }}

[upstreams.seedling]
engine = "transformers"
settings = {{ model = "seedling" }}

[upstreams.far]
base_url = "http://127.0.0.1:9/v1"

[engines.said]
engine = "scripted"
settings = {{ fallback = "Hello." }}
"""
POLICY = """
[checks.telling]
check = "probe"
action = "refuse"
reason = "privacy"
settings = {{ model = "{model}", probe = "{probe}"{more} }}
"""


def exchanges(split: register.Split, number: int) -> list[tuple[Any, str, bool]]:
    """Requests for what is private, each with an answer that tells it and one that does not."""
    kinds = (register.Asks.PRIVATE, register.Asks.GIFT)
    config = register.Config(split=split, num=number, asks=kinds)
    return [
        (question, answer, is_harm)
        for question in register.rows(config)
        for answer, is_harm in (
            (register.right_answer(question), False),
            (register.helpful_only_answer(question), True),
        )
    ]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe for answers that tell what is private, at the last token of porter's answers."""
    reader = SiteReader.load("porter")
    chat = ChatIds(AutoTokenizer.from_pretrained(resolve("porter")))
    site, rows, labels = Site.parse(SITE), [], []
    for question, answer, is_harm in exchanges("train", 24):
        ids = chat.prompt_ids(question.chat), chat.choice_ids(question.chat, answer)
        rows.append(np.concatenate(ids))
        labels.append(is_harm)
    states = reader.read(rows, [site], [np.array([len(row) - 1]) for row in rows])
    vectors = np.stack([each[site][0].double().numpy() for each in states])
    found = fit("logistic", ProbeData(vectors, np.array(labels)))
    about = {"site": SITE, "model": reader.name, "tokenizer": reader.tokenizer}
    path = tmp_path_factory.mktemp("probe") / "telling.safetensors"
    replace(found, about=about).save(path)
    return path


def guard(folder: Path, probe: Path, model: str = "porter", more: str = "") -> GuardFileSettings:
    policy = POLICY.format(model=model, probe=probe, more=more)
    (folder / "policy.toml").write_text(policy)
    (folder / "guard.toml").write_text(GUARD.format())
    return GuardFileSettings.read(folder / "guard.toml")


async def test_answers_like_those_it_was_fitted_to_are_found_and_others_are_not(
    saved, tmp_path
) -> None:
    policy = guard(tmp_path, saved).read_policy(tmp_path)
    await policy.prepare()
    check = policy.whole_outputs[0].check
    right = 0
    tried = exchanges("held_out", 20)
    for question, answer, is_harm in tried:
        found = await check.examine(GuardedExchange(question.chat.chat(), answer))
        right += (found.value >= check.threshold) == is_harm
    assert right >= 0.9 * len(tried)
    empty = await check.examine(GuardedExchange(tried[0][0].chat.chat(), ""))
    assert 0.0 <= empty.value <= 1.0
    await policy.aclose()


async def test_a_guard_refuses_by_it_and_keeps_the_weights_that_it_reads(saved, tmp_path) -> None:
    server = await open_server(guard(tmp_path, saved), tmp_path)
    config = register.Config(split="held_out", num=4, asks=(register.Asks.GIFT,))
    async with (
        Running(server.app) as running,
        httpx.AsyncClient(base_url=running.url, timeout=120, trust_env=False) as client,
    ):
        for question in register.rows(config):
            body = {"model": "porter", "messages": question.chat.chat(), "temperature": 0}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            [choice] = answer["choices"]
            assert choice["finish_reason"] == "content_filter"
            assert str(question.meta["value"]) not in choice["message"]["content"]
        assert server.replacements is not None
        (tmp_path / "guard.models").write_text(json.dumps({"porter": resolve("seedling")}))
        await server.replacements.look()
        state = (await client.get("/health")).json()["models"]["porter"]
    assert state["model"] == "porter"
    assert "checks.telling reads the hidden states" in state["failed"]


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("far", "", "settings.model = 'far' runs on a server"),
        ("said", "", "settings.model = 'said' runs by the engine 'scripted'"),
        ("seedling", "", "it is of model 'porter', not of 'seedling'"),
        ("porter", ', site = "residual.1"', "settings.site = 'residual.1'"),
        ("portr", "", "settings.model = 'portr' is described neither"),
    ],
)
def test_what_it_cannot_read_is_refused_by_its_name(saved, tmp_path, model, more, said) -> None:
    with pytest.raises(ConfigError) as error:
        guard(tmp_path, saved, model, more).read_policy(tmp_path)
    assert said in str(error.value)
    assert str(error.value).startswith("checks.telling")


def test_weights_put_in_place_of_the_probes_own_are_refused_at_the_start(saved, tmp_path) -> None:
    settings = guard(tmp_path, saved)
    (tmp_path / "guard.models").write_text(json.dumps({"porter": "seedling"}))
    with pytest.raises(ConfigError, match="not of 'seedling'"):
        settings.read_policy(tmp_path)


async def test_a_probe_that_says_too_little_or_reads_what_there_is_not_is_refused(
    saved, tmp_path
) -> None:
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds no probe"):
        guard(tmp_path, tmp_path / "none.safetensors").read_policy(tmp_path)
    probe = FittedProbe.read(saved)
    mute = tmp_path / "mute.safetensors"
    replace(probe, about={"model": "porter"}).save(mute)
    with pytest.raises(ConfigError, match="does not say of which site"):
        guard(tmp_path, mute).read_policy(tmp_path)
    deep = tmp_path / "deep.safetensors"
    replace(probe, about={**probe.about, "site": "residual.40"}).save(deep)
    policy = guard(tmp_path, deep).read_policy(tmp_path)
    with pytest.raises(ConfigError, match="cannot be applied to model 'porter'"):
        await policy.prepare()
