"""A store of the Xet protocol on loopback: what `hf_xet` uploads big files to, beside the hub.

A file is cut into chunks by its content; chunks are gathered, each compressed by itself, into
xorbs; a shard says which chunks of which xorbs a file is made of. The store puts each file
together again and holds it against the SHA-256 that the shard gives. Written from the protocol's
specification (github.com/huggingface/xet-core, spec/).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

XET_TOKEN = "xet-short-lived-4711"
ENTRY = 48
"""Bytes of every entry of a shard, its header included."""
LAST = b"\xff" * 32
WITH_VERIFICATION, WITH_SHA256 = 1 << 31, 1 << 30

Answer = tuple[int, Any]


@dataclass
class XetStore:
    """A store of the Xet protocol: the chunks uploaded to it, and the grants to upload it gave."""

    url: str = ""
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    """Chunks by the hash of their xorb."""
    granted: dict[str, bytes] = field(default_factory=dict)
    """The bytes sent on a grant, by the grant's id, until they are committed."""
    has_grants: bool = True
    """False of an older store, which takes xorbs and shards at version 1 alone."""

    def token(self) -> dict[str, Any]:
        """The hub's answer to one who may write: a token, its end, and the store's address."""
        return {
            "accessToken": XET_TOKEN,
            "exp": int(time.time()) + 3600,
            "casUrl": f"{self.url}/xet",
        }

    def answer(
        self, method: str, path: str, token: str | None, body: bytes
    ) -> tuple[Answer, dict[str, bytes]]:
        """The answer to a request, and the files by SHA-256 that are whole by it."""
        if found := re.fullmatch(r"PUT /grants/(\w+)", f"{method} {path}"):
            assert token is None, "the token of the store goes to the store alone"
            self.granted[found[1]] = body
            return (200, {}), {}
        if token != f"Bearer {XET_TOKEN}":
            return (401, {"error": "Unauthorized"}), {}
        what, _, rest = path.removeprefix("/").partition("/")
        kind, _, rest = rest.partition("/")
        if not self.has_grants and (kind == "xorb-grants" or what == "v2"):
            return (404, {"error": "no such route"}), {}
        if kind == "xorb-grants":
            return self._grant(rest.split("/")[1], json.loads(body)), {}
        if kind == "xorb-commits":
            name, id_ = rest.split("/")[1::2]
            self.xorbs[name] = chunks(self.granted.pop(id_))
            return (200, {"was_inserted": True}), {}
        if kind == "xorbs":
            self.xorbs[rest.split("/")[1]] = chunks(body)
            return (200, {"was_inserted": True}), {}
        if kind == "shards":
            whole = dict(self.files(body))
            return (200, {"type": "result"} if what == "v2" else {"result": 1}), whole
        return (404, {"error": "this chunk is not known"}), {}

    def _grant(self, name: str, asked: dict[str, Any]) -> Answer:
        if name in self.xorbs:
            return 200, {"was_inserted": False}
        assert asked["length"] > 0
        place = f"{self.url}/xet/grants/{name}"
        return 201, {"id": name, "method": "PUT", "url": place, "headers": {}}

    def files(self, shard: bytes) -> list[tuple[str, bytes]]:
        """The files of a shard by their SHA-256, put together from the chunks that stand here."""
        assert shard.startswith(b"HFRepoMetaData\0")
        at, made = ENTRY, []
        while shard[at : at + 32] != LAST:
            flags, num = struct.unpack_from("<II", shard, at + 32)
            at += ENTRY
            content = bytearray()
            for _ in range(num):
                size, start, end = struct.unpack_from("<III", shard, at + 36)
                part = b"".join(self.xorbs[_hex(shard[at : at + 32])][start:end])
                assert len(part) == size
                content += part
                at += ENTRY
            at += ENTRY * num * bool(flags & WITH_VERIFICATION)
            assert flags & WITH_SHA256
            given = _hex(shard[at : at + 32])
            at += ENTRY
            assert hashlib.sha256(content).hexdigest() == given
            made.append((given, bytes(content)))
        return made


def _hex(value: bytes) -> str:
    """A hash as the protocol writes it: four little-endian numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", value))


def chunks(xorb: bytes) -> list[bytes]:
    """The chunks of a xorb as it is sent."""
    at, made = 0, []
    while at < len(xorb) and not xorb.startswith(b"XETBLOB", at):  # the footer, which may be there
        packed = int.from_bytes(xorb[at + 1 : at + 4], "little")
        scheme = xorb[at + 4]
        size = int.from_bytes(xorb[at + 5 : at + 8], "little")
        data = xorb[at + 8 : at + 8 + packed]
        if scheme:
            data = pa.Codec("lz4").decompress(data, size, asbytes=True)
        made.append(_ungrouped(data) if scheme == 2 else data)
        at += 8 + packed
    return made


def _ungrouped(data: bytes) -> bytes:
    """Bytes that were gathered by their place within four, in their order again."""
    out, at = bytearray(len(data)), 0
    for place in range(4):
        num = len(out[place::4])
        out[place::4] = data[at : at + num]
        at += num
    return bytes(out)
