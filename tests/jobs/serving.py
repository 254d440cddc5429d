"""Model servers on loopback whose answers a request alone determines."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PROMPT_TOKENS = 50


def completion_of(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, which its content and seed alone determine."""
    asked = json.dumps([body["messages"], body.get("seed")]).encode()
    digest = hashlib.blake2b(asked, digest_size=16).digest()
    is_critique = "NOTHING TO CHANGE" in body["messages"][-1]["content"]
    ends = is_critique and digest[0] < 100
    text = "NOTHING TO CHANGE" if ends else f"Say {digest.hex()} plainly. " * (1 + digest[1] % 3)
    ids = list(text.encode())
    logprobs = [{"token": "", "logprob": -1.0, "top_logprobs": []} for _ in ids]
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "token_ids": ids,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": logprobs}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(ids)}
    usage["total_tokens"] = sum(usage.values())
    return {
        "model": body["model"],
        "choices": [choice],
        "prompt_token_ids": list(range(PROMPT_TOKENS)),
        "usage": usage,
    }


@dataclass
class Served:
    """A model server in a thread of its own, that counts what it is asked for."""

    url: str = ""
    latency_s: float = 0.0
    num_calls: int = 0
    num_open: int = 0
    most_open: int = 0
    asked: list[str] = field(default_factory=list)
    """The first user's message of each call."""
    num_tokens: int = 0
    """Of prompts and answers of all calls that came, whether or not anybody was left to hear."""
    kill_at: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    """Processes that are killed at the call of that number."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [size] = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ]
                body = json.loads(await reader.readexactly(size))
                answer = completion_of(body)
                self.num_calls += 1
                self.asked.append(
                    next(m["content"] for m in body["messages"] if m["role"] == "user")
                )
                self.num_tokens += answer["usage"]["total_tokens"]
                if process := self.kill_at.pop(self.num_calls, None):
                    process.send_signal(signal.SIGKILL)
                self.num_open += 1
                self.most_open = max(self.most_open, self.num_open)
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                self.num_open -= 1
                data = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (len(data), data)
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@contextmanager
def serving(latency_s: float = 0.0) -> Iterator[Served]:
    """A server, listening until the block's end."""
    found = Served(latency_s=latency_s)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def open_() -> asyncio.Server:
        return await asyncio.start_server(found.serve, "127.0.0.1", 0)

    async def close() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(open_(), loop).result()
    host, port = server.sockets[0].getsockname()
    found.url = f"http://{host}:{port}/v1"
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
