"""Server-sent events, from the bytes of a response to the data of each event."""

from __future__ import annotations

import re

LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventDecoder:
    """Cuts a byte stream, in pieces of any size, into the data of its events.

    Lines end at CR, LF or both and nowhere else: a model's text may hold U+2028
    or U+0085 unescaped inside the JSON, and cutting there would break the event.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._at_start = True

    def feed(self, piece: bytes) -> list[bytes]:
        """Data of the events that `piece` completes."""
        self._rest += piece
        if self._at_start and len(self._rest) >= len(BYTE_ORDER_MARK):
            self._rest = self._rest.removeprefix(BYTE_ORDER_MARK)
            self._at_start = False
        # A CR at the very end may be the first half of CR LF.
        ready, held = (self._rest[:-1], b"\r") if self._rest[-1:] == b"\r" else (self._rest, b"")
        *lines, rest = LINE_END.split(ready)
        self._rest = rest + held
        return self._events(lines)

    def end(self) -> list[bytes]:
        """Data of an event that the stream's end completes, for servers that omit the last line."""
        last, self._rest = self._rest.rstrip(b"\r"), b""
        return self._events([last, b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line:
                field, _, value = line.partition(b":")
                if field == b"data":
                    self._data.append(value.removeprefix(b" "))
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
