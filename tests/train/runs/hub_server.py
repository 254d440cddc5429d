"""A hub on loopback: the part of the Hugging Face hub's protocol that a push speaks.

Repositories, branches, preupload with the objects that stand there already, LFS batches with
uploads and their verification, the store of the Xet protocol (`xet_store.py`), and commits. It
keeps what it is sent, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.train.runs.xet_store import XetStore

TOKEN = "hf_LoopbackToken4711"
OWNER = "lab"
BINARY = (".safetensors", ".bin", ".parquet")

Tree = dict[str, bytes]


@dataclass
class Repository:
    """A repository with its branches, each a list of commits with the files that stand then."""

    private: bool
    branches: dict[str, list[tuple[str, Tree]]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")

    def commit(self, branch: str, added: Tree, message: str) -> str:
        """The id of a new commit."""
        tree = dict(self.branches[branch][-1][1]) if branch in self.branches else {}
        self.messages.append(message)
        oid = hashlib.sha1(f"{branch}{len(self.messages)}".encode()).hexdigest()
        self.branches.setdefault(branch, []).append((oid, tree | added))
        return oid

    def files(self, branch: str = "main") -> Tree:
        """The files that stand in a branch now."""
        return self.branches[branch][-1][1]


@dataclass
class Hub:
    """The hub's state, and the ways in which it fails."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By type and name, such as `models/lab/judge`."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Uploaded content by its SHA-256."""
    xet: XetStore = field(default_factory=XetStore)
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    failing: dict[str, int] = field(default_factory=dict)
    """The status that requests get whose method and path fit a pattern."""
    drops: str = ""
    """Connections of requests that fit this pattern are closed without an answer."""

    def num(self, pattern: str) -> int:
        """Number of requests that fit."""
        return sum(bool(re.search(pattern, each)) for each in self.asked)


class Handler(BaseHTTPRequestHandler):
    """Answers for a `Hub`."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def answer(self, method: str) -> None:
        body = self.body()
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{method} {path}")
        if self.hub.drops and re.search(self.hub.drops, f"{method} {path}"):
            self.close_connection = True
            return self.connection.close()
        for pattern, status in self.hub.failing.items():
            if re.search(pattern, f"{method} {path}"):
                return self.say(status, {"error": "the hub says no"})
        if method == "PUT" and (found := re.fullmatch(r"/objects/(\w+)", path)):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.hub.objects[found[1]] = body
            return self.say(200, {})
        if path.startswith("/xet/"):
            token = self.headers.get("authorization")
            said, whole = self.hub.xet.answer(method, path.removeprefix("/xet"), token, body)
            self.hub.objects |= whole
            return self.say(*said)
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.say(401, {"error": "Invalid credentials in Authorization header"})
        return self.api(
            method, path, json.loads(body) if method == "POST" and self.is_json else body
        )

    @property
    def is_json(self) -> bool:
        return "ndjson" not in (self.headers.get("content-type") or "")

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def api(self, method: str, path: str, body: Any) -> None:
        if path == "/api/repos/create":
            return self.create(body)
        if path == "/api/validate-yaml":
            is_whole = body["content"].startswith("---\n")
            return self.say(
                200, {"errors": [], "warnings": [] if is_whole else [{"message": "no"}]}
            )
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/(\w+)", path):
            return self.large(found[3], body)
        found = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/([\w-]+)/([^/]+))?", path)
        repository = found and self.hub.repositories.get(f"{found[1]}/{found[2]}")
        if not found or repository is None:
            return self.say(
                404, {"error": "Repository not found"}, ("x-error-code", "RepoNotFound")
            )
        branch = unquote(found[4] or "main")
        if found[3] == "branch":
            is_there = branch in repository.branches
            if not is_there:
                repository.branches[branch] = [repository.branches["main"][-1]]
            return self.say(409 if is_there else 201, {})
        if branch not in repository.branches:
            return self.say(404, {"error": "no branch"}, ("x-error-code", "RevisionNotFound"))
        if found[3] == "xet-write-token":
            return self.say(200, self.hub.xet.token())
        if found[3] == "preupload":
            return self.preupload(repository.files(branch), body)
        if found[3] == "commit":
            page = f"{self.hub.url}/{f'{found[1]}/'.removeprefix('models/')}{found[2]}"
            return self.commit(repository, branch, body, page)
        return self.say(
            200,
            {
                "id": found[2],
                "private": repository.private,
                "sha": repository.branches[branch][-1][0],
                "siblings": [{"rfilename": name} for name in repository.files(branch)],
            },
        )

    def create(self, body: Any) -> None:
        if body["organization"] != OWNER:
            return self.say(403, {"error": f"You don't have the rights to {body['organization']}"})
        kind = f"{body.get('type') or 'model'}s"
        name = f"{kind}/{body['organization']}/{body['name']}"
        if name in self.hub.repositories:
            return self.say(409, {"error": "You already created this repo"})
        self.hub.repositories[name] = Repository(body.get("visibility") == "private")
        return self.say(200, {"url": f"{self.hub.url}/{name.removeprefix('models/')}"})

    def preupload(self, files: Tree, body: Any) -> None:
        answers = []
        for each in body["files"]:
            is_large = each["path"].endswith(BINARY) and each["size"]
            answers.append(
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if is_large else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(files.get(each["path"]), is_large=bool(is_large)),
                }
            )
        return self.say(200, {"files": answers})

    def large(self, what: str, body: Any) -> None:
        if what == "verify":
            is_there = len(self.hub.objects.get(body["oid"], b"")) == body["size"]
            return self.say(200 if is_there else 404, {})
        objects = []
        for each in body["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.objects:
                place = self.path.removesuffix("batch")
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.url}/objects/{each['oid']}"},
                    "verify": {"href": f"{self.hub.url}{place}verify"},
                }
            objects.append(answer)
        return self.say(200, {"transfer": "basic", "objects": objects})

    def commit(self, repository: Repository, branch: str, body: bytes, page: str) -> None:
        added: Tree = {}
        message = ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "lfsFile":
                added[value["path"]] = self.hub.objects[value["oid"]]
            else:
                assert line["key"] == "file"
                added[value["path"]] = base64.b64decode(value["content"])
        oid = repository.commit(branch, added, message)
        self.say(200, {"commitUrl": f"{page}/commit/{oid}", "commitOid": oid})

    def say(self, status: int, value: Any, *headers: tuple[str, str]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (("content-type", "application/json"), *headers):
            self.send_header(name, text)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _oid(content: bytes | None, *, is_large: bool) -> str | None:
    """The id that the hub gives to a file's content: as of LFS, or as of a blob of git."""
    if content is None:
        return None
    if is_large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers at its `url`."""
    hub = Hub()
    handler = type("OneHub", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True  # a client keeps its connection open
        hub.url = hub.xet.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
