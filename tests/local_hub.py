"""A hub on this machine: it answers what an upload asks, and keeps what it was sent."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_" + "x" * 34
DEPRECATED = "ignore:Use 'content=<...>':DeprecationWarning"
"""huggingface_hub hands a file to httpx2 in a way that httpx2 no longer likes."""


@dataclass
class Hub:
    """What the hub knows, and what it was asked.

    Args:
        endpoint: Its address.
        private: By data set, whether it is private.
        files: By data set and path the content.
        asked: Every request: method, path, content.
        tokens: The tokens that came with them.
        refuses: A status to answer every request with, and what is said.
    """

    endpoint: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    refuses: tuple[int, str] | None = None
    stored: dict[str, bytes] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """The requests, without their content."""
        return [f"{method} {path}" for method, path, _ in self.asked]

    def answer(self, method: str, path: str, content: bytes) -> tuple[int, Any]:
        """Status and JSON for a request."""
        self.asked.append((method, path, content))
        if self.refuses is not None:
            status, said = self.refuses
            return status, {"error": said}
        if path == "/api/repos/create":
            return self._create(json.loads(content))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/store/"):
            assert hashlib.sha256(content).hexdigest() == path.removeprefix("/store/")
            self.stored[path.removeprefix("/store/")] = content
            return 200, {}
        user, name, *action = (
            path.removeprefix("/api/datasets/").removeprefix("/datasets/").split("/")
        )
        repository = f"{user}/{name.removesuffix('.git')}"
        if action[:1] == ["preupload"]:
            return 200, {"files": [_mode(file) for file in json.loads(content)["files"]]}
        if action == ["info", "lfs", "objects", "batch"]:
            return 200, {"objects": [self._place(one) for one in json.loads(content)["objects"]]}
        if action[:1] == ["commit"]:
            return self._commit(repository, content.decode())
        if method == "GET" and repository in self.private:
            return 200, self._info(repository)
        return 404, {"error": "Repository not found"}

    def _create(self, asked: Mapping[str, Any]) -> tuple[int, Any]:
        repository = f"{asked['organization']}/{asked['name']}"
        assert asked["type"] == "dataset"
        answer = {"url": f"{self.endpoint}/datasets/{repository}"}
        if repository in self.private:
            return 409, answer | {"error": "You already created this dataset repo"}
        self.private[repository] = asked["visibility"] == "private"
        self.files[repository] = {}
        return 200, answer

    def _info(self, repository: str) -> dict[str, Any]:
        return {
            "id": repository,
            "private": self.private[repository],
            "sha": "0" * 40,
            "siblings": [{"rfilename": name} for name in self.files.get(repository, {})],
        }

    def _place(self, one: Mapping[str, Any]) -> dict[str, Any]:
        place = {"href": f"{self.endpoint}/store/{one['oid']}"}
        return {**one, "actions": {"upload": place}}

    def _commit(self, repository: str, content: str) -> tuple[int, Any]:
        files = self.files[repository]
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = "1" * 40
        address = f"{self.endpoint}/datasets/{repository}/commit/{oid}"
        return 200, {"commitUrl": address, "commitOid": oid}


def _mode(file: Mapping[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith((".parquet", ".png")) else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Serve a hub for as long as the ``with`` lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            hub.tokens.add(self.headers.get("authorization"))
            path = self.path.partition("?")[0]
            status, answer = hub.answer(self.command, path, self._content())
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _content(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        do_GET = do_POST = do_PUT = _reply

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(name="hub")
def served_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that huggingface_hub talks to, with a token, without xet."""
    with local_hub() as hub:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
