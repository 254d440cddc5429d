"""Two runs of a store side by side, and experiments: each against what it is read from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

from oversight.evals.report import build_report
from oversight.experiments.selfplay.jobs import plan_jobs
from oversight.experiments.selfplay.results import gather
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.reporting.experiments import RunRulings, experiment_page, experiment_row, runs_page
from oversight.store import Store
from oversight.text.numbers import points, share
from oversight.train.runs.folder import FolderLock
from tests.experiments.selfplay.test_results import arm, crossplay
from tests.reporting.conftest import begin, make_question, run_scripted
from tests.reporting.test_runs import run  # noqa: F401
from tests.reporting.test_server import Page, links

# --- two runs -----------------------------------------------------------------------------


@pytest.fixture
async def two_runs(store) -> Store:
    """Two runs that answer differently on three questions; one more question in the second."""
    begin(store, "base", size="small")
    await run_scripted(store, [make_question(n) for n in range(3)], ["naive"], verdict="A")
    begin(store, "wide", size="large")
    asked = [make_question(n) for n in range(4)]
    await run_scripted(store, asked, ["naive"], verdict="B", speech="Yes.")
    return store


async def test_figures_of_two_runs_are_those_of_the_report(two_runs) -> None:
    found = {each.name: each for each in two_runs.runs()}
    rulings = [RunRulings.read(two_runs, name) for name in ("base", "wide")]
    page = runs_page(found["base"], found["wide"], rulings[0], rulings[1])
    report = build_report(
        (), arms={name: two_runs.transcripts(runs=[name]) for name in ("base", "wide")}
    )
    assert [(f.protocol, f.judges, f.difference, f.num_questions) for f in page.figures] == [
        (d.protocol, d.judge, points(d.difference), d.difference.num_clusters)
        for d in report.run_differences
    ]
    by_run = {each.arm.group: share(each.accuracy.accuracy_all) for each in report.arms}
    assert [(f.left, f.right) for f in page.figures] == [(by_run["base"], by_run["wide"])]
    assert page.only == (0, 1)
    assert sum(num for _, num, _ in page.groups) == page.figures[0].num_questions == 3
    assert {what for what, *_ in page.differing} == {"tags", "settings"}


async def test_a_question_debated_twice_in_one_run_comes_out_the_same_if_its_rulings_do(
    store, get
) -> None:
    begin(store, "once")
    await run_scripted(store, [make_question(n) for n in range(3)], ["debate"])
    begin(store, "twice")
    for speech in ("Yes.", "No."):
        await run_scripted(store, [make_question(n) for n in range(3)], ["debate"], speech=speech)
    page = get(store)("/stored-runs?a=once&b=twice").text
    assert "3 the same in both" in page
    assert "not in the second" not in page


async def test_every_figure_of_two_runs_leads_to_its_debates(two_runs, get) -> None:
    ask = get(two_runs)
    page = ask("/stored-runs?a=base&b=wide")
    assert page.status_code == 200
    listed = [ask(link).text for link in links(page.text) if "run=wide" in link and "judge" in link]
    assert listed
    assert all("4 debates" in text for text in listed)
    pairs = [link for link in links(page.text) if link.startswith("/compare?")]
    assert len(pairs) == 3
    assert ask(pairs[0]).status_code == 200
    assert '<a href="/stored-runs"' in ask("/").text


def test_runs_are_listed_with_their_starts_and_a_wrong_one_is_said(two_runs, get) -> None:
    ask = get(two_runs)
    assert {"/stored-runs?a=base", "/stored-runs?a=wide"} <= set(links(ask("/stored-runs").text))
    assert "oversight debate --made-up" in ask("/stored-runs?a=base").text
    answer = ask("/stored-runs?a=base&b=wid")
    assert answer.status_code == 404
    assert "has no run" in answer.text
    assert "base, wide" in answer.text


def test_a_store_without_runs_says_how_to_name_one(debated, get) -> None:
    assert "oversight debate --run NAME" in get(debated)("/stored-runs").text


def test_a_run_that_is_too_large_for_a_page_names_the_command(two_runs, get, monkeypatch) -> None:
    monkeypatch.setattr("oversight.reporting.experiments.MAX_RUN_DEBATES", 2)
    answer = get(two_runs)("/stored-runs?a=base&b=wide")
    assert answer.status_code == 503
    assert "oversight report --run A --run B" in answer.text


# --- experiments --------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path) -> CircleSettings:
    return CircleSettings.parse(
        {
            "out": str(tmp_path / "circle"),
            "dataset": {"dataset": "world"},
            "held_out_questions": 12,
            "train_questions": 40,
            "crossplay_questions": 6,
            "seeds": [0, 1],
            "iterations": 2,
            "methods": ["expert_iteration", "grpo"],
        }
    )


@pytest.fixture
def circle(settings) -> Path:
    """The folder of a circle whose jobs left what such jobs leave."""
    folder = settings.out
    done = {}
    for number, job in enumerate(plan_jobs(settings)):
        if job.kind == "arm":
            done[job.name] = arm(settings, (3 + number % 7) / 12)
        else:
            done[job.name] = crossplay(settings, job, job.needs) if job.kind == "crossplay" else {}
        place = folder / "stages" / job.name
        place.mkdir(parents=True)
        (place / "done.json").write_text(json.dumps(done[job.name] | {"seconds": 1.5}))
        if job.kind == "arm":
            Store.open(place / "debates.db").close()
    (folder / "circle.json").write_text(settings.model_dump_json())
    (folder / "results.json").write_text(json.dumps(gather(settings, done).to_json()))
    return folder


def test_arms_of_a_circle_have_the_figures_of_its_own_report(circle, settings) -> None:
    page = experiment_page("circle", circle)
    done = {
        job.name: json.loads((circle / "stages" / job.name / "done.json").read_text())
        for job in plan_jobs(settings)
    }
    expected = {(each.name, each.arena or ""): each for each in gather(settings, done).arms}
    assert {(each.name, each.arena) for each in page.arms} == expected.keys()
    for each in page.arms:
        known = expected[each.name, each.arena]
        change = "–" if known.change is None else points(known.change)
        assert each.figures[:2] == (share(known.accuracy), change)
        assert len(each.stores) == len(known.seeds)
    [plot] = page.plots
    assert {line.label for line in plot.lines} == {"consultancy", "debate"}
    assert (page.row.state, page.row.num_done, page.problems) == ("finished", len(done), ())


def test_a_circle_leads_to_its_debates_and_its_training_runs(circle, get) -> None:
    trained = circle / "stages" / "grpo.debate.0"
    (trained / "metrics.jsonl").write_text("")
    place = circle / "stages" / "arm.start.debate" / "debates.db"
    with Store.open(place) as store:
        ask = get(store, runs={"grpo.debate.0": trained}, experiments={"circle": circle})
        page = ask("/experiments/circle")
        assert page.status_code == 200
        assert "/runs/grpo.debate.0" in links(page.text)
        assert 'href="/"' in page.text.partition("<tbody>")[2]
        assert "/experiments/circle" in links(ask("/experiments").text)
        assert ask("/experiments/none").status_code == 404


def test_a_circle_that_is_running_shows_what_is_there_already(circle) -> None:
    (circle / "results.json").unlink()
    for job in ("arm.grpo.debate.0", "arm.grpo.debate.1"):
        (circle / "stages" / job / "done.json").unlink()
    lock = FolderLock(circle)
    try:
        row = experiment_row("circle", circle)
        assert (row.state, row.is_live, row.num_begun - row.num_done) == ("running now", True, 2)
        page = experiment_page("circle", circle)
        assert ("grpo", "debate") not in {(each.name, each.arena) for each in page.arms}
        assert {each.state for each in page.stages} == {"done", "begun"}
    finally:
        lock.release()


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"rulings": 3}', '{"rulings": [{}]}'])
def test_damaged_records_of_a_circle_are_said(circle, get, text) -> None:
    (circle / "stages" / "arm.naive" / "done.json").write_text(text)
    (circle / "results.json").write_text('{"warnings": 3, "arms": []}')
    answer = get(experiments={"circle": circle})("/experiments/circle")
    assert answer.status_code == 200
    assert "naive" in answer.text


# --- all pages ----------------------------------------------------------------------------


async def test_every_link_of_every_page_leads_to_a_page_with_a_title(
    two_runs,
    circle,
    run,  # noqa: F811
    get,
) -> None:
    shutil.copytree(run, circle / "stages" / "grpo.debate.0", dirs_exist_ok=True)
    arm_store = Store.open(circle / "stages" / "arm.start.debate" / "debates.db")
    await run_scripted(arm_store, [make_question(9)], ["debate"])
    runs = {"a/small": run, "grpo.debate.0": circle / "stages" / "grpo.debate.0"}
    ask = get(two_runs, arm_store, runs=runs, experiments={"a circle": circle})
    todo, pages = ["/", "/compare", "/runs?with=1"], {}
    while todo:
        address = todo.pop()
        if address in pages:
            continue
        answer = ask(address)
        if answer.is_redirect:
            answer = ask(answer.headers["location"])
        assert answer.status_code == 200, address
        pages[address] = page = Page(answer.text)
        todo += [urldefrag(urljoin(address, each)).url for each in _leads(page)]
    for address, page in pages.items():
        if "/assets/" in address:
            continue
        assert re.search(r"<title>[^<·]*\w[^<·]* · oversight</title>", ask(address).text), address
        assert page.tags.count("h1") == 1, address
        for link in _leads(page):
            to, anchor = urldefrag(urljoin(address, link))
            ids = {value for name, value in pages[to].attributes if name == "id"}
            assert not anchor or unquote(anchor) in ids, (address, link)
    places = {address.partition("?")[0].split("/")[1] for address in pages}
    assert places == {"", "t", "compare", "runs", "stored-runs", "experiments", "assets"}
    assert any("/call/" in address for address in pages)
    arm_store.close()


def _leads(page: Page) -> list[str]:
    """Addresses of a page's links, of its parts on demand, and of where its forms ask."""
    found = [value for name, value in page.attributes if name in ("href", "data-load", "action")]
    assert "" not in found
    return [each for each in found if not each.startswith("data:")]
