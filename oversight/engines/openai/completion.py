"""From a reply to a completion, and the checks that it is what was asked for."""

from __future__ import annotations

from oversight.engines.openai.reply import Reply
from oversight.errors import EngineError, EngineRefusedError
from oversight.types import Completion, FinishReason, Request

CUT_OFF = frozenset({"length", "max_tokens", "content_filter", "repetition"})
"""Finish reasons of answers that end before their model ended them."""

Complaint = tuple[type[EngineError], str, str]
"""The error to raise, its reason, and what to do."""


def complaint(request: Request, reply: Reply, dialect: str) -> Complaint | None:
    """What is wrong with a whole reply, or None."""
    sampling = request.sampling
    if dialect == "vllm" and not reply.prompt_ids:
        reason = "the server sent no token ids"
        return EngineRefusedError, reason, 'set dialect = "openai" if it is not vLLM'
    if sampling.choices and reply.finish == "stop" and reply.text not in sampling.choices:
        reason = f"{reply.text[:80]!r} is none of the choices {list(sampling.choices)!r}"
        return EngineRefusedError, reason, "this server does not enforce structured_outputs"
    if not sampling.logprobs:
        return None
    if not reply.logprobs and (reply.text or reply.token_ids):
        reason = "the server sent no log-probabilities"
        return EngineRefusedError, reason, "set logprobs = false if it does not give any"
    if reply.token_ids and len(reply.token_ids) != len(reply.logprobs):
        reason = f"{len(reply.logprobs)} log-probabilities for {len(reply.token_ids)} token ids"
        return EngineError, reason, "this server contradicts itself"
    return None


def completion(
    request: Request, reply: Reply, *, engine: str, model: str, cancelled: bool, seconds: float
) -> Completion:
    """The completion that a reply stands for, with the name that the server gives its model."""
    sampling = request.sampling
    num_top = sampling.top_logprobs
    return Completion(
        request_id=request.id,
        text=reply.text,
        prompt_ids=reply.prompt_ids,
        token_ids=tuple(reply.token_ids),
        finish_reason=_finish_reason(reply, cancelled=cancelled),
        usage=reply.usage,
        engine=engine,
        model=reply.model or model,
        seconds=seconds,
        logprobs=tuple(reply.logprobs) if sampling.logprobs else None,
        top=tuple(each[:num_top] for each in reply.top) if num_top else (),
    )


def _finish_reason(reply: Reply, *, cancelled: bool) -> FinishReason:
    if cancelled:
        return FinishReason.CANCELLED
    return FinishReason.LENGTH if reply.finish in CUT_OFF else FinishReason.STOP
