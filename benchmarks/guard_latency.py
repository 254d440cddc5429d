"""Latency that a guard with ten checks of text adds, at 200 requests/s, and its memory.

    python benchmarks/guard_latency.py --seconds 20
    python benchmarks/guard_latency.py --litellm /tmp/peer/bin/litellm --rate 50
    python benchmarks/guard_latency.py --seconds 0 --memory 200000

A simulated server answers 400 characters after 20 ms; the guard stands before it in a process
of its own, the load generator in this one. Requests are sent at fixed times whether or not earlier
ones are answered, to the server directly and through the guard by turns. With `--litellm`, the
command of an environment in which litellm[proxy] is installed, its proxy is asked by turns as well:
without checks, and with its own content filter before and behind the model, given as many kinds of
patterns as ours has and the same list of words.

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
FILTERED = ("us_ssn", "visa", "mastercard", "aws_access_key", "github_token", "email", "ipv4")
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
        said = await reader.readexactly(size)
        assert b" 200 " in head.partition(b"\r\n")[0], said
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


def waiting(pid: int) -> float:
    """Seconds that a process was ready to run and did not, as Linux counts them."""
    return (
        sum(
            int(Path(task, "schedstat").read_text().split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
    )


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


async def measure(given: argparse.Namespace, ports: dict[str, int], guard: int) -> None:
    """Ask all by turns, and print what each came to."""
    loads = {name: Load(port) for name, port in ports.items()}
    for name, each in loads.items():
        await answering(ports[name])
        await each.run(int(given.rate), given.rate)  # connections open, code warm
    process = psutil.Process(guard)
    memory, times, waited = process.memory_info().rss, process.cpu_times(), waiting(guard)
    seconds: dict[str, list[float]] = {name: [] for name in loads}
    number = int(given.rate * given.seconds / 4)
    for _ in range(4):
        for name, each in loads.items():
            seconds[name] += await each.run(number, given.rate)
    after, spent, waits = process.memory_info().rss, process.cpu_times(), waiting(guard)
    for name, found in seconds.items():
        p50, p99 = np.percentile(found, [50, 99]) * 1000
        added = [
            float(np.percentile(found, q) - np.percentile(seconds["direct"], q)) * 1000
            for q in (50, 99)
        ]
        print(
            f"{name}: {len(found):,} requests at {given.rate:g}/s, median {p50:.2f} ms, p99 "
            f"{p99:.2f} ms; added: median {added[0]:.2f} ms, p99 {added[1]:.2f} ms",
            flush=True,
        )
    cpu = (spent.user + spent.system - times.user - times.system) / len(seconds["guard"])
    load = os.getloadavg()[0]
    print("bars of the guard: added at the median 2 ms, at p99 10 ms, at 200/s")
    print(f"processor time of the guard: {cpu * 1000:.2f} ms a request; load average {load:.1f}")
    starved = (waits - waited) / len(seconds["guard"])
    print(f"the guard was ready and waited for a processor: {starved * 1000:.2f} ms a request")
    print(f"memory of the guard: {memory >> 20} MiB before, {after >> 20} MiB after", flush=True)


async def measure_memory(given: argparse.Namespace, port: int, guard: int) -> None:
    """Send many requests through the guard, 16 at a time, and print its memory on the way."""
    await answering(port)
    load, process, left = Load(port), psutil.Process(guard), given.memory
    sizes = []
    started = time.perf_counter()

    async def go_on() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if left % (given.memory // 10) == 0:
                sizes.append(f"{process.memory_info().rss / (1 << 20):.0f}")
            await load.one()

    await asyncio.gather(*(go_on() for _ in range(16)))
    load.close()
    seconds = time.perf_counter() - started
    print(
        f"memory over {given.memory:,} requests ({given.memory / seconds:.0f}/s), MiB at each "
        f"tenth: {', '.join(sizes)}",
        flush=True,
    )


def litellm_files(folder: Path, server: int, words: list[str]) -> dict[str, Path]:
    """Configurations of LiteLLM's proxy, without checks and with its content filter."""
    answers = {"api_base": f"http://127.0.0.1:{server}/v1", "api_key": "none"}
    models = [{"model_name": "sim", "litellm_params": {"model": "openai/sim", **answers}}]
    patterns = [
        {"pattern_type": "prebuilt", "pattern_name": name, "action": "MASK"} for name in FILTERED
    ]
    found = {"guardrail": "litellm_content_filter", "default_on": True, "patterns": patterns}
    found["blocked_words"] = [{"keyword": word, "action": "BLOCK"} for word in words]
    rails = [
        {"guardrail_name": mode, "litellm_params": {**found, "mode": mode}}
        for mode in ("pre_call", "post_call")
    ]
    quiet = {"litellm_settings": {"telemetry": False, "num_retries": 0}}
    paths = {}
    for name, more in (("plain", {}), ("filter", {"guardrails": rails})):
        paths[name] = folder / f"litellm_{name}.yaml"
        paths[name].write_text(json.dumps({"model_list": models, **quiet, **more}))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--litellm", help="LiteLLM's command, in an environment of its own")
    parser.add_argument("--memory", type=int, default=0, help="requests over which memory is read")
    given = parser.parse_args()
    names = [f"forbidden{number}" for number in range(200)]
    ports = {"direct": free_port(), "guard": free_port()}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "policy.toml").write_text(POLICY.format(words=json.dumps(names)))
        Path(folder, "guard.toml").write_text(GUARD.format(port=ports["direct"]))
        how: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        started = [subprocess.Popen([sys.executable, "-c", SERVER, str(ports["direct"])], **how)]
        command = [sys.executable, "-m", "oversight.cli.main", "guard", "serve", "guard.toml"]
        guard = subprocess.Popen([*command, "--port", str(ports["guard"])], **how)
        started.append(guard)
        if given.litellm:
            quiet = {**how, "stderr": subprocess.DEVNULL}
            # Without an own environment it would import what PYTHONPATH names.
            kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            for name, path in litellm_files(Path(folder), ports["direct"], names).items():
                ports[f"LiteLLM, {name}"] = port = free_port()
                line = [given.litellm, "--config", str(path), "--port", str(port)]
                line += ["--host", "127.0.0.1"]
                environment = {
                    **kept,
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
                }
                started.append(subprocess.Popen(line, env=environment, **quiet))
        try:
            if given.seconds:
                asyncio.run(measure(given, ports, guard.pid))
            if given.memory:
                asyncio.run(measure_memory(given, ports["guard"], guard.pid))
        finally:
            for each in started:
                each.terminate()
                each.wait(30)


if __name__ == "__main__":
    main()
