"""Text from token ids as they come: whole characters only, cut at the first stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What decoding gives for bytes that are not, or not yet, a character."""


class Detokenizer:
    """Turns sampled ids into text piece by piece.

    A token is decoded together with those shortly before it, because many
    tokenizers write a token differently at the start of a text. Text is held
    back while it ends within a character or could still become a stop string.
    The pieces that `take` gave add up to `text`.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._token_ids: list[int] = []
        self._window_start = 0
        self._window_read = 0
        self._num_taken = 0
        self.text = ""
        self.stopped = False

    def add(self, token_id: int) -> bool:
        """Add a token; true if a stop string is now complete."""
        self._token_ids.append(token_id)
        self._read(partial=False)
        return self.stopped

    def finish(self) -> str:
        """No more tokens come; gives the whole text, a broken last character included."""
        if not self.stopped:
            self._read(partial=True)
        return self.text

    def take(self, final: bool = False) -> str:
        """Text that is certain by now and was not taken yet."""
        end = len(self.text)
        if not (final or self.stopped):
            end -= self._held_back()
        piece = self.text[self._num_taken : end]
        self._num_taken = max(self._num_taken, end)
        return piece

    def _read(self, partial: bool) -> None:
        before = self._decode(self._token_ids[self._window_start : self._window_read])
        after = self._decode(self._token_ids[self._window_start :])
        if len(after) <= len(before) or (after.endswith(REPLACEMENT) and not partial):
            return
        self._window_start, self._window_read = self._window_read, len(self._token_ids)
        self._append(after[len(before) :])

    def _append(self, piece: str) -> None:
        longest = max((len(stop) for stop in self._stop), default=0)
        start = max(len(self.text) - longest + 1, 0)
        self.text += piece
        found = [self.text.find(stop, start) for stop in self._stop]
        cuts = [place for place in found if place >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
            self.stopped = True

    def _held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self.text)), longest, -1):
                if self.text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
