"""Debates on real servers of llama.cpp and Ollama, of the embedded model in their file format.

`OVERSIGHT_LLAMA_SERVER` and `OVERSIGHT_OLLAMA` name the programs where they are not on the path.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from oversight.cli.main import run
from oversight.models import resolve
from oversight.store import Store
from oversight.types import BeliefMethod

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
TEMPLATE = (
    "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}"
    '{{ if eq .Role "assistant" }}<eos>{{ end }}{{ end }}<|assistant|>'
)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def program(name: str, variable: str) -> str:
    found = os.environ.get(variable) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} is on the path, and {variable} names none")
    return found


def write_gguf(folder: Path, path: Path) -> None:
    """A Llama with a byte-level BPE tokenizer as llama.cpp reads it."""
    gguf = pytest.importorskip("gguf", reason="needs the package gguf")
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    kinds, added = gguf.TokenType, {each["id"]: each for each in tokenizer["added_tokens"]}
    plain = {id_: token for token, id_ in tokenizer["model"]["vocab"].items()}
    tokens, types = [], []
    for id_ in range(config["vocab_size"]):
        if each := added.get(id_):
            tokens.append(each["content"])
            types.append(kinds.CONTROL if each["special"] else kinds.USER_DEFINED)
        else:
            tokens.append(plain.get(id_, f"[{id_}]"))
            types.append(kinds.NORMAL if id_ in plain else kinds.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("starcoder")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(each) for each in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text("utf-8"))
    for name, weight in load_file(folder / "model.safetensors").items():
        value = np.asarray(weight, dtype=np.float32)
        if name in NAMES:
            writer.add_tensor(NAMES[name], value)
            continue
        _, _, layer, inner = name.removesuffix(".weight").split(".", 3)
        if inner in (
            "self_attn.q_proj",
            "self_attn.k_proj",
        ):
            # Its rotation takes the two of a pair side by side.
            heads = config["num_attention_heads"]
            halves = value.reshape(heads, 2, len(value) // heads // 2, -1)
            value = halves.swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"blk.{layer}.{LAYER_NAMES[inner]}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "seedling.gguf"
    write_gguf(Path(resolve("seedling")), path)
    return path


@contextmanager
def served(words: list[str], url: str, log: Path, **environment: str) -> Iterator[str]:
    with log.open("w") as said:
        started = subprocess.Popen(
            words, stdout=said, stderr=said, env={**os.environ, **environment}
        )
        try:
            for _ in range(600):
                assert started.poll() is None, log.read_text()[-2000:]
                try:
                    if httpx.get(f"{url}/v1/models").is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            yield f"{url}/v1"
        finally:
            started.terminate()
            started.wait(20)


@pytest.fixture(scope="module")
def llama_cpp(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    words = [program("llama-server", "OVERSIGHT_LLAMA_SERVER"), "-m", str(model)]
    words += ["--port", str(port), "-np", "2", "-c", "2048", "-t", "1"]
    log = tmp_path_factory.mktemp("llama") / "log.txt"
    with served(words, f"http://127.0.0.1:{port}", log) as url:
        yield url


@pytest.fixture(scope="module")
def ollama(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home, host = tmp_path_factory.mktemp("ollama"), f"127.0.0.1:{free_port()}"
    url = f"http://{host}"
    words = [program("ollama", "OVERSIGHT_OLLAMA"), "serve"]
    there = {"HOME": str(home), "OLLAMA_HOST": host, "OLLAMA_MODELS": str(home / "models")}
    with served(words, url, home / "log.txt", **there) as found:
        digest = f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}"
        httpx.post(f"{url}/api/blobs/{digest}", content=model.read_bytes()).raise_for_status()
        made = {"model": "seedling", "files": {"seedling.gguf": digest}, "template": TEMPLATE}
        made |= {"parameters": {"num_ctx": 1024}, "stream": False}
        httpx.post(f"{url}/api/create", json=made, timeout=120).raise_for_status()
        yield found


def debate(url: str, *words: str) -> Any:
    shown = ["debate", "-d", "world", "--limit", "1", "--no-live", "--model", "seedling"]
    assert run([*shown, "--base-url", url, "--store", "s.db", *words]) == 0
    with Store.open("s.db", create=False) as store:
        [found] = store.transcripts()
    return found


def samples_of(found: Any) -> list[Any]:
    return [each for turn in found.turns for each in turn.samples]


@pytest.mark.parametrize("name", ["llama_cpp", "ollama"])
def test_a_debate_runs_on_the_server_as_on_any_of_openais_kind(
    request, monkeypatch, tmp_path, name
):
    url = request.getfixturevalue(name)
    monkeypatch.chdir(tmp_path)
    found = debate(url, "-p", "debate_single_turn")
    samples = samples_of(found)
    assert samples
    assert all(each.usage.prompt_tokens > 0 and each.usage.completion_tokens for each in samples)
    assert all(each.logprobs for each in samples if each.text)
    assert not any(each.token_ids for each in samples)
    assert {each.final.method for each in found.judgments} == {BeliefMethod.PARSED}
    (tmp_path / "without").mkdir()
    monkeypatch.chdir(tmp_path / "without")
    without = debate(url, "-p", "naive", "--set", "engines.model.settings.logprobs=false")
    assert without.judgments
    assert not any(each.logprobs for each in without.judgments[0].samples)


def test_beliefs_are_read_from_llama_cpps_probabilities(llama_cpp, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = debate(llama_cpp, "--set", 'engines.model.settings.dialect="llama.cpp"', "-p", "naive")
    [judgment] = found.judgments
    assert judgment.final.method is BeliefMethod.LOGPROBS
    assert judgment.final.mass > 0.9
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["debate", "-d", "world", "--limit", "1", "--no-live", "--model", "seedling"]
    assert run([*words, "-p", "naive", "--store", "s.db"]) == 0
    with Store.open("s.db", create=False) as store:
        [[own]] = [each.judgments for each in store.transcripts()]
    assert judgment.final.probs == pytest.approx(own.final.probs, abs=0.01)


def test_llama_cpp_refuses_a_prompt_that_is_too_long(llama_cpp, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["debate", "-d", "world", "--limit", "1", "--no-live", "--model", "seedling"]
    words += ["--base-url", llama_cpp, "--store", "s.db"]
    words += ["--set", f"debater.prompts.rules={'Every word counts. ' * 1000}"]
    assert run(words) == 1
    said = capsys.readouterr()
    assert "serve the model with a larger context" in said.out + said.err
