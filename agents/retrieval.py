"""Retrieval: a speaker without a language model that quotes what best supports its option.

Passages of the source are ranked by how much of the question and of the
option they contain, by TF-IDF weight. Each speech quotes the best ones that
this seat has not quoted yet; from the second on, passages that speak of what
the other side quoted come first. As a critic it quotes for the best of the
other options; free to choose its stance, it agrees where the best passage of all fits the option
defended. Of an open prompt it quotes what fits the prompt, and as a critic
what the response left out. A baseline on real text, and what runs where no model is at hand.

Placebo (of `NAMES`) is the same in form and says nothing: it names its option and quotes a passage
that shares no word with the option, and as few as may be with the question. A judge who becomes
more accurate by such turns profits from the form of a debate and not from what is said.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence
from types import SimpleNamespace

from pydantic import Field

from oversight.agents._passages import PassageIndex, Query, features, index, query
from oversight.agents._stance import TakenStance, defended_option, stance_of
from oversight.agents.judging import decide, in_question_order
from oversight.agents.speaking import check_speech, label_of, own_words
from oversight.config import Settings
from oversight.types import (
    Act,
    Agent,
    Belief,
    BeliefMethod,
    Draft,
    Engine,
    JudgeKind,
    Quote,
    QuoteStatus,
    Role,
    Stance,
    Turn,
    View,
)

ROLES = frozenset({Role.DEBATER, Role.CONSULTANT, Role.CRITIC, Role.RESPONDER})

NAMES = {
    "placebo": "Placebo: fluent and verified, and about something else: what a turn does by being "
    "there at all."
}
"""A further name that this file registers (`oversight.registry`), and a line on it."""


class Config(Settings):
    """Settings of the retrieval speaker."""

    num_quotes: int = Field(default=2, ge=1, le=20)
    """Most quotes in a speech."""
    max_quote_words: int = Field(default=40, ge=8, le=200)
    """Longer sentences are cut into pieces of at most this many words."""
    option_weight: float = Field(default=2.0, gt=0.0)
    """Weight of a term of the option, where one of the question has 1."""
    rebuttal_weight: float = Field(default=0.5, ge=0.0)
    """Weight of likeness to what the other side quoted, where support has 1."""
    min_share: float = Field(default=0.75, ge=0.0, le=1.0)
    """Passages weaker than this share of the best one are not quoted beside it."""


class Retrieval:
    """Quotes the passages that support its option best."""

    name = "retrieval"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: Config) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A speech for the view's side, a response or a critique; a ready-made argument comes word
        for word.

        Raises:
            ProtocolError: The view asks for something else.
        """
        check_speech(view, self.name, (Act.SPEAK, Act.RESPOND, Act.REVISE, Act.CRITIQUE))
        taken = TakenStance(None, None)
        if view.free_stance and view.source is not None:
            taken = stance_of(view, self._belief(view, view.source.text))
        if taken.stance is Stance.AGREES:
            text = self._agreement(view)
        elif view.act is Act.CRITIQUE:
            text = self._critique(view)
        else:
            text = self._response(view) if view.role is Role.RESPONDER else self._speech(view)
        if view.emit is not None:
            view.emit(text)
        unchanged = view.role is Role.RESPONDER and [t.text for t in own_words(view)][-1:] == [text]
        return Draft(text=text, unchanged=unchanged, stance=taken.stance, score=taken.probability)

    def _belief(self, view: View, source: str) -> Belief:
        """The belief in each option by how well the best passage of the source fits it."""
        wanted = [
            query(_asked(view), view.options, option, self.config.option_weight)
            for option in range(len(view.options))
        ]
        passages = index(source, self.config.max_quote_words)
        best = [
            max((score for score, _ in ranking(passages, each)), default=0.0) for each in wanted
        ]
        even = [1.0] * len(best)
        listing = tuple(range(len(best)))
        probs = in_question_order(best if sum(best) > 0.0 else even, listing)
        return decide(probs, BeliefMethod.LEXICAL, "", None)

    def _agreement(self, view: View) -> str:
        """Agreement with the last speech, with the next best passages for its option."""
        assert view.source is not None
        quotes, _ = self._quotes(view, view.source.text, defended_option(view))
        if not quotes:
            return "I agree with this speech, and found no further passage."
        passages = " It also says: ".join(f"<quote>{quote}</quote>" for quote in quotes)
        return f"I agree with this speech. The source also says: {passages}"

    def _response(self, view: View) -> str:
        """A response that quotes the source; a revision adds passages that were not quoted yet."""
        said = [turn.text for turn in own_words(view)]
        if view.source is None:
            return "I have no source to answer from."
        quotes, _ = self._quotes(view, view.source.text, None)
        if not quotes:
            return said[-1] if said else "I found nothing in the source that answers this."
        passages = " It also says: ".join(f"<quote>{quote}</quote>" for quote in quotes)
        return f"{said[-1]} It also says: {passages}" if said else f"The source says: {passages}"

    def _speech(self, view: View) -> str:
        side = view.side or 0
        again = bool(own_words(view))
        if view.argument is not None and not again:
            return view.argument
        option = view.options[side]
        if view.source is not None:
            quotes, _ = self._quotes(view, view.source.text, side)
            return quoting(option, quotes, again)
        if view.argument is not None:
            return standing(self._points(view, view.argument))
        return f"I defend this answer: {_ended(option)} I have no source to quote from."

    def _critique(self, view: View) -> str:
        """Critique of what the last speech made up, with the best case for another option."""
        if view.source is None:
            noun = "speech" if view.options else "response"
            return f"I have no source to check this {noun} against."
        if not view.options:
            return self._critique_of_response(view, view.source.text)
        source, last = view.source.text, [turn for turn in view.turns if turn.argues][-1:]
        defended = [view.orders.defended_by(turn.seat) for turn in last]
        others = [option for option in range(len(view.options)) if option not in defended]
        found = [self._quotes(view, source, option) for option in others]
        left_out, _ = max(found, key=operator.itemgetter(1))
        false = [quote.text for turn in last for quote in turn.quotes if _is_false(quote)]
        short = [" ".join(text.split()[: self.config.max_quote_words]) for text in false]
        return criticising(_within(short, view.max_words), left_out)

    def _critique_of_response(self, view: View, source: str) -> str:
        """A critique that names false quotes and fitting passages that were left out."""
        last = [turn for turn in view.turns if turn.role is Role.RESPONDER][-1:]
        false = [quote.text for turn in last for quote in turn.quotes if _is_false(quote)]
        short = [" ".join(text.split()[: self.config.max_quote_words]) for text in false]
        left_out, _ = self._quotes(view, source, None)
        return criticising(_within(short, view.max_words), left_out, "response")

    def _quotes(self, view: View, source: str, option: int | None) -> tuple[list[str], float]:
        """The next passages to quote for `option`, or for an open prompt, best first, and the best
        one's score."""
        passages = index(source, self.config.max_quote_words)
        # The consultant did not leave out the passages that it quoted itself.
        used = _used(view.turns if view.act is Act.CRITIQUE else own_words(view), passages)
        if option is None:
            wanted = Query(dict.fromkeys(sorted(_asked(view)), 1.0), frozenset())
        else:
            wanted = query(_asked(view), view.options, option, self.config.option_weight)
        answered = [q.text for turn in _opposing(view) for q in turn.quotes if _is_true(q)]
        best = ranking(passages, wanted, answered, self.config.rebuttal_weight)
        order = [(score, i) for score, i in best if i not in used][view.candidate :]
        chosen = [
            passages.texts[i]
            for score, i in order[: self.config.num_quotes]
            if score >= self.config.min_share * order[0][0]
        ]
        return _within(chosen, view.max_words), order[0][0] if order else 0.0

    def _points(self, view: View, argument: str) -> list[str]:
        """The sentences of an argument that speak to what the other side said last."""
        passages = index(argument, self.config.max_quote_words)
        said = [turn.text for turn in _opposing(view)][-1:]
        wanted = query(_asked(view), view.options, view.side or 0, self.config.option_weight)
        best = ranking(passages, wanted, said, self.config.rebuttal_weight)[view.candidate :]
        chosen = [passages.texts[i] for _, i in best[: self.config.num_quotes]]
        return _within(chosen, view.max_words)


