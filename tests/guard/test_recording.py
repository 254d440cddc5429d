"""Calls in the store: where a check acted all of them, else by sampling; sound in any case."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.store import Store
from oversight.types import Act

pytest.importorskip("re2", reason="google-re2 is not installed")

from tests.guard.conftest import REPLACING, Start, asked


async def test_acted_calls_are_all_kept_and_others_by_sampling(
    guarded: Start, tmp_path: Path
) -> None:
    path = tmp_path / "calls.db"
    guard = await guarded(REPLACING, store=str(path), sample=0.0)
    await guard.post(asked("Hello?"))
    guard.upstream.words = ["It is AKIAIOSFODNN7EXAMPLE."]
    changed = (await guard.post(asked("The key?", stream=True))).text
    await guard.post(asked("Something forbidden?"))
    await guard.server._closing[0]()
    assert "AKIA" not in changed
    with Store.open(path) as store:
        assert store.check() == []
        found = {each.question.text: each for each in store.transcripts(complete=True)}
        assert set(found) == {"The key?", "Something forbidden?"}
        turns = found["The key?"].turns
        assert [turn.act for turn in turns] == [Act.RESPOND, Act.CRITIQUE, Act.REVISE]
        assert turns[0].text == "It is [secret: aws]."
        assert turns[1].text == "key: aws (replace)"
        assert turns[2].text == "It is [a key]."
        refused = found["Something forbidden?"].turns
        assert [turn.act for turn in refused] == [Act.RESPOND]
        assert refused[0].text.startswith("I can't help with this as it is asked.")
        assert '"check":"bad"' in refused[0].reasoning


async def test_a_share_of_all_calls_is_kept_with_their_chat(guarded: Start, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    guard = await guarded(REPLACING, store=str(path), sample=1.0)
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "tool", "content": "Three.", "tool_call_id": "x"},
        {"role": "user", "content": [{"type": "text", "text": "Four?"}]},
    ]
    answer = (await guard.post(asked() | {"messages": chat, "n": 2})).json()
    await guard.post(asked("") | {"messages": [{"role": "assistant", "content": "Go on"}]})
    await guard.server._closing[0]()
    with Store.open(path) as store:
        assert store.check() == []
        call = answer["id"].removeprefix("chatcmpl-")
        question = store.question(f"guard:{call}")
        assert question.text == "Three.\n\nFour?"
        assert [each.role for each in question.history] == ["system", "user", "assistant"]
        assert len(list(store.transcripts(complete=True))) == 3


async def test_a_call_that_failed_is_kept_as_failed(guarded: Start, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    guard = await guarded(REPLACING, store=str(path), sample=1.0)
    guard.upstream.breaks_after = 1
    await guard.post(asked(stream=True))
    await guard.server._closing[0]()
    with Store.open(path) as store:
        assert store.check() == []
        [found] = store.transcripts(complete=False)
        assert found.outcome is not None
        assert "ended in its middle" in found.outcome.error


KEY, MAIL = "AKIAIOSFODNN7EXAMPLE", "anna@example.com"


@pytest.mark.parametrize(
    ("hide", "kept"),
    [
        ("secrets", f"Is it [secret: aws], {MAIL}?"),
        ("personal", "Is it [secret: aws], [personal: email]?"),
        ("nothing", f"Is it {KEY}, {MAIL}?"),
    ],
)
async def test_secrets_are_left_out_of_what_is_kept(
    guarded: Start, tmp_path: Path, hide: str, kept: str
) -> None:
    path = tmp_path / "calls.db"
    guard = await guarded("", store=str(path), sample=1.0, hide=hide)
    text = f"Is it {KEY}, {MAIL}?"
    guard.upstream.words = [f"Yes: {text[:-9]}", text[-9:]]
    parts = [{"type": "text", "text": text}]
    answer = await guard.post(asked() | {"messages": [{"role": "user", "content": parts}]})
    assert KEY in answer.text  # the client has it all the same
    assert guard.upstream.bodies[0]["messages"][0]["content"] == parts
    await guard.server._closing[0]()
    if hide != "nothing":
        assert KEY.encode() not in path.read_bytes()
    with Store.open(path) as store:
        [found] = store.transcripts(complete=True)
        assert found.question.text == kept
        assert found.turns[0].text == f"Yes: {kept}"
        assert found.turns[0].samples[0].text == f"Yes: {kept}"
