"""The server: who may come in, wrong links, stores that cannot be read, and foreign text."""

from __future__ import annotations

import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest

from oversight.cli import main
from oversight.errors import ConfigError, StoreError
from oversight.reporting import server
from oversight.reporting.server import Gate, Shelf, address_of, is_loopback, token_for
from oversight.store import Store, migrations
from tests.reporting.conftest import make_question, run_scripted

HOSTILE = [
    "</article></main><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '" onmouseover="window.pwned=1" x="',
    "'><svg/onload=window.pwned=1>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:window.pwned=1",
    "<quote><script>window.pwned = 1</script> in the source</quote>",
    "\u202eevil\u202c \u2066x\u2069 \u200b\u200f \x1b[31mred\x07",
    "&lt;script&gt; <!-- --> <![CDATA[ ]]> <style>*{display:none}</style>",
]
KNOWN_TAGS = frozenset(
    {
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "body",
        "a",
        "header",
        "nav",
        "button",
        "kbd",
        "main",
        "dialog",
        "h1",
        "h2",
        "h3",
        "h4",
        "dl",
        "div",
        "dt",
        "dd",
        "form",
        "p",
        "span",
        "b",
        "ol",
        "ul",
        "li",
        "section",
        "article",
        "details",
        "summary",
        "bdi",
        "label",
        "select",
        "option",
        "input",
        "mark",
        "del",
        "ins",
        "svg",
        "line",
        "path",
        "circle",
        "text",
        "figure",
        "figcaption",
        "pre",
        "code",
        "time",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "img",
    }
)