def build(config: Config, engine: Engine | None) -> Agent:
    """A retrieval speaker; it leaves `engine` unused."""
    return Retrieval(config)


def ranking(
    passages: PassageIndex,
    wanted: Query,
    answered: Sequence[str] = (),
    rebuttal_weight: float = 0.0,
) -> list[tuple[float, int]]:
    """Passages with their scores, best first; among equals the one that stands later.

    If any passage mentions the option, those that do not are left out.
    """
    scores = passages.coverage(wanted.weights)
    if answered and rebuttal_weight:
        said = dict.fromkeys(sorted(term for text in answered for term in features(text)), 1.0)
        scores = scores + rebuttal_weight * passages.coverage(said)
    naming = passages.coverage(dict.fromkeys(sorted(wanted.distinctive), 1.0))
    mentioning = [i for i, share in enumerate(naming) if share > 0.0]
    among = mentioning or range(len(passages.spans))
    return sorted(((float(scores[i]), i) for i in among), key=lambda s: (-round(s[0], 6), -s[1]))


def _asked(view: View) -> list[str]:
    """Features of the question, and of what the judge asked last."""
    remarks = [turn.text for turn in view.turns if turn.act is Act.ASK]
    return [word for text in (view.question, *remarks[-1:]) for word in features(text)]


