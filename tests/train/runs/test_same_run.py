"""A run goes on with what it began with, wherever that is now, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oversight.errors import CheckpointError
from oversight.train import sft
from oversight.train.data.examples import fingerprint
from oversight.train.runs.folder import MODEL, RunFolder, is_finished
from oversight.train.start import about
from oversight.train.types import PromptExample

ROWS = [{"prompt": f"{i} red", "completion": f" {i} blue"} for i in range(8)]
TRAINERS = ("sft", "reward", "dpo", "ppo", "grpo")
PLACED = [
    ("dpo", "model.path"),
    ("dpo", "reference"),
    ("ppo", "reward.models"),
    ("ppo", "critic.path"),
    ("grpo", "reference"),
    ("grpo", "reward.function"),
    ("dpo", "loss"),
    ("reward", "loss"),
    ("grpo", "loss"),
]
Open = Callable[..., None]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three models and a reward function, which is the working directory."""
    folder = tmp_path / "before"
    for name in ("policy", "other", "third"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (folder / name / "model.safetensors").write_bytes(name.encode())
    (folder / "rewards.py").write_text("def score(texts, fields): return [1.0 for _ in texts]\n")
    (folder / "losses.py").write_text("def loss(): ...\n")
    monkeypatch.chdir(folder)
    return folder


def settings(trainer: str, out: Path, at: str) -> Any:
    """Of a run whose models and data are at `at`."""
    data: dict[str, Any] = {"out": str(out), "model": {"path": f"{at}policy"}}
    data["data"] = {"path": f"{at}rows.jsonl"}
    if trainer in ("dpo", "grpo"):
        data["reference"] = f"{at}other"
    if trainer in ("dpo", "grpo", "reward"):
        data["loss"] = f"{at}losses.py:loss"
    if trainer == "ppo":
        data["reward"] = {"models": [f"{at}other", f"{at}third"]}
        data["critic"] = {"kind": "apart", "path": f"{at}third"}
    if trainer == "grpo":
        data["reward"] = {"source": "function", "function": f"{at}rewards.py:score"}
    return import_module(f"oversight.train.{trainer}").Config.parse(data)


def opened(config: Any, *, resume: bool = True, data: str = "the rows") -> None:
    """Begin the run or go on with it, without training."""
    loaded: Any = SimpleNamespace(fingerprint=data, examples=[], eval_examples=[], to_json=dict)
    RunFolder(config.out, about(config.__module__, config, loaded), resume=resume).close()


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_run_goes_on_where_its_models_and_data_were_moved(places, tmp_path, trainer):
    opened(settings(trainer, places / "run", ""))
    moved = places.rename(tmp_path / "after")
    os.chdir(moved)
    opened(settings(trainer, moved / "run", f"{moved}/"))


@pytest.mark.parametrize(
    "at", ["./", "{folder}/", "../before/", "{folder}/../link/", "./policy/../"]
)
def test_another_way_to_write_a_place_is_the_same_run(places, at):
    (places.parent / "link").symlink_to(places)
    opened(settings("ppo", places / "run", ""))
    opened(settings("ppo", places / "run", at.format(folder=places)))


def test_a_slash_at_the_end_is_the_same_run(places):
    config = settings("dpo", places / "run", "")
    opened(config)
    opened(config.model_copy(update={"reference": "other/"}))


@pytest.mark.parametrize(("trainer", "field"), PLACED)
def test_what_was_written_over_under_its_path_is_refused_by_name(places, trainer, field):
    config = settings(trainer, places / "run", "")
    opened(config)
    file = {
        "model.path": "policy/model.safetensors",
        "reward.function": "rewards.py",
        "loss": "losses.py",
        "critic.path": "third/model.safetensors",
    }.get(field, "other/model.safetensors")
    (places / file).write_text("def score(texts, fields): return [0.5 for _ in texts]\n")
    with pytest.raises(CheckpointError, match=rf"{field} = .* held .* and now holds .* written ov"):
        opened(config)


def test_another_model_at_another_path_is_refused_with_both(places):
    opened(settings("sft", places / "run", ""))
    config = settings("sft", places / "run", "")
    model = config.model.model_copy(update={"path": "other"})
    reason = r"model\.path was 'policy', which held llama:\w+, and is now 'other', which holds ll"
    with pytest.raises(CheckpointError, match=reason):
        opened(config.model_copy(update={"model": model}))


def test_other_rows_are_refused_wherever_they_are(places):
    config = settings("sft", places / "run", "")
    opened(config)
    with pytest.raises(CheckpointError, match=r"data was 'the rows' and is now 'others'"):
        opened(config, data="others")


def test_weights_beside_a_tokenizer_are_no_part_of_it(places):
    (places / "policy" / "tokenizer.json").write_text("{}")
    scratch = {"path": None, "scratch": {}, "tokenizer": "policy"}
    data = {"out": "run", "model": scratch, "data": {"path": "rows.jsonl"}}
    config = sft.Config.parse(data)
    opened(config)
    (places / "policy" / "model.safetensors").write_text("others")
    opened(config)
    (places / "policy" / "tokenizer.json").write_text("{ }")
    with pytest.raises(CheckpointError, match=r"model\.tokenizer = 'policy' held tokenizer:"):
        opened(config)


def as_before(config: Any) -> None:
    """Make the run's folder what it was when fingerprints held paths and no contents."""
    opened(config)
    described = config.out / "config.json"
    saved = json.loads(described.read_text())
    for name in ("contents", "held_out"):
        del saved["fingerprint"][name]
    described.write_text(json.dumps(saved))


@pytest.mark.parametrize("at", ["", "{folder}/"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_run_of_before_goes_on_with_what_is_at_its_places(places, trainer, at):
    as_before(settings(trainer, places / "run", ""))
    opened(settings(trainer, places / "run", at.format(folder=places)))
    # From here on it knows what they hold.
    (places / "policy" / "model.safetensors").write_text("others")
    with pytest.raises(CheckpointError, match="written over"):
        opened(settings(trainer, places / "run", ""))


def test_a_run_of_before_says_that_it_cannot_know_a_moved_model(places, tmp_path):
    as_before(settings("sft", places / "run", ""))
    shutil.copytree(places / "policy", tmp_path / "policy")
    with pytest.raises(CheckpointError, match="does not know what it held"):
        opened(settings("sft", places / "run", f"{tmp_path}/"))


def test_a_finished_run_is_known_by_content_too(places, tmp_path):
    config = settings("sft", places / "run", "")
    opened(config)
    assert not is_finished(config)
    (places / "run" / MODEL).mkdir()
    assert is_finished(config)
    (places / "policy" / "model.safetensors").write_text("others")
    assert not is_finished(config)
    # What it began with is not needed any more.
    shutil.rmtree(places / "policy")
    assert is_finished(config)


def test_all_places_that_a_circle_hands_to_trainers_are_known_to_it():
    from oversight.experiments.selfplay.settings import PLACES, TABLES, CircleSettings

    found: dict[str, str] = {}
    for trainer in TRAINERS:
        config: Any = import_module(f"oversight.train.{trainer}").Config
        found |= config.all_by_content()
    assert found == PLACES
    assert {f"{table}.reference" for table in TABLES} <= set(CircleSettings.all_by_content())
    assert set(TABLES) <= set(CircleSettings.model_fields)


class Cut(Exception):
    """Stands for a kill."""


def test_a_cut_runs_model_is_moved_and_the_end_is_that_of_a_whole_one(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    kept = RunFolder.log

    def train(out: Path, model: Path, **given: Any) -> Path:
        data: dict[str, Any] = {"out": str(out), "model": {"path": str(model), "device": "cpu"}}
        data |= {"data": {}, "batch_size": 4, "steps": 4, "save_every": 1}
        return sft.train(sft.Config.parse(data | {"optimizer": {"lr": 0.01}}), rows=ROWS, **given)

    def cut(self: RunFolder, step: int, *given: Any, **named: Any) -> None:
        if step == 3:
            raise Cut
        kept(self, step, *given, **named)

    whole = train(tmp_path / "whole", base)
    monkeypatch.setattr(RunFolder, "log", cut)
    with pytest.raises(Cut):
        train(tmp_path / "cut", base)
    monkeypatch.setattr(RunFolder, "log", kept)
    moved, run = base.rename(tmp_path / "moved"), (tmp_path / "cut").rename(tmp_path / "renamed")
    finished = train(run, moved, resume=True)
    weights = "model.safetensors"
    assert (finished / weights).read_bytes() == (whole / weights).read_bytes()


def rewritten(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The run's fingerprint as another version would have left it."""
    path = place / "config.json"
    told = json.loads(path.read_text())
    change(told["fingerprint"])
    path.write_text(json.dumps(told))


def without_new_settings(told: dict[str, Any]) -> None:
    """No version before wrote down defaults, or settings that did not exist yet."""
    told.pop("defaults", None)
    del told["config"]["model"]["router_aux_coefficient"]
    told["config"].pop("weight_sync", None)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_setting_that_did_not_exist_yet_stood_at_its_default(places, trainer):
    config = settings(trainer, places / "run", "")
    opened(config)
    rewritten(places / "run", without_new_settings)
    opened(config)


def test_a_setting_that_did_not_exist_yet_and_is_set_now_is_refused_by_name(places):
    config = settings("sft", places / "run", "")
    opened(config)
    rewritten(places / "run", without_new_settings)
    model = config.model.model_copy(update={"router_aux_coefficient": 0.01})
    with pytest.raises(
        CheckpointError, match=r"config\.model\.router_aux_coefficient was None and is now 0\.01"
    ):
        opened(config.model_copy(update={"model": model}))


@pytest.mark.parametrize(("raters", "same"), [("all", True), ("persons", False)])
def test_a_setting_that_is_not_written_at_its_default_is_known_from_before(places, raters, same):
    config = settings("dpo", places / "run", "")
    opened(config)
    rewritten(
        places / "run",
        lambda told: told["config"]["data"]["preferences"].update(raters=raters),
    )
    if same:
        opened(config)
        return
    with pytest.raises(CheckpointError, match=r"preferences\.raters was 'persons' and is now None"):
        opened(config)


@pytest.mark.parametrize(("unseen", "same"), [([], True), ([2], False)])
def test_prompts_from_before_a_column_was_added_are_the_same_if_it_says_nothing(
    places, unseen, same
):
    config = settings("grpo", places / "run", "")

    def begun(*examples: PromptExample) -> None:
        loaded: Any = SimpleNamespace(
            fingerprint=fingerprint(examples), examples=examples, eval_examples=[], to_json=dict
        )
        RunFolder(config.out, about(config.__module__, config, loaded), resume=True).close()

    ids = np.array([1, 2])
    begun(PromptExample("a", ids, {"kind": "sides"}))
    now = PromptExample("a", ids, {"kind": "sides", "num_unseen": unseen})
    if same:
        begun(now)
        begun(now)
        return
    with pytest.raises(CheckpointError, match=r"data was '.*' and is now '.*'"):
        begun(now)
