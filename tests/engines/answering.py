"""A server that answers as a test tells it, and debates of models behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from oversight.cli import running
from oversight.config import RunSettings

SPEECH = "The log names the mill. Nobody contradicts it."


BELIEF = "Probability of A: 80%\nProbability of B: 20%"


Body = dict[str, Any]


Reply = Callable[[Body, int], Body | tuple[int, Body]]


class Handler(BaseHTTPRequestHandler):
    """Lists its model; answers each request by the server's `reply`, and keeps what was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server: Any = self.server
        with server.lock:
            server.asked.append(asked)
            number = len(server.asked)
        made = server.reply(asked, number)
        self._send(*(made if isinstance(made, tuple) else (200, made)))

    def _send(self, status: int, body: Body) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


def answer(content: Any, finish: str = "stop", **message: Any) -> Body:
    """The body of an answer; log-probabilities are never given."""
    return {
        "model": "m",
        "choices": [
            {"message": {"content": content, **message}, "finish_reason": finish, "logprobs": None}
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
    }


def asks_judge(asked: Body) -> bool:
    return "How probable is it" in asked["messages"][-1]["content"]


def settings(server: Any, folder: Path, **changes: Any) -> RunSettings:
    port = server.server_address[1]
    engine = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "m", "max_retries": 0}
    engine |= {"logprobs": False, "api_key_env": ""} | changes.pop("engine", {})
    agents = {
        "debater": {"agent": "debater", "engine": "e", "settings": changes.pop("debater", {})},
        "judge": {"agent": "judge", "engine": "e", "settings": changes.pop("judge", {})},
    }
    return RunSettings.parse(
        {
            "protocols": ["debate_single_turn"],
            "store": str(folder / "debates.db"),
            "concurrency": 2,
            "dataset": {"dataset": "world", "split": "held_out", "limit": 1},
            "agents": agents,
            "engines": {"e": {"engine": "openai", "settings": engine}},
            **changes,
        }
    )


def debates(given: RunSettings) -> running.Run:
    return running.run(given, Console(file=StringIO()))
