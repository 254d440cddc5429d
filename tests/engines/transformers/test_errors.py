"""Errors name the setting or request at fault, its value, and what to do."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys

import pytest
import torch

from oversight.config import Settings
from oversight.engines import identify, open_engine
from oversight.engines.transformers import Config, TransformersEngine, build
from oversight.errors import ConfigError, EngineError, EngineRefusedError, EngineUnavailableError
from oversight.types import Engine, EngineSpec


@pytest.fixture
def broken(tiny_model, tmp_path):  # type: ignore[no-untyped-def]
    """A copy of the tiny model that may be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def edit(path, **changes):  # type: ignore[no-untyped-def]
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


async def loading(folder, ask, **settings):  # type: ignore[no-untyped-def]
    """Ask a model for one token, which loads it."""
    engine = build(Config(model=str(folder), **{"device": "cpu", "num_threads": 1, **settings}))
    try:
        return await engine.generate([ask("go", id="r1", max_tokens=1)])
    finally:
        await engine.aclose()


def test_the_module_loads_neither_torch_nor_transformers():
    code = (
        "import sys, oversight.engines.transformers as m\n"
        "m.build(m.Config(model='organisation/model'))\n"
        "print([n for n in ('torch', 'transformers', 'tokenizers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_engine_is_registered_and_its_identity_is_what_determines_answers(tiny_model):
    assert issubclass(Config, Settings)
    spec = EngineSpec(engine="transformers", settings={"model": str(tiny_model), "device": "cpu"})
    engine = open_engine(spec)
    assert isinstance(engine, TransformersEngine)
    assert isinstance(engine, Engine)
    assert engine.capabilities.logprobs
    assert engine.capabilities.choices
    assert set(identify(spec).settings) == {
        "model",
        "revision",
        "dtype",
        "chat",
        "template_args",
        "max_model_len",
    }


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing", "~/nothing-at-all", "a/b/c"])
def test_a_missing_folder_is_told_at_once(path):
    with pytest.raises(ConfigError, match="no such folder"):
        build(Config(model=path))


def test_a_folder_without_a_model_is_told_at_once(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        build(Config(model=str(tmp_path)))
    with pytest.raises(ConfigError, match="a file"):
        build(Config(model=str(tiny_model / "config.json")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "t5"}, "no causal language model"),
        ({"model_type": "nonsense"}, "configuration cannot be read"),
        ({"vocab_size": 100}, "gives ids up to 37.*has 100 embeddings"),
        ({"num_hidden_layers": 3}, "weights are missing"),
    ],
)
async def test_a_model_that_does_not_fit_is_refused(broken, ask, changes, said):
    edit(broken / "config.json", **changes)
    with pytest.raises(ConfigError, match=said) as caught:
        await loading(broken, ask)
    assert str(broken) in str(caught.value)


def test_a_revision_of_a_folder_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="revision = 'v2'"):
        build(Config(model=str(tiny_model), revision="v2"))


async def test_misfits_show_before_weights_are_read(broken, ask):
    (broken / "model.safetensors").unlink()
    edit(broken / "config.json", vocab_size=100)
    with pytest.raises(ConfigError, match="embeddings"):
        await loading(broken, ask)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *((name, "missing") for name in ("model.safetensors", "tokenizer.json")),
        *((name, "garbage") for name in ("model.safetensors", "tokenizer.json", "config.json")),
        *((name, "empty") for name in ("model.safetensors", "tokenizer.json", "config.json")),
    ],
)
async def test_a_spoilt_file_is_an_error_that_names_the_model(broken, ask, name, spoil):
    if spoil == "missing":
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(b"\0garbage{" * 9 if spoil == "garbage" else b"")
    with pytest.raises(ConfigError) as caught:
        await loading(broken, ask)
    assert str(broken) in str(caught.value)


@pytest.mark.parametrize("device", ["warp", "cuda:99", "meta", "cpu:x"])
async def test_a_device_that_cannot_be_used_is_named(tiny_model, ask, device):
    with pytest.raises(ConfigError, match=rf"device = '{device}'.*'auto'"):
        await loading(tiny_model, ask, device=device)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dtype", "float8"), ("max_batch_size", 0), ("model", ""), ("kv_cache_tokens", -1)],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"engine.transformers.{field} = "):
        Config.parse({"model": "m", field: value}, where="engine.transformers")


async def test_a_context_longer_than_the_model_was_made_for_is_refused(tiny_model, ask):
    with pytest.raises(ConfigError, match=r"max_model_len = 5000.*4096"):
        await loading(tiny_model, ask, max_model_len=5000)


async def test_an_unknown_hub_name_without_a_network_is_unavailable(ask, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EngineUnavailableError, match=r"organisation/no-such-model.*network"):
        await loading("organisation/no-such-model", ask)


async def test_a_folder_needs_no_network(tiny_model, ask, monkeypatch):
    import socket

    def refuse(*args, **kwargs):  # type: ignore[no-untyped-def]
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert await loading(tiny_model, ask)


