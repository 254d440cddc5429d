"""A report as a folder: whole, relative, and with the transcripts behind each number."""

from __future__ import annotations

import re
from contextlib import chdir
from pathlib import Path
from urllib.parse import unquote

import pytest

from oversight.cli import main
from oversight.errors import ConfigError
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.reporting.entries import ListQuery
from oversight.reporting.static import Behind, write_folder
from tests.reporting.conftest import begin, make_question, run_scripted
from tests.reporting.test_server import HOSTILE, KNOWN_TAGS, Page, hostile_store


@pytest.fixture(scope="module")
def folder(debated, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("static") / "report"
    written = write_folder(build_report(debated.transcripts()), [debated], out)
    assert written.num_transcripts == 18
    return out


def test_every_link_leads_to_a_file_and_a_place_in_it(folder) -> None:
    pages = {path: Page(path.read_text()) for path in folder.rglob("*.html")}
    ids = {
        path: {value for name, value in page.attributes if name == "id"}
        for path, page in pages.items()
    }
    num = 0
    for path, page in pages.items():
        assert re.search(r"<title>[^<·]*\w[^<·]* · oversight</title>", path.read_text()), path
        assert page.tags.count("h1") == 1, path
        for name, value in page.attributes:
            if name not in ("href", "src", "data-load") or value.startswith("data:"):
                continue
            assert value, (path, name)
            place, _, anchor = unquote(value).partition("#")
            to = (path.parent / place).resolve() if place else path
            assert to.is_file(), (path, value)
            assert to.is_relative_to(folder.resolve())
            if anchor:
                assert anchor in ids[to if to in ids else folder / to.relative_to(folder.resolve())]
            num += 1
    assert num > 500


def test_nothing_is_loaded_from_elsewhere(folder) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert not re.search(r"(https?:)?//[a-z]+\.[a-z]", path.read_text()), path


def test_every_number_of_the_report_leads_to_transcripts(folder) -> None:
    text = (folder / "index.html").read_text()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text, re.S)
    numbers = [cell for cell in cells if re.search(r"\d", re.sub(r"<[^>]*>", "", cell))]
    assert len(numbers) > 30
    arms = {"debate", "consultancy", "naive"}
    for cell in numbers:
        if re.sub(r"<[^>]*>", "", cell) not in arms:
            assert re.fullmatch(r'<a class="behind" href="lists/[\d-]+\.html">[^<]+</a>', cell), (
                cell
            )
    findings = re.search(r'aria-label="Findings">(.*?)</section>', text, re.S)
    assert findings is not None
    outside = re.sub(r"<a .*?</a>|<[^>]*>", "", findings[1], flags=re.S)
    assert not re.search(r"\d", outside), outside


def test_lists_behind_counts_hold_so_many_debates(debated, index) -> None:
    report, made = build_report(debated.transcripts()), index(debated)
    behind = Behind(report, made.known())
    checked = 0
    for table in tables(report):
        for row in behind.table(table):
            for name, cell in zip(table.columns, row, strict=True):
                if name == "n / q.":
                    assert cell.filters is not None
                    found = made.ids(ListQuery(cell.filters))
                    assert len(found) == int(cell.text.split("/")[0].replace(",", ""))
                    checked += 1
                elif cell.filters is not None and name not in ("flips", "near", "too short"):
                    share = re.match(r"0(?:\.0)? %", cell.text)
                    assert share or made.ids(ListQuery(cell.filters)), (table.title, name, cell)
    assert checked == len(report.arms)


def test_the_rest_of_a_tables_shares_are_of_its_row(debated, index) -> None:
    report, made = build_report(debated.transcripts()), index(debated)
    rows = Behind(report, made.known()).table(tables(report)[0])
    for arm, row in zip(report.arms, rows, strict=True):
        invalid = made.ids(ListQuery(row[5].filters or ()))
        assert len(invalid) == round((arm.accuracy.share_invalid or 0) * arm.accuracy.num)


