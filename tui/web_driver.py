"""The judging application behind a browser: its size is bounded, and it ends with its server."""

from __future__ import annotations

import math
import os
import signal
import threading
from typing import Any

from textual import events, messages
from textual.app import App
from textual.drivers.web_driver import WebDriver
from textual.message import Message

LEAVE_S = 5.0
"""How long an application may take to leave before it is killed; its work is in the store."""

WIDTHS = (10, 500)
HEIGHTS = (4, 300)
"""Columns and rows of a terminal in a browser, least and most: each cell costs memory."""


def size_within(width: object, height: object) -> tuple[int, int] | None:
    """A size that an application can be given, the nearest one; None if these are no numbers."""
    numbers = (_number(width), _number(height))
    if numbers[0] is None or numbers[1] is None:
        return None
    (least_w, most_w), (least_h, most_h) = WIDTHS, HEIGHTS
    return max(least_w, min(most_w, numbers[0])), max(least_h, min(most_h, numbers[1]))


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and math.isfinite(value) else None


class JudgeDriver(WebDriver):
    """Textual's own, but for sizes and for the end of its input.

    A server that was killed says no "quit": without this its applications would stay behind and
    hold the items that they had open.
    """

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if self._size is not None:
            self._size = size_within(*self._size)

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        """Take what the server says; a size is bounded, and one that is none is left alone."""
        if packet_type == "resize":
            size = size_within(payload.get("width"), payload.get("height"))
            if size is None:
                return
            payload = {**payload, "width": size[0], "height": size[1]}
        super().on_meta(packet_type, payload)

    def process_message(self, message: Message) -> None:
        """Pass on what was typed; a size that stands in it, as terminals report it, is dropped."""
        if not isinstance(message, events.Resize):
            super().process_message(message)

    def run_input_thread(self) -> None:
        """Read until the input ends, and then leave, or be killed after `LEAVE_S`."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
            end = threading.Timer(LEAVE_S, _kill_group)
            end.daemon = True
            end.start()


def _kill_group() -> None:
    """Kill this process and what it started; it leads a process group, if a server began it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
