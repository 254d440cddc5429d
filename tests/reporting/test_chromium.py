"""The viewer in a real Chromium: keys, links, parts on demand, a phone, and foreign text."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oversight.evals.report import build_report
from oversight.reporting.static import write_folder
from oversight.store import Store
from tests.reporting.conftest import make_question, run_scripted
from tests.reporting.test_server import HOSTILE, hostile_store
from tests.tui.browser import Browser, chromium, in_chromium


def viewing(store: Store, folder: Path) -> AbstractContextManager[str]:
    """The address of `oversight view` on a store."""
    return viewing_at(store.url, folder)


@contextmanager
def viewing_at(url: str, folder: Path) -> Iterator[str]:
    """The address of `oversight view` on a store's path or URL."""
    command = [sys.executable, "-m", "oversight.cli.main", "view", url]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(folder)},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2].rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


async def holds(browser: Browser, expression: str) -> Any:
    """Wait until an expression is true in the page; gives its value."""
    for _ in range(150):
        if found := await browser.value(expression):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"after 15 s it still does not hold: {expression}")


@in_chromium
async def test_keys_go_from_the_list_into_a_transcript_and_its_source(store, tmp_path) -> None:
    await run_scripted(store, [make_question(n) for n in range(3)], ["debate"])
    with viewing(store, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            await browser.visit(address)
            await browser.press("j")
            await browser.press("j")
            assert await browser.value("document.querySelectorAll('.chosen').length") == 1
            wanted = await browser.value("document.activeElement.href")
            assert wanted
            await browser.press("Enter")
            await holds(
                browser, f"location.href === {wanted!r} && document.readyState === 'complete'"
            )
            await holds(browser, "document.getElementById('theme').hidden === false")
            await browser.value("document.querySelector('mark.verified a').click()")
            await holds(browser, "document.getElementById('source').open")
            assert await browser.value("location.hash.startsWith('#source-')")
            await browser.press("?")
            await holds(browser, "document.getElementById('help').open")
            assert browser.requests_beyond(address) == []
            assert browser.complaints == []


@in_chromium
async def test_a_call_unfolds_to_the_prompt_that_was_sent(store, tmp_path) -> None:
    _, sent = await run_scripted(store, [make_question()], ["debate"])
    prompts = {message.content for prompt in sent.prompts for message in prompt.messages}
    [debate_id] = store.debate_ids()
    with viewing(store, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            await browser.visit(f"{address}/t/{debate_id}")
            await browser.value("document.querySelector('.calls summary').click()")
            await holds(browser, "document.querySelectorAll('.calls .sent').length > 1")
            shown = await browser.value(
                "document.querySelector('.calls .message .sent').textContent"
            )
            assert shown in prompts
            assert browser.complaints == []


@in_chromium
async def test_a_phone_shows_everything_within_its_width_in_both_themes(store, tmp_path) -> None:
    await run_scripted(store, [make_question()], ["debate"])
    [debate_id] = store.debate_ids()
    with viewing(store, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            for path in ("/", f"/t/{debate_id}", f"/compare?a={debate_id}&b={debate_id}"):
                for theme in ("light", "dark"):
                    await browser.visit(address + path, 390, 800, theme)
                    wide = "document.documentElement.scrollWidth"
                    assert await browser.value(wide) <= 390, path
            dark = await browser.value("getComputedStyle(document.body).backgroundColor")
            await browser.press("t")
            light = await browser.value("getComputedStyle(document.body).backgroundColor")
            assert dark != light
            assert browser.complaints == []


@in_chromium
async def test_foreign_text_runs_nothing_and_asks_for_nothing(store, tmp_path) -> None:
    ids = await hostile_store(store, HOSTILE)
    write_folder(build_report(store.transcripts()), [store], tmp_path / "report")
    with viewing(store, tmp_path) as address:
        pages = [f"{address}/", *(f"{address}/t/{id_}" for id_ in ids)]
        pages += [f"{address}/?q=script"]
        async with chromium(tmp_path / "profile") as browser:
            for page in pages:
                await browser.visit(page)
                await browser.value(
                    "document.querySelectorAll('details').forEach(d => d.open = true)"
                )
                assert await browser.value("window.pwned === undefined"), page
            await asyncio.sleep(1.0)
            assert browser.requests_beyond(address) == []
            assert browser.complaints == []


@in_chromium
async def test_a_store_that_is_being_written_shows_what_is_new(store, tmp_path) -> None:
    with viewing(store, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            await browser.visit(address)
            assert await browser.value("document.body.innerText.includes('no debate yet')")
            [debate], _ = await run_scripted(store, [make_question()], ["debate"])
            store.add(debate.model_copy(update={"seed": 99}))
            for _ in range(60):
                await browser.visit(address)
                if await browser.value("document.querySelectorAll('.rows li').length === 2"):
                    break
                await asyncio.sleep(0.5)
            assert await browser.value("document.body.innerText.includes('unfinished')")
            assert browser.complaints == []


@in_chromium
async def test_a_turn_of_a_megabyte_and_a_wrong_link_fit_a_phone(store, tmp_path) -> None:
    long = "\u202eevil\u202c " + "word" * 50_000 + " word" * 160_000
    names = ["consultancy_single_turn"]
    [debate], _ = await run_scripted(store, [make_question()], names, speech=long)
    with viewing(store, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            await browser.visit(f"{address}/t/{debate.id}", 390, 800)
            wide = "document.documentElement.scrollWidth"
            assert await browser.value(wide) <= 390
            assert await browser.value("document.body.textContent.length > 1e6")
            assert await browser.value("!document.body.textContent.includes('\\u202e')")
            assert browser.complaints == []
            await browser.visit(f"{address}/t/{'f' * 80}", 390, 800)
            assert await browser.value("document.body.innerText.includes('no such page')")
            assert await browser.value(wide) <= 390


@pytest.mark.postgres
@in_chromium
async def test_a_store_on_postgresql_that_goes_away_is_said_until_it_is_back(
    postgres_server, tmp_path
) -> None:
    url = postgres_server.new_database()
    with Store.open(url) as store:
        [debate], _ = await run_scripted(store, [make_question()], ["debate"])
    with viewing_at(url, tmp_path) as address:
        async with chromium(tmp_path / "profile") as browser:
            await browser.visit(f"{address}/t/{debate.id}")
            assert await browser.value("document.querySelectorAll('.turn').length > 2")
            postgres_server.stop()
            try:
                await browser.visit(f"{address}/t/{debate.id}")
                said = await browser.value("document.querySelector('main').innerText")
                assert "The store cannot be read" in said
                assert "Traceback" not in said
            finally:
                postgres_server.start()
            await browser.visit(f"{address}/t/{debate.id}")
            assert await browser.value("document.querySelectorAll('.turn').length > 2")


@in_chromium
async def test_the_folder_works_from_a_disk(store, tmp_path) -> None:
    await run_scripted(store, [make_question(n) for n in range(2)], ["debate"])
    written = write_folder(build_report(store.transcripts()), [store], tmp_path / "report")
    async with chromium(tmp_path / "profile") as browser:
        await browser.visit(f"file://{written.path}")
        paper = await browser.value("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(245, 246, 248)", "the style sheet is there"
        await holds(browser, "document.getElementById('theme').hidden === false")
        await browser.value("document.querySelector('a.behind').click()")
        await holds(
            browser, "location.href.includes('/lists/') && document.readyState === 'complete'"
        )
        await browser.value("document.querySelector('.rows a').click()")
        await holds(browser, "location.href.includes('/t/') && !!document.querySelector('.turn')")
        assert browser.complaints == []
        assert all(url.startswith(("file:", "data:", "about:")) for url in browser.requested)
