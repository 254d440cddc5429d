"""Training runs as pages: a real run, its curves, guards, and one that is training now."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.errors import TrainingStopped
from oversight.reporting.rendering import Series, metric_plot
from oversight.reporting.runs import find, named_folders, run_page, run_row
from oversight.train import sft
from oversight.train.runs.folder import FolderLock

RECIPE = {
    "steps": 6,
    "batch_size": 2,
    "model": {"scratch": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300}},
    "data": {},
    "log_every": 1,
}
ROWS = [{"prompt": f"{a} + 2 =", "completion": f" {a + 2}"} for a in range(12)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    sft.train(sft.Config.parse(RECIPE | {"out": str(out)}), rows=ROWS)
    return out


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run that a guard stopped at its first step."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    guards = {"gradient": {"factor": 1.0001, "window": 2, "patience": 1, "floor": 0.0}}
    recipe = RECIPE | {"out": str(out), "steps": 60, "optimizer": {"lr": 5.0}, "guards": guards}
    with pytest.raises(TrainingStopped):
        sft.train(sft.Config.parse(recipe), rows=ROWS)
    return out


def test_a_finished_run_shows_its_curves_settings_and_state(run) -> None:
    page = run_page("small", {"small": run})
    assert (page.state, page.step, page.is_live) == ("finished", 6, False)
    titles = [plot.title for plot in page.plots]
    assert titles[0] == "Loss"
    assert len(titles) == len(set(titles))
    assert "[model" in page.settings
    assert page.guards == ()
    row = run_row("small", run)
    assert row.trainer == "sft"
    assert dict(row.figures).keys() >= {"loss"}


def test_a_run_is_read_from_what_matters_to_its_settings(run, stopped, get, tmp_path) -> None:
    sampled = tmp_path / "sampled"
    shutil.copytree(run, sampled)
    line = {"split": "train", "wall_s": 1.0, "loss": 0.5, "reward": 1.0, "rewards/length": 0.5}
    line |= {"value/loss": 0.1, "ratio": 1.0, "made_up": 2.0, "lr": 0.1, "importance/ess": 1.0}
    steps = [json.dumps({"step": n, **line}) for n in range(1, 4)]
    (sampled / "metrics.jsonl").write_text("\n".join(steps) + "\n")
    response = {"collection": 1, "id": "p", "prompt": "Why?", "response": "So.", "reward": 1.0}
    shown = [response | {"step": n, "tokens": 2, "finished": True} for n in range(9)]
    (sampled / "samples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in shown))
    page = run_page("sampled", {"sampled": sampled})
    assert [plot.title for plot in page.plots] == ["Loss", "Reward", "rewards/length"]
    assert {title: len(plots) for title, plots in page.more} == {
        "The policy's update": 1,
        "Importance weights": 1,
        "Value function": 1,
        "Optimizer": 1,
        "Other metrics": 1,
    }
    assert page.outcome[0] == ("Loss", "0.5", "0.5", "0.5", "1")
    (sampled / "guards.jsonl").write_text((stopped / "guards.jsonl").read_text())
    text = get(runs={"sampled": sampled})("/runs/sampled").text
    marks = ("guards", "outcome", "curves", "samples", "more", "settings", "card")
    places = [text.index(f'<h2 id="{each}"') for each in marks]
    assert places == sorted(places)
    assert "3 earlier samples" in text
    assert not re.search(r'class="more"[^>]* open', text), "the rest is folded"


def test_guards_that_fired_are_kept_and_shown(stopped) -> None:
    page = run_page("stopped", {"stopped": stopped})
    assert any("stopped the run" in said for said in page.guards)
    assert page.state == "stopped before its end"


def test_a_run_that_trains_now_is_live(run) -> None:
    (run / "model").rename(run / "elsewhere")
    lock = FolderLock(run)
    try:
        page = run_page("small", {"small": run})
        assert page.is_live
        assert page.state == "training now"
    finally:
        lock.release()
        (run / "elsewhere").rename(run / "model")


def test_metrics_of_two_runs_share_an_axis_only_by_metric(run, stopped) -> None:
    page = run_page("small", {"small": run, "stopped": stopped}, "stopped")
    loss = next(plot for plot in page.plots if plot.title == "Loss")
    assert {line.label for line in loss.lines} == {"small, train", "stopped, train"}
    assert page.others == ("stopped",)


def test_losses_of_different_kinds_share_no_axis(run, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("model", "checkpoints"))
    for name in ("origin.json", "config.json"):
        held = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps(held | {"trainer": "dpo"}))
    page = run_page("s", {"s": run, "d": other}, "d")
    every = (*page.plots, *(plot for _, plots in page.more for plot in plots))
    plots = {plot.title: plot for plot in every}
    assert {line.label for line in plots["Loss: sft"].lines} == {"s, train"}
    assert {line.label for line in plots["Loss: dpo"].lines} == {"d, train"}
    assert "Loss" not in plots
    assert len(plots["Gradient norm"].lines) == 2, "that means the same in both"


def test_a_page_of_runs_loads_no_model_library() -> None:
    code = (
        "import sys, pathlib; from oversight.reporting.runs import run_row; "
        "run_row('x', pathlib.Path('.')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pages_are_served(run, stopped, debated, get) -> None:
    ask = get(debated, runs={"a/small": run, "stopped": stopped})
    assert 'href="/runs/a%2Fsmall"' in ask("/runs").text
    assert "Loss" in ask("/runs/a%2Fsmall?with=stopped").text
    assert "Guards that fired" in ask("/runs/stopped").text


def test_damaged_files_of_a_run_are_said_and_hide_nothing(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_text("no\nline\n")
    (tmp_path / "config.json").write_text("[" * 100_000)
    (tmp_path / "origin.json").write_bytes(b"\xff\xfe")
    assert "is no metrics line" in run_row("x", tmp_path).problem
    page = run_page("x", {"x": tmp_path})
    assert page.plots == ()
    assert page.problems


def test_runs_and_stores_are_found_in_folders(run, tmp_path) -> None:
    found = find(run.parent)
    assert run in found.runs
    (tmp_path / "a.db").write_text("")
    assert find(tmp_path).stores == [tmp_path / "a.db"]
    assert found.stores == found.experiments == []
    assert list(named_folders([Path("/x/one/sft"), Path("/x/two/sft")])) == ["one/sft", "two/sft"]


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [-3.0, 5e9], [1e-300, 2e-300], [float(2**60), -1.0]]
)
def test_a_chart_of_any_values_stays_in_its_frame(values) -> None:
    drawn = metric_plot("x", [Series("a", [(float(n), v) for n, v in enumerate(values)])])
    numbers = [
        float(n) for line in drawn.lines for p in line.path[1:].split("L") for n in p.split()
    ]
    assert all(math.isfinite(n) for n in numbers)
    assert all(0 <= y <= drawn.height for y, _ in drawn.y_ticks)
    assert json.dumps(drawn.description)
