"""A candidate: a shadow that nobody sees, the canary of some users, and in the main one's place."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.guard.candidate import ArmCall, Serving, compare, trial_tables, write_switch
from oversight.guard.preparing import GuardFileSettings
from oversight.store import Store
from tests.guard.conftest import Guarded, Running, Simulated, Start, asked

POLICY = """
[checks.bad]
check = "words"
action = "refuse"
settings = { words = ["forbidden"] }
"""
STRICTER = """
[checks.more]
check = "words"
on = "input"
action = "refuse"
settings = { words = ["gift"] }
"""


class Tried:
    """A guard before `sim`, with a candidate that is another server or another policy."""

    def __init__(self, guard: Guarded, other: Simulated, folder: Path) -> None:
        self.guard, self.other, self.folder = guard, other, folder

    @property
    def trial(self) -> Any:
        return self.guard.server.trial

    async def settled(self) -> dict[str, Any]:
        while self.trial._shadowing:
            await asyncio.gather(*self.trial._shadowing)
        async with httpx.AsyncClient() as client:
            return dict((await client.get(f"{self.guard.url}/trial")).json())

    def switch(self, to: Serving) -> None:
        write_switch(self.trial._settings, self.folder, to)
        self.trial._looked = -1.0  # as if half a second had gone

    async def said(self, user: str, **more: Any) -> str:
        answer = await self.guard.post(asked(user=user, **more))
        return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture
async def tried(guarded: Start, tmp_path: Path) -> Any:
    other = Simulated()
    other.words = ["Good day."]
    async with Running(other.app) as behind:

        async def start(policy: str = "", **candidate: Any) -> Tried:
            if policy:
                (tmp_path / "stricter.toml").write_text(policy)
                candidate["policy"] = str(tmp_path / "stricter.toml")
            candidate["switch"] = str(tmp_path / "guard.switch")
            upstreams = {"base_url": f"{behind.url}/v1", "model": "better"}
            guard = await guarded(POLICY, more={"better": upstreams}, candidate=candidate)
            return Tried(guard, other, tmp_path)

        yield start


def words_of(answer: httpx.Response) -> str:
    """The words of an answer, whole or in events."""
    if not answer.text.startswith("data:"):
        return str(answer.json()["choices"][0]["message"]["content"])
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    return "".join(delta.get("content") or "" for delta in deltas)


# --- the shadow ---


async def test_a_shadow_answers_the_same_calls_and_nobody_sees_it(tried: Any) -> None:
    it: Tried = await tried(model="better", shadow=1.0)
    it.other.words = ["Something forbidden and long."]
    for number in range(6):
        streamed = bool(number % 2)
        answer = await it.guard.post(asked(f"Hello {number}?", user=f"u{number}", stream=streamed))
        assert words_of(answer) == "Hello there."
    found = await it.settled()
    assert found["shadow"]["calls"] == 6
    assert [body["messages"] for body in it.other.bodies] == [
        body["messages"] for body in it.guard.upstream.bodies
    ]
    assert not any(body.get("stream") for body in it.other.bodies)
    figures = {each["figure"]: each for each in found["shadow"]["figures"]}
    assert figures["refused"]["main"]["value"] == 0.0
    assert figures["refused"]["candidate"]["value"] == 1.0
    assert figures["refused"]["difference"]["value"] == 1.0
    assert figures["a check fired"]["candidate"]["value"] == 1.0
    assert figures["characters"]["main"]["value"] == len("Hello there.")
    assert found["shadow"]["same_words"]["value"] == 0.0
    # It is none of the guard's own calls.
    assert it.guard.counted() == {"begun": 6.0, "answered": 6.0}
    assert len(it.guard.calls) == 6


async def test_a_shadow_that_fails_or_is_slow_holds_up_nobody(tried: Any) -> None:
    it: Tried = await tried(model="better", shadow=1.0, max_shadows=2)
    it.other.pause_s = 1.0
    for _ in range(4):
        assert (await it.guard.post(asked())).status_code == 200
    assert it.trial.num_unshadowed == 2
    found = await it.settled()
    assert (found["shadow"]["calls"], found["shadow"]["not_shadowed"]) == (2, 2)
    it.other.answer = JSONResponse({"error": {"message": "busy"}}, 503)
    assert (await it.guard.post(asked())).status_code == 200
    found = await it.settled()
    figures = {each["figure"]: each for each in found["shadow"]["figures"]}
    assert figures["failed"]["candidate"]["value"] == pytest.approx(1 / 3)
    it.other.answer, it.other.pause_s = None, 30.0  # and under way still at the end
    await it.guard.post(asked())


async def test_a_policy_can_be_the_shadow_of_another(tried: Any) -> None:
    it: Tried = await tried(STRICTER, shadow=1.0)
    await it.guard.post(asked("A gift for her?", user="a"))
    await it.guard.post(asked("Hello?", user="b"))
    await it.guard.post(b"{not json")
    await it.guard.post({"model": "sim"})
    found = await it.settled()
    assert found["shadow"]["calls"] == 2  # requests that are wrong say nothing of either
    figures = {each["figure"]: each for each in found["shadow"]["figures"]}
    assert figures["refused"]["difference"]["value"] == 0.5
    assert found["shadow"]["same_words"]["value"] == 0.5
    assert found["candidate"]["policy"] == "stricter"


# --- the canary ---


async def test_a_canary_answers_its_share_of_users_and_each_user_keeps_theirs(tried: Any) -> None:
    it: Tried = await tried(model="better", canary=0.3)
    first = {f"user{n}": await it.said(f"user{n}") for n in range(60)}
    counted = Counter(first.values())
    assert set(counted) == {"Hello there.", "Good day."}
    assert 8 <= counted["Good day."] <= 30
    for user in list(first)[:20]:
        assert await it.said(user) == first[user]
    found = await it.settled()
    assert sum(found["canary"]["calls"]) == 80
    assert found["canary"]["users"] == [counted["Hello there."], counted["Good day."]]
    figures = {each["figure"]: each for each in found["canary"]["figures"]}
    assert figures["characters"]["difference"]["value"] == len("Good day.") - len("Hello there.")
    assert it.guard.counted()["answered"] == 80.0


async def test_an_answer_of_the_candidate_is_kept_under_its_own_policy(
    guarded: Start, tmp_path: Path
) -> None:
    (tmp_path / "stricter.toml").write_text(STRICTER)
    stricter, switch = (str(tmp_path / name) for name in ("stricter.toml", "guard.switch"))
    candidate = {"policy": stricter, "canary": 1.0, "switch": switch}
    store = tmp_path / "calls.db"
    guard = await guarded(POLICY, store=str(store), candidate=candidate)
    await guard.post(asked("A gift for her?"))
    await guard.server._closing[-1]()
    with Store.open(store) as opened:
        [found] = opened.transcripts(complete=True)
        assert found.question.meta["policy"] == "stricter"


# --- switching ---


async def test_it_is_switched_to_and_back_while_calls_are_under_way_and_none_is_lost(
    tried: Any,
) -> None:
    it: Tried = await tried(model="better", shadow=0.5, canary=0.2)
    it.guard.upstream.pause_s = it.other.pause_s = 0.02
    statuses: Counter[int] = Counter()

    async def ask(number: int) -> None:
        answer = await it.guard.post(asked(user=f"u{number}", stream=bool(number % 2)))
        statuses[answer.status_code] += 1
        assert words_of(answer) in ("Hello there.", "Good day.")
        assert "[DONE]" in answer.text or not number % 2

    async def many() -> None:
        for start in range(0, 90, 10):
            await asyncio.gather(*(ask(number) for number in range(start, start + 10)))

    work = asyncio.create_task(many())
    for to in (Serving.CANDIDATE, Serving.MAIN, Serving.CANDIDATE, Serving.TRIAL):
        await asyncio.sleep(0.15)
        it.switch(to)
    await work
    assert statuses == {200: 90}
    counted = it.guard.counted()
    assert counted == {"begun": 90.0, "answered": 90.0}


async def test_the_file_says_who_answers_and_nonsense_in_it_changes_nothing(tried: Any) -> None:
    it: Tried = await tried(model="better")
    assert await it.said("a") == "Hello there."
    it.switch(Serving.CANDIDATE)
    assert await it.said("a") == "Good day."
    async with httpx.AsyncClient() as client:
        health = (await client.get(f"{it.guard.url}/health")).json()
    assert health["serving"] == "candidate"
    (it.folder / "guard.switch").write_text("the other one\n")
    it.trial._looked = -1.0
    assert await it.said("a") == "Good day."
    it.switch(Serving.MAIN)
    assert await it.said("a") == "Hello there."
    (it.folder / "guard.switch").unlink()
    it.trial._looked = -1.0
    assert it.trial.serving is Serving.TRIAL


def test_the_switch_command_writes_the_file_beside_the_guards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams = "".join(f'[upstreams.{name}]\nengine = "scripted"\n' for name in "ab")
    plain = f'policy = "basic"\n{upstreams}'
    guard = tmp_path / "guard.toml"
    guard.write_text(plain)
    assert run(["guard", "switch", str(guard), "candidate"]) == 2
    assert "no [candidate]" in capsys.readouterr().err
    guard.write_text(f'{plain}[candidate]\nmodel = "b"\n')
    assert run(["guard", "switch", str(guard), "candidate"]) == 0
    assert (tmp_path / "guard.switch").read_text() == "candidate\n"
    assert run(["guard", "switch", str(guard), "main"]) == 0
    assert (tmp_path / "guard.switch").read_text() == "main\n"
    assert run(["guard", "switch", str(guard), "elsewhere"]) == 2


# --- figures and errors ---


def calls_of(users: int, each: int, refused: float, seconds: float) -> list[ArmCall]:
    return [
        ArmCall(f"u{u}", float(n < refused * each), 0.0, 0.0, seconds + u / 100, 10.0 + n, "w")
        for u in range(users)
        for n in range(each)
    ]


def test_the_table_shows_both_and_the_difference_with_intervals() -> None:
    main, other = calls_of(20, 10, 0.1, 1.0), calls_of(20, 10, 0.4, 0.5)
    found = compare(main, other, paired=True)
    refused, seconds = found[0], found[3]
    assert refused.difference.value == pytest.approx(0.3)
    assert seconds.difference.value == pytest.approx(-0.5)
    assert seconds.main.num_clusters == 20
    figures = [asdict(each) for each in found]
    same = {"value": 0.5, "low": 0.4, "high": 0.6, "num": 200, "num_clusters": 20, "method": "w"}
    shadow = {"calls": 200, "not_shadowed": 3, "same_words": same, "figures": figures}
    canary = {"calls": [200, 200], "users": [20, 20], "figures": figures}
    tables = trial_tables(json.loads(json.dumps({"shadow": shadow, "canary": canary})))
    assert [table.title for table in tables] == ["Shadow", "Canary"]
    row = tables[0].rows[0]
    assert row[0] == "refused"
    assert row[1].startswith("10 %")
    assert row[3].startswith("+30")
    assert "[" in tables[0].rows[3][1]
    assert "3 more were too many at once" in tables[0].note
    assert compare([], other, paired=False) == []


def test_users_count_once_however_much_they_ask() -> None:
    """An interval of one user's many calls is no narrower than one of a few users says."""
    few = calls_of(3, 100, 0.5, 1.0)
    wide = compare(few, few, paired=False)[3].main
    assert wide.num_clusters == 3
    assert wide.width is not None
    assert wide.width > 0.03


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({}, "name a model of"),
        ({"model": "nobody"}, "'nobody' is no model of"),
        ({"model": "sim"}, "set upstreams.NAME.model"),
        ({"policy": "nobody"}, "nobody"),
        ({"model": "x", "shadow": 2.0}, "shadow"),
    ],
)
async def test_a_wrong_candidate_is_an_error_before_anything_is_served(
    guarded: Start, candidate: dict[str, Any], said: str
) -> None:
    with pytest.raises(Exception, match=said):
        await guarded(POLICY, candidate=candidate)


async def test_compare_says_where_there_is_nothing_to_compare(
    tried: Any, guarded: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    it: Tried = await tried(model="better", shadow=1.0, canary=0.5)
    words = ["guard", "compare", it.guard.url]
    assert await asyncio.to_thread(run, words) == 0
    assert "nothing to compare yet" in capsys.readouterr().out
    for number in range(12):
        await it.said(f"u{number}")
    await it.settled()
    assert await asyncio.to_thread(run, [*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shadow"]["calls"] > 0
    assert await asyncio.to_thread(run, words) == 0
    shown = capsys.readouterr().out
    assert "Shadow" in shown
    assert "Canary" in shown
    assert "trial answers now" in shown
    plain = await guarded(POLICY)
    assert await asyncio.to_thread(run, ["guard", "compare", plain.url]) == 2
    assert "no [candidate]" in capsys.readouterr().err
    assert await asyncio.to_thread(run, ["guard", "compare", "http://127.0.0.1:9"]) == 2


def test_settings_name_what_is_wrong() -> None:
    data = {"upstreams": {"a": {"engine": "scripted"}}, "candidate": {"modle": "a"}}
    with pytest.raises(ConfigError, match="model"):
        GuardFileSettings.parse(data)
