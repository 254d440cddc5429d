"""From a reply to a completion, and the checks that it is what was asked for."""

from __future__ import annotations

from oversight.engines.openai.reply import Reply
from oversight.errors import EngineError, EngineRefusedError
from oversight.text.thoughts import Said, closes_unopened, divide, is_wordless, opens_thought
from oversight.types import Completion, FinishReason, Request

FINISH_REASONS = {
    FinishReason.LENGTH: ("length", "max_tokens", "model_length", "repetition"),
    FinishReason.CONTENT_FILTER: (
        *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("sensitive", "guardrail_intervened", "content_filtered"),
    ),
    FinishReason.REFUSAL: ("refusal",),
    FinishReason.TOOL_CALLS: ("tool_calls", "tool_call", "function_call", "tool_use"),
}
"""Words of servers for other ends of an answer than its model's own."""

REASON_OF = {word: reason for reason, words in FINISH_REASONS.items() for word in words}

Complaint = tuple[type[EngineError], str, str]
"""The error to raise, its reason, and what to do."""


def complaint(request: Request, reply: Reply, dialect: str) -> Complaint | None:
    """What is wrong with a whole reply, or None."""
    sampling = request.sampling
    if dialect == "vllm" and not reply.prompt_ids and reply.finish != "content_filter":
        reason = "the server sent no token ids"
        return EngineRefusedError, reason, 'set dialect = "openai" if it is not vLLM'
    if sampling.choices and reply.finish == "stop" and reply.text not in sampling.choices:
        reason = f"{reply.text[:80]!r} is none of the choices {list(sampling.choices)!r}"
        return EngineRefusedError, reason, "this server does not enforce structured_outputs"
    if not sampling.logprobs:
        return None
    if not reply.logprobs and (reply.token_ids or _is_answer(reply)):
        reason = "the server sent no log-probabilities"
        return EngineRefusedError, reason, "set logprobs = false if it does not give any"
    if reply.token_ids and len(reply.token_ids) != len(reply.logprobs):
        reason = f"{len(reply.logprobs)} log-probabilities for {len(reply.token_ids)} token ids"
        return EngineError, reason, "this server contradicts itself"
    return None


def _is_answer(reply: Reply) -> bool:
    """True if the model said something, so that log-probabilities can be expected."""
    kept_back = _finish_reason(reply, cancelled=False) in (
        FinishReason.CONTENT_FILTER,
        FinishReason.REFUSAL,
        FinishReason.TOOL_CALLS,
    )
    return not kept_back and not is_wordless(divide("".join(reply.texts)).text)


def completion(
    request: Request,
    reply: Reply,
    *,
    engine: str,
    model: str,
    cancelled: bool,
    seconds: float,
    opened: bool | None = None,
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
        reasoning=reply.reasoning,
        opened=opened,
    )


def _finish_reason(reply: Reply, *, cancelled: bool) -> FinishReason:
    if cancelled:
        return FinishReason.CANCELLED
    if reply.refusals and not reply.texts:
        return FinishReason.REFUSAL
    if reply.has_called and not reply.texts:
        return FinishReason.TOOL_CALLS
    return REASON_OF.get((reply.finish or "").lower(), FinishReason.STOP)


class OpenedThoughts:
    """Finds out if a server's prompts open a thought, so that answers hold only its end.

    An answer that is cut off before that end looks like any other text. With vLLM the prompt
    tells, which is looked up once, when it matters. Other servers show it by an answer that ends a
    thought it did not begin; after that, answers without an end of their own are thoughts.
    """

    def __init__(self, given: bool | None, is_vllm: bool) -> None:
        self.known = given
        """By the settings, or by the prompt itself."""
        self._seen: bool | None = None
        """By the answers so far."""
        self._can_look_up = is_vllm and given is None

    @property
    def expected(self) -> bool | None:
        """True if the next answer will go on with a thought; None if that is not known yet."""
        return self._seen if self.known is None else self.known

    def is_to_be_looked_up(self, request: Request, reply: Reply) -> bool:
        """True if the prompt is needed to tell a thought from a speech."""
        if not self._can_look_up or self.known is not None or reply.reasoning:
            return False
        if request.sampling.choices:
            return True
        return reply.finish != "stop" and divide(reply.text) == Said(reply.text)

    def take_prompt_end(self, text: str | None) -> None:
        """Take in how prompts end; None if the server does not say."""
        self._can_look_up = False
        self.known = None if text is None else opens_thought(text)

    def learn(self, reply: Reply) -> bool:
        """Take in an answer; whether it is the first to show that prompts open a thought."""
        if self.known is not None or self._seen:
            return False
        if closes_unopened(reply.text):
            self._seen = True
        elif reply.reasoning or (reply.finish == "stop" and reply.text.strip()):
            self._seen = False
        return bool(self._seen)

    def opened(self, reply: Reply) -> bool | None:
        """True if this answer goes on with a thought; None if unknown."""
        if reply.reasoning:
            return False
        if self.known is not None or not self._seen:
            return self.known if self.known is not None else self._seen
        # Seen of others only: one that its model ended without a mark was an answer all the same.
        return closes_unopened(reply.text) or reply.finish != "stop"
