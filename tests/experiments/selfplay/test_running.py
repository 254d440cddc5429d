"""A circle's processes: what is done is kept, what fails is named, nobody is left behind."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from oversight.errors import CheckpointError, ConfigError
from oversight.experiments.selfplay.facts import ArmMeasured, as_done
from oversight.experiments.selfplay.jobs import folder_of, result_of
from oversight.experiments.selfplay.running import Circle, run
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.experiments.workers import JobError, check_record, read_done, write_done
from oversight.train.runs.folder import FolderLock


@pytest.fixture
def baselines(circle):
    """Only what needs no training, and that small."""
    return circle.model_copy(update={"methods": (), "arenas": ("debate",), "jobs": 1})


def test_what_is_done_is_not_done_again(baselines):
    told = []
    first = run(baselines, told.append)
    assert set(first) == {
        *("arm.naive", "arm.expert", "arm.start.debate", "arm.best_of_n.debate"),
        *("arm.placebo.debate", "arm.retrieval.debate"),
    }
    assert len(told[-1].done) == len(first)
    for name in ("arm.naive", "arm.expert"):
        # Either option listed first, each listing a judgment of its own.
        asked = Counter(ruling["question"] for ruling in first[name]["rulings"])
        assert set(asked.values()) == {2}
        assert len(asked) == baselines.held_out_questions
    finished = [at.finished[0] for at in told if at.finished]
    assert sorted(finished) == sorted(first)
    folder = folder_of(baselines, "arm.placebo.debate")
    (folder / "done.json").unlink()
    told.clear()
    second = run(baselines, told.append)
    assert [at.finished[0] for at in told if at.finished] == ["arm.placebo.debate"]
    for name, result in second.items():
        assert result["rulings"] == first[name]["rulings"]
    assert not psutil.Process().children(recursive=True) or all(
        "spawn_main" not in " ".join(child.cmdline())
        for child in psutil.Process().children(recursive=True)
    )


def test_other_settings_in_the_same_folder_are_refused(baselines):
    begun = baselines.out / "stages" / "naive"
    begun.mkdir(parents=True)
    (begun / "debates.db").touch()
    known = json.loads(baselines.model_dump_json(exclude=set(baselines.incidental)))
    (baselines.out / Circle.record).write_text(json.dumps({**known, "held_out_questions": 99}))
    with pytest.raises(CheckpointError, match=r"another held_out_questions \(99, now 12\)"):
        run(baselines)


@pytest.fixture
def placed(baselines, tmp_path, monkeypatch):
    """The same, its models and questions in files below the working directory."""
    folder = tmp_path / "before"
    for name in ("policy", "judge", "third"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_text(name)
    (folder / "held_out.jsonl").write_text("{}\n")
    (folder / "losses.py").write_text("def loss(): ...\n")
    wrote = [question(number) for number in range(80)]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, wrote)))
    monkeypatch.chdir(folder)
    return placed_at(baselines, folder, "")


def placed_at(circle: CircleSettings, folder: Path, at: str) -> CircleSettings:
    settings = {"path": f"{at}questions.jsonl"}
    changes = {"out": folder / "circle", "model": f"{at}policy", "judge": f"{at}judge"}
    changes |= {
        "dataset": {"dataset": "jsonl", "settings": settings},
        "dpo": {"reference": f"{at}third", "loss": f"{at}losses.py:loss"},
        "sft": {"data": {"eval_path": [f"{at}held_*.jsonl"]}},
    }
    return CircleSettings.model_validate(circle.model_dump() | changes)


def question(number: int) -> dict[str, Any]:
    split = "held_out" if number % 2 else "train"
    options = ["yes", "no"]
    return {"id": f"q{number}", "question": f"Is it {number}?", "options": options, "split": split}


def begin(circle: CircleSettings) -> None:
    """Look at the folder as a circle that is not finished does."""
    circle.out.mkdir(exist_ok=True)
    check_record(Circle(circle), whole=False)


def test_a_circle_goes_on_where_it_was_moved_with_all_that_it_names(placed, tmp_path, monkeypatch):
    begin(placed)
    moved = Path("policy").absolute().parent.rename(tmp_path / "after")
    monkeypatch.chdir(moved)
    begin(placed_at(placed, moved, f"{moved}/"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("policy/model.safetensors", r"model = 'policy' held model:\w+ and now holds model:"),
        ("judge/model.safetensors", r"judge = 'judge' held model:\w+ and now holds model:"),
        ("questions.jsonl", r"dataset = .* held questions:\w+ and now holds questions:"),
        ("held_out.jsonl", r"sft.data.eval_path = .* held data:\w+ and now holds data:"),
        ("losses.py", r"dpo.loss = 'losses.py:loss' held py:\w+:loss and now holds py:"),
    ],
)
def test_what_a_circle_began_with_is_refused_once_it_was_written_over(placed, file, reason):
    begin(placed)
    path = Path(file)
    path.write_text(path.read_text().replace("Is it", "Was it") + "\n")
    with pytest.raises(CheckpointError, match=reason):
        begin(placed)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_circle_of_before_which_knew_paths_alone_goes_on(placed, absolute):
    begin(placed)
    record = placed.out / Circle.record
    known = json.loads(record.read_text())
    del known["contents"]
    record.write_text(json.dumps(known))
    folder = Path("policy").absolute().parent
    begin(placed_at(placed, folder, f"{folder}/" if absolute else ""))
    Path("policy/model.safetensors").write_text("others")
    with pytest.raises(CheckpointError, match="written over"):
        begin(placed)


def test_a_folder_in_use_is_refused(baselines):
    baselines.out.mkdir()
    lock = FolderLock(baselines.out)
    try:
        with pytest.raises(ConfigError, match="is being"):
            run(baselines)
    finally:
        lock.release()


def test_a_piece_that_fails_is_named_with_its_reason(baselines):
    store = folder_of(baselines, "arm.naive") / "debates.db"
    store.parent.mkdir(parents=True)
    store.write_text("no store")
    with pytest.raises(JobError, match=r"arm\.naive failed: .*debates\.db") as failure:
        run(baselines)
    assert "logs" in str(failure.value)


def test_a_process_that_is_killed_before_it_knows_its_piece_is_named(baselines):
    killed = []

    def report(progress):
        # As a process starts: what it is to do stands unread in its pipe. Until it has become
        # another program it goes by this one's command.
        end = time.monotonic() + 60
        while progress.running and not killed and time.monotonic() < end:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child.pid)

    with pytest.raises(JobError, match=r"arm\.naive failed: its process ended with -9: killed"):
        run(baselines, report)
    assert killed


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"rulings": [', b"[]"])
def test_a_damaged_result_of_a_job_is_named_with_what_helps(circle, content):
    path = folder_of(circle, "arm.naive") / "done.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"done\.json is damaged: .*remove its folder"):
        result_of(circle, "arm.naive")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[]"])
def test_a_damaged_record_of_a_circle_is_named_with_what_helps(circle, content):
    circle.out.mkdir(parents=True, exist_ok=True)
    (circle.out / Circle.record).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{Circle.record} is damaged: .*restore a copy"):
        check_record(Circle(circle), whole=False)


BEFORE = """{
  "rulings": [
    {
      "question": "world:held_out:0:1:1:plain",
      "score": 0.0,
      "p_right": 0.09465454573138843,
      "honest": false,
      "valid": true,
      "majority": 0.00021800904206136694
    },
    {
      "question": "world:held_out:0:1:6:plain",
      "score": 0.5,
      "p_right": null,
      "honest": null,
      "valid": true,
      "majority": 0.9945465572126229
    }
  ],
  "position": {
    "first_chosen": {
      "value": 0.5,
      "low": 0.2,
      "high": 0.8,
      "num": 12,
      "num_clusters": 8,
      "method": "wilson"
    },
    "first_argued": null,
    "gain": null,
    "flipped": null
  },
  "honest_win_rate": null,
  "quotes": null,
  "empty": 0.0,
  "num_turns": 0,
  "kl": {
    "value": null,
    "low": null,
    "high": null,
    "num": 16,
    "num_clusters": 8,
    "method": "none"
  },
  "seconds": 6.1
}
"""
"""A `done.json` of an arm as it was written before jobs had records."""


def test_a_record_of_before_is_read_and_written_as_it_was(tmp_path):
    (tmp_path / "done.json").write_text(BEFORE)
    data = read_done(tmp_path)
    done = as_done("arm", data, "done.json")
    assert isinstance(done, ArmMeasured)
    assert done.rulings[1].p_right is None
    assert (done.length, done.kl.value, done.kl.num) == (None, None, 16)
    write_done(tmp_path, done, 6.12)
    assert (tmp_path / "done.json").read_text() == BEFORE


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("grpo", {"seconds": 1.5}),
        ("dpo", {"rows": 31, "seconds": 0.7}),
        (
            "crossplay",
            {
                "players": ["start", "grpo.debate.0"],
                "questions": ["q0", "q0"],
                "first_is_honest": [True, False],
                "beliefs": [[[0.5, 0.25], [0.1, 0.2]], [[0.9, 0.75], [0.5, 0.25]]],
                "seconds": 2.0,
            },
        ),
        (
            "crossplay",
            {
                "players": ["start"],
                "questions": ["q0", "q0"],
                "first_is_honest": [True, False],
                "beliefs": [[0.5, 0.25]],
                "seconds": 2.0,
            },
        ),
    ],
)
def test_a_record_holds_what_was_written_before_of_each_kind(kind, data):
    assert as_done(kind, data, "done.json").plain() == data


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("dpo", '{"rows": 3', r"done\.json is damaged: it is not JSON"),
        ("dpo", "[3]", r"done\.json is damaged: it holds no JSON object"),
        ("dpo", '{"rows": "many"}', r"done\.json is no record of a job of the kind 'dpo' \(rows ="),
        ("crossplay", '{"seconds": 2.0}', r"setting 'players' is missing"),
    ],
)
def test_a_damaged_record_is_refused_by_its_file_with_what_to_do(tmp_path, kind, text, reason):
    (tmp_path / "done.json").write_text(text)
    with pytest.raises(CheckpointError, match=reason) as refused:
        as_done(kind, read_done(tmp_path), str(tmp_path / "done.json"))
    assert "remove its folder to have the job done again" in str(refused.value)
