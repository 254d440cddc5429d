"""A run: every match on every image, for each number of pixels, each game as the project's records.

These are question, debate, turns, judgment and outcome; a game is read back from them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError, StoreError
from oversight.experiments.pixels import PixelSettings
from oversight.experiments.pixels.game import MATCHES, GameKind, PixelGame, PixelMatch, Search, play
from oversight.experiments.pixels.judge import (
    NUM_LABELS,
    Images,
    SparseJudge,
    Split,
    as_tensor,
    load_images,
    obtain_judge,
)
from oversight.ids import content_id, seed_from
from oversight.store import Store
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Stored,
    Transcript,
    Turn,
    Verdict,
)

JUDGE = "sparse"
"""Name of the judge in the records; which one it is stands in its agent's settings."""

GRAPH_OF_FORM = {
    GameKind.DEBATE: "debate",
    GameKind.OPEN: "debate",
    GameKind.ADVISOR: "consultancy",
    GameKind.ALONE: "direct_qa",
}

ABOUT = {
    GameKind.DEBATE: "Both sides claim a label, then show one pixel each in turn.",
    GameKind.OPEN: "Two sides show one pixel each in turn, and commit to no label before.",
    GameKind.ADVISOR: "One side alone shows all pixels, for the label that it defends.",
    GameKind.ALONE: "The judge is shown random pixels, and nobody argues.",
}

SHOWS = re.compile(r"row (\d+), column (\d+): (\d+)")


@dataclass(frozen=True, slots=True)
class Player:
    """The facts of a run that its debates depend on: the judge, and the seed."""

    dataset: str
    pixels: int
    weights: str
    """The judge's fingerprint."""
    seed: int

    def agents(self, match: PixelMatch) -> dict[Role, AgentSpec]:
        """Agents of a match by role."""
        settings: dict[str, Any] = {"pixels": self.pixels, "weights": self.weights}
        judge = AgentSpec(agent=JUDGE, settings=settings)
        if match.form is GameKind.ALONE:
            return {Role.JUDGE: judge}
        skills: dict[str, Any] = {"honest": match.honest.value, "liar": match.liar.value}
        if match.form is GameKind.DEBATE:
            skills["lie"] = match.lie.value
        role = Role.CONSULTANT if match.form is GameKind.ADVISOR else Role.DEBATER
        return {Role.JUDGE: judge, role: AgentSpec(agent=speakers(match), settings=skills)}

    def key(self, question: Question, match: PixelMatch, honest_first: bool) -> str:
        """Key of a game before it is played: of all but the lie, which is a move of it."""
        return _key(
            question.fingerprint,
            protocol(match.form, self.pixels),
            self.agents(match),
            honest_first,
            self.seed,
        )


def speakers(match: PixelMatch) -> str:
    """A short name of who plays, for tables."""
    if match.honest is match.liar:
        name = match.honest.value
    else:
        name = f"{match.honest.value} v {match.liar.value}"
    drawn = match.form is GameKind.DEBATE and match.lie == "drawn" and match.honest == "search"
    return f"{name}, drawn lie" if drawn else name


