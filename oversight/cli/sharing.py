"""Reading the debates of a large report with two processes, each a part of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oversight.evals.gathering import GatheredDebates
    from oversight.evals.properties import Property
    from oversight.store import Store as OpenStore
    from oversight.types import Transcript

MIN_SHARED = 5000
"""Debates of a group from which on a second process reads a part of them."""
SHARE = 4 / 9
"""Share that it reads: it has modules to load first, and what it measured to hand over."""


@dataclass(frozen=True)
class ReadPart:
    """Debates of a group that another process reads."""

    group: str
    store: str
    """Its name among those reported on."""
    url: str
    debate_ids: Sequence[str]
    runs: Sequence[str]


def divided(debate_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Debates that this process reads, and those that another one does: none of few.

    Many stay in the order of writing, in which those on one question stand together and the
    question is read once; a report does not depend on the order.
    """
    if len(debate_ids) < MIN_SHARED or (os.cpu_count() or 1) < 2:
        return sorted(debate_ids), []
    middle = len(debate_ids) - int(SHARE * len(debate_ids))
    return list(debate_ids[:middle]), list(debate_ids[middle:])


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is looked for meanwhile.

    What a report gathers lives until its end, and each search would go through all of it: a
    quarter of the time of a large one. Transcripts have no cycles, and leave when they are read.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def gather(
    parts: Sequence[ReadPart], by: Sequence[Property]
) -> tuple[GatheredDebates, list[tuple[int, str]]]:
    """Measurements of the debates of `parts`, and those that are left: (part, debate id)."""
    from oversight.evals.breakdown import RunMembership
    from oversight.evals.gathering import GatheredDebates
    from oversight.store import Store as OpenStore

    members: dict[str, RunMembership] = {}
    gathered, left = GatheredDebates(by, members), []
    for number, part in enumerate(parts):
        with uncollected(), OpenStore.open(part.url, create=False, only_read=True) as store:
            tags = {each.name: each.tags for each in store.runs()}
            members[part.group] = RunMembership(runs_by_debate(store), tags)
            for transcript in store.transcripts(debate_ids=part.debate_ids, runs=part.runs):
                if gathered.is_mergeable(transcript):
                    gathered.add(transcript, part.group)
                else:
                    left.append((number, transcript.debate.id))
    return gathered, left


Gathering = Iterator[tuple["GatheredDebates", Iterator[tuple[str, "Transcript"]]]]


@contextmanager
def read_beside(
    parts: Sequence[ReadPart], by: Sequence[Property], opened: Mapping[str, OpenStore]
) -> Iterator[Gathering]:
    """Read `parts` in a process of its own while this one reads the rest.

    What is yielded waits for that process when it is asked. If the process was killed, all of it is
    read here.
    """
    from oversight.evals.beside import beside
    from oversight.evals.gathering import GatheredDebates

    def again(left: Sequence[tuple[int, str]]) -> Iterator[tuple[str, Transcript]]:
        for number, part in enumerate(parts):
            ids = [each for place, each in left if place == number]
            found = opened[part.store].transcripts(debate_ids=ids, runs=part.runs) if ids else ()
            yield from ((part.group, each) for each in found)

    if not parts:
        yield iter(())
        return
    with beside(gather, parts, by) as gathered_beside:

        def found() -> Gathering:
            every = [(n, each) for n, part in enumerate(parts) for each in part.debate_ids]
            gathered, left = gathered_beside() or (GatheredDebates(by, {}), every)
            yield gathered, again(left)

        yield found()


def runs_by_debate(store: OpenStore) -> Callable[[str], Sequence[str]]:
    """From a debate's id to its runs, which are read when the first is asked for."""
    known: dict[str, list[str]] = {}

    def runs_of(debate_id: str) -> Sequence[str]:
        if not known:
            known.update(store.runs_of(store.debate_ids()))
        return known.get(debate_id, ())

    return runs_of
