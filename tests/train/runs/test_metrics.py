from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from oversight.errors import DataError, MissingDependencyError
from oversight.train.runs.metrics import MetricsLog, read_metrics


def test_a_line_tells_step_split_time_and_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, {"loss": 0.1 + 0.2})
    log.log(1, {"loss": math.nan, "reward": math.inf}, "eval")
    log.close()
    first, second = read_metrics(tmp_path)
    assert (first["step"], first["split"], first["loss"]) == (1, "train", 0.1 + 0.2)
    assert first["time"] > 1e9
    assert first["wall_s"] >= 0.0
    assert (second["split"], second["loss"], second["reward"]) == ("eval", None, None)


def test_what_came_after_the_checkpoint_is_dropped_with_a_torn_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.log(step, {"loss": float(step)})
    log.close()
    whole = (tmp_path / "metrics.jsonl").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "spl')
    MetricsLog(tmp_path, step=2).close()
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(whole.splitlines(True)[:2])


def test_wall_time_and_averages_go_on_after_a_cut(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, window=2)
    for step, loss in ((1, 9.0), (2, 1.0), (3, math.nan), (4, 3.0)):
        log.log(step, {"loss": loss})
    assert log.mean("loss") == 2.0
    log.close()
    lines = read_metrics(tmp_path)
    lines[-1]["wall_s"] = 100.0
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = MetricsLog(tmp_path, step=4, window=2)
    assert again.mean("loss") == 2.0
    assert math.isnan(again.mean("reward"))
    again.log(5, {"loss": 5.0})
    assert again.mean("loss") == 4.0
    again.close()
    assert read_metrics(tmp_path)[-1]["wall_s"] >= 100.0


def test_a_step_is_logged_before_it_is_saved(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, {"loss": 1.0})
    log.sync(1)
    with pytest.raises(ValueError, match="step 1 is logged after its checkpoint"):
        log.log(1, {"loss": 1.0})
    log.close()


def test_processes_that_do_not_write_leave_no_file(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, writes=False, tensorboard=True)
    log.log(1, {"loss": 1.0})
    log.sync(1)
    log.close()
    assert log.mean("loss") == 1.0
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "wall_s": 0}\n[]\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: '\[\]' is no metrics line"):
        read_metrics(tmp_path)


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no metrics\.jsonl; name the folder of a run"):
        read_metrics(tmp_path)


def test_without_tensorboard_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        MetricsLog(tmp_path, tensorboard=True)


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, tensorboard=True)
    for step in (1, 2):
        log.log(step, {"loss": float(step)})
    log.sync(2)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0)]
