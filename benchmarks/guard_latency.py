"""Latency that a guard with ten checks of text adds, at 200 requests/s, and its memory.

    python benchmarks/guard_latency.py --seconds 20

A simulated server answers 400 characters after 20 ms; the guard stands before it in a process
of its own, the load generator in this one. Requests are sent at fixed times whether or not earlier
ones are answered, to the server directly and through the guard by turns.

Bars: added at the median at most 2 ms and at p99 at most 10 ms on two idle cores; memory flat. The
processor time of the guard for one request does not depend on what else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SERVER = """
import asyncio, json, sys, uvicorn
WORDS = "The sea is wide, and nobody has seen both of its ends at once. " * 7
CHOICE = {"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "sim",
                     "choices": [CHOICE]}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
"""
GUARD = """
policy = "policy.toml"
[upstreams.sim]
base_url = "http://127.0.0.1:{port}/v1"
"""
POLICY = """
checks.secrets = {{ check = "secrets", action = "replace" }}
checks.personal = {{ check = "personal_data", action = "replace" }}
checks.tags = {{ check = "injection", action = "refuse" }}
checks.hidden = {{ check = "hidden_characters", action = "replace" }}
checks.length = {{ check = "length", settings = {{ max_chars = 100_000 }} }}
checks.runs = {{ check = "repetition", action = "log" }}
checks.words = {{ check = "words", settings = {{ words = {words} }} }}
checks.patterns = {{ check = "patterns", settings = {{ patterns = ["ORDER-[0-9]{{6,12}}"] }} }}
checks.input = {{ check = "injection", on = "input" }}
checks.keys_in = {{ check = "secrets", on = "input", action = "replace" }}
"""
BODY = json.dumps(
    {"model": "sim", "messages": [{"role": "user", "content": "Tell me of the sea. " * 10}]}
).encode()


class Load:
    """Requests at fixed times over kept connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"content-length: {len(BODY)}\r\n\r\n"
        )
        self._request = head.encode() + BODY

    async def one(self) -> float:
        """Seconds of one request."""
        started = time.perf_counter()
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(size)
        assert b" 200 " in head.partition(b"\r\n")[0], head
        self._idle.append((reader, writer))
        return time.perf_counter() - started

    async def run(self, number: int, rate: float) -> list[float]:
        """Seconds of each of some requests."""
        started = time.perf_counter()
        tasks = []
        for place in range(number):
            wait = started + place / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.one()))
        found = list(await asyncio.gather(*tasks))
        self.close()
        return found

    def close(self) -> None:
        """Close the connections, which a server would not keep until the next turn."""
        while self._idle:
            self._idle.pop()[1].close()


async def answering(port: int) -> None:
    """Wait until something listens."""
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def measure(given: argparse.Namespace, ports: tuple[int, int], guard: int) -> None:
    direct, through = Load(ports[0]), Load(ports[1])
    for each in (direct, through):
        await answering(ports[0] if each is direct else ports[1])
        await each.run(int(given.rate), given.rate)  # connections open, code warm
    process = psutil.Process(guard)
    memory, times = process.memory_info().rss, process.cpu_times()
    seconds: dict[str, list[float]] = {"direct": [], "guard": []}
    number = int(given.rate * given.seconds / 4)
    for _ in range(4):
        seconds["direct"] += await direct.run(number, given.rate)
        seconds["guard"] += await through.run(number, given.rate)
    after, spent = process.memory_info().rss, process.cpu_times()
    for name, found in seconds.items():
        p50, p99 = np.percentile(found, [50, 99]) * 1000
        print(f"{name}: {len(found):,} requests, median {p50:.2f} ms, p99 {p99:.2f} ms")
    added = [
        float(np.percentile(seconds["guard"], q) - np.percentile(seconds["direct"], q)) * 1000
        for q in (50, 99)
    ]
    cpu = (spent.user + spent.system - times.user - times.system) / len(seconds["guard"])
    load = os.getloadavg()[0]
    print(f"added: median {added[0]:.2f} ms (bar 2), p99 {added[1]:.2f} ms (bar 10)")
    print(f"processor time of the guard: {cpu * 1000:.2f} ms a request; load average {load:.1f}")
    print(f"memory: {memory >> 20} MiB before, {after >> 20} MiB after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=200.0)
    given = parser.parse_args()
    words = json.dumps([f"forbidden{number}" for number in range(200)])
    ports = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "policy.toml").write_text(POLICY.format(words=words))
        Path(folder, "guard.toml").write_text(GUARD.format(port=ports[0]))
        how: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(ports[0])], **how)
        command = [sys.executable, "-m", "oversight.cli.main", "guard", "serve", "guard.toml"]
        guard = subprocess.Popen([*command, "--port", str(ports[1])], **how)
        try:
            asyncio.run(measure(given, ports, guard.pid))
        finally:
            for each in (guard, server):
                each.terminate()
                each.wait(30)


if __name__ == "__main__":
    main()
