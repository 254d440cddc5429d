"""Texts as they grow, of which nothing is sent that a check may still stop.

Every check reads the text from left to right. A stretch that starts at i is decided by the
characters up to i + reach, so all starts further back than the reach are settled, and what stands
before the first start that is not settled by every check can be sent. The same code with all of the
text at once gives the whole verdict: how a text is cut into pieces changes nothing.

A stretch that a stopping rule finds ends the text at its start; a rule that replaces puts its words
in place of the stretch, and of others that overlap it. Checks read what the model wrote, never a
replacement.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oversight.guard.checks.base import CHARACTERS, Passage, Reading, TextCheck

logger = logging.getLogger(__name__)

KEPT = 512
"""Settled characters that a reading keeps before it lets them go, all at once."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """A text check under the name that the policy gives it, and what follows from a finding."""

    name: str
    check: TextCheck
    stops: bool = False
    replacement: str | None = None
    """Words in place of what was found; None where it stays."""
    opens: frozenset[str] = frozenset()
    """Whole checks that are asked only if this one has found something: from its first finding on
    everything waits for them."""
    fails_closed: bool = True
    """Stop the text where the check itself fails, rather than go on without it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text that a rule found."""

    rule: str
    start: int
    end: int
    what: str
    goes_on: bool = False
    """One more character of the stretch before it."""
    is_failure: bool = False
    """The check itself failed there."""


@dataclass(frozen=True, slots=True)
class SentPiece:
    """Words to be sent, and where in the model's text they come from."""

    text: str
    start: int
    end: int
    is_own: bool = True
    """False of a replacement."""


class _Read:
    """A text in one reading, of which the settled beginning has been let go."""

    def __init__(self, reading: Reading) -> None:
        self._character = CHARACTERS[reading]
        self._keeps_ascii = reading is not Reading.LETTERS
        self._lowers = reading is Reading.FOLDED
        self.passage = Passage("")
        self.places: list[int] | None = None if self._keeps_ascii else []
        """Of each character of the passage, the place in the text; None while they are equal."""
        self.num_raw = 0

    @property
    def end(self) -> int:
        """Number of characters of the whole reading."""
        return self.passage.base + len(self.passage.text)

    def feed(self, piece: str) -> None:
        """Read on."""
        if self._keeps_ascii and piece.isascii():
            read = piece.lower() if self._lowers else piece
            if self.places is not None:
                self.places.extend(range(self.num_raw, self.num_raw + len(piece)))
        elif piece.isascii() and self.places is not None:
            read = "".join(filter(str.isalnum, piece.lower()))
            self.places += [at for at, char in enumerate(piece, self.num_raw) if char.isalnum()]
        else:
            read = self._feed_characters(piece)
        self.num_raw += len(piece)
        self.passage = Passage(self.passage.text + read, self.passage.base)

    def _feed_characters(self, piece: str) -> str:
        forms = list(map(self._character, piece))
        if self.places is None:
            if all(len(form) == 1 for form in forms):
                return "".join(forms)
            self.places = list(range(self.passage.base, self.end))
        for offset, form in enumerate(forms, self.num_raw):
            self.places.extend([offset] * len(form))
        return "".join(forms)

    def raw(self, place: int) -> int:
        """The place in the text of a character of the reading; the text's end for its end."""
        if place >= self.end:
            return self.num_raw
        if self.places is None:
            return place
        return self.places[place - self.passage.base]

    def let_go(self, settled: int) -> None:
        """Forget what stands before a place, up to one character of context."""
        drop = settled - 1 - self.passage.base
        if drop > KEPT:
            self.passage = Passage(self.passage.text[drop:], self.passage.base + drop)
            if self.places is not None:
                del self.places[:drop]


@dataclass(slots=True)
class _Scan:
    """One rule's way through a text."""

    rule: TextRule
    read: _Read
    place: int = 0
    """Place in the reading up to which all starts are settled."""
    tail: Callable[[str], bool] | None = None
    """Of the stretch that ends at `place`: which characters go on with it."""
    is_broken: bool = False

    def go_on(self, *, final: bool) -> list[Found]:
        """The stretches that are settled now."""
        found: list[Found] = []
        read, check = self.read, self.rule.check
        if self.is_broken:
            self.place = read.end
            return found
        settled = read.end if final else max(self.place, read.end - check.reach - 1)
        base = read.passage.base
        while self._follow(found) or self.place < settled:
            try:
                hit = check.search(read.passage, self.place - base)
            except Exception as error:  # a check of one's own may raise whatever there is
                found += self._failed(error)
                return found
            if hit is None or hit.start + base >= settled:
                break
            start, end = hit.start + base, min(hit.end + base, read.end)
            last = read.raw(max(end - 1, start)) + 1
            found.append(Found(self.rule.name, read.raw(start), last, hit.what))
            self.place, self.tail = max(end, start + 1), hit.tail
        self.place = max(self.place, settled)
        return found

    def _failed(self, error: Exception) -> list[Found]:
        place = self.read.raw(self.place)
        self.is_broken, self.place = True, self.read.end
        logger.warning("check %s failed", self.rule.name, exc_info=error)
        what = f"the check failed: {type(error).__name__}"
        return [Found(self.rule.name, place, place, what, is_failure=True)]

    def _follow(self, found: list[Found]) -> bool:
        """Go on with the last stretch, character by character; False once that is all."""
        if self.tail is None:
            return False
        read = self.read
        while self.place < read.end and self.tail(
            read.passage.text[self.place - read.passage.base]
        ):
            start = read.raw(self.place)
            found.append(Found(self.rule.name, start, start + 1, "", goes_on=True))
            self.place += 1
        if self.place < read.end:
            self.tail = None
        return False

    def horizon(self) -> int:
        """The place in the text before which this rule can find nothing more."""
        return self.read.raw(self.place)