class Page(HTMLParser):
    """Tags, attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def links(text: str) -> list[str]:
    return [value for name, value in Page(text).attributes if name == "href"]


async def hostile_store(store: Store, corpus: list[str]) -> list[str]:
    """Debates in whose every text the corpus stands; gives their ids."""
    found = []
    for number, text in enumerate(corpus):
        shown = text if text.strip() else f"q {text}"
        asked = make_question(number, id=f"{shown[:60]}{number}", text=shown, dataset=shown[:80])
        debates, _ = await run_scripted(store, [asked], ["naive", "consultancy"], speech=shown)
        found += [each.id for each in debates]
    return found


# --- pages --------------------------------------------------------------------------------


def test_the_list_leads_to_transcripts_and_these_to_calls(debated, get) -> None:
    ask = get(debated)
    page = ask("/")
    assert page.status_code == 200
    debates = [link for link in links(page.text) if link.startswith("/t/")]
    assert len(debates) == 18
    transcript = ask(debates[0])
    assert transcript.status_code == 200
    calls = [link for link in links(transcript.text) if "/call/" in link]
    assert calls
    call = ask(calls[0])
    assert call.status_code == 200
    assert "Prompt, as it was sent" in call.text


def test_every_anchor_that_a_page_names_is_on_it(debated, get) -> None:
    ask = get(debated)
    for debate_id in debated.debate_ids():
        text = ask(f"/t/{debate_id}").text
        ids = [value for name, value in Page(text).attributes if name == "id"]
        assert len(ids) == len(set(ids))
        anchors = {link[1:] for link in links(text) if link.startswith("#")}
        assert anchors <= set(ids)


def test_the_beginning_of_an_id_leads_to_the_debate(debated, get) -> None:
    ask, id_ = get(debated), debated.debate_ids()[0]
    answer = ask(f"/t/{id_[:12]}")
    assert answer.status_code in (302, 307)
    assert answer.headers["location"] == f"/t/{id_}"
    turn = debated.transcript(id_).turns
    if turn:
        assert ask(f"/t/{turn[0].id}").headers["location"] == f"/t/{id_}"


def test_filters_and_search_stand_in_the_address(debated, get) -> None:
    ask = get(debated)
    page = ask("/?protocol=naive&judge=judge+(made)")
    shown = [link for link in links(page.text) if link.startswith("/t/")]
    assert {debated.debate(link[3:]).protocol.name for link in shown} == {"naive"}
    assert "No debate fits" in ask("/?q=elephant").text
    assert "No debate fits" in ask("/?protocol=nothing").text


@pytest.mark.parametrize(
    "path",
    [
        "/?before=99999999999999999999999&after=x",
        "/?q=%22&protocol=%00",
        "/?q=" + "x" * 5000,
        "/compare?a=zzz&b=%00",
        "/compare",
        "/?store=",
    ],
)
def test_odd_queries_are_answered(debated, get, path) -> None:
    assert get(debated)(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/t/ffffffffffffffffffff", "has an id that begins with"),
        ("/t/%00", "has an id that begins with"),
        ("/t/%ff%fe", "has an id that begins with"),
        ("/t/..%2f..%2fetc", "Nothing is at"),
        ("/nowhere", "Nothing is at"),
        ("/runs/none", "No training run"),
        ("/?store=other", "No store"),
        ("/?right=wrong", "No list has a filter &#39;right&#39;"),
        ("/assets/x/secret", "There is no file"),
        ("/assets/x/..%2fserver.py", "Nothing is at"),
    ],
)
def test_a_wrong_link_says_what_is_wrong_and_what_to_do(debated, get, path, said) -> None:
    answer = get(debated)(path)
    assert answer.status_code == 404
    assert said in answer.text
    assert "Traceback" not in answer.text
    assert "To the list of debates" in answer.text


def test_a_call_that_is_not_there_is_said(debated, get) -> None:
    answer = get(debated)(f"/t/{debated.debate_ids()[0]}/call/none.7")
    assert answer.status_code == 404
    assert "has no call" in answer.text


async def test_two_stores_are_told_apart(debated, store, get) -> None:
    [debate], _ = await run_scripted(store, [make_question(77)], ["naive"])
    ask = get(debated, store)
    assert "made.db" in ask("/").text
    shown = [link for link in links(ask("/?store=made.db").text) if link.startswith("/t/")]
    assert shown == [f"/t/{debate.id}?store=made.db"]
    assert ask(f"/t/{debate.id}").status_code == 200, "found in whichever store it is"


def test_an_empty_store_says_how_to_go_on(store, get) -> None:
    answer = get(store)("/")
    assert answer.status_code == 200
    assert f"oversight debate --store {store.url} makes some" in answer.text


@pytest.mark.parametrize(("kind", "place"), [("runs", "/runs"), ("experiments", "/experiments")])
def test_without_a_store_the_first_page_is_of_what_there_is(get, tmp_path, kind, place) -> None:
    ask = get(**{kind: {"one": tmp_path}})
    answer = ask("/")
    assert (answer.is_redirect, answer.headers["location"]) == (True, place)
    page = ask(place)
    assert page.status_code == 200
    assert ">Debates</a>" not in page.text
    assert ">Debates</a>" not in ask("/nowhere").text


def test_an_index_that_is_gone_is_said(debated, index, get) -> None:
    made = index(debated)
    ask = get(house=Shelf(debated, made))
    assert ask("/").status_code == 200
    with sqlite3.connect(made.path) as connection:
        connection.execute("DROP TABLE counts")
        connection.execute("DROP TABLE items")
    answer = ask("/")
    assert answer.status_code == 503
    assert "no such table" in answer.text
    assert "Nothing is lost" in answer.text


async def test_a_damaged_row_is_named_and_hides_no_other(store, get) -> None:
    debates, _ = await run_scripted(store, [make_question(n) for n in range(2)], ["naive"])
    ask = get(store)
    with sqlite3.connect(store.url) as file:
        file.execute("UPDATE judgments SET body = '{' WHERE debate_id = ?", (debates[0].id,))
    answer = ask(f"/t/{debates[0].id}")
    assert answer.status_code == 503
    assert "judgments row" in answer.text
    assert "oversight store check" in answer.text
    assert ask(f"/t/{debates[1].id}").status_code == 200


async def test_a_store_that_goes_away_is_said(store, get, monkeypatch) -> None:
    [debate], _ = await run_scripted(store, [make_question()], ["naive"])
    ask = get(store)

    def gone(*_: object) -> None:
        raise StoreError("store x: connection to server failed; check that the server runs")

    monkeypatch.setattr(store, "find_debates", gone)
    answer = ask(f"/t/{debate.id}")
    assert answer.status_code == 503
    assert "check that the server runs" in answer.text
    assert ask("/").status_code == 200, "the list was read before"


def test_a_store_of_a_newer_schema_is_refused_in_one_line(store, tmp_path, capfd) -> None:
    path = tmp_path / "newer.db"
    Store.open(path).close()
    with sqlite3.connect(path) as file:
        file.execute(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    assert main.run(["view", str(path), "--no-browser", "--port", "0"]) == 2
    said = capfd.readouterr().err.strip()
    assert "newer" in said
    assert "Traceback" not in said


# --- who may come in ----------------------------------------------------------------------


def test_everything_is_sent_with_the_headers_of_safety(debated, get) -> None:
    ask = get(debated)
    for path in ("/", f"/t/{debated.debate_ids()[0]}", "/nowhere", "/assets/x/view.css"):
        headers = ask(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:81", "", "localhost.evil:80"]
)
def test_other_names_get_no_answer(debated, get, host) -> None:
    answer = get(debated)("/", host=host)
    assert answer.status_code == 403
    assert "house" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost:80", "[::1]:80"])
def test_its_own_names_do(debated, get, host) -> None:
    assert get(debated)("/", host=host).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(debated, get, method) -> None:
    assert get(debated)("/", method).status_code == 405


def test_beyond_loopback_a_token_is_asked_for_and_kept_in_a_cookie(debated, get) -> None:
    token = token_for("0.0.0.0", None)
    assert len(token) >= 24
    ask = get(debated, host="0.0.0.0", token=token)
    assert ask("/", host="anything:80").status_code == 403
    assert ask("/?token=wrong").status_code == 403
    assert ask("/?token=%C3%A4").status_code == 403
    answer = ask(f"/?protocol=naive&token={token}")
    assert answer.headers["location"] == "/?protocol=naive"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    held = cookie.partition(";")[0]
    assert ask("/", cookie=held).status_code == 200
    assert ask("/", cookie=held + "x").status_code == 403
    away = ask(f"/%2f%2fevil.example/?token={token}").headers["location"]
    assert away.startswith("/")
    assert not away.startswith("//")


def test_a_token_that_keeps_nobody_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="--token takes at least"):
        token_for("127.0.0.1", "short")
    assert token_for("127.0.0.1", None) == ""
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")
    assert address_of("::1", 8, "") == "http://[::1]:8/"
    assert Gate is server.Gate


# --- foreign text -------------------------------------------------------------------------


async def test_foreign_text_is_text_and_nothing_else(store, get, root) -> None:
    corpus = HOSTILE + [
        e["text"] for e in json.loads((root / "tests/text/hostile.json").read_text())
    ]
    ids = await hostile_store(store, [text[:400] for text in corpus[:40]])
    ask = get(store)
    paths = ["/", "/compare?a=" + ids[0] + "&b=" + ids[1], *(f"/t/{id_}" for id_ in ids)]
    for path in paths:
        answer = ask(path)
        assert answer.status_code == 200, path
        page = Page(answer.text)
        assert set(page.tags) <= KNOWN_TAGS, set(page.tags) - KNOWN_TAGS
        assert page.tags.count("script") == 1
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
        for name, value in page.attributes:
            if name in ("href", "src", "action", "data-load"):
                assert re.match(r"(/(?!/)|#|data:,$)", value), value
        shown = "".join(page.texts)
        assert not re.search(
            "[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", shown
        )


async def test_a_turn_of_a_megabyte_is_shown_whole(store, get) -> None:
    long = "word " * 200_000 + "<b>end</b>"
    [debate], _ = await run_scripted(
        store, [make_question()], ["consultancy_single_turn"], speech=long
    )
    answer = get(store)(f"/t/{debate.id}")
    assert answer.status_code == 200
    assert "&lt;b&gt;end&lt;/b&gt;" in answer.text


def test_scripts_and_styles_load_nothing_from_elsewhere() -> None:
    folder = Path(server.rendering.__file__).parent / "templates"
    for file in folder.iterdir():
        text = file.read_text()
        assert not re.search(r"(https?:)?//[a-z]+\.[a-z]", text), file
        if file.suffix == ".html":
            assert not re.search(r"\sstyle=|\son[a-z]+=|\|\s*safe|autoescape false", text), file
