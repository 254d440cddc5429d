"""A model in a folder is known by what it holds, wherever the folder is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from oversight.engines.base import identify
from oversight.engines.transformers import Config, build
from oversight.engines.vllm.settings import check_model
from oversight.errors import ConfigError
from oversight.models import EMBEDDED
from oversight.models.identity import content_name
from oversight.types import EngineSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model."""
    place = tmp_path / "runs" / "one" / "model"
    shutil.copytree(EMBEDDED["seedling"].folder, place)
    return place


def test_a_copied_or_moved_folder_is_the_same_model(folder, tmp_path):
    name = content_name(str(folder))
    copied = shutil.copytree(folder, tmp_path / "another")
    assert content_name(str(copied)) == name
    moved = folder.rename(tmp_path / "moved")
    assert content_name(str(moved)) == name
    assert name.partition(":")[0] == json.loads((moved / "config.json").read_text())["model_type"]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_folder_that_was_written_over_is_another_model(folder, file):
    name = content_name(str(folder))
    path = folder / file
    data = bytearray(path.read_bytes() if path.exists() else b"{ }")
    data[-2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert content_name(str(folder)) != name


def test_what_says_nothing_of_the_model_does_not_count(folder):
    name = content_name(str(folder))
    (folder / "README.md").write_text("other words")
    (folder / "trainer_state.json").write_text("{}")
    for file, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        settings = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({key: "elsewhere", **settings}))
    assert content_name(str(folder)) == name


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    """A folder with an adapter of that model, and no weights of the model's."""
    place = tmp_path / "adapter"
    place.mkdir()
    (place / "adapter_config.json").write_text(
        json.dumps({"r": 4, "base_model_name_or_path": str(folder)})
    )
    (place / "adapter_model.safetensors").write_bytes(b"weights")
    return place


def test_an_adapter_is_another_once_what_it_adapts_was_written_over(folder, adapter):
    name = content_name(str(adapter))
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert content_name(str(adapter)) != name


def test_an_adapter_is_the_same_wherever_what_it_adapts_is(folder, adapter, tmp_path):
    name = content_name(str(adapter))
    moved = folder.rename(tmp_path / "moved")
    settings = {"r": 4, "base_model_name_or_path": str(moved)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert content_name(str(adapter)) == name


def test_names_stay_names():
    assert content_name("org/model") == "org/model"
    assert content_name("seedling") == "seedling"


def test_a_model_is_hashed_once_a_process(folder, monkeypatch):
    name = content_name(str(folder))
    monkeypatch.setattr("oversight.models.identity._digest", lambda *_: pytest.fail("hashed again"))
    assert content_name(str(folder)) == name


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_an_engines_identity_holds_the_content_and_not_the_path(folder, engine):
    spec = EngineSpec(engine=engine, settings={"model": str(folder)})
    assert identify(spec).settings["model"] == content_name(str(folder))
    assert identify(spec, by_path=True).settings["model"] == str(folder)


def test_a_content_name_is_no_place_to_load_from(folder):
    name = content_name(str(folder))
    with pytest.raises(ConfigError, match=r"describe an engine with its folder, under \[engines\]"):
        build(Config(model=name))
    with pytest.raises(ConfigError, match=r"describe an engine with its folder, under \[engines\]"):
        check_model(name)
