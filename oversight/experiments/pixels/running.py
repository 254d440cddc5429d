"""A run: every match on every image, for each number of pixels.

All games of an image with one number of pixels are written in one transaction. A game that is
complete in the store is not played again: a run that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from oversight.errors import ConfigError, StoreError
from oversight.experiments.pixels.game import MATCHES, PixelMatch, Search, play
from oversight.experiments.pixels.judge import (
    Images,
    SparseJudge,
    Split,
    as_tensor,
    load_images,
    obtain_judge,
)
from oversight.experiments.pixels.records import Player, key_of, question_of, records
from oversight.experiments.pixels.settings import PixelSettings
from oversight.ids import seed_from
from oversight.store import Store
from oversight.types import Question, Transcript

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
        found = {key for key, _ in stored_games(store, split.name)} & games.keys()
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
