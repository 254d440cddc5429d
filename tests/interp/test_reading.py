"""Readings hold what hooks find, go on after a kill, and lose no finished shard."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import AnotherRunError, ConfigError, DataError, FileError
from oversight.interp.reading import ReadRow, SiteReader, StoredReading, plan_shards, write_reading
from oversight.modeling.scoring.sites import Site, add
from oversight.models import SEEDLING

SITES = [Site("residual", 2), Site("heads", 1), Site("pattern", 3), Site("logits", 4)]


def turns(num: int, seed: int = 0) -> list[ReadRow]:
    """Rows of which several share a prompt, each read at its last tokens."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        if number % 4 == 0:
            prompt = rng.integers(5, 400, 30)
        answer = rng.integers(5, 400, rng.integers(3, 9))
        ids = np.concatenate([prompt, answer])
        found.append(
            ReadRow(ids, np.arange(29, len(ids)), {"number": number, "group": number // 4})
        )
    return found


@pytest.fixture(scope="module")
def seedling() -> SiteReader:
    return SiteReader.load(SEEDLING)


def test_a_reading_holds_each_rows_tensors_by_site(seedling: SiteReader, tmp_path: Path) -> None:
    rows = turns(9)
    found = write_reading(tmp_path / "r", seedling, rows, SITES, max_tokens=90)
    assert found.plan["num_shards"] == 2
    assert [entry["labels"]["number"] for entry in found.index] == list(range(9))
    model = seedling.model
    for site in SITES:
        for row, tensor in zip(rows, found.states(site), strict=True):
            wanted = seedling.read([row.ids], [site])[0][site][torch.from_numpy(row.read)]
            assert (tensor - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    logits = next(found.states(Site("logits", 4)))
    own = model(torch.from_numpy(rows[0].ids)[None]).logits[0][rows[0].read]
    torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-4)
    some = list(found.states(SITES[0], [7, 2]))
    assert [len(each) for each in some] == [len(rows[7].read), len(rows[2].read)]


def test_shards_keep_to_both_limits_and_hold_neighbours_together() -> None:
    rows = turns(40)
    shards = plan_shards(rows, 10, 120, 10_000)
    assert sorted(i for shard in shards for i in shard.rows) == list(range(40))
    for shard in shards:
        seen = {tuple(rows[i].ids[:k]) for i in shard.rows for k in range(1, len(rows[i].ids) + 1)}
        assert len(seen) <= 120
        groups = {rows[i].labels["group"] for i in shard.rows}
        assert len(groups) <= len(shard.rows)
    assert all(shard.num_read * 10 <= 100 for shard in plan_shards(rows, 10, 9999, 100))


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from tests_reading import turns, SITES
from oversight.interp.reading import SiteReader, write_reading
def on_shard(done, num):
    if done == 2: os.kill(os.getpid(), signal.SIGKILL)
write_reading({folder!r}, SiteReader.load("seedling"), turns(16), SITES, max_tokens=90,
              on_shard=on_shard)
"""


@pytest.mark.timeout(600)  # a process of its own, on a machine that may be busy
def test_a_killed_reading_goes_on_and_its_finished_shards_stay(
    seedling: SiteReader, tmp_path: Path
) -> None:
    (tmp_path / "tests_reading.py").write_text(Path(__file__).read_text())
    folder = tmp_path / "r"
    script = KILLED.format(paths=[str(tmp_path), *sys.path], folder=str(folder))
    ended = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.safetensors")}
    assert len(before) == 2
    went_on = write_reading(folder, seedling, turns(16), SITES, max_tokens=90)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    whole = write_reading(tmp_path / "whole", seedling, turns(16), SITES, max_tokens=90)
    for site in SITES:
        for one, other in zip(went_on.states(site), whole.states(site), strict=True):
            assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_a_full_disk_is_named_and_finished_shards_stay(
    seedling: SiteReader, tmp_path: Path
) -> None:
    """The system itself lets no file grow any more, as on a disk without room."""
    folder = tmp_path / "r"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(done: int, num: int) -> None:
        if done == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))

    try:
        with pytest.raises(FileError, match=r"shard-00002.*cannot be written.*make room"):
            write_reading(folder, seedling, turns(16), SITES, max_tokens=90, on_shard=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert len(before) == 2
    assert not list(folder.glob(".*part"))
    found = write_reading(folder, seedling, turns(16), SITES, max_tokens=90)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(found.states(SITES[0]))) == 16


def test_another_reading_in_the_folder_is_refused_by_what_differs(
    seedling: SiteReader, tmp_path: Path
) -> None:
    write_reading(tmp_path, seedling, turns(4), SITES[:1])
    with pytest.raises(AnotherRunError, match="a reading with rows = "):
        write_reading(tmp_path, seedling, turns(4, seed=1), SITES[:1])
    with pytest.raises(AnotherRunError, match="a reading with sites = "):
        write_reading(tmp_path, seedling, turns(4), SITES[:2])
    found = StoredReading(tmp_path)
    with pytest.raises(ConfigError, match="its states are of model 'seedling', not of 'porter'"):
        found.check_model("porter")
    with pytest.raises(ConfigError, match="its states are of tokenizer"):
        found.check_model("seedling", "tokenizer:0000000000000000")
    found.check_model("seedling")


def test_bad_rows_and_broken_shards_are_named(seedling: SiteReader, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one row and one site"):
        write_reading(tmp_path / "a", seedling, [], SITES)
    with pytest.raises(ConfigError, match=r"rows\[0\] has token 99999.*another tokenizer"):
        write_reading(tmp_path / "a", seedling, [ReadRow(np.array([5, 99999]))], SITES)
    with pytest.raises(ConfigError, match=r"rows\[0\] has 2 tokens: \[2\]"):
        write_reading(tmp_path / "a", seedling, [ReadRow(np.array([5, 6]), np.array([2]))], SITES)
    with pytest.raises(ConfigError, match=r"site 'mlp.4': the model has mlp.0 to mlp.3"):
        write_reading(tmp_path / "a", seedling, turns(1), [Site("mlp", 4)])
    with pytest.raises(DataError, match="holds no reading"):
        StoredReading(tmp_path / "none")
    found = write_reading(tmp_path / "a", seedling, turns(4), SITES[:1])
    with pytest.raises(ConfigError, match="was not read"):
        list(found.states(Site("mlp", 0)))
    (tmp_path / "a" / "shard-00000.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"shard-00000.safetensors cannot be read"):
        list(found.states(SITES[0]))


@pytest.mark.parametrize("architecture", ["gemma2", "mamba"])
def test_kinds_that_no_trie_scores_are_read_row_by_row(architecture: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    small: dict[str, Any] = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}
    if architecture == "gemma2":
        small |= {
            "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
        }  # fmt: skip
    else:
        small |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **small))
    reader = SiteReader(model)
    assert reader.alone
    rows = [np.arange(5, 20), np.arange(5, 12)]
    sites = [Site("residual", 0), Site("residual", 1), Site("final"), Site("logits", 2)]
    for ids, found in zip(rows, reader.read(rows, sites), strict=True):
        with torch.no_grad():
            output = model(torch.from_numpy(ids)[None], output_hidden_states=True)
        states = [each[0] for each in output.hidden_states]
        if architecture == "mamba":  # transformers leaves its embeddings out of the list
            states = [model.base_model.embeddings(torch.from_numpy(ids)), *states]
        for site, wanted in zip(sites, (0, 1, -1), strict=False):
            torch.testing.assert_close(found[site], states[wanted])
        torch.testing.assert_close(found[sites[3]], output.logits[0], rtol=1e-4, atol=1e-4)
    steered = reader.read(rows, sites, edits=[[add(sites[1], torch.ones(32))], []])
    assert not steered[0][sites[2]].allclose(reader.read(rows, sites)[0][sites[2]])
    with pytest.raises(ConfigError, match="patterns are not read"):
        reader.read(rows, [Site("pattern", 0)])
    if architecture == "mamba":  # its layers have neither
        for kind in ("heads", "mlp"):
            with pytest.raises(ConfigError, match=f"'mamba' has no site '{kind}.0'"):
                reader.read(rows, [Site(kind, 0)])
