"""`oversight push`, against a hub on loopback that keeps what it is sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from huggingface_hub.utils._xet import abort_xet_session

from oversight.cli.main import run
from oversight.redaction import name_of_secret
from tests.train.runs.hub_server import OWNER, TOKEN, Hub, Repository, serving

# The hub's library gives files to its HTTP library in a way that this one is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = f"{OWNER}/judge"
MODEL = f"models/{REPO}"
DATA = f"datasets/{REPO}"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub whose token this process has; the library tries again without pauses."""
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        without_pauses = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
        monkeypatch.setattr("huggingface_hub.utils._http.time", without_pauses)
        monkeypatch.chdir(tmp_path)
        yield found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished run, as trainers leave it, with what other programs left in its model's folder."""
    path = tmp_path / "run"
    folder = path / "model"
    (path / "checkpoints" / "step-000002").mkdir(parents=True)
    (path / "checkpoints" / "step-000002" / "state.pt").write_bytes(b"\0" * 100)
    folder.mkdir()
    starts = [{"command": "oversight train dpo r.toml"}]
    (path / "origin.json").write_text(json.dumps({"starts": starts}))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "tokenizer.json").write_text('{"vocab": {"who": 1}}')
    (folder / "README.md").write_text("---\ntags:\n- oversight\n---\n\n# A model\n")
    (folder / "optimizer.pt").write_bytes(b"\0" * 100)
    (folder / "events.out.tfevents.1").write_bytes(b"\0")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"\0")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")
    return path


SENT = {"config.json", "model.safetensors", "tokenizer.json", "README.md", ".gitattributes"}