@lru_cache
def protocol(form: GameKind, pixels: int) -> OversightProtocol:
    """The steps of a game with so many pixels."""
    a, b = Step(slots=(Slot(seat=Seat.A),)), Step(slots=(Slot(seat=Seat.B),))
    both = Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B)))
    look = Step(slots=(Slot(seat=Seat.JUDGE, act=Act.ASK),))
    name = f"pixels{pixels}_{form.value}"
    about: dict[str, Any] = {"name": name, "graph": GRAPH_OF_FORM[form], "description": ABOUT[form]}
    if form is GameKind.ALONE:
        return OversightProtocol(**about, opening=(look,))
    if form is GameKind.ADVISOR:
        return OversightProtocol(**about, round=(a,), rounds=pixels)
    opening = (both,) if form is GameKind.DEBATE else ()
    return OversightProtocol(**about, opening=opening, round=(a, b), rounds=pixels // 2)


def key_of(debate: Debate, correct: int | None) -> str:
    """`Player.key` of a game in the store."""
    honest_first = not debate.protocol.speakers or debate.orders.defends[0] == correct
    return _key(
        debate.question_fingerprint, debate.protocol, debate.agents, honest_first, debate.seed
    )


def _key(
    fingerprint: str,
    played: OversightProtocol,
    agents: dict[Role, AgentSpec],
    honest_first: bool,
    seed: int,
) -> str:
    specs = {role.value: spec.model_dump(mode="json") for role, spec in agents.items()}
    return content_id(fingerprint, played.model_dump(mode="json"), specs, honest_first, seed)


def question_of(images: Images, index: int, dataset: str) -> Question:
    """The question which digit an image shows; the image is the source that the players know."""
    rows = images.values[index].reshape(images.side, images.side)
    text = "\n".join(" ".join(str(value) for value in row) for row in rows.tolist())
    name = f"{dataset}:{images.ids[index]}"
    return Question(
        id=name,
        dataset=dataset,
        split="held_out",
        text="Which digit does the image show?",
        options=tuple(Option(text=str(label)) for label in range(NUM_LABELS)),
        correct=int(images.labels[index]),
        source=Source(title=f"Image {images.ids[index]} of {dataset}", text=text),
        meta={"side": images.side, "top": images.top},
    )


def records(game: PixelGame, question: Question, player: Player, seconds: float) -> list[Stored]:
    """All that is to be stored of a game, in one transaction."""
    form = game.match.form
    orders = Orders(
        options=tuple(range(NUM_LABELS)), defends=_defends(game, question), shown=(Seat.A, Seat.B)
    )
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol(form, player.pixels),
        agents=player.agents(game.match),
        orders=orders,
        seed=player.seed,
    )
    judgment = Judgment(
        debate_id=debate.id, judge=JUDGE, kind=JudgeKind.MODEL, orders=orders, final=_belief(game)
    )
    outcome = Outcome(
        debate_id=debate.id,
        status=OutcomeStatus.COMPLETE,
        seconds=seconds,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return [question, debate, *_turns(game, question, debate), judgment, outcome]


def _defends(game: PixelGame, question: Question) -> tuple[int, ...]:
    """Labels of seats A and B; a seat that nobody takes has one that is not taken."""
    if len(game.defended) == 2:
        return game.defended
    first = game.defended[0] if game.defended else question.correct or 0
    return (first, next(k for k in range(NUM_LABELS) if k != first))


def _turns(game: PixelGame, question: Question, debate: Debate) -> list[Turn]:
    said = [says(question, pixel) for pixel in game.shown]
    if game.match.form is GameKind.ALONE:
        texts = ["\n".join(said)]
    elif game.match.form is GameKind.DEBATE:
        texts = [f"The digit is {label}." for label in game.defended] + said
    else:
        texts = said
    role = debate.protocol.speaker_role if debate.protocol.speakers else Role.JUDGE
    slots = [(step, slot) for step in debate.protocol.schedule() for slot in step.slots]
    return [
        Turn(
            debate_id=debate.id,
            step=step.index,
            round=step.round,
            seat=slot.seat,
            role=role,
            act=slot.act,
            text=text,
        )
        for (step, slot), text in zip(slots, texts, strict=True)
    ]


def _belief(game: PixelGame) -> Belief:
    return Belief(
        verdict=Verdict.DECIDED, method=BeliefMethod.LOGPROBS, probs=game.probs, mass=game.mass
    )


def says(question: Question, pixel: int) -> str:
    """The words that show a pixel."""
    grid = image_of(question)
    row, column = divmod(pixel, len(grid))
    return f"row {row + 1}, column {column + 1}: {grid[row][column]}"


def image_of(question: Question) -> list[list[int]]:
    """The image that a question is about, as rows of values."""
    if question.source is None:
        raise ValueError(f"question {question.id!r} has no image")
    return [[int(value) for value in line.split()] for line in question.source.text.splitlines()]


def shown_in(turns: Sequence[Turn]) -> list[tuple[Seat, int, int]]:
    """(seat, row, column), counted from 0, of every pixel that was shown, in order."""
    return [
        (turn.seat, int(row) - 1, int(column) - 1)
        for turn in turns
        for row, column, _ in SHOWS.findall(turn.text)
    ]


RUNNING = "pixel games"
"""Claim of a process on a store while it plays there."""


@dataclass(frozen=True, slots=True)
class PlannedGame:
    """One game that a run consists of."""

    pixels: int
    match: PixelMatch
    honest_first: bool


@dataclass(frozen=True, slots=True)
class Board:
    """All games of one image with one number of pixels."""

    index: int
    """Place of the image among those played on."""
    question: Question
    player: Player
    games: Mapping[str, PlannedGame]
    """By `Player.key`."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended, with its games."""

    settings: PixelSettings
    dataset: str
    num_train: int
    num_held_out: int
    num_found: int
    """Games that were in the store before."""
    num_played: int
    share_exact: Mapping[int, float] | None
    """By number of pixels: on how many of the images of this run the whole game was searched;
    None where nothing was left to play."""
    games: Mapping[str, PlannedGame]


@dataclass(frozen=True, slots=True)
class PixelProgress:
    """Progress of a run: judges first, then games."""

    doing: str
    done: int
    found: int
    total: int


Report = Callable[[PixelProgress], None]


def run(settings: PixelSettings, store: Store, report: Report = lambda _: None) -> FinishedRun:
    """Train the judges or find them in `settings.out`, then play what is not played yet.

    Raises:
        ConfigError: There are fewer held-out images than asked for.
        DataError: MNIST's files are absent or damaged.
        StoreError: Another process is playing in this store.
    """
    split = load_images(settings.mnist, settings.seed)
    images = _chosen(split, settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        return _run(settings, store, split, images, report)


def _run(
    settings: PixelSettings, store: Store, split: Split, images: Images, report: Report
) -> FinishedRun:
    judges = {number: _judge(split, number, settings, report) for number in settings.pixels}
    with _alone_in(store):
        boards = _plan(settings, split.name, images, judges)
        games = {key: game for board in boards for key, game in board.games.items()}
        stored = {key: each.debate.id for key, each in stored_games(store, split.name)}
        found = stored.keys() & games.keys()
        store.include({stored[key]: stored[key] for key in found})
        exact = _play_all(boards, images, judges, store, found, len(games), report)
    return FinishedRun(
        settings=settings,
        dataset=split.name,
        num_train=len(split.train),
        num_held_out=len(split.held_out),
        num_found=len(found),
        num_played=len(games) - len(found),
        share_exact=exact,
        games=games,
    )


def stored_games(store: Store, dataset: str) -> Iterator[tuple[str, Transcript]]:
    """Every complete game on a data set's images, with its key."""
    for transcript in store.transcripts(dataset=dataset):
        yield key_of(transcript.debate, transcript.question.correct), transcript


def _chosen(split: Split, settings: PixelSettings) -> Images:
    usable = split.held_out.with_pixels(max(settings.pixels))
    if len(usable) < settings.images:
        raise ConfigError(
            f"images = {settings.images}: only {len(usable)} held-out images of {split.name} "
            f"have {max(settings.pixels)} pixels that are not zero"
        )
    return usable.pick(np.arange(settings.images))


def _judge(split: Split, number: int, settings: PixelSettings, report: Report) -> SparseJudge:
    def on_step(done: int, total: int) -> None:
        report(PixelProgress(f"training the judge of {number} pixels", done, 0, total))

    seed = seed_from("judge", number, settings.seed)
    return obtain_judge(split.train, number, settings.judge, seed, settings.out, on_step)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: most steps are so small that on a busy machine threads wait for one
    another many times longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _alone_in(store: Store) -> Iterator[None]:
    """Nobody else plays in the store meanwhile: two would play the same games."""
    if not store.claim([RUNNING]):
        raise StoreError(
            f"store {store.url}: another process is playing pixel games in it; wait for it, or "
            "choose another --out"
        )
    try:
        yield
    finally:
        store.release([RUNNING])


def _plan(
    settings: PixelSettings, dataset: str, images: Images, judges: Mapping[int, SparseJudge]
) -> list[Board]:
    """Every game, image by image: those with as many usable pixels together, whose sets of
    pixels have the same places."""
    players = {
        number: Player(dataset, number, judge.fingerprint(), settings.seed)
        for number, judge in judges.items()
    }
    order = np.argsort((images.values > 0).sum(1), kind="stable").tolist()
    boards = []
    for number, player in players.items():
        for index in order:
            question = question_of(images, index, dataset)
            games = {
                player.key(question, match, first): PlannedGame(number, match, first)
                for match in MATCHES
                for first in match.orders
            }
            boards.append(Board(index, question, player, games))
    return boards


def _play_all(
    boards: list[Board],
    images: Images,
    judges: Mapping[int, SparseJudge],
    store: Store,
    found: set[str],
    total: int,
    report: Report,
) -> dict[int, float] | None:
    """Play what is not in `found`; the share of images by number that were searched whole."""
    values = as_tensor(images)
    exact: dict[int, list[bool]] = {}
    done = 0
    for board in boards:
        missing = [key for key in board.games if key not in found]
        if missing:
            pixels = board.player.pixels
            search = Search(
                judges[pixels], values[board.index], board.question.correct or 0, pixels
            )
            _play_board(board, missing, search, store)
            exact.setdefault(pixels, []).append(search.exact)
            done += len(missing)
        report(PixelProgress("games", done, len(found), total))
    return {n: sum(each) / len(each) for n, each in exact.items()} or None


def _play_board(board: Board, missing: list[str], search: Search, store: Store) -> None:
    rows = []
    for key in missing:
        begin = time.perf_counter()
        planned = board.games[key]
        game = play(search, planned.match, planned.honest_first, _seed(board, planned))
        seconds = time.perf_counter() - begin
        rows += records(game, board.question, board.player, seconds)
    store.add(*rows)


def _seed(board: Board, planned: PlannedGame) -> int:
    """Of a game's draws. The judge's weights have no part in it: they differ a little from one
    kind of processor to another, and what is drawn should not."""
    match = planned.match
    words = (match.form.value, match.honest.value, match.liar.value, match.lie.value)
    return seed_from(
        "pixels", board.player.seed, board.question.id, planned.pixels, *words, planned.honest_first
    )
