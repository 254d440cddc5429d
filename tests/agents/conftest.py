"""Views to act on, and an engine that notes what it is asked, as fixtures that make them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    Belief,
    BeliefMethod,
    Capabilities,
    Chunk,
    Completion,
    FinishReason,
    Help,
    HelpRequest,
    Orders,
    PrinciplesApplied,
    RatingRequest,
    Request,
    Role,
    Seat,
    Source,
    Task,
    Turn,
    Usage,
    Verdict,
    View,
)

STORY = Source(
    title="The house",
    text=(
        "At 09:40 Ada carried the lantern to the attic.\n"
        "At 10:05 Bea carried the map to the attic.\n"
        "At 10:30 Bea moved the lantern down to the cellar.\n"
        "At 11:15 Ada brought the kettle to the kitchen.\n"
    ),
)
SPEECH = "<quote>At 09:40 Ada carried the lantern to the attic.</quote> It never left."
CRITICISM = (
    "That was early: <quote>At 10:30 Bea moved the lantern down to the cellar.</quote> "
    "And <quote>it never left the attic again</quote> is made up."
)
ORDERS = Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B))


class NotingEngine:
    """Answers with what `answer` makes of a request, and keeps every request."""

    name = "noting"
    model = "none"

    def __init__(
        self, answer: Callable[[Request], Completion | str], capabilities: Capabilities
    ) -> None:
        self.answer = answer
        self.capabilities = capabilities
        self.requests: list[Request] = []
        self.num_streamed = 0

    def _complete(self, request: Request) -> Completion:
        self.requests.append(request)
        made = self.answer(request)
        return made if isinstance(made, Completion) else _completion(made, request.id)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._complete(request) for request in requests]

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        self.num_streamed += 1
        whole = self._complete(request)
        middle = len(whole.text) // 2
        yield Chunk(whole.text[:middle])
        yield Chunk(whole.text[middle:], whole)

    async def cancel(self, request_id: str) -> None: ...

    async def aclose(self) -> None: ...


def _completion(
    text: str,
    request_id: str = "",
    finish_reason: FinishReason = FinishReason.STOP,
    top: Sequence[tuple[str, float]] = (),
) -> Completion:
    """A completion of one token a character."""
    ids = tuple(range(len(text)))
    return Completion(
        request_id=request_id,
        text=text,
        prompt_ids=(7, 8, 9),
        token_ids=ids,
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=3, completion_tokens=len(ids)),
        engine="noting",
        model="none",
        seconds=0.0,
        logprobs=(-0.5,) * len(ids),
        top=(tuple(top),) if top else (),
    )


@pytest.fixture
def noting() -> Callable[..., NotingEngine]:
    """Make an engine from an answer (a text, a completion, or a function of the request)."""

    def make(answer: Any = "Words.", *, choices: bool = False) -> NotingEngine:
        function = answer if callable(answer) else lambda request: answer
        return NotingEngine(function, Capabilities(logprobs=choices, choices=choices))

    return make


def _view(**changes: Any) -> View:
    """A debater's view at the opening of the lantern question, with `changes`."""
    fields: dict[str, Any] = {
        "debate_id": "d1",
        "question": "Where is the lantern at the end?",
        "options": ("in the attic", "in the cellar"),
        "orders": ORDERS,
        "source": STORY,
        "turns": (),
        "seat": Seat.A,
        "role": Role.DEBATER,
        "act": Act.SPEAK,
        "step": 0,
        "round": 1,
        "num_rounds": 3,
        "max_words": 150,
        "seed": 1,
    }
    fields |= changes
    if "side" not in fields and fields["seat"] is not Seat.JUDGE:
        fields["side"] = fields["orders"].defended_by(fields["seat"])
    return View(**fields)


def _judge_view(act: Act = Act.DECIDE, **changes: Any) -> View:
    """A judge's view of the lantern question."""
    fields: dict[str, Any] = {"seat": Seat.JUDGE, "role": Role.JUDGE, "act": act, "source": None}
    return _view(**(fields | changes))


def _turn(text: str, seat: Seat = Seat.A, round: int = 1, **changes: Any) -> Turn:
    """A turn with its quotes checked against the story."""
    fields: dict[str, Any] = {
        "debate_id": "d1",
        "step": round,
        "round": round,
        "seat": seat,
        "role": Role.JUDGE if seat is Seat.JUDGE else Role.DEBATER,
        "act": Act.ASK if seat is Seat.JUDGE else Act.SPEAK,
        "text": text,
        "quotes": () if seat is Seat.JUDGE else find_quotes(text, STORY),
    }
    return Turn(**(fields | changes))