class GrowingText:
    """A text that is checked as it comes, and sent as far as no check can stop it any more.

    `feed` gives what can be sent now; what waits for a whole check is kept for `release`. Once
    `stopped` is set nothing more comes.
    """

    def __init__(self, rules: Sequence[TextRule], *, holds: bool = False) -> None:
        self.stopped: Found | None = None
        self.found: list[Found] = []
        """All findings up to the text's end, or to the place where it was stopped."""
        self.waits = holds
        """True if what comes now waits for a check of the whole."""
        self._rules = {rule.name: rule for rule in rules}
        self._ranks = {rule.name: rank for rank, rule in enumerate(rules)}
        self._reads: dict[Reading, _Read] = {}
        self._scans: list[_Scan] = []
        for rule in rules:
            reading = rule.check.reading
            read = self._reads.setdefault(reading, _Read(reading))
            self._scans.append(_Scan(rule, read))
        self._texts: list[str] = []
        self._num = 0
        self._open: list[Found] = []
        self._held: list[SentPiece] = []
        self._unsent = ""
        self._sent = 0

    @property
    def text(self) -> str:
        """All that came, as the model wrote it."""
        return "".join(self._texts)

    def feed(self, piece: str, *, final: bool = False) -> list[SentPiece]:
        """Pieces that can be sent, in order.

        Args:
            piece: Words that the model wrote next.
            final: Nothing follows them.
        """
        if self.stopped is not None:
            return []
        self._texts.append(piece)
        self._num += len(piece)
        self._unsent += piece
        for read in self._reads.values():
            read.feed(piece)
        new = [found for scan in self._scans for found in scan.go_on(final=final)]
        if new:
            # Of one place in the policy's order, whichever was settled first.
            self._open = sorted([*self._open, *new], key=self._order)
        horizon = self._num
        if not final:
            horizon = min((scan.horizon() for scan in self._scans), default=self._num)
        pieces = self._settle(horizon, final=final)
        for read in self._reads.values():
            read.let_go(min(scan.place for scan in self._scans if scan.read is read))
        return pieces

    def release(self) -> list[SentPiece]:
        """The pieces that waited, once no whole check has stopped them."""
        held, self._held = self._held, []
        return held

    def _order(self, found: Found) -> tuple[int, int]:
        return found.start, self._ranks[found.rule]

    def _settle(self, horizon: int, *, final: bool) -> list[SentPiece]:
        """Pieces up to a place before which all findings are known."""
        pieces: list[SentPiece] = []
        while self._open and (final or self._open[0].start < horizon):
            first = self._open[0]
            rule = self._rules[first.rule]
            if rule.fails_closed if first.is_failure else rule.stops:
                self._send(pieces, first.start)
                self.stopped = first
                self.found.append(first)
                self._held.clear()
                return pieces
            if rule.replacement is None or first.is_failure:
                self._send(pieces, first.start)
                self._note(self._open.pop(0))
            elif not self._replace(first, rule.replacement, horizon, pieces, final=final):
                self._send(pieces, first.start)
                return pieces
        self._send(pieces, horizon)
        return pieces

    def _note(self, found: Found) -> None:
        if not found.goes_on:
            self.found.append(found)
        if self._rules[found.rule].opens:
            self.waits = True

    def _replace(
        self, first: Found, words: str, horizon: int, pieces: list[SentPiece], *, final: bool
    ) -> bool:
        """True if a stretch, and all that overlap it, were replaced; False if more may come."""
        group, end = [first], first.end
        for each in self._open[1:]:
            if each.start >= end:
                break
            rule = self._rules[each.rule]
            if rule.fails_closed if each.is_failure else rule.stops:
                end = each.start
                break
            group.append(each)
            if rule.replacement is not None:
                end = max(end, each.end)
        if end > horizon and not final:
            return False
        self._send(pieces, first.start)
        if end > self._sent:
            start = self._sent
            self._drop(end)
            self._put(pieces, SentPiece("" if first.goes_on else words, start, end, is_own=False))
        self._open = [each for each in self._open if each not in group]
        for each in group:
            self._note(each)
        return True

    def _send(self, pieces: list[SentPiece], until: int) -> None:
        """Let the model's own words go up to a place."""
        if until > self._sent:
            start = self._sent
            self._put(pieces, SentPiece(self._unsent[: until - start], start, until))
            self._drop(until)

    def _put(self, pieces: list[SentPiece], piece: SentPiece) -> None:
        (self._held if self.waits else pieces).append(piece)

    def _drop(self, until: int) -> None:
        self._unsent = self._unsent[until - self._sent :]
        self._sent = until


def checked_whole(rules: Sequence[TextRule], text: str) -> tuple[str, GrowingText]:
    """The words sent of a text that is there at once, and the verdict on it."""
    grown = GrowingText(rules)
    pieces = grown.feed(text, final=True)
    return "".join(piece.text for piece in pieces), grown
