"""A server on this machine that speaks as much of the Hugging Face hub as its client needs.

One user, one token. Repositories, uploads by LFS, commits and downloads; no Xet, no history.
"""

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

TOKEN = "hf_ThisIsTheOneTokenOfTheLocalHub"  # noqa: S105


@dataclass
class Repository:
    """What was committed to it, by path, and who may see it."""

    visibility: str | None
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        """Of the newest commit."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()  # noqa: S324


class LocalHub:
    """The hub; it is broken for whoever wants a repository of that name."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["LocalHub"]:
        """Serve, at `url`, until the block ends."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def commit(self, name: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Apply a commit; what the client is answered."""
        repository = self.repositories[name]
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                repository.messages.append(value["summary"])
            elif key == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                repository.files[value["path"]] = self.objects[value["oid"]]
            elif key == "deletedFile":
                del repository.files[value["path"]]
            else:
                raise AssertionError(key)
        sha = repository.sha
        url = f"{self.url}/{name}/commit/{sha}"
        return {"success": True, "commitUrl": url, "commitOid": sha, "hookOutput": ""}


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self._body()
        if self._refused():
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/preupload/main", path):
            self._json({"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif re.fullmatch(r"/(\w+/\w+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._upload(each) for each in objects]})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/commit/main", path):
            lines = [json.loads(line) for line in body.splitlines()]
            self._json(self.hub.commit(found[1], lines))
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        body, oid = self._body(), self.path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            self._answer(400)
            return
        self.hub.objects[oid] = body
        self._answer(200)

    def do_GET(self) -> None:
        if self._refused():
            return
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/main)?", path):
            repository = self.hub.repositories[found[1]]
            siblings = [{"rfilename": name} for name in repository.files]
            self._json({"id": found[1], "sha": repository.sha, "siblings": siblings})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/tree/\w+", path):
            files = self.hub.repositories[found[1]].files
            self._json([_entry(name, blob) for name, blob in files.items()])
        elif found := re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/(.+)", path):
            repository = self.hub.repositories[found[1]]
            blob = repository.files.get(found[3])
            if blob is None:
                self._answer(404)
                return
            etag = {"ETag": f'"{_oid(blob)}"', "X-Repo-Commit": repository.sha}
            self._answer(200, blob, etag)
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if wanted["name"] == "broken":
            self._json({"error": "no"}, 418)
            return
        if name in self.hub.repositories:
            self._json(url | {"error": "You already created this model repo"}, 409)
            return
        private = "private" if wanted.get("private") else None
        self.hub.repositories[name] = Repository(wanted.get("visibility", private))
        self._json(url)

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.hub.url}/lfs/{wanted['oid']}"
        return wanted | {"actions": {"upload": {"href": href, "header": {}}}}

    def _refused(self) -> bool:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials"}, 401)
            return True
        return False

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, values: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(".safetensors")
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


def _entry(name: str, blob: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(blob), "oid": _oid(blob)}


def _oid(blob: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()  # noqa: S324
