"""A model in a folder is known by what it holds, wherever the folder is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import pytest

from oversight.engines import identify
from oversight.engines.transformers import Config, build
from oversight.engines.vllm.settings import check_model
from oversight.errors import ConfigError
from oversight.models import EMBEDDED, check_obtainable, content_name
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
    monkeypatch.setattr("oversight.models._digest", lambda *_: pytest.fail("hashed again"))
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


def hub(status: int, code: str = "") -> Iterator[str]:
    """Addresses of files on a hub that answers each question about one so."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            else:
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "RepoNotFound", "the hub does not give it"),
        (404, "RevisionNotFound", "the hub does not give it"),
        (403, "GatedRepo", "the hub does not give it"),
        (503, "", "the hub does not give it"),
    ],
)
def test_a_name_that_the_hub_gives_no_model_by_is_refused(monkeypatch, status, code, reason):
    for address in hub(status, code):
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        with pytest.raises(ConfigError) as raised:
            check_obtainable("model.path", "nothere/there", "v2")
    message = str(raised.value)
    assert message.startswith(
        f"model.path = 'nothere/there' at revision 'v2': there is no such folder, and {reason} ("
    )
    assert message.endswith(
        "give the folder of a saved model, a name on the hub such as 'organisation/model', or "
        "'seedling'"
    )


@pytest.mark.parametrize(("status", "code"), [(200, ""), (404, "EntryNotFound")])
def test_a_name_that_the_hub_knows_is_left_to_its_reader(monkeypatch, status, code):
    for address in hub(status, code):
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        check_obtainable("model.path", "is/there")


def test_a_model_that_is_no_name_of_the_hub_is_refused():
    with pytest.raises(ConfigError, match=r"'a b c': .*it is no name on the hub"):
        check_obtainable("model.path", "a b c")


def test_what_is_in_a_folder_or_in_the_cache_is_taken_without_a_network(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    check_obtainable("model.path", str(folder))
    check_obtainable("model.path", "seedling")
    with pytest.raises(ConfigError, match=r"cannot be reached .* its cache has none"):
        check_obtainable("model.path", "is/there")
    kept = tmp_path / "hub" / "models--is--there"
    shutil.copytree(folder, kept / "snapshots" / "abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    check_obtainable("model.path", "is/there")
