"""A prompt that leaves no room in a server's context is told apart from other refusals."""

from __future__ import annotations

import httpx
import pytest

from oversight.engines.openai.failures import refused_or_failed
from oversight.errors import EngineRefusedError, PromptTooLongError


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("This model's maximum context length is 2048 tokens. However, you requested 9000.", ""),
        ("Your input is too big.", "context_length_exceeded"),
        ("The prompt (9000 tokens) is longer than the maximum model length of 2048.", ""),
        ("the request exceeds the context size", ""),
    ],
)
def test_a_prompt_beyond_the_context_has_a_cause_of_its_own(message: str, code: str) -> None:
    body = {"error": {"message": message, "code": code}}
    found = refused_or_failed(httpx.Response(400, json=body))

    assert found.kind is PromptTooLongError
    assert found.kind.cause == "prompt_too_long"


def test_another_refusal_stays_one() -> None:
    body = {"error": {"message": "temperature must be at most 2, the prompt is fine"}}

    assert refused_or_failed(httpx.Response(400, json=body)).kind is EngineRefusedError
