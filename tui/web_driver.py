"""The judging application behind a browser: it ends when the server that carries it does."""

from __future__ import annotations

from textual import messages
from textual.drivers.web_driver import WebDriver


class JudgeDriver(WebDriver):
    """Textual's own, but for the end of its input.

    A server that was killed says no "quit": without this its applications would stay behind and
    hold the items that they had open.
    """

    def run_input_thread(self) -> None:
        """Read until the input ends, and then leave."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
