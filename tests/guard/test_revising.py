"""An answer that a check has revised: the model is asked again, and what it says checked again."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import JSONResponse

pytest.importorskip("re2", reason="google-re2 is not installed")

from tests.guard.conftest import Start, asked

POLICY = """
[checks.kind]
check = "words"
action = "revise"
principle = "register:private-stays-private"
reason = "privacy"
settings = { words = ["tinnitus"] }
"""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("second", "sent"),
    [
        ("That is private to Astrid.", "That is private to Astrid."),
        ("She has tinnitus, I said.", "I can't tell what is private to somebody else."),
    ],
)
async def test_a_revision_is_sent_if_it_stands_and_a_refusal_if_not(
    guarded: Start, second: str, sent: str, stream: bool
) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["Astrid ", "has tinnitus."]

    def choices(body: dict[str, Any]) -> list[dict[str, Any]]:
        text = second if len(body["messages"]) > 1 else "Astrid has tinnitus."
        message = {"role": "assistant", "content": text}
        return [{"index": 0, "message": message, "finish_reason": "stop"}]

    guard.upstream.choices = choices
    answer = await guard.post(asked("What illness does Astrid have?", stream=stream))
    assert sent in answer.text
    assert "tinnitus" not in answer.text
    assert "Astrid has" not in answer.text
    again = guard.upstream.bodies[1]["messages"]
    assert [each["role"] for each in again] == ["user", "assistant", "user"]
    assert again[2]["content"] == "Say that it is private, and to whom."
    assert guard.calls[0].action.value == "revise"


async def test_a_model_that_cannot_revise_gets_a_refusal(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["She has tinnitus."]
    first = await guard.post(asked("Well?", stream=True))
    assert "tinnitus" not in first.text
    guard.upstream.choices = lambda body: []
    second = await guard.post(asked("Well?", stream=True))
    assert "I can't tell what is private" in second.text
    guard.upstream.answer = JSONResponse({"error": {"message": "busy"}}, 429)
    assert (await guard.post(asked("Well?"))).status_code == 429
