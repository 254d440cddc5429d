"""The figures of a run: its file of them, and progress on stderr."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from oversight.errors import ConfigError, DataError, MissingDependencyError
from oversight.train.runs import metrics as shown
from oversight.train.runs.metrics import (
    MetricsLog,
    SamplesLog,
    TrainProgress,
    read_metrics,
    read_samples,
)


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
    log = MetricsLog(tmp_path, writes=False, trackers=["tensorboard"])
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
        MetricsLog(tmp_path, trackers=["tensorboard"])


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, trackers=["tensorboard"])
    for step in (1, 2):
        log.log(step, {"loss": float(step)})
    log.sync(2)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0)]


def test_mlflow_reads_what_was_logged_over_both_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = tmp_path / "run"
    run.mkdir()
    about = {"trainer": "dpo", "config": {"steps": 3, "optimizer": {"lr": 0.1}}}
    (run / "config.json").write_text(json.dumps(about))
    for begin in (0, 2):
        log = MetricsLog(run, begin, trackers=["mlflow"])
        for step in range(begin + 1, begin + 4):
            log.log(step, {"loss": float(step), "kl": math.inf}, "eval")
        log.sync(begin + 3)
        log.close()
    client = tracking.MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("oversight").experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params == {"trainer": "dpo", "steps": "3", "optimizer.lr": "0.1"}
    history = client.get_metric_history(found.info.run_id, "eval/loss")
    # The third step was done twice, as a run does that was cut behind its checkpoint.
    assert sorted((e.step, e.value) for e in history) == [(i, i) for i in (1, 2, 3, 3, 4, 5)]
    assert list(found.data.metrics) == ["eval/loss"]


def test_wandb_keeps_a_run_on_disk_where_it_is_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    code = (
        "import sys; from pathlib import Path\n"
        "from oversight.train.runs.metrics import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]), int(sys.argv[2]), trackers=['wandb'])\n"
        "log.log(int(sys.argv[2]) + 1, {'loss': 0.5}); log.sync(1); log.close()"
    )
    for step in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), step],
            env=os.environ | {"WANDB_MODE": "offline"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    id = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    found = sorted((tmp_path / "wandb").glob(f"offline-run-*-{id}/run-{id}.wandb"))
    assert len(found) == 2
    assert all(b"train/loss" in path.read_bytes() for path in found)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_that_cannot_be_had_is_refused_with_what_helps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(MissingDependencyError, match=rf"{name} = true needs .*pip install {name}"):
        MetricsLog(tmp_path, trackers=[name])


def test_a_tracking_server_that_does_not_answer_is_not_asked_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow.tracking")
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # tries are counted, not timed
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ConfigError, match=r"mlflow = true: .*or set mlflow = false"):
            MetricsLog(tmp_path, trackers=["mlflow"])
        server.shutdown()
    assert len(asked) == 3
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_service_that_fails_later_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("the server has gone")

    log = MetricsLog(tmp_path, trackers=["mlflow"])
    monkeypatch.setattr(tracking.MlflowClient, "log_batch", refuse)
    for step in (1, 2):
        log.log(step, {"loss": 1.0})
        log.sync(step)
    log.close()
    assert len(read_metrics(tmp_path)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "mlflow takes no more metrics (ConnectionError: the server has gone); the run goes on "
        "without it"
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_where_no_bar_fits_a_line_comes_every_ten_seconds(clock: list[float]) -> None:
    out = io.StringIO()
    with TrainProgress("grpo", 1000, 100, Console(file=out, width=40)) as progress:
        for step in range(101, 113):
            clock[0] += 1.0
            values = {"loss": 0.5, "reward": 1.25, "kl": 0.031, "entropy": 1.9, "lr": 1e-5}
            progress.update(step, values, num_tokens=5300)
    [line] = out.getvalue().splitlines()
    assert line == (
        "grpo 110/1000, loss 0.5, reward 1.25, KL 0.031, entropy 1.9, 5.3k tokens/s, 15 min left"
    )


def test_rate_and_time_left_are_of_the_last_steps(clock: list[float]) -> None:
    out = io.StringIO()
    with TrainProgress("sft", 200, 0, Console(file=out, width=200)) as progress:
        for step in range(1, 101):
            clock[0] += 10.0 if step <= 50 else 1.0
            progress.update(step, {}, num_tokens=2_000_000)
    assert out.getvalue().splitlines()[-1] == "sft 100/200, 2M tokens/s, 2 min left"


def test_on_a_terminal_a_bar_is_drawn() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with TrainProgress("dpo", 4, 0, console) as progress:
        progress.update(3, {"loss": 0.25, "accuracy": 0.75})
    assert "3/4" in out.getvalue()
    assert "loss 0.25, acc 0.75" in out.getvalue()


def test_foreign_text_steers_no_terminal() -> None:
    out = io.StringIO()
    with TrainProgress("dpo\x1b[2J[red]", 4, 0, Console(file=out, force_terminal=True)) as bar:
        bar.say("step 3\x1b]0;title\x07 [bold]x")
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()
    assert "[bold]x" in out.getvalue()


def test_other_processes_say_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainProgress("dpo", 4, silent=True) as progress:
        clock[0] += 60
        progress.update(1, {"loss": 1.0})
        progress.say("hello")
    assert capsys.readouterr() == ("", "")


METRICS = {
    "loss": -0.0354212,
    "reward": -0.030871,
    "accuracy": 0.51,
    "kl": 4.098e-08,
    "entropy": 4.943,
}


@pytest.mark.parametrize(
    ("width", "parts"),
    [
        (60, ["loss -0.03542"]),
        (80, ["loss -0.03542", "reward -0.03087"]),
        (140, ["loss -0.03542", "reward -0.03087", "acc 0.51", "KL 4.098e-08", "entropy 4.943"]),
    ],
)
def test_a_bar_keeps_name_step_and_time_left_however_narrow_the_terminal_is(
    width: int, parts: list[str]
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    progress = TrainProgress("ppo", 1024, 0, console)
    progress.update(7, METRICS)
    console.print(progress._bar.get_renderable())
    [line] = [each for each in out.getvalue().splitlines() if "left" in each]
    assert line.startswith("ppo ")
    assert "…" not in line
    assert len(line.rstrip()) < width
    assert f"   7/1024 {', '.join(parts)}" in line
    assert "left" in line.partition(parts[-1])[2]


def test_samples_after_the_step_that_a_run_goes_on_from_are_dropped(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == []
    told = {"collection": 1, "id": "k", "prompt": "Where?", "response": "\u2028 there"}
    told |= {"reward": 0.5, "tokens": 3, "finished": True}
    log = SamplesLog(tmp_path)
    for step in (1, 3, 5):
        log.keep(step, [told, told | {"reward": -1.0}])
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"step": 6, "prom')  # killed while it wrote
    SamplesLog(tmp_path, step=3)
    assert [(each["step"], each["reward"]) for each in read_samples(tmp_path)] == [
        (1, 0.5),
        (1, -1.0),
        (3, 0.5),
        (3, -1.0),
    ]
    assert read_samples(tmp_path)[0] == {"step": 1, **told}
    SamplesLog(tmp_path, writes=False).keep(9, [told])
    assert len(read_samples(tmp_path)) == 4
    (tmp_path / "samples.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"samples\.jsonl:1: '\[\]' is no sample"):
        read_samples(tmp_path)


def test_a_sample_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    progress = TrainProgress("grpo", 9, console=Console(file=shown, width=100))
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    told = {"prompt": "p" * 900 + " Where?", "response": "[bold]\x1b[2Jthere", "reward": 0.25}
    for step, after_s in enumerate((0.0, 30.0, 31.0), 1):
        clock[0] += after_s
        progress.sample(step, [told | {"tokens": 1}, told])
    text = shown.getvalue()
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line.startswith("step")] == [
        "step 1, a response of 1 token with reward 0.25",
        "step 3, a response of 1 token with reward 0.25",
    ]
    assert "Where?" in text
    assert "-> [bold]" in text
    assert len(text) < 1_000
