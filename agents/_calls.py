"""One call of an engine on behalf of a seat, and what is recorded of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import count

from oversight.errors import ConfigError, EngineError, NoAnswerError, NoLogprobsError
from oversight.ids import seed_from
from oversight.text.thought_marks import CLOSING, FLAGS, LONGEST_MARK, SAME, closes, is_blank, marks
from oversight.text.thoughts import BARE_BORDER, SPACED_CHANNEL, DividedText, divide, is_wordless
from oversight.types import (
    Completion,
    Engine,
    FinishReason,
    NoAnswer,
    Prompt,
    PromptRecord,
    Purpose,
    Request,
    Sample,
    Sampling,
    View,
)

_MARK_START = re.compile(r"[<\[◁＜［&\\`~]")
_UNFINISHED = re.compile(
    r"(?:<\|(?:channel|start|open)\|>(?:(?!<\|(?:message|sep)\|>).)*|<\|channel>\w*"
    r"|(?:[`*_]{1,3})?(?:[<\[◁＜［]|\\<|&(?:l(?:t;?)?)?)[^>\]▷＞］]*"
    r"|[`*_\\]{1,3}|(?:\A|\n)[ \t]*[`~]{3}[^\n]*)\Z",
    re.DOTALL,
)
"""The end of a text that may become a mark."""
_BEGINNINGS = (
    *("assistantanalysis", "assistantcommentary", "assistantfinal", "analysis", "commentary"),
    *("final", "here is my thought process:", "here's my thought process:"),
    *("here’s my thought process:", "here are my reasoning steps:"),
)
_ENDS_MARKED = re.compile(rf"(?:{CLOSING})[`*_\s]*\Z", FLAGS)


def _first_unclosed(text: str) -> int:
    """Index of the first opening mark without a closing one; the text's length if all have one.

    Whether it is a mark, or a word about marks, may depend on what follows.
    """
    opened: list[int] = []
    for mark in marks(text):
        if not closes(mark):
            opened += [] if mark["empty"] else [mark.start()]
        elif opened:
            opened.pop()
    return opened[0] if opened else len(text)


class Listener:
    """Follows an answer while it grows and gives its public words, for a live display.

    Nothing is shown that may still turn out to be a thought. Where it is not known whether the
    prompt opened one, that is the whole answer until its end.
    """

    def __init__(self, opened: bool | None) -> None:
        self._opened = opened
        self._heard = ""
        self._shown = ""
        self._is_plain = False
        """No mark has been seen, nor the beginning of one."""

    def add(self, piece: str) -> str:
        """The words that may be shown now that `piece` was written."""
        self._heard += piece
        if self._opened is None:
            return ""
        if self._is_plain and not _MARK_START.search(piece):
            return self._show(self._heard)
        settled = self._settled()
        found = divide(settled, self._opened)
        self._is_plain = found.text == self._heard
        return self._show(found.text)

    def end(self, said: str) -> str:
        """The words still to be shown of an answer that says `said`."""
        return self._show(said)

    def _settled(self) -> str:
        """The answer up to where a mark may have begun that is not complete yet."""
        head = self._heard.lstrip().lower()
        if any(beginning.startswith(head) for beginning in _BEGINNINGS):
            return ""
        if SPACED_CHANNEL.match(self._heard) and not BARE_BORDER.search(self._heard):
            return ""
        start = max(0, len(self._heard) - LONGEST_MARK)
        found = _UNFINISHED.search(self._heard, start)
        text = self._heard[: found.start()] if found else self._heard
        text = text[: _first_unclosed(text)].rstrip("`*_")
        is_stray = _ENDS_MARKED.search(text.translate(SAME)) is not None  # until words follow
        return "" if is_stray or is_blank(text) or text.strip() == "assistant" else text

    def _show(self, said: str) -> str:
        said = said.strip()
        if not said.startswith(self._shown):
            return ""
        piece, self._shown = said[len(self._shown) :], said
        return piece


_NUMBERS = count(1)
"""Of the calls of this process: an id is unique among those in flight."""


def needed(engine: Engine | None, agent: str) -> Engine:
    """The engine, for an agent that cannot do without one.

    Raises:
        ConfigError: There is none.
    """
    if engine is None:
        raise ConfigError(
            f"engine = None: agent {agent!r} thinks with a model; give it an engine "
            "(such as 'scripted', 'transformers', 'openai' or 'vllm')"
        )
    return engine


def seed_for(view: View, purpose: Purpose) -> int:
    """The seed of one call: what differs between two calls of a debate is in it."""
    return seed_from(view.seed, view.step, view.seat, view.act, purpose, view.candidate)


ATTEMPTS = 3
"""Tries of a sampled call that says nothing, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call."""

    text: str
    """The public words, without white space around them."""
    thoughts: str
    """The private words: in the answer, or apart from it where the server keeps them so."""
    completion: Completion
    """As the engine gave it."""


@dataclass
class Calls:
    """The calls of one act, and their samples and prompts in the order of the calls."""

    engine: Engine
    view: View
    attempts: int = ATTEMPTS
    """Largest number of tries, for a sampled call that says nothing."""
    samples: list[Sample] = field(default_factory=list)
    prompts: list[PromptRecord] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    """Of all calls that were answered, in their order."""

    async def make(
        self,
        purpose: Purpose,
        prompt: Prompt,
        sampling: Sampling,
        live: bool = False,
        thought_will_do: bool = False,
    ) -> Answer:
        """Complete `prompt`, and again with another seed where the model gave no whole answer.

        Args:
            purpose: Purpose of the call, kept with the sample.
            prompt: The prompt.
            sampling: How; a greedy call would say the same again, and is made once.
            live: Pass what is said on to the view's display as it comes.
            thought_will_do: A thought alone is an answer, as the words are private anyway.

        Raises:
            NoAnswerError: Nothing was said each time, or a filter or a tool call broke it off.
        """
        attempts = self.attempts if sampling.temperature > 0 else 1
        for attempt in range(attempts):
            completion = await self._call(prompt, _seeded(sampling, attempt), live)
            answer = _divided(completion, sampling)
            if thought_will_do and not answer.text:
                answer = replace(answer, text=answer.thoughts, thoughts="")
            cause = no_answer(answer, sampling)
            self._record(Purpose.UNANSWERED if cause else purpose, prompt, completion, sampling)
            if cause is None:
                self.thoughts += [answer.thoughts] * bool(answer.thoughts)
                return answer
            if live and answer.text and attempt + 1 < attempts:
                self._emit(ASKED_AGAIN)
        assert cause is not None  # it is made once at least
        raise NoAnswerError(self._explained(cause, purpose, answer, sampling, attempts), cause)

    def set_aside(self) -> None:
        """Take the last call for one that was not answered."""
        self.samples[-1] = self.samples[-1].model_copy(update={"purpose": Purpose.UNANSWERED})

    async def _call(self, prompt: Prompt, sampling: Sampling, live: bool) -> Completion:
        try:
            return await self._ask(prompt, sampling, live)
        except NoLogprobsError:
            if sampling.choices:  # whose probabilities are the answer
                raise
            plain = replace(sampling, logprobs=False, top_logprobs=0)
            return await self._ask(prompt, plain, live)

    async def _ask(self, prompt: Prompt, sampling: Sampling, live: bool) -> Completion:
        route = self.view.debate_id
        request = Request(prompt, sampling, id=f"{route}-{next(_NUMBERS)}", route=route)
        if live and self.view.emit is not None:
            return await self._stream(request)
        [completion] = await self.engine.generate([request])
        return completion

    async def _stream(self, request: Request) -> Completion:
        completion = None
        listener: Listener | None = None
        async for chunk in self.engine.stream(request):
            listener = listener or Listener(chunk.opened)
            self._emit(listener.add(chunk.text))
            completion = chunk.completion or completion
        if completion is None:
            raise EngineError(
                f"engine {self.engine.name!r} ended the stream of request {request.id} "
                "without a completion"
            )
        if listener is not None:
            self._emit(listener.end(_divided(completion, request.sampling).text))
        return completion

    def _emit(self, text: str) -> None:
        if text and self.view.emit is not None:
            self.view.emit(text)

    def _explained(
        self, cause: NoAnswer, purpose: Purpose, answer: Answer, sampling: Sampling, attempts: int
    ) -> str:
        """Describe the failure: who was asked for what, what came, and what may help."""
        seat = f"{self.view.role.value} {self.view.seat.value}"
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        broken_off = cause in BROKEN_OFF and not is_wordless(answer.text)
        outcome = "gave no whole answer" if broken_off else "said nothing"
        said = (BROKEN_OFF if broken_off else EXPLAINED)[cause].format(
            max_tokens=sampling.max_tokens,
            words=ascii(answer.text[:SHOWN_CHARS]),
            end=ascii(answer.text[-SHOWN_CHARS:]),
        )
        return (
            f"{answer.completion.model}: {seat} was asked for {ASKED_FOR[purpose]} and {outcome} "
            f"in {tries}: {said}"
        )

    def _record(
        self, purpose: Purpose, prompt: Prompt, completion: Completion, sampling: Sampling
    ) -> None:
        self.prompts.append(PromptRecord(prompt=prompt, token_ids=completion.prompt_ids))
        self.samples.append(
            Sample(
                purpose=purpose,
                engine=completion.engine,
                model=completion.model,
                prompt_id=prompt.id,
                text=completion.text,
                reasoning=completion.reasoning,
                opened=bool(completion.opened),
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                logprobs_temperature=completion.logprobs_temperature,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                finish_reason=completion.finish_reason,
                usage=completion.usage,
                seconds=completion.seconds,
            )
        )


SHOWN_CHARS = 200

ASKED_AGAIN = "\n\n[broken off; asked again]\n\n"
"""Shown behind words that a live display has shown already and that are no turn."""

ASKED_FOR = {
    Purpose.SPEECH: "a speech",
    Purpose.REASONING: "notes",
    Purpose.BELIEF: "a belief",
    Purpose.QUESTION: "a question",
    Purpose.ASSISTANCE: "help",
}

EXPLAINED = {
    NoAnswer.CONTENT_FILTER: "the server's content filter withheld the answer",
    NoAnswer.REFUSAL: "the model refused: {words}",
    NoAnswer.TOOL_CALLS: (
        "it called a tool in place of an answer; switch tools off in the server, or for it in "
        "extra_body"
    ),
    NoAnswer.THOUGHT_CUT: (
        "the answer is a thought that was cut off after max_tokens = {max_tokens}; raise the "
        "agent's max_tokens, or set enable_thinking = false in its engine"
    ),
    NoAnswer.THOUGHT_ONLY: (
        "the answer is a thought and nothing else; set enable_thinking = false in its engine, or "
        "take another model"
    ),
    NoAnswer.LENGTH: (
        "it was cut off after max_tokens = {max_tokens} before its first word; raise the agent's "
        "max_tokens (hidden reasoning counts as well)"
    ),
    NoAnswer.EMPTY: "the answer is empty",
}
"""Reasons for an answer without words, each with what may help."""

BROKEN_OFF = {
    NoAnswer.CONTENT_FILTER: "the server's content filter cut the answer off behind {end}",
    NoAnswer.TOOL_CALLS: (
        "it called a tool behind {end}; switch tools off in the server, or for it in extra_body"
    ),
}
"""Reasons for half an answer, which is no answer either."""


def notes_in(sample: Sample) -> str:
    """The private notes that a sample of them holds: what it says, or its thought alone."""
    found = divide(sample.text, sample.opened)
    apart = (sample.reasoning.strip(), found.thoughts)
    return found.text.strip() or "\n\n".join(filter(None, apart))


def no_answer(answer: Answer, sampling: Sampling) -> NoAnswer | None:
    """Reason for an answer that is none; None if it is one, was cancelled, or is a choice.

    Words that a content filter or a tool call broke off are half an answer, of a length that
    neither the model nor the settings chose. One that reached `max_tokens` is an answer: the limit
    is a setting, the same for all sides, and its finish reason tells.
    """
    reason = answer.completion.finish_reason
    if reason in STOPPED:
        return STOPPED[reason]
    if sampling.choices or reason is FinishReason.CANCELLED or not is_wordless(answer.text):
        return None
    cut = reason is FinishReason.LENGTH
    if answer.thoughts:
        return NoAnswer.THOUGHT_CUT if cut else NoAnswer.THOUGHT_ONLY
    return NoAnswer.LENGTH if cut else NoAnswer.EMPTY


STOPPED = {
    FinishReason.REFUSAL: NoAnswer.REFUSAL,
    FinishReason.CONTENT_FILTER: NoAnswer.CONTENT_FILTER,
    FinishReason.TOOL_CALLS: NoAnswer.TOOL_CALLS,
}
"""Ends of which no answer comes, whatever was written before them."""


def _divided(completion: Completion, sampling: Sampling) -> Answer:
    """Divide a completion into its public words and its thoughts."""
    if sampling.choices:
        return Answer(completion.text, completion.reasoning, completion)
    found: DividedText = divide(completion.text, bool(completion.opened))
    thoughts = "\n\n".join(filter(None, (completion.reasoning.strip(), found.thoughts)))
    return Answer(found.text.strip(), thoughts, completion)


def _seeded(sampling: Sampling, attempt: int) -> Sampling:
    """The sampling of an attempt: the first has the seed that was asked for."""
    if not attempt or sampling.seed is None:
        return sampling
    return replace(sampling, seed=seed_from("attempt", sampling.seed, attempt))