@pytest.fixture
def make_view() -> Callable[..., View]:
    return _view


@pytest.fixture
def judge_view() -> Callable[..., View]:
    return _judge_view


def _critic_view(**changes: Any) -> View:
    """The critic's view after the consultant, for the attic, has spoken once."""
    fields: dict[str, Any] = {
        "seat": Seat.B,
        "role": Role.CRITIC,
        "act": Act.CRITIQUE,
        "side": None,
        "step": 1,
        "num_rounds": 1,
        "turns": (_turn(SPEECH, role=Role.CONSULTANT, step=0),),
    }
    return _view(**(fields | changes))


def _reviser_view(**changes: Any) -> View:
    """The consultant's view after the criticism of its speech."""
    said = _turn(CRITICISM, Seat.B, role=Role.CRITIC, act=Act.CRITIQUE, step=1)
    fields: dict[str, Any] = {
        "role": Role.CONSULTANT,
        "act": Act.REVISE,
        "step": 2,
        "num_rounds": 1,
        "turns": (*_critic_view().turns, said),
    }
    return _view(**(fields | changes))


def _responder_view(act: Act = Act.RESPOND, **changes: Any) -> View:
    """A responder's view of an open prompt, before its answer or after the criticism of it."""
    fields: dict[str, Any] = {
        "question": "Tell me where the lantern is.",
        "options": (),
        "orders": Orders(options=(), defends=(), shown=(Seat.A, Seat.B)),
        "role": Role.RESPONDER,
        "act": act,
        "side": None,
        "num_rounds": 1,
    }
    if act is not Act.RESPOND:
        said = _turn(SPEECH, role=Role.RESPONDER, act=Act.RESPOND, step=0)
        about = _turn(CRITICISM, Seat.B, role=Role.CRITIC, act=Act.CRITIQUE, step=1)
        fields |= {"turns": (said, about), "step": 2}
    return _view(**(fields | changes))


@pytest.fixture
def responder_view() -> Callable[..., View]:
    return _responder_view


@pytest.fixture
def helped_view() -> Callable[..., View]:
    """Make a judge's view that asks an assistant for help."""

    def make(help: Help, text: str = "The lantern never left.", **changes: Any) -> View:
        turns = (_turn(SPEECH), _turn(CRITICISM, Seat.B))
        belief = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.HUMAN, probs=(0.7, 0.3))
        request = HelpRequest(help, text, turns[0], belief)
        fields: dict[str, Any] = {"role": Role.ASSISTANT, "turns": turns, "request": request}
        return _judge_view(Act.ASSIST, **(fields | changes))

    return make


@pytest.fixture
def rated_view() -> Callable[..., View]:
    """Make a rater's view of two responses, of one, or of a response, criticism and revision."""

    def make(task: Task, *, swapped: bool = False, **changes: Any) -> View:
        first = _turn(SPEECH, role=Role.RESPONDER, act=Act.RESPOND, step=0)
        about = _turn(CRITICISM, Seat.B, role=Role.CRITIC, act=Act.CRITIQUE, step=1)
        last = _turn("In the cellar.", role=Role.RESPONDER, act=Act.REVISE, step=2)
        shown = {
            Task.PAIRS: (first, last.model_copy(update={"act": Act.RESPOND, "step": 0})),
            Task.PRINCIPLES: (first,),
            Task.REVISIONS: (first, about, last),
        }[task]
        rules = PrinciplesApplied(
            constitution="house", fingerprint="f", principles=changes.pop("principles", RULES)
        )
        request = RatingRequest(task, shown[::-1] if swapped else shown, rules, swapped)
        return _responder_view(
            seat=Seat.JUDGE,
            **({"role": Role.RATER, "rating": request} | changes),
            act=Act.RATE,
            turns=(),
        )

    return make


RULES = {"plain": "Say it plainly."}


@pytest.fixture
def critic_view() -> Callable[..., View]:
    return _critic_view


@pytest.fixture
def reviser_view() -> Callable[..., View]:
    return _reviser_view


@pytest.fixture
def make_turn() -> Callable[..., Turn]:
    return _turn


@pytest.fixture
def completion() -> Callable[..., Completion]:
    return _completion


@pytest.fixture
def story() -> Source:
    return STORY