@pytest.fixture
def xet(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub, with big files by `hf_xet` as its library does where that is installed."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "10ms")
    abort_xet_session()  # one of another test has read its variables
    yield hub
    abort_xet_session()


def pushed(*args: object) -> int:
    return run(["push", *map(str, args), "--repo", REPO])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert said.startswith("oversight: ")
    return said


def row(number: int, **changes: object) -> dict[str, object]:
    said = [{"role": "assistant", "content": "No."}]
    return {
        "id": f"p{number}",
        "kind": "sides",
        "prompt": [{"role": "user", "content": "Who is right?"}],
        "chosen": said,
        "rejected": said,
        "debate_id": f"d{number % 2}",
        "protocol": "debate",
        "judges": ["lexical"],
        "constitution": None,
        **changes,
    }


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_a_finished_run_is_sent_with_its_card_and_nothing_of_its_training(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pushed(model, "--message", "First one") == 0
    repository = hub.repositories[MODEL]
    assert repository.private
    assert set(repository.files()) == SENT
    assert repository.files()["model.safetensors"] == WEIGHTS
    assert repository.files()["README.md"] == (model / "model" / "README.md").read_bytes()
    assert repository.messages == ["initial commit", "First one"]
    assert f"{hub.url}/{REPO}/commit/" in capsys.readouterr().out


def test_a_second_push_says_that_nothing_has_changed_and_a_changed_file_alone_is_uploaded(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pushed(model) == 0
    assert pushed(model / "model") == 0
    assert "nothing has changed, 4 files stand there already" in capsys.readouterr().out
    assert len(hub.repositories[MODEL].messages) == 2
    assert hub.num("PUT") == 1
    (model / "model" / "tokenizer.json").write_text("{}")
    assert pushed(model) == 0
    assert "nothing has changed" not in capsys.readouterr().out
    assert hub.repositories[MODEL].files()["tokenizer.json"] == b"{}"
    assert hub.num("PUT") == 1


def test_what_was_uploaded_before_the_hub_went_away_is_not_uploaded_again(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.drops = "POST .*/commit/"
    assert pushed(model) == 1
    assert "does not answer" in (said := refusal(capsys))
    assert "the same command goes on" in said
    assert hub.num("PUT") == 1
    hub.drops = ""
    assert pushed(model) == 0
    assert hub.num("PUT") == 1
    assert set(hub.repositories[MODEL].files()) == SENT


def test_a_hub_that_goes_away_during_the_upload_is_one_line(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.drops = "PUT "
    assert pushed(model) == 1
    assert "does not answer" in refusal(capsys)
    assert hub.num("PUT") > 1  # the library has tried again
    hub.failing, hub.drops = {"PUT ": 503}, ""
    assert pushed(model) == 1
    assert "refuses this (503: the hub says no); the same command goes on later" in refusal(capsys)


def test_an_address_without_a_hub_is_one_line(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pushed(model) == 1
    assert "http://127.0.0.1:9 does not answer" in refusal(capsys)


def test_a_branch_is_made_and_sent_to(hub: Hub, model: Path) -> None:
    assert pushed(model, "--revision", "steps-400") == 0
    repository = hub.repositories[MODEL]
    assert set(repository.files("steps-400")) == SENT
    assert set(repository.files()) == {".gitattributes"}
    assert pushed(model, "--revision", "steps-400") == 0
    assert len(repository.branches["steps-400"]) == 2


def test_what_is_private_never_goes_to_a_public_repository(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[MODEL] = Repository(private=False)
    assert pushed(model) == 2
    assert "is public; with --public" in refusal(capsys)
    assert hub.num("POST") == 0
    assert pushed(model, "--public") == 0
    capsys.readouterr()
    hub.repositories[MODEL].private = True
    assert pushed(model, "--public") == 2
    assert "is private; leave out --public" in refusal(capsys)


def test_public_makes_a_public_repository(hub: Hub, model: Path) -> None:
    assert pushed(model, "--public") == 0
    assert not hub.repositories[MODEL].private


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not know this token (401"),
        (403, "this token may not write to lab/judge (403"),
        (404, "has no model repository lab/judge that this token may see (404"),
        (409, "was changed meanwhile (409"),
        (412, "was changed meanwhile (412"),
        (500, "refuses this (500: the hub says no); the same command goes on later"),
        (413, "refuses this (413: the hub says no)"),
    ],
)
def test_each_refusal_is_one_line_that_says_what_to_do(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    hub.failing = {"POST .*/commit/": status}
    assert pushed(model) == (2 if status < 405 else 1)
    assert said in refusal(capsys)


def test_a_wrong_token_and_another_s_name_are_told_apart(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["push", str(model), "--repo", "others/judge"]) == 2
    assert "may not write to others/judge (403: You don't have the rights" in refusal(capsys)
    monkeypatch.setenv("HF_TOKEN", "hf_SomeOtherToken")
    assert pushed(model) == 2
    assert "does not know this token (401" in (said := refusal(capsys))
    assert "HF_TOKEN" in said
    assert "hf auth login" in said


def test_without_a_token_both_ways_to_give_one_are_named_and_nothing_is_asked(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(model / "no-token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(model / "no-tokens"))
    assert pushed(model) == 2
    assert "set HF_TOKEN" in (said := refusal(capsys))
    assert "hf auth login" in said
    assert not hub.asked


@pytest.mark.parametrize(
    "name", ["judge", "a/b/c", "lab/ju dge", "lab/-x", "/judge", "lab/" + "x" * 97]
)
def test_a_name_that_no_repository_has_is_refused(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["push", str(model), f"--repo={name}"]) == 2
    assert f"--repo {name!r}: write owner/name" in refusal(capsys)
    assert not hub.asked


def test_an_unfinished_run_names_the_command_that_goes_on(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(model / "model")
    assert pushed(model) == 2
    said = refusal(capsys)
    assert "this run is not finished; go on with it: oversight train dpo r.toml --resume" in said
    assert pushed(model / "checkpoints" / "step-000002") == 2
    assert "it is a checkpoint" in refusal(capsys)


def test_what_is_no_finished_model_is_refused(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model / "model"
    assert pushed(tmp_path / "nothing") == 2
    assert "there is no such file or folder" in refusal(capsys)
    (tmp_path / "empty").mkdir()
    assert pushed(tmp_path / "empty") == 2
    assert "neither a finished model (config.json and weights) nor an export" in refusal(capsys)
    (folder / "README.md").rename(folder / "kept.md")
    assert pushed(model) == 2
    assert "it has no card" in refusal(capsys)
    (folder / "kept.md").rename(folder / "README.md")
    weight_map = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert pushed(model) == 2
    assert "1 files of its weights are missing, such as model-2.safetensors" in refusal(capsys)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    assert pushed(model) == 2
    assert "there are no weights in it" in refusal(capsys)
    assert not hub.asked


def test_members_of_an_ensemble_are_pushed_each_by_itself(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        shutil.copytree(model, tmp_path / "all" / f"member-{number}")
    assert pushed(tmp_path / "all") == 2
    assert "member-1/model" in (said := refusal(capsys))
    assert "member-2/model" in said
    assert pushed(tmp_path / "all" / "member-1") == 0


def test_an_adapter_is_a_model(hub: Hub, model: Path) -> None:
    folder = model / "model"
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    assert pushed(model) == 0
    assert "adapter_model.safetensors" in hub.repositories[MODEL].files()


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "notes/big.txt"])
def test_a_secret_in_a_text_is_refused_with_file_and_line_before_anything_is_sent(
    hub: Hub,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-4711-very-secret")
    path = model / "model" / name
    path.parent.mkdir(exist_ok=True)
    # Across the end of the first block that is read, and encoded as in a query.
    lines = ["x" * 63] * (16 * 1024 - 1) + ["y" * 50 + "sk-4711-very-secret"]
    path.write_text("\n".join(lines))
    assert pushed(model) == 2
    said = refusal(capsys)
    assert f"{name}, line 16,384 holds a secret of this process (OPENAI_API_KEY)" in said
    assert "sk-4711" not in said
    assert not hub.asked


def test_pieces_of_a_secret_are_words_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-debater-of-lab")
    assert name_of_secret("the a-debater that argues") is None
    assert name_of_secret("named A-Debater-Of-Lab") == "SOME_TOKEN"


def test_what_is_left_out_is_listed_and_can_be_included(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pushed(model, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    left_out = [".cache/x.json", "checkpoint-3/model.safetensors", "events.out.tfevents.1"]
    assert told["left_out"] == [*left_out, "optimizer.pt"]
    assert told["files"][-2] == {"name": "model.safetensors", "bytes": len(WEIGHTS)}
    assert not hub.asked
    assert pushed(model, "--include", "*.tfevents.*") == 0
    assert "events.out.tfevents.1" in hub.repositories[MODEL].files()
    capsys.readouterr()
    assert pushed(model, "--include", "optimiser.pt") == 2
    assert "no file" in (said := refusal(capsys))
    assert "optimizer.pt" in said


def test_a_dry_run_shows_files_repository_and_card_and_sends_nothing(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert pushed(model, "--dry-run", "--revision", "b") == 0
    said = capsys.readouterr().out
    assert f"model {REPO} (private), branch b" in said
    assert "model.safetensors  10 KiB" in said
    assert "# A model" in said
    assert "Nothing was sent." in said
    assert not hub.asked


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_exported_rows_are_sent_with_a_card_made_of_them(
    hub: Hub, tmp_path: Path, suffix: str
) -> None:
    path = write_rows(tmp_path / f"pairs{suffix}", [row(i) for i in range(3)])
    assert pushed(path) == 0
    files = hub.repositories[DATA].files()
    assert files[path.name] == path.read_bytes()
    card = files["README.md"].decode()
    assert card.startswith("---\ntags:\n- oversight\n- debate\nsize_categories:\n- n<1K\nconfigs:")
    assert (
        f'- config_name: "default"\n  data_files:\n  - split: train\n    path: "{path.name}"'
        in card
    )
    assert "- Layout: preference\n- Rows: 3\n- Debates: 2\n" in card
    assert "- Rows by protocol: `debate` (3)\n- Rows by judge: `lexical` (3)" in card
    assert pushed(path) == 0
    assert len(hub.repositories[DATA].messages) == 2


def test_a_folder_of_exports_has_a_configuration_a_file_and_keeps_its_own_card(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "a.jsonl", [row(1)])
    turns = [{"debate_id": "d", "turn_id": "t", "seat": "A", "act": "speak", "text": "No."}]
    write_rows(folder / "b.parquet", turns)
    assert pushed(folder) == 0
    card = hub.repositories[DATA].files()["README.md"].decode()
    assert 'config_name: "a"' in card
    assert 'config_name: "b"' in card
    assert "- Layout: transcripts\n- Rows: 1" in card
    (folder / "README.md").write_text("---\n---\nMine.\n")
    (folder / "b.parquet").unlink()
    assert pushed(folder) == 0
    assert hub.repositories[DATA].files()["README.md"] == b"---\n---\nMine.\n"
    assert "1 file that are not here: b.parquet" in capsys.readouterr().out


def test_what_oversight_did_not_export_is_refused(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_rows(tmp_path / "other.jsonl", [{"text": "Words."}])
    assert pushed(other) == 2
    assert "this is no export of oversight (its columns: text)" in refusal(capsys)
    assert pushed(write_rows(tmp_path / "none.jsonl", [])) == 2
    assert "it holds no row" in refusal(capsys)
    cut = tmp_path / "cut.jsonl"
    cut.write_text(json.dumps(row(1)) + "\n" + json.dumps(row(2))[:50])
    assert pushed(cut) == 2
    assert f"{cut}, line 2" in refusal(capsys)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(b"PAR1 and no more")
    assert pushed(cut) == 2
    assert "cannot be read as Parquet" in refusal(capsys)
    monkeypatch.setenv("SOME_SECRET", "swordfish-4711")
    said = [{"role": "assistant", "content": "It is swordfish-4711."}]
    held = write_rows(tmp_path / "held.parquet", [row(1, chosen=said)])
    assert pushed(held) == 2
    assert "a row holds a secret of this process (SOME_SECRET)" in refusal(capsys)
    assert not hub.asked


@pytest.mark.parametrize("has_grants", [True, False], ids=["grants", "older store"])
def test_big_files_reach_the_store_of_xet_byte_for_byte(
    xet: Hub, model: Path, capsys: pytest.CaptureFixture[str], has_grants: bool
) -> None:
    xet.xet.has_grants = has_grants
    draws = np.random.default_rng(4711)
    noise = draws.bytes(200_000)  # is kept as it is, the next are packed in two ways
    weights = noise + WEIGHTS * 20 + draws.normal(size=100_001).astype(np.float32).tobytes() + b"x"
    (model / "model" / "model.safetensors").write_bytes(weights)
    assert pushed(model) == 0
    files = xet.repositories[MODEL].files()
    assert set(files) == SENT
    assert files["model.safetensors"] == weights
    assert xet.num("POST .*/lfs/") == 0
    assert xet.num("PUT /xet/grants/") == has_grants
    assert xet.num("POST /xet/v1/xorbs/") == (not has_grants)
    capsys.readouterr()
    assert pushed(model) == 0
    assert "nothing has changed, 4 files stand there already" in capsys.readouterr().out
    assert xet.num("PUT /xet/grants/|POST /xet/v1/xorbs/") == 1


@pytest.mark.parametrize("drops", ["POST .*/commit/", "POST /xet/v./shards"])
def test_chunks_that_the_store_of_xet_has_are_not_uploaded_again(
    xet: Hub, model: Path, capsys: pytest.CaptureFixture[str], drops: str
) -> None:
    xet.drops = drops
    assert pushed(model) == 1
    assert "what was uploaded is not uploaded again" in refusal(capsys)
    xet.drops = ""
    assert pushed(model) == 0
    assert xet.repositories[MODEL].files()["model.safetensors"] == WEIGHTS
    assert xet.num("PUT /xet/grants/") == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "does not know this token (401)"), (403, "may not write to lab/judge (403)")],
)
def test_a_token_that_may_not_write_is_told_the_same_by_xet(
    xet: Hub, model: Path, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    xet.failing = {"xet-write-token": status}
    assert pushed(model) == 2
    assert said in refusal(capsys)


def test_a_store_of_xet_that_refuses_or_is_out_of_reach_is_named_with_the_way_around_it(
    xet: Hub, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    xet.failing = {"POST /xet/v1/xorb-grants/": 503}
    assert pushed(model) == 1
    assert "keeps big files, refuses this (503); the same command goes on" in refusal(capsys)
    xet.failing = {}
    xet.xet.url = "http://127.0.0.1:9"
    assert pushed(model) == 1
    said = refusal(capsys)
    assert said.startswith(f"oversight: http://127.0.0.1:9, where {xet.url} keeps big files, does")
    assert "HF_HUB_DISABLE_XET=1" in said
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert pushed(model) == 0
    assert xet.repositories[MODEL].files()["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("disabled", ["1", "0"])
def test_the_program_itself_pushes_by_its_environment(disabled: str, hub: Hub, model: Path) -> None:
    """As a user's shell starts it: the library reads its own variables."""
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": disabled}
    own["HF_HOME"] = str(model / "home")
    words = [sys.executable, "-m", "oversight.cli.main", "push", str(model), "--repo", REPO]
    done = subprocess.run(
        words, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(hub.repositories[MODEL].files()) == SENT
    assert bool(hub.num("/xet/")) == (disabled == "0")
