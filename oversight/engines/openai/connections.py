"""Connections to one address, in small pools.

httpx goes over all pairs of a pool's connections at each request. With 256 in
flight one pool took 5 to 7 times the CPU time of small ones (five paired runs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

POOL_SIZE = 8

KEEPALIVE_S = 4.0
"""Idle connections are closed before common servers (after 5 s) close them under a request."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class Pool:
    """A client with a few connections, and how many requests it has under way."""

    client: httpx.AsyncClient
    num_in_use: int = 0


class Connections:
    """As many pools as are needed at the same time."""

    def __init__(self, base_url: str, *, key: str, connect_timeout_s: float) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = httpx.Timeout(None, connect=connect_timeout_s)
        # A proxy named in the environment cannot reach this machine's own servers.
        self._trust_env = httpx.URL(base_url).host not in LOOPBACK
        self._tls = httpx.create_ssl_context(trust_env=self._trust_env)
        self._pools: list[Pool] = []

    @contextmanager
    def client(self) -> Iterator[httpx.AsyncClient]:
        """A client for one request: of the first pool with room, where connections are warm."""
        pool = next((pool for pool in self._pools if pool.num_in_use < POOL_SIZE), None)
        if pool is None:
            pool = Pool(self._new_client())
            self._pools.append(pool)
        pool.num_in_use += 1
        try:
            yield pool.client
        finally:
            pool.num_in_use -= 1

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.client.aclose() for pool in self._pools))

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=POOL_SIZE,
                keepalive_expiry=KEEPALIVE_S,
            ),
            verify=self._tls,
            trust_env=self._trust_env,
        )