def test_it_is_written_again_over_itself_and_over_nothing_else(debated, folder, tmp_path) -> None:
    report = build_report(debated.transcripts())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_folder(report, [debated], folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"holds something else \(mine.txt\)"):
        write_folder(report, [debated], tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        write_folder(report, [debated], tmp_path / "mine.txt")


def test_only_what_the_report_is_on_is_written(debated, tmp_path) -> None:
    report = build_report(debated.transcripts(protocol="naive"))
    written = write_folder(report, [debated], tmp_path / "out", (("protocol", "naive"),))
    assert written.num_transcripts == 6
    assert len(list((tmp_path / "out" / "t").iterdir())) == 6
    assert "6 debates" in Page((tmp_path / "out/lists/0.html").read_text()).texts


async def test_foreign_text_is_inert_in_files_too(store, tmp_path) -> None:
    await hostile_store(store, HOSTILE)
    write_folder(build_report(store.transcripts()), [store], tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.html"):
        page = Page(path.read_text())
        assert set(page.tags) <= KNOWN_TAGS
        assert page.tags.count("script") == 1
        assert not [n for n, _ in page.attributes if n.startswith("on") or n == "style"]


async def test_runs_side_by_side_lead_to_their_own_debates(store, tmp_path, index) -> None:
    begin(store, "base", size="small")
    await run_scripted(store, [make_question(n) for n in range(3)], ["naive"], verdict="A")
    begin(store, "wide", size="large")
    await run_scripted(store, [make_question(n) for n in range(4)], ["naive"], verdict="B",
                       speech="Yes.")  # fmt: skip
    begin(store, "third")
    await run_scripted(store, [make_question(9)], ["naive"])
    with chdir(tmp_path):
        words = ["report", "--store", store.url, "--run", "base", "--run", "wide"]
        assert main.run([*words, "--by", "run", "--by", "tag", "--html", "out"]) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    assert len(list((tmp_path / "out" / "t").iterdir())) == 7, "the third run is not in it"
    held = {}
    for title in ("Judge accuracy", "By run", "By tag", "Differences between runs"):
        table = text.partition(f"<h2>{title}</h2>")[2].partition("</table>")[0]
        for row in re.findall("<tr>(.*?)</tr>", table, re.S):
            files = re.findall(r'href="lists/(\d+)\.html">([^<]+)</a>', row)
            counts = [
                int(re.search(r"(\d+) debates?", (tmp_path / f"out/lists/{n}.html").read_text())[1])
                for n, _ in files
            ]
            held.setdefault(title, []).append((re.sub("<[^>]*>", " ", row).split(), counts))
    for title in ("Judge accuracy", "By run", "By tag"):
        rows = [counts[-1] for words, counts in held[title] if counts]
        assert sorted(rows) == [3, 4], title
    [behind] = [counts for _, counts in held["Differences between runs"] if counts]
    assert set(behind) == {7}


async def test_numbers_by_what_no_list_is_chosen_by_lead_nowhere(store, tmp_path) -> None:
    await run_scripted(store, [make_question(n, meta={"level": n}) for n in range(2)], ["naive"])
    with chdir(tmp_path):
        words = ["report", "--store", store.url, "--by", "meta.level", "--by", "protocol+judge"]
        assert main.run([*words, "--by", "protocol", "--html", "out"]) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    links = {}
    for title in ("By meta.level", "By protocol+judge", "Debates by protocol"):
        table = text.partition(f"<h2>{title}</h2>")[2].partition("</table>")[0]
        assert "<td" in table, title
        links[title] = len(re.findall("href=", table))
    assert links["By meta.level"] == links["By protocol+judge"] == 0
    assert links["Debates by protocol"] > 0


async def test_two_stores_stand_in_one_folder(debated, store, tmp_path) -> None:
    await run_scripted(store, [make_question(50)], ["naive"])
    report = build_report(debated.transcripts(), arms={"other": store.transcripts()})
    written = write_folder(report, [debated, store], tmp_path / "out")
    assert written.num_transcripts == 19