def _opposing(view: View) -> list[Turn]:
    return [t for t in view.turns if t.act.is_spoken and t.seat is not view.seat]


def _is_true(quote: Quote) -> bool:
    return quote.status is QuoteStatus.VERIFIED


def _is_false(quote: Quote) -> bool:
    return quote.status is QuoteStatus.UNVERIFIED


def _used(speeches: Sequence[Turn], passages: PassageIndex) -> set[int]:
    """Passages that were quoted already, found by their place or by their words."""
    quotes = [quote for turn in speeches for quote in turn.quotes]
    words = {" ".join(quote.text.split()) for quote in quotes}
    places = [(q.source_start, q.source_end) for q in quotes]
    return {
        i
        for i, (start, end) in enumerate(passages.spans)
        if " ".join(passages.texts[i].split()) in words
        or any(a is not None and b is not None and a < end and start < b for a, b in places)
    }


def _within(chosen: list[str], max_words: int) -> list[str]:
    """As many of `chosen` as the word limit allows, one at least."""
    counts = [len(text.split()) for text in chosen]
    fitting = [i for i in range(len(chosen)) if sum(counts[: i + 1]) <= max_words]
    return chosen[: max(len(fitting), 1)]


def _ended(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def quoting(option: str, quotes: Sequence[str], again: bool) -> str:
    """A speech that quotes `quotes`, or says that there is nothing left to quote."""
    if not quotes and again:
        return f"I have no further passage to quote. I stand by this answer: {_ended(option)}"
    if not quotes:
        return f"I defend this answer: {_ended(option)} I found no passage to quote for it."
    lead = "I stand by this answer" if again else "I defend this answer"
    passages = " It also says: ".join(f"<quote>{quote}</quote>" for quote in quotes)
    return f"{lead}: {_ended(option)} The source says: {passages}"


def criticising(false: Sequence[str], left_out: Sequence[str], noun: str = "speech") -> str:
    """A critique of a speech, or a response, with false quotes, which leaves passages out."""
    said = [f"These words are not in the source: {text}" for text in false]
    if left_out:
        passages = " It also says: ".join(f"<quote>{quote}</quote>" for quote in left_out)
        said.append(f"The {noun} leaves out what else the source says: {passages}")
    return " ".join(said) or f"I found nothing wrong with this {noun}."


def standing(points: Sequence[str]) -> str:
    """A later speech without a source, which repeats what matters most of the argument."""
    return "I stand by my argument, above all by this: " + " ".join(_ended(p) for p in points)


# --- placebo ---


class PlaceboConfig(Settings):
    """Settings of the placebo speaker."""

    max_quote_words: int = Field(default=40, ge=8, le=200)
    """Longer sentences are cut into pieces of at most this many words."""


class Placebo:
    """Quotes what has nothing to do with its option."""

    name = "placebo"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: PlaceboConfig) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A speech for the view's side.

        Raises:
            ProtocolError: The view asks for something else.
        """
        check_speech(view, self.name, (Act.SPEAK, Act.REVISE))
        option = view.options[view.side or 0]
        text = f"{label_of(view.side or 0, view.orders.options)}: {option}."
        passage = self._passage(view)
        if passage is not None:
            text += f" <quote>{passage}</quote>"
        if view.emit is not None:
            view.emit(text)
        return Draft(text=text)

    def _passage(self, view: View) -> str | None:
        """One drawn of the passages that share least with the options and the question."""
        if view.source is None:
            return None
        passages = index(view.source.text, self.config.max_quote_words).texts
        asked = set(features(view.question))
        named = {word for option in view.options for word in features(option)}
        overlap = [
            (len(named & words), len(asked & words)) for words in map(set, map(features, passages))
        ]
        least = min(overlap, default=(0, 0))
        among = [text for text, found in zip(passages, overlap, strict=True) if found == least]
        return random.Random(view.seed).choice(among).removesuffix(".") if among else None


def named(name: str) -> SimpleNamespace:
    """The agent of one of `NAMES`, with what a module of its own would hold."""
    return SimpleNamespace(
        __doc__=NAMES[name],
        ROLES=frozenset({Role.DEBATER, Role.CONSULTANT}),
        Config=PlaceboConfig,
        build=lambda config, engine: Placebo(config),
    )