async def test_a_long_prompt_is_refused_with_the_numbers_and_the_others_run(
    tiny_model, make_engine, ask
):
    engine = make_engine(tiny_model, max_model_len=64)
    with pytest.raises(EngineRefusedError, match=r"'long': its prompt has \d+ .* = 64; shorten"):
        await engine.generate([ask("x y " * 60, id="long")])
    with pytest.raises(EngineRefusedError, match=r"needs .* or more"):
        await engine.generate([ask("x y " * 12, choices=("a b c d e f g h " * 8,))])
    (completion,) = await engine.generate([ask("short", temperature=0, max_tokens=500)])
    assert len(completion.prompt_ids) + len(completion.token_ids) <= 64


async def test_a_prompt_that_fits_the_model_but_not_the_batch_names_that_setting(
    tiny_model, make_engine, ask
):
    engine = make_engine(tiny_model, max_batch_tokens=32)
    with pytest.raises(EngineRefusedError, match=r"max_batch_tokens = 32; .* raise the setting"):
        await engine.generate([ask("x y " * 60)])


async def test_a_batch_never_holds_more_than_its_bound(tiny_model, make_engine, ask):
    engine = make_engine(tiny_model, max_batch_tokens=400)
    plain = make_engine(tiny_model)
    requests = [ask("x" * (7 * i), temperature=0, max_tokens=40 + i) for i in range(12)]
    running = asyncio.ensure_future(engine.generate(requests))
    sizes = set()
    while not running.done():
        await asyncio.sleep(0.002)
        if (batch := engine._thread.batch) is not None:
            span = batch._rows._kv.span
            sizes.add(span.num_rows * span.num_columns)
    assert max(sizes) <= 400
    expected = await plain.generate(requests)
    assert [c.token_ids for c in await running] == [c.token_ids for c in expected]


async def test_one_bad_request_names_itself_and_the_engine_goes_on(engine, ask):
    with pytest.raises(EngineError, match=r"'bad'.*cannot be encoded"):
        await engine.generate([ask("fine", max_tokens=5), ask("\ud800", id="bad")])
    assert await engine.generate([ask("go", max_tokens=1)])


async def test_a_failure_to_load_is_told_each_time_and_can_be_mended(broken, ask):
    weights = broken / "model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    engine = build(Config(model=str(broken), device="cpu"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="weights cannot be read"):
            await engine.generate([ask("go", max_tokens=1)])
    weights.write_bytes(kept)
    assert await engine.generate([ask("go", max_tokens=1)])
    await engine.aclose()


class Failing:
    """Makes a model fail for a while, as a device that runs out of memory does."""

    def __init__(self, rows, error: Exception, times: int) -> None:  # type: ignore[no-untyped-def]
        self.model, self.error, self.times = rows._model, error, times
        rows._model = self

    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        return getattr(self.model, name)

    def __call__(self, **inputs):  # type: ignore[no-untyped-def]
        if self.times:
            self.times -= 1
            raise self.error
        return self.model(**inputs)


async def test_out_of_memory_drops_what_was_kept_and_tries_again(engine, ask):
    request = ask("go on and on", temperature=0, max_tokens=12)
    (expected,) = await engine.generate([request])
    Failing(engine._thread.batch._rows, torch.OutOfMemoryError("no memory"), 1)
    assert engine.work()["num_kept_tokens"]
    (completion,) = await engine.generate([request])
    assert completion.token_ids == expected.token_ids


async def test_out_of_memory_for_good_says_what_to_lower_and_the_engine_goes_on(engine, ask):
    await engine.generate([ask("go", max_tokens=4)])
    Failing(engine._thread.batch._rows, torch.OutOfMemoryError("no memory"), 2)
    with pytest.raises(EngineError, match=r"'r': out of memory with 1 seq.*lower max_batch_size"):
        await engine.generate([ask("go", id="r", max_tokens=4)])
    assert await engine.generate([ask("go", max_tokens=4)])


async def test_logits_that_are_no_numbers_end_their_own_request_only(engine, ask):
    """A poisoned row is wiped: who takes its place is not reached by what it left."""
    (expected,) = await engine.generate([ask("good and true", temperature=0, max_tokens=30)])
    # Known as well, so that both have one token to compute and join in the order they come.
    await engine.generate([ask("bad", max_tokens=1)])
    batch = engine._thread.batch
    rows, true_extend, poisoned = batch._rows, batch._rows.extend, []

    def extend(first_row, token_ids):  # type: ignore[no-untyped-def]
        logits = true_extend(first_row, token_ids)
        names = [sequence.job.request.id for sequence in batch._running]
        if not poisoned and len(token_ids) == 2 and "bad" in names:
            row = names.index("bad")
            poisoned.append(row)
            logits[row] = float("nan")
            for layer in rows._kv.row_layers():
                layer.values[row] = float("nan")
        return logits

    rows.extend = extend
    good, bad = await asyncio.gather(
        engine.generate([ask("good and true", temperature=0, max_tokens=30)]),
        engine.generate([ask("bad", id="bad", temperature=0, max_tokens=30)]),
        return_exceptions=True,
    )
    assert poisoned
    assert isinstance(bad, EngineError)
    assert "'bad': the model's logits are no numbers" in str(bad)
    assert good[0].token_ids == expected.token_ids
    rows.extend = true_extend
    # The second row is the poisoned one, and the first is longer: it sees those columns, masked.
    assert poisoned == [1]
    long = ask("good and true, and much longer", temperature=0, max_tokens=30)
    after = await engine.generate([long, *[ask("good and true", temperature=0, max_tokens=30)] * 3])
    assert {c.token_ids for c in after[1:]} == {expected.token_ids}
